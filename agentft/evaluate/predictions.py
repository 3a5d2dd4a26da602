"""Predictions out of a chat model's answers, and what evaluators of classes, numbers, tags and spans ask of predictions."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from agentft.errors import DataError
from agentft.evaluate.common import failed
from agentft.evaluate.numbers import numbers
from agentft.labelled import Labelled, Prediction
from agentft.records import Sample

# What a chat model may answer for "there is no answer", besides nothing at all.
NO_ANSWER = ("no answer", "unanswerable", "not answerable", "none", "n/a", "无法回答", "没有答案", "无答案", "不可回答")
_KINDS = {"class": "a class", "classes": "several classes", "number": "a number", "tags": "tags", "spans": "spans"}
_DECIMAL = re.compile(r"[-+−]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")


def from_samples(samples: Sequence[Sample]) -> list[Prediction]:
    """Predictions of a chat model: one for each sample whose prompt has ``meta.label``; ``meta.labels`` is the set of labels.

    A class is recognised where the answer equals a label up to case and white space; known are ``meta.labels``, or without it the labels
    of all samples. Any other answer becomes the predicted label as it stands, which is wrong. Several classes
    (``meta.label`` is a list) are split at commas, semicolons and line breaks. A number is the first one in the answer; an answer
    without a number is not a prediction. Where the prompt has ``meta.choices`` that differ from ``meta.labels`` and are as many, the first
    choice is how the first label is written, and so on. Probabilities are those of ``Sample.choices``. Spans (a list of objects with
    ``text``; empty: unanswerable) are compared with the whole answer, one of :data:`NO_ANSWER` or nothing meaning that there is none. A
    failed generation is not a prediction either: unscored, never wrong.
    """
    everything = {one for sample in samples for one in _names(sample.prompt.meta.get("label"))}
    tables: dict[tuple[str, ...], _Table] = {}
    found = []
    for sample in samples:
        label, given = sample.prompt.meta.get("label"), sample.prompt.meta.get("labels")
        if label is None:
            continue
        if given is not None and (isinstance(given, str) or not isinstance(given, Sequence)):
            raise DataError(f"prompt '{sample.id}': meta.labels must be a list of labels")
        names = tuple(sorted({*map(str, given), *_names(label)} if given else everything))
        table = tables.get(names) or tables.setdefault(names, _Table(names))
        row = Labelled(sample.id, {"text": sample.prompt.last_user}, label, sample.prompt.group, sample.prompt.meta)
        if failed(sample):
            found.append(Prediction(row, error=sample.response.error or "the generation failed"))
            continue
        meant = _meant(row)
        one = _read(row, meant.get(sample.text.strip(), sample.text), table)
        likely = {meant.get(choice.strip(), table.known(choice)): value for choice, value in sample.choices.items()}
        found.append(replace(one, scores=likely) if likely else one)
    return found


def _meant(row: Labelled) -> dict[str, str]:
    """Choice -> label, where labels are written in other words in the choices; empty where they are not."""
    labels, choices = ([str(one).strip() for one in row.meta.get(key) or ()] for key in ("labels", "choices"))
    return dict(zip(choices, labels, strict=True)) if len(labels) == len(choices) and set(labels) != set(choices) else {}


def _read(row: Labelled, text: str, table: _Table) -> Prediction:
    kind = kind_of(row)
    if kind == "number":
        number = _DECIMAL.search(text)
        if number:
            value = float(number.group().replace("−", "-"))
        elif words := numbers(text):
            value = float(words[0].value)
        else:
            return Prediction(row, error="the answer holds no number")
        # A whole number may be a class, and as a class 1.0 is not 1.
        return Prediction(row, int(value) if isinstance(row.label, int) and value.is_integer() else value, {"value": value})
    if kind == "spans":
        return Prediction(row, [] if _flat(text).rstrip(".。") in ("", *NO_ANSWER) else [{"text": text.strip()}])
    if kind == "classes":
        pieces = [piece for piece in re.split(r"[,;，；、\n]", text) if piece.strip()]
        return Prediction(row, list(dict.fromkeys(table.known(piece) for piece in pieces)))
    return Prediction(row, table.known(text))


class _Table:
    """The labels that an answer may name."""

    def __init__(self, names: Sequence[str]):
        flat: dict[str, list[str]] = {}
        for name in names:
            flat.setdefault(_flat(name), []).append(name)
        self._names = frozenset(names)
        # Labels that differ in nothing but case ("US" and "us") must be written as they are.
        self._flat = {key: those[0] for key, those in flat.items() if len(those) == 1}

    def known(self, text: str) -> str:
        """The label that ``text`` is, or ``text`` itself, stripped."""
        stripped = text.strip()
        return stripped if stripped in self._names else self._flat.get(_flat(text), stripped)


def _flat(text: str) -> str:
    return " ".join(text.casefold().split())


def _names(label: Any) -> list[str]:
    """The classes in a label; none in a number with a fraction or in spans."""
    several = label if isinstance(label, list | tuple) else [label]
    return [str(one) for one in several if isinstance(one, str | int)]


def kind_of(row: Labelled) -> str:
    """``class``, ``classes``, ``number``, ``tags`` or ``spans``, by the row's label and inputs.

    Raises:
        DataError: the label is none of these.
    """
    label = row.label
    if "tokens" in row.inputs:
        return "tags"
    if isinstance(label, str | bool):
        return "class"
    if isinstance(label, int | float):
        return "number"
    if "context" in row.inputs or (isinstance(label, list | tuple) and (not label or isinstance(label[0], Mapping))):
        # An empty list without a context: several classes, none of which applies, when the row says what classes there are.
        return "classes" if "context" not in row.inputs and not label and row.meta.get("labels") else "spans"
    if isinstance(label, list | tuple):
        return "classes"
    raise DataError(f"row '{row.id}': a label is a class, a list of classes, a number, tags or spans, not {type(label).__name__}")


def of_kind(samples: Sequence[Prediction | Sample], metric: str, *kinds: str) -> list[Prediction]:
    """The labelled predictions of an evaluator's first argument, by id; samples of a chat model are read by :func:`from_samples`.

    Args:
        metric: for the message.
        kinds: what the labels may be, see :func:`kind_of`; a whole number is also a class.

    Raises:
        DataError: a label is of another kind, or two rows have one id.
    """
    chats = [one for one in samples if isinstance(one, Sample)]
    found = [one for one in samples if isinstance(one, Prediction)] + from_samples(chats)
    found = sorted((one for one in found if one.row.label is not None), key=lambda one: one.id)
    for index, one in enumerate(found):
        kind = kind_of(one.row)
        as_class = "class" in kinds and kind == "number" and isinstance(one.row.label, int)
        if kind not in kinds and not as_class and not (kind == "spans" and "classes" in kinds and not one.row.label):
            wanted = " or ".join(_KINDS[name] for name in kinds)
            raise DataError(f"'{metric}' needs {wanted} as label, but row '{one.id}' has {_KINDS[kind]}; leave this evaluator out")
        if index and found[index - 1].id == one.id:
            raise DataError(f"two predictions have the id '{one.id}'; ids must be unique")
    return found


def answered(predictions: Sequence[Prediction]) -> list[Prediction]:
    """Those that could be predicted; the others are unscored."""
    return [one for one in predictions if one.label is not None]


def groups_of_rows(predictions: Sequence[Prediction]) -> dict[str, str]:
    """Row id -> group: the clusters of every interval."""
    return {one.id: one.row.group_key for one in predictions}


def classes_in(label: Any) -> frozenset[str]:
    """The class or the classes of a label, as text."""
    return frozenset(str(one) for one in label) if isinstance(label, list | tuple) else frozenset([str(label)])


def several(predictions: Sequence[Prediction]) -> bool:
    """Whether a row may have several classes."""
    return any(isinstance(one.row.label, list | tuple) for one in predictions)


def note_unscored(predictions: Sequence[Prediction]) -> str:
    """For a summary: how many rows have no prediction, and the first reason; empty where all have one."""
    missing = [one for one in predictions if one.label is None]
    return f"; {len(missing)} without a prediction ({missing[0].error or 'no reason given'})" if missing else ""
