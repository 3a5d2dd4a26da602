"""The judge: majority, seeded order, both orders of a pair, and answers that cannot be read."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from servers import completion, serving

from agentft import Host
from agentft.contracts import CriticContext
from agentft.errors import RecipeError
from agentft.feedback.judge import JudgeConfig
from agentft.feedback.pairwise import Duel, by_text, compare_pairs
from agentft.feedback.parse import parse_items, parse_pair
from agentft.feedback.prompts import open_model, template_source
from agentft.persona import Persona
from agentft.records import Example, Message, Response

POLICIES = [
    {"id": "kind", "text": "Be kind."},
    {"id": "clear", "text": "Be clear.", "severity": "hard"},
    {"id": "refund", "text": "Name the refund.", "when": {"prompt": "refund"}},
    {"id": "brief", "text": "Be brief.", "rule": {"words": {"max": 5}}},
]
PROMPT = Example("p1", (Message("user", "Where is it?"),))


def persona(language: str = "en") -> Persona:
    return Persona.from_dict({"name": "clerk", "summary": "A clerk", "language": language, "role": "A clerk.", "policies": POLICIES})


def context(who: Persona) -> CriticContext:
    host = Host(allow=())
    return CriticContext(
        who,
        who.language,
        template=lambda name: template_source(host.catalog, name, who.language),
        open_model=lambda use: open_model(use, resolve=host.resolve_model, device={}),
    )


def ask(answer, *, language: str = "en", texts=("On the left.",), **options):
    """Feedback of the judge on ``texts``, and what the server was asked."""
    host = Host(allow=())
    critic = host.catalog.target(host.catalog.get("critic", "judge"))
    with serving(answer) as (url, seen):
        config = JudgeConfig.model_validate({"model": {"url": url, "model": "j"}} | options)
        responses = [Response(f"p1#{n}", text) for n, text in enumerate(texts)]
        return critic([PROMPT] * len(texts), responses, config, context(persona(language))), seen


def says(text):
    return lambda number, body: completion(text)


def test_verdicts_carry_evidence_and_the_failed_items_in_words():
    (found,), seen = ask(says('kind: yes | "On the left"\n- clear: no | it does not say of what'))
    assert [(v.item, v.verdict, v.severity) for v in found.verdicts] == [
        ("kind", "pass", "soft"),
        ("clear", "fail", "hard"),
        ("refund", "n.a.", "soft"),
    ]
    assert found.critique == "- clear: Be clear. (it does not say of what)" and found.verdicts[0].evidence == "On the left"
    assert len(seen) == 3, "three tries"
    asked = seen[0]["messages"][-1]["content"]
    assert "Be kind." in asked and "Be brief." not in asked and "Name the refund." not in asked, (
        "what a rule decides or does not apply is not asked"
    )


def test_the_order_of_items_changes_from_try_to_try_and_repeats_with_the_seed():
    def order(seen):
        return [re.findall(r"^(kind|clear|brief): ", body["messages"][-1]["content"], re.MULTILINE) for body in sorted(seen, key=str)]

    texts = [f"Answer {n}." for n in range(8)]
    first, second = (order(ask(says("kind: yes"), items=["kind", "clear", "brief"], texts=texts)[1]) for _ in range(2))
    assert len({tuple(one) for one in first}) > 1 and first == second


def test_a_majority_decides_and_silence_is_no_consent():
    replies = iter(["kind: yes\nclear: yes", "kind: no\nclear: maybe", "kind: yes\nI cannot say"])
    (found,), _ = ask(lambda number, body: completion(next(replies)))
    by_item = {v.item: v for v in found.verdicts}
    assert by_item["kind"].verdict == "pass"
    assert by_item["clear"].verdict == "unscored" and "2 unreadable" in by_item["clear"].evidence


def test_garbage_and_dead_servers_are_errors_and_never_verdicts():
    (found,), _ = ask(says("As a language model I think it is lovely."))
    assert found.error == "no judgement could be read" and not found.verdicts
    (found,), _ = ask(lambda number, body: (400, {}, "no"))
    assert "answers 400" in found.error and not found.verdicts


def test_a_judge_needs_items():
    with pytest.raises(RecipeError, match="has no item 'kindness' .items: kind, clear"):
        ask(says(""), items=["kindness"])


def test_chinese_prompts_are_chinese():
    (found,), seen = ask(says("kind：是 | 在左边"), language="zh", items=["kind"])
    assert found.verdicts[0].verdict == "pass" and "请逐条检查" in seen[0]["messages"][-1]["content"]


@pytest.mark.parametrize(
    "line, expected",
    [
        ("kind: yes", "pass"),
        ("- **kind**: no", None),
        ("kind: No.", "fail"),
        ("kind: n.a.", "n.a."),
        ("kind = Yes, it is | quote", "pass"),
        ("kind: nothing to add", None),
        ("kind: yesterday", None),
        ("2. kind: fail | rude", "fail"),
        ("other: yes", None),
    ],
)
def test_lines_are_read_strictly(line, expected):
    assert parse_items(line, ["kind"]).get("kind", (None,))[0] == expected


def test_an_item_with_two_answers_has_none():
    assert parse_items("kind: yes\nkind: no", ["kind"]) == {}


@given(st.text(max_size=200))
def test_reading_never_fails_and_never_invents_items(text):
    assert set(parse_items(text, ["kind", "clear"])) <= {"kind", "clear"}
    assert parse_pair(text) in ("first", "second", "tie", None)


@pytest.mark.parametrize(
    "text, expected",
    [
        ("A", "first"),
        ("B.", "second"),
        ("Reply A is better because", "first"),
        ("The better reply is B", "second"),
        ("Tie", "tie"),
        ("[[A]]", "first"),
        ("Both say where it is.\n\nB", "second"),
        ("回答 A 更好", "first"),
        ("平局", "tie"),
        ("Answering this is hard", None),
        ("A lot depends on taste", None),
        ("A is better.", "first"),
        ("**B**: it is shorter", "second"),
        ("Both are fine", None),
        ("", None),
    ],
)
def test_a_preference_is_read_from_the_first_or_the_last_line(text, expected):
    assert parse_pair(text) == expected


def duel(answer, repeats: int = 1):
    from agentft.contracts import GenerationSettings
    from agentft.engine.http import HttpBackend

    template = template_source(Host(allow=()).catalog, "judge_pair", "en")
    with serving(answer) as (url, seen):
        asker = by_text(HttpBackend(url, "j", backoff=0.01), GenerationSettings())
        (found,) = compare_pairs([Duel("d", PROMPT, "GOOD answer", "BAD answer")], asker, template, repeats=repeats)
    return found, seen


def first_shown(body) -> str:
    text = body["messages"][-1]["content"]
    return "GOOD" if text.index("GOOD") < text.index("BAD") else "BAD"


def test_a_pair_is_asked_in_both_orders():
    found, seen = duel(lambda number, body: completion("A" if first_shown(body) == "GOOD" else "B"))
    assert found.winner == "first" and found.consistent and {first_shown(body) for body in seen} == {"GOOD", "BAD"}


def test_a_judge_that_always_takes_the_first_gives_ties():
    found, _ = duel(says("A"), repeats=3)
    assert found.winner == "tie" and not found.consistent and found.forward == ("first",) * 3 and found.backward == ("second",) * 3


def test_an_unreadable_order_leaves_no_winner():
    found, _ = duel(lambda number, body: completion("A" if first_shown(body) == "GOOD" else "hmm"))
    assert found.winner is None
    found, _ = duel(lambda number, body: (400, {}, ""))
    assert found.winner is None and "answers 400" in found.error
