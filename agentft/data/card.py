"""The data card: what a training set is made of, and what in it may bias a model."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from random import Random
from typing import Any

from agentft.data.dedup import digest, spoken
from agentft.data.language import language
from agentft.data.pii_patterns import find
from agentft.labelled import Labelled, Record
from agentft.text import words

SAMPLE = 5000
NEAR = 0.8  # least Jaccard similarity of near-duplicates
_NAMES = 1000  # so many classes and groups are told apart; memory stays flat
_QUANTILES = {"min": 0.0, "p5": 0.05, "median": 0.5, "p95": 0.95, "max": 1.0}


@dataclass(frozen=True)
class _Seen:
    """What the sample keeps of a row."""

    words: int
    text: str
    label: str | None


@dataclass
class _Lengths:
    """Count, sum and sum of squares of lengths: enough for means and variances."""

    n: int = 0
    total: float = 0.0
    squares: float = 0.0

    def add(self, value: float) -> None:
        self.n, self.total, self.squares = self.n + 1, self.total + value, self.squares + value * value

    @property
    def mean(self) -> float:
        return self.total / self.n if self.n else math.nan


@dataclass
class Card:
    """Collects a data card row by row: :meth:`add` each record, then :meth:`to_dict`.

    In memory stand counters, a hash of each distinct row (8 bytes), and a seeded sample of at most 5,000 texts, from which
    quantiles of length, languages and the share of near-duplicates are estimated. Everything else is exact.

    Attributes:
        seed: of the sample.
    """

    seed: int = 0
    rows: int = 0
    _sample: list[_Seen] = field(default_factory=list)
    _digests: set[bytes] = field(default_factory=set)
    _duplicates: int = 0
    _labels: Counter[str] = field(default_factory=Counter)
    _of: str = ""
    _by_label: dict[str, _Lengths] = field(default_factory=lambda: defaultdict(_Lengths))
    _all: _Lengths = field(default_factory=_Lengths)
    _numbers: list[float] = field(default_factory=list)
    _groups: Counter[str] = field(default_factory=Counter)
    _pii: Counter[str] = field(default_factory=Counter)
    _pii_rows: int = 0
    _augmented: int = 0
    _weights: Weights = field(default_factory=lambda: Weights())
    _crowded: bool = False

    def __post_init__(self) -> None:
        self._rng = Random(f"{self.seed}:card")

    def add(self, record: Record) -> None:
        """Take a record into account."""
        self.rows += 1
        text = spoken(record)
        count = len(words(text))
        label = self._label(record)
        self._all.add(count)
        if label is not None and (label in self._by_label or len(self._by_label) < _NAMES):
            self._by_label[label].add(count)
        key = digest(record)[:8]
        self._duplicates += key in self._digests
        self._digests.add(key)
        self._crowded |= not _count(self._groups, record.group_key)
        found = find(text)
        self._pii.update(one.kind for one in found)
        self._pii_rows += bool(found)
        self._augmented += "augmented" in record.meta
        if not isinstance(record, Labelled):
            for message in record.messages:
                if message.supervised:
                    self._weights.add(message.weight)
        place = self.rows - 1 if self.rows <= SAMPLE else self._rng.randrange(self.rows)  # Vitter's algorithm R
        if place < SAMPLE:
            seen = _Seen(count, text[:4000], label)
            if place < len(self._sample):
                self._sample[place] = seen
            else:
                self._sample.append(seen)

    def _label(self, record: Record) -> str | None:
        """Counts classes, tags or answers; returns the class of a row that has exactly one."""
        if not isinstance(record, Labelled):
            intent = record.meta.get("intent")
            if intent is None:
                return None
            self._of = "meta.intent"
            self._labels[str(intent)] += 1
            return str(intent)
        label = record.label
        if label is None:
            return None
        if "context" in record.inputs:
            self._of = "spans"
            self._labels["with an answer" if label else "without an answer"] += 1
            return None
        if isinstance(label, list | tuple):
            self._of = "tags" if "tokens" in record.inputs else "classes"
            self._labels.update(str(one) for one in label)
            return None
        if isinstance(label, float):
            self._of = "numbers"
            self._numbers = [*(self._numbers or (label, label)), label]
            self._numbers = [min(self._numbers), max(self._numbers)]
            return None
        self._of = "classes"
        self._labels[str(label)] += 1
        return str(label)

    def to_dict(self) -> dict[str, Any]:
        """The card as JSON data; shares are 0..1.

        Keys: ``rows``, ``sample`` (rows that estimates come from), ``words`` (mean and quantiles), ``languages`` (shares of the sample;
        ``not sure`` for short texts), ``labels`` (``of``, ``counts``, ``imbalance`` = largest / smallest, ``entropy`` = normalised, 1 when
        all are equally frequent), ``groups``, ``duplicates`` (``exact``: share of rows that repeat an earlier one, ``near``: the same
        in the sample, at a Jaccard similarity of 0.8), ``pii`` (pieces by type, share of rows), ``augmented`` (rows), ``weights``
        (weight -> answers, only where one is not 1), ``notes``.
        """
        if not self.rows:
            return {"rows": 0, "notes": ["There is no row."]}
        tongues = [language(one.text) or "not sure" for one in self._sample]
        card: dict[str, Any] = {
            "rows": self.rows,
            "sample": len(self._sample),
            "words": self._words(),
            "languages": {name: n / len(tongues) for name, n in Counter(tongues).most_common()},
            "labels": self._label_facts(),
            "groups": {"distinct": f"more than {_NAMES}" if self._crowded else len(self._groups)},
            "duplicates": {"exact": self._duplicates / self.rows, "near": self._near(), "threshold": NEAR},
            "pii": {"pieces": dict(self._pii.most_common()), "rows": self._pii_rows / self.rows},
            "augmented": self._augmented,
        }
        if weights := self._weights.to_dict():
            card["weights"] = weights
        return card | {"notes": self._notes(card, tongues)}

    def _words(self) -> dict[str, float]:
        lengths = sorted(one.words for one in self._sample)
        picked = {name: lengths[round(share * (len(lengths) - 1))] for name, share in _QUANTILES.items()}
        return {"mean": round(self._all.mean, 1), **picked}

    def _label_facts(self) -> dict[str, Any]:
        if self._of == "numbers":
            return {"of": "numbers", "min": self._numbers[0], "max": self._numbers[1]}
        if not self._labels:
            return {}
        return {
            "of": self._of,
            "distinct": len(self._labels),
            "counts": dict(self._labels.most_common(_NAMES)),
            "imbalance": round(max(self._labels.values()) / min(self._labels.values()), 2),
            "entropy": round(entropy(self._labels), 4),
        }

    def _near(self) -> float:
        from agentft.data.shingles import NearDuplicates, shingles, signature

        index, repeated = NearDuplicates(NEAR), 0
        for one in self._sample:
            hashes = shingles(one.text)
            minhash = signature(hashes)
            if next(index.similar(hashes, minhash), None) is not None:
                repeated += 1
            else:
                index.add(hashes, minhash)
        return repeated / len(self._sample)

    def _notes(self, card: dict[str, Any], tongues: list[str]) -> list[str]:
        notes = []
        counts = card["labels"].get("counts", {})
        total = sum(counts.values())
        if self._of in ("classes", "meta.intent") and 2 <= len(counts) <= 20:
            notes += [f"Class '{name}' has {n} of {total} rows, under 5 %." for name, n in counts.items() if n < 0.05 * total]
        elif self._of in ("classes", "meta.intent") and card["labels"]["imbalance"] >= 10:
            notes.append(f"The largest class is {card['labels']['imbalance']:g} times as large as the smallest.")
        notes += self._length_notes()
        notes += _language_notes(self._sample, tongues)
        notes += [
            f"Group '{name}' holds {n / self.rows:.0%} of the rows."
            for name, n in self._groups.most_common(3)
            if n > 0.2 * self.rows and 1 < n < self.rows
        ]
        if max(card["duplicates"]["exact"], card["duplicates"]["near"]) > 0.1:
            notes.append("Over a tenth of the rows repeat others; the transform dedup takes them out.")
        if self._pii_rows:
            notes.append(f"{self._pii_rows} rows seem to hold personal data ({', '.join(self._pii)}); the transform pii replaces them.")
        return notes

    def _length_notes(self) -> list[str]:
        """Whether length tells the class: eta squared, the share of the variance of length that lies between classes (Cohen 1988)."""
        known = {name: one for name, one in self._by_label.items() if one.n >= 5}
        rows = sum(one.n for one in known.values())
        if len(known) < 2:
            return []
        mean = sum(one.total for one in known.values()) / rows
        between = sum(one.n * (one.mean - mean) ** 2 for one in known.values())
        within = sum(one.squares - one.n * one.mean**2 for one in known.values())
        # By chance alone the classes would have (classes - 1) / (rows - 1) of the variance.
        eta = between / (between + within) if between + within > 0 else 0.0
        if eta - (len(known) - 1) / (rows - 1) < 0.25:
            return []
        short, long = min(known, key=lambda name: known[name].mean), max(known, key=lambda name: known[name].mean)
        return [
            f"Length tells the class: it explains {eta:.0%} of it ('{short}' {known[short].mean:.0f} words on average, "
            f"'{long}' {known[long].mean:.0f}). A model may learn length instead of meaning."
        ]


class Weights:
    """Counts how often each weight of a message is seen; weights are told apart by three digits, so that memory stays flat."""

    def __init__(self) -> None:
        self.counts: Counter[float] = Counter()

    def add(self, weight: float, times: int = 1) -> None:
        self.counts[float(f"{weight:.3g}")] += times

    def to_dict(self) -> dict[str, int]:
        """Weight -> count, by rising weight, as ``about 0.5`` where there are more than a dozen; empty where all weights are 1."""
        if not set(self.counts) - {1.0}:
            return {}
        table: Counter[str] = Counter()
        for weight, count in sorted(self.counts.items()):
            table[f"{weight:g}" if len(self.counts) <= 12 else f"about {weight:.1g}"] += count
        return dict(table)


def entropy(counts: Counter[str]) -> float:
    """Shannon entropy of the classes over the logarithm of their number: 1 when all are equally frequent, 0 for a single class."""
    total = counts.total()
    if len(counts) < 2:
        return 0.0
    return -sum(n / total * math.log(n / total) for n in counts.values() if n) / math.log(len(counts))


def _count(counter: Counter[str], name: str) -> bool:
    """Misra and Gries 1982: exact up to 1,000 names; beyond, counts fall short by at most a thousandth of the rows. False: no room."""
    if name in counter or len(counter) < _NAMES:
        counter[name] += 1
        return True
    for other in list(counter):
        counter[other] -= 1
        if not counter[other]:
            del counter[other]
    return False


def _language_notes(sample: list[_Seen], tongues: list[str]) -> list[str]:
    """Classes nearly all of whose rows are in a language that is not that of most rows."""
    pairs = [(one.label, tongue) for one, tongue in zip(sample, tongues, strict=True) if one.label is not None and tongue != "not sure"]
    overall, by_label = Counter(tongue for _, tongue in pairs), Counter(label for label, _ in pairs)
    notes = []
    for (label, tongue), n in sorted(Counter(pairs).items(), key=lambda item: (-item[1], str(item[0]))):
        if by_label[label] >= 10 and n >= 0.9 * by_label[label] and overall[tongue] <= 0.6 * len(pairs) and len(by_label) > 1:
            share = overall[tongue] / len(pairs)
            notes.append(f"Class '{label}' is tied to language {tongue}: {n / by_label[label]:.0%} of its rows, {share:.0%} of all.")
    return notes[:10]


def card_text(card: dict[str, Any]) -> str:
    """A card (:meth:`Card.to_dict`) for the terminal, a dozen lines."""
    if not card["rows"]:
        return "rows        0"
    spread, near = card["words"], card["duplicates"]
    lines = [
        f"rows        {card['rows']}" + (f" ({card['augmented']} of them copies)" if card["augmented"] else ""),
        f"words       mean {spread['mean']}, " + ", ".join(f"{name} {spread[name]}" for name in _QUANTILES),
        "languages   " + ", ".join(f"{name} {share:.0%}" for name, share in card["languages"].items()),
    ]
    labels = card["labels"]
    if labels.get("of") == "numbers":
        lines.append(f"labels      numbers from {labels['min']:g} to {labels['max']:g}")
    elif labels:
        most = ", ".join(f"{name} {n}" for name, n in list(labels["counts"].items())[:6])
        more = labels["distinct"] - 6
        lines.append(f"labels      {labels['of']}: {most}" + (f" and {more} more" if more > 0 else ""))
        lines.append(f"            largest / smallest {labels['imbalance']:g}, entropy {labels['entropy']:.2f} of 1")
    lines.append(f"duplicates  {near['exact']:.1%} exact, {near['near']:.1%} nearly the same (of {card['sample']} rows)")
    pieces = ", ".join(f"{n} {kind}" for kind, n in card["pii"]["pieces"].items())
    lines.append(f"personal    {pieces or 'none found'}")
    if card.get("weights"):
        lines.append("weights     " + ", ".join(f"{weight} for {n} answers" for weight, n in card["weights"].items()))
    return "\n".join([*lines, *(f"note        {note}" for note in card["notes"])])
