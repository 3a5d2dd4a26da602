"""The one renderer: a conversation becomes text, token ids, spans and labels.

Training, evaluation, chat and serving call the same object, so that a model is asked in exactly the way in which it was
taught. :meth:`Renderer.check` proves it for a model and says how its chat template is treated.
"""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain, islice
from typing import Any, Literal

from agentft.errors import DataError, RecipeError
from agentft.records import Example, Message
from agentft.render.messages import Chat, Disarm, check_kept, to_chat, to_tools, with_system
from agentft.render.template import QUESTION, ChatTemplate
from agentft.render.tokens import PieceTokenizer
from agentft.render.tool_calls import HERMES, Form, Reading, same_calls
from agentft.render.tool_fold import Calls, described, folded
from agentft.render.tool_probe import find_form, unthought

MASKED = -100
RENDER_VERSION = 1  # raise it when the same input gives another row: the digest, and with it every cached row, changes


@dataclass(frozen=True)
class Encoded:
    """One row, or one prompt.

    Attributes:
        id: the example's; ``id#n`` where the n-th of several rows came from one example.
        input_ids: token ids.
        labels: the same length; -100 where nothing is learned. A prompt's are all -100.
        text: what the ids say.
        spans: supervised ``(start, end)`` in characters of ``text``: what the model has to write, stop token included.
        disarmed: number of messages in which typed control tokens were made ordinary text.
        weights: what the loss of each token is multiplied by, 1 where nothing is learned; None: 1 everywhere.
    """

    id: str
    input_ids: list[int]
    labels: list[int]
    text: str
    spans: list[tuple[int, int]]
    disarmed: int = 0
    weights: list[float] | None = None

    @property
    def supervised(self) -> int:
        """Number of tokens that are learned."""
        return len(self.labels) - self.labels.count(MASKED)


@dataclass(frozen=True)
class _Layout:
    """A row before tokenisation: its text, where assistant turns start in it, which parts are supervised, and the weight of each part."""

    id: str
    text: str
    starts: list[int]
    spans: list[tuple[int, int]]
    disarmed: int
    weights: list[float]

    @property
    def cuts(self) -> list[int]:
        """Where the text is cut for tokenisation; each span is a piece of its own."""
        return sorted({*self.starts, *(end for _, end in self.spans if end < len(self.text))})

    def encode(self, pieces: list[list[int]]) -> Encoded:
        learned = {start: weight for (start, _), weight in zip(self.spans, self.weights, strict=True)}
        placed = list(zip([0, *self.cuts], pieces, strict=True))
        labels = list(chain.from_iterable(ids if place in learned else [MASKED] * len(ids) for place, ids in placed))
        weights = None
        if any(weight != 1 for weight in self.weights):
            weights = list(chain.from_iterable([learned.get(place, 1.0)] * len(ids) for place, ids in placed))
        return Encoded(self.id, list(chain.from_iterable(pieces)), labels, self.text, self.spans, self.disarmed, weights)


@dataclass(frozen=True)
class _Prepared:
    """The template's input: the messages with the persona in front, the same as dictionaries, and the tools that the template shows.

    ``calls``: per message, what it calls; ``schemas``: the tools, whoever shows them.
    """

    messages: tuple[Message, ...]
    chat: Chat
    tools: list[dict[str, Any]] | None
    disarmed: int
    calls: tuple[Calls, ...]
    schemas: tuple[Mapping[str, Any], ...]


class Renderer:
    """Renders conversations for one tokenizer, persona and chat template.

    Args:
        tokenizer: a fast tokenizer of transformers.
        system: the persona's system prompt, put in front of every conversation.
        chat_template: Jinja source to use in place of the tokenizer's own.
        template_kwargs: variables for the template, for example ``{"enable_thinking": False}``.
        tools: the persona's, ``{"name", "description", "parameters"}`` each; a conversation without tools of its own gets them.

    Attributes:
        mode: ``joint``: a conversation is one row. ``per-turn``: the template rewrites history (it drops thoughts, or ends
            earlier turns differently), so each supervised turn is a row of its own, with the history as the
            model will see it. Decided for each conversation by comparing texts; this is what a plain one of two turns gets.
        system_mode: ``system``, or ``folded-into-user`` where the template has no usable system role.
        tool_mode: ``template``: the chat template shows tools and writes calls. ``folded``: it does not, or not so that calls can be read
            back and a conversation goes on after them; tools are then described behind the system prompt, calls are written and
            learned in Hermes' form (``<tool_call>``), and tools answer in a message of the user (``<tool_response>``).
        form: how calls are written.
        stop_token_ids: tokens at which generation ends, the template's own first.

    Raises:
        RecipeError: tokenizer and template cannot be used.
    """

    def __init__(
        self,
        tokenizer: Any,
        system: str = "",
        chat_template: str | None = None,
        template_kwargs: Mapping[str, Any] | None = None,
        tools: Sequence[Mapping[str, Any]] = (),
    ):
        if not tokenizer.is_fast:
            raise RecipeError("the model needs a fast tokenizer (tokenizer.json)")
        self.tokenizer = tokenizer
        self.given_kwargs = dict(template_kwargs or {})
        self.template = ChatTemplate(tokenizer, chat_template, template_kwargs)
        self._disarm = Disarm(tokenizer, self.template.text)
        self.given_system, self.system = system, self._disarm.text(system)
        self.tools = tuple(tools)
        self.mode: Literal["joint", "per-turn"] = "joint" if self.template.keeps_history else "per-turn"
        self.system_mode: Literal["system", "folded-into-user"] = "system" if self.template.system_role else "folded-into-user"
        self.stop_token_ids = self._stop_token_ids()
        self._answers: dict[tuple[str, ...], list[list[int]]] = {}
        anchors = (self.template.header, *(self.template.added.get(index, "") for index in self.stop_token_ids))
        try:
            self._pieces = PieceTokenizer(tokenizer, anchors, self._shared_prefix())
        except DataError as error:
            raise RecipeError(f"the persona does not fit the model: {error}") from error

    def prompt(self, example: Example) -> Encoded:
        """What the model reads before it answers: persona, conversation, generation prompt; nothing is supervised.

        Raises:
            DataError: the conversation ends with the assistant, or the template refuses it.
        """
        conversation = self._prepare(example)
        if not example.messages or example.messages[-1].role == "assistant":
            raise DataError(f"{example.id}: a prompt has to end with a message to answer, not with the assistant's")
        text = self.template.render(conversation.chat, conversation.tools, generate=True)
        starts = _starts(list(self._prompts(conversation, len(conversation.messages)).values()), text)
        return self._encode([_Layout(example.id, text, starts, [], conversation.disarmed, [])])[0]

    def training(self, example: Example) -> list[Encoded]:
        """The rows of one conversation: usually one, see :attr:`mode`; none if no message is supervised.

        A row ends with the last supervised stop token. It starts with the very ids of :meth:`prompt` for each
        supervised turn.

        Raises:
            DataError: the template refuses the conversation or loses part of it.
        """
        return self._encode(self._layouts(example))

    def training_many(self, examples: Iterable[Example]) -> list[list[Encoded] | DataError]:
        """:meth:`training` of each example, tokenised in one go; the error in place of the rows of one that cannot be rendered."""
        return [rows for _, rows in self.training_stream(examples)]

    def training_stream(self, examples: Iterable[Example], batch: int = 256) -> Iterator[tuple[Example, list[Encoded] | DataError]]:
        """:meth:`training` of each example beside it, or the error in place of its rows.

        ``batch`` examples are tokenised in one call, in a thread of its own while the next ones are rendered; not more than two batches are
        held at a time.
        """
        waiting: deque[tuple[list[Example], list[list[_Layout] | DataError], Future[list[Encoded]]]] = deque()
        remaining = iter(examples)
        with ThreadPoolExecutor(1, "tokenise") as worker:
            some = list(islice(remaining, batch))
            while some or waiting:
                if some:
                    laid = [self._laid_out(example) for example in some]
                    layouts = [layout for result in laid if isinstance(result, list) for layout in result]
                    waiting.append((some, laid, worker.submit(self._encode, layouts)))
                if len(waiting) > 1 or not some:
                    done, laid, found = waiting.popleft()
                    rows = iter(found.result())
                    for example, result in zip(done, laid, strict=True):
                        yield example, [next(rows) for _ in result] if isinstance(result, list) else result
                some = some and list(islice(remaining, batch))

    def _laid_out(self, example: Example) -> list[_Layout] | DataError:
        try:
            return self._layouts(example)
        except DataError as error:
            return error

    @property
    def prefix_ids(self) -> list[int]:
        """Token ids that rows begin with: the persona, up to the last added token before the user's text; may be empty."""
        return self._pieces.prefix_ids

    def spoken(self, text: str) -> str:
        """``text`` of generated tokens without special tokens; for pieces of an answer that is not complete yet."""
        return self._disarm.special.sub("", text)

    def answers(self, example: Example, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each of ``texts`` as the answer to ``example``, stop token included: what training would supervise.

        What an answer's tokens are depends on the last characters of the prompt at most, so they are kept for the next prompt.
        The first text is rendered anew each time, and all are if it has other tokens.

        Raises:
            DataError: the template refuses the conversation or loses part of it.
        """
        history = tuple(replace(message, train=False) for message in example.messages)

        def rendered(some: Sequence[str]) -> list[list[int]]:
            layouts = [
                layout for text in some for layout in self._layouts(replace(example, messages=(*history, Message("assistant", text))))
            ]
            return [[label for label in row.labels if label != MASKED] for row in self._encode(layouts)]

        first = rendered(texts[:1])
        known = self._answers.get(tuple(texts))
        if known is None or known[:1] != first:
            known = self._answers[tuple(texts)] = first + rendered(texts[1:])
        return known

    def answer(self, ids: Sequence[int]) -> str:
        """The message in generated ids: up to the first stop token, without scaffold, thoughts and special tokens."""
        end = next((place for place, token in enumerate(ids) if token in self.stop_token_ids), len(ids))
        text = self.tokenizer.decode(list(ids[:end]), skip_special_tokens=False, clean_up_tokenization_spaces=False)
        # What comes right before the answer: "</think>" of a thought, or all of "<|channel|>final<|message|>".
        mark = "</think>" if "</think>" in self.template.scaffold else self.template.scaffold.strip()
        text = text.rpartition(mark)[2] if mark else text
        return self._disarm.special.sub("", text).strip()

    def reading(self, ids: Sequence[int], prompt: Example) -> Reading:
        """What generated ids say and call in answer to ``prompt``; only a prompt with tools can be answered with calls."""
        tools = prompt.tools or self.tools
        if not tools:
            return Reading(self.answer(ids))
        end = next((place for place, token in enumerate(ids) if token in self.stop_token_ids), len(ids))
        text = self.tokenizer.decode(list(ids[:end]), skip_special_tokens=False, clean_up_tokenization_spaces=False)
        found = self.form.read(unthought(text, self.template.scaffold), tools)
        if not found.calls and not found.malformed:
            return Reading(self.answer(ids))
        return replace(found, text=self._disarm.special.sub("", found.text).strip())

    @cached_property
    def form(self) -> Form:
        """How calls of tools are written."""
        return self._template_form or HERMES

    @cached_property
    def _template_form(self) -> Form | None:
        return find_form(self.template)

    @property
    def tool_mode(self) -> Literal["template", "folded"]:
        """Who shows the tools and writes the calls, see the class."""
        return "folded" if self._template_form is None else "template"

    @property
    def shown_system(self) -> str:
        """The system prompt with what is said about the persona's tools behind it, where the chat template does not show them."""
        return self._system_with(tuple(self._disarm.tools(self.tools)))

    def _system_with(self, tools: Sequence[Mapping[str, Any]]) -> str:
        if not tools or self.tool_mode == "template":
            return self.system
        return "\n\n".join(part for part in (self.system, described(tools)) if part)

    @cached_property
    def _guard(self) -> Disarm:
        """For conversations with tools: what users and tools say may not look like a call or like a tool's answer either."""
        return Disarm(self.tokenizer, self.template.text, self.form.marks)

    def check(self) -> list[str]:
        """Prove on probe conversations that this template trains what it serves; the facts, one sentence each.

        Raises:
            DataError: a check failed.
        """
        from agentft.render.checks import check

        return check(self)

    @cached_property
    def digest(self) -> str:
        """sha256 of everything that decides how a conversation is rendered; travels with the model."""
        parts = {
            "version": RENDER_VERSION,
            "template": self.template.text,
            "kwargs": self.template.kwargs,
            "system": self.system,
            "added": {str(index): text for index, text in sorted(self.template.added.items())},
            "bos and eos": [self.tokenizer.bos_token, self.tokenizer.eos_token],
        } | ({"tools": [self.tool_mode, *map(dict, self.tools)]} if self.tools else {})
        return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()

    def _prepare(self, example: Example) -> _Prepared:
        tools = example.tools or self.tools
        uses_tools = bool(tools) or any(message.tool_calls or message.role == "tool" for message in example.messages)
        disarm = self._guard if uses_tools else self._disarm
        messages = [disarm.message(message) for message in example.messages]
        disarmed = sum(new.content != old.content for new, old in zip(messages, example.messages, strict=True))
        schemas = tuple(disarm.tools(tools))
        written: list[tuple[Message, Calls]] = [(message, message.tool_calls) for message in messages]
        if uses_tools and self.tool_mode == "folded":
            written = folded(messages)
        complete = with_system([message for message, _ in written], self._system_with(schemas), fold=not self.template.system_role)
        # A system message may have been put in front, or taken into the one behind it.
        calls = ([(), *(calls for _, calls in written)])[-len(complete) :]
        as_text = any(message.tool_calls for message in complete) and self.template.tool_form[0]
        shown = to_tools(schemas) if self.tool_mode == "template" and schemas else None
        return _Prepared(complete, to_chat(complete, as_text), shown, disarmed, tuple(calls), schemas)

    def _prompts(self, conversation: _Prepared, end: int) -> dict[int, str]:
        """For each assistant message before ``end``, by index: what the model read before it wrote it."""
        places = [index for index in range(1, end) if conversation.messages[index].role == "assistant"]
        return {index: self.template.render(conversation.chat[:index], conversation.tools, generate=True) for index in places}

    def _layouts(self, example: Example) -> list[_Layout]:
        conversation = self._prepare(example)
        messages, chat, tools = conversation.messages, conversation.chat, conversation.tools
        supervised = [index for index, message in enumerate(messages) if message.supervised]
        if not supervised:
            return []
        if supervised[0] == 0:
            raise DataError("the conversation begins with the assistant and there is no system prompt: nothing to answer")
        prompts = self._prompts(conversation, supervised[-1] + 1)
        ends = {index: prompts[index] + self.template.completion(prompts[index], chat[: index + 1], tools) for index in supervised}
        whole = ends[supervised[-1]]
        check_kept((message for message in messages[: supervised[-1]] if message.role != "assistant"), whole)
        for index in supervised:
            check_kept([messages[index]], ends[index][len(prompts[index]) :])
            if conversation.calls[index]:
                self._check_calls(ends[index][len(prompts[index]) :], conversation.calls[index], conversation.schemas)
        if all(whole.startswith(text) for text in (*prompts.values(), *ends.values())):
            spans = [(len(prompts[index]), len(ends[index])) for index in supervised]
            weights = [messages[index].weight for index in supervised]
            return [_Layout(example.id, whole, [len(prompt) for prompt in prompts.values()], spans, conversation.disarmed, weights)]
        rows = []
        for number, index in enumerate(supervised, 1):
            earlier = [prompt for place, prompt in prompts.items() if place < index]
            start, end = len(prompts[index]), len(ends[index])
            name = f"{example.id}#{number}" if len(supervised) > 1 else example.id
            starts, weights = [*_starts(earlier, prompts[index]), start], [messages[index].weight]
            rows.append(_Layout(name, ends[index], starts, [(start, end)], conversation.disarmed, weights))
        return rows

    def _check_calls(self, text: str, calls: Calls, tools: Sequence[Mapping[str, Any]]) -> None:
        """Raise DataError where the template has lost a call or written it so that it says something else."""
        for index in self.stop_token_ids:
            text = text.removesuffix(self.template.added.get(index, ""))
        found = self.form.read(unthought(text, self.template.scaffold), tools)
        if not same_calls(found.calls, calls):
            raise DataError(
                f"the chat template writes calls of tools that cannot be read back: {found.malformed or 'a call is lost or changed'}"
            )

    def _encode(self, layouts: Sequence[_Layout]) -> list[Encoded]:
        pieces = self._pieces.encode([(layout.text, layout.cuts) for layout in layouts])
        return [layout.encode(found) for layout, found in zip(layouts, pieces, strict=True)]

    def _stop_token_ids(self) -> tuple[int, ...]:
        texts = [self.template.stop.text]
        with suppress(DataError):  # a template without tool calls
            texts.append(self.template.tool_form[1].text)
        if self.tokenizer.eos_token:
            texts.append(self.tokenizer.eos_token)
        return tuple(self.tokenizer.convert_tokens_to_ids(list(dict.fromkeys(texts))))

    def _shared_prefix(self) -> str:
        """What every row begins with, up to the last added token before the user's text; proved to be separable."""
        conversation = self._prepare(Example("probe", (Message("user", QUESTION),)))
        text = self.template.render(conversation.chat, conversation.tools, generate=True)
        before = text.partition(QUESTION)[0]
        added = self.template.added_in(before)
        prefix = before[: before.rfind(added[-1])] if added else ""
        whole, parts = (PieceTokenizer(self.tokenizer, (), start).encode([(text, [])]) for start in ("", prefix))
        return prefix if whole == parts else ""


def _starts(prompts: Sequence[str], text: str) -> list[int]:
    """Where in ``text`` earlier assistant turns start; none where the template has rewritten the history."""
    return [len(prompt) for prompt in prompts] if all(text.startswith(prompt) for prompt in prompts) else []
