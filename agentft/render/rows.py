"""Examples to training rows: rendered, tokenised, masked, and every one that is left out counted with its reason."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

from agentft.contracts import DataContext
from agentft.data.card import Weights
from agentft.errors import DataError
from agentft.records import Example
from agentft.render.conversation import MASKED, Encoded, Renderer
from agentft.render.overflow import only_turn, split, truncate

Overflow = Literal["error", "drop", "truncate_turns", "split"]
MARKS = ("⟦", "⟧")


@dataclass
class RowsReport:
    """What became of the examples.

    Attributes:
        rows_in: examples; ``rows_out``: rows written.
        tokens, supervised_tokens, longest: over the rows written, in tokens.
        drops: reason -> rows that were left out (for a part of a conversation: turns).
        split: examples that became several rows because they were too long; ``truncated``: rows that lost their oldest
            exchanges; ``turns_cut``: supervised turns in these exchanges.
        disarmed: rows in which a control token that somebody typed was made ordinary text.
        mode, system_mode: how the chat template is treated, see :class:`Renderer`.
        sample: the first row, decoded from its tokens, with marks around what is learned.
        weights: weight -> supervised tokens that have it; empty where all have 1.
    """

    rows_in: int = 0
    rows_out: int = 0
    tokens: int = 0
    supervised_tokens: int = 0
    longest: int = 0
    drops: dict[str, int] = field(default_factory=dict)
    split: int = 0
    truncated: int = 0
    turns_cut: int = 0
    disarmed: int = 0
    mode: str = ""
    system_mode: str = ""
    max_length: int = 0
    sample: str = ""
    weights: dict[str, int] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def render_rows(
    renderer: Renderer,
    examples: Iterable[Example],
    out: Path,
    *,
    max_length: int,
    overflow: Overflow,
    ctx: DataContext,
    max_dropped: float = 0.2,
) -> RowsReport:
    """Write one JSON line ``{"id", "group", "input_ids", "labels"}`` per training row.

    A row in which a message has a weight other than 1 has a number for each token under ``weights`` too.

    Args:
        max_length: tokens that a row may have.
        overflow: what happens to longer rows. ``error``: stop and name them. ``drop``: leave them out. ``truncate_turns``: leave
            out the oldest exchanges, never the system prompt. ``split``: make several rows, every turn supervised once.
        ctx: gets the drops, with ids.
        max_dropped: share of rows that may be dropped.

    Raises:
        DataError: rows are too long under ``error``, or more than ``max_dropped`` of the rows were dropped.
    """
    writer = _Writer(renderer, max_length, overflow, ctx)
    report = writer.report
    ids_text, labels_text = Numbers(renderer.prefix_ids), Numbers([MASKED] * len(renderer.prefix_ids))
    with out.open("w", encoding="utf-8") as stream:
        for example, rendered in renderer.training_stream(examples):
            report.rows_in += 1
            for row in writer.rows(example, rendered):
                names = f'"id":{json.dumps(row.id, ensure_ascii=False)},"group":{json.dumps(example.group_key, ensure_ascii=False)}'
                weights = "" if row.weights is None else f',"weights":{json.dumps(row.weights, separators=(",", ":"))}'
                stream.write(f'{{{names},"input_ids":{ids_text(row.input_ids)},"labels":{labels_text(row.labels)}{weights}}}\n')
                writer.count_weights(row)
                report.rows_out += 1
                report.tokens += len(row.input_ids)
                report.supervised_tokens += row.supervised
                report.longest = max(report.longest, len(row.input_ids))
                report.disarmed += bool(row.disarmed)
                report.sample = report.sample or show_mask(renderer, row)
    writer.finish(max_dropped)
    return report


class Numbers:
    """Writes lists of whole numbers as JSON; the text of ``start``, with which most of them begin, is made once."""

    def __init__(self, start: list[int]):
        self._start, self._text = start, self._plain(start)[:-1]

    def __call__(self, numbers: list[int]) -> str:
        shared = len(self._start)
        if not shared or len(numbers) == shared or numbers[:shared] != self._start:
            return self._plain(numbers)
        return f"{self._text},{self._plain(numbers[shared:])[1:]}"

    @staticmethod
    def _plain(numbers: list[int]) -> str:
        return str(numbers).replace(" ", "")  # five times as fast as json.dumps, and the same


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """The rows that :func:`render_rows` wrote."""
    with path.open(encoding="utf-8") as stream:
        for line in stream:
            yield json.loads(line)


def show_mask(renderer: Renderer, row: Encoded) -> str:
    """The row as its tokens say it, what is learned between ``⟦`` and ``⟧``, a weight other than 1 in front of it: ``⟦0.5 × Hi⟧``."""
    parts = []
    for learned, weight, ids in mask_runs(row.input_ids, row.labels, row.weights):
        text = renderer.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        parts.append(f"{MARKS[0]}{times(weight)}{text}{MARKS[1]}" if learned else text)
    return "".join(parts)


def mask_runs(ids: Sequence[int], labels: Sequence[int], weights: Sequence[float] | None) -> Iterator[tuple[bool, float, list[int]]]:
    """The row cut where learning begins, ends or changes its weight: whether a run of tokens is learned, its weight, its ids."""
    rows = zip(ids, labels, [1.0] * len(ids) if weights is None else weights, strict=True)
    for (learned, weight), run in groupby(rows, key=lambda one: (one[1] != MASKED, one[2] if one[1] != MASKED else 1.0)):
        yield learned, weight, [token for token, _, _ in run]


def times(weight: float) -> str:
    return "" if weight == 1 else f"{weight:g} × "


class _Writer:
    """Applies the overflow policy and keeps the account."""

    def __init__(self, renderer: Renderer, max_length: int, overflow: Overflow, ctx: DataContext):
        self.renderer, self.max_length, self.overflow, self.ctx = renderer, max_length, overflow, ctx
        self.report = RowsReport(mode=renderer.mode, system_mode=renderer.system_mode, max_length=max_length)
        self.drops: Counter[str] = Counter()
        self.too_long: list[tuple[int, str]] = []
        self.weights = Weights()

    def count_weights(self, row: Encoded) -> None:
        for learned, weight, ids in mask_runs(row.input_ids, row.labels, row.weights):
            if learned:
                self.weights.add(weight, len(ids))

    def rows(self, example: Example, rendered: list[Encoded] | DataError) -> Iterator[Encoded]:
        """The rows of one example that are to be written."""
        if isinstance(rendered, DataError):
            self._drop(str(rendered), example.id)
        elif not rendered:
            self._drop("nothing is supervised", example.id)
        else:
            for number, row in enumerate(rendered):
                if len(row.input_ids) <= self.max_length:
                    yield row
                else:
                    yield from self._too_long(example if len(rendered) == 1 else only_turn(example, number), row, len(rendered) > 1)

    def _too_long(self, example: Example, row: Encoded, one_turn: bool) -> list[Encoded]:
        tokens, limit = len(row.input_ids), f"longer than {self.max_length} tokens"
        if self.overflow == "error":
            self.too_long.append((tokens, row.id))
            return []
        if self.overflow == "drop":
            self._drop(limit, f"{row.id}: {tokens} tokens")
            return []
        cut = truncate if one_turn or self.overflow == "truncate_turns" else split
        rows, lost = cut(self.renderer, example, self.max_length)
        if not rows:
            self._drop(f"{limit}, even its last exchange alone", f"{row.id}: {tokens} tokens")
        elif cut is truncate:
            self.report.truncated += 1
            self.report.turns_cut += lost
        else:
            self.report.split += 1
            for _ in range(lost):
                self._drop(f"an exchange {limit}", row.id)
        return rows

    def _drop(self, reason: str, where: str) -> None:
        self.drops[reason] += 1
        self.ctx.drop(reason, where)

    def finish(self, max_dropped: float) -> None:
        self.report.drops = dict(self.drops)
        self.report.weights = self.weights.to_dict()
        if self.too_long:
            self.too_long.sort(reverse=True)
            longest = ", ".join(f"{name} ({tokens})" for tokens, name in self.too_long[:5])
            raise DataError(
                f"{len(self.too_long)} rows are longer than max_length {self.max_length}, in tokens: {longest}; raise max_length or "
                "choose what happens to them with on_overflow: drop, truncate_turns or split"
            )
        dropped = self.drops.total()
        if dropped > max_dropped * (self.report.rows_out + dropped):
            reasons = "; ".join(f"{count} x {reason}" for reason, count in self.drops.most_common(5))
            raise DataError(f"{dropped} of {self.report.rows_out + dropped} rows would be dropped, more than {max_dropped:.0%}: {reasons}")


def signal_text(signal: Mapping[str, Any]) -> str:
    """What training will see, in words: printed before the first step."""
    drops = ", ".join(f"{count} {reason}" for reason, count in signal["drops"].items()) or "none"
    return (
        f"signal: {signal['rows_out']} rows, {signal['tokens']} tokens, {signal['supervised_tokens']} of them supervised"
        f" ({signal['supervised_tokens'] / max(1, signal['tokens']):.0%}), longest {signal['longest']}; dropped: {drops}\n"
        f"example (only what is between the marks is learned):\n{signal['sample']}"
    )
