"""``synthesise``: a model writes further conversations from a few (Self-Instruct, Wang et al. 2023), held to the persona's rules."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from random import Random

from pydantic import Field

from agentft.contracts import Backend, DataContext, GenerationSettings
from agentft.data.novelty import Known
from agentft.errors import DataError
from agentft.jinja import render_text
from agentft.persona import Persona
from agentft.recipe_parts import ModelUse
from agentft.records import Example, Message, Response
from agentft.text import is_chinese, words
from agentft.validation import Model

BATCH = 16  # messages that are asked for at once
_LEAD = re.compile(r"^\s*(?:[-*•]\s+|\(?\d{1,3}[.):、]\s*|(?:message|user|customer|消息|用户|顾客)\s*\d*\s*[:：]\s*)+", re.IGNORECASE)
_QUOTES = (('"', '"'), ("“", "”"), ("'", "'"), ("「", "」"))


class SynthesiseConfig(Model):
    """Options of the transform ``synthesise``."""

    count: int = Field(100, ge=1, description="new rows that are wanted")
    model: ModelUse | None = Field(None, description="who writes: a model, or `{url: ..., model: NAME}`; left out: the recipe's own model")
    seeds: int = Field(3, ge=1, description="conversations that are shown for each new one")
    temperature: float = Field(0.7, gt=0, description="of messages and answers; higher is more varied")
    top_p: float = Field(0.9, gt=0, le=1, description="sample from the most probable tokens that together have this probability")
    max_new_tokens: int = Field(160, ge=1, description="longest message or answer in tokens; one that is cut is not kept")
    max_attempts: int | None = Field(None, ge=1, description="messages that are asked for at most; left out: five times `count`")
    novelty: float = Field(0.7, gt=0, le=1, description="a message is not kept if its ROUGE-L with any other one is that or more")
    min_words: int = Field(3, ge=1, description="least words of a message (a Chinese character is a word)")
    min_adherence: float = Field(0.8, ge=0, le=1, description="least share of the persona's items that apply and that an answer passes")


def synthesise(records: Iterable[Example], config: SynthesiseConfig, ctx: DataContext) -> Iterator[Example]:
    """The rows that come in, and after them up to ``count`` new ones (``synth-1`` ..., ``meta.synthetic``, each a group of its own).

    For each, ``seeds`` conversations are drawn. A model without persona sees their messages as its own answers and writes another
    one; the model that plays the persona, with the same conversations in front, answers it. What is not kept is counted with its
    reason: cut or empty, in another language than the persona's, too much like a message that is there (rows that are evaluated
    on included), or an answer that fails a hard item of the checklist or too many of all. ``meta.seeds`` names the conversations.

    Where the data are only looked at, nothing is written.

    Raises:
        DataError: no row with an answer came in, there is no persona, or the model answers nothing at all.
    """
    seeds: list[Example] = []
    known = Known()
    for example in records:
        prompt, answer = example.as_prompt()
        if answer and prompt.last_user.strip():
            seeds.append(Example(example.id, (Message("user", prompt.last_user), Message("assistant", answer))))
        known.add(prompt.last_user)
        yield example
    if ctx.open_model is None:
        ctx.notes["synthesise"] = {"wanted": config.count, "attempts": 0, "made": 0}
        return
    if ctx.persona is None or ctx.template is None:
        raise DataError("synthesise: a persona is needed, whose rules the new answers are held against")
    if not seeds:
        raise DataError("synthesise: no row with an answer came in to start from")
    for row in ctx.held_out():
        known.add(row.as_prompt()[0].last_user if isinstance(row, Example) else row.text)
    writer = _Writer(seeds, config, ctx, ctx.persona, known)
    yield from writer.rows(ctx.open_model(config.model, persona=False), ctx.open_model(config.model))


class _Writer:
    def __init__(self, seeds: Sequence[Example], config: SynthesiseConfig, ctx: DataContext, persona: Persona, known: Known):
        self.seeds, self.config, self.ctx, self.persona, self.known = seeds, config, ctx, persona, known
        self.random = Random(f"{ctx.seed}:synthesise")
        assert ctx.template is not None
        self.template = ctx.template("synthesise")
        self.settings = GenerationSettings(config.max_new_tokens, config.temperature, config.top_p, BATCH, ctx.seed)

    def rows(self, asker: Backend, actor: Backend) -> Iterator[Example]:
        wanted, most = self.config.count, self.config.max_attempts or 5 * self.config.count
        made, attempts = 0, 0
        while made < wanted and attempts < most:
            # More than are wanted, because some are not kept; what is drawn for an attempt does not depend on the batch.
            size = min(BATCH, most - attempts, 2 * (wanted - made))
            numbers = range(attempts + 1, attempts + size + 1)
            attempts += size
            for row in self._round(numbers, asker, actor):
                if made < wanted:
                    made += 1
                    self.ctx.change("synthesised")
                    yield replace(row, id=f"synth-{made}")
                else:
                    self.ctx.drop("more than count", row.id)
            if self.ctx.progress:
                self.ctx.progress(made, wanted)
        self.ctx.notes["synthesise"] = {"wanted": wanted, "attempts": attempts, "made": made}

    def _round(self, numbers: Iterable[int], asker: Backend, actor: Backend) -> list[Example]:
        drawn = {f"attempt-{number}": self.random.sample(self.seeds, min(self.config.seeds, len(self.seeds))) for number in numbers}
        written = asker.generate([self._request(name, shown) for name, shown in drawn.items()], self.settings)
        self._answers_at_all(written)
        asked: list[Example] = []
        for response in written:
            message = message_in(response.text)
            reason = self._refused(response, message)
            if reason:
                self.ctx.drop(reason, f"{response.id}: {message[:80]}")
                continue
            self.known.add(message)
            turns = tuple(turn for seed in drawn[response.id] for turn in seed.messages)
            asked.append(Example(response.id, (*turns, Message("user", message))))
        rows = []
        answers = actor.generate(asked, self.settings) if asked else []
        for prompt, response in zip(asked, answers, strict=True):
            bare = Example(prompt.id, prompt.messages[-1:])
            reason = self._fails(response, bare)
            if reason:
                self.ctx.drop(reason, f"{prompt.id}: {response.text[:80]}")
                continue
            meta = {"synthetic": True, "language": self.persona.language, "seeds": [seed.id for seed in drawn[prompt.id]]}
            rows.append(replace(bare, messages=(*bare.messages, Message("assistant", response.text.strip())), meta=meta))
        return rows

    def _request(self, name: str, shown: Sequence[Example]) -> Example:
        seeds = [{"user": " ".join(one.messages[0].content.split()), "assistant": one.messages[1].content} for one in shown]
        text = render_text(self.template, {**self.persona.context(), "seeds": seeds}, "template 'synthesise'").strip()
        # As turns of a conversation, not as a list in one message: a small model goes on with what it seems to have said before.
        turns = [turn for seed in seeds for turn in (Message("user", text), Message("assistant", seed["user"]))]
        return Example(name, (*turns, Message("user", text)))

    def _answers_at_all(self, responses: Sequence[Response]) -> None:
        if all(response.finish == "error" for response in responses):
            raise DataError(f"synthesise: the model answers nothing: {responses[0].error}")

    def _refused(self, response: Response, message: str) -> str:
        """Why a message is not kept, empty if it is."""
        if response.finish == "error":
            return "no message: the model failed"
        if response.finish == "length":
            return "message cut at the length limit"
        if len(words(message)) < self.config.min_words:
            return "message shorter than min_words"
        if self._foreign(message):
            return "message in another language"
        return "message like one that is there" if self.known.like(message, self.config.novelty) else ""

    def _fails(self, response: Response, prompt: Example) -> str:
        """Why an answer is not kept, empty if it is."""
        if response.finish == "error":
            return "no answer: the model failed"
        if response.finish == "length":
            return "answer cut at the length limit"
        if not response.text.strip():
            return "empty answer"
        if self._foreign(response.text):
            return "answer in another language"
        verdicts = [one for one in self.persona.check(response.text, prompt) if one.verdict in ("pass", "fail")]
        failed = [one for one in verdicts if one.verdict == "fail"]
        if hard := [one.item for one in failed if one.severity == "hard"]:
            return f"answer fails '{hard[0]}'"
        if verdicts and 1 - len(failed) / len(verdicts) < self.config.min_adherence:
            return "answer below min_adherence"
        return ""

    def _foreign(self, text: str) -> bool:
        return is_chinese(text) != (self.persona.language == "zh")


def message_in(text: str) -> str:
    """The message that a model was asked for: the first paragraph, without a number, a label or quotes around it."""
    first = next((part for part in re.split(r"\n\s*\n|\n(?=\s*[#(]?\d{1,3}[.)])", text.strip()) if part.strip()), "")
    message = _LEAD.sub("", first).strip()
    for left, right in _QUOTES:
        if len(message) > 1 and message.startswith(left) and message.endswith(right) and left not in message[1:-1]:
            message = message[1:-1].strip()
    return message
