"""Hugging Face ``evaluate`` metrics as evaluators: bring a metric you already have.

In a plugin::

    # agentft_mine/evaluators.py
    from agentft.evaluate.hf import from_evaluate

    def _load():
        import evaluate               # takes seconds: only when the metric runs
        return evaluate.load("./metrics/exact_match")

    exact_match = from_evaluate(_load, key="exact_match")

    # agentft_mine/plugin.py
    EvaluatorSpec("exact-match", "Answers equal to the reference", "agentft_mine.evaluators:exact_match", consumes="reference")

``evaluate.load("name")`` itself needs the hub; a local folder or a subclass of ``evaluate.Metric`` does not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from agentft.contracts import EvalContext, Generate
from agentft.errors import PluginError
from agentft.evaluate.common import NAN, failed, groups_of, per_sample, score_from
from agentft.records import Direction, Sample, Score

Evaluator = Callable[[Sequence[Sample], Generate, Any, EvalContext], list[Score]]
_COLUMNS: dict[str, Callable[[Sample], str]] = {
    "predictions": lambda sample: sample.text,
    "references": lambda sample: sample.reference or "",
    "sources": lambda sample: sample.prompt.last_user,
    "prompts": lambda sample: sample.prompt.last_user,
}


def from_evaluate(
    metric: Any,
    *,
    key: str,
    name: str | None = None,
    each: bool = True,
    direction: Direction = "higher",
    unit: str = "share",
    summary: str = "",
    compute: Mapping[str, Any] | None = None,
) -> Evaluator:
    """An evaluator ``(samples, generate, config, ctx) -> list[Score]`` out of an ``evaluate.Metric``.

    Args:
        metric: a metric, a class, or a function without arguments that returns a metric (so that nothing is imported early).
        key: which of the numbers in the metric's result; one that is a list with an entry per sample is used as it is.
        name: of the score; ``key`` by default.
        each: also compute the metric on every sample alone, which is what two agents are compared by. False for
            metrics that only make sense over many samples; such a score is shown without a verdict.
        compute: further arguments of ``metric.compute``.

    The metric's features say what it is given: ``predictions`` (the answers), ``references`` (demonstrated answers; only
    samples that have one are used; wrapped in a list where the metric takes several), ``sources`` or
    ``prompts`` (last user messages).
    ``value`` is what the metric says about all samples together. Failed generations are NaN and not shown to it. An
    exception of the metric is not caught.

    Raises (when it runs):
        PluginError: the metric wants inputs that are not text, or its result has no such key.
    """
    label, options = name or key, dict(compute or {})

    def evaluator(samples: Sequence[Sample], generate: Generate, config: Any, ctx: EvalContext) -> list[Score]:
        instance = metric if hasattr(metric, "compute") and not isinstance(metric, type) else metric()
        columns = _columns(instance, label)
        chosen = [sample for sample in samples if sample.reference is not None] if "references" in columns else list(samples)
        answered = [sample for sample in chosen if not failed(sample)]
        found: dict[str, float] = {}
        value: float | None = None
        if answered:
            whole = _result(instance, columns, answered, key, options)
            if isinstance(whole, Sequence) or hasattr(whole, "__len__"):
                if len(whole) != len(answered):
                    raise PluginError(f"metric '{label}': '{key}' has {len(whole)} values for {len(answered)} samples")
                found = {sample.id: float(one) for sample, one in zip(answered, whole, strict=True)}
            else:
                value = float(whole)
                if each:
                    found = {sample.id: float(_result(instance, columns, [sample], key, options)) for sample in answered}
        values = per_sample(chosen, lambda sample: found.get(sample.id, NAN)) if found or not answered else {}
        scored = sorted(one for one in values.values() if not math.isnan(one))
        if value is not None and scored and math.isclose(value, math.fsum(scored) / len(scored), rel_tol=1e-9, abs_tol=1e-12):
            value = None  # a plain mean: then its interval is known too
        score = score_from(
            label,
            values,
            groups_of(chosen),
            seed=ctx.seed,
            value=value,
            direction=direction,
            unit=unit,
            summary=summary or _about(instance),
        )
        return [score if values else Score(label, score.value, len(answered), direction, unit=unit, summary=score.summary)]

    evaluator.__name__ = label.replace("-", "_").replace("/", "_")
    evaluator.__doc__ = f"The metric '{label}' of an evaluate.Metric; see agentft.evaluate.hf.from_evaluate."
    return evaluator


def _columns(metric: Any, label: str) -> dict[str, Callable[[Sample], Any]]:
    """What to fill each input feature of the metric with; the first alternative that takes text wins."""
    features = getattr(metric, "features", None)
    if not features:
        raise PluginError(f"metric '{label}' is no evaluate.Metric: {type(metric).__name__} does not say what features it takes")
    alternatives = features if isinstance(features, list) else [features]
    for one in alternatives:
        columns = {str(name): _column(str(name), feature) for name, feature in one.items()}
        if all(columns.values()):
            return {name: column for name, column in columns.items() if column}
    raise PluginError(
        f"metric '{label}' cannot be used on answers: it takes {alternatives[0]}; supported are text features named {', '.join(_COLUMNS)}"
    )


def _column(name: str, feature: Any) -> Callable[[Sample], Any] | None:
    if name not in _COLUMNS:
        return None
    text = _COLUMNS[name]
    if getattr(feature, "dtype", None) in ("string", "large_string"):
        return text
    # A list of texts per sample (several references): datasets writes it as Sequence, List or [Value].
    inner = feature[0] if isinstance(feature, list) and feature else getattr(feature, "feature", None)
    if getattr(inner, "dtype", None) in ("string", "large_string"):
        return lambda sample: [text(sample)]
    return None


def _result(
    metric: Any, columns: Mapping[str, Callable[[Sample], Any]], samples: Sequence[Sample], key: str, options: Mapping[str, Any]
) -> Any:
    result = metric.compute(**{name: [column(sample) for sample in samples] for name, column in columns.items()}, **options)
    if not isinstance(result, Mapping) or key not in result:
        known = ", ".join(result) if isinstance(result, Mapping) else type(result).__name__
        raise PluginError(f"the metric's result has no '{key}' (it has: {known})")
    return result[key]


def _about(metric: Any) -> str:
    description = str(getattr(metric, "description", "") or "").strip()
    return description.splitlines()[0][:160] if description else "a metric of the library evaluate"
