"""One comparison of the base model with the tuned one, read from its record and ready to be shown."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agentft.report import plain

# Each verdict has a sign and a word besides its colour, so that it survives black-and-white print and colour blindness.
SIGNS = {"better": "✓", "worse": "✗", "inconclusive": "?", "info": "·"}
WORDS = {"better": "better", "worse": "worse", "inconclusive": "unclear", "info": "for information"}
FEW_PROMPTS = 30
_PROPER = {"rouge": "ROUGE", "rouge-l": "ROUGE-L", "rouge-1": "ROUGE-1", "rouge-2": "ROUGE-2", "bleu": "BLEU", "chrf": "chrF"}


@dataclass(frozen=True)
class Effect:
    """A metric of the base model and of the tuned model on the same prompts.

    Attributes:
        difference: tuned minus base, in ``unit``; not turned round for metrics where less is better.
        ci: 95 % interval of the difference.
        verdict: ``better``, ``worse``, ``inconclusive`` or ``info`` (the metric has no good direction).
        direction: ``higher``, ``lower`` or ``none``: which way is better.
        smallest_detectable: size of the difference that this number of prompts would have shown reliably.
        overall: figures of base and tuned over everything that each was scored on (of a corpus, for BLEU and the like),
            where ``base`` and ``tuned`` are means over the prompts that both were scored on.
    """

    name: str
    summary: str
    unit: str
    direction: str
    base: float | None
    tuned: float | None
    difference: float | None
    ci: tuple[float, float] | None
    base_ci: tuple[float, float] | None
    tuned_ci: tuple[float, float] | None
    n: int
    unscored_base: int
    unscored_tuned: int
    p: float | None
    adjusted_p: float | None
    smallest_detectable: float | None
    verdict: str
    overall: tuple[float, float] | None

    @classmethod
    def read(cls, record: Mapping[str, Any]) -> Effect:
        """From a comparison record; whatever is missing in it becomes None, 0 or empty."""
        base, tuned = plain.number(record.get("base")), plain.number(record.get("tuned"))
        difference, ci = plain.number(record.get("difference")), plain.pair(record.get("ci"))
        if difference is None and base is not None and tuned is not None:
            difference = tuned - base
        direction = plain.string(record.get("direction"), "none")
        given = record.get("verdict")
        return cls(
            name=plain.printable(plain.string(record.get("name"), "unnamed")),
            summary=plain.string(record.get("summary")),
            unit=plain.string(record.get("unit")),
            direction=direction,
            base=base,
            tuned=tuned,
            difference=difference,
            ci=ci,
            base_ci=plain.pair(record.get("base_ci")),
            tuned_ci=plain.pair(record.get("tuned_ci")),
            n=int(plain.number(record.get("n")) or 0),
            unscored_base=int(plain.number(record.get("unscored_base")) or 0),
            unscored_tuned=int(plain.number(record.get("unscored_tuned")) or 0),
            p=plain.number(record.get("p")),
            adjusted_p=plain.number(record.get("adjusted_p")),
            smallest_detectable=plain.number(record.get("smallest_detectable")),
            verdict=given if given in SIGNS and (difference is not None or given == "info") else _verdict(difference, ci, direction),
            overall=plain.both(record.get("base_value"), record.get("tuned_value")),
        )

    @property
    def measured(self) -> bool:
        """True when there is a difference to speak about."""
        return self.difference is not None

    @property
    def bounded(self) -> bool:
        """True for shares and for metrics on a 0-100 scale, which can share an axis."""
        return self.unit in ("share", "points")

    @property
    def scale(self) -> float:
        """Factor from ``unit`` to 0-100."""
        return 100.0 if self.unit == "share" else 1.0

    @property
    def sign(self) -> str:
        return SIGNS[self.verdict]

    @property
    def word(self) -> str:
        if not self.measured:
            return "base only" if self.base is not None else "not measured"
        return "no interval" if self.verdict == "info" and self.direction in ("higher", "lower") else WORDS[self.verdict]

    @property
    def label(self) -> str:
        """``Persona adherence``, ``Relevance (facts)``: the name for a reader who does not know the code's names."""
        return self.phrase[:1].upper() + self.phrase[1:] if not self.phrase.startswith("chrF") else self.phrase

    @property
    def phrase(self) -> str:
        """The name inside a sentence: ``persona adherence``, ``ROUGE-L``."""
        known = _PROPER.get(self.name)
        # "distinct-2" keeps its hyphen, "stop-rate" is two words.
        metric, _, part = re.sub(r"[-_](?=\w{2})", " ", self.name).strip().partition("/")
        return known or (f"{metric} ({part})" if part else metric)

    @property
    def item(self) -> str:
        """The part after the last slash: the checklist item of ``persona-adherence/ITEM``."""
        return self.name.rpartition("/")[2]

    @property
    def base_text(self) -> str:
        return plain.amount(self.base, self.unit)

    @property
    def tuned_text(self) -> str:
        return plain.amount(self.tuned, self.unit)

    @property
    def difference_text(self) -> str:
        return plain.change(self.difference, self.unit)

    @property
    def ci_text(self) -> str:
        return plain.interval(self.ci, self.unit, signed=True)

    @property
    def base_ci_text(self) -> str:
        return plain.interval(self.base_ci, self.unit)

    @property
    def direction_text(self) -> str:
        return {"higher": "more is better", "lower": "less is better"}.get(self.direction, "neither way is better")

    @property
    def p_text(self) -> str:
        p = self.p if self.adjusted_p is None else self.adjusted_p
        if p is None:
            return plain.ABSENT
        return "< 0.001" if p < 0.001 else f"{p:.3f}"

    @property
    def detectable_text(self) -> str:
        return plain.change(self.smallest_detectable, self.unit).lstrip("+") if self.smallest_detectable is not None else plain.ABSENT

    @property
    def overall_text(self) -> str:
        """``2.1 → 9.9`` where the figures over everything differ from the paired means, else an empty string."""
        if self.overall is None:
            return ""
        shown = tuple(plain.amount(value, self.unit) for value in self.overall)
        return "" if shown == (self.base_text, self.tuned_text) else " → ".join(shown)

    @property
    def overall_base_text(self) -> str:
        """Figure of the base arm over everything that it was scored on."""
        return plain.amount(self.overall[0], self.unit) if self.overall else self.base_text

    @property
    def overall_tuned_text(self) -> str:
        return plain.amount(self.overall[1], self.unit) if self.overall else self.tuned_text

    @property
    def unscored_text(self) -> str:
        """``3 base, 1 tuned`` or an empty string: answers that should have been scored and could not be."""
        parts = [f"{n} {who}" for n, who in ((self.unscored_base, "base"), (self.unscored_tuned, "tuned")) if n]
        return ", ".join(parts)


def _verdict(difference: float | None, ci: tuple[float, float] | None, direction: str) -> str:
    """Without a verdict in the record: better or worse only where the interval excludes zero."""
    if direction not in ("higher", "lower"):
        return "info"
    if difference is None or ci is None or ci[0] <= 0 <= ci[1]:
        return "inconclusive"
    return "better" if (ci[0] > 0) == (direction == "higher") else "worse"


def read_all(records: Any) -> list[Effect]:
    """Every comparison in a list of records."""
    return [Effect.read(record) for record in plain.rows(records)]


def split(data: Mapping[str, Any]) -> tuple[list[Effect], list[Effect]]:
    """The metrics and the checklist items of a run; items that also stand among the comparisons are not shown twice."""
    effects, items = read_all(data.get("comparisons")), read_all(data.get("items"))
    items = items or [effect for effect in effects if effect.name.startswith("persona-adherence/")]
    names = {item.name for item in items}
    return [effect for effect in effects if effect.name not in names], items


def headline(data: Mapping[str, Any], effects: list[Effect]) -> tuple[list[Effect], list[str]]:
    """The comparisons to show large, in the order asked for, and the asked-for names that were not measured.

    Without a wish: persona adherence and relevance where they exist, else the first two that have a direction.
    """
    known = {effect.name: effect for effect in effects}
    alone = base_only(effects)
    measured = {name for name, effect in known.items() if effect.measured or (alone and effect.base is not None)}
    wanted = list(dict.fromkeys(plain.strings(data.get("headline"))))
    if wanted:
        return [known[name] for name in wanted if name in measured], [name for name in wanted if name not in measured]
    usual = [effect for effect in effects if effect.name == "persona-adherence" or effect.name.partition("/")[0] == "relevance"]
    rest = [effect for effect in effects if effect.direction in ("higher", "lower")]
    return [effect for effect in (usual or rest) if effect.name in measured][: 3 if usual else 2], []


def base_only(effects: list[Effect]) -> bool:
    """True for a run that tuned nothing: figures of the base model and none to compare them with."""
    some = any(effect.base is not None for effect in effects)
    return some and all(effect.tuned is None and effect.verdict == "info" for effect in effects)
