"""The transform ``dedup``: keep the first of rows with the same, or nearly the same, text."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import Field

from agentft.contracts import DataContext
from agentft.labelled import Labelled, Record
from agentft.validation import Model


class DedupConfig(Model):
    """Options of the transform ``dedup``."""

    threshold: float | None = Field(
        None, gt=0, le=1, description="also drop near-duplicates: least share of shingles in common, such as 0.8; left out: exact ones only"
    )
    keep_in_group: bool = Field(False, description="rows of one group are not compared with each other: a split keeps them together")


@dataclass(frozen=True)
class _Kept:
    """What is remembered of a row that goes on."""

    id: str
    group: str
    label: str
    weights: tuple[float, ...]


def fingerprint(record: Record) -> str:
    """What two exact duplicates have in common: roles (names of inputs) and text, without case and white space."""
    return "\x1e".join(f"{name}:{''.join(text.lower().split())}" for name, text in _parts(record))


def spoken(record: Record) -> str:
    """The text that near-duplicates are found by: a system prompt, which many rows share, is left out."""
    return "\n".join(text for name, text in _parts(record) if name != "system")


def _parts(record: Record) -> Iterator[tuple[str, str]]:
    if isinstance(record, Labelled):
        for name, value in record.inputs.items():
            yield name, value if isinstance(value, str) else " ".join(value)
    else:
        for message in record.messages:
            calls = json.dumps([dict(call) for call in message.tool_calls], sort_keys=True) if message.tool_calls else ""
            yield message.role, message.content + calls


def digest(record: Record) -> bytes:
    """16 bytes that exact duplicates share."""
    return hashlib.blake2b(fingerprint(record).encode("utf-8", "surrogatepass"), digest_size=16).digest()


def dedup(records: Iterable[Record], config: DedupConfig | None, ctx: DataContext) -> Iterator[Record]:
    """Keep the first of rows whose text is the same up to case and white space; with ``threshold``, or nearly the same.

    The account of the drops names the row that was kept. Rows with the same text and another label contradict each other: the
    first one is kept, and they are counted apart; so are conversations that differ only in the weights of messages. Nearly the
    same text with another label ("turn it on", "turn it off") is what a classifier has to tell apart: such rows are kept and counted.
    """
    config = config or DedupConfig.model_validate({})
    exact: dict[bytes, _Kept] = {}
    near = _Near(config.threshold) if config.threshold is not None else None
    for record in records:
        mine = _Kept(record.id, record.group_key, _label(record), _weights(record))
        key = digest(record)
        twin = exact.get(key)
        if twin and not (config.keep_in_group and twin.group == mine.group):
            how = " with another label" if twin.label != mine.label else " with other weights" if twin.weights != mine.weights else ""
            ctx.drop(f"duplicate{how}", f"{record.id}, same as {twin.id}")
            continue
        if near is not None:
            like = near.twin(record, mine, config.keep_in_group, ctx)
            if like is not None:
                ctx.drop("near-duplicate", f"{record.id}, like {like.id}")
                continue
        exact.setdefault(key, mine)
        yield record


def _label(record: Record) -> str:
    return json.dumps(record.label, sort_keys=True, default=str) if isinstance(record, Labelled) else ""


def _weights(record: Record) -> tuple[float, ...]:
    return () if isinstance(record, Labelled) else tuple(message.weight for message in record.messages)


class _Near:
    """The rows kept so far, searched by their shingles."""

    def __init__(self, threshold: float):
        from agentft.data.shingles import NearDuplicates

        self.index = NearDuplicates(threshold)
        self.kept: list[_Kept] = []

    def twin(self, record: Record, mine: _Kept, keep_in_group: bool, ctx: DataContext) -> _Kept | None:
        """The first kept row that ``record`` nearly equals; if there is none, ``record`` is taken in."""
        from agentft.data.shingles import shingles, signature

        hashes = shingles(spoken(record))
        minhash: Any = signature(hashes)
        contrast = False
        for number in self.index.similar(hashes, minhash):
            other = self.kept[number]
            if keep_in_group and other.group == mine.group:
                continue
            if other.label == mine.label:
                return other
            contrast = True
        if contrast:
            ctx.change("near-duplicate with another label, kept")
        self.index.add(hashes, minhash)
        self.kept.append(mine)
        return None
