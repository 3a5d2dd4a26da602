"""The rounds as pictures: scores over rounds and arms, what became of the prompts, training curves.

Each ``*_svg`` function returns HTML with the picture drawn for a wide and for a narrow screen, or an empty string when
there is nothing to draw.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentft.report import plain
from agentft.report.canvas import PRINT, SMALL, Palette, add_axes, beside, figure, fit, style, text_width, ticks, to_png
from agentft.report.curves import series
from agentft.report.svg import both_widths

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ROLES = ("champion", "candidate", "control")
MARKERS = {"champion": "o", "candidate": "D", "control": "s"}
SIGNS = {"promoted": "✓", "rejected": "✗"}
MOST_PANELS = 9  # small ones
MOST_REASONS = 12
BETWEEN = 0.24  # arms of a round, in rounds
# What a training logs, in the order in which it is drawn; beta times the drift is the reward.
CURVES = {
    "loss": "loss",
    "margin": "margin of the chosen answers",
    "drift": "drift of the chosen answers (nats)",
    "reward_chosen": "reward of the chosen answers",
}

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class _Mark:
    """A score of one arm in one round; ``fate`` is what the gate said about the arm: better, worse or empty."""

    round: int
    role: str
    value: float
    ci: tuple[float, float] | None
    promoted: bool
    fate: str


@dataclass(frozen=True)
class _Panel:
    """One score over all rounds, in the unit in which it is drawn (a share in percent)."""

    name: str
    unit: str
    marks: list[_Mark] = field(default_factory=list)

    @property
    def title(self) -> str:
        unit = "%" if self.unit == "share" else "" if self.unit in ("none", "ratio") else self.unit
        return f"{self.name} ({unit})" if unit else self.name


@dataclass(frozen=True)
class _Story:
    """All that the picture of the rounds shows."""

    panels: list[_Panel]
    names: list[str]
    states: list[str]
    legend: list[tuple[str, str]]
    pairs: list[tuple[float | None, float]]
    """Kept pairs and dropped rows of each round; empty where there are not two rounds to compare."""

    @property
    def label(self) -> str:
        parts = []
        for panel in self.panels:
            values = [f"round {self.names[mark.round]} {mark.role} {mark.value:.3g}" for mark in panel.marks]
            parts.append(f"{panel.title}: {', '.join(values)}")
        parts += [
            f"round {name}: {plain.integer(kept)} pairs kept, {plain.integer(lost)} rows dropped"
            for name, (kept, lost) in zip(self.names, self.pairs, strict=False)
        ]
        return "; ".join(parts)


def _line(value: Any) -> str:
    """A text as one line that can be drawn, without control characters; empty for anything but text and numbers."""
    if not isinstance(value, str) and plain.number(value) is None:
        return ""
    return plain.printable(" ".join(str(value).split()))


def rounds_svg(found: Sequence[Mapping[str, Any]]) -> str:
    """The primary score with its interval per round and arm; below it, smaller, what must not get worse and the yield of pairs."""
    story = _read(found)
    if not story.panels:
        return ""
    return both_widths(lambda palette, width: _rounds(story, palette, width), "rounds", story.label)


def save_rounds_png(data: Mapping[str, Any], path: Path | str) -> Path:
    """The rounds of a run as one picture for a README: scores per round and arm with their intervals.

    Args:
        data: what :func:`agentft.report.render_report` takes.
        path: the PNG to write, 1600 px wide, on white.

    Raises:
        ValueError: if no round has a score to draw.
    """
    story = _read(plain.rows(data.get("rounds")))
    if not story.panels:
        raise ValueError("there is nothing to draw: no round of the run has been decided")
    with style(PRINT):
        return to_png(_rounds(story, PRINT, 800), path)


def _read(found: Sequence[Mapping[str, Any]]) -> _Story:
    wanted = [_line(one.get("primary")) for one in found]
    for kind in ("guardrail", "limit"):
        wanted += [_line(row.get("name")) for one in found for row in plain.rows(one.get("conditions")) if row.get("kind") == kind]
    panels = [panel for name in dict.fromkeys(wanted) if name and (panel := _panel(found, name)).marks]
    drawn = {mark.role for panel in panels for mark in panel.marks}
    roles = [role for role in ROLES if role in drawn] + sorted(drawn - set(ROLES))
    pairs = [(_kept(one), float(sum(n for _, n in plain.counts(one.get("drops"))))) for one in found]
    return _Story(
        panels[: MOST_PANELS + 1],
        [plain.integer(one.get("round")) for one in found],
        [_line(one.get("state")) for one in found],
        [(role, _legend(role, found)) for role in roles],
        pairs if sum(kept is not None for kept, _ in pairs) > 1 else [],
    )


def _panel(found: Sequence[Mapping[str, Any]], name: str) -> _Panel:
    marks = []
    unit = ""
    for index, one in enumerate(found):
        state = one.get("state")
        for arm in plain.rows(one.get("arms")):
            value = plain.mapping(plain.mapping(arm.get("values")).get(name))
            level, ci = plain.number(value.get("value")), plain.pair(value.get("ci"))
            if level is None:
                continue
            unit = _line(value.get("unit"))
            scale = 100.0 if unit == "share" else 1.0
            role = _line(arm.get("name"))
            promoted = bool(role) and role == one.get("promoted")
            fate = "better" if promoted else "worse" if state == "rejected" and role == "candidate" else ""
            marks.append(_Mark(index, role, scale * level, ci and (scale * ci[0], scale * ci[1]), promoted, fate))
    return _Panel(name, unit, marks)


def _kept(one: Mapping[str, Any]) -> float | None:
    """Pairs that went into training: the last line of the flow that says so."""
    counts = [plain.number(row.get("count")) for row in plain.rows(one.get("flow")) if "kept" in _line(row.get("name"))]
    return counts[-1] if counts else None


def _legend(role: str, found: Sequence[Mapping[str, Any]]) -> str:
    """The arm's name, with its label where that is the same in all rounds."""
    if role == "champion":
        return "champion before the round"
    labels = {_line(arm.get("label")) for one in found for arm in plain.rows(one.get("arms")) if arm.get("name") == role} - {
        "",
        role,
    }
    if len(labels) != 1:
        return "control arm" if role == "control" else role
    label = labels.pop()
    return label if label.startswith(role) else f"{role}: {label}"


def _rounds(story: _Story, palette: Palette, width: float) -> Figure:
    wide = width > 500
    left, right = 46.0, 14.0
    columns = 3 if wide else 2
    cells = story.panels[1:]
    lines = -(-(len(cells) + bool(story.pairs)) // columns)
    keys = 1 if wide else len(story.legend)
    top, first, small, gap = 16.0 * keys + 38, 190.0, 86.0, 52.0
    total = top + first + 44 + lines * (small + gap)
    drawn = figure(width, total)
    _keys(drawn, story.legend, palette, left, wide)
    axes = add_axes(drawn, left=left, right=right, top=top, bottom=total - top - first)
    roles = [role for role, _ in story.legend]
    _draw(axes, story.panels[0], story, roles, palette, large=True, wide=wide)
    each = (width - left - right - (columns - 1) * left) / columns
    for index in range(len(cells) + bool(story.pairs)):
        x = left + (index % columns) * (each + left)
        y = top + first + 44 + (index // columns) * (small + gap) + 26
        axes = add_axes(drawn, left=x, right=width - x - each, top=y, bottom=total - y - small)
        if index < len(cells):
            _draw(axes, cells[index], story, roles, palette, large=False, wide=wide)
        else:
            _yield(axes, story, palette)
        title = cells[index].title if index < len(cells) else "pairs ■ kept □ dropped"
        beside(axes, fit(title, SMALL, each + 30), (0, 1), ("axes fraction", "axes fraction"), (-34, 9), palette.ink, fontsize=SMALL)
    return drawn


def _keys(drawn: Figure, legend: Sequence[tuple[str, str]], palette: Palette, left: float, wide: bool) -> None:
    """What the markers mean: in a line, or one below the other."""
    from matplotlib.lines import Line2D

    width, height = drawn.get_figwidth() * 72, drawn.get_figheight() * 72
    x, y = left, 10.0
    needed = sum(text_width(label, SMALL) + 34 for _, label in legend)
    # All labels as they are where they fit, else an equal share of the line each.
    room = (width - left) / len(legend) - 34 if wide and needed > width - left else width - left - 14
    for role, label in legend:
        shape = Line2D([x / width], [1 - y / height], linestyle="none", transform=drawn.transFigure, **_shape(role, "", palette))
        drawn.add_artist(shape)
        label = fit(label, SMALL, room)
        drawn.text((x + 11) / width, 1 - y / height, label, color=palette.muted, va="center_baseline", fontsize=SMALL)
        x, y = (x + text_width(label, SMALL) + 34, y) if wide else (x, y + 16)


def _shape(role: str, fate: str, palette: Palette) -> dict[str, Any]:
    """Marker by arm; colour by what the gate said."""
    colour = palette.of(fate) if fate else palette.unclear if role == "control" else palette.ink
    face = palette.paper if role == "champion" else colour
    return {
        "marker": MARKERS.get(role, "^"),
        "color": colour,
        "markerfacecolor": face,
        "markeredgecolor": colour,
        "markersize": 7,
        "markeredgewidth": 1.6,
    }


def _draw(axes: Axes, panel: _Panel, story: _Story, roles: Sequence[str], palette: Palette, *, large: bool, wide: bool) -> None:
    count = len(story.names)
    axes.grid(axis="y", linewidth=0.8)
    place = {role: (index - (len(roles) - 1) / 2) * BETWEEN for index, role in enumerate(roles)}
    numbers = large and count <= (3 if wide else 1)
    for mark in panel.marks:
        x, shape = mark.round + place[mark.role], _shape(mark.role, mark.fate, palette)
        if not large:
            shape |= {"markersize": 5, "markeredgewidth": 1.3}
        if mark.ci is not None:
            thick: dict[str, Any] = {"linewidth": 2.2 if large else 1.6, "alpha": 0.5, "solid_capstyle": "round"}
            axes.plot([x, x], list(mark.ci), color=shape["color"], **thick)
        axes.plot([x], [mark.value], linestyle="none", **shape)
        if numbers:
            shown = f"{mark.value:.1f}" if panel.unit in ("share", "points") else plain.decimals(mark.value)
            behind = {"facecolor": palette.paper, "edgecolor": "none", "pad": 0.5}
            colour = palette.text(mark.fate)
            beside(axes, shown, (x, mark.value), ("data", "data"), (8, 0), colour, va="center", fontsize=SMALL, bbox=behind)
    _way(axes, panel, place, palette)
    axes.set_xlim(-0.55, count - 0.45)
    axes.margins(y=0.12)
    _flat(axes, panel)
    ticks(axes, "y", 6 if large else 3)
    _names(axes, story, large=large, wide=wide)
    if large:
        beside(axes, panel.title, (0, 1), ("axes fraction", "axes fraction"), (-38, 12), palette.ink)


def _way(axes: Axes, panel: _Panel, place: Mapping[str, float], palette: Palette) -> None:
    """The agent's way through the rounds: from each champion to what was promoted, which is the next champion."""
    for index, mark in enumerate(way := [mark for mark in panel.marks if mark.role == "champion" or mark.promoted]):
        if index:
            last = way[index - 1]
            ends = [last.round + place[last.role], mark.round + place[mark.role]], [last.value, mark.value]
            axes.plot(*ends, color=palette.muted, linewidth=1.1, zorder=1, linestyle="-" if mark.promoted else ":")


def _flat(axes: Axes, panel: _Panel) -> None:
    """Values that hardly differ are not blown up to a drama: the axis spans at least a tenth of the level, or four points.

    The axis of a share ends at 100 %.
    """
    low, high = axes.get_ylim()
    least = 4.0 if panel.unit in ("share", "points") else 0.1 * max(abs(low), abs(high))
    if 0 < high - low < least:
        low, high = (low + high - least) / 2, (low + high + least) / 2
    over = max(0.0, high - 101.0) if panel.unit == "share" and all(mark.value <= 100 for mark in panel.marks) else 0.0
    axes.set_ylim(low - over, high - over)


def _names(axes: Axes, story: _Story, *, large: bool, wide: bool) -> None:
    """The rounds below an axis; below the large one with what the gate said."""
    count = len(story.names)
    step = max(1, math.ceil(count / ((20 if wide else 10) if large else 6)))
    shown = []
    for index, (name, state) in enumerate(zip(story.names, story.states, strict=True)):
        sign = SIGNS.get(state, "?")
        word = f"{sign} {state}" if count <= (6 if wide else 2) else sign
        text = (f"round {name}" if count <= (6 if wide else 3) else name) + f"\n{fit(word, SMALL, 110)}" if large else name
        shown.append(text if index % step == 0 else "")
    axes.set_xticks(range(count), shown)


def _yield(axes: Axes, story: _Story, palette: Palette) -> None:
    """Kept pairs as filled bars, dropped rows as outlined ones."""
    for index, (kept, lost) in enumerate(story.pairs):
        axes.bar([index - 0.2], [kept or 0], width=0.36, color=palette.unclear)
        axes.bar([index + 0.2], [lost], width=0.36, facecolor="none", edgecolor=palette.unclear, linewidth=1.2)
    axes.set_xlim(-0.55, len(story.names) - 0.45)
    axes.set_ylim(0, 1.12 * max(1.0, *(max(kept or 0.0, lost) for kept, lost in story.pairs)))
    axes.grid(axis="y", linewidth=0.8)
    axes.set_axisbelow(True)
    ticks(axes, "y", 3, integer=True)
    _names(axes, story, large=False, wide=False)


def flow_svg(flow: Any, drops: Any, name: str) -> str:
    """From prompts to kept pairs, and what was dropped by reason, as bars on one scale."""
    rows = [(_line(row.get("name")), n) for row in plain.rows(flow) if (n := plain.number(row.get("count"))) is not None]
    reasons: list[tuple[str, float]] = [(_line(reason), float(n)) for reason, n in plain.counts(drops)]
    if len(reasons) > MOST_REASONS:
        rest = reasons[MOST_REASONS - 1 :]
        reasons = [*reasons[: MOST_REASONS - 1], (f"{len(rest)} further reasons", sum(n for _, n in rest))]
    if len(rows) + len(reasons) < 2:
        return ""
    label = ", ".join(f"{n:,.0f} {what}" for what, n in rows)
    label += ("; dropped: " + ", ".join(f"{n:,.0f} {what}" for what, n in reasons)) if reasons else ""
    return both_widths(lambda palette, width: _flow(rows, reasons, palette, width), name, label)


def _flow(rows: Sequence[tuple[str, float]], reasons: Sequence[tuple[str, float]], palette: Palette, width: float) -> Figure:
    wide = width > 500
    groups = [(group, title, filled) for group, title, filled in ((rows, "", True), (reasons, "dropped, by reason", False)) if group]
    longest = max(text_width(what, SMALL) for what, _ in [*rows, *reasons])
    left = min(330.0, longest + 16) if wide else 10.0
    each = 24 if wide else 38
    most = max(n for _, n in [*rows, *reasons]) or 1.0
    heads = [28.0 if title else 4.0 for _, title, _ in groups]
    total = sum(heads) + each * sum(len(group) for group, _, _ in groups) + 4
    drawn = figure(width, total)
    y = 0.0
    for (group, title, filled), head in zip(groups, heads, strict=True):
        height = each * len(group)
        axes = add_axes(drawn, left=left, right=64, top=y + head, bottom=total - y - head - height)
        _bars(axes, group, most, filled, palette, left, wide, width)
        if title:
            beside(axes, title, (0, 1), ("axes fraction", "axes fraction"), (0, 5), palette.muted, fontsize=SMALL)
        y += head + height
    return drawn


def _bars(
    axes: Axes, rows: Sequence[tuple[str, float]], most: float, filled: bool, palette: Palette, left: float, wide: bool, width: float
) -> None:
    shift, thick = (0.0, 0.6) if wide else (0.24, 0.34)
    face = {"color": palette.unclear, "alpha": 0.6} if filled else {"facecolor": "none", "edgecolor": palette.unclear, "linewidth": 1.2}
    axes.barh([index + shift for index in range(len(rows))], [n for _, n in rows], height=thick, **face)  # type: ignore[arg-type]
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(0, most)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines["bottom"].set_visible(False)
    for index, (what, n) in enumerate(rows):
        beside(axes, plain.integer(n), (n, index + shift), ("data", "data"), (6, 0), palette.ink, va="center", fontsize=SMALL)
        if wide:
            place: dict[str, Any] = {"ha": "right", "va": "center"}
            beside(axes, fit(what, SMALL, left - 14), (0, index), ("data", "data"), (-10, 0), palette.ink, fontsize=SMALL, **place)
        else:
            text = fit(what, SMALL, width - 20)
            beside(axes, text, (0, index - 0.16), ("data", "data"), (0, 0), palette.ink, fontsize=SMALL, va="center")


def curve_svg(curve: Any, name: str) -> str:
    """Loss over steps, with the margin of a preference training and the drift of the chosen answers where they were logged."""
    found = {what: points for key, what in CURVES.items() if len(points := series(curve, key)) > 1}
    panels = list(found.items())[:3]
    if not panels:
        return ""
    label = "; ".join(f"{what} from {points[0][1]:.3g} to {points[-1][1]:.3g}" for what, points in panels)
    return both_widths(lambda palette, width: _curves(panels, palette, width), name, label)


def _curves(panels: Sequence[tuple[str, Points]], palette: Palette, width: float) -> Figure:
    """Side by side on a wide screen, one below the other on a narrow one."""
    columns = max(2, len(panels)) if width > 500 else 1
    lines = -(-len(panels) // columns)
    left, gap, height, head, foot = 50.0, 26.0, 108.0, 30.0, 42.0
    total = (head + height + foot) * lines
    each = (width - 14 - columns * left - (columns - 1) * gap) / columns if columns > 1 else width - left - 14
    drawn = figure(width, total)
    for index, (what, points) in enumerate(panels):
        x, y = left + (index % columns) * (each + left + gap), (index // columns) * (head + height + foot) + head
        axes = add_axes(drawn, left=x, right=width - x - each, top=y, bottom=total - y - height)
        axes.grid(axis="y", linewidth=0.8)
        axes.plot(*zip(*points, strict=True), color=palette.ink, linewidth=1.5)
        if what != "loss":
            # Margin and drift are 0 at the start by construction.
            axes.axhline(0, color=palette.muted, linewidth=1, linestyle=":")
        axes.margins(x=0.01, y=0.1)
        ticks(axes, "y", 4)
        ticks(axes, "x", 4 if columns > 1 else 6, integer=True)
        beside(axes, fit(what, SMALL, each + 40), (0, 1), ("axes fraction", "axes fraction"), (-38, 9), palette.ink, fontsize=SMALL)
        axes.set_xlabel("step")
    return drawn
