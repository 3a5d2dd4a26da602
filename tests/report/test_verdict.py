"""The result in words claims what the numbers carry, no more and no less."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentft.report import render_report, summary_text
from agentft.report.effects import Effect


def one(name: str = "persona-adherence", base: float = 0.6, tuned: float = 0.8, half: float = 0.05, **more: Any) -> dict[str, Any]:
    """A comparison record without a verdict of its own, so that it follows from the interval."""
    return {
        "name": name, "base": base, "tuned": tuned, "difference": tuned - base, "ci": [tuned - base - half, tuned - base + half],
        "n": 126, "unscored_base": 0, "unscored_tuned": 0, "smallest_detectable": 0.07, "direction": "higher", "unit": "share", **more,
    }  # fmt: skip


def said(*comparisons: dict[str, Any], **more: Any) -> str:
    """The summary with its line breaks undone."""
    return " ".join(summary_text({"title": "run", "comparisons": list(comparisons), **more}).split())


def test_better() -> None:
    text = said(one())
    assert "Better than the base model On 126 held-out prompts" in text
    assert "met 80.0 % of the persona's checklist; the base model, with the same instructions, 60.0 %" in text
    assert "20.0 percentage points higher, which is better (95 % interval +15.0 to +25.0)" in text
    assert "✓ persona-adherence 60.0 % -> 80.0 % +20.0 pp [+15.0, +25.0] n=126 better" in text


def test_worse() -> None:
    text = said(one(base=0.8, tuned=0.6))
    assert "Worse than the base model" in text and "20.0 percentage points lower, which is worse" in text
    assert "etter" not in text


def test_inconclusive_names_what_could_have_been_seen() -> None:
    text = said(one(tuned=0.62))
    assert "No clear difference" in text and "+2.0 pp (95 % interval −3.0 to +7.0) may be chance" in text
    assert "Only a difference of about 7.0 percentage points or more would have shown reliably" in text
    assert "better" not in text and "worse" not in text


def test_less_can_be_better() -> None:
    text = said(one("perplexity", 20.0, 12.0, 1.0, direction="lower", unit=""), headline=["perplexity"])
    assert "8.00 lower, which is better (95 % interval −9.00 to −7.00)" in text


def test_mixed() -> None:
    text = said(one(), one("relevance/facts", 0.7, 0.5))
    assert "Mixed: better in one thing, worse in another" in text


def test_a_setback_outside_of_the_headline_is_named() -> None:
    text = said(one(), one("distinct-2", 0.7, 0.5), one("rouge-l", 20, 30, 2, unit="points"), headline=["persona-adherence"])
    assert "Better than the base model, though not in everything" in text
    assert "Got worse: distinct-2. Better: ROUGE-L." in text


def test_a_hard_item_that_got_worse_is_named() -> None:
    policies = {"persona": {"policies": [{"id": "no-secrets", "severity": "hard"}]}}
    text = said(one(), items=[one("persona-adherence/no-secrets", 0.99, 0.8)], recipe=policies)
    assert "though not in everything" in text and "Checklist items that got worse: no-secrets (a hard item)." in text


def test_few_prompts_are_called_few() -> None:
    assert "With only 12 prompts, take these figures as a first impression" in said(one(n=12))
    assert "first impression" not in said(one(n=30))


def test_unscored_answers_are_counted_not_zeroed() -> None:
    text = said(one(unscored_tuned=9))
    assert "could not be scored are left out of the figures, not counted as zero: persona adherence 9 tuned" in text


def test_nothing_measured() -> None:
    assert "has not been compared with the base model" in said() and "Not measured" in said()
    gone = one() | {"base": math.nan, "tuned": None, "difference": None, "ci": None, "n": 0}
    text = said(gone, headline=["persona-adherence", "relevance/facts"])
    assert "None of the main measures could be computed" in text and "Not measured: persona-adherence and relevance/facts." in text


def test_a_run_that_is_not_complete_says_so_first() -> None:
    text = said(one(), status="interrupted")
    assert text.index("This run is not complete (status: interrupted)") < text.index("held-out prompts")
    assert "not complete" not in said(one(), status="complete")


def test_a_metric_without_a_direction_is_neither_good_nor_bad() -> None:
    text = said(one("length", 84.0, 48.0, 6.0, direction="none", unit="words"), headline=["length"])
    assert "−36.0 words" in text and "neither good nor bad in itself" in text and "etter" not in text


def test_one_figure_for_a_corpus_proves_nothing() -> None:
    text = said(one("bleu", 2.0, 9.0, ci=None, unit="points", verdict="info", n=0), headline=["bleu"])
    assert "No interval could be computed for the change of +7.0" in text and "Better than" not in text
    assert "number of held-out prompts" not in text and "0 held-out" not in text


def test_a_verdict_of_the_record_wins() -> None:
    # The interval excludes zero, but not after the adjustment for many comparisons.
    assert "No clear difference" in said(one(verdict="inconclusive"))


def test_warnings_stand_at_the_end() -> None:
    assert said(one(), warnings=["22 answers were cut off."]).endswith("! 22 answers were cut off.")


@settings(deadline=None)
@given(
    st.floats(-1, 1) | st.just(math.nan), st.floats(-1, 1) | st.none(), st.floats(-1, 1), st.floats(-1, 1),
    st.sampled_from(["higher", "lower", "none"]), st.sampled_from(["share", "points", "words", ""]),
)  # fmt: skip
def test_never_better_when_the_interval_holds_zero(base: float, tuned: float, low: float, high: float, direction: str, unit: str) -> None:
    record = {"name": "m", "base": base, "tuned": tuned, "ci": [low, high], "n": 50, "direction": direction, "unit": unit}
    effect = Effect.read(record)
    text = said(record, headline=["m"])
    if min(low, high) <= 0 <= max(low, high) or direction == "none" or not effect.measured:
        assert effect.verdict in ("inconclusive", "info")
        assert "etter than" not in text and "orse than" not in text
    else:
        assert effect.verdict == ("better" if (min(low, high) > 0) == (direction == "higher") else "worse")


def test_page_and_terminal_say_the_same(run_data: dict[str, Any]) -> None:
    html = render_report(run_data).replace("\u00a0", " ").replace("&#39;", "'")
    text = " ".join(summary_text(run_data).split())
    for sentence in ("That is 25.9 percentage points higher, which is better", "The difference of +2.8 pp", "Got worse: distinct-2."):
        assert sentence in html and sentence in text


def test_lines_fit_a_terminal(run_data: dict[str, Any]) -> None:
    lines = summary_text(run_data).splitlines()
    assert max(len(line) for line in lines) <= 88
    assert not any("\u00a0" in line for line in lines)


def test_the_terminal_says_what_became_of_the_rounds() -> None:
    rounds = [{"round": 1, "state": "promoted", "sentence": "all 9 conditions hold"}, {"round": 2, "state": ""}]
    text = said(rounds=rounds)
    assert "round 1 promoted: all 9 conditions hold" in text and "round 2" not in text


@pytest.mark.parametrize("rounds", [[{"state": "rejected"}, 3], None, "x"])
def test_holes_in_rounds_are_no_reason_to_fail(rounds: Any) -> None:
    assert summary_text({"rounds": rounds}).endswith("\n")


@pytest.mark.parametrize("data", [{}, {"comparisons": None, "warnings": "one"}, {"comparisons": [{}], "status": None}])
def test_holes_are_no_reason_to_fail(data: dict[str, Any]) -> None:
    assert summary_text(data).endswith("\n")
