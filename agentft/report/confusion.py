"""Which class was taken for which: the table as a picture, and its largest cells as lines for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import wrap
from typing import TYPE_CHECKING

from agentft.report import plain
from agentft.report.canvas import Palette, add_axes, figure, fit, text_width
from agentft.report.svg import both_widths

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST = 25  # classes in a picture: more rows can neither be read nor be told apart by colour
OTHERS = "(other classes)"
Counts = Sequence[Sequence[int]]


def confusion_svg(labels: Sequence[str], counts: Counts, name: str = "confusion") -> str:
    """Heat map of a confusion table: a row is a true class, shaded by the share of its rows that were taken for each class.

    Of more than 25 classes the 25 with the most confusions are drawn, the rest is one more row and column, and a line says so. Right is
    blue, wrong is vermilion; the number in a cell is the percentage of its row. On a phone columns carry numbers instead of names.

    Args:
        labels: the classes. counts: a square table, true class by predicted class, as in ``details["confusion"]`` of the
            evaluator ``confusion``. name: unique on the page.

    Returns:
        HTML, empty where nothing was counted.

    Raises:
        ValueError: the table is not square, or its size is not the number of labels.
    """
    _check(labels, counts)
    if not any(map(any, counts)):
        return ""
    shown = _most_confused(labels, counts)
    total, right = sum(map(sum, counts)), sum(counts[i][i] for i in range(len(labels)))
    said = "; ".join(confusion_text(labels, counts, top=5))
    label = f"confusion table of {len(labels)} classes: {right} of {total} rows right. {said}"
    return both_widths(lambda palette, width: _table(*shown, palette, width), name, label)


def confusion_text(labels: Sequence[str], counts: Counts, top: int = 10) -> list[str]:
    """The most frequent confusions, one line each: ``12 of 40 (30 %)  card_arrival -> card_delivery_estimate``.

    Ties stand in the order of the labels. An empty list where nothing was confused.
    """
    _check(labels, counts)
    pairs = [(n, i, j) for i, row in enumerate(counts) for j, n in enumerate(row) if n and i != j]
    worst = sorted(pairs, key=lambda pair: (-pair[0], pair[1], pair[2]))[:top]
    return [f"{n} of {sum(counts[i])} ({100 * n / sum(counts[i]):.0f} %)  {labels[i]} -> {labels[j]}" for n, i, j in worst]


def _check(labels: Sequence[str], counts: Counts) -> None:
    if len(counts) != len(labels) or any(len(row) != len(labels) for row in counts):
        raise ValueError(f"{len(labels)} labels need a table of {len(labels)} rows and columns")


def _most_confused(labels: Sequence[str], counts: Counts) -> tuple[list[str], list[list[int]], list[int], str]:
    """Labels, table and numbers of rows of each class to draw, and what to say about what is left out.

    The classes are those with the most confusions, counted as true and as predicted class. A class without rows and
    predictions is not drawn.
    """
    size = range(len(labels))
    errors = [sum(counts[i]) + sum(row[i] for row in counts) - 2 * counts[i][i] for i in size]
    used = [i for i in size if errors[i] or counts[i][i]]
    if len(used) <= MOST:
        return [labels[i] for i in used], [[counts[i][j] for j in used] for i in used], [sum(counts[i]) for i in used], ""
    kept = sorted(sorted(used, key=lambda i: -errors[i])[:MOST])
    rest = [i for i in used if i not in set(kept)]
    table = [[*(counts[i][j] for j in kept), sum(counts[i][j] for j in rest)] for i in kept]
    right = sum(counts[i][i] for i in rest)
    among = sum(counts[i][j] for i in rest for j in rest) - right
    # The diagonal of the last row: right ones only; what was confused among the rest is said in words.
    table.append([*(sum(counts[i][j] for i in rest) for j in kept), right])
    note = f"The {MOST} of {len(used)} classes with the most confusions; {among} confusions among the others are not shown."
    totals = [*(sum(counts[i]) for i in kept), sum(sum(counts[i]) for i in rest)]
    return [*(labels[i] for i in kept), OTHERS], table, totals, note


def _table(labels: Sequence[str], table: Counts, totals: Sequence[int], note: str, palette: Palette, width: float) -> Figure:
    narrow = width < 500
    size = len(labels)
    names = [plain.printable(label) for label in labels]
    most = 118.0 if narrow else 220.0
    font = 11.0 if size <= 12 else 9.5 if not narrow else 8.0
    wide = max(text_width(f"{index} {one}", font) for index, one in enumerate(names, 1))
    small = 8.0 if narrow else 9.5
    key = "cell: % of the true class's rows; blue: right, orange: confused"
    lines = [*wrap(note, int((width - 24) / (0.58 * small))), key]
    left, right, top, bottom = min(most, wide + 12), 12.0, 44.0, 12.0 + 14 * len(lines)
    room = width - left - right
    cell = min(54.0, room / size)
    height = top + max(cell, 13.0) * size + bottom
    drawn = figure(width, height)
    axes = add_axes(drawn, left=left, right=width - left - cell * size, top=top, bottom=bottom)
    axes.set_xlim(-0.5, size - 0.5)
    axes.set_ylim(size - 0.5, -0.5)
    edges = [index - 0.5 for index in range(size + 1)]
    for draw in (axes.hlines, axes.vlines):
        draw(edges, -0.5, size - 0.5, color=palette.faint, linewidth=0.5, clip_on=False)
    for i, (row, total) in enumerate(zip(table, totals, strict=True)):
        _row(axes, i, row, total, palette, cell)
    axes.set_yticks(range(size), [fit(f"{index} {one}", font, left - 10) for index, one in enumerate(names, 1)], fontsize=font)
    axes.set_xticks(range(size), [str(index) for index in range(1, size + 1)], fontsize=min(font, max(6.5, cell * 0.6)))
    axes.xaxis.tick_top()
    axes.spines["bottom"].set_visible(False)
    middle = (left + cell * size / 2) / width
    drawn.text(
        middle, 1 - 12 / height, "predicted class (numbers as at the left)", fontsize=10, color=palette.muted, ha="center", va="center"
    )
    for place, text in enumerate(lines, 1):
        drawn.text(12 / width, (bottom - 14 * place) / height, text, fontsize=small, color=palette.muted, va="center")
    return drawn


def _row(axes: Axes, i: int, row: Sequence[int], total: int, palette: Palette, cell: float) -> None:
    from matplotlib.patches import Rectangle

    for j, count in enumerate(row):
        if not count:
            continue
        share = count / total
        colour = palette.better if i == j else palette.worse
        # A cell of one in a hundred must still be seen on either background.
        axes.add_patch(Rectangle((j - 0.5, i - 0.5), 1, 1, facecolor=colour, edgecolor="none", alpha=0.12 + 0.6 * share))
        size = min(10.0, cell * 0.42)
        if size >= 6:
            text = f"{100 * share:.0f}" if share >= 0.005 else "<1"
            axes.text(j, i, text, ha="center", va="center", fontsize=size, color=palette.ink)
