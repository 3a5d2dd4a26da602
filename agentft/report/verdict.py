"""The result in plain sentences, made from the numbers; for the top of the page and for the terminal.

The sentences claim no more than the numbers carry: a difference whose interval holds zero is called unclear together
with the size of effect that could have been seen, a metric that got worse is named even when the main one rose, few
prompts are called few, and answers that could not be scored are counted.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agentft.report import plain
from agentft.report.effects import FEW_PROMPTS, Effect, base_only, headline, split
from agentft.report.naming import names_of

TITLES = {
    "better": "Better than the base model",
    "worse": "Worse than the base model",
    "mixed": "Mixed: better in one thing, worse in another",
    "inconclusive": "No clear difference",
    "unmeasured": "Not measured",
    "alone": "The base model alone: nothing was tuned",
}
FINISHED = ("", "complete", "completed", "done", "finished", "ok", "success", "succeeded")


@dataclass(frozen=True)
class Outcome:
    """What the numbers say.

    Attributes:
        kind: a key of :data:`TITLES`.
        title: the outcome in a few words.
        sentences: the headline measures, one or two sentences each.
        remarks: the other measures, what got worse, few prompts, unscored answers.
        shown: the headline comparisons.
    """

    kind: str
    title: str
    sentences: tuple[str, ...]
    remarks: tuple[str, ...]
    shown: tuple[Effect, ...]


def judge(data: Mapping[str, Any]) -> Outcome:
    """The overall outcome of a run's comparisons."""
    effects, items = split(data)
    shown, missing = headline(data, effects)
    alone = base_only(effects)
    sentences = [_level(effect) if alone else _sentence(effect) for effect in shown]
    if not effects:
        sentences.append("The tuned model has not been compared with the base model, so nothing can be said about its quality yet.")
    elif not shown:
        sentences.append("None of the main measures could be computed, so nothing can be said about the tuned model's quality.")
    status = plain.string(data.get("status"))
    if not finished(status):
        sentences.insert(0, f"This run is not complete (status: {status}); what exists so far is shown.")
    names = {*missing, *(effect.name for effect in shown)}
    rest = [effect for effect in effects if effect.name not in names]
    lost = _lost_items(data, items)
    remarks = [f"Not measured: {_listed(missing)}."] if missing else []
    remarks += [] if alone else _others(rest)
    remarks += [f"Checklist items that got worse: {_listed(lost)}."] if lost else []
    remarks += _caveats(shown)
    kind = "alone" if alone else _kind(shown)
    setback = kind == "better" and (lost or any(effect.verdict == "worse" for effect in rest))
    title = TITLES[kind] + (", though not in everything" if setback else "")
    spoken = names_of(data).spoken
    return Outcome(kind, spoken(title), tuple(map(spoken, sentences)), tuple(map(spoken, remarks)), tuple(shown))


def finished(status: str) -> bool:
    """True for the words that mean that nothing is outstanding; an absent status counts as finished."""
    return status.lower() in FINISHED


def _kind(shown: Sequence[Effect]) -> str:
    verdicts = {effect.verdict for effect in shown} - {"info"}
    if not verdicts:
        return "unmeasured"
    if {"better", "worse"} <= verdicts:
        return "mixed"
    return next(kind for kind in ("better", "worse", "inconclusive") if kind in verdicts)


def _level(effect: Effect) -> str:
    if effect.name == "persona-adherence":
        return f"On {_counted(effect.n, 'held-out prompt')}, the base model met {effect.base_text} of the persona's checklist."
    return f"{_named(effect)}: {effect.base_text}{_on_prompts(effect)}."


def _on_prompts(effect: Effect) -> str:
    """Empty for a figure of the whole corpus, which has no value per prompt."""
    return f", on {_counted(effect.n, 'held-out prompt')}" if effect.n else ""


def _named(effect: Effect) -> str:
    return f"{effect.label}, {effect.summary.rstrip('.')}" if effect.summary else effect.label


def _sentence(effect: Effect) -> str:
    base, tuned = effect.base_text, effect.tuned_text
    if effect.name == "persona-adherence":
        levels = (
            f"On {_counted(effect.n, 'held-out prompt')}, the tuned model met {tuned} of the persona's checklist; "
            f"the base model, with the same instructions, {base}."
        )
    else:
        levels = f"{_named(effect)}: {base} before tuning, {tuned} after{_on_prompts(effect)}."
    if effect.overall_text:
        levels += f" The figure itself, over all of them: {effect.overall_text}."
    size = plain.size(effect.difference, effect.unit)
    within = f" (95{plain.NBSP}% interval {effect.ci_text[1:-1].replace(', ', ' to ')})" if effect.ci else ""
    if effect.verdict == "info" and effect.direction in ("higher", "lower"):
        return f"{levels} No interval could be computed for the change of {effect.difference_text}, so it proves nothing by itself."
    if effect.verdict == "info":
        return f"{levels} The change of {effect.difference_text}{within} is neither good nor bad in itself."
    if effect.verdict in ("better", "worse"):
        way = "higher" if (effect.difference or 0) > 0 else "lower"
        return f"{levels} That is {size} {way}, which is {effect.verdict}{within}."
    reach = effect.smallest_detectable
    limit = (
        f" Only a difference of about {plain.size(reach, effect.unit)} or more would have shown reliably with so many prompts."
        if reach
        else ""
    )
    if effect.difference == 0:
        return f"{levels} No difference was found{within}.{limit}"
    return f"{levels} The difference of {effect.difference_text}{within} may be chance.{limit}"


def _others(rest: Sequence[Effect]) -> list[str]:
    """One sentence on the remaining metrics; those that got worse are named, whatever the headline says."""
    worse = [effect.phrase for effect in rest if effect.verdict == "worse" and effect.measured]
    better = [effect.phrase for effect in rest if effect.verdict == "better" and effect.measured]
    open_ = sum(effect.verdict == "inconclusive" and effect.measured for effect in rest)
    failed = [effect.phrase for effect in rest if not effect.measured]
    said = []
    if worse:
        said.append(f"Got worse: {_listed(worse)}.")
    if better:
        said.append(f"{'Also better' if not worse else 'Better'}: {_listed(better)}.")
    if open_:
        said.append(f"No clear change in {_counted(open_, 'further measure')}.")
    if failed:
        said.append(f"Could not be measured: {_listed(failed)}.")
    return said


def _lost_items(data: Mapping[str, Any], items: Sequence[Effect]) -> list[str]:
    policies = plain.rows(plain.mapping(plain.mapping(data.get("recipe")).get("persona")).get("policies"))
    hard = {plain.string(policy.get("id")) for policy in policies if policy.get("severity") == "hard"}
    return [item.item + (" (a hard item)" if item.item in hard else "") for item in items if item.verdict == "worse"]


def _caveats(shown: Sequence[Effect]) -> list[str]:
    said = []
    small = [effect.n for effect in shown if 0 < effect.n < FEW_PROMPTS]
    if small:
        said.append(f"With only {_counted(min(small), 'prompt')}, take these figures as a first impression, not as a measurement.")
    unscored = [f"{effect.phrase} {effect.unscored_text}" for effect in shown if effect.unscored_text]
    if unscored:
        said.append(f"Answers that could not be scored are left out of the figures, not counted as zero: {'; '.join(unscored)}.")
    return said


def _counted(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def _listed(names: Sequence[str], most: int = 8) -> str:
    if len(names) > most:
        return f"{', '.join(names[:most])} and {len(names) - most} more"
    return ", ".join(names[:-1]) + (" and " if len(names) > 1 else "") + names[-1]


def summary_text(data: Mapping[str, Any], width: int = 88) -> str:
    """The headline of a run as plain text for a terminal: title, verdict in words, one line per headline metric, rounds, warnings.

    The same sentences stand at the top of the HTML report. Ends with a newline; never raises on missing parts.
    """
    outcome = judge(data)
    facts = [plain.string(data.get(key)) for key in ("title", "run_id", "status")]
    lines = ["  ".join(fact for fact in facts if fact) or "run", "", outcome.title]
    lines += textwrap.wrap(" ".join([*outcome.sentences, *outcome.remarks]), width, break_long_words=False, break_on_hyphens=False)
    if outcome.shown:
        lines.append("")
        lines += _table([_line(effect) for effect in outcome.shown])
    decided = [one for one in plain.rows(data.get("rounds")) if plain.string(one.get("state"))]
    if decided:
        lines.append("")
    for one in decided:
        words = f"round {plain.integer(one.get('round'))} {plain.string(one.get('state'))}: {plain.string(one.get('sentence'))}"
        lines += textwrap.wrap(words, width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
    for warning in plain.strings(data.get("warnings")):
        lines += textwrap.wrap(f"! {warning}", width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
    return plain.printable("\n".join(lines)).replace(plain.NBSP, " ") + "\n"


def _line(effect: Effect) -> list[str]:
    levels = f"{effect.base_text} -> {effect.tuned_text}" if effect.measured else effect.base_text
    return [
        effect.sign,
        effect.name,
        levels,
        effect.difference_text if effect.measured else "",
        effect.ci_text if effect.ci else "",
        f"n={effect.n}",
        effect.word,
    ]


def _table(lines: list[list[str]]) -> list[str]:
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return ["  " + "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
