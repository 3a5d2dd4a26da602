"""The stages of a run as a column with arcs: what was made from what.

One stage per line, top to bottom, an arc on the left from each input. A column fits any screen, and a stage that feeds
many later ones stays readable where a layered drawing would grow wide.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from agentft.report import plain

ROW = 46
COLUMN = 76
_LEFT = 62


@dataclass(frozen=True)
class Stage:
    """A node with its input stages by name; ``foreign`` are inputs that are no stage of this run, ``why`` it was made anew."""

    name: str
    key: str
    reused: bool
    seconds: str
    inputs: tuple[str, ...]
    foreign: tuple[str, ...]
    why: str


def read_stages(lineage: Any) -> list[Stage]:
    """The stages so that every one comes after its inputs; an order that cannot exist (a circle) is kept as given."""
    records = {plain.string(node.get("stage"), "stage"): node for node in plain.rows(plain.mapping(lineage).get("nodes"))}
    stages = []
    for name in _ordered({name: plain.strings(node.get("inputs")) for name, node in records.items()}):
        node, inputs = records[name], tuple(plain.strings(records[name].get("inputs")))
        known = tuple(one for one in inputs if one in records and one != name)
        stages.append(
            Stage(
                name=name,
                key=plain.string(node.get("key"))[:12],
                reused=bool(node.get("reused")),
                seconds=plain.seconds(node.get("seconds")),
                inputs=known,
                foreign=tuple(one for one in inputs if one not in records),
                why="" if node.get("reused") else plain.string(node.get("why")),
            )
        )
    return stages


def _ordered(inputs: dict[str, list[str]]) -> list[str]:
    done: list[str] = []
    waiting = list(inputs)
    while waiting:
        # The first in the given order whose inputs are there; in a circle, simply the first.
        name = next(
            (one for one in waiting if all(other in done or other not in inputs or other == one for other in inputs[one])), waiting[0]
        )
        waiting.remove(name)
        done.append(name)
    return done


def arcs_svg(stages: Sequence[Stage]) -> str:
    """The column of dots and arcs, ``COLUMN`` px wide and ``ROW`` px per stage; empty for fewer than two stages."""
    if len(stages) < 2:
        return ""
    place = {stage.name: index for index, stage in enumerate(stages)}
    paths, dots = [], []
    for stage in stages:
        here = place[stage.name]
        y = here * ROW + ROW / 2
        for name in stage.inputs:
            paths.append(_arc(place[name] * ROW + ROW / 2, y, abs(here - place[name])))
        kind = "reused" if stage.reused else "made"
        dots.append(f'<circle class="{kind}" cx="{_LEFT}" cy="{y:g}" r="5.5"/>')
    height = ROW * len(stages)
    box = f'viewBox="0 0 {COLUMN} {height}" width="{COLUMN}" height="{height}"'
    return f'<svg class="arcs" {box} aria-hidden="true">{"".join(paths)}{"".join(dots)}</svg>'


def _arc(start: float, end: float, span: int) -> str:
    if span == 1:
        return f'<path d="M{_LEFT} {start:g} V{end:g}"/>'
    bulge = _LEFT - min(_LEFT - 4, 10 + 9 * span)
    return f'<path d="M{_LEFT} {start:g} C{bulge:g} {start:g} {bulge:g} {end:g} {_LEFT} {end:g}"/>'
