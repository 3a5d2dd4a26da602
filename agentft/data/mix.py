"""Several sources as one stream: one after the other, or drawn row by row; each with its weight."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from random import Random
from typing import TypeVar

from agentft.contracts import DataContext
from agentft.data.spool import Spool
from agentft.labelled import Labelled, Record
from agentft.records import Example, Preference

T = TypeVar("T", bound=Example | Labelled | Preference)


def weighted(rows: Iterable[T], count: int, weight: float, random: Random, ctx: DataContext) -> Iterator[T]:
    """Every one of ``count`` rows ``weight`` times; of a fraction, that share of the rows, drawn. Copies come after all of the rows.

    ``rows`` is gone through once for each time, so it must not be an iterator.
    """
    whole, rest = int(weight), weight - int(weight)
    chosen = set(random.sample(range(count), round(rest * count))) if rest else set()
    for _ in range(whole):
        yield from rows
    for index, row in enumerate(rows if chosen or not whole else ()):
        if index in chosen:
            yield row
        elif not whole:
            ctx.drop(f"left out by weight {weight:g}", row.id)


def interleaved(
    spools: Sequence[Spool], weights: Sequence[float], random: Random, accounts: Sequence[DataContext]
) -> Iterator[tuple[int, Record]]:
    """Number of a source and its next row, drawn with the weights as probabilities until the first source is used up."""
    streams = [iter(spool) for spool in spools]
    waiting = [next(stream, None) for stream in streams]
    while all(row is not None for row in waiting):
        at = random.choices(range(len(streams)), weights)[0]
        row, waiting[at] = waiting[at], next(streams[at], None)
        assert row is not None
        yield at, row
    used_up = next((index for index, row in enumerate(waiting) if row is None), 0)
    for index, (first, stream) in enumerate(zip(waiting, streams, strict=True)):
        if first is not None:
            for row in chain((first,), stream):
                accounts[index].drop(f"left over when source {used_up + 1} was used up", row.id)
