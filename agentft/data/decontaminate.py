"""The transform ``decontaminate``: drop training rows that share text with rows that will be evaluated on.

A row counts as seen when it shares a run of n words with a held-out row, as in Brown et al. 2020 (GPT-3, appendix C), where n was 8 to 13.
"""

from __future__ import annotations

import hashlib
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator

from pydantic import Field

from agentft import text as text_tools
from agentft.contracts import DataContext
from agentft.labelled import Labelled, Record
from agentft.validation import Model


class DecontaminateConfig(Model):
    """Options of the transform ``decontaminate``."""

    ngram: int = Field(8, ge=1, description="length of a shared run of words; texts with fewer words are compared as a whole")
    ngram_chinese: int = Field(13, ge=1, description="the same for Chinese texts, in characters")
    share: float = Field(0.0, ge=0, le=1, description="least share of a row's runs that held-out rows have too; 0: a single one is enough")


def decontaminate(records: Iterable[Record], config: DecontaminateConfig | None, ctx: DataContext) -> Iterator[Record]:
    """Drop rows that share text with a row of ``ctx.held_out()``.

    Of a conversation only what the user says is compared: an agent's answers repeat themselves, and a stock phrase is no leak.
    Held in memory: one hash for each run of words of the held-out rows. ``ctx.notes`` has the number of held-out rows and, under
    ``seen``, the held-out rows that most training rows were dropped for.
    """
    config = config or DecontaminateConfig.model_validate({})
    names: list[str] = []
    owners: dict[bytes, int] = {}
    for number, row in enumerate(ctx.held_out()):
        names.append(row.id)
        for key in _runs(row, config):
            owners.setdefault(key, number)
    seen: Counter[str] = Counter()
    ctx.notes["held_out_rows"] = len(names)
    for record in records:
        keys = _runs(record, config)
        hits = array("Q", (owners[key] for key in keys if key in owners))
        if hits and len(hits) >= config.share * len(keys):
            name = names[Counter(hits).most_common(1)[0][0]]
            seen[name] += 1
            ctx.drop("shares text with a held-out row", f"{record.id}, like {name}")
        else:
            yield record
    ctx.notes["seen"] = dict(seen.most_common(20))


def _runs(record: Record, config: DecontaminateConfig) -> set[bytes]:
    """Hashes of all runs of n words of the row's texts; the whole text where it is shorter than that."""
    found: set[bytes] = set()
    short: list[str] = []
    for text in _texts(record):
        words = [word.lower() for word in text_tools.words(text)]
        size = config.ngram_chinese if text_tools.is_chinese(text) else config.ngram
        if len(words) < size:
            short += words
        else:
            found |= {_hash(words[i : i + size]) for i in range(len(words) - size + 1)}
    # "Yes, please" says nothing by itself: short texts count only where the row has nothing longer, and all of them together.
    return found or ({_hash(["", *short])} if short else set())


def _texts(record: Record) -> list[str]:
    if isinstance(record, Labelled):
        return [value if isinstance(value, str) else " ".join(value) for value in record.inputs.values()]
    return [message.content for message in record.messages if message.role == "user"]


def _hash(words: list[str]) -> bytes:
    return hashlib.blake2b("\x1f".join(words).encode("utf-8", "surrogatepass"), digest_size=8).digest()
