"""The transform ``balance``: repeat rows of small classes, or leave out rows of large ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from random import Random
from statistics import median
from typing import Annotated, Literal

from pydantic import Field

from agentft.contracts import DataContext
from agentft.errors import DataError
from agentft.labelled import Labelled, Record
from agentft.validation import Model


class BalanceConfig(Model):
    """Options of the transform ``balance``."""

    by: str = Field("label", min_length=1, description="`label`, or a key of the rows' meta data such as `intent`")
    method: Literal["over", "under"] = Field(
        "over", description="`over` repeats rows of small classes, `under` leaves out rows of large ones"
    )
    to: Literal["max", "min", "median"] | Annotated[int, Field(ge=1)] | None = Field(
        None, description="size to reach: `max`, `min` or `median` of the classes, or a number; default: `max` for over, `min` for under"
    )


def balance(records: Iterable[Record], config: BalanceConfig | None, ctx: DataContext) -> Iterator[Record]:
    """Bring classes nearer to one size. Class counts before and after stand in ``ctx.notes``.

    ``over`` repeats every row of a class about equally often; a copy has the id ``ID+b1``, the group of its row, and
    ``meta.augmented``. ``under`` draws rows by the seed. A class on the other side of the size stays as it is, as do rows without
    the meta key. All rows are held in memory, as classes must be counted before anything is decided.

    Raises:
        DataError: ``by: label`` and a row without a single class.
    """
    config = config or BalanceConfig.model_validate({})
    rows = [(record, _class(record, config.by)) for record in records]
    before = Counter(name for _, name in rows if name is not None)
    if missing := sum(name is None for _, name in rows):
        ctx.change(f"without {config.by}, kept as they are", missing)
    goal = _goal(before, config)
    rng = Random(f"{ctx.seed}:balance")
    wanted = {name: _times(before[name], goal, config.method, rng) for name in sorted(before)}
    after: Counter[str] = Counter()
    for record, name in rows:
        times = 1 if name is None else wanted[name].pop()
        if times == 0:
            ctx.drop("over the size of its class", record.id)
            continue
        if name is not None:
            after[name] += times
        yield record
        for number in range(1, times):
            ctx.change("copied")
            yield replace(record, id=f"{record.id}+b{number}", group=record.group_key, meta={**record.meta, "augmented": record.id})
    ctx.notes["classes"] = {"by": config.by, "before": dict(before.most_common()), "after": dict(after.most_common())}


def _class(record: Record, by: str) -> str | None:
    if by != "label":
        value = record.meta.get(by)
        return None if value is None else str(value)
    label = record.label if isinstance(record, Labelled) else None
    if label is None or isinstance(label, float | list | tuple):
        what = "is a conversation" if not isinstance(record, Labelled) else "has no label" if label is None else "has no single class"
        raise DataError(f"balance: row {record.id} {what}; name a meta key with 'by', or take 'balance' out")
    return str(label)


def _goal(counts: Counter[str], config: BalanceConfig) -> int:
    if not counts:
        return 0
    to = config.to if config.to is not None else ("max" if config.method == "over" else "min")
    if isinstance(to, int):
        return to
    sizes = counts.values()
    return {"max": max(sizes), "min": min(sizes), "median": round(median(sizes))}[to]


def _times(count: int, goal: int, method: str, rng: Random) -> list[int]:
    """How often each of ``count`` rows is given; sums to ``goal`` where the method may change the class at all."""
    if (goal <= count) if method == "over" else (goal >= count):
        return [1] * count
    each, rest = divmod(goal, count)
    times = [each + 1] * rest + [each] * (count - rest)
    rng.shuffle(times)
    return times
