"""Decoding in process: one prefix for all rows, a cache that is allocated once, rows that have ended leave.

What is drawn for a row depends on its seed alone, not on the batch that it happens to be in.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from agentft.engine.prefix import why_not
from agentft.engine.shared_attention import attending
from agentft.engine.virtual import in_hidden_states, virtual_tokens

# Tokens of a prefill that run at once: rows beyond that take turns, so that a batch of long prompts does not fill the memory.
PREFILL_TOKENS = 4096
# The batch is packed anew when this share of its rows has ended.
LEAVE = 0.25
# Draws outside of the nucleus before the nucleus is sorted out exactly; at top_p 0.95 one in 20 draws lies outside.
TRIES = 32


def unsupported(model: Any) -> str:
    """Reason why ``model`` has to be run through transformers' own ``generate``, or an empty string."""
    reason = why_not(model)
    if reason:
        return reason
    return "" if getattr(model, "_supports_attention_backend", False) else "an attention of its own"


def shared_keys(model: Any, prefix: Sequence[int]) -> list[tuple[Any, Any]]:
    """Keys and values per layer of tokens that stand in front of every row: virtual tokens of ``model``, then ``prefix``."""
    import torch

    if not prefix and not virtual_tokens(model):
        return []
    tokens = torch.tensor([list(prefix)], dtype=torch.long, device=model.device)
    if prefix or in_hidden_states(model):
        cache = model(input_ids=tokens, use_cache=True, logits_to_keep=1).past_key_values
    else:  # prefix tuning, and nothing to run after it
        cache = model.get_prompt(1)
    return [(layer.keys, layer.values) for layer in cache.layers]


def decode(
    model: Any,
    shared: Sequence[tuple[Any, Any]],
    rows: Sequence[Sequence[int]],
    *,
    stops: set[int],
    pad: int,
    new_tokens: int,
    choose: Callable[[Any, Sequence[int]], Any],
    forced: Callable[[int], Sequence[int]] | None = None,
) -> list[list[int]]:
    """New token ids of each row, its stop token included.

    Args:
        shared: what :func:`shared_keys` gave for the tokens in front of every row; empty for none.
        rows: the remaining tokens of each row, at least one.
        choose: logits ``[rows, vocabulary]`` and the numbers of the rows -> token ids ``[rows]``.
        forced: number of a row -> all tokens up to its end where these are certain, else nothing; they cost no forward pass.
    """
    import torch

    device = model.device
    before = shared[0][0].shape[2] if shared else 0
    width, count = max(map(len, rows)), len(rows)
    gaps = torch.tensor([width - len(row) for row in rows], device=device)
    tokens = torch.tensor([[pad] * (width - len(row)) + list(row) for row in rows], device=device)
    seen = torch.arange(width + new_tokens, device=device) >= gaps[:, None]
    cache = own_cache(count, width + new_tokens)
    produced: list[list[int]] = [[] for _ in rows]

    def forward(step: Any, start: int, part: slice) -> Any:
        end = start + step.shape[1]
        columns = torch.arange(start, end, device=device)
        mask = seen[part, None, None, :end] & (torch.arange(end, device=device) <= columns[:, None])
        positions = (columns - gaps[part, None]).clamp(min=0) + before
        cache.place(part, start)
        output = model(input_ids=step, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True, logits_to_keep=1)
        return output.logits[:, -1]

    with attending(model, shared):
        each = max(1, PREFILL_TOKENS // width)
        logits = torch.cat([forward(tokens[at : at + each], 0, slice(at, at + each)) for at in range(0, count, each)])
        alive = list(range(count))  # row of the cache -> row of the batch
        ended = [False] * count
        for step in range(new_tokens):
            chosen = choose(logits, alive)
            for place, token in enumerate(chosen.tolist()):
                if not ended[place]:
                    produced[alive[place]].append(token)
                    ended[place] = token in stops
                    rest = forced(alive[place]) if forced and not ended[place] else ()
                    if rest:
                        produced[alive[place]].extend(rest)
                        ended[place] = True
            if all(ended) or step + 1 == new_tokens:
                break
            if sum(ended) > LEAVE * len(alive):
                keep = [place for place, over in enumerate(ended) if not over]
                index = torch.tensor(keep, device=device)
                cache.keep(index)
                chosen, gaps, seen = chosen[index], gaps[index], seen[index]
                alive, ended = [alive[place] for place in keep], [False] * len(keep)
            logits = forward(chosen[:, None], width + step, slice(0, len(alive)))
    return produced


@functools.cache
def _cache_class() -> Any:
    from transformers.cache_utils import Cache, DynamicLayer

    class Block(DynamicLayer):
        """Keys and values of one layer: written in place, read as a view."""

        def __init__(self, owner: Any):
            super().__init__()
            self.owner = owner
            self.used = 0

        def update(self, key_states: Any, value_states: Any, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
            if self.keys is None:
                shape = (self.owner.rows, key_states.shape[1], self.owner.width, key_states.shape[3])
                # Zeros, not empty: what is hidden is multiplied by a weight of 0, and 0 times whatever was there may be NaN.
                self.keys, self.values = key_states.new_zeros(shape), value_states.new_zeros((*shape[:3], value_states.shape[3]))
                self.is_initialized = True
            part, start = self.owner.part, self.owner.start
            self.used = start + key_states.shape[2]
            keys, values = self.keys, self.values
            assert keys is not None and values is not None
            keys[part, :, start : self.used] = key_states
            values[part, :, start : self.used] = value_states
            return keys[part, :, : self.used], values[part, :, : self.used]

        def get_seq_length(self) -> int:
            return self.used

    class OwnCache(Cache):
        """Cache of the rows' own tokens, for at most ``width`` of them."""

        def __init__(self, rows: int, width: int):
            make: Any = functools.partial(Block, self)  # called without arguments when a layer writes for the first time
            super().__init__(layer_class_to_replicate=make)
            self.rows, self.width, self.part, self.start = rows, width, slice(0, rows), 0

        def place(self, part: slice, start: int) -> None:
            """The next forward pass runs the rows ``part``, from column ``start``."""
            self.part, self.start = part, start

        def keep(self, index: Any) -> None:
            """Only the rows ``index`` stay."""
            self.rows = len(index)
            layers: list[Any] = self.layers
            for layer in layers:
                layer.keys, layer.values = layer.keys[index], layer.values[index]

    return OwnCache


def own_cache(rows: int, width: int) -> Any:
    """A cache for ``rows`` rows of up to ``width`` tokens; memory is taken once, with the first forward pass."""
    return _cache_class()(rows, width)


def greedy(logits: Any, rows: Sequence[int]) -> Any:
    """The likeliest token of each row."""
    return logits.argmax(-1)


class Sampler:
    """Draws with temperature from the nucleus (Holtzman et al. 2020), one stream of random numbers per row.

    A token is drawn from the whole distribution and drawn again where it lies outside of the nucleus: the same distribution as that
    of sorting the vocabulary and cutting it, without the sorting.

    Args:
        seeds: one per row of the batch.
        temperature: above 0.
        top_p: share of the probability that the nucleus holds at least, up to 1.
    """

    def __init__(self, seeds: Sequence[int], temperature: float, top_p: float):
        import torch

        self.streams = [torch.Generator().manual_seed(seed) for seed in seeds]
        self.temperature, self.top_p = temperature, top_p

    def __call__(self, logits: Any, rows: Sequence[int]) -> Any:
        import torch

        probs = (logits.float() / self.temperature).softmax(-1)
        chosen = torch.empty(len(rows), dtype=torch.long, device=logits.device)
        open_ = torch.arange(len(rows), device=logits.device)
        sums = probs.cumsum(-1)
        for _ in range(TRIES):
            draws = torch.tensor([float(torch.rand((), generator=self.streams[rows[place]])) for place in open_.tolist()])
            mass = sums[open_]
            found = torch.searchsorted(mass, draws.to(logits.device)[:, None] * mass[:, -1:], right=True).clamp(max=probs.shape[1] - 1)
            chosen[open_] = found[:, 0]
            if self.top_p >= 1:
                return chosen
            part = probs[open_]
            likelier = torch.where(part > part.gather(1, found), part, 0).sum(-1)
            open_ = open_[likelier >= self.top_p]
            if not len(open_):
                return chosen
        for place in open_.tolist():
            chosen[place] = self._sorted(probs[place], self.streams[rows[place]])
        return chosen

    def _sorted(self, probs: Any, stream: Any) -> Any:
        import torch

        ordered, order = probs.sort(descending=True)
        kept = ordered * (ordered.cumsum(-1) - ordered < self.top_p)
        draw = float(torch.rand((), generator=stream)) * float(kept.sum())
        return order[min(int(torch.searchsorted(kept.cumsum(-1), draw, right=True)), len(order) - 1)]
