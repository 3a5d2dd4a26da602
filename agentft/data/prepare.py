"""The data stage: sources -> transforms -> split, written as JSON lines with an account of every row."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from agentft.contracts import DataContext
from agentft.data.card import Card
from agentft.data.jsonl import read_records, write_examples, write_rows
from agentft.data.mix import interleaved, weighted
from agentft.data.preferences import unweighted
from agentft.data.split import PARTS, assign, key_of, known_prompts, prompt_key, stratum_of
from agentft.data.spool import Spool
from agentft.errors import DataError
from agentft.labelled import Labelled, Record
from agentft.records import Example, Preference


@dataclass(frozen=True)
class Step:
    """A source or transform ready to be called: ``run(ctx)`` or ``run(records, ctx)``.

    ``everywhere``: a transform that also runs on validation and test rows that come divided already. ``asks``: one that asks a model; it
    and what follows it see the training part only.
    """

    name: str
    run: Callable[..., Iterator[Any]]
    weight: float = 1.0
    everywhere: bool = False
    asks: bool = False


@dataclass
class Account:
    """Rows in, out and dropped by reason for each step, as the report and ``agentft data`` show them.

    ``warnings``: what was asked for and could not be had, in words.
    """

    sources: list[dict[str, Any]] = field(default_factory=list)
    steps: list[dict[str, Any]] = field(default_factory=list)
    splits: dict[str, int] = field(default_factory=dict)
    dropped: list[dict[str, str]] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    card: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        names = ("sources", "steps", "splits", "dropped", "card", "warnings")
        return {name: getattr(self, name) for name in names}


def prepare(
    out: Path,
    *,
    sources: Sequence[Step],
    transforms: Sequence[Step],
    prompts: Sequence[Step],
    split_options: Mapping[str, Any],
    max_prompts: int | None,
    ctx: DataContext,
    validation: Sequence[Step] = (),
    test: Sequence[Step] = (),
    mix: str = "concatenate",
    leaks: str = "drop",
    max_test: int | None = None,
) -> Account:
    """Write ``train``, ``validation``, ``test`` and ``prompts`` (``.jsonl``) and ``account.json`` into ``out``.

    Rows stream from the sources through the transforms into a file; what is held in memory of them is their group. Preferences
    go to ``pairs.train.jsonl`` and so on, where a source gives any; transforms are for the other records only.

    A prompt, or a row of a ``test`` source, whose text is anywhere in the training or validation part is counted, and dropped unless
    ``leaks`` is ``keep``: an agent must not be examined on what it has seen.

    Raises:
        DataError: no row is left, or a source cannot be read.
    """
    with ExitStack() as stack:
        work = Path(stack.enter_context(TemporaryDirectory(dir=out, prefix="spool-")))
        return _Preparation(out, work, ctx, stack).run(
            sources, transforms, prompts, validation, test, split_options, max_prompts, mix, leaks, max_test
        )


class _Preparation:
    def __init__(self, out: Path, work: Path, ctx: DataContext, stack: ExitStack):
        self.out, self.work, self.ctx, self.stack = out, work, ctx, stack
        self.account = Account()
        self.preferences: list[Preference] = []
        self.names = 0
        self.learned: dict[str, dict[str, Any]] = {}  # transform -> what it noted about the training rows

    def run(
        self,
        sources: Sequence[Step],
        transforms: Sequence[Step],
        prompts: Sequence[Step],
        validation: Sequence[Step],
        test: Sequence[Step],
        split_options: Mapping[str, Any],
        max_prompts: int | None,
        mix: str,
        leaks: str,
        max_test: int | None,
    ) -> Account:
        account, ctx = self.account, self.ctx
        asked = self.spool(self.pool(prompts))
        given = {part: self.spool(self.pool(steps)) for part, steps in (("validation", validation), ("test", test))}
        ctx.held_out = lambda: chain(asked, given["test"])
        first = next((index for index, step in enumerate(transforms) if step.asks), len(transforms))
        rows = self.spool(self.changed(self.learnable(self.training(sources, mix)), transforms[:first]))
        # After the training rows: what a transform has learned from them (which classes there are) holds for the others too.
        everywhere = [step for step in transforms if step.everywhere]
        held = {part: self.spool(self.changed(spool, everywhere, f" ({part})")) for part, spool in given.items()}
        preferences = _distinct(self.preferences, account)
        if sources and not rows.rows and not preferences:
            raise DataError(f"no row is left to train on; {_story(account)}")
        options = dict(split_options) | {part: 0.0 for part in held if held[part].rows}
        place = self.places(rows, preferences, options)
        # Hashes, not texts: a set of a million texts would be the largest thing in memory.
        trained: set[int] = set()
        learned = (row for row in rows if place[key_of(row, options["by"])] == "train")
        later = self.spool(self.changed(learned, transforms[first:])) if transforms[first:] else None
        self.write_parts(rows, place, options["by"], held["validation"], later, trained)
        pairs = {part: [one for one in preferences if place[_pair_key(one, options["by"])] == part] for part in PARTS}
        for part in ("train", "validation"):
            trained.update(map(hash, known_prompts(one.prompt for one in pairs[part])))
        self.write_test(held["test"], trained, leaks)
        if max_test is not None and self.account.splits["test"] > max_test:
            self.thin_test(max_test)
        kept = _select_prompts(asked, trained, max_prompts, ctx.seed, account)
        account.splits["prompts"] = write_examples(self.out / "prompts.jsonl", kept)
        if preferences:
            for part in PARTS:
                if part != "test" or pairs[part]:
                    account.splits[f"pairs.{part}"] = write_rows(self.out / f"pairs.{part}.jsonl", (one.to_dict() for one in pairs[part]))
        account.files = sorted(set(ctx.files))
        (self.out / "account.json").write_text(json.dumps(account.to_dict(), ensure_ascii=False, indent=1), encoding="utf-8")
        return account

    def spool(self, rows: Iterable[Record]) -> Spool:
        self.names += 1
        spool = Spool(self.work / f"{self.names}.jsonl")
        self.stack.callback(spool.close)
        for row in rows:
            spool.add(row)
        return spool

    def read(self, step: Step, fresh: DataContext) -> Iterator[Record]:
        """Records of a source; preferences go aside."""
        for row in step.run(fresh):
            if isinstance(row, Preference):
                try:
                    unweighted(row)
                except DataError as error:
                    raise DataError(f"{step.name}: preference '{row.id}': {error}") from None
                self.preferences.append(row)
            else:
                yield row

    def pool(self, steps: Sequence[Step]) -> Iterator[Record]:
        """Sources of held-out rows, one after the other."""
        seen: Counter[str] = Counter()
        for step in steps:
            fresh, used = self.ctx.fresh(), 0
            for row in self.read(step, fresh):
                used += 1
                yield _renamed(row, seen)
            self.book_source(step, used + fresh.drops.total(), used, fresh)

    def training(self, steps: Sequence[Step], mix: str) -> Iterator[Record]:
        """The sources that are learned from, with their weights."""
        seen: Counter[str] = Counter()
        found: list[tuple[Step, Spool, DataContext]] = []
        for step in steps:
            fresh = self.ctx.fresh()
            before = len(self.preferences)
            spool = self.spool(self.read(step, fresh))
            mine = self.preferences[before:]
            self.preferences[before:] = weighted(mine, len(mine), step.weight, Random(f"{self.ctx.seed}:{len(found)}"), fresh)
            fresh.notes["preferences"] = len(mine), len(self.preferences) - before
            found.append((step, spool, fresh))
        counts = [0] * len(found)
        if mix == "interleave" and len(found) > 1:
            spools, weights = [spool for _, spool, _ in found], [step.weight for step, _, _ in found]
            stream: Iterator[tuple[int, Record]] = interleaved(
                spools, weights, Random(f"{self.ctx.seed}:mix"), [fresh for *_, fresh in found]
            )
        else:
            stream = (
                (index, row)
                for index, (step, spool, fresh) in enumerate(found)
                for row in weighted(spool, spool.rows, step.weight, Random(f"{self.ctx.seed}:{index}"), fresh)
            )
        for index, row in stream:
            counts[index] += 1
            yield _renamed(row, seen)
        names: Counter[str] = Counter()
        self.preferences[:] = [_renamed(one, names) for one in self.preferences]
        for (step, spool, fresh), used in zip(found, counts, strict=True):
            read, kept = fresh.notes.pop("preferences")
            dropped = sum(n for reason, n in fresh.drops.items() if not reason.startswith(("left out by weight", "left over when")))
            self.book_source(step, spool.rows + read + dropped, used + kept, fresh)

    def learnable(self, rows: Iterable[Record]) -> Iterator[Record]:
        """Conversations without an answer to learn from are left out."""
        ctx = DataContext()
        before = after = 0
        for row in rows:
            before += 1
            if isinstance(row, Labelled) or any(m.supervised and not m.empty for m in row.messages):
                after += 1
                yield row
            else:
                ctx.drop("no answer to learn from", row.id)
        _book(self.account, "demonstrations", before, after, ctx)

    def changed(self, rows: Iterable[Record], transforms: Sequence[Step], where: str = "") -> Iterator[Record]:
        """Rows through all transforms; each keeps its own account."""
        counts: list[Counter[str]] = []
        contexts = []
        stream: Iterable[Record] = rows
        for step in transforms:
            fresh, count = self.ctx.fresh(), Counter[str]()
            fresh.notes.update(self.learned.get(step.name, {}) if where else {})
            contexts.append(fresh)
            counts.append(count)
            stream = _counted(step.run(_counted(stream, count, "in"), fresh), count, "out")
        yield from stream
        for step, fresh, count in zip(transforms, contexts, counts, strict=True):
            if not where:
                self.learned[step.name] = dict(fresh.notes)
            if not where or count["in"]:
                _book(self.account, step.name + where, count["in"], count["out"], fresh)

    def places(self, rows: Spool, preferences: Sequence[Preference], options: Mapping[str, Any]) -> dict[str, str]:
        """Group -> part, of all kinds of rows together, so that no group is in two parts."""
        keys = chain(
            ((key_of(row, options["by"]), stratum_of(row, options.get("stratify"))) for row in rows),
            ((_pair_key(one, options["by"]), stratum_of(one.prompt, options.get("stratify"))) for one in preferences),
        )
        place = assign(keys, validation=options["validation"], test=options["test"], seed=options["seed"])
        for part in ("validation", "test"):
            if place and options[part] > 0 and part not in place.values():
                groups = "one group" if len(place) == 1 else f"{len(place)} groups"
                text = (
                    f"data.split asks for {options[part]:.0%} as {part}, but that part is empty: all rows are of {groups}, which stay whole"
                )
                self.account.warnings.append(text + (" (by: id divides them row by row)" if options["by"] == "group" else ""))
        return place

    def write_parts(
        self, rows: Spool, place: Mapping[str, str], by: str, validation: Spool, train: Spool | None, trained: set[int]
    ) -> None:
        """Every row into the file of its part; a row that was made from another is only ever learned from.

        ``train``: what transforms have made of the training part meanwhile.
        """
        ctx = DataContext()
        card = Card(self.ctx.seed)
        counts = dict.fromkeys(PARTS, 0)
        with ExitStack() as files:
            streams = {part: files.enter_context((self.out / f"{part}.jsonl").open("w", encoding="utf-8")) for part in PARTS}
            placed = ((row, place[key_of(row, by)]) for row in rows)
            kept = (
                placed
                if train is None
                else chain(((row, part) for row, part in placed if part != "train"), ((row, "train") for row in train))
            )
            for row, part in chain(kept, ((row, "validation") for row in validation)):
                if part != "train" and row.meta.get("augmented"):
                    ctx.drop(f"made from a {part} row", row.id)
                    continue
                streams[part].write(json.dumps(row.to_dict(), ensure_ascii=False) + "\n")
                counts[part] += 1
                if part != "test":
                    trained.update(map(hash, known_prompts([row])))
                if part == "train":
                    card.add(row)
        if ctx.drops:
            _book(self.account, "split", sum(counts.values()) + ctx.drops.total(), sum(counts.values()), ctx)
        self.account.splits.update(counts)
        self.account.card = card.to_dict() if counts["train"] else {}

    def write_test(self, test: Spool, trained: set[int], leaks: str) -> None:
        """Rows of test sources after those of the split; what is also in the training data is counted, and dropped if so wished."""
        if not test.rows:
            return
        ctx, kept = DataContext(), 0
        with (self.out / "test.jsonl").open("a", encoding="utf-8") as stream:
            for row in test:
                if hash(prompt_key(_question(row))) in trained:
                    if leaks == "drop":
                        ctx.drop("is in the training data", row.id)
                        continue
                    ctx.change("is in the training data")
                stream.write(json.dumps(row.to_dict(), ensure_ascii=False) + "\n")
                kept += 1
        self.account.splits["test"] += kept
        _book(self.account, "test", test.rows, kept, ctx)

    def thin_test(self, most: int) -> None:
        """Only ``most`` of the test rows, drawn by seed."""
        path, count, ctx = self.out / "test.jsonl", self.account.splits["test"], DataContext()
        chosen = set(Random(f"{self.ctx.seed}:test").sample(range(count), most))
        kept = self.spool(row for index, row in enumerate(read_records(path)) if index in chosen)
        ctx.drops["over max_test"] = count - most
        self.account.splits["test"] = write_examples(path, kept)
        _book(self.account, "max_test", count, most, ctx)

    def book_source(self, step: Step, read: int, used: int, ctx: DataContext) -> None:
        row = {"name": step.name, "rows": read, "used": used, "dropped": dict(ctx.drops)}
        self.account.sources.append(row | ({"changes": dict(ctx.changes)} if ctx.changes else {}))
        self.account.dropped += ctx.dropped


def _question(row: Record) -> Record:
    return row if isinstance(row, Labelled) else row.as_prompt()[0]


def _counted(rows: Iterable[Record], count: Counter[str], what: str) -> Iterator[Record]:
    for row in rows:
        count[what] += 1
        yield row


T = TypeVar("T", bound=Example | Labelled | Preference)


def _renamed(row: T, seen: Counter[str]) -> T:
    """Two sources may use the same ids; a row must be found again by its id alone."""
    seen[row.id] += 1
    if seen[row.id] == 1:
        return row
    name = f"{row.id}~{seen[row.id]}"
    return replace(row, id=name) if isinstance(row, Preference) else replace(row, id=name, group=row.group_key)


def _pair_key(one: Preference, by: str) -> str:
    return key_of(replace(one.prompt, id=f"preference\x1f{one.id}", group=one.group_key), by)


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


def _select_prompts(asked: Spool, trained: set[int], limit: int | None, seed: int, account: Account) -> list[Record]:
    ctx = DataContext()
    kept: list[Record] = []
    keys: set[str] = set()
    for row in asked:
        key, question = prompt_key(row), _question(row)
        if isinstance(question, Example) and (not question.messages or question.messages[-1].role not in ("user", "tool")):
            ctx.drop("prompt does not end with the user", row.id)
        elif hash(key) in trained:
            ctx.drop("prompt is in the training data", row.id)
        elif key in keys:
            ctx.drop("duplicate prompt", row.id)
        else:
            keys.add(key)
            kept.append(row)
    if limit is not None and len(kept) > limit:
        chosen = set(Random(seed).sample(range(len(kept)), limit))
        for index, row in enumerate(kept):
            if index not in chosen:
                ctx.drop("over max_prompts", row.id)
        kept = [row for index, row in enumerate(kept) if index in chosen]
    if asked.rows:
        _book(account, "prompts", asked.rows, len(kept), ctx)
        if not kept:
            raise DataError(f"no prompt is left to evaluate on; {_story(account)}")
    return kept


def _book(account: Account, name: str, before: int, after: int, ctx: DataContext) -> None:
    step: dict[str, Any] = {"name": name, "rows_in": before, "rows_out": after, "drops": dict(ctx.drops)}
    account.steps.append(step | {key: value for key, value in (("changes", dict(ctx.changes)), ("notes", ctx.notes)) if value})
    account.dropped += ctx.dropped[: max(0, 2000 - len(account.dropped))]


def _story(account: Account) -> str:
    reasons = Counter[str]()
    for step in account.sources:
        reasons.update(step["dropped"])
    for step in account.steps:
        reasons.update(step["drops"])
    rows = sum(source["rows"] for source in account.sources)
    return f"{rows} rows read; dropped: " + (", ".join(f"{count} {reason}" for reason, count in reasons.most_common()) or "none")
