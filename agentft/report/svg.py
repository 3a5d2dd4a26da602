"""A figure as an element of the page: an ``<svg>`` whose colours follow the theme and whose text is the page's text.

Text stays text, so it takes the page's fonts (Chinese included), can be searched and read out.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING

from agentft.report.canvas import NARROW, PAGE, PLACEHOLDERS, WIDE, Palette, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_REFERENCE = re.compile(r"(?:url\(#|^#)([\w-]+)")


def both_widths(draw: Callable[[Palette, float], Figure], name: str, label: str) -> str:
    """``draw(palette, width)`` as HTML for a wide and for a narrow screen; CSS shows one of them.

    Args:
        name: unique on the page; ids inside the picture are made from it.
        label: read out in place of the picture.
    """
    parts = []
    for kind, width in (("wide", WIDE), ("narrow", NARROW)):
        with style(PAGE, f"{name}-{kind}"):
            parts.append(f'<div class="plot {kind}">{to_svg(draw(PAGE, width), label)}</div>')
    return "".join(parts)


def to_svg(drawn: Figure, label: str) -> str:
    """The figure as an ``<svg>`` element; call inside :func:`~agentft.report.canvas.style`."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    buffer = io.StringIO()
    FigureCanvasSVG(drawn)
    with warnings.catch_warnings():
        # The browser draws the text with its own fonts, so a glyph that matplotlib's font lacks does not matter.
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from")
        drawn.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    # Beyond this width the text would be larger than the page's.
    return _inline(buffer.getvalue(), label, round(drawn.get_figwidth() * 72 * 1.15))


def _inline(svg: str, label: str, widest: int) -> str:
    """matplotlib's SVG file for use inside HTML: no prolog, no metadata, names without a namespace."""
    from xml.etree import ElementTree

    root = ElementTree.fromstring(svg[svg.index("<svg") :])
    box = root.attrib["viewBox"]
    root.attrib.clear()
    root.attrib.update({"viewBox": box, "style": f"max-width:{widest}px", "role": "img", "aria-label": label})
    for child in [one for one in root if one.tag.endswith("metadata")]:
        root.remove(child)
    elements = list(root.iter())
    for element in elements:
        element.tag = _bare(element.tag)
        # Indentation goes, the text of a label stays.
        element.text = element.text if element.text and element.text.strip() else None
        element.tail = None
        for key, value in list(element.attrib.items()):
            del element.attrib[key]
            element.attrib[_bare(key)] = _styled(value) if key == "style" else _themed(value)
    used = {name for element in elements for value in element.attrib.values() for name in _REFERENCE.findall(value)}
    for element in elements:
        # matplotlib numbers its groups from 1 in every figure; on one page ids must be unique.
        if element.attrib.get("id") not in used:
            element.attrib.pop("id", None)
    return ElementTree.tostring(root, encoding="unicode")


def _bare(name: str) -> str:
    return name.rpartition("}")[2]


def _styled(declarations: str) -> str:
    """Without the font's name; both forms that matplotlib writes are known (``font: 10px 'X'`` and ``font-family: 'X'``)."""
    parts = [part.strip() for part in declarations.split(";")]
    kept = [part for part in parts if part and not part.startswith(("font-family", "font-style", "font-stretch"))]
    return _themed("; ".join(re.sub(r"^font: (.*?)([\d.]+px).*$", _font, one) for one in kept))


def _font(found: re.Match[str]) -> str:
    heavy = "; font-weight: 600" if re.search("bold|[6-9]00", found.group(1)) else ""
    return f"font-size: {found.group(2)}{heavy}"


def _themed(value: str) -> str:
    for name, colour in PLACEHOLDERS.items():
        value = value.replace(colour, f"var(--{name})")
    return value
