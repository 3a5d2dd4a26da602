"""The data stage: sources -> transforms -> split, written as JSON lines with an account of every row."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any

from agentft.contracts import DataContext
from agentft.data.jsonl import write_examples, write_rows
from agentft.data.split import PARTS, known_prompts, prompt_key, split
from agentft.errors import DataError
from agentft.records import Example, Preference


@dataclass(frozen=True)
class Step:
    """A source or transform ready to be called: ``run(ctx)`` or ``run(records, ctx)``."""

    name: str
    run: Callable[..., Iterator[Any]]
    weight: float = 1.0


@dataclass
class Account:
    """Rows in, out and dropped by reason for each step, as the report and ``agentft data`` show them."""

    sources: list[dict[str, Any]] = field(default_factory=list)
    steps: list[dict[str, Any]] = field(default_factory=list)
    splits: dict[str, int] = field(default_factory=dict)
    dropped: list[dict[str, str]] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        return {"sources": self.sources, "steps": self.steps, "splits": self.splits, "dropped": self.dropped}


def prepare(
    out: Path,
    *,
    sources: Sequence[Step],
    transforms: Sequence[Step],
    prompts: Sequence[Step],
    split_options: Mapping[str, Any],
    max_prompts: int | None,
    ctx: DataContext,
) -> Account:
    """Write ``train``, ``validation``, ``test`` and ``prompts`` (``.jsonl``) and ``account.json`` into ``out``.

    Preferences go to ``pairs.train.jsonl`` and so on, where a source gives any; transforms are for demonstrations only.

    A prompt whose text is answered anywhere in the training or validation part is dropped and counted: an agent
    must not be examined on what it has seen.

    Raises:
        DataError: no row is left, or a source cannot be read.
    """
    account = Account()
    loaded = _load(sources, account, ctx)
    preferences = _distinct([row for row in loaded if isinstance(row, Preference)], account)
    rows = _learnable([row for row in loaded if isinstance(row, Example)], account)
    for step in transforms:
        fresh = replace(ctx, drops=Counter(), dropped=[])
        before = len(rows)
        rows = list(step.run(iter(rows), fresh))
        _book(account, step.name, before, len(rows), fresh)
    if sources and not rows and not preferences:
        raise DataError(f"no row is left to train on; {_story(account)}")
    parts, pairs = _split(rows, preferences, split_options)
    trained = [*parts["train"], *parts["validation"], *(one.prompt for part in ("train", "validation") for one in pairs[part])]
    asked = _select_prompts(
        [row for row in _load(prompts, account, ctx) if isinstance(row, Example)], trained, max_prompts, ctx.seed, account
    )
    for part in PARTS:
        account.splits[part] = write_examples(out / f"{part}.jsonl", parts[part])
    account.splits["prompts"] = write_examples(out / "prompts.jsonl", asked)
    if preferences:
        for part in ("train", "validation"):
            account.splits[f"pairs.{part}"] = write_rows(out / f"pairs.{part}.jsonl", (one.to_dict() for one in pairs[part]))
        if pairs["test"]:
            account.splits["pairs.test"] = write_rows(out / "pairs.test.jsonl", (one.to_dict() for one in pairs["test"]))
    account.files = sorted(set(ctx.files))
    (out / "account.json").write_text(json.dumps(account.to_dict(), ensure_ascii=False, indent=1), encoding="utf-8")
    return account


def _split(
    rows: list[Example], preferences: list[Preference], options: Mapping[str, Any]
) -> tuple[dict[str, list[Example]], dict[str, list[Preference]]]:
    """Demonstrations and preferences divided together, so that no group is in two parts."""
    by_id = {f"preference\x1f{one.id}": one for one in preferences}
    stand_ins = [replace(one.prompt, id=key, group=one.group_key) for key, one in by_id.items()]
    parts = split([*rows, *stand_ins], **options)
    pairs = {part: [by_id[row.id] for row in found if row.id in by_id] for part, found in parts.items()}
    return {part: [row for row in found if row.id not in by_id] for part, found in parts.items()}, pairs


def _distinct(preferences: list[Preference], account: Account) -> list[Preference]:
    """Each pair once; the same two answers the other way round contradict each other, and both go."""
    ctx = DataContext()
    kept: dict[str, Preference] = {}
    same: dict[Any, list[Preference]] = {}
    against: set[str] = set()
    for one in preferences:
        prompt = json.dumps([message.to_dict() for message in one.prompt.messages], sort_keys=True)
        sides = [json.dumps(side.to_dict(), sort_keys=True) if side else None for side in (one.chosen, one.rejected)]
        known, turned = same.setdefault((prompt, *sides), []), same.get((prompt, *sides[::-1]))
        # A copy that the weight of a source made has the very same prompt; it is wanted.
        if known and known[0].prompt is not one.prompt:
            ctx.drop("duplicate preference", one.id)
        elif turned:
            against |= {other.id for other in turned}
            ctx.drop("preferred both ways", one.id)
        else:
            known.append(one)
            kept[one.id] = one
    for name in sorted(against):
        ctx.drop("preferred both ways", name)
        del kept[name]
    if preferences:
        _book(account, "preferences", len(preferences), len(kept), ctx)
    return list(kept.values())


def _load(steps: Sequence[Step], account: Account, ctx: DataContext) -> list[Example | Preference]:
    result: list[Example | Preference] = []
    ids: Counter[str] = Counter()
    for index, step in enumerate(steps):
        fresh = replace(ctx, drops=Counter(), dropped=[])
        rows = list(step.run(fresh))
        read = len(rows) + fresh.drops.total()
        rows = _weighted(rows, step, Random(f"{ctx.seed}:{index}"), fresh)
        account.sources.append({"name": step.name, "rows": read, "used": len(rows), "dropped": dict(fresh.drops)})
        account.dropped += fresh.dropped
        for row in rows:
            ids[row.id] += 1
            # Two sources may use the same ids; a row must be found again by its id alone.
            if ids[row.id] == 1:
                result.append(row)
            elif isinstance(row, Preference):
                result.append(replace(row, id=f"{row.id}~{ids[row.id]}"))
            else:
                result.append(replace(row, id=f"{row.id}~{ids[row.id]}", group=row.group_key))
    return result


def _weighted(rows: list[Any], step: Step, random: Random, ctx: DataContext) -> list[Any]:
    whole, rest = int(step.weight), step.weight - int(step.weight)
    chosen = set(random.sample(range(len(rows)), round(rest * len(rows))))
    for index, row in enumerate(rows):
        if whole == 0 and index not in chosen:
            ctx.drop(f"left out by weight {step.weight:g}", row.id)
    return rows * whole + [row for index, row in enumerate(rows) if index in chosen]


def _learnable(rows: list[Example], account: Account) -> list[Example]:
    kept = []
    ctx = DataContext()
    for row in rows:
        if any(m.supervised and (m.content.strip() or m.tool_calls) for m in row.messages):
            kept.append(row)
        else:
            ctx.drop("no answer to learn from", row.id)
    _book(account, "demonstrations", len(rows), len(kept), ctx)
    return kept


def _select_prompts(asked: list[Example], trained: Sequence[Example], limit: int | None, seed: int, account: Account) -> list[Example]:
    seen = known_prompts(trained)
    ctx, kept, keys = DataContext(), [], set()
    for prompt in asked:
        key = prompt_key(prompt)
        if prompt.as_prompt()[0].messages[-1:] == () or prompt.as_prompt()[0].messages[-1].role not in ("user", "tool"):
            ctx.drop("prompt does not end with the user", prompt.id)
        elif key in seen:
            ctx.drop("prompt is in the training data", prompt.id)
        elif key in keys:
            ctx.drop("duplicate prompt", prompt.id)
        else:
            keys.add(key)
            kept.append(prompt)
    if limit is not None and len(kept) > limit:
        chosen = set(Random(seed).sample(range(len(kept)), limit))
        for index, prompt in enumerate(kept):
            if index not in chosen:
                ctx.drop("over max_prompts", prompt.id)
        kept = [prompt for index, prompt in enumerate(kept) if index in chosen]
    if asked:
        _book(account, "prompts", len(asked), len(kept), ctx)
        if not kept:
            raise DataError(f"no prompt is left to evaluate on; {_story(account)}")
    return kept


def _book(account: Account, name: str, before: int, after: int, ctx: DataContext) -> None:
    account.steps.append({"name": name, "rows_in": before, "rows_out": after, "drops": dict(ctx.drops)})
    account.dropped += ctx.dropped[: max(0, 2000 - len(account.dropped))]


def _story(account: Account) -> str:
    reasons = Counter[str]()
    for step in account.sources:
        reasons.update(step["dropped"])
    for step in account.steps:
        reasons.update(step["drops"])
    rows = sum(source["rows"] for source in account.sources)
    return f"{rows} rows read; dropped: " + (", ".join(f"{count} {reason}" for reason, count in reasons.most_common()) or "none")
