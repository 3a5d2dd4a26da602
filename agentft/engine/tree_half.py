"""Gradients of a tree's larger pieces in bf16 products, on CPUs that multiply bf16 in hardware.

torch's own backward pass for CPUs gains nothing from bf16. Here a piece is five matrix products, of many segments at a time, with two
passes over the scores in between. Scores are kept in bf16, whose error is relative: so what they are compared with, the log-sum-exp
(and for the slope the mean), is subtracted inside the product, as two more columns, before anything is rounded. A weight of 0.5 is then
off by 0.1 %, and not by the 4 % that rounding a score of 10 would give.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agentft.engine.tree import Segment

CHUNK = 1 << 20  # scores at a time: 2 MB, which stay in the cache between the products
FULL = 0.6  # leaves are padded to the longest and run together where at least this share of that is tokens


@dataclass(frozen=True)
class Leaves:
    """Segments without children, side by side.

    Attributes:
        index: (n, L) int64, tokens of the tree; padding repeats the first.
        mask: (n, L, L) bf16, 0 where a query looks, minus infinity elsewhere.
    """

    segments: tuple[Segment, ...]
    index: Any
    mask: Any


def side_by_side(segments: Sequence[Segment], device: Any) -> Leaves | None:
    """The leaves among ``segments``, or None where there are few or their lengths differ too much."""
    import torch

    leaves = [segment for segment in segments if segment.stop == segment.end]
    lengths = [leaf.stop - leaf.start for leaf in leaves]
    longest = max(lengths)
    if len(leaves) < 2 or sum(lengths) < FULL * longest * len(leaves):
        return None
    place = torch.arange(longest, device=device)
    starts, sizes = (torch.tensor(values, device=device)[:, None] for values in ([leaf.start for leaf in leaves], lengths))
    real = place < sizes
    index = starts + torch.where(real, place, 0)
    seen = (place[None, :] <= place[:, None])[None] & real[:, :, None] & real[:, None, :]
    mask = torch.zeros(seen.shape, dtype=torch.bfloat16, device=device).masked_fill_(~seen, float("-inf"))
    return Leaves(tuple(leaves), index, mask)


@cache
def _hardware() -> bool:
    from agentft.engine.profile import bf16_hardware

    return bool(bf16_hardware())


def halved(query: Any) -> bool:
    """Whether bf16 is what these queries came in, and what this machine is fast in."""
    import torch

    return bool(query.dtype is torch.bfloat16 and query.device.type == "cpu" and _hardware())


def below(grad: Any, q: Any, k: Any, v: Any, out: Any, lse: Any, groups: int, scale: float) -> tuple[Any, Any, Any]:
    """Gradients of a piece without a mask: queries below a segment against its keys.

    Args:
        grad, q, out: (1, heads, rows, size) float32; ``k``, ``v``: (1, heads, keys, size), equal within each group of heads.
        lse: (1, heads, rows), of all pieces of these queries.

    Returns:
        of ``q`` as it is; of ``k`` and ``v`` with a head per group.
    """
    import torch

    heads, rows, keys = q.shape[1], q.shape[2], k.shape[2]
    step = max(64, CHUNK // (groups * keys))
    found = torch.empty_like(q)
    dk: list[Any] = []
    dv: list[Any] = []
    mean = (grad * out).sum(-1)
    for first in range(0, heads, groups):
        key, value = _behind(k[0, first]), _behind(v[0, first])
        narrow = k[0, first].bfloat16()
        some = slice(first, first + groups)
        for start in range(0, rows, step):
            part = slice(start, start + step)
            # The heads of a group stand below each other: their keys are read once.
            query = _before(q[0, some, part] * scale, lse[0, some, part]).flatten(0, 1)
            slope = _before(grad[0, some, part], mean[0, some, part]).flatten(0, 1)
            weights = (query @ key.t()).exp_()
            change = (slope @ value.t()).mul_(weights)
            found[0, some, part] = (change @ narrow).view(groups, -1, q.shape[3]).float() * scale
            size = q.shape[3]
            one, two = (change.t() @ query[:, :size]).float(), (weights.t() @ slope[:, : v.shape[3]]).float()
            if start:
                dk[-1] += one
                dv[-1] += two
            else:
                dk.append(one)
                dv.append(two)
    return found, torch.stack(dk)[None], torch.stack(dv)[None]


def add_leaves(
    found: Leaves, grad: Any, q: Any, k: Any, v: Any, out: Any, lse: Any, sums: tuple[Any, Any, Any], groups: int, scale: float
) -> None:
    """Add the gradients of the leaves' tokens among themselves to ``sums``: of ``q``, and of ``k`` and ``v`` with a head per group."""
    index, (heads, size) = found.index, (q.shape[1], q.shape[3])
    count, longest = index.shape

    def gathered(part: Any) -> Any:
        return part[0][:, index]

    slope = _before(gathered(grad), gathered((grad * out).sum(-1))).flatten(0, 1)
    query = _before(gathered(q) * scale, gathered(lse)).flatten(0, 1)
    key, value = (_behind(gathered(part)).flatten(0, 1) for part in (k, v))
    scores = query @ key.transpose(1, 2)
    scores.view(heads, count, longest, longest).add_(found.mask)
    weights = scores.exp_()
    change = (slope @ value.transpose(1, 2)).mul_(weights)
    of_q = (change @ key[..., :size]).mul_(scale).view(heads, count, longest, size)
    of_k = (change.transpose(1, 2) @ query[..., :size]).view(heads // groups, groups, count, longest, size).float().sum(1)
    of_v = (weights.transpose(1, 2) @ slope[..., : v.shape[3]]).view(heads // groups, groups, count, longest, -1).float().sum(1)
    for place, leaf in enumerate(found.segments):
        tokens, length = slice(leaf.start, leaf.stop), leaf.stop - leaf.start
        for target, part in zip(sums, (of_q, of_k, of_v), strict=True):
            target[0, :, tokens] += part[:, place, :length]


def _before(left: Any, less: Any) -> Any:
    """bf16 of ``left`` with ``less`` behind it in two columns: together they have 16 bits of it."""
    import torch

    high = less.bfloat16()
    return torch.cat((left.bfloat16(), high[..., None], (less - high.float()).bfloat16()[..., None]), dim=-1)


def _behind(right: Any) -> Any:
    """bf16 of ``right`` with the two columns that subtract what :func:`_before` put there."""
    import torch

    return torch.cat((right.bfloat16(), right.new_full((*right.shape[:-1], 2), -1.0, dtype=torch.bfloat16)), dim=-1)
