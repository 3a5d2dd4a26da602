from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest

from agentft.errors import DataError
from agentft.evaluate.compare import compare
from agentft.evaluate.perplexity import perplexity
from agentft.records import Example, Message


def example(id: str, group: str | None = None) -> Example:
    return Example(id, (Message("user", "Hi"), Message("assistant", "Hello")), group=group)


def test_by_hand(make_context: Any, no_generation: Any) -> None:
    table = {"a": (-2.0, 2), "b": (-9.0, 3), "c": (0.0, 0)}
    context = make_context(examples=[example(key) for key in table], logprobs=lambda examples: [table[e.id] for e in examples])
    whole, of_examples = perplexity([], no_generation, None, context)
    assert whole.value == pytest.approx(math.exp(11 / 5)) and whole.n == 2 and whole.per_sample == {}
    assert of_examples.per_sample == {"a": 1.0, "b": 3.0}  # nats per token; c has nothing supervised
    assert of_examples.value == 2.0 and of_examples.direction == "lower" and of_examples.unit == "nats"
    assert of_examples.details["b"] == {"nll": 9.0, "tokens": 3}


def test_the_interval_of_the_whole(make_context: Any, no_generation: Any) -> None:
    """Texts of one length: the figure is exp(mean), and so is its interval; a single group has none."""
    examples = [example(f"e{n}") for n in range(40)]
    values = [0.5 + 0.05 * (n % 7) for n in range(40)]
    whole, nll = perplexity([], no_generation, None, make_context(examples=examples, logprobs=lambda _: [(-10 * v, 10) for v in values]))
    assert whole.ci == pytest.approx([math.exp(bound) for bound in nll.ci], rel=1e-3) and whole.ci[0] < whole.value < whole.ci[1]
    alike = [example(f"e{n}", group="one") for n in range(3)]
    whole, _ = perplexity([], no_generation, None, make_context(examples=alike, logprobs=lambda _: [(-5.0, 10)] * 3))
    assert whole.ci is None


def test_uniform_model_has_the_size_of_its_vocabulary(make_context: Any, no_generation: Any) -> None:
    context = make_context(examples=[example("a"), example("b")], logprobs=lambda examples: [(-7 * math.log(50), 7), (-math.log(50), 1)])
    assert perplexity([], no_generation, None, context)[0].value == pytest.approx(50)


def test_prompts_are_not_asked_for_and_infinite_is_unscored(make_context: Any, no_generation: Any) -> None:
    asked: list[str] = []

    def logprobs(examples: Sequence[Example]) -> list[tuple[float, int]]:
        asked.extend(one.id for one in examples)
        return [(-1.0, 1), (-math.inf, 4), (math.nan, 4)]

    prompt = Example("p", (Message("user", "Hi"),))
    unsupervised = Example("u", (Message("user", "Hi"), Message("assistant", "Hello", train=False)))
    context = make_context(examples=[prompt, example("a"), unsupervised, example("b"), example("c")], logprobs=logprobs)
    whole, of_examples = perplexity([], no_generation, None, context)
    assert asked == ["a", "b", "c"]
    assert whole.value == pytest.approx(math.e) and of_examples.unscored == 2 and "2 examples" in whole.summary


def test_without_a_model_everything_is_unscored(make_context: Any, no_generation: Any) -> None:
    whole, of_examples = perplexity([], no_generation, None, make_context(examples=[example("a")]))
    assert math.isnan(whole.value) and math.isnan(of_examples.value) and of_examples.unscored == 1
    assert "no model in process" in whole.summary
    empty = perplexity([], no_generation, None, make_context(logprobs=lambda examples: []))
    assert math.isnan(empty[0].value) and empty[1].per_sample == {}


def test_the_comparison_is_of_log_likelihoods(make_context: Any, no_generation: Any) -> None:
    examples = [example(str(i)) for i in range(30)]

    def arm(shift: float) -> Any:
        return perplexity(
            [], no_generation, None, make_context(examples=examples, logprobs=lambda e: [(-4 * (2 + i % 5 - shift), 4) for i in range(30)])
        )

    whole, nll = compare(arm(0.0), arm(0.5))
    assert whole.verdict == "info" and whole.tuned / whole.base == pytest.approx(math.exp(-0.5))
    assert nll.verdict == "better" and nll.difference == pytest.approx(-0.5)


def test_same_id_twice_is_an_error(make_context: Any, no_generation: Any) -> None:
    with pytest.raises(DataError, match="same id"):
        perplexity([], no_generation, None, make_context(examples=[example("a"), example("a")], logprobs=lambda e: [(-1.0, 1)] * 2))
