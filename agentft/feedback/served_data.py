"""The source ``served-feedback``: what people said about an agent in use, as data of its next training.

| as | a row | what is made of it |
|---|---|---|
| ``prompts`` | what was asked | practice of a round; edits, thumbs and words go with it and take part in the round |
| ``demonstrations`` | an edit, on request a thumb up | the conversation with the answer as it should have been |
| ``preferences`` | an edit over the answer, a liked answer over a disliked one | pairs; thumbs without a partner for ``kto`` |
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from agentft.contracts import DataContext
from agentft.data.files import FileOptions, paths
from agentft.data.jsonl import BadRows
from agentft.data.pii_patterns import TYPES
from agentft.data.split import prompt_key
from agentft.errors import DataError
from agentft.feedback.served import Served, ServedStore
from agentft.feedback.verdicts import Judgement
from agentft.records import Example, Feedback, Message, Preference, Response, Verdict
from agentft.validation import Listed

MARGIN = 1.0  # of a pair that a person made, in checklist items
_PLACEHOLDER = re.compile("|".join(re.escape(f"[{name.upper()}]") for name in TYPES))
_KINDS = {"prompts": "prompt", "demonstrations": "example", "preferences": "preference"}


class ServedConfig(FileOptions):
    """Options of the source ``served-feedback``."""

    path: str | Listed[str] = Field(description="store or stores that `agentft serve` wrote; relative to the recipe; wildcards allowed")
    as_: Literal["prompts", "demonstrations", "preferences"] = Field(
        "prompts",
        alias="as",
        description="`prompts`: what was asked, with what people said, to practise on; `demonstrations`: edits as examples; `preferences`: "
        "edit over answer, liked over disliked, and single thumbs for kto",
    )
    personas: Listed[str] = Field((), description="whose answers; default: the recipe's persona")
    models: Listed[str] = Field((), description="only answers of these deployments; default: of all")
    known: bool = Field(False, description="only answers that the server itself remembered, not those that a caller says it got")
    liked: bool = Field(False, description="demonstrations: also answers with a thumb up, as they are")

    @property
    def produces(self) -> str:
        """The kind of record, which follows from ``as``."""
        return _KINDS[self.as_]


@dataclass
class Asked:
    """One prompt, and everything that people said about answers to it."""

    prompt: Example
    said: list[Served] = field(default_factory=list)


def read_served(config: ServedConfig, ctx: DataContext) -> Iterator[Example | Preference]:
    """Served feedback as records; what has no use is dropped and counted with its reason.

    Raises:
        DataError: a line cannot be used (unless ``on_bad: skip``), or nothing in the store is about this persona.
    """
    asked = _asked(_rows(config, ctx), ctx)
    makers: dict[str, Callable[..., Iterator[Example | Preference]]] = {
        "prompts": _prompts,
        "demonstrations": _demonstrations,
        "preferences": _preferences,
    }
    for count, record in enumerate(makers[config.as_](asked, config, ctx), 1):
        yield record
        if count == config.limit:
            return


def _rows(config: ServedConfig, ctx: DataContext) -> list[Served]:
    wanted = set(config.personas) or ({ctx.persona.name} if ctx.persona is not None else set())
    skip: Callable[[str], None] | None = (lambda problem: ctx.drop("cannot be used", problem)) if config.on_bad == "skip" else None
    bad, found, others = BadRows(skip), [], Counter[str]()
    for path in paths(config.path, ctx):
        # What a stopped process left is no mistake of anybody's that could be put right.
        def problem(number: int, why: str, path: Path = path) -> None:
            if why.startswith("half a line"):
                ctx.drop("half a line of a stopped process", f"{path}:{number}")
            else:
                bad.add(path, number, why)

        for row in ServedStore(path).latest(problem):
            where = f"{path.name}: {row.completion or row.prompt.last_user[:40]}"
            if wanted and row.persona and row.persona not in wanted:
                others[row.persona] += 1
                ctx.drop("for another persona", where)
            elif config.models and row.model not in config.models:
                ctx.drop("of another deployment", where)
            elif config.known and not row.known:
                ctx.drop("answer is not known to the server", where)
            else:
                found.append(row)
    bad.raise_if_any("put them right, or set on_bad: skip")
    if not found and others:
        names = ", ".join(f"{name} ({count})" for name, count in others.most_common())
        raise DataError(f"served-feedback: nothing is about {' or '.join(sorted(wanted))}; the store has feedback on {names} (personas:)")
    return found


def _asked(rows: Iterable[Served], ctx: DataContext) -> list[Asked]:
    """The rows by prompt. The caller's own system messages do not take part: the persona is put in front of every prompt."""
    found: dict[str, Asked] = {}
    for row in rows:
        messages = tuple(replace(m, train=False) if m.role == "assistant" else m for m in row.prompt.messages if m.role != "system")
        if len(messages) < len(row.prompt.messages):
            ctx.change("system message of the caller left out")
        prompt = Example("", messages, row.prompt.tools)
        key = "\x1e".join(f"{m.role}:{_plain(m.content)}" for m in messages)
        if key not in found:
            # Turns of one conversation begin alike, and must not be divided by a split.
            group = f"served-{_mark(prompt_key(replace(prompt, messages=messages[:1])))}"
            meta: dict[str, Any] = {"source": "served-feedback"}
            found[key] = Asked(Example(f"served-{_mark(key)}", messages, row.prompt.tools, group, meta))
        found[key].said.append(row)
    return list(found.values())


def _prompts(asked: Sequence[Asked], config: ServedConfig, ctx: DataContext) -> Iterator[Example]:
    for one in asked:
        if len(one.said) > 1:
            ctx.change("judgements on the same prompt taken together", len(one.said) - 1)
        said = [
            {"answer": row.answer, "calls": [dict(call) for call in row.calls]}
            | {"thumb": row.thumb or "", "edit": row.edit or "", "words": row.words or "", "rater": row.rater}
            for row in one.said
        ]
        yield replace(one.prompt, meta={**one.prompt.meta, "feedback": said})


def _demonstrations(asked: Sequence[Asked], config: ServedConfig, ctx: DataContext) -> Iterator[Example]:
    for one in asked:
        texts: dict[str, None] = {}
        for row in one.said:
            text = usable_edit(row.answer, row.edit or "", one.prompt.id, ctx.drop)
            if text:
                texts[text] = None
            elif not row.edit and config.liked and row.thumb == "up" and row.answer.strip() and not row.calls:
                texts[row.answer.strip()] = None
            elif not row.edit:
                ctx.drop("no edit to learn from", one.prompt.id)
        for number, text in enumerate(texts):
            name = one.prompt.id + (f"-{number}" if number else "")
            yield replace(one.prompt, id=name, messages=(*one.prompt.messages, Message("assistant", text)))


def _preferences(asked: Sequence[Asked], config: ServedConfig, ctx: DataContext) -> Iterator[Preference]:
    for one in asked:
        said = [
            {"answer": row.answer, "calls": row.calls, "thumb": row.thumb, "edit": row.edit, "words": row.words, "rater": row.rater}
            for row in one.said
        ]
        for row in one.said:
            if row.thumb not in ("up", "down") and not row.edit:
                ctx.drop("words only", one.prompt.id)
        yield from preferences_of(one.prompt, said, ctx.drop)


def preferences_of(
    prompt: Example, said: Sequence[Mapping[str, Any]], drop: Callable[[str, str], None] = lambda reason, where: None
) -> list[Preference]:
    """What people preferred among answers to one prompt: each edit over what it edits, liked answers over disliked ones.

    A thumb that finds no partner, and whose answer was not edited, becomes a preference with one side. Where raters disagree about
    an answer the majority counts; without one, there is no thumb.

    Args:
        said: ``answer``, ``calls``, ``thumb``, ``edit``, ``words``, ``rater``, as in the meta data of a prompt.
        drop: told the reason and the prompt's id of what has no use.
    """
    found: list[Preference] = []
    edited: set[str] = set()
    votes: dict[str, Counter[str]] = {}
    messages: dict[str, Message] = {}
    for row in said:
        answer = message_of(row)
        key = _plain(answer.content) + "".join(str(call) for call in answer.tool_calls)
        messages.setdefault(key, answer)
        text = usable_edit(answer.content, row.get("edit") or "", prompt.id, drop)
        if text:
            edited.add(key)
            rater = str(row.get("rater") or "")
            name = f"{prompt.id}-edit-{_mark(key, text, rater)}"
            found.append(Preference(name, prompt, Message("assistant", text), answer, MARGIN, "human", (f"{name}@human:{rater}",)))
        if row.get("thumb") in ("up", "down"):
            votes.setdefault(key, Counter())[str(row["thumb"])] += 1
    sides: dict[str, list[str]] = {"up": [], "down": []}
    for key, count in votes.items():
        if count["up"] == count["down"]:
            drop("raters disagree", prompt.id)
        else:
            sides["up" if count["up"] > count["down"] else "down"].append(key)
    pairs = [(good, bad) for good in sides["up"] for bad in sides["down"]]
    for good, bad in pairs:
        found.append(Preference(f"{prompt.id}-thumbs-{_mark(good, bad)}", prompt, messages[good], messages[bad], MARGIN, "human"))
    for side in ("up", "down") if not pairs else ():
        for key in sides[side]:
            if key not in edited:
                chosen, rejected = (messages[key], None) if side == "up" else (None, messages[key])
                found.append(Preference(f"{prompt.id}-{side}-{_mark(key)}", prompt, chosen, rejected, MARGIN, "human"))
    return list({one.id: one for one in found}.values())


# Not an item of the persona: what a person thought of the answer as a whole.
PEOPLE = "people"
_NOT_CONTENT = {"en": "A person was not content with this answer.", "zh": "有人对这个回答不满意。"}


def taken(prompt: Example) -> tuple[Example, list[dict[str, Any]]]:
    """A prompt without what people said about answers to it, and that: ``meta.feedback``, see :func:`preferences_of`."""
    said = prompt.meta.get("feedback")
    if not isinstance(said, list | tuple):
        return prompt, []
    rest = {key: value for key, value in prompt.meta.items() if key != "feedback"}
    return replace(prompt, meta=rest), [dict(one) for one in said if isinstance(one, Mapping)]


def answers_of(prompt: str, said: Sequence[Mapping[str, Any]]) -> list[Response]:
    """The answers that were judged, each text once, as further answers to the prompt with this id."""
    texts = list(dict.fromkeys(text for row in said if (text := str(row.get("answer") or "").strip()) and not row.get("calls")))
    return [Response(f"{prompt}#said{number}", text) for number, text in enumerate(texts)]


def feedback_of(response: Response, said: Sequence[Mapping[str, Any]], language: str) -> list[Feedback]:
    """What people said about this very answer: their words as critique, and a verdict on the item ``people``.

    The item fails, hard, where an answer was edited or disliked: it may be rejected, never chosen. Otherwise it passes with a thumb up.
    """
    found = [row for row in said if _plain(str(row.get("answer") or "")) == _plain(response.text) and not row.get("calls")]
    if not found or not response.text.strip():
        return []
    words = list(dict.fromkeys(text for row in found if (text := str(row.get("words") or "").strip())))
    thumbs = Counter(str(row.get("thumb") or "") for row in found)
    edit = next((text for row in found if (text := usable_edit(response.text, str(row.get("edit") or ""), "", lambda *_: None))), "")
    changed = any(_plain(text) != _plain(response.text) for row in found if (text := str(row.get("edit") or "").strip()))
    bad = changed or thumbs["down"] > thumbs["up"]
    evidence = "; ".join(words)[:300]
    verdicts = [Verdict(PEOPLE, "fail" if bad else "pass", evidence, "hard")] if bad or thumbs["up"] > thumbs["down"] else []
    critique = "\n".join(f"- {text}" for text in (words or ([_NOT_CONTENT[language]] if bad else [])))
    raters = ", ".join(sorted({str(row["rater"]) for row in found if row.get("rater")}))
    return [Feedback(f"{response.id}@{PEOPLE}", response.id, PEOPLE, tuple(verdicts), critique, edit=edit, rater=raters)]


def by_people(judgement: Judgement) -> bool:
    """Whether people said something about this answer while the agent was in use."""
    return any(name.endswith(f"@{PEOPLE}") for name in judgement.feedback_ids)


def message_of(row: Mapping[str, Any]) -> Message:
    """The answer that a judgement is about."""
    return Message("assistant", str(row.get("answer") or "").strip(), tool_calls=tuple(row.get("calls") or ()))


def usable_edit(answer: str, edit: str, where: str, drop: Callable[[str, str], None]) -> str:
    """The edit, if something can be learned from it; else an empty text, and the reason to ``drop``."""
    text = edit.strip()
    if not text:
        return ""
    if _plain(text) == _plain(answer):
        drop("edit is the answer itself", where)
        return ""
    if _PLACEHOLDER.search(text):
        # Scrubbed personal data: an agent must not learn to write "[EMAIL]".
        drop("edit has a placeholder for personal data", where)
        return ""
    return text


def _plain(text: str) -> str:
    return " ".join(text.split())


def _mark(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]
