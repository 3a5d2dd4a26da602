"""``instruct``: labelled rows become conversations, so that a chat model does by instruction what a head would do."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field, field_validator

from agentft.contracts import DataContext
from agentft.data.wording import INPUTS, WORDING, fill, joined, places
from agentft.errors import DataError, did_you_mean
from agentft.labelled import Labelled
from agentft.records import Example, Message
from agentft.text import is_chinese
from agentft.validation import Listed, Model

LOOKED_AT = 200  # rows that decide the language
NOTE = "instruct"


class InstructConfig(Model):
    """Options of the transform ``instruct``."""

    template: str | None = Field(
        None,
        description="the instruction, with `{text}` (`{pair}`, `{question}`, `{context}`), or `{input}` for all of them with their "
        "names, and `{labels}`; left out: a neutral wording in the language of the rows",
    )
    show_labels: bool = Field(True, description="whether the built-in wording lists what may be answered")
    labels: Listed[str] = Field((), description="the classes, in this order; left out: those of the training rows, sorted")
    label_names: dict[str, str] = Field(default_factory=dict, description="class -> how it is written in instruction and answer")
    task: Literal["classify", "rate"] | None = Field(
        None, description="whether a label is a class or a number; left out: numbers are numbers, text is a class"
    )
    language: Literal["en", "zh"] | None = Field(None, description="of the wording; left out: what most of the rows are written in")

    @field_validator("template")
    @classmethod
    def _places(cls, value: str | None) -> str | None:
        named = places(value or "")
        if unknown := [name for name in named if name not in INPUTS]:
            raise ValueError(f"the template has {{{unknown[0]}}}, which is not known ({did_you_mean(unknown[0], INPUTS)})")
        if value is not None and not set(named) - {"labels", "pair"}:
            raise ValueError("the template needs {text}, {input}, or {question} and {context}")
        return value


@dataclass(frozen=True)
class _Facts:
    """What the first pass found in all rows. ``labels``: classes or types of names; of numbers, the smallest and the largest."""

    task: str
    language: str
    labels: tuple[Any, ...]


def instruct(records: Iterable[Labelled], config: InstructConfig, ctx: DataContext) -> Iterator[Example]:
    """A conversation of two messages per row: instruction and answer.

    A class is answered by its name, several classes by their names, a number with two decimals, a span by its text, and tags by
    a line ``TYPE: words`` per name; nothing to name is ``none`` (``无``). ``meta`` gets ``label`` (as it was), ``input`` (the text
    without the instruction), and for classes ``labels`` and ``choices`` (their names), which an agent is bound to, see
    :mod:`agentft.engine.choices`.

    Which classes there are, the language and the task are found in a first pass; the rows lie in a temporary file meanwhile.
    They are left in ``ctx.notes["instruct"]``. Rows that are evaluated on have to be instructed in the same words, so where
    the context comes with that note, nothing is looked for: a class that only such rows have stays their right answer, and no
    choice. Rows without a label are dropped.

    Raises:
        DataError: rows of several tasks, labels of another kind than ``task``, or two classes with one name.
    """
    with tempfile.TemporaryFile("w+", encoding="utf-8") as spool:
        for row in records:
            if row.label is None:
                ctx.drop("no label", row.id)
            else:
                spool.write(json.dumps(row.to_dict(), ensure_ascii=False) + "\n")

        def rows() -> Iterator[Labelled]:
            spool.seek(0)
            return (Labelled.from_dict(json.loads(line)) for line in spool)

        noted = ctx.notes.get(NOTE)
        facts = _Facts(noted["task"], noted["language"], tuple(noted["labels"])) if noted else _look(rows(), config)
        if facts is None:
            return
        ctx.notes[NOTE] = {"task": facts.task, "language": facts.language, "labels": list(facts.labels)}
        writer = _Writer(facts, config)
        for row in rows():
            label = _label(row, facts.task)
            if facts.task.startswith("classify") and (unknown := sorted(set(_listed(label)) - set(facts.labels))):
                if not noted:
                    ctx.drop("label is not one of labels", f"{row.id}: {unknown[0]}")
                    continue
                ctx.change("label that no training row has")
            yield writer.example(row, label)


def _look(rows: Iterator[Labelled], config: InstructConfig) -> _Facts | None:
    """The facts, None if there are no rows."""
    task, chinese, seen = "", 0, 0
    labels: set[str] = set()
    low, high = math.inf, -math.inf
    for row in rows:
        found = _task(row, config)
        if task and found != task:
            raise DataError(f"{row.id}: instruct takes rows of one task, and this row is one to {found}, those before it to {task}")
        task, label = found, _label(row, found)
        if seen < LOOKED_AT:
            seen, chinese = seen + 1, chinese + is_chinese(row.text)
        if task == "rate":
            low, high = min(low, label), max(high, label)
        elif task == "tags":
            labels |= {kind for kind, _ in _names(row)}
        elif task.startswith("classify"):
            labels |= set(_listed(label))
    if not task:
        return None
    order: Sequence[Any] = [low, high] if task == "rate" else config.labels or sorted(labels)
    return _Facts(task, config.language or ("zh" if 2 * chinese > seen else "en"), tuple(order))


def _task(row: Labelled, config: InstructConfig) -> str:
    if "tokens" in row.inputs:
        return "tags"
    if "context" in row.inputs:
        return "spans"
    if config.task:
        return config.task
    if isinstance(row.label, list):
        return "classify several"
    return "rate" if isinstance(row.label, (int, float)) and not isinstance(row.label, bool) else "classify"


def _label(row: Labelled, task: str) -> Any:
    """The label in the form of the task: text, a list of texts, a number, or as it is."""
    if task == "rate":
        try:
            value = float(row.label)
        except (TypeError, ValueError):
            raise DataError(f"{row.id}: the label {row.label!r} is no number") from None
        if not math.isfinite(value):
            raise DataError(f"{row.id}: the label {row.label!r} is not finite")
        return value
    if task == "classify several" or (task == "classify" and isinstance(row.label, list)):
        if task == "classify":
            raise DataError(f"{row.id}: several labels; leave `task` out")
        return [str(one) for one in _listed(row.label)]
    return str(row.label) if task == "classify" else row.label


def _listed(label: Any) -> list[Any]:
    return label if isinstance(label, list) else [label]


def _names(row: Labelled) -> list[tuple[str, str]]:
    """``(type, words)`` of each name; where tags have no B- and I- in front, each word with a tag is one."""
    tokens, tags = row.inputs["tokens"], row.label
    if not any(tag[:2] in ("B-", "I-", "S-", "E-") for tag in tags):
        return [(tag, token) for tag, token in zip(tags, tokens, strict=True) if tag != "O"]
    from seqeval.metrics.sequence_labeling import get_entities

    return [(kind, joined(tokens[start : end + 1])) for kind, start, end in get_entities(list(tags))]


class _Writer:
    """Puts rows into words."""

    def __init__(self, facts: _Facts, config: InstructConfig):
        self.facts, self.words = facts, WORDING[facts.language]
        if unknown := sorted(set(config.label_names) - {str(label) for label in facts.labels}):
            raise DataError(f"label_names: no row has the label '{unknown[0]}' ({did_you_mean(unknown[0], map(str, facts.labels))})")
        self.names = {str(label): config.label_names.get(str(label), str(label)) for label in facts.labels}
        if len({name.strip() for name in self.names.values()}) < len(self.names):
            raise DataError("label_names: two labels have the same name")
        if facts.task == "rate":
            self.shown = self.words["range"].format(*(f"{value:.2f}" for value in facts.labels))
        else:
            self.shown = self.words["separator"].join(self.names.values())
        template = config.template or self.words[facts.task]
        if config.template is None and not (config.show_labels and self.shown):
            template = "\n".join(line for line in template.split("\n") if "{labels}" not in line)
        self.template = template

    def example(self, row: Labelled, label: Any) -> Example:
        inputs = {name: value if isinstance(value, str) else joined(value) for name, value in row.inputs.items()}
        inputs.setdefault("text", inputs.get("tokens") or inputs.get("context") or "")
        kind = next(name for name in ("question context", "text pair", "text") if set(name.split()) <= inputs.keys())
        asked = fill(self.template, inputs | {"labels": self.shown, "input": fill(self.words[kind], inputs)})
        meta = dict(row.meta) | {"label": row.label, "input": row.text}
        if self.facts.task.startswith("classify"):
            meta["labels"] = list(self.facts.labels)
        if self.facts.task == "classify":
            meta["choices"] = list(self.names.values())
        messages = (Message("user", asked), Message("assistant", self._answer(row, label)))
        return Example(row.id, messages, group=row.group, meta=meta)

    def _answer(self, row: Labelled, label: Any) -> str:
        if self.facts.task == "rate":
            return f"{label:.2f}"
        if self.facts.task == "spans":
            return str(label[0]["text"]) if label else self.words["none"]
        if self.facts.task == "tags":
            names = _names(row)
            return "\n".join(f"{self.names.get(kind, kind)}: {words}" for kind, words in names) or self.words["none"]
        if self.facts.task == "classify":
            return self.names.get(label, label)
        chosen = sorted(label, key=lambda one: self.facts.labels.index(one) if one in self.facts.labels else len(self.facts.labels))
        return self.words["several"].join(self.names.get(one, one) for one in chosen) or self.words["none"]
