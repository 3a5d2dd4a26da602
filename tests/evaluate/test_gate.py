"""The gate promotes what is better, rejects what is worse, and says so when it cannot tell."""

from __future__ import annotations

import math
import random

import pytest

from agentft.evaluate.gate import Condition, Measured, decide
from agentft.recipe_refine import Gate
from agentft.records import Score

PROMPTS = [f"p{n}" for n in range(200)]
GROUPS = {key: f"c{n // 2}" for n, key in enumerate(PROMPTS)}


def score(name: str, values, direction="higher", unit="share", value=None) -> Score:
    per_sample = dict(zip(PROMPTS, values, strict=False))
    mean = sum(per_sample.values()) / len(per_sample)
    return Score(name, mean if value is None else value, len(per_sample), direction, per_sample, unit=unit)


def arm(name: str, shift: float = 0.0, *, n: int = 200, words: float = 30, stop: float = 1.0, distinct: float = 0.3, **more) -> Measured:
    draw = random.Random(1)
    base = [draw.choice([0.6, 0.7, 0.8]) for _ in range(n)]
    noise = random.Random(name)
    scores = [
        score("persona-adherence", [value + shift + noise.uniform(-0.05, 0.05) for value in base]),
        score("length", [words] * n, "none", "words"),
        score("stop-rate", [1.0] * round(stop * n) + [0.0] * (n - round(stop * n))),
        score("distinct-2", [distinct] * n, value=distinct),
        *more.values(),
    ]
    return Measured(name, {one.name: one for one in scores})


def judged(candidate: Measured, champion: Measured | None = None, n: int = 200, **options):
    champion = champion or arm("champion", n=n)
    return decide(champion, [candidate], prompts=PROMPTS[:n], groups=GROUPS, options=Gate.model_validate(options), resamples=2000)[0]


def test_better_is_promoted_worse_is_rejected_and_noise_is_neither():
    good, bad, same = judged(arm("a", 0.05)), judged(arm("b", -0.2)), judged(arm("c", 0.0))
    assert good.state == "promoted" and good.p < 0.001 and good.clusters == 100 and good.n == 200
    assert bad.state == "rejected" and "persona-adherence did not become better: -20" in bad.sentence
    assert same.state == "inconclusive" and "cannot be told apart" in same.sentence and "show differences from" in same.sentence


def test_a_minimum_is_part_of_the_question():
    assert judged(arm("a", 0.05), minimum=0.03).state == "promoted"
    assert judged(arm("a", 0.05), minimum=0.2).state == "rejected"


def test_twelve_prompts_are_too_few_whatever_they_say():
    for shift in (0.3, 0.0, -0.3):
        decision = judged(arm("a", shift, n=12), n=12)
        assert decision.state == "inconclusive" and "6 independent prompts (12 in all), needed: 60" in decision.sentence


@pytest.mark.parametrize(
    "broken, words",
    [
        ({"words": 10}, "answers are 0.33 times as long"),
        ({"words": 60}, "answers are 2.00 times as long"),
        ({"stop": 0.9}, "90.0% of the answers end by themselves, before: 100.0%"),
        ({"distinct": 0.2}, "variety (distinct-2) 0.300 -> 0.200, -33%"),
    ],
)
def test_form_cannot_be_bought(broken, words):
    decision = judged(arm("a", 0.1, **broken))
    assert decision.state == "rejected" and words in decision.sentence


def test_guardrails_are_non_inferior_or_the_gate_says_what_it_cannot_exclude():
    def with_relevance(name, shift, spread):
        draw = random.Random(name)
        return arm(
            name, 0.0 if name == "champion" else 0.1, r=score("relevance", [0.5 + shift + draw.uniform(-spread, spread) for _ in PROMPTS])
        )

    champion = with_relevance("champion", 0.0, 0.02)
    rail = {"guardrails": ["relevance"]}
    assert judged(with_relevance("a", 0.0, 0.02), champion, **rail).state == "promoted"
    worse = judged(with_relevance("b", -0.1, 0.02), champion, **rail)
    assert worse.state == "rejected" and "relevance is worse: -10" in worse.sentence and "allowed: -2.0 points" in worse.sentence
    scattered = arm("c", 0.1, r=score("relevance", [0.5 + (0.4 if n // 2 % 2 else -0.4) for n in range(200)]))
    unclear = judged(scattered, champion, **rail)
    assert unclear.state == "inconclusive" and "relevance may be worse" in unclear.sentence


def test_lower_is_better_is_turned_round():
    champion, candidate = (arm(n, s, h=score("hits", [v] * 200, "lower")) for n, s, v in (("champion", 0, 0.2), ("a", 0.1, 0.5)))
    decision = judged(candidate, champion, guardrails=[{"use": "hits", "margin": 0.05}])
    assert decision.state == "rejected" and "hits is worse: -30.0 points" in decision.sentence


def test_what_was_not_measured_counts_as_a_failure():
    assert "guard-rail tone was not measured" in judged(arm("a", 0.1), guardrails=["tone"]).sentence
    holes = [0.8] * 199 + [math.nan]
    hole = arm("a", 0.1, p=Score("persona-adherence", 0.8, 199, per_sample=dict(zip(PROMPTS, holes, strict=True))))
    decision = judged(hole)
    assert decision.state == "rejected" and "was not measured on every gate prompt" in decision.sentence
    # What does not apply to an answer is absent; while both have most prompts in common, they are compared on those.
    values = dict(arm("a", 0.05).scores["persona-adherence"].per_sample)
    some, few = ({key: value for key, value in values.items() if int(key[1:]) >= first} for first in (20, 120))
    partly = judged(arm("a", 0.05, p=Score("persona-adherence", 0.8, len(some), per_sample=some)))
    assert (partly.state, partly.n) == ("promoted", 180)
    assert "on the 180 of 200 prompts where it applies to both answers" in partly.sentence
    assert "applies to both" not in judged(arm("a", 0.05)).sentence
    hardly = judged(arm("a", 0.05, p=Score("persona-adherence", 0.8, len(few), per_sample=few)))
    assert hardly.state == "rejected" and "applies to few" in hardly.sentence
    bare = Measured("a", {"persona-adherence": arm("a", 0.1).scores["persona-adherence"]})
    assert judged(bare).state == "rejected"


def test_a_hard_item_that_fails_anew_is_named_by_prompt():
    item = "persona-adherence/no-secrets"
    before = arm("champion", h=score(item, [1.0] * 200))
    after = arm("a", 0.1, h=score(item, [1.0] * 198 + [0.0] * 2))
    options = Gate()
    found = decide(before, [after], prompts=PROMPTS, groups=GROUPS, options=options, hard_items=[item], resamples=500)[0]
    assert (
        found.state == "rejected"
        and "hard items fail on 2 prompts on which they held (no-secrets: p198, p199), allowed: 0" in found.sentence
    )
    lenient = Gate(new_hard_failures=2)
    assert decide(before, [after], prompts=PROMPTS, groups=GROUPS, options=lenient, hard_items=[item], resamples=500)[0].state == "promoted"


def test_two_candidates_pay_for_two_chances():
    champion = arm("champion")
    alone = decide(champion, [arm("a", 0.02)], prompts=PROMPTS, groups=GROUPS, options=Gate(), resamples=500)[0]
    both = decide(champion, [arm("a", 0.02), arm("b", 0.0)], prompts=PROMPTS, groups=GROUPS, options=Gate(), resamples=500)
    assert both[0].p == pytest.approx(2 * alone.p)


def test_a_critic_below_the_bar_may_not_gate():
    refused = Condition("judge", "critic", "fail", "the judge is not calibrated: TPR 0.51, needed 0.80")
    found = decide(arm("champion"), [arm("a", 0.1)], prompts=PROMPTS, groups=GROUPS, options=Gate(), further=[refused], resamples=500)[0]
    assert found.state == "rejected" and "not calibrated" in found.sentence
