"""A batch as a tree: what rows have in common is one segment, and is run through the model once.

The rows of a batch of an agent begin alike: all of them with the persona's prompt, the two sides of a preference with one question, the
candidates of a prompt with all of it. A :class:`Tree` lays every segment out once, in one row without padding, parents before
children. The position of a token is that in its own row, and it may look at the tokens of its own path only, which in this order is
``key <= query < ends[key]``. Each token then sees what it would see in a row of its own, so losses and gradients are equal, to
rounding (asserted in ``tests/engine/test_tree.py``). :mod:`agentft.engine.tree_attention` computes it.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from agentft.engine.tree_half import Leaves, side_by_side
from agentft.engine.virtual import virtual_tokens

# A segment is worth its overhead from so many saved tokens on.
WORTH = 16
REFUSED = "_agentft_rows"


@dataclass(frozen=True)
class Segment:
    """Tokens ``start`` to ``stop`` of the tree, and below it everything up to ``end``; ``level`` segments are above it."""

    start: int
    stop: int
    end: int
    level: int


@dataclass(frozen=True)
class Tree:
    """Rows of tokens with what they share laid out once.

    Attributes:
        input_ids: (N,) int64.
        positions: (N,) int64, place of each token in its row.
        ends: (N,) int64; the token ``key`` is seen by the tokens ``key <= query < ends[key]``.
        segments: in the order of the tokens, together all of them.
        places: per row, where each of its tokens is in the tree, int64.
    """

    input_ids: Any
    positions: Any
    ends: Any
    segments: tuple[Segment, ...]
    places: tuple[Any, ...]
    # Block masks of FlexAttention, made with the first layer that asks for them.
    masks: dict[Any, Any] = field(default_factory=dict, compare=False, repr=False)

    def __len__(self) -> int:
        return len(self.input_ids)

    @cached_property
    def levels(self) -> int:
        """Segments on the longest path."""
        return 1 + max(segment.level for segment in self.segments)

    @cached_property
    def longest(self) -> int:
        """Tokens of the longest row."""
        return int(self.positions.max()) + 1

    @cached_property
    def depths(self) -> list[list[slice]]:
        """Per level, the tokens that have a segment of it above them or are in one."""
        found: list[list[slice]] = [[] for _ in range(self.levels)]
        for segment in self.segments:
            ranges = found[segment.level]
            if ranges and ranges[-1].stop == segment.start:
                ranges[-1] = slice(ranges[-1].start, segment.end)
            else:
                ranges.append(slice(segment.start, segment.end))
        return found

    @cached_property
    def leaves(self) -> Leaves | None:
        """Segments without children, where it pays to run them side by side."""
        return side_by_side(self.segments, self.ends.device)

    def seen(self, window: int | None = None) -> Any:
        """(N, N) bool, true where the query (row) looks at the key (column); ``window``: at most so many positions back."""
        import torch

        index = torch.arange(len(self), device=self.ends.device)
        seen = (index[None] <= index[:, None]) & (index[:, None] < self.ends[None])
        return seen if window is None else seen & (self.positions[:, None] - self.positions[None] < window)


def grow(rows: Sequence[Sequence[int]], device: Any = None) -> Tree:
    """The tree of ``rows``, none of them empty.

    Rows are sorted, and a group of them gets a segment for what all its rows have in common, where that saves at least ``WORTH`` tokens.
    """
    import numpy as np
    import torch

    arrays = [np.asarray(row, dtype=np.int64) for row in rows]
    order = sorted(range(len(rows)), key=lambda index: list(rows[index]))
    common = [_common(arrays[a], arrays[b]) for a, b in itertools.pairwise(order)]
    tokens: list[Any] = []
    positions: list[Any] = []
    ends: list[Any] = []
    segments: list[Segment | None] = []
    places: list[Any] = [None] * len(rows)
    size = 0

    def put(low: int, high: int, depth: int, path: tuple[Any, ...]) -> None:
        """Rows ``order[low:high]``, whose first ``depth`` tokens are at ``path``."""
        nonlocal size
        row, alone = arrays[order[low]], high - low == 1
        whole = len(row) if alone else min(common[low : high - 1])
        segment, start = None, size
        if whole > depth and (alone or (whole - depth) * (high - low - 1) >= WORTH):
            segment, size = len(segments), size + whole - depth
            segments.append(None)
            tokens.append(row[depth:whole])
            positions.append(np.arange(depth, whole))
            ends.append(np.empty(whole - depth, dtype=np.int64))
            level, path, depth = len(path), (*path, np.arange(start, size)), whole
        stop = size
        if alone:
            places[order[low]] = np.concatenate(path)
        else:
            cuts = [low, *(i + 1 for i in range(low, high - 1) if common[i] <= whole), high]
            for one, other in itertools.pairwise(cuts):
                put(one, other, depth, path)
        if segment is not None:
            segments[segment] = Segment(start, stop, size, level)
            ends[segment][:] = size

    put(0, len(rows), 0, ())
    input_ids, position_ids, all_ends = (torch.from_numpy(np.concatenate(part)).to(device) for part in (tokens, positions, ends))
    found = tuple(segment for segment in segments if segment is not None)
    return Tree(input_ids, position_ids, all_ends, found, tuple(torch.from_numpy(place).to(device) for place in places))


def _common(one: Any, other: Any) -> int:
    size = min(len(one), len(other))
    different = one[:size] != other[:size]
    return int(different.argmax()) if different.any() else size


def refuse(model: Any, reason: str) -> None:
    """From now on :func:`why_not` says ``reason`` of this model: it was found out on the way."""
    setattr(model.config.get_text_config(), REFUSED, reason)


def why_not(model: Any) -> str:
    """Reason why ``model`` must see ordinary rows, or an empty string.

    Attention over the whole context or a window of it can be laid out as a tree. What carries a state from token to token, draws
    dropout (once for a shared token, where rows of their own would draw several times), adds a loss over all tokens of the batch
    (mixtures of experts), or counts positions by the length of the row, cannot.
    """
    from torch import nn

    config = model.config.get_text_config()
    if said := getattr(config, REFUSED, ""):
        return said
    if virtual_tokens(model):
        return "virtual tokens, which PEFT puts in front of whatever it is given"
    kinds = set(getattr(config, "layer_types", None) or ()) - {"full_attention", "sliding_attention"}
    if kinds:
        return f"layers with {', '.join(sorted(kinds))}"
    if getattr(config, "is_encoder_decoder", False):
        return "an encoder and a decoder"
    if getattr(config, "output_router_logits", False):
        return "a loss of the router over all tokens"
    rope = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    if "dynamic" in str(rope) or "longrope" in str(rope):
        return "positions that depend on the length of the row"
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    if not getattr(inner, "_supports_attention_backend", False):
        return "an attention of its own"
    if model.training and any(isinstance(module, nn.Dropout) and module.p > 0 for module in model.modules()):
        return "dropout"
    if model.training and getattr(config, "attention_dropout", 0):
        return "attention dropout"
    return ""
