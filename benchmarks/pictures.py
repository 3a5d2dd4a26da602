"""The pictures of docs/benchmarks.md, as SVG files: bars with their spread, and lines that show how a cost grows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

Spread = tuple[float, float, float]  # median, least, greatest

OURS, PEERS = "#1f6feb", ["#8b949e", "#b6bcc3", "#656c76", "#d0a35c"]
STYLE = {"svg.hashsalt": "agentft", "font.size": 10, "axes.spines.top": False, "axes.spines.right": False, "axes.axisbelow": True}


def colours(names: Sequence[str]) -> dict[str, str]:
    """agentft in one colour on all pictures, the others in greys."""
    peers = iter(PEERS * len(names))
    return {name: OURS if name.startswith("agentft") else next(peers) for name in names}


def bars(file: Path, panels: Mapping[str, Mapping[str, Spread]]) -> None:
    """One panel beside the other, ``{title: {arm: (median, least, greatest)}}``; each has an axis of its own."""

    def draw(axes: Any) -> None:
        for place, (title, arms) in zip(axes, panels.items(), strict=True):
            shade = colours(list(arms))
            for at, (name, (middle, low, high)) in enumerate(arms.items()):
                place.barh(at, middle, 0.62, color=shade[name], xerr=[[middle - low], [high - middle]], ecolor="#24292f", capsize=3)
                place.annotate(f"{middle:.3g}", (high, at), xytext=(5, 0), textcoords="offset points", va="center", fontsize=9)
            place.set_yticks(range(len(arms)), list(arms))
            place.invert_yaxis()
            place.set_xlim(0, 1.18 * max(high for _, _, high in arms.values()))
            place.grid(axis="x", color="#d8dee4")
            place.set_title(title, loc="left", fontsize=10)

    save(file, len(panels), 2.1, draw)


def lines(file: Path, panels: Mapping[str, Mapping[str, Sequence[tuple[float, float]]]], across: str, log: bool = False) -> None:
    """``{title: {arm: [(x, y), ...]}}``; ``across`` names the x axis of all panels. ``log``: that axis is logarithmic, and
    the other one too where its values grow with it (tenfold or more)."""

    def draw(axes: Any) -> None:
        for place, (title, arms) in zip(axes, panels.items(), strict=True):
            shade = colours(list(arms))
            for name, points in arms.items():
                ordered = sorted(points)
                width = 2.4 if name.startswith("agentft") else 1.6
                place.plot(*zip(*ordered, strict=True), marker="o", ms=4.5, lw=width, color=shade[name], label=name)
            values = [y for points in arms.values() for _, y in points]
            if log and max(values) >= 10 * min(values) > 0:
                place.set_yscale("log")
            else:
                place.set_ylim(0, 1.35 * max(values))  # room for the legend above the lines
            if log:
                place.set_xscale("log")
            else:
                place.set_xticks(sorted({x for points in arms.values() for x, _ in points}))
                place.tick_params(axis="x", labelrotation=45, labelsize=8)
            place.set_xlabel(across)
            place.grid(color="#d8dee4")
            place.set_title(title, loc="left", fontsize=10)
            place.legend(frameon=False, fontsize=8)

    save(file, len(panels), 3.0, draw)


def save(file: Path, panels: int, height: float, draw: Callable[[Any], None]) -> None:
    """Draws ``panels`` axes beside each other; the file depends on the figures alone, not on the time of day."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.6 * panels if panels > 1 else 6.4, height), layout="constrained", facecolor="white")
        FigureCanvasSVG(figure)
        draw(figure.subplots(1, panels, squeeze=False)[0])
        file.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(file, format="svg", metadata={"Date": None})
