"""Splitting by group, so that no customer, text or problem is in two parts."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence

from agentft.labelled import Labelled, Record

PARTS = ("train", "validation", "test")


def split(
    examples: Sequence[Record], *, validation: float, test: float, by: str, seed: int, stratify: str | None = None
) -> dict[str, list[Record]]:
    """Divide ``examples`` into train, validation and test, in their order; see :func:`assign`.

    Args:
        validation, test: shares of the rows, 0..1.
        by: ``group`` (the examples' group), ``id`` (every row for itself), or the name of a meta key.
        seed: another seed gives another order.
        stratify: ``label`` or a meta key whose shares are to be alike in all parts.
    """
    place = assign(((key_of(e, by), stratum_of(e, stratify)) for e in examples), validation=validation, test=test, seed=seed)
    parts: dict[str, list[Record]] = {part: [] for part in PARTS}
    for example in examples:
        parts[place[key_of(example, by)]].append(example)
    return parts


def assign(keys: Iterable[tuple[str, str]], *, validation: float, test: float, seed: int) -> dict[str, str]:
    """Group -> part, from the group and the stratum of every row.

    Groups are put in an order that only depends on their names and the seed, and are dealt to test, then validation,
    until each has its share of the *rows*, stratum by stratum; what a stratum is too small to give is asked of the next.
    A part whose share is above 0 gets at least one group if there are three. A group belongs to the stratum of its first row.
    """
    sizes: Counter[str] = Counter()
    strata: dict[str, str] = {}
    for key, stratum in keys:
        sizes[key] += 1
        strata.setdefault(key, stratum)
    order = sorted(sizes, key=lambda name: hashlib.sha256(f"{seed}\x1f{name}".encode()).hexdigest())
    members: dict[str, list[str]] = {}
    for name in order:
        members.setdefault(strata[name], []).append(name)
    place: dict[str, str] = {}
    filled = dict.fromkeys(("test", "validation"), 0)
    quota = dict.fromkeys(filled, 0.0)
    # The largest stratum last: it can make up for what the small ones could not give.
    for stratum in sorted(members, key=lambda one: (sum(sizes[name] for name in members[one]), one)):
        rows = sum(sizes[name] for name in members[stratum])
        quota["test"] += test * rows
        quota["validation"] += validation * rows
        for name in members[stratum]:
            part = next((p for p, share in quota.items() if filled[p] + sizes[name] / 2 <= share), "train")
            if part == "train" and len(order) >= 3 and len(members) == 1:
                # A small share of few groups would round to nothing; an empty part is never what was asked for.
                part = next((p for p, share in quota.items() if share > 0 and not filled[p]), "train")
            place[name] = part
            if part != "train":
                filled[part] += sizes[name]
    return place


def key_of(example: Record, by: str) -> str:
    """What must not be separated: the group, the id, or the value of a meta key."""
    if by == "group":
        return example.group_key
    if by == "id":
        return example.id
    return str(example.meta.get(by, example.id))


def stratum_of(example: Record, by: str | None) -> str:
    """The value whose shares are to be alike in all parts; one for all rows where there is none."""
    if by is None:
        return ""
    label = getattr(example, "label", None) if by == "label" else None
    return str(example.meta.get(by, "")) if label is None else str(label)


def prompt_key(example: Record) -> str:
    """What makes two prompts the same: the user's messages, or the inputs, without case, white space and punctuation."""
    if isinstance(example, Labelled):
        return _plain(example.text)
    return "\x1e".join(_plain(m.content) for m in example.messages if m.role == "user")


def _plain(text: str) -> str:
    """Letters and digits only; a text that has none (``???``) stays as it is."""
    low = text.lower()
    return "".join(c for c in low if c.isalnum()) or "".join(low.split())


def known_prompts(examples: Iterable[Record]) -> set[str]:
    """Keys of every prompt that is answered in ``examples``, the earlier turns of conversations included."""
    keys: set[str] = set()
    for example in examples:
        if isinstance(example, Labelled):
            keys.add(prompt_key(example))
            continue
        parts: list[str] = []
        for message in example.messages:
            if message.role == "user":
                parts.append(_plain(message.content))
                keys.add("\x1e".join(parts))
    return keys
