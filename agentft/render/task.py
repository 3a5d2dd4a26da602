"""What a model with a head is asked: the classes, the scale of the numbers, the length of the windows. Written beside rows and weights."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from agentft.errors import DataError
from agentft.labelled import Labelled

TaskName = Literal["classify", "regress", "tag", "span"]
CARD = "task.json"
SHOWN = 8


@dataclass(frozen=True)
class Task:
    """A task with a head.

    Attributes:
        name: ``classify``, ``regress``, ``tag`` or ``span``.
        labels: classes or tags in the order of the head's outputs; empty for numbers and spans.
        counts: rows (tags: tokens) of each label in the training rows.
        multi: a row may have several classes, or none.
        mean, scale: numbers are learned as ``(value - mean) / scale``.
        nullable: spans: some training row has no answer.
        causal: the model reads from left to right, so that only its last token has seen everything.
        max_length: tokens of a row; longer texts are cut, longer contexts and sentences are read in windows.
        stride: tokens by which two windows of one context overlap.
    """

    name: TaskName
    labels: tuple[str, ...] = ()
    counts: tuple[int, ...] = ()
    multi: bool = False
    mean: float = 0.0
    scale: float = 1.0
    nullable: bool = False
    causal: bool = False
    max_length: int = 512
    stride: int = 128

    @property
    def outputs(self) -> int:
        """Outputs of the head."""
        return {"regress": 1, "span": 2}.get(self.name) or len(self.labels)

    def save(self, folder: Path) -> None:
        (folder / CARD).write_text(json.dumps(asdict(self), ensure_ascii=False, indent=1), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Task:
        return cls.from_dict(json.loads((folder / CARD).read_text("utf-8")))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Task:
        return cls(**{**data, "labels": tuple(data["labels"]), "counts": tuple(data["counts"])})


def learn_task(name: TaskName, rows: Iterable[Labelled], *, causal: bool, max_length: int, stride: int, standardize: bool = False) -> Task:
    """Look at the training rows once: which classes there are, and on which scale the numbers are.

    Raises:
        DataError: a label is missing or of the wrong type (all of them together, up to 8 shown), or there is nothing to tell apart.
    """
    counts: dict[str, int] = {}
    total, squares, seen, empty, multi = 0.0, 0.0, 0, False, False
    wrong: list[str] = []
    for row in rows:
        try:
            target = target_of(row, name)
        except DataError as error:
            wrong.append(f"row '{row.id}': {error}")
            continue
        seen += 1
        if name == "regress":
            total, squares = total + target, squares + target * target
        elif name == "span":
            empty |= not target
        else:
            multi |= name == "classify" and isinstance(row.label, list)
            for one in target:
                counts[one] = counts.get(one, 0) + 1
    if wrong:
        more = f"\n... and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
        raise DataError("\n".join(wrong[:SHOWN]) + more + f"\n'{name}' cannot learn from these rows")
    if not seen:
        raise DataError(f"there is no row for '{name}'")
    if name in ("classify", "tag") and len(counts) < 2:
        found = f"only the class '{next(iter(counts))}'" if counts else "no class at all"
        raise DataError(f"the {seen} training rows have {found}; there is nothing to tell apart")
    labels = tuple(sorted(counts, key=lambda label: (label != "O", label)))  # the outside tag first, as usual
    mean = total / seen if name == "regress" and standardize else 0.0
    spread = max(0.0, squares / seen - mean * mean) ** 0.5 if name == "regress" and standardize else 1.0
    return Task(name, labels, tuple(counts[label] for label in labels), multi, mean, spread or 1.0, empty, causal, max_length, stride)


def target_of(row: Labelled, name: TaskName) -> Any:
    """The label as the task wants it: a list of classes or tags, a number, or a list of spans.

    Raises:
        DataError: there is none, or it is of another kind.
    """
    label, inputs = row.label, row.inputs
    wanted = {"tag": "tokens", "span": "context"}.get(name, "text")
    if wanted not in inputs:
        raise DataError(f"'{name}' needs '{wanted}', the row has {' and '.join(inputs)}")
    if label is None:
        raise DataError("it has no label")
    if name == "regress":
        try:
            return float(label)
        except (TypeError, ValueError):
            raise DataError(f"the label must be a number, not {label!r}") from None
    if name == "classify":
        several = label if isinstance(label, list) else [label]
        if not all(isinstance(one, (str, int, bool)) for one in several):
            raise DataError(f"the label must be a class or a list of classes, not {label!r}")
        return [str(one) for one in several]
    if name == "tag":
        return [str(one) for one in label]
    return label
