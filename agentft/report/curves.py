"""Pictures of what the model learned from: loss over steps, and lengths of the training rows.

Each ``*_svg`` function returns HTML with the picture drawn for a wide and for a narrow screen, or an empty string when
there is nothing to draw.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from agentft.report import plain
from agentft.report.canvas import Palette, add_axes, beside, figure, ticks
from agentft.report.svg import both_widths

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_POINTS = 300

Points = Sequence[tuple[float, float]]


def loss_curve_svg(curve: Any, name: str = "loss") -> str:
    """Training loss (line) and validation loss (dots) over steps. ``curve``: ``{"step", "loss"?, "eval_loss"?}`` each."""
    train, validation = series(curve, "loss"), series(curve, "eval_loss")
    if len(train) + len(validation) < 2:
        return ""
    lines = (("training", train), ("validation", validation))
    label = "; ".join(f"{what} loss from {points[0][1]:.3g} to {points[-1][1]:.3g}" for what, points in lines if points)
    return both_widths(lambda palette, width: _loss(train, validation, palette, width), name, label)


def series(curve: Any, key: str) -> list[tuple[float, float]]:
    """The finite ``(step, value)`` points of a curve in order of steps, thinned to at most 300 by averaging neighbours."""
    found = [(plain.number(row.get("step")), plain.number(row.get(key))) for row in plain.rows(curve)]
    points = sorted((step, value) for step, value in found if step is not None and value is not None)
    size = -(-len(points) // MOST_POINTS) or 1
    chunks = [points[start : start + size] for start in range(0, len(points), size)]
    return [(chunk[-1][0], sum(value for _, value in chunk) / len(chunk)) for chunk in chunks]


def _loss(train: Points, validation: Points, palette: Palette, width: float) -> Figure:
    wide = width > 500
    height = 260 if wide else 210
    drawn = figure(width, height)
    axes = add_axes(drawn, left=44, right=96 if wide else 74, top=16, bottom=40)
    axes.grid(axis="y", linewidth=0.8)
    ends = []
    if train:
        axes.plot(*zip(*train, strict=True), color=palette.muted, linewidth=1.4)
        ends.append(("training", train[-1][1], palette.muted))
    if validation:
        axes.plot(*zip(*validation, strict=True), color=palette.better, linewidth=1.6, marker="o", markersize=4.5)
        ends.append(("validation", validation[-1][1], palette.better))
    axes.margins(x=0.01, y=0.08)
    low, high = axes.get_ylim()
    heights = _apart([value for _, value, _ in ends], (high - low) * 16 / (height - 56))
    for (what, _, colour), y in zip(ends, heights, strict=True):
        beside(axes, what, (1, y), ("axes fraction", "data"), (8, 0), colour, va="center")
    axes.set_xlabel("step")
    ticks(axes, "x", 8 if wide else 4, integer=True)
    ticks(axes, "y", 5)
    return drawn


def _apart(values: Sequence[float], gap: float) -> list[float]:
    """Two labels that would overlap are moved apart around their middle."""
    if len(values) == 2 and abs(values[0] - values[1]) < gap:
        middle, sign = sum(values) / 2, 1 if values[0] >= values[1] else -1
        return [middle + sign * gap / 2, middle - sign * gap / 2]
    return list(values)


def lengths_svg(lengths: Any, name: str = "lengths") -> str:
    """Histogram of tokens per training row, with the median marked. ``lengths``: token counts."""
    values = sorted(value for one in lengths if (value := plain.number(one)) is not None) if isinstance(lengths, Sequence) else []
    if len(values) < 2 or values[0] == values[-1]:
        return ""
    label = f"{len(values)} rows of {values[0]:.0f} to {values[-1]:.0f} tokens, median {values[len(values) // 2]:.0f}"
    return both_widths(lambda palette, width: _lengths(values, palette, width), name, label)


def _lengths(values: Sequence[float], palette: Palette, width: float) -> Figure:
    drawn = figure(width, 132)
    axes = add_axes(drawn, left=10, right=14, top=26, bottom=40)
    bins = min(40 if width > 500 else 24, max(5, 2 * int(len(values) ** 0.5)))
    axes.hist(values, bins=bins, color=palette.unclear, alpha=0.6, rwidth=0.92)
    median = values[len(values) // 2]
    axes.axvline(median, color=palette.ink, linewidth=1.2)
    beside(axes, f"median {median:,.0f}", (median, 1), ("data", "axes fraction"), (4, 6), palette.ink)
    axes.set_yticks([])
    axes.set_xlabel("tokens per row")
    return drawn
