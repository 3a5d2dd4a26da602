"""Metrics of the library ``evaluate``: brought in, and ours given out."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from agentft.errors import PluginError
from agentft.evaluate.hf import from_evaluate

TEXT = SimpleNamespace(dtype="string")


class Exact:
    """Has what an ``evaluate.Metric`` has, without the seconds that importing it takes."""

    features: Any = {"predictions": TEXT, "references": TEXT}  # noqa: RUF012
    description = "Exact match.\nMore text."

    def compute(self, *, predictions: list[str], references: list[Any], times: float = 1.0) -> dict[str, Any]:
        firsts = [one[0] if isinstance(one, list) else one for one in references]
        hits = [times * float(a == b) for a, b in zip(predictions, firsts, strict=True)]
        return {"exact": sum(hits) / len(hits), "each": hits, "squared": (sum(hits) / len(hits)) ** 2}


@pytest.fixture
def samples(make_sample: Any) -> list[Any]:
    return [
        make_sample("a", "yes", reference="yes"),
        make_sample("b", "no", reference="yes"),
        make_sample("c", finish="error", reference="yes"),
        make_sample("d", "yes"),
    ]


def test_value_pairs_and_interval(samples: list[Any], make_context: Any, no_generation: Any) -> None:
    (score,) = from_evaluate(Exact, key="exact", name="exact-match")(samples, no_generation, None, make_context())
    assert score.name == "exact-match" and score.value == 0.5 and score.n == 2 and score.summary == "Exact match."
    assert (score.per_sample["a"], score.per_sample["b"]) == (1.0, 0.0)
    assert math.isnan(score.per_sample["c"]) and "d" not in score.per_sample and score.unscored == 1
    assert score.ci is not None


def test_a_list_in_the_result_is_taken_as_it_is(samples: list[Any], make_context: Any, no_generation: Any) -> None:
    (score,) = from_evaluate(Exact(), key="each")(samples, no_generation, None, make_context())
    assert score.value == 0.5 and score.per_sample["b"] == 0.0


def test_a_corpus_figure_keeps_its_own_value(samples: list[Any], make_context: Any, no_generation: Any) -> None:
    (score,) = from_evaluate(lambda: Exact(), key="squared", direction="lower", unit="points")(samples, no_generation, None, make_context())
    assert score.value == 0.25 and score.ci is None and score.direction == "lower" and score.unit == "points"
    (corpus,) = from_evaluate(Exact, key="squared", each=False)(samples, no_generation, None, make_context())
    assert corpus.value == 0.25 and corpus.per_sample == {} and corpus.n == 2


def test_several_references_and_options(samples: list[Any], make_context: Any, no_generation: Any) -> None:
    class Several(Exact):
        features: Any = [{"predictions": TEXT, "labels": TEXT}, {"predictions": TEXT, "references": SimpleNamespace(feature=TEXT)}]  # noqa: RUF012

    (score,) = from_evaluate(Several, key="exact", compute={"times": 2.0})(samples, no_generation, None, make_context())
    assert score.value == 1.0


def test_nothing_to_score(make_sample: Any, make_context: Any, no_generation: Any) -> None:
    (score,) = from_evaluate(Exact, key="exact")([make_sample("c", finish="error", reference="x")], no_generation, None, make_context())
    assert math.isnan(score.value) and score.unscored == 1


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ({"predictions": SimpleNamespace(dtype="int64"), "references": SimpleNamespace(dtype="int64")}, "cannot be used on answers"),
        ({"predictions": TEXT, "images": TEXT}, "cannot be used on answers"),
        (None, "is no evaluate.Metric"),
    ],
)
def test_metrics_that_are_not_for_text_are_refused(
    features: Any, message: str, samples: Any, make_context: Any, no_generation: Any
) -> None:
    metric = Exact()
    metric.features = features
    with pytest.raises(PluginError, match=message):
        from_evaluate(metric, key="exact")(samples, no_generation, None, make_context())


def test_a_wrong_key_says_what_there_is(samples: list[Any], make_context: Any, no_generation: Any) -> None:
    with pytest.raises(PluginError, match="no 'f1' \\(it has: exact, each, squared\\)"):
        from_evaluate(Exact, key="f1")(samples, no_generation, None, make_context())


def test_importing_the_metrics_loads_nothing_heavy() -> None:
    modules = ["adherence", "relevance", "overlap", "perplexity", "form", "break_character", "semantic", "readability", "compare", "hf"]
    modules += ["predictions", "classification", "auc", "ranking", "regression", "entities", "question_answering", "meteor"]
    code = f"import sys; [__import__('agentft.evaluate.' + m) for m in {modules}]; print(sorted(set(sys.modules) & set(sys.argv[1:])))"
    heavy = ["torch", "transformers", "datasets", "evaluate", "scipy", "sklearn", "seqeval", "sacrebleu", "rouge_score", "nltk"]
    done = subprocess.run([sys.executable, "-c", code, *heavy], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.slow  # importing `evaluate` alone takes 5 to 15 s
def test_with_the_real_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_persona: Any, make_sample: Any, make_context: Any, no_generation: Any
) -> None:
    import evaluate

    from agentft.evaluate.hf_metrics import PersonaAdherence, Rouge
    from agentft.evaluate.overlap import rouge_f

    rouge, adherence = Rouge(cache_dir=str(tmp_path)), PersonaAdherence(make_persona(), cache_dir=str(tmp_path))
    assert rouge.compute(predictions=["退款已到"], references=["退款已到"]) == {"rouge1": 1.0, "rouge2": 1.0, "rougeL": 1.0}
    both = evaluate.combine([rouge, adherence])
    both.add_batch(predictions=["Anything else?", "Hello there"], references=["Anything else?", "x"], prompts=["Hi", "my money"])
    assert both.compute() == pytest.approx({"rouge1": 0.5, "rouge2": 0.5, "rougeL": 0.5, "persona_adherence": (1 + 1 / 3) / 2})

    samples = [make_sample("a", "退款已到", reference="退款未到账"), make_sample("b", "Hello there", ask="my money", reference="Hello")]
    (score,) = from_evaluate(rouge, key="rouge1")(samples, no_generation, None, make_context())
    assert score.per_sample["a"] == pytest.approx(rouge_f("退款已到", "退款未到账")["rouge1"]) and score.ci is not None
    (score,) = from_evaluate(adherence, key="persona_adherence")(samples, no_generation, None, make_context())
    assert score.per_sample["b"] == pytest.approx(1 / 3)
