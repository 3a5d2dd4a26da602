"""Texts that are nearly the same: shingles, MinHash signatures, and an index that verifies what it finds.

Jaccard similarity: shingles in common over shingles in all (Broder 1997). MinHash with locality-sensitive hashing (datasketch)
finds candidates; the similarity itself is then computed exactly, so nothing is taken for a duplicate by chance.
"""

from __future__ import annotations

import re
import zlib
from array import array
from collections.abc import Iterator
from functools import cache
from tempfile import TemporaryFile
from typing import Any

from agentft.text import CJK

_RUNS = re.compile(f"[{CJK}]+|[^{CJK}]+")
_WORD = re.compile(r"\w")
PERMUTATIONS = 128


def shingles(text: str) -> set[int]:
    """Hashes (32 bits) of the shingles of ``text``, without case and with single blanks.

    Runs of CJK characters give pairs of characters, everything else runs of five: Chinese words are one to three characters
    long, so that longer shingles would miss short duplicates. A run that is shorter is a shingle as a whole. Never empty.
    """
    flat = " ".join(text.lower().split())
    found = set()
    for run in _RUNS.findall(flat):
        size = 2 if run[0] >= "\u2e80" and re.match(f"[{CJK}]", run) else 5
        if size == 5 and not _WORD.search(run):
            continue  # punctuation between Chinese words
        found |= {run[i : i + size] for i in range(max(1, len(run) - size + 1))}
    return {zlib.crc32(one.encode("utf-8", "surrogatepass")) for one in found or {flat}}


def jaccard(left: set[int], right: set[int]) -> float:
    """Share of the shingles that both have, 0..1."""
    common = len(left & right)
    return common / (len(left) + len(right) - common)


@cache
def _blank() -> Any:
    from datasketch import MinHash

    return MinHash(PERMUTATIONS, seed=1, hashfunc=int)


def signature(hashes: set[int]) -> Any:
    """MinHash of shingle hashes; the same for the same shingles on every machine."""
    minhash = _blank().copy()  # drawing the permutations anew would take longer than everything else
    minhash.update_batch(hashes)
    return minhash


class NearDuplicates:
    """An index of texts by their shingles: ``similar`` asks, ``add`` takes in.

    In memory stand signatures only; the shingles of what was taken in, needed to verify, lie in a temporary file.

    Args:
        threshold: least Jaccard similarity of what counts as nearly the same, above 0 to 1.
    """

    def __init__(self, threshold: float):
        from datasketch import MinHashLSH

        self.threshold = threshold
        # A missed duplicate cannot be had back, a false candidate is found out: recall counts for more.
        self._index = MinHashLSH(threshold=threshold, num_perm=PERMUTATIONS, weights=(0.2, 0.8))
        self._file = TemporaryFile()  # noqa: SIM115 (it lives as long as the index)
        self._places = array("Q", [0])

    def similar(self, hashes: set[int], minhash: Any) -> Iterator[int]:
        """Numbers (0, 1 ... in the order of ``add``) of texts at least as similar as the threshold, lowest first."""
        for number in sorted(self._index.query(minhash)):
            # Two sets whose sizes are too different cannot be similar enough: no need to read.
            size = (self._places[number + 1] - self._places[number]) // 4
            if min(size, len(hashes)) >= self.threshold * max(size, len(hashes)) and self._verified(number, hashes):
                yield number

    def _verified(self, number: int, hashes: set[int]) -> bool:
        self._file.seek(self._places[number])
        stored = array("I")
        stored.frombytes(self._file.read(self._places[number + 1] - self._places[number]))
        return jaccard(set(stored), hashes) >= self.threshold

    def add(self, hashes: set[int], minhash: Any) -> int:
        """Take a text in; returns its number."""
        number = len(self._places) - 1
        self._index.insert(number, minhash, check_duplication=False)
        self._file.seek(self._places[number])
        self._places.append(self._places[number] + self._file.write(array("I", sorted(hashes)).tobytes()))
        return number
