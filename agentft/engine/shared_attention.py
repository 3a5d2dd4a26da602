"""Attention to tokens that all rows share: their keys and values are kept once and read once, never repeated.

A batch of answers to one persona attends, in every layer and at every step, to the same few hundred tokens. With a copy of their
keys and values per row, reading the copies is what generation waits for. Here the queries of all rows meet the shared keys in one
product, and each row's own keys in another; the two parts are joined as one softmax by their maxima and sums (the merge of
FlashAttention, Dao et al. 2022), so that every token attends to exactly what it would in a row of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

NAME = "agentft_shared_prefix"
_shared: ContextVar[Sequence[tuple[Any, Any]]] = ContextVar("shared", default=())
# What some architectures pass to their attention and this one does not do.
UNKNOWN = ("position_bias", "softcap", "s_aux")
# Added to the score of a key that a query must not see. Not infinity: a row of padding sees nothing at all, and must not become NaN.
HIDDEN = -1e30


@contextmanager
def attending(model: Any, shared: Sequence[tuple[Any, Any]]) -> Iterator[None]:
    """Within, ``model`` attends to ``shared`` (keys and values per layer, ``[1, kv heads, P, head size]``; may be empty) and to its cache.

    Every forward pass inside needs a mask ``[rows, 1, queries, keys]`` over the rows' own tokens, float32: 0, or ``HIDDEN``.
    """
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, attend)
    config = model.config.get_text_config()
    before = config._attn_implementation
    token = _shared.set(shared)
    config._attn_implementation = NAME
    try:
        yield
    finally:
        config._attn_implementation = before
        _shared.reset(token)


def attend(
    module: Any, query: Any, key: Any, value: Any, attention_mask: Any, scaling: float | None = None, dropout: float = 0.0, **rest: Any
) -> tuple[Any, None]:
    """An attention function of transformers.

    Args:
        query: ``[rows, heads, queries, head size]``.
        key, value: the rows' own tokens, ``[rows, kv heads, keys, head size]``.
        attention_mask: 0 where a query may look, else ``HIDDEN``; ``[rows, 1, queries, keys]``.

    Returns:
        ``[rows, queries, heads, head size]``, and no weights.
    """
    if dropout or any(rest.get(name) is not None for name in UNKNOWN):
        raise NotImplementedError(f"{type(module).__name__} asks for an attention that cannot be shared")
    rows, heads, steps, size = query.shape
    kv = key.shape[1]
    scale = size**-0.5 if scaling is None else scaling
    # Heads that use one key head stand below each other, so that it is read once for all of them.
    queries = (query * scale).reshape(rows, kv, heads // kv * steps, size)
    scores = (queries @ key.transpose(2, 3)).float()
    scores.view(rows, kv, heads // kv, steps, -1).add_(attention_mask[:, :, None])
    own = _part(scores, value)
    shared = _shared.get()
    if shared:
        prefix_key, prefix_value = shared[module.layer_idx]
        together = queries.transpose(0, 1).reshape(kv, -1, size)
        parts = _part((together @ prefix_key[0].transpose(1, 2)).float(), prefix_value[0])
        shape = (kv, rows, heads // kv * steps, -1)
        own = _merged(own, tuple(part.view(shape).transpose(0, 1) for part in parts))
    total, _, weight = own
    out = (total / weight).to(query.dtype)
    return out.view(rows, heads, steps, -1).transpose(1, 2).contiguous(), None


def _part(scores: Any, value: Any) -> tuple[Any, Any, Any]:
    """Weighted sum of the values, maximum of the scores, and sum of the weights, all before normalisation."""
    top = scores.amax(-1, keepdim=True)
    weights = scores.sub_(top).exp_()
    return (weights.to(value.dtype) @ value).float(), top, weights.sum(-1, keepdim=True)


def _merged(one: tuple[Any, Any, Any], other: tuple[Any, Any, Any]) -> tuple[Any, Any, Any]:
    import torch

    top = torch.maximum(one[1], other[1])
    first, second = (one[1] - top).exp(), (other[1] - top).exp()
    return one[0] * first + other[0] * second, top, one[2] * first + other[2] * second
