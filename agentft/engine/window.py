"""Keys and values of the rows' own tokens: one block per layer in which rows come and go.

All rows write their next token into the same column, so that a step is one write and one read of a slice, wherever each row began.
A row that joins late has its prompt in the columns before the current one; what stands further left in its slot is zeros or an
earlier row's, finite in either case, and hidden by the mask.
"""

from __future__ import annotations

import functools
from typing import Any

# Columns to the right of the window when it is moved: it moves once in that many steps at most.
SLACK = 64


@functools.cache
def _window_class() -> Any:
    import torch
    from transformers.cache_utils import Cache, DynamicLayer

    class Block(DynamicLayer):
        """Keys and values of one layer: written in place, read as a view."""

        def __init__(self, owner: Any):
            super().__init__()
            self.owner = owner

        def update(self, key_states: Any, value_states: Any, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
            at = self.owner
            if self.keys is None:
                self.keys, self.values = (
                    states.new_zeros((at.slots, states.shape[1], at.width, states.shape[3])) for states in (key_states, value_states)
                )
                self.is_initialized = True
            keys, values = self.keys, self.values
            assert keys is not None and values is not None
            end = at.start + key_states.shape[2]
            keys[at.part, :, at.start : end] = key_states
            values[at.part, :, at.start : end] = value_states
            return keys[at.part, :, at.low : end], values[at.part, :, at.low : end]

        def get_seq_length(self) -> int:
            return self.owner.start - self.owner.low

    class Window(Cache):
        """See :func:`window`."""

        def __init__(self, slots: int, width: int):
            make: Any = functools.partial(Block, self)  # called without arguments when a layer writes for the first time
            super().__init__(layer_class_to_replicate=make)
            self.slots, self.width = slots, width
            self.part, self.low, self.start = slice(0, slots), 0, 0

        def _tensors(self) -> Any:
            blocks: list[Any] = self.layers
            for block in blocks:
                for name in ("keys", "values"):
                    yield block, name, getattr(block, name)

        def place(self, part: slice, low: int, start: int) -> None:
            """The next forward pass runs the slots ``part``, writes from column ``start`` and sees the columns from ``low`` on."""
            self.part, self.low, self.start = part, low, start

        def copy(self, sources: list[int], targets: list[int], columns: slice, to: slice) -> None:
            """What the slots ``sources`` have in ``columns`` is written into the slots ``targets`` at ``to``."""
            for _, _, held in self._tensors():
                held[torch.tensor(targets, device=held.device), :, to] = held[torch.tensor(sources, device=held.device), :, columns]

        def move(self, rows: int, columns: slice, end: int, width: int) -> None:
            """The first ``rows`` slots keep ``columns``, which now end before column ``end`` of ``width``; all else is zeros."""
            self.width = width
            for block, name, held in self._tensors():
                new = held.new_zeros((self.slots, held.shape[1], width, held.shape[3]))
                new[:rows, :, end - (columns.stop - columns.start) : end] = held[:rows, :, columns]
                setattr(block, name, new)

    return Window


def window(slots: int, width: int) -> Any:
    """A cache for transformers of ``slots`` rows and ``width`` columns; memory is taken with the first forward pass."""
    return _window_class()(slots, width)
