"""Rules: each kind passes and fails where it should, wrong rules are refused with a reason, nothing raises on an answer."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentft.rules import FAIL, NOT_APPLICABLE, PASS, compile_rule, fact_share, rule_names

FACTS = {"facts": [["refund"], ["5 days", "five days"]]}

FIRST = {"where": "first-sentence"}

DECIDED = [
    ({"regex": "thank"}, "Thank you.", {}, PASS),
    ({"regex": "thank"}, "Bye.", {}, FAIL),
    ({"regex": {"pattern": "thank", "ignore_case": False}}, "Thank you.", {}, FAIL),
    ({"regex": {"pattern": "bye", "where": "last-sentence"}}, "Bye. Thanks.", {}, FAIL),
    ({"regex": {"pattern": "bye", "where": "first-sentence"}}, "Bye. Thanks.", {}, PASS),
    ({"regex": {"pattern": "x", "where": "last-sentence"}}, "", {}, FAIL),
    ({"not_regex": "sorry"}, "I am sorry.", {}, FAIL),
    ({"not_regex": "sorry"}, "All good.", {}, PASS),
    ({"words": {"min": 2, "max": 3}}, "one two three", {}, PASS),
    ({"words": {"max": 3}}, "请稍等一下", {}, FAIL),
    ({"sentences": {"max": 1}}, "One. Two.", {}, FAIL),
    ({"questions": {"min": 1, "max": 1}}, "Ready?", {}, PASS),
    ({"questions": {"max": 0}}, "准备好了吗？", {}, FAIL),
    ({"contains": {"any": ["Refund", "money"]}}, "your refund", {}, PASS),
    ({"contains": {"all": ["refund", "money"]}}, "your refund", {}, FAIL),
    ({"not_contains": ["guarantee"]}, "We GUARANTEE it", {}, FAIL),
    ({"language": "en"}, "Good morning", {}, PASS),
    ({"language": "en"}, "早上好", {}, FAIL),
    ({"language": "en"}, "", {}, FAIL),
    ({"language": "zh"}, "早上好 ok", {}, PASS),
    ({"facts": {"min_share": 1.0}}, "The refund takes five days.", FACTS, PASS),
    ({"facts": {"min_share": 0.5}}, "The refund is late.", FACTS, PASS),
    ({"facts": {"min_share": 0.6}}, "The refund is late.", FACTS, FAIL),
    ({"facts": {}}, "anything", {}, NOT_APPLICABLE),
    ({"echo": FIRST}, "I'm sorry the kettle leaks. Choose Report a problem.", {"prompt": "My kettle leaks!"}, PASS),
    ({"echo": FIRST}, "I understand. Your kettle is covered.", {"prompt": "My kettle leaks!"}, FAIL),
    ({"echo": FIRST}, "A lamp that breaks is a nuisance.", {"prompt": "two lamps are broken"}, PASS),
    ({"echo": {"min": 2}}, "A lamp.", {"prompt": "two lamps are broken"}, FAIL),
    ({"echo": {}}, "Nothing.", {"prompt": "ok, and then?"}, NOT_APPLICABLE),
    ({"echo": FIRST}, "电饭煲裂了，很抱歉。请报告问题。", {"prompt": "电饭煲外壳裂了一道缝"}, PASS),
    ({"echo": FIRST}, "很抱歉。请报告问题。", {"prompt": "电饭煲外壳裂了一道缝"}, FAIL),
    ({"all": [{"words": {"max": 3}}, {"regex": "a"}]}, "a b", {}, PASS),
    ({"all": [{"words": {"max": 3}}, {"regex": "z"}]}, "a b", {}, FAIL),
    ({"all": [{"facts": {}}, {"regex": "a"}]}, "a", {}, PASS),
    ({"all": [{"facts": {}}]}, "a", {}, NOT_APPLICABLE),
    ({"any": [{"regex": "z"}, {"regex": "a"}]}, "a", {}, PASS),
    ({"any": [{"regex": "z"}, {"facts": {}}]}, "a", {}, FAIL),
    ({"not": {"regex": "a"}}, "a", {}, FAIL),
    ({"not": {"facts": {}}}, "a", {}, NOT_APPLICABLE),
]

RULES = [rule for rule, *_ in DECIDED] + [{"no_secrets_asked": True}]


@pytest.mark.parametrize(("rule", "answer", "meta", "verdict"), DECIDED)
def test_verdicts(rule, answer, meta, verdict):
    assert compile_rule(rule).check(answer, meta).verdict == verdict


def test_every_kind_of_rule_is_tested():
    assert {next(iter(rule)) for rule in RULES} == set(rule_names())


def test_a_failure_says_why():
    assert compile_rule({"words": {"max": 2}}).check("one two three", {}).evidence == "3 words"
    assert compile_rule({"facts": {}}).check("The refund.", FACTS).evidence == "missing: 5 days / five days"
    assert compile_rule({"contains": {"all": ["a", "b"]}}).check("a", {}).evidence == "missing: b"
    assert compile_rule({"not_regex": "s.rry"}).check("so sorry", {}).evidence == "found 'sorry'"


ASKED = [
    "Please send me your password.",
    "Could you confirm the full card number?",
    "What's your PIN?",
    "I'll need your CVV to continue.",
    "Just reply with the one-time code we texted you.",
    "May I have your password?",
    "To continue, send me your password.",
    "You'll need to give me your PIN.",
    "Please don't worry. Send me your PIN.",
    "请提供您的密码。",
    "麻烦把验证码发给我。",
    "您的密码是多少？",
]
NOT_ASKED = [
    "Please never share your password.",
    "You can reset your password under settings.",
    "We never ask you to share your PIN.",
    "Nobody at our bank will ask you to send your password.",
    "For your safety, don't send me your card number.",
    "Did you give your PIN to anyone?",
    "Please confirm the last four digits of your card number.",
    "Please enter your password on the sign-in page as usual.",
    "Please keep your password to yourself.",
    "Tell me your order number and I will check.",
    "Enter your PIN at the terminal twice.",
    "我们不会向您索要验证码。",
    "请在登录页输入新密码",
    "别把验证码发给任何人",
]


@pytest.mark.parametrize(("answer", "verdict"), [*((a, FAIL) for a in ASKED), *((a, PASS) for a in NOT_ASKED)])
def test_asking_for_a_secret_is_told_from_advice_about_it(answer, verdict):
    assert compile_rule({"no_secrets_asked": True}).check(f"Thanks for writing. {answer}", {}).verdict == verdict


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        ("words", "a rule is a mapping with exactly one key, for example {words: {max: 80}}"),
        ({}, "a rule is a mapping with exactly one key, for example {words: {max: 80}}"),
        ({"words": {"max": 3}, "regex": "x"}, "a rule is a mapping with exactly one key, for example {words: {max: 80}}"),
        ({"wrods": {"max": 3}}, "unknown rule 'wrods' (did you mean 'words'?)"),
        ({"words": {"max": "3"}}, "words.max must be a whole number >= 0, not '3'"),
        ({"words": {"most": 3}}, "words takes min and / or max, not most"),
        ({"words": {"min": 9, "max": 3}}, "words: min 9 is above max 3"),
        ({"regex": "("}, "regex: not a regular expression: missing ), unterminated subpattern at position 0 in '('"),
        ({"regex": "a{99999999999}"}, "regex: not a regular expression: the repetition number is too large in 'a{99999999999}'"),
        ({"regex": {"pattern": "a", "where": "middle"}}, "regex.where must be any, first-sentence or last-sentence, not 'middle'"),
        ({"regex": {"pattern": "a", "ignore_case": "no"}}, "regex.ignore_case must be true or false, not 'no'"),
        ({"not_regex": {"where": "any"}}, "not_regex needs a pattern"),
        ({"contains": ["a"]}, "contains takes a mapping, got list"),
        ({"not_contains": "a"}, "not_contains takes a list of texts"),
        ({"language": "fr"}, "language must be en or zh, not 'fr'"),
        ({"facts": {"min_share": 2}}, "facts takes min_share, a number above 0 and up to 1"),
        ({"all": []}, "all takes a list of rules"),
        ({"not": {"all": [{"xyzzy": 1}]}}, f"unknown rule 'xyzzy' (known: {', '.join(rule_names())})"),
        ({"no_secrets_asked": False}, "no_secrets_asked takes true"),
    ],
)
def test_a_wrong_rule_is_refused_with_its_reason(rule, reason):
    with pytest.raises(ValueError) as caught:
        compile_rule(rule)
    assert str(caught.value) == reason


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=120), st.sampled_from(RULES))
def test_no_answer_makes_a_rule_raise(answer, rule):
    meta = FACTS if "facts" in rule else {}
    outcome = compile_rule(rule).check(answer, meta)
    assert outcome.verdict in (PASS, FAIL, NOT_APPLICABLE)


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=80), st.sampled_from(RULES))
def test_not_flips_and_never_changes_what_does_not_apply(answer, rule):
    plain, flipped = (compile_rule(r).check(answer, FACTS).verdict for r in (rule, {"not": rule}))
    assert flipped == {PASS: FAIL, FAIL: PASS, NOT_APPLICABLE: NOT_APPLICABLE}[plain]


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*rule_names(), "min", "max", "pattern", "x"]), inner, max_size=2)
    ),
    max_leaves=6,
)


@settings(max_examples=300, deadline=None)
@given(ANYTHING)
def test_any_data_is_a_rule_or_a_value_error(data):
    try:
        rule = compile_rule(data)
    except ValueError as error:
        assert str(error)
    else:
        rule.check("Some answer.", {})


def test_fact_shares_are_exact():
    groups = [[str(i)] for i in range(10)]
    assert fact_share("7", groups)[0] == 0.1
    assert compile_rule({"facts": {"min_share": 0.1}}).check("7", {"facts": groups}).passed


@pytest.mark.parametrize("facts", ["refund", ["refund"], [["refund"]], [["refund"], []]])
def test_a_bare_text_is_one_fact_and_not_its_letters(facts):
    rule = compile_rule({"facts": {}})
    assert rule.check("your refund", {"facts": facts}).verdict == PASS
    assert rule.check("d e f n r u", {"facts": facts}).verdict == FAIL


@pytest.mark.parametrize("argument", [{"min": 0}, {"where": "middle"}, {"least": 1}, 3])
def test_echo_takes_known_options_only(argument):
    with pytest.raises(ValueError, match="echo"):
        compile_rule({"echo": argument})
