"""Attention within a :class:`~agentft.engine.tree.Tree`, as an attention function of transformers: no model is changed for it.

Each segment gives two pieces: its tokens among themselves (causal), and everything below it against it (a plain product). A token's
pieces are joined as one softmax by their log-sum-exps; the gradient of each piece follows from the joined output and log-sum-exp alone, as
in FlashAttention (Dao 2023), so nothing of size N x N is ever computed or kept. A dense mask instead would compute every pair of tokens:
with 16 conversations behind one persona nine tenths of them are masked. On CUDA the same rule is a block mask of FlexAttention.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from agentft.engine import tree_half
from agentft.engine.shared_attention import UNKNOWN
from agentft.engine.tree import Segment, Tree

NAME = "agentft_tree"
NOTHING = -1e30  # log-sum-exp of no key at all; finite, so that two of them can be subtracted
BEFORE = "_agentft_attention"  # on the configuration: what NAME stands in for


class NotShared(Exception):
    """This model asks its attention for something that has not been proven equal in a tree."""


@contextmanager
def attending(model: Any) -> Iterator[None]:
    """Within, forward passes of ``model`` are over a tree, given to each of them as ``tree=``.

    With gradient checkpointing layers run again in the backward pass, so there it stays until :func:`no_longer`.
    """
    import torch
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, attend)
    config = model.config.get_text_config()
    if config._attn_implementation != NAME:
        setattr(config, BEFORE, config._attn_implementation)
        config._attn_implementation = NAME
    try:
        yield
    finally:
        if not (torch.is_grad_enabled() and model.training and getattr(model, "is_gradient_checkpointing", False)):
            no_longer(model)


def no_longer(model: Any) -> None:
    """Forward passes of ``model`` are over ordinary rows again."""
    config = model.config.get_text_config()
    if config._attn_implementation == NAME:
        config._attn_implementation = getattr(config, BEFORE)


def attend(
    module: Any,
    query: Any,
    key: Any,
    value: Any,
    attention_mask: Any,
    scaling: float | None = None,
    dropout: float = 0.0,
    tree: Tree | None = None,
    **rest: Any,
) -> tuple[Any, None]:
    """An attention function of transformers.

    Args:
        query: ``[1, heads, N, head size]``.
        key, value: ``[1, kv heads, N, head size]``.
        attention_mask: none.
        tree: with N tokens.

    Returns:
        ``[1, N, heads, head size]``, and no weights.

    Raises:
        NotShared: something is asked for that is not known here.
    """
    unknown = [name for name in UNKNOWN if rest.get(name) is not None]
    if dropout or tree is None or unknown or attention_mask is not None or not getattr(module, "is_causal", True):
        raise NotShared(f"{type(module).__name__} asks for an attention that is not known in a tree")
    window = rest.get("sliding_window")
    if window is None and "sliding_window" not in rest and _declared(module, tree):
        raise NotShared(f"{type(module).__name__} does not say which layers have a window")
    if window is not None and window >= tree.longest:
        window = None
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    if _flexible(query):
        return _flex(query, key, value, tree, scale, window).transpose(1, 2).contiguous(), None
    return _function().apply(query, key, value, tree, scale, window), None


def _declared(module: Any, tree: Tree) -> bool:
    """Whether the model has a window that rows of this length would notice."""
    window: int | None = getattr(getattr(module, "config", None), "sliding_window", None)
    return window is not None and 0 < window < tree.longest


def _flexible(query: Any) -> bool:
    """Whether FlexAttention has a kernel here; else the pieces run as plain products."""
    import importlib.util

    return bool(query.device.type == "cuda" and query.shape[-1] >= 16 and importlib.util.find_spec("triton") is not None)


def _flex(query: Any, key: Any, value: Any, tree: Tree, scale: float, window: int | None) -> Any:
    """The same through FlexAttention, compiled on a GPU."""
    from torch.nn.attention.flex_attention import flex_attention

    function = _compiled() if _flexible(query) else flex_attention
    return function(query, key, value, block_mask=block_mask(tree, window), scale=scale, enable_gqa=query.shape[1] != key.shape[1])


@cache
def _compiled() -> Any:
    import torch
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention, dynamic=True)


def block_mask(tree: Tree, window: int | None = None) -> Any:
    """The rule of the tree as a block mask of FlexAttention; kept with the tree, because every layer asks for it."""
    from torch.nn.attention.flex_attention import create_block_mask

    if window not in tree.masks:
        ends, positions = tree.ends, tree.positions

        def seen(_batch: Any, _head: Any, query: Any, key: Any) -> Any:
            inside = (key <= query) & (query < ends[key])
            return inside if window is None else inside & (positions[query] - positions[key] < window)

        tree.masks[window] = create_block_mask(seen, None, None, len(tree), len(tree), device=str(ends.device))
    return tree.masks[window]


@cache
def _function() -> Any:
    import torch
    from torch.autograd.function import once_differentiable

    class Pieces(torch.autograd.Function):
        """Float32 inside: on CPUs without AMX it is as fast as bf16 here, and the pieces are joined without rounding in between."""

        @staticmethod
        def forward(ctx: Any, query: Any, key: Any, value: Any, tree: Tree, scale: float, window: int | None) -> Any:
            with torch.autocast(query.device.type, enabled=False):
                out, lse = _join(*_float(query, key, value), tree, scale, window)
            out = out.to(query.dtype)
            ctx.save_for_backward(query, key, value, out, lse)
            ctx.rest = (tree, scale, window)
            return out[None]

        @staticmethod
        @once_differentiable
        def backward(ctx: Any, *grads: Any) -> Any:
            with torch.autocast(grads[0].device.type, enabled=False):
                found = _gradients(grads[0], *ctx.saved_tensors, *ctx.rest)
            return *found, None, None, None

    return Pieces


def _float(query: Any, key: Any, value: Any) -> tuple[Any, Any, Any]:
    """In float32, with a key head per query head."""
    groups = query.shape[1] // key.shape[1]
    wide = (part.float() if groups == 1 else part.float().repeat_interleave(groups, 1) for part in (key, value))
    return query.float(), *wide


def _pieces(tree: Tree, window: int | None) -> Iterator[tuple[Segment, slice, bool, Any]]:
    """Segment, its queries, whether these are its own (causal), and a mask where the window cuts (None where it does not)."""
    for segment in tree.segments:
        own = slice(segment.start, segment.stop)
        for rows, causal in ((own, True), (slice(segment.stop, segment.end), False)):
            if rows.start == rows.stop:
                continue
            mask = None
            if window is not None:
                far = tree.positions[rows, None] - tree.positions[None, own]
                if int(far.max()) >= window:
                    mask = (far < window) & (far >= 0) if causal else far < window
                    if not mask.any():
                        continue
            yield segment, rows, causal, mask


def _join(q: Any, k: Any, v: Any, tree: Tree, scale: float, window: int | None) -> tuple[Any, Any]:
    """Output (N, heads, size) and log-sum-exp (1, heads, N)."""
    import torch

    _, heads, size, _ = q.shape
    out = q.new_zeros(tree.levels, size, heads, v.shape[-1]) if window else q.new_empty(tree.levels, size, heads, v.shape[-1])
    lse = q.new_full((tree.levels, size, heads), NOTHING)
    for segment, rows, causal, mask in _pieces(tree, window):
        keys = slice(segment.start, segment.stop)
        part, top = _piece(q[:, :, rows], k[:, :, keys], v[:, :, keys], causal, mask, scale)
        out[segment.level, rows] = part[0].transpose(0, 1)
        lse[segment.level, rows] = top[0].t().clamp(min=NOTHING)
    whole, top = out[0], lse[0]  # level 0 has every token, the others those that are so deep
    for level in range(1, tree.levels):
        for rows in tree.depths[level]:
            share = torch.sigmoid(lse[level, rows] - top[rows])[..., None]
            torch.lerp(whole[rows], out[level, rows], share, out=whole[rows])
            torch.logaddexp(top[rows], lse[level, rows], out=top[rows])
    return whole, top.t()[None]


def _gradients(grad: Any, query: Any, key: Any, value: Any, out: Any, lse: Any, tree: Tree, scale: float, window: int | None) -> Any:
    """Gradients of ``query``, ``key`` and ``value``, in their dtypes; ``grad`` (1, N, heads, size), ``out`` (N, heads, size)."""
    half = window is None and tree_half.halved(query)
    # In float32 as in the forward pass; (1, heads, N, size), as the queries.
    q, k, v = _float(query, key, value)
    grad, whole = grad.float().transpose(1, 2), out.float()[None].transpose(1, 2)
    groups = query.shape[1] // key.shape[1]
    dq = q.new_empty(q.shape[0], q.shape[2], *q.shape[1::2]).transpose(1, 2)
    dk, dv = (part.new_zeros(1, key.shape[1], *part.shape[2:]) for part in (k, v))
    leaves = tree.leaves if half else None
    apart = set(leaves.segments) if leaves is not None else set()
    first = window is None and not any(segment.level == 0 for segment in apart)
    if not first:
        dq.zero_()
    for segment, rows, causal, mask in _pieces(tree, window):
        if segment in apart:
            continue
        keys = slice(segment.start, segment.stop)
        given = (grad[:, :, rows], q[:, :, rows], k[:, :, keys], v[:, :, keys], whole[:, :, rows], lse[:, :, rows])
        if half and not causal:
            one, two, three = tree_half.below(*given, groups, scale)
        else:
            one, two, three = _piece_gradients(*given, causal, mask, scale)
            two, three = (part.view(1, -1, groups, *part.shape[2:]).sum(2) for part in (two, three))
        _put(dq[:, :, rows], one, first and segment.level == 0)
        dk[:, :, keys] += two
        dv[:, :, keys] += three
    if leaves is not None:
        tree_half.add_leaves(leaves, grad, q, k, v, whole, lse, (dq, dk, dv), groups, scale)
    return dq.to(query.dtype), dk.to(key.dtype), dv.to(value.dtype)


def _put(target: Any, part: Any, first: bool) -> None:
    """Write where nothing is yet, add elsewhere."""
    if first:
        target.copy_(part)
    else:
        target += part


def _piece(q: Any, k: Any, v: Any, causal: bool, mask: Any, scale: float) -> tuple[Any, Any]:
    """Output (1, heads, rows, size) and log-sum-exp (1, heads, rows) of one piece; ``mask`` (rows, keys) is true where a query looks."""
    import torch

    if mask is None and _fused(q, v):
        return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, k, v, 0.0, causal, scale=scale)
    scores = _scores(q, k, causal, mask, scale)
    lse = scores.logsumexp(-1)
    weights = (scores - lse[..., None].clamp(min=NOTHING)).exp()
    return weights @ v, lse


def _piece_gradients(grad: Any, q: Any, k: Any, v: Any, out: Any, lse: Any, causal: bool, mask: Any, scale: float) -> tuple[Any, Any, Any]:
    """Gradients of ``q``, ``k`` and ``v`` of one piece, given output and log-sum-exp of *all* pieces of these queries."""
    import torch

    if mask is None and _fused(q, v):
        backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
        return backward(grad, q, k, v, out, lse, 0.0, causal, scale=scale)
    weights = (_scores(q, k, causal, mask, scale) - lse[..., None]).exp()
    slope = weights * (grad @ v.transpose(2, 3) - (grad * out).sum(-1, keepdim=True))
    return slope @ k * scale, slope.transpose(2, 3) @ q * scale, weights.transpose(2, 3) @ grad


def _scores(q: Any, k: Any, causal: bool, mask: Any, scale: float) -> Any:
    scores = q @ k.transpose(2, 3) * scale
    if mask is None and causal:
        mask = scores.new_ones(scores.shape[2:]).tril().bool()
    return scores if mask is None else scores.masked_fill(~mask, float("-inf"))


@cache
def _has_flash() -> bool:
    import torch

    names = ("_scaled_dot_product_flash_attention_for_cpu", "_scaled_dot_product_flash_attention_for_cpu_backward")
    return all(hasattr(torch.ops.aten, name) for name in names)


def _fused(q: Any, v: Any) -> bool:
    """Whether torch has its FlashAttention here. It gives the log-sum-exp, and takes the one of all pieces in its backward pass."""
    return q.device.type == "cpu" and q.shape[-1] == v.shape[-1] and _has_flash()
