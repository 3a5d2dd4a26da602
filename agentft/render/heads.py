"""Labelled rows to token rows, the same way for training and for prediction: texts, tagged words, and contexts in windows."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

from agentft.contracts import RowsJob
from agentft.data.jsonl import read_records
from agentft.errors import DataError
from agentft.labelled import Labelled
from agentft.render.conversation import MASKED as MASKED
from agentft.render.task import Task, TaskName, learn_task, target_of
from agentft.text import is_chinese


@dataclass(frozen=True)
class Window:
    """A row, or one window of it, as the model reads it.

    Attributes:
        input_ids: with special tokens.
        types: 1 for the second text, 0 elsewhere (token_type_ids).
        words: for tags: token -> number of the word that it begins, or -1.
        offsets: for spans: token -> (start, end) in characters of the context, or None outside of it.
        null: for spans: the token that stands for "no answer".
        cut: the text was longer than a row may be.
    """

    input_ids: list[int]
    types: list[int]
    words: list[int] = field(default_factory=list)
    offsets: list[tuple[int, int] | None] = field(default_factory=list)
    null: int = 0
    cut: bool = False


class HeadEncoder:
    """Turns labelled rows into windows and targets.

    Args:
        tokenizer: of the model.
        task: what is asked.
    """

    def __init__(self, tokenizer: Any, task: Task):
        self.tokenizer, self.task = tokenizer, task
        bare, full = (tokenizer("a", add_special_tokens=special)["input_ids"] for special in (False, True))
        at = next(i for i in range(len(full)) if full[i : i + len(bare)] == bare)
        self.before, self.after = full[:at], full[at + len(bare) :]
        self.ids = {label: index for index, label in enumerate(task.labels)}

    def windows(self, row: Labelled) -> list[Window]:
        """What the model reads of a row; one window for a text, several for a context or sentence that is too long.

        Raises:
            DataError: a question alone fills the row.
        """
        if self.task.name == "tag":
            return self._tag(row)
        return self._span(row) if self.task.name == "span" else [self._text(row)]

    def target(self, row: Labelled, window: Window) -> list[float]:
        """What the head should say: class numbers, a number, a tag per token, or first and last token of the answer."""
        wanted = target_of(row, self.task.name)
        if self.task.name == "regress":
            return [(wanted - self.task.mean) / self.task.scale]
        if self.task.name == "classify":
            return [float(self.ids[label]) for label in wanted if label in self.ids]
        if self.task.name == "tag":
            return [float(self.ids.get(wanted[word], MASKED)) if word >= 0 else MASKED for word in window.words]
        return [float(place) for place in self._place(wanted, window)]

    def _join(self, first: list[int], second: list[int] | None = None) -> tuple[list[int], list[int]]:
        """Special tokens around one or two texts, and the types of the tokens."""
        ids = [*self.before, *first, *self.after]
        types = [0] * len(ids)
        if second is not None:
            more = [*second, *self.after]
            ids, types = ids + more, types + [1] * len(more)
        return ids, types

    def _pieces(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def _text(self, row: Labelled) -> Window:
        first, pair = self._pieces(row.inputs["text"]), row.inputs.get("pair")
        second = None if pair is None else self._pieces(pair if self.after else "\n" + pair)
        room = self.task.max_length - len(self.before) - len(self.after) * (1 if second is None else 2)
        # The second text is usually the question about the first, so it is the first that is cut.
        kept = max(1, room - len(second or []))
        ids, types = self._join(first[:kept], None if second is None else second[: max(1, room - 1)])
        return Window(ids, types, cut=len(first) > kept)

    def _tag(self, row: Labelled) -> list[Window]:
        room = self.task.max_length - len(self.before) - len(self.after)
        found: list[Window] = []
        ids: list[int] = []
        words: list[int] = []

        def close() -> None:
            if ids:
                whole, types = self._join(ids)
                found.append(Window(whole, types, [-1] * len(self.before) + words + [-1] * len(self.after)))

        for number, word in enumerate(row.inputs["tokens"]):
            # A blank tells a byte-level tokenizer that a word begins; WordPiece ignores it, Chinese has none.
            pieces = (self._pieces(word if number == 0 or is_chinese(word) else " " + word) or self._pieces("-"))[:room]
            if len(ids) + len(pieces) > room:
                close()
                ids, words = [], []
            ids = ids + pieces
            words = words + [number] + [-1] * (len(pieces) - 1)
        close()
        return [replace(window, cut=len(found) > 1) for window in found]

    def _span(self, row: Labelled) -> list[Window]:
        context = row.inputs["context"]
        question = self._pieces(row.inputs["question"] if self.after else row.inputs["question"] + "\n")
        encoded = self.tokenizer(context, add_special_tokens=False, return_offsets_mapping=True)
        pieces, places = encoded["input_ids"], [_trimmed(context, *place) for place in encoded["offset_mapping"]]
        end = [] if self.after else [self.tokenizer.eos_token_id]  # a place for "no answer" that has seen everything
        room = self.task.max_length - len(self.before) - 2 * len(self.after) - len(question) - len(end)
        if room < 8:
            raise DataError(f"the question has {len(question)} tokens, which leaves no room for a context in {self.task.max_length}")
        step = max(1, room - min(self.task.stride, room // 2))
        starts = [0, *range(step, max(1, len(pieces) - (room - step)), step)]
        windows = []
        for start in starts:
            part = pieces[start : start + room]
            ids, types = self._join(question, part)
            ids, types = ids + end, types + [1] * len(end)
            lead = len(self.before) + len(question) + len(self.after)
            offsets = [*[None] * lead, *places[start : start + room], *[None] * (len(ids) - lead - len(part))]
            windows.append(Window(ids, types, offsets=offsets, null=len(ids) - 1 if end else 0, cut=len(starts) > 1))
        return windows

    def _place(self, spans: list[dict[str, Any]], window: Window) -> tuple[int, int]:
        """First and last token of the first answer that stands in the window; the null token where none does."""
        for span in spans:
            start, end = span["start"], span["start"] + len(span["text"])
            inside = [i for i, place in enumerate(window.offsets) if place is not None and place[0] < end and start < place[1]]
            if inside and window.offsets[inside[0]][0] <= start and window.offsets[inside[-1]][1] >= end:  # type: ignore[index]
                return inside[0], inside[-1]
        return window.null, window.null


def _trimmed(context: str, start: int, end: int) -> tuple[int, int]:
    """A byte-level token holds the blank before its word; the answer does not."""
    while start < end and context[start].isspace():
        start += 1
    return start, end


def classify_rows(job: RowsJob) -> dict[str, Any]:
    """Rows for ``use: classify``."""
    return _rows(job, "classify")


def regress_rows(job: RowsJob) -> dict[str, Any]:
    """Rows for ``use: regress``."""
    return _rows(job, "regress")


def tag_rows(job: RowsJob) -> dict[str, Any]:
    """Rows for ``use: tag``."""
    return _rows(job, "tag")


def span_rows(job: RowsJob) -> dict[str, Any]:
    """Rows for ``use: span``."""
    return _rows(job, "span")


def _rows(job: RowsJob, name: TaskName) -> dict[str, Any]:
    """Write ``train.jsonl`` and ``validation.jsonl`` with ``{"id", "group", "input_ids", "types", "target"}`` per window, ``task.json``."""
    options = job.config
    task = learn_task(
        name,
        _labelled(job.train),
        causal=job.causal,
        max_length=min(options.max_length or job.max_length, job.max_length),
        stride=getattr(options, "stride", 128),
        standardize=getattr(options, "standardize", False),
    )
    task.save(job.out)
    encoder = HeadEncoder(job.tokenizer, task)
    parts = {
        part: _write(encoder, _labelled(path), job.out / f"{part}.jsonl")
        for part, path in (("train", job.train), ("validation", job.validation))
    }
    return {**parts, "task": {"name": name, "labels": dict(zip(task.labels, task.counts, strict=True)), "multi": task.multi}}


def _labelled(path: Path) -> Iterator[Labelled]:
    return (row for row in read_records(path) if isinstance(row, Labelled) and row.label is not None)


def _write(encoder: HeadEncoder, rows: Iterable[Labelled], out: Path) -> dict[str, Any]:
    """Counts as :class:`agentft.render.rows.RowsReport` gives them."""
    report: dict[str, Any] = {
        "rows_in": 0,
        "rows_out": 0,
        "tokens": 0,
        "supervised_tokens": 0,
        "longest": 0,
        "truncated": 0,
        "unknown": 0,
        "sample": "",
    }
    drops: Counter[str] = Counter()
    unknown = set(encoder.task.labels)
    with out.open("w", encoding="utf-8") as stream:
        for row in rows:
            report["rows_in"] += 1
            if encoder.task.name == "classify" and not encoder.task.multi and not unknown & set(target_of(row, "classify")):
                drops["a class that no training row has"] += 1
                continue
            windows = encoder.windows(row)
            report["truncated"] += windows[0].cut
            for number, window in enumerate(windows):
                target = encoder.target(row, window)
                name = row.id if len(windows) == 1 else f"{row.id}#{number}"
                data = {"id": name, "group": row.group_key, "input_ids": window.input_ids, "types": window.types, "target": target}
                stream.write(json.dumps(data, ensure_ascii=False, separators=(",", ":")) + "\n")
                report["rows_out"] += 1
                report["tokens"] += len(window.input_ids)
                report["unknown"] += window.input_ids.count(encoder.tokenizer.unk_token_id)
                report["supervised_tokens"] += sum(one != MASKED for one in target) if encoder.task.name == "tag" else 1
                report["longest"] = max(report["longest"], len(window.input_ids))
                report["sample"] = report["sample"] or show(encoder, row, window, target)
    return {**report, "drops": dict(drops)}


def show(encoder: HeadEncoder, row: Labelled, window: Window, target: list[float]) -> str:
    """A window as its tokens say it, and between the marks what is learned."""
    decode = encoder.tokenizer.decode
    if encoder.task.name == "tag":
        words = [
            (row.inputs["tokens"][word], encoder.task.labels[int(tag)])
            for word, tag in zip(window.words, target, strict=True)
            if word >= 0 and tag != MASKED
        ]
        return " ".join(word if tag == "O" else f"{word}⟦{tag}⟧" for word, tag in islice(words, 60))
    text = decode(window.input_ids, skip_special_tokens=False)
    if encoder.task.name == "span":
        first, last = (int(one) for one in target)
        return f"{text}\n⟦{'no answer' if first == window.null else decode(window.input_ids[first : last + 1])}⟧"
    learned = f"{target[0]:.4g}" if encoder.task.name == "regress" else ", ".join(encoder.task.labels[int(one)] for one in target) or "none"
    return f"{text}\n⟦{learned}⟧"
