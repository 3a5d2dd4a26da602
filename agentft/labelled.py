"""Records of tasks with heads: a text with what is to be recognised in it, and what a model recognised. Standard library only."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

from agentft.errors import DataError
from agentft.records import Example

INPUTS = (("text",), ("text", "pair"), ("tokens",), ("question", "context"))


@dataclass(frozen=True)
class Labelled:
    """A text with what is to be recognised in it: a class, a number, tags, spans; or a text alone.

    Attributes:
        id: unique within its source.
        inputs: ``text``, with ``pair`` for a second text, for classes, numbers and text alone; ``tokens`` (a list of words) for
            tags; ``question`` and ``context`` for spans.
        label: a class (text), several classes (list of texts), a number, one tag per token (list of texts), or spans of the
            context (list of ``{"text", "start"}``, start in characters; an empty list: there is no answer). None: no label.
        group: what must not be separated by a split; None = the id.
        meta: free JSON data.
    """

    id: str
    inputs: Mapping[str, Any]
    label: Any = None
    group: str | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)

    @property
    def group_key(self) -> str:
        return self.group if self.group is not None else self.id

    @property
    def text(self) -> str:
        """All inputs, one line each; tokens with blanks between them."""
        return "\n".join(value if isinstance(value, str) else " ".join(value) for value in self.inputs.values())

    def mapped(self, change: Callable[[str], str]) -> Labelled:
        """The same with ``change`` applied to every input. Tags keep their tokens and spans their places.

        A token that would become empty stays as it is. A context is changed piece by piece, between the spans and inside of
        them, and the spans' text and start follow.
        """
        inputs = dict(self.inputs)
        label = self.label
        for name, value in inputs.items():
            if name == "context" and label:
                inputs[name], label = _mapped_spans(value, label, change)
            else:
                inputs[name] = change(value) if isinstance(value, str) else [change(token).strip() or token for token in value]
        return replace(self, inputs=inputs, label=label)

    def to_dict(self) -> dict[str, Any]:
        data: dict[str, Any] = {"id": self.id, "inputs": dict(self.inputs)}
        if self.label is not None:
            data["label"] = self.label
        if self.group is not None:
            data["group"] = self.group
        if self.meta:
            data["meta"] = dict(self.meta)
        return data

    @classmethod
    def from_dict(cls, data: Any, default_id: str = "") -> Labelled:
        """Build from a JSON object; a missing id becomes ``default_id``.

        Raises:
            DataError: inputs are missing or of the wrong type, there is not one tag per token, or a span is not in its context.
        """
        if not isinstance(data, Mapping):
            raise DataError(f"a row must be an object, not {type(data).__name__}")
        inputs = data.get("inputs")
        if not isinstance(inputs, Mapping) or tuple(inputs) not in INPUTS:
            known = "; ".join(" and ".join(names) for names in INPUTS)
            raise DataError(f"'inputs' must hold one of: {known}")
        for name, value in inputs.items():
            if name == "tokens":
                if not isinstance(value, list) or not value or not all(isinstance(token, str) and token.strip() for token in value):
                    raise DataError("'tokens' must be a list of words that are not empty")
            elif not isinstance(value, str) or not value.strip():
                raise DataError(f"'{name}' must be text that is not empty")
        label = data.get("label")
        if "tokens" in inputs and label is not None and (not isinstance(label, list) or len(label) != len(inputs["tokens"])):
            found = len(label) if isinstance(label, list) else type(label).__name__
            raise DataError(f"{len(inputs['tokens'])} tokens need as many tags, not {found}")
        if "context" in inputs and label is not None:
            label = [_span(inputs["context"], one) for one in (label if isinstance(label, list) else [label])]
        meta, group = data.get("meta") or {}, data.get("group")
        if not isinstance(meta, Mapping):
            raise DataError("'meta' must be an object")
        return cls(str(data.get("id") or default_id), dict(inputs), label, None if group is None else str(group), meta)


def _span(context: str, span: Any) -> dict[str, Any]:
    if not isinstance(span, Mapping) or not isinstance(span.get("text"), str) or not isinstance(span.get("start"), int) or not span["text"]:
        raise DataError("a span needs 'text' and 'start'")
    start, text = span["start"], span["text"]
    if context[start : start + len(text)] != text:
        raise DataError(f"the span '{text}' does not stand at character {start} of its context")
    return {"text": text, "start": start}


def _mapped_spans(context: str, spans: Sequence[Mapping[str, Any]], change: Callable[[str], str]) -> tuple[str, list[dict[str, Any]]]:
    """The context changed between all ends of spans, and the spans at their new places; one that becomes empty is left out."""
    cuts = sorted({0, len(context), *(s["start"] for s in spans), *(s["start"] + len(s["text"]) for s in spans)})
    places, text = {0: 0}, ""
    for start, end in pairwise(cuts):
        piece = context[start:end]
        core = piece.strip()  # what is changed may be stripped; blanks between two pieces of one text stay
        before = len(piece) - len(piece.lstrip())
        text += piece[:before] + (change(core) if core else "") + piece[before + len(core) :]
        places[end] = len(text)
    moved = [(places[span["start"]], places[span["start"] + len(span["text"])]) for span in spans]
    return text, [{"text": text[start:end], "start": start} for start, end in moved if text[start:end].strip()]


Record = Example | Labelled


def record_from_dict(data: Any, default_id: str = "") -> Example | Labelled:
    """An :class:`Example` or a :class:`Labelled`, by what the row has."""
    if isinstance(data, Mapping) and "inputs" in data:
        return Labelled.from_dict(data, default_id)
    return Example.from_dict(data, default_id)


@dataclass(frozen=True)
class Prediction:
    """One held-out row with what a model said about it; what evaluators of tasks with heads look at.

    Attributes:
        row: with the true label.
        label: predicted, in the form of ``row.label``; None: it could not be predicted (``error`` says why).
        scores: class -> probability (classes), ``{"value": number}`` (numbers), empty where there is nothing of the kind.
    """

    row: Labelled
    label: Any = None
    scores: Mapping[str, float] = field(default_factory=dict)
    error: str = ""

    @property
    def id(self) -> str:
        return self.row.id

    def to_dict(self) -> dict[str, Any]:
        return {"id": self.id, "label": self.label, "scores": dict(self.scores), "error": self.error}
