"""Decoding without an end: rows join whenever they come, each with a limit of its own, and may be taken out at any time.

The same steps as :class:`~agentft.engine.decode.Decoding`, one at a time, so that every token can be passed on as soon as it is there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from agentft.engine.decode import Decoding
from agentft.engine.window import window


class Live(Decoding):
    """Rows with numbers that the caller chooses; what is known of one is kept until :meth:`forget`.

    Args:
        shared: as for :class:`~agentft.engine.decode.Decoding`, like ``stops`` and ``pad``.
        choose: logits ``[n, vocabulary]`` and the numbers of these n rows -> token ids ``[n]``.
        slots: rows that run together at most.
    """

    rows: dict[int, Sequence[int]]  # type: ignore[assignment]
    produced: dict[int, list[int]]  # type: ignore[assignment]

    def __init__(
        self,
        model: Any,
        shared: Sequence[tuple[Any, Any]],
        *,
        stops: set[int],
        pad: int,
        choose: Callable[[Any, Sequence[int]], Any],
        slots: int,
    ):
        super().__init__(model, shared, [], stops=stops, pad=pad, new_tokens=0, choose=choose)
        self.rows, self.produced, self.limits = {}, {}, dict[int, int]()
        self.slots, self._cache = slots, window(slots, 0)

    def add(self, number: int, row: Sequence[int], new_tokens: int) -> None:
        """A row of at least one token, which gets ``new_tokens`` at most."""
        if not row or new_tokens < 1:
            raise ValueError("a row needs a token, and room for one")
        self.rows[number], self.produced[number], self.limits[number] = row, [], new_tokens
        self.waiting.append(number)

    def cancel(self, number: int) -> None:
        """The row gets no more tokens and is forgotten; a place that it has is free with the next step."""
        if number in self.waiting:
            self.waiting.remove(number)
            self.forget(number)
        elif number in self.alive:
            self._ended[self.alive.index(number)] = True

    def forget(self, number: int) -> None:
        """Of a row that has ended."""
        for held in (self.rows, self.produced, self.limits):
            held.pop(number, None)

    def step(self) -> list[int]:
        """One more token for each row; rows that wait join before. The numbers of those that have ended with it."""
        import torch

        if any(self._ended):  # those that were cancelled
            for number in self._leave():
                self.forget(number)
        if self.waiting:
            # Longer ones first, as a prefill wants them; equal ones stay together.
            self.waiting = deque(sorted(self.waiting, key=lambda number: -len(self.rows[number])))
            self._join()
        if not self.alive:
            return []
        starts = torch.tensor(self._starts, device=self.model.device)[:, None]
        chosen = self.choose(self._step(starts), self.alive).tolist()
        for slot, token in enumerate(chosen):
            self._take(slot, token)
        return self._leave() if any(self._ended) else []

    def _take(self, slot: int, token: int) -> None:
        number = self.alive[slot]
        new = self.produced[number]
        new.append(token)
        self._next[slot] = token
        self._ended[slot] = token in self.stops or len(new) >= self.limits[number]
