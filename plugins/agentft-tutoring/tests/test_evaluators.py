"""The evaluators on turns that plainly guide or plainly tell, in both languages."""

from __future__ import annotations

import math
import time

import pytest
from agentft_tutoring.guidance import question_ratio, telling_ratio, tells, turn_length
from agentft_tutoring.leak import answer_leak, forms, leaked

from agentft.errors import DataError
from agentft.records import Example, Message, Response, Sample
from agentft.testing import check_evaluator, eval_context, fake_samples

TELLING = "The answer is 48. Multiply 6 by 8. 6 x 8 = 48."


def scores(evaluator, samples, ctx=None):
    return {score.name: score for score in check_evaluator(evaluator, ctx or eval_context(), samples)}


def answered(rows, persona, text=None):
    pairs = [row.as_prompt() for row in rows if row.meta["persona"] == persona]
    return [Sample(prompt, Response(prompt.id, text or reference)) for prompt, reference in pairs]


@pytest.mark.parametrize(
    ("answer", "text", "expected"),
    [
        ("12", "So it is 12.", True),
        ("12", "That makes twelve muffins.", True),
        ("12", "Twelve!", True),
        ("12", "There are 120 muffins and 3.12 left.", False),
        ("12", "You wrote 12/5 and x^12.", False),
        ("12", "Look at 12x again.", False),
        ("12", "Look at 112 or 1,200.", False),
        ("1,200", "1200 it is", True),
        ("-4", "x = -4", True),
        ("-4", "from 9-4", False),
        ("4", "x is -4", False),
        ("2", "Compare the two sides.", False),
        ("0.5", "that is 1/2", True),
        ("3/4", "it is 3/4.", True),
        ("3/4", "you have 6/8 now", False),
        ("3/4", "13/4 or 3/45", False),
        ("15", "twenty-five or fifteen hundred", False),
        ("12", "答案是十二。", True),
        ("12", "是112还是12.5？", False),
        (["x + 3", "x+3"], "You get x+3 here.", True),
        ("x+3", "x + 30", False),
        ("snow", "It was the Snow.", True),
        ("snow", "Look at the snowman.", False),
        (["the baker", "baker"], "Who baked it?", False),
        ("==", "Use == in the if.", True),
        ("==", "one = is not enough", False),
        ("int(", "wrap it in int(...)", True),
        ("int(", "print(x)", False),
        (["2.6更大", "2.6大"], "因为2.6更大", True),
        (["2.6更大", "2.6大"], "2.6和2.15哪个大？", False),
        (7, "7 of them", True),
    ],
)
def test_leaked(answer, text, expected):
    accepted = forms(Example("p", (), meta={"answer": answer}))
    assert bool(leaked(text, accepted)) is expected


def test_an_answer_that_the_student_has_said_cannot_leak():
    rows = [
        ("6 trays with 8 muffins?", "It is 48.", {"answer": "48"}),
        ("6 trays with 8 muffins?", "How many are in two trays?", {"answer": "48"}),
        ("I got 48, ok?", "Yes, 48 is right.", {"answer": "48"}),
        (["6 x 8?", "Start with 5 x 8.", "it's forty-eight"], "Right, 48.", {"answer": "48"}),
        ("6 x 8?", None, {"answer": "48"}),
        ("hello", "48"),
    ]
    found = scores(answer_leak, fake_samples(rows))["answer-leak"]
    assert {key: value for key, value in found.per_sample.items() if not math.isnan(value)} == {"s1": 1, "s2": 0}
    assert found.unscored == 1 and found.direction == "lower" and found.details == {"s1": "48"}


def test_an_answer_of_the_wrong_shape_is_refused():
    with pytest.raises(DataError, match=r"meta\.answer must be"):
        forms(Example("p", (), meta={"answer": {"value": 12}}))


@pytest.mark.parametrize(
    "sentence",
    [
        "The answer is 48.",
        "The correct answer is a trapezoid.",
        "So you get 143.",
        "That gives you 13 ones.",
        "The total is 75.",
        "The value of 24-15 is 9.",
        "4 times 4 is equal to 16.",
        "6 x 9 = 54",
        "x = 4, because 2x = 8.",
        "Multiply 6 by 8.",
        "First, you need to subtract 3 from both sides.",
        "Here is the corrected code:",
        "Change it to a double equals sign.",
        "答案是48。",
        "所以等于48。",
        "先乘以8。",
        "两边同时除以2。",
    ],
)
def test_tells(sentence):
    assert tells(sentence, Example("p", (Message("user", "there are 6 trays and 8 muffins, help"),)))


@pytest.mark.parametrize(
    "sentence",
    [
        "What is 6 x 8?",
        "Is the answer 48?",
        "You wrote 5 + 5 = 10.",
        "You got 10 from 5 + 5.",
        "Your answer is incorrect.",
        "The answer is not far away.",
        "Try x = 2 in your equation.",
        "Look at the step where you wrote 10.",
        "Picture 6 trays on the table.",
        "You picked the two numbers that matter.",
        "你写了5+5=10。",
        "想想题目里的8是什么意思。",
        "答案是多少？",
    ],
)
def test_guides(sentence):
    assert not tells(sentence, Example("p", (Message("user", "is 5 + 5 = 10 right"),)))


def test_ratios():
    rows = [
        ("6 trays, 8 each", TELLING),
        ("6 trays, 8 each", "Picture one tray. What is in it?"),
        ("?", "Why? Look again."),
        ("?", ""),
        ("?", None),
    ]
    asks, told = scores(question_ratio, fake_samples(rows)), scores(telling_ratio, fake_samples(rows))["telling-ratio"]
    assert [asks["question-ratio"].per_sample[f"s{n}"] for n in (1, 2, 3, 4)] == [0, 0.5, 0.5, 0]
    assert [asks["question-ratio/last"].per_sample[f"s{n}"] for n in (1, 2, 3, 4)] == [0, 1, 0, 0]
    assert [told.per_sample[f"s{n}"] for n in (1, 2, 3, 4)] == [1, 0, 0, 0] and told.unscored == 1
    assert told.details == {"s1": ["The answer is 48.", "Multiply 6 by 8.", "6 x 8 = 48."]}
    assert scores(turn_length, fake_samples(rows))["turn-length"].per_sample["s2"] == 7


@pytest.mark.parametrize(("persona", "telling"), [("math-tutor", TELLING), ("math-tutor-zh", "答案是48。先乘以8。所以等于48。")])
def test_demonstrations_guide(demonstrations, personas, persona, telling):
    ctx = eval_context(personas[persona])
    good, bad = (
        {name: s for e in (question_ratio, telling_ratio) for name, s in scores(e, answered(demonstrations, persona, text), ctx).items()}
        for text in (None, telling)
    )
    assert good["question-ratio/last"].value == 1 and bad["question-ratio/last"].value == 0
    assert good["telling-ratio"].value < 0.05 and bad["telling-ratio"].value > 0.95


def test_every_form_of_every_known_answer_is_recognised(demonstrations, prompts):
    missed = [(row.id, form) for row in [*demonstrations, *prompts] for form in forms(row) if not leaked(f"It is {form}.", [form])]
    assert not missed


def test_a_tutor_who_solves_the_task_leaks(demonstrations):
    solved = [Sample(p, Response(p.id, f"It is {forms(p)[0]}.")) for p, _ in (row.as_prompt() for row in demonstrations)]
    assert scores(answer_leak, solved)["answer-leak"].value == 1


@pytest.mark.parametrize(
    "piece",
    ["1/1", "(1+1)", "1,1.", "I can hand ", "please contact a manager ", "the answer is ", "请转给", "a's ", "A", "二十", "\n", "😀"],
)
def test_a_degenerate_answer_takes_no_time(personas, piece):
    """Small models repeat themselves without end; a pattern that backtracks would hang the evaluation."""
    samples = fake_samples([("Help me " + piece * 20, piece * 400, {"answer": ["12", "x = 12"]})])
    started = time.process_time()
    for evaluator in (answer_leak, question_ratio, telling_ratio, turn_length):
        scores(evaluator, samples, eval_context(personas["math-tutor"]))
    assert time.process_time() - started < 5
