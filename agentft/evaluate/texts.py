"""``text-perplexity`` and ``masked-perplexity``: how well a model predicts held-out raw texts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from agentft.contracts import EvalContext, Generate
from agentft.errors import DataError
from agentft.evaluate.common import NAN, score_from
from agentft.evaluate.perplexity import whole_score
from agentft.labelled import Labelled
from agentft.records import Sample, Score


def text_perplexity(samples: Sequence[Sample], generate: Generate, config: Any, ctx: EvalContext) -> list[Score]:
    """How well a language model predicts held-out texts, token by token from left to right.

    Returns:
        ``text-perplexity``: exp(total NLL / total tokens) over all texts, lower is better; no per-sample values, as for
            :func:`agentft.evaluate.perplexity.perplexity`.
        ``text-perplexity/nll``: mean over texts of the negative log-likelihood per token (nats); paired and tested.
        ``bits-per-byte``: mean over texts of NLL / (ln 2 * bytes of the text in UTF-8); paired and tested. It does not
            depend on how a tokenizer cuts the text, so that it compares models with different tokenizers, and Chinese texts (3 bytes
            a character) with each other. Its summary tells the figure of all texts together.

    A text whose probability is not finite is NaN and counted.

    Raises:
        DataError: the model does not read from left to right, or two texts have the same id.
    """
    if ctx.text_logprobs is None:
        raise DataError("'text-perplexity' is for models that read from left to right; for encoders use masked-perplexity")
    whole, of_tokens, found = _scores("text-perplexity", "of held-out texts", ctx, ctx.text_logprobs(ctx.texts))
    bits = {name: nll / math.log(2) for name, nll in found.items()}
    size = {text.id: len(text.text.encode()) for text in ctx.texts}
    scored = [name for name, value in bits.items() if not math.isnan(value)]
    corpus = sum(bits[name] for name in scored) / sum(size[name] for name in scored) if scored else NAN
    of_bytes = score_from(
        "bits-per-byte",
        {name: value / size[name] for name, value in bits.items()},
        {text.id: text.group_key for text in ctx.texts},
        seed=ctx.seed,
        direction="lower",
        unit="bits",
        summary=f"mean over texts of bits per byte; comparable between tokenizers; over all texts together {corpus:.4f}",
    )
    return [whole, of_tokens, of_bytes]


def masked_perplexity(samples: Sequence[Sample], generate: Generate, config: Any, ctx: EvalContext) -> list[Score]:
    """How well an encoder guesses masked tokens of held-out texts; the masks are the same for both models.

    Returns:
        ``masked-perplexity``: exp(total NLL / masked tokens) over all texts, lower is better.
        ``masked-perplexity/nll``: mean over texts of NLL per masked token (nats); paired and tested.

    It depends on the tokenizer and on the share that is masked: compare it only between models that have both in common.

    Raises:
        DataError: the model does not fill in masks, or two texts have the same id.
    """
    if ctx.masked_logprobs is None:
        raise DataError("'masked-perplexity' is for recipes that end with `mlm`; for language models use text-perplexity")
    return list(_scores("masked-perplexity", "of masked tokens of held-out texts", ctx, ctx.masked_logprobs(ctx.texts))[:2])


def _scores(name: str, what: str, ctx: EvalContext, found: Sequence[tuple[float, int]]) -> tuple[Score, Score, dict[str, float]]:
    """Perplexity of all texts, NLL per token of each, and NLL of each by id (NaN where it is not finite)."""
    texts: Sequence[Labelled] = ctx.texts
    if len({text.id for text in texts}) < len(texts):
        raise DataError("two held-out texts have the same id; ids must be unique")
    nll: dict[str, float] = {}
    tokens: dict[str, int] = {}
    for text, (logprob, count) in zip(texts, found, strict=True):
        if count:
            nll[text.id], tokens[text.id] = (-logprob if math.isfinite(logprob) else NAN), count
    good = [one for one, value in nll.items() if not math.isnan(value)]
    details = {one: {"nll": nll[one], "tokens": tokens[one]} for one in good}
    groups = {text.id: text.group_key for text in texts}
    note = f"; {len(nll) - len(good)} texts without a finite probability left out" if len(good) < len(nll) else ""
    number = sum(tokens[one] for one in good)
    whole = whole_score(name, details, groups, ctx.seed, f"perplexity {what}, {number} tokens; compared through {name}/nll{note}")
    of_tokens = score_from(
        f"{name}/nll",
        {one: value / tokens[one] for one, value in nll.items()},
        groups,
        seed=ctx.seed,
        direction="lower",
        unit="nats",
        summary=f"mean negative log-likelihood per token {what}{note}",
        details=details,
    )
    return whole, of_tokens, nll
