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
    queries = query.reshape(rows, kv, heads // kv * steps, size)
    scores = ((queries * scale) @ key.transpose(2, 3)).float()
    scores.view(rows, kv, heads // kv, steps, -1).add_(attention_mask[:, :, None])
    out, mass = _weighted(scores, value)
    shared = _shared.get()
    if shared:
        prefix_key, prefix_value = shared[module.layer_idx]
        together = queries.transpose(0, 1).reshape(1, kv, -1, size)
        other, other_mass = (
            one.view(kv, rows, heads // kv * steps, -1).transpose(0, 1) for one in _part(together, prefix_key, prefix_value, scale)
        )
        # The shares of the two parts of one softmax: exp(a) / (exp(a) + exp(b)) is the logistic function of a - b.
        out = out.lerp(other, (other_mass - mass).sigmoid())
    return out.to(query.dtype).view(rows, heads, steps, -1).transpose(1, 2).contiguous(), None


def _part(query: Any, key: Any, value: Any, scale: float) -> tuple[Any, Any]:
    """Every query ``[1, kv heads, queries, head size]`` sees every key; as :func:`_weighted`."""
    import torch

    flash = getattr(torch.ops.aten, "_scaled_dot_product_flash_attention_for_cpu", None)
    if flash is not None and query.device.type == "cpu" and query.dtype == torch.float32 and key.shape[3] == value.shape[3]:
        # torch's own kernel: it never has all scores in memory, which for a prefill behind a long prefix are many.
        out, mass = flash(query, key, value, scale=scale)
        return out, mass[..., None]
    return _weighted(((query * scale) @ key.transpose(2, 3)).float(), value)


def _weighted(scores: Any, value: Any) -> tuple[Any, Any]:
    """The values weighted by the softmax of ``scores``, and the logarithm of the sum of the exponentials, both float32."""
    top = scores.amax(-1, keepdim=True)
    weights = scores.sub_(top).exp_()
    total = weights.sum(-1, keepdim=True)
    return (weights.to(value.dtype) @ value).float() / total, top + total.log()
