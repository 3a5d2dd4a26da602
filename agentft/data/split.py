"""Splitting by group, so that no customer, text or problem is in two parts."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from agentft.records import Example

PARTS = ("train", "validation", "test")


def split(examples: Sequence[Example], *, validation: float, test: float, by: str, seed: int) -> dict[str, list[Example]]:
    """Divide ``examples`` into train, validation and test.

    Groups are put in an order that only depends on their names and the seed, and are dealt to test, then validation,
    until each has its share of the *rows*. A part whose share is above 0 gets at least one group if there are three.

    Args:
        validation, test: shares of the rows, 0..1.
        by: ``group`` (the examples' group), ``id`` (every row for itself), or the name of a meta key.
        seed: another seed gives another order.
    """
    groups: dict[str, list[Example]] = {}
    for example in examples:
        groups.setdefault(_key(example, by), []).append(example)
    order = sorted(groups, key=lambda name: hashlib.sha256(f"{seed}\x1f{name}".encode()).hexdigest())
    parts: dict[str, list[Example]] = {part: [] for part in PARTS}
    quota = {"test": test * len(examples), "validation": validation * len(examples)}
    for name in order:
        part = next((p for p, share in quota.items() if len(parts[p]) + len(groups[name]) / 2 <= share), "train")
        if part == "train" and len(order) >= 3:
            # A small share of few groups would round to nothing; an empty part is never what was asked for.
            part = next((p for p, share in quota.items() if share > 0 and not parts[p]), "train")
        parts[part] += groups[name]
    place = {example.id: index for index, example in enumerate(examples)}
    return {part: sorted(rows, key=lambda e: place[e.id]) for part, rows in parts.items()}


def _key(example: Example, by: str) -> str:
    if by == "group":
        return example.group_key
    if by == "id":
        return example.id
    return str(example.meta.get(by, example.id))


def prompt_key(example: Example) -> str:
    """What makes two prompts the same: the user's messages without case and white space."""
    return "\x1e".join("".join(m.content.lower().split()) for m in example.messages if m.role == "user")


def known_prompts(examples: Iterable[Example]) -> set[str]:
    """Keys of every prompt that is answered in ``examples``, the earlier turns of conversations included."""
    keys: set[str] = set()
    for example in examples:
        parts: list[str] = []
        for message in example.messages:
            if message.role == "user":
                parts.append("".join(message.content.lower().split()))
                keys.add("\x1e".join(parts))
    return keys
