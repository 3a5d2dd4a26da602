"""The pictures of the result: differences with intervals, checklist items, and one for a README.

Each ``*_svg`` function returns HTML with the picture twice, drawn for a wide and for a narrow screen (CSS shows one), or
an empty string when there is nothing to draw. matplotlib is imported on the first call and no display is needed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentft.report import plain
from agentft.report.canvas import PRINT, Palette, add_axes, beside, figure, fit, style, text_width, ticks, to_png
from agentft.report.effects import SIGNS, Effect, headline, split
from agentft.report.svg import both_widths

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIZE = 11  # of labels, px
MOST_ROWS = 40
MOST_CHANGE = 3.0  # of the base value; beyond it one metric would flatten all others

KEY = f"○ base   ● tuned   {SIGNS['better']} better   {SIGNS['worse']} worse   {SIGNS['inconclusive']} unclear (may be chance)"


@dataclass(frozen=True)
class _Frame:
    """Where the labels of a picture go: in a column left of the axes, or above each row on a narrow screen.

    ``left``: px that the labels have; ``edge``: px between the labels and the border of the figure.
    """

    width: float
    left: float
    stacked: bool
    edge: float = 0.0

    def rows(self, axes: Axes, index: int, label: str, change: str, verdict: str, palette: Palette) -> float:
        """Writes the label and the change of row ``index``; returns the height at which its marks go."""
        from matplotlib.transforms import blended_transform_factory

        place = blended_transform_factory(axes.figure.transFigure, axes.transData)
        room = self.width - 110 if self.stacked else self.left - self.edge - 10
        y = index - 0.22 if self.stacked else index
        # Paper behind a label that stands on grid lines.
        behind = {"facecolor": palette.paper, "edgecolor": "none", "pad": 1.5}
        common: dict[str, Any] = {"transform": place, "va": "center", "fontsize": SIZE, "bbox": behind}
        axes.text(self.edge / self.width, y, fit(label, SIZE, room), ha="left", **common)
        axes.text(1 - self.edge / self.width, y, f"{change} {SIGNS[verdict]}", ha="right", color=palette.text(verdict), **common)
        return index + 0.23 if self.stacked else index


def _frame(labels: Sequence[str], width: float, edge: float = 0.0) -> _Frame:
    stacked = width < 500
    left = 12.0 if stacked else min(280.0, max(text_width(label, SIZE) for label in labels) + 16 + edge)
    return _Frame(width, left, stacked, edge)


def forest_svg(effects: Sequence[Effect], name: str = "forest") -> str:
    """The differences with their intervals; to the right is always better. Effects without a direction are left out.

    Shares and 0-100 metrics share an axis in percentage points or points; the others are drawn in percent of the base value.
    """
    absolute, relative = forest_groups(effects)
    if not absolute and not relative:
        return ""
    label = "; ".join(f"{effect.name}: {effect.difference_text}, {effect.word}" for effect in [*absolute, *relative])
    return both_widths(lambda palette, width: _forest(absolute, relative, palette, width), name, label)


def forest_groups(effects: Sequence[Effect]) -> tuple[list[Effect], list[Effect]]:
    """What the picture of the differences shows: effects on a 0-100 scale, and effects relative to their base value."""
    drawable = [effect for effect in effects if effect.direction in ("higher", "lower") and effect.measured][:MOST_ROWS]
    relative = [effect for effect in drawable if not effect.bounded and effect.base]
    small = [effect for effect in relative if abs((effect.difference or 0) / (effect.base or 1)) <= MOST_CHANGE]
    return [effect for effect in drawable if effect.bounded], small


def _forest(absolute: Sequence[Effect], relative: Sequence[Effect], palette: Palette, width: float) -> Figure:
    frame = _frame([effect.label for effect in [*absolute, *relative]], width)
    titled = ((absolute, "percentage points (points for 0–100 measures)"), (relative, "percent of the base value"))
    panels = [(group, what) for group, what in titled if group]
    heights = [(40 if frame.stacked else 27) * len(group) + 8 for group, _ in panels]
    bottom, top = 44.0, 26.0
    total = sum(heights) + (bottom + top) * len(panels)
    drawn = figure(width, total)
    y = 0.0
    for (group, what), height in zip(panels, heights, strict=True):
        axes = add_axes(drawn, left=frame.left, right=12 if frame.stacked else 118, top=y + top, bottom=total - y - top - height)
        _differences(axes, group, palette, frame)
        axes.set_xlabel(what)
        y += height + bottom + top
    return drawn


def _differences(axes: Axes, group: Sequence[Effect], palette: Palette, frame: _Frame) -> None:
    spans = [_drawn(effect) for effect in group]
    ends = [0.0, *(value for span in spans for value in span)]
    extent = max(max(ends) - min(ends), 1e-9)
    # Both sides of zero get at least the room that their heading needs.
    least = extent * 86 / (frame.width - frame.left - 120)
    axes.set_xlim(min(min(ends) - 0.05 * extent, -least), max(max(ends) + 0.05 * extent, least))
    axes.set_ylim(len(group) - 0.35, -0.65)
    axes.grid(axis="x", linewidth=0.8)
    axes.axvline(0, color=palette.muted, linewidth=1.2)
    for index, (effect, (middle, low, high)) in enumerate(zip(group, spans, strict=True)):
        change = effect.difference_text if effect.bounded else _relative_text(effect)
        y = frame.rows(axes, index, effect.label, change, effect.verdict, palette)
        colour = palette.of(effect.verdict)
        axes.plot([low, high], [y, y], color=colour, linewidth=2.6, solid_capstyle="round", alpha=0.55)
        # Better: filled circle; worse: filled square; unclear: ring. The shape says it without the colour.
        face = colour if effect.verdict in ("better", "worse") else palette.paper
        _mark(axes, middle, y, colour, face, square=effect.verdict == "worse")
    axes.set_yticks([])
    ticks(axes, "x", 5 if frame.stacked else 9)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:+g}".replace("-", plain.MINUS) if value else "0")
    beside(axes, "worse ←", (0, 1), ("data", "axes fraction"), (-8, 7), palette.worse, ha="right")
    beside(axes, "→ better", (0, 1), ("data", "axes fraction"), (8, 7), palette.better, ha="left")


def _drawn(effect: Effect) -> tuple[float, float, float]:
    """Difference and interval on the picture's axis: 0-100 scale or percent of the base, turned so that more is better.

    Without an interval all three are the difference.
    """
    factor = effect.scale if effect.bounded else 100.0 / abs(effect.base or 1.0)
    if effect.direction == "lower":
        factor = -factor
    middle = (effect.difference or 0.0) * factor
    low, high = sorted(bound * factor for bound in effect.ci) if effect.ci else (middle, middle)
    return middle, low, high


def _relative_text(effect: Effect) -> str:
    return f"{100 * (effect.difference or 0) / abs(effect.base or 1):+.0f}{plain.NBSP}%".replace("-", plain.MINUS)


def _mark(axes: Axes, x: float, y: float, edge: str, face: str, *, square: bool = False, order: int = 5) -> None:
    shape: dict[str, Any] = {"linestyle": "none", "marker": "s" if square else "o", "markersize": 7, "markeredgewidth": 1.6}
    axes.plot([x], [y], color=edge, markerfacecolor=face, markeredgecolor=edge, clip_on=False, zorder=order, **shape)


def items_svg(items: Sequence[Effect], hard: Sequence[str] = (), name: str = "items") -> str:
    """Share of answers that meet each checklist item: base (empty ring) to tuned (filled). ``hard``: ids that must never fail."""
    shown = levels(items)
    if not shown:
        return ""
    label = "; ".join(f"{item.item}: {item.base_text} to {item.tuned_text}" for item in shown)
    return both_widths(lambda palette, width: _items(shown, set(hard), palette, width), name, label)


def levels(effects: Sequence[Effect]) -> list[Effect]:
    """The effects with both levels on a 0-100 scale, at most 40."""
    return [effect for effect in effects if effect.bounded and effect.base is not None and effect.tuned is not None][:MOST_ROWS]


def _items(items: Sequence[Effect], hard: set[str], palette: Palette, width: float) -> Figure:
    names = [item.item + (" (hard)" if item.item in hard else "") for item in items]
    frame = _frame(names, width)
    drawn = figure(width, (38 if frame.stacked else 26) * len(items) + 50)
    axes = add_axes(drawn, left=frame.left, right=12 if frame.stacked else 190, top=8, bottom=42)
    _dumbbells(axes, items, names, palette, frame)
    axes.set_xlabel("answers that meet the item" if frame.stacked else "share of answers that meet the item")
    return drawn


def _dumbbells(axes: Axes, effects: Sequence[Effect], names: Sequence[str], palette: Palette, frame: _Frame) -> None:
    axes.set_xlim(-2, 102)
    axes.set_ylim(len(effects) - 0.5, -0.5)
    axes.grid(axis="x", linewidth=0.8)
    for index, (effect, label) in enumerate(zip(effects, names, strict=True)):
        base, tuned = (effect.base or 0.0) * effect.scale, (effect.tuned or 0.0) * effect.scale
        y = frame.rows(axes, index, label, effect.difference_text, effect.verdict, palette)
        colour = palette.of(effect.verdict)
        if effect.tuned_ci:
            bounds = [bound * effect.scale for bound in effect.tuned_ci]
            axes.plot(bounds, [y, y], color=colour, linewidth=7, alpha=0.18, solid_capstyle="butt")
        axes.plot([base, tuned], [y, y], color=colour, linewidth=2, solid_capstyle="butt")
        _mark(axes, base, y, palette.muted, palette.paper, order=4)
        _mark(axes, tuned, y, colour, colour, square=effect.verdict == "worse")
        if not frame.stacked:
            right = axes.get_xlim()[1]
            # Both levels as numbers, in a column of their own between the axes and the change.
            beside(axes, f"{base:.0f} → {tuned:.0f} %", (right, y), ("data", "data"), (94, 0), palette.muted, ha="right", va="center")
    axes.set_yticks([])
    axes.set_xticks([0, 25, 50, 75, 100])
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g} %")


def save_overview_png(data: Mapping[str, Any], path: Path | str) -> Path:
    """One picture of the result for a README: the headline measures and the checklist items, base against tuned.

    Args:
        data: what :func:`agentft.report.render_report` takes.
        path: the PNG to write, 1600 px wide, on white.

    Raises:
        ValueError: if there is no measure on a 0-100 scale to draw.
    """
    metrics, items = split(data)
    shown, _ = headline(data, metrics)
    top, below = levels(shown), levels(items)
    if not top and not below:
        raise ValueError("there is nothing to draw: the run has no comparison on a 0-100 scale with both models")
    with style(PRINT):
        return to_png(_overview(data, top, below), path)


def _overview(data: Mapping[str, Any], top: Sequence[Effect], below: Sequence[Effect]) -> Figure:
    width, row, edge = 800.0, 28, 20.0
    effects = [*top, *below]
    names = [effect.label for effect in top] + [item.item for item in below]
    frame = _frame(names, width, edge)
    height = 100 + row * len(effects) + 44
    drawn = figure(width, height)
    axes = add_axes(drawn, left=frame.left, right=190 + edge, top=100, bottom=44)
    _dumbbells(axes, effects, names, PRINT, frame)
    if top and below:
        axes.axhline(len(top) - 0.5, color=PRINT.muted, linewidth=1)
    title = plain.printable(plain.string(data.get("title"), "run"))
    drawn.text(edge / width, 1 - 30 / height, fit(title, 16, width - 2 * edge), fontsize=16, weight="bold", va="center")
    model = plain.printable(plain.string(plain.mapping(data.get("recipe")).get("model")))
    n = max(effect.n for effect in effects)
    about = f"{model + ', ' if model else ''}{n:,} held-out prompts, same instructions before and after tuning; bars: 95 % interval"
    for text, y in ((fit(about, SIZE, width - 2 * edge), 55), (KEY, 77)):
        drawn.text(edge / width, 1 - y / height, text, fontsize=SIZE, color=PRINT.muted, va="center")
    return drawn
