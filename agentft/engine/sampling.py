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
