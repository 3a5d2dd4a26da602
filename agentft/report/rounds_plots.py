"""The rounds as pictures: the primary score over rounds and arms, guard-rails, what became of the prompts, training curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from agentft.report import plain
from agentft.report.canvas import Palette, add_axes, beside, figure, fit, ticks
from agentft.report.svg import both_widths

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MARKERS = {"champion": "o", "candidate": "D", "control": "s"}
OFFSETS = {"champion": -0.16, "candidate": 0.0, "control": 0.16}
MOST_PANELS = 5
Point = tuple[float, str, float, tuple[float, float] | None, bool]


def rounds_svg(found: Sequence[Mapping[str, Any]]) -> str:
    """Primary score with interval per round and arm, and the guard-rails below; empty where nothing was measured."""
    panels = _panels(found)
    if not panels:
        return ""
    label = "; ".join(f"{name}: " + ", ".join(f"round {p[0]:.0f} {p[1]} {p[2]:.3g}" for p in points) for name, points, _ in panels)
    return both_widths(lambda palette, width: _rounds(panels, len(found), palette, width), "rounds", label)


def _panels(found: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[Point], str]]:
    names: list[str] = []
    for one in found:
        names.append(plain.string(one.get("primary")))
        names += [plain.string(row.get("name")) for row in plain.rows(one.get("conditions")) if row.get("kind") == "guardrail"]
    names += ["length", "distinct-2"]
    panels = []
    for name in list(dict.fromkeys(name for name in names if name))[:MOST_PANELS]:
        points: list[Point] = []
        unit = ""
        for one in found:
            number = plain.number(one.get("round"))
            for arm in plain.rows(one.get("arms")):
                value = plain.mapping(plain.mapping(arm.get("values")).get(name))
                level = plain.number(value.get("value"))
                if number is not None and level is not None:
                    role = plain.string(arm.get("name"))
                    unit = plain.string(value.get("unit"))
                    points.append((number, role, level, plain.pair(value.get("ci")), role == one.get("promoted")))
        if points:
            panels.append((name, points, unit))
    return panels


def _rounds(panels: Sequence[tuple[str, list[Point], str]], count: int, palette: Palette, width: float) -> Figure:
    wide = width > 500
    heights = [190.0 if index == 0 else 96.0 for index in range(len(panels))]
    gap, bottom = 30.0, 74.0
    total = sum(heights) + gap * len(panels) + bottom
    drawn = figure(width, total)
    y = 0.0
    for index, ((name, points, unit), height) in enumerate(zip(panels, heights, strict=True)):
        axes = add_axes(drawn, left=58, right=20, top=y + gap, bottom=total - y - gap - height)
        _panel(axes, name, points, unit, count, palette, wide)
        if index < len(panels) - 1:
            axes.set_xticklabels([])
        y += gap + height
    axes.set_xlabel("round")
    names = {"champion": "champion before the round", "candidate": "candidate", "control": "control arm"}
    legend = [(role, names[role]) for role in MARKERS if any(p[1] == role for _, points, _ in panels for p in points)]
    for place, (role, label) in enumerate(legend):
        x = 58 + place * (width - 78) / max(1, len(legend))
        room = (width - 78) / len(legend) - 14
        drawn.text((x + 10) / width, 14 / total, fit(label, 10.5, room), color=palette.muted, va="center", fontsize=10.5)
        _mark(drawn, x / width, 14 / total, role, palette)
    return drawn


def _mark(drawn: Figure, x: float, y: float, role: str, palette: Palette) -> None:
    from matplotlib.lines import Line2D

    style = _style(role, palette)
    drawn.add_artist(Line2D([x], [y], linestyle="none", transform=drawn.transFigure, markersize=7, markeredgewidth=1.6, **style))


def _style(role: str, palette: Palette) -> dict[str, Any]:
    colour = {"candidate": palette.better, "control": palette.unclear}.get(role, palette.ink)
    face = palette.paper if role == "champion" else colour
    return {"marker": MARKERS.get(role, "o"), "color": colour, "markerfacecolor": face, "markeredgecolor": colour}


def _panel(axes: Axes, name: str, points: Sequence[Point], unit: str, count: int, palette: Palette, wide: bool) -> None:
    scale = 100.0 if unit == "share" else 1.0
    axes.grid(axis="y", linewidth=0.8)
    for number, role, level, ci, _ in points:
        x = number + OFFSETS.get(role, 0.0)
        style = _style(role, palette)
        if ci is not None:
            axes.plot([x, x], [scale * ci[0], scale * ci[1]], color=style["color"], linewidth=2.2, alpha=0.5, solid_capstyle="round")
        axes.plot([x], [scale * level], linestyle="none", markersize=7, markeredgewidth=1.6, **style)
    # What was promoted is the next round's champion: the way of the agent through the rounds.
    way = [(number + OFFSETS["champion"], scale * level) for number, role, level, _, _ in points if role == "champion"]
    last = [(number + OFFSETS.get(role, 0.0), scale * level) for number, role, level, _, promoted in points if promoted and number == count]
    if len(way) + len(last) > 1:
        axes.plot(*zip(*way, *last, strict=True), color=palette.faint, linewidth=1.4, zorder=0)
    axes.set_xlim(0.5, count + 0.5)
    axes.set_xticks(range(1, count + 1))
    axes.margins(y=0.18)
    ticks(axes, "y", 5 if wide else 4)
    shown = "%" if unit == "share" else unit
    beside(axes, f"{name} ({shown})" if shown else name, (0, 1), ("axes fraction", "axes fraction"), (0, 9), palette.ink)


def flow_svg(flow: Any, name: str) -> str:
    """From prompts to kept pairs, as bars with their counts."""
    rows = [(plain.string(row.get("name")), n) for row in plain.rows(flow) if (n := plain.number(row.get("count"))) is not None]
    if len(rows) < 2:
        return ""
    label = ", ".join(f"{n:.0f} {what}" for what, n in rows)
    return both_widths(lambda palette, width: _flow(rows, palette, width), name, label)


def _flow(rows: Sequence[tuple[str, float]], palette: Palette, width: float) -> Figure:
    left = 190.0 if width > 500 else 140.0
    height = 24 * len(rows) + 8
    drawn = figure(width, height)
    axes = add_axes(drawn, left=left, right=56, top=4, bottom=4)
    values = [n for _, n in rows]
    axes.barh(range(len(rows)), values, color=palette.unclear, alpha=0.55, height=0.62)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(0, max(values) or 1)
    axes.set_xticks([])
    axes.set_yticks(range(len(rows)), [fit(what, 10.5, left - 14) for what, _ in rows])
    axes.spines["bottom"].set_visible(False)
    for index, n in enumerate(values):
        beside(axes, plain.integer(n), (n, index), ("data", "data"), (6, 0), palette.ink, va="center")
    return drawn


def curve_svg(curve: Any, name: str) -> str:
    """Loss over steps, and below it the margin of a preference training where it was logged."""
    from agentft.report.curves import series

    panels = [(key, label, points) for key, label in (("loss", "loss"), ("margin", "margin")) if len(points := series(curve, key)) > 1]
    if not panels:
        return ""
    label = "; ".join(f"{what} from {points[0][1]:.3g} to {points[-1][1]:.3g}" for _, what, points in panels)
    return both_widths(lambda palette, width: _curves(panels, palette, width), name, label)


def _curves(panels: Sequence[tuple[str, str, Sequence[tuple[float, float]]]], palette: Palette, width: float) -> Figure:
    each, gap, bottom = 92.0, 24.0, 40.0
    total = (each + gap) * len(panels) + bottom
    drawn = figure(width, total)
    for index, (_, what, points) in enumerate(panels):
        top = gap + index * (each + gap)
        axes = add_axes(drawn, left=58, right=20, top=top, bottom=total - top - each)
        axes.grid(axis="y", linewidth=0.8)
        axes.plot(*zip(*points, strict=True), color=palette.better if what == "margin" else palette.muted, linewidth=1.5)
        axes.margins(x=0.01, y=0.1)
        ticks(axes, "y", 4)
        ticks(axes, "x", 8, integer=True)
        beside(axes, what, (0, 1), ("axes fraction", "axes fraction"), (0, 7), palette.muted)
        if index < len(panels) - 1:
            axes.set_xticklabels([])
    axes.set_xlabel("step")
    return drawn
