"""Figures without a display: the colours of page and paper, an empty figure measured in page pixels, text that fits."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDE, NARROW = 720, 340
SMALL = 10.5


@dataclass(frozen=True)
class Palette:
    """Colours by what they mean. Better and worse are blue and vermilion, told apart by every kind of colour vision."""

    ink: str
    muted: str
    faint: str
    better: str
    worse: str
    unclear: str
    paper: str

    def of(self, verdict: str) -> str:
        """The colour of a verdict."""
        return {"better": self.better, "worse": self.worse}.get(verdict, self.unclear)

    def text(self, verdict: str) -> str:
        """The same for text, which needs more contrast than a mark."""
        return {"better": self.better, "worse": self.worse}.get(verdict, self.muted)


# Placeholders: colours that nobody would draw with, replaced by var(--NAME) in the SVG, so that one picture serves
# light, dark and paper.
_NAMES = ("ink", "muted", "faint", "better", "worse", "unclear", "paper")
PLACEHOLDERS = {name: f"#0a0b{index:02x}" for index, name in enumerate(_NAMES, start=0xC0)}
PAGE = Palette(**PLACEHOLDERS)
PRINT = Palette("#1d2430", "#5c6675", "#d9dde3", "#1764b0", "#c2410c", "#7a8494", "#ffffff")

# What a machine that draws the PNG may have for Chinese; only those that exist are named, else matplotlib warns on each text.
_CHINESE_FONTS = ("Noto Sans CJK SC", "Noto Sans SC", "Source Han Sans SC", "PingFang SC", "Microsoft YaHei", "WenQuanYi Zen Hei", "SimHei")


@contextmanager
def style(palette: Palette, salt: str = "agentft") -> Iterator[None]:
    """matplotlib's settings while drawing and saving: small sans text, no math in labels, ids that repeat from run to run."""
    import matplotlib

    settings: dict[str, Any] = {
        "svg.fonttype": "none",
        "svg.hashsalt": salt,
        "text.parse_math": False,  # a metric or item may be called "$x$"
        "font.family": ["DejaVu Sans", *(_chinese_fonts() if palette is not PAGE else ())],
        "font.size": 11,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.spines.left": False,
        "axes.edgecolor": palette.faint,
        "axes.facecolor": "none",
        "axes.labelcolor": palette.muted,
        "axes.labelsize": SMALL,
        "grid.color": palette.faint,
        "text.color": palette.ink,
        "xtick.color": palette.muted,
        "ytick.color": palette.muted,
        "xtick.labelsize": SMALL,
        "ytick.labelsize": SMALL,
        "axes.unicode_minus": True,
    }
    with matplotlib.rc_context(cast(Any, settings)):
        yield


def _chinese_fonts() -> tuple[str, ...]:
    from matplotlib import font_manager

    installed = {font.name for font in font_manager.fontManager.ttflist}
    return tuple(name for name in _CHINESE_FONTS if name in installed)


def figure(width: float, height: float) -> Figure:
    """An empty, transparent figure of ``width`` x ``height`` page pixels (1 px = 1 pt at 72 dpi)."""
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(width / 72, height / 72), dpi=72)
    drawn.patch.set_alpha(0)
    return drawn


def add_axes(drawn: Figure, *, left: float, right: float, top: float, bottom: float) -> Axes:
    """Axes with margins in px, without tick marks."""
    width, height = drawn.get_figwidth() * 72, drawn.get_figheight() * 72
    axes = drawn.add_axes((left / width, bottom / height, (width - left - right) / width, (height - top - bottom) / height))
    axes.tick_params(length=0)
    return axes


def ticks(axes: Axes, which: Literal["x", "y"], most: int, *, integer: bool = False) -> None:
    """At most about ``most`` round numbers along an axis."""
    from matplotlib.ticker import MaxNLocator

    (axes.xaxis if which == "x" else axes.yaxis).set_major_locator(MaxNLocator(nbins=most, integer=integer, steps=[1, 2, 2.5, 5, 10]))


Pair = tuple[float, float]


def beside(axes: Axes, text: str, at: Pair, coords: tuple[str, str], offset: Pair, colour: str, **how: Any) -> None:
    """A note ``offset`` px from the point ``at``; it may stand outside of the axes."""
    place: dict[str, Any] = {"xycoords": coords, "xytext": offset, "textcoords": "offset points", "annotation_clip": False}
    axes.annotate(text, at, color=colour, **place, **how)


def to_png(drawn: Figure, path: Path | str, scale: float = 2.0) -> Path:
    """Save as PNG, ``scale`` pixels per page pixel, on paper; call inside ``style(PRINT)``."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    drawn.patch.set_facecolor(PRINT.paper)
    drawn.patch.set_alpha(1)

    FigureCanvasAgg(drawn)
    drawn.savefig(path, format="png", dpi=72 * scale, facecolor=drawn.get_facecolor(), metadata={"Software": None})
    return Path(path)


def text_width(text: str, size: float) -> float:
    """Width of ``text`` in px at font size ``size``: an estimate on the safe side, a wide (Chinese) character counting double."""
    return size * sum(1.05 if unicodedata.east_asian_width(char) in "WF" else 0.58 for char in text)


def fit(text: str, size: float, width: float) -> str:
    """``text`` cut with an ellipsis so that it fits into ``width`` px."""
    if text_width(text, size) <= width:
        return text
    kept = ""
    for char in text:
        if text_width(kept + char + "…", size) > width:
            break
        kept += char
    return kept.rstrip() + "…"
