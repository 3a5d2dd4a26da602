"""Which token comes next: the likeliest, or a draw from the nucleus with a stream of random numbers per row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def greedy(logits: Any, rows: Sequence[int]) -> Any:
    """The likeliest token of each row."""
    return logits.argmax(-1)


# Draws outside of the nucleus before the nucleus is sorted out exactly; at top_p 0.95 one in 20 draws lies outside.
TRIES = 32


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
        self.seeds = seeds
        self.streams: dict[int, Any] = {}  # of the rows that run: one takes 5 kB
        self.temperature, self.top_p = temperature, top_p

    def __call__(self, logits: Any, rows: Sequence[int]) -> Any:
        import torch

        self.streams = {row: self.streams.get(row) or torch.Generator().manual_seed(self.seeds[row]) for row in rows}
        return nucleus(logits, [self.streams[row] for row in rows], self.temperature, self.top_p)


class Draws:
    """Rows that each have settings of their own: some take the likeliest token, others draw. They may come and go."""

    def __init__(self) -> None:
        self.rows: dict[int, tuple[Any, float, float]] = {}

    def add(self, row: int, stream: Any, temperature: float, top_p: float) -> None:
        """``stream``: a generator of torch, which is used up as the row goes on; not looked at where ``temperature`` is 0."""
        self.rows[row] = (stream, temperature, top_p)

    def forget(self, row: int) -> None:
        self.rows.pop(row, None)

    def __call__(self, logits: Any, rows: Sequence[int]) -> Any:
        import torch

        chosen = greedy(logits, rows)
        drawing = [place for place, row in enumerate(rows) if self.rows[row][1]]
        if drawing:
            streams, temperatures, shares = zip(*(self.rows[rows[place]] for place in drawing), strict=True)
            temperature, top_p = (torch.tensor(values, dtype=torch.float32, device=logits.device) for values in (temperatures, shares))
            # A row that takes the whole distribution is never outside of its nucleus, whatever the rounding.
            top_p = torch.where(top_p >= 1, 2.0, top_p)
            chosen[drawing] = nucleus(logits[drawing], streams, temperature[:, None], top_p)
        return chosen


def nucleus(logits: Any, streams: Sequence[Any], temperature: Any, top_p: Any) -> Any:
    """One token per row, each drawn with its own stream.

    Args:
        logits: ``[n, vocabulary]``.
        streams: n generators of torch.
        temperature: a number above 0 for all rows, or ``[n, 1]``.
        top_p: a number for all rows, or ``[n]``; from 1 on nothing is cut.
    """
    import torch

    probs = (logits.float() / temperature).softmax(-1)
    chosen = torch.empty(len(streams), dtype=torch.long, device=logits.device)
    open_ = torch.arange(len(streams), device=logits.device)
    sums = probs.cumsum(-1)
    each = isinstance(top_p, torch.Tensor)
    for _ in range(TRIES):
        draws = torch.tensor([float(torch.rand((), generator=streams[place])) for place in open_.tolist()])
        mass = sums[open_]
        found = torch.searchsorted(mass, draws.to(logits.device)[:, None] * mass[:, -1:], right=True).clamp(max=probs.shape[1] - 1)
        chosen[open_] = found[:, 0]
        if not each and top_p >= 1:
            return chosen
        part = probs[open_]
        likelier = torch.where(part > part.gather(1, found), part, 0).sum(-1)
        open_ = open_[likelier >= (top_p[open_] if each else top_p)]
        if not len(open_):
            return chosen
    for place in open_.tolist():
        chosen[place] = _sorted(probs[place], streams[place], float(top_p[place] if each else top_p))
    return chosen


def _sorted(probs: Any, stream: Any, top_p: float) -> Any:
    import torch

    ordered, order = probs.sort(descending=True)
    kept = ordered * (ordered.cumsum(-1) - ordered < top_p)
    draw = float(torch.rand((), generator=stream)) * float(kept.sum())
    return order[min(int(torch.searchsorted(kept.cumsum(-1), draw, right=True)), len(order) - 1)]
