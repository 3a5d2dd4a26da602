"""Decoding in process: one prefix for all rows; a row that has ended makes place for the next prompt.

What is drawn for a row depends on its seed alone, not on the rows that it happens to run with.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from agentft.engine.prefix import why_not
from agentft.engine.shared_attention import HIDDEN, attending
from agentft.engine.virtual import in_hidden_states, virtual_tokens
from agentft.engine.window import SLACK, window

# Tokens of a prefill that run at once: rows beyond that take turns, so that a batch of long prompts does not fill the memory, and
# what one layer computes is still in the processor's cache when the next one reads it.
PREFILL_TOKENS = 1024
# Rows leave, and others join, when this share of the rows has ended: one prefill for a few rows is cheaper than one for each.
LEAVE = 1 / 16


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


def decode(model: Any, shared: Sequence[tuple[Any, Any]], rows: Sequence[Sequence[int]], **options: Any) -> list[list[int]]:
    """New token ids of each row, its stop token included. ``options``: those of :class:`Decoding`."""
    run = Decoding(model, shared, rows, **options)
    while run.busy:
        run.turn()
    return run.produced


class Decoding:
    """Rows on their way through the model, at most ``slots`` at a time, in the order given.

    The last token of a prompt is run with the first step, not with the prefill. So rows with the same prompt (candidates) need one
    prefill: the others copy its keys, and all draw their first token from a step of their own.

    Args:
        shared: what :func:`shared_keys` gave for the tokens in front of every row; empty for none.
        rows: the remaining tokens of each row, at least one. Equal rows should stand together, longer ones first.
        stops: tokens that end a row.
        pad: any token; it fills up shorter rows of a prefill and is never seen.
        new_tokens: limit for each row.
        choose: logits ``[n, vocabulary]`` and the numbers of these n rows -> token ids ``[n]``.
        forced: number of a row -> all tokens up to its end where these are certain, else nothing; they cost no forward pass.
        slots: rows that run together at most; None = all.

    Attributes:
        produced: new tokens of each row so far.
        alive: number of the row in each slot that is taken.
        waiting: numbers of the rows that have not joined yet.
    """

    def __init__(
        self,
        model: Any,
        shared: Sequence[tuple[Any, Any]],
        rows: Sequence[Sequence[int]],
        *,
        stops: set[int],
        pad: int,
        new_tokens: int,
        choose: Callable[[Any, Sequence[int]], Any],
        forced: Callable[[int], Sequence[int]] | None = None,
        slots: int | None = None,
    ):
        self.model, self.shared, self.rows = model, shared, rows
        self.stops, self.pad, self.new_tokens = stops, pad, new_tokens
        self.choose, self.forced = choose, forced
        self.slots = min(slots or len(rows), len(rows))
        self.produced: list[list[int]] = [[] for _ in rows]
        self.alive: list[int] = []
        self._ended: list[bool] = []  # per slot, like the next three
        self._starts: list[int] = []  # column of the row's first token
        self._next: list[int] = []  # token to run with the next step
        self.waiting = deque(range(len(rows)))
        self._before = shared[0][0].shape[2] if shared else 0
        self._column = 0  # where all rows write next
        self._cache = window(self.slots, 0)

    @property
    def busy(self) -> bool:
        return bool(self.alive or self.waiting)

    def turn(self) -> list[int]:
        """Let rows join, run until enough have ended, let those leave, and say their numbers."""
        import torch

        self._join()
        # Rows that leave before the end of the queue only make the products smaller; that pays off as early as for others to join.
        enough = max(1, int(LEAVE * len(self.alive)))
        starts = torch.tensor(self._starts, device=self.model.device)[:, None]
        while sum(self._ended) < min(enough, len(self.alive)):
            chosen = self.choose(self._step(starts), self.alive).tolist()
            for slot, token in enumerate(chosen):
                if not self._ended[slot]:
                    self._take(slot, token)
        return self._leave()

    def _take(self, slot: int, token: int) -> None:
        number = self.alive[slot]
        new = self.produced[number]
        new.append(token)
        self._next[slot] = token
        self._ended[slot] = token in self.stops or len(new) == self.new_tokens
        rest = self.forced(number) if self.forced and not self._ended[slot] else ()
        if rest:
            new.extend(rest)
            self._ended[slot] = True

    def _step(self, starts: Any) -> Any:
        """Logits of all slots after their next token. ``starts``: ``_starts`` as a column; moved along with the window."""
        import torch

        if self._column == self._cache.width:
            starts += self._move(0)
        low, start = min(self._starts), self._column
        self._column += 1
        return self._forward(torch.tensor(self._next, device=starts.device)[:, None], starts, slice(0, len(self.alive)), low, start)

    def _forward(self, tokens: Any, starts: Any, part: slice, low: int, start: int) -> Any:
        """Run ``tokens`` in the slots ``part``, from column ``start`` on; ``starts``: where each row begins, as a column."""
        import torch

        end = start + tokens.shape[1]
        queries, keys = torch.arange(start, end, device=starts.device), torch.arange(low, end, device=starts.device)
        hidden = (keys < starts[:, :, None]) | (keys > queries[:, None])
        mask = torch.zeros(hidden.shape, device=starts.device).masked_fill_(hidden, HIDDEN)[:, None]
        positions = (queries - starts).clamp(min=0) + self._before
        self._cache.place(part, low, start)
        with attending(self.model, self.shared):
            return self.model(
                input_ids=tokens, attention_mask=mask, position_ids=positions, past_key_values=self._cache, use_cache=True, logits_to_keep=1
            ).logits[:, -1]

    def _join(self) -> None:
        """Fill the free slots: a prefill for each prompt that is not there yet, a copy of its keys for the others."""
        numbers = [self.waiting.popleft() for _ in range(min(self.slots - len(self.alive), len(self.waiting)))]
        if not numbers:
            return
        longest = max(len(self.rows[number]) for number in numbers) - 1
        if not self.alive or self._column < longest:
            self._move(longest)
        place = {tuple(self.rows[number]): slot for slot, number in enumerate(self.alive)}
        first = len(self.alive)
        fresh: list[int] = []
        copies: list[int] = []
        for number in numbers:
            row = tuple(self.rows[number])
            (copies if row in place else fresh).append(number)
            place.setdefault(row, first + len(fresh) - 1)
        for number in (*fresh, *copies):
            self.alive.append(number)
            self._ended.append(False)
            self._starts.append(self._column - len(self.rows[number]) + 1)
            self._next.append(self.rows[number][-1])
        self._prefill(fresh, first)
        self._copy([place[tuple(self.rows[number])] for number in copies], first + len(fresh))

    def _prefill(self, numbers: Sequence[int], first: int) -> None:
        """Keys of the rows ``numbers`` into the slots from ``first`` on, so that they end before the current column."""
        import torch

        at, device = 0, self.model.device
        while at < len(numbers):
            # Longer ones come first: the first of a part is as wide as the part, or nearly so.
            part = numbers[at : at + max(1, PREFILL_TOKENS // len(self.rows[numbers[at]]))]
            rows = [list(self.rows[number][:-1]) for number in part]
            width = max(map(len, rows))
            if width:
                tokens = torch.tensor([[self.pad] * (width - len(row)) + row for row in rows], device=device)
                starts = torch.tensor([[self._column - len(row)] for row in rows], device=device)
                begin = self._column - width
                self._forward(tokens, starts, slice(first + at, first + at + len(part)), begin, begin)
            at += len(part)

    def _copy(self, sources: Sequence[int], first: int) -> None:
        """The prompts' keys of the slots ``sources`` into the slots from ``first`` on."""
        groups: dict[tuple[int, int], list[tuple[int, int]]] = {}
        for target, source in enumerate(sources, first):
            length = self._column - self._starts[target]
            groups.setdefault((self._starts[source], length), []).append((source, target))
        for (start, length), pairs in groups.items():
            if length:
                to = slice(self._column - length, self._column)
                self._cache.copy([source for source, _ in pairs], [target for _, target in pairs], slice(start, start + length), to)

    def _leave(self) -> list[int]:
        """Take out the rows that have ended: those at the end move into their slots."""
        gone = [number for number, over in zip(self.alive, self._ended, strict=True) if over]
        self._hand_over()
        count = len(self.alive) - sum(self._ended)
        holes = [slot for slot in range(count) if self._ended[slot]]
        tails = [slot for slot in range(count, len(self.alive)) if not self._ended[slot]]
        if holes:
            columns = slice(min(self._starts[slot] for slot in tails), self._column)
            self._cache.copy(tails, holes, columns, columns)
        for per_slot in (self.alive, self._ended, self._starts, self._next):
            held: list[Any] = per_slot
            for hole, tail in zip(holes, tails, strict=True):
                held[hole] = held[tail]
            del held[count:]
        return gone

    def _hand_over(self) -> None:
        """A row that has ended leaves its slot and its prompt's keys to the next in the queue, if that is another candidate."""
        for slot, number in enumerate(self.alive):
            row = self.rows[number]
            if self._ended[slot] and self.waiting and self.rows[self.waiting[0]] == row:
                start, length = self._starts[slot], len(row) - 1
                self.alive[slot], self._ended[slot] = self.waiting.popleft(), False
                self._starts[slot], self._next[slot] = self._column - length, row[-1]
                if length:
                    self._cache.copy([slot], [slot], slice(start, start + length), slice(self._column - length, self._column))

    def _move(self, need: int) -> int:
        """Move the window to the left as far as it goes, or to where ``need`` columns are before it; by how much, to the right."""
        low = min(self._starts) if self.alive else self._column
        end = max(self._column - low, need)
        self._cache.move(len(self.alive), slice(low, self._column), end, end + SLACK)
        shift, self._column = end - self._column, end
        self._starts = [start + shift for start in self._starts]
        return shift
