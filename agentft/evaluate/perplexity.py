"""``perplexity``: how well the agent predicts the demonstrated answers of held-out conversations."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from agentft.contracts import EvalContext, Generate
from agentft.errors import DataError
from agentft.evaluate.common import NAN, score_from
from agentft.evaluate.statistics import statistic_ci
from agentft.records import Sample, Score


def perplexity(samples: Sequence[Sample], generate: Generate, config: Any, ctx: EvalContext) -> list[Score]:
    """Perplexity and, for the comparison, the negative log-likelihood that it is made of; both over supervised tokens only.

    Returns:
        ``perplexity``: exp(total NLL / total tokens), one figure for the corpus with a bootstrap interval, lower is better. It carries
            no per-sample values on purpose: a mean of per-example perplexities is ruled by the few worst examples, and differences
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
    for example, (logprob, count) in zip(examples, found, strict=bool(ctx.logprobs)):
        if count == 0:
            continue
        values[example.id] = -logprob / count if math.isfinite(logprob) else NAN
        if math.isfinite(logprob):
            details[example.id] = {"nll": -logprob, "tokens": count}
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
    summary = f"perplexity of held-out answers; compared through perplexity/nll{note}"
    return [whole_score("perplexity", details, groups, ctx.seed, summary), of_examples]


def whole_score(name: str, details: Mapping[str, Mapping[str, float]], groups: Mapping[str, str], seed: int, summary: str) -> Score:
    """``exp(total NLL / total tokens)`` with a bootstrap interval by clusters, without values of single samples.

    Args:
        details: sample id -> ``nll`` (nats) and ``tokens``.
    """
    parts = np.array([[one["nll"], one["tokens"]] for one in details.values()], dtype=np.float64).reshape(len(details), 2)
    labels = [groups.get(key, key) for key in details]

    def figure(sums: Any) -> Any:
        return np.array([[perplexity_of(*row)] for row in sums.tolist()])

    ci = statistic_ci(figure, parts, labels, seed=seed)[0] if details else None
    return Score(name, perplexity_of(*parts.sum(axis=0).tolist()), len(details), "lower", ci=ci, unit="perplexity", summary=summary)


def perplexity_of(nll: float, tokens: float) -> float:
    """``exp(nll / tokens)``: total negative log-likelihood in nats over the number of tokens; NaN without tokens."""
    return math.exp(min(nll / tokens, 700)) if tokens else NAN  # exp overflows above 709


def text_logprobs(folder: str, texts: Sequence[str], batch_size: int = 8) -> list[tuple[float, int]]:
    """Sum of the log-probabilities (natural logarithm) of each text's tokens under a causal model, and their number.

    The text stands alone, without a chat template. The start token is put in front where the tokenizer has one; else the first token is
    not predicted.

    Raises:
        DataError: a text is longer than the model's context.
    """
    from agentft.components import ModelRef
    from agentft.engine.models import check_folder, load_model, load_tokenizer
    from agentft.engine.profile import detect
    from agentft.engine.score import summed

    check_folder(Path(folder))
    ref, profile = ModelRef(folder, folder, "", "folder"), detect()
    tokenizer, model = load_tokenizer(ref), load_model(ref, profile)
    context = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    start = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    rows = [start + tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    if context and (long := max(map(len, rows), default=0)) > context:
        raise DataError(f"a text of {long} tokens exceeds the model's context of {context}")
    order = [index for index in sorted(range(len(rows)), key=lambda index: len(rows[index])) if len(rows[index]) > 1]
    labelled = [(index, rows[index], [-100, *rows[index][1:]]) for index in order]
    return summed(model, labelled, len(rows), size=batch_size, pad_token_id=tokenizer.pad_token_id)
