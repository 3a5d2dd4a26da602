"""The records that flow between stages. Frozen dataclasses, standard library only.

Every record has ``to_dict`` and ``from_dict``; stages hand them over as JSON lines. ``from_dict`` raises
:class:`~agentft.errors.DataError` with the reason, and the reader adds file and line.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from agentft.errors import DataError

ROLES = ("system", "user", "assistant", "tool")
MAX_WEIGHT = 10.0
Direction = Literal["higher", "lower", "none"]


@dataclass(frozen=True)
class Message:
    """One message of a conversation.

    Attributes:
        role: ``system``, ``user``, ``assistant`` or ``tool``.
        content: text; may be empty for an assistant message that only calls tools.
        name: name of the speaker or of the tool that answered.
        tool_calls: ``{"name": str, "arguments": dict}`` each.
        train: None = the default (assistant messages are learned), False = never supervised, a number above 0 and up to 10 = the
            loss of this message's tokens is multiplied by it. 0 becomes False, 1 True.

    Raises:
        DataError: ``train`` is something else, or a weight on a message that is not the assistant's.
    """

    role: str
    content: str
    name: str | None = None
    tool_calls: tuple[Mapping[str, Any], ...] = ()
    train: bool | float | None = None

    def __post_init__(self) -> None:
        if self.train is not None and not isinstance(self.train, bool):
            object.__setattr__(self, "train", train_from(self.train))
            if self.weighted and self.role != "assistant":
                raise DataError(f"message key 'train' is the weight {self.train:g}, but only messages of the assistant are learned")

    @property
    def supervised(self) -> bool:
        """True when the loss and the metrics look at this message."""
        return self.role == "assistant" and self.train is not False

    @property
    def empty(self) -> bool:
        """True when it neither says anything nor calls a tool."""
        return not self.content.strip() and not self.tool_calls

    @property
    def stripped(self) -> Message:
        """The same without white space around the text, as answers are learned and scored."""
        return replace(self, content=self.content.strip())

    @property
    def weighted(self) -> bool:
        """True for a weight that is neither 0 nor 1."""
        return self.train is not None and not isinstance(self.train, bool)

    @property
    def weight(self) -> float:
        """What the loss of each supervised token is multiplied by; 0 where nothing is learned."""
        if not self.supervised:
            return 0.0
        return 1.0 if self.train is None else float(self.train)

    def to_dict(self) -> dict[str, Any]:
        data: dict[str, Any] = {"role": self.role, "content": self.content}
        if self.name is not None:
            data["name"] = self.name
        if self.tool_calls:
            data["tool_calls"] = [dict(call) for call in self.tool_calls]
        if self.train is not None:
            data["train"] = self.train
        return data

    @classmethod
    def from_dict(cls, data: Any) -> Message:
        if not isinstance(data, Mapping):
            raise DataError(f"a message must be an object with role and content, not {type(data).__name__}")
        role, content = data.get("role"), data.get("content")
        if role not in ROLES:
            raise DataError(f"message role must be one of {', '.join(ROLES)}, not {role!r}")
        calls = tuple(_tool_call(call) for call in data.get("tool_calls") or ())
        if content is None and calls:
            content = ""
        if not isinstance(content, str):
            raise DataError(f"message content must be text, not {type(content).__name__}")
        unknown = set(data) - {"role", "content", "name", "tool_calls", "train"}
        if unknown:
            hint = " (here it is called 'train'; the source chats knows both)" if unknown == {"weight"} else ""
            raise DataError(f"unknown message key '{sorted(unknown)[0]}'{hint}")
        return cls(role, content, data.get("name"), calls, data.get("train"))


def train_from(value: Any, key: str = "train") -> bool | float | None:
    """What the key ``train`` of a message, or ``key`` in its place, may be: None, true, false, or a weight that is neither 0 nor 1.

    Raises:
        DataError: anything else, NaN and infinity too.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int | float) and 0 <= value <= MAX_WEIGHT:
        return bool(value) if value in (0, 1) else float(value)
    raise DataError(f"message key '{key}' must be true, false or a weight from 0 to {MAX_WEIGHT:g}, not {value!r}")


def _tool_call(call: Any) -> dict[str, Any]:
    import json

    function = call.get("function", call) if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise DataError("a tool call needs a name")
    arguments = function.get("arguments", {})
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except ValueError:
            raise DataError(f"arguments of tool call '{function['name']}' are not JSON") from None
    return {"name": function["name"], "arguments": arguments}


@dataclass(frozen=True)
class Example:
    """A conversation: a demonstration if it ends with the assistant, a prompt if it ends with the user.

    Attributes:
        id: unique within its source.
        group: what must not be separated by a split (one customer, text or problem); None = the id.
        tools: JSON schemas of the tools that may be called.
        meta: free JSON data. Known keys: ``intent``, ``language``, ``persona``, ``facts`` (groups of alternatives,
            of which a good answer contains one each), ``answer``, ``source``, ``escalate``.
    """

    id: str
    messages: tuple[Message, ...]
    tools: tuple[Mapping[str, Any], ...] = ()
    group: str | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)

    @property
    def group_key(self) -> str:
        return self.group if self.group is not None else self.id

    @property
    def last_user(self) -> str:
        """Content of the last user message, empty if there is none."""
        return next((m.content for m in reversed(self.messages) if m.role == "user"), "")

    def as_prompt(self) -> tuple[Example, str | None]:
        """This conversation up to the last user turn, and the assistant's answer to it (None for a prompt)."""
        if self.messages and self.messages[-1].role == "assistant":
            return Example(self.id, self.messages[:-1], self.tools, self.group, self.meta), self.messages[-1].content
        return self, None

    @property
    def text(self) -> str:
        """Everything that is said, one line a message."""
        return "\n".join(message.content for message in self.messages)

    def mapped(self, change: Callable[[str], str]) -> Example:
        """The same conversation with ``change`` applied to every message."""
        return replace(self, messages=tuple(replace(message, content=change(message.content)) for message in self.messages))

    def to_dict(self) -> dict[str, Any]:
        data: dict[str, Any] = {"id": self.id, "messages": [m.to_dict() for m in self.messages]}
        if self.tools:
            data["tools"] = [dict(tool) for tool in self.tools]
        if self.group is not None:
            data["group"] = self.group
        if self.meta:
            data["meta"] = dict(self.meta)
        return data

    @classmethod
    def from_dict(cls, data: Any, default_id: str = "") -> Example:
        """Build from a JSON object; a missing id becomes ``default_id``."""
        if not isinstance(data, Mapping):
            raise DataError(f"a row must be an object, not {type(data).__name__}")
        messages = data.get("messages")
        if not isinstance(messages, Sequence) or isinstance(messages, str) or not messages:
            raise DataError("'messages' must be a list that is not empty")
        meta = data.get("meta") or {}
        if not isinstance(meta, Mapping):
            raise DataError("'meta' must be an object")
        group = data.get("group")
        return cls(
            id=str(data.get("id") or default_id),
            messages=tuple(Message.from_dict(message) for message in messages),
            tools=tuple(data.get("tools") or ()),
            group=None if group is None else str(group),
            meta=meta,
        )


@dataclass(frozen=True)
class Response:
    """What a backend answered to one prompt.

    Attributes:
        finish: ``stop`` (a stop token was reached), ``length`` (cut at the limit) or ``error``.
        tokens: number of generated tokens, the stop token included.
        error: why there is no text, when ``finish`` is ``error``.
        calls: tools that the agent calls, ``{"name": str, "arguments": dict}`` each; ``text`` is what it says besides.
        malformed: why a text that meant to call a tool is no call; ``text`` then holds all of it, and ``calls`` nothing.
        prompt_tokens: tokens of the prompt as the model read it; 0 where the backend does not tell.
    """

    id: str
    text: str
    finish: str = "stop"
    tokens: int = 0
    error: str = ""
    calls: tuple[Mapping[str, Any], ...] = ()
    malformed: str = ""
    prompt_tokens: int = field(default=0, compare=False)

    @property
    def message(self) -> Message:
        """The answer as the assistant's message."""
        return Message("assistant", self.text, tool_calls=self.calls)

    def to_dict(self) -> dict[str, Any]:
        data: dict[str, Any] = {"id": self.id, "text": self.text, "finish": self.finish, "tokens": self.tokens, "error": self.error}
        if self.calls:
            data["calls"] = [dict(call) for call in self.calls]
        if self.malformed:
            data["malformed"] = self.malformed
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Response:
        return cls(**{**data, "calls": tuple(data.get("calls") or ())})


@dataclass(frozen=True)
class Sample:
    """One held-out prompt with the agent's answer to it; what evaluators look at.

    Attributes:
        reference: the demonstrated answer where the prompt came from a held-out demonstration, else None.
        choices: choice -> the agent's probability of it among ``meta.choices`` of the prompt; empty where there are none, or where the
            evaluator did not ask (``EvaluatorSpec.probabilities``).
    """

    prompt: Example
    response: Response
    reference: str | None = None
    choices: Mapping[str, float] = field(default_factory=dict)

    @property
    def id(self) -> str:
        return self.prompt.id

    @property
    def text(self) -> str:
        return self.response.text


@dataclass(frozen=True)
class Verdict:
    """Outcome of one checklist item for one response: ``pass``, ``fail``, ``n.a.`` or ``unscored`` (no rule decides it)."""

    item: str
    verdict: str
    evidence: str = ""
    severity: str = "soft"
    kind: str = "form"

    def to_dict(self) -> dict[str, Any]:
        return {"item": self.item, "verdict": self.verdict, "evidence": self.evidence, "severity": self.severity, "kind": self.kind}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Verdict:
        return cls(**data)


@dataclass(frozen=True)
class Feedback:
    """What one critic says about one response.

    Attributes:
        id: ``RESPONSE@CRITIC``, with the rater for a person; unique within a round.
        response: id of the response.
        critic: name of the part that judged, as in the recipe.
        verdicts: one per checklist item that this critic decides; ``unscored`` where it could not (an unparsable judgement, say).
        critique: language feedback: what is wrong and how to mend it, in words; empty where nothing is.
        score: a scalar where the critic has one (a reward model), NaN otherwise. Higher is better.
        edit: the answer as it should have been, written by a person; empty otherwise.
        rater: who judged, for people.
        created: ISO time, for people.
        error: why there is no judgement; it then counts as none and is tried again.
    """

    id: str
    response: str
    critic: str
    verdicts: tuple[Verdict, ...] = ()
    critique: str = ""
    score: float = math.nan
    edit: str = ""
    rater: str = ""
    created: str = ""
    error: str = ""

    def to_dict(self) -> dict[str, Any]:
        data = {key: getattr(self, key) for key in ("id", "response", "critic", "critique", "edit", "rater", "created", "error")}
        return data | {"verdicts": [v.to_dict() for v in self.verdicts], "score": None if math.isnan(self.score) else self.score}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Feedback:
        verdicts = tuple(Verdict.from_dict(one) for one in data.get("verdicts") or ())
        score = data.get("score")
        return cls(**{**data, "verdicts": verdicts, "score": math.nan if score is None else float(score)})


ORIGINS = ("revision", "sample", "anchor", "human", "imported")


@dataclass(frozen=True)
class Preference:
    """Two answers to one prompt, of which one is better; or one answer with a thumb (the other one is None).

    Attributes:
        prompt: the conversation up to the message that is answered.
        chosen, rejected: one assistant message each. Exactly one may be None: a thumbs-up or thumbs-down without a partner.
        margin: by how much ``chosen`` is better, in the units of whoever judged (checklist items, score points); NaN if unknown.
        origin: ``revision`` (chosen is a refinement of rejected), ``sample`` (two samples), ``anchor`` (a demonstration over
            a sample), ``human`` or ``imported``.
        feedback_ids: the :class:`Feedback` that it was made from.
    """

    id: str
    prompt: Example
    chosen: Message | None
    rejected: Message | None
    margin: float = math.nan
    origin: str = "imported"
    feedback_ids: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.chosen is None and self.rejected is None:
            raise DataError("a preference needs a chosen or a rejected answer")
        if self.origin not in ORIGINS:
            raise DataError(f"origin must be one of {', '.join(ORIGINS)}, not {self.origin!r}")

    @property
    def paired(self) -> bool:
        return self.chosen is not None and self.rejected is not None

    @property
    def group_key(self) -> str:
        return self.prompt.group_key

    def completed(self, message: Message) -> Example:
        """The prompt with ``message`` as its answer."""
        return Example(self.id, (*self.prompt.messages, message), self.prompt.tools, self.prompt.group, self.prompt.meta)

    def to_dict(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "prompt": self.prompt.to_dict(),
            "chosen": self.chosen.to_dict() if self.chosen else None,
            "rejected": self.rejected.to_dict() if self.rejected else None,
            "margin": None if math.isnan(self.margin) else self.margin,
            "origin": self.origin,
            "feedback_ids": list(self.feedback_ids),
        }

    @classmethod
    def from_dict(cls, data: Any) -> Preference:
        if not isinstance(data, Mapping):
            raise DataError(f"a row must be an object, not {type(data).__name__}")
        sides = {key: Message.from_dict(data[key]) if data.get(key) is not None else None for key in ("chosen", "rejected")}
        margin = data.get("margin")
        return cls(
            id=str(data["id"]),
            prompt=Example.from_dict(data["prompt"], default_id=str(data["id"])),
            margin=math.nan if margin is None else float(margin),
            origin=str(data.get("origin", "imported")),
            feedback_ids=tuple(data.get("feedback_ids") or ()),
            **sides,
        )


@dataclass(frozen=True)
class Score:
    """One number of an evaluation, with what it was computed from.

    Attributes:
        name: for example ``rouge-l`` or ``persona-adherence/close`` (a part of a metric after the slash).
        value: the aggregate; NaN when nothing could be scored.
        n: number of samples that were scored.
        direction: whether ``higher`` or ``lower`` is better, or ``none`` (only to be looked at).
        per_sample: sample id -> value. NaN = ought to be scored and could not; absent = does not apply.
        ci: 95 % confidence interval of ``value``.
        unit: ``share`` (0..1, shown as percent), ``points`` (0..100), or a word such as ``words``.
        summary: what it measures, one short line for the reader of the report.
        details: sample id -> JSON data for the report, for example the verdicts.
    """

    name: str
    value: float
    n: int
    direction: Direction = "higher"
    per_sample: Mapping[str, float] = field(default_factory=dict)
    ci: tuple[float, float] | None = None
    unit: str = "share"
    summary: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def unscored(self) -> int:
        return sum(math.isnan(value) for value in self.per_sample.values())

    def to_dict(self) -> dict[str, Any]:
        def number(value: float) -> float | None:
            return None if math.isnan(value) else value

        return {
            "name": self.name,
            "value": number(self.value),
            "n": self.n,
            "direction": self.direction,
            "per_sample": {key: number(value) for key, value in self.per_sample.items()},
            "ci": list(self.ci) if self.ci else None,
            "unit": self.unit,
            "summary": self.summary,
            "details": dict(self.details),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Score:
        def number(value: float | None) -> float:
            return math.nan if value is None else value

        return cls(
            **{
                **data,
                "value": number(data["value"]),
                "per_sample": {key: number(value) for key, value in data["per_sample"].items()},
                "ci": tuple(data["ci"]) if data["ci"] else None,
            }
        )
