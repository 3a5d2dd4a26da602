"""``perplexity``: how well the agent predicts the demonstrated answers of held-out conversations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from agentft.contracts import EvalContext, Generate
from agentft.errors import DataError
from agentft.evaluate.common import NAN, score_from
from agentft.records import Sample, Score


def perplexity(samples: Sequence[Sample], generate: Generate, config: Any, ctx: EvalContext) -> list[Score]:
    """Perplexity and, for the comparison, the negative log-likelihood that it is made of; both over supervised tokens only.

    Returns:
        ``perplexity``: exp(total NLL / total tokens), one figure for the corpus, lower is better. It carries no per-sample
            values on purpose: a mean of per-example perplexities is ruled by the few worst examples, and differences
            of perplexities have no stable unit.
        ``perplexity/nll``: mean over examples of NLL per token (nats, lower is better). This is what is paired and
            tested: a difference of -0.1 means that the typical example's perplexity fell by the factor exp(-0.1).

    An example without supervised tokens (all of it cut away, or a prompt) does not apply. A log-probability that is
    not finite is NaN and counted, and left out of the perplexity, which says so. Without a model in
    process (generation through a server) everything is NaN.
    """
    examples = [example for example in ctx.examples if any(message.supervised for message in example.messages)]
    if len({example.id for example in examples}) < len(examples):
        raise DataError("two held-out conversations have the same id; ids must be unique")
    found: list[tuple[float, int]] = ctx.logprobs(examples) if ctx.logprobs and examples else []
    note = "" if ctx.logprobs else "; not computed: there is no model in process"
    values = {} if ctx.logprobs else {example.id: NAN for example in examples}
    details: dict[str, dict[str, float]] = {}
    total, tokens = 0.0, 0
    for example, (logprob, count) in zip(examples, found, strict=bool(ctx.logprobs)):
        if count == 0:
            continue
        values[example.id] = -logprob / count if math.isfinite(logprob) else NAN
        if math.isfinite(logprob):
            details[example.id] = {"nll": -logprob, "tokens": count}
            total, tokens = total - logprob, tokens + count
    infinite = sum(math.isnan(value) for value in values.values())
    if ctx.logprobs and infinite:
        note = f"; {infinite} examples without a finite probability left out"
    groups = {example.id: example.group_key for example in examples}
    of_examples = score_from(
        "perplexity/nll",
        values,
        groups,
        seed=ctx.seed,
        direction="lower",
        unit="nats",
        summary=f"mean negative log-likelihood per token of a held-out answer{note}",
        details=details,
    )
    whole = Score(
        "perplexity",
        math.exp(min(total / tokens, 700)) if tokens else NAN,  # exp overflows above 709
        len(details),
        "lower",
        unit="perplexity",
        summary=f"perplexity of held-out answers; compared through perplexity/nll{note}",
    )
    return [whole, of_examples]
