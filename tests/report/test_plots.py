"""The pictures show what they are given, all of it, and nothing that is not there."""

from __future__ import annotations

import math
import re
import struct
import warnings
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentft.report import save_overview_png
from agentft.report.curves import lengths_svg, loss_curve_svg, series
from agentft.report.effects import read_all
from agentft.report.plots import forest_groups, forest_svg, items_svg
from agentft.report.samples import Failed, marked
from agentft.report.views import mask_pieces


def test_the_forest_turns_less_is_better_round(run_data: dict[str, Any]) -> None:
    effects = read_all(run_data["comparisons"])
    absolute, relative = forest_groups(effects)
    assert [effect.name for effect in relative] == ["perplexity"]
    assert "length" not in {effect.name for effect in absolute} and "tone" not in {effect.name for effect in absolute}
    svg = forest_svg(effects)
    # Perplexity fell by 77 %, which is drawn to the right and written with its own sign.
    assert "−77\u00a0% ✓" in svg and svg.count("→ better") == 4 and "−6.0\u00a0pp ✗" in svg


def test_a_change_beyond_measure_does_not_flatten_the_others() -> None:
    rows = [{"name": "perplexity", "base": 0.01, "tuned": 40.0, "direction": "lower", "unit": "", "ci": [39, 41]}]
    assert forest_svg(read_all(rows)) == ""


def test_items_are_drawn_in_order_with_the_hard_ones_named(run_data: dict[str, Any]) -> None:
    svg = items_svg(read_all(run_data["items"]), ["escalate"])
    labels = re.findall(r"<text[^>]*>([^<]*)</text>", svg.split('class="plot narrow"')[0])
    order = [labels.index(one) for one in ("brief", "plain", "escalate (hard)", "close")]
    assert order == sorted(order)
    assert "41 → 93 %" in labels


def test_labels_of_any_script_and_shape_draw_without_a_warning() -> None:
    names = [
        "persona-adherence/简短回答",
        "persona-adherence/$x_1$",
        "persona-adherence/\\frac{",
        "persona-adherence/" + "x" * 300,
        "a/<&>\"'",
    ]
    rows = [{"name": name, "base": 0.2, "tuned": 0.4, "unit": "share", "direction": "higher"} for name in names]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        svg = items_svg(read_all(rows))
    assert "简短回答" in svg and "$x_1$" in svg and "x" * 300 not in re.sub('aria-label="[^"]*"', "", svg)


@pytest.mark.parametrize("curve", [None, [], [{"step": 1, "loss": 2.0}], [{"step": 1, "loss": math.nan}, {"step": 2}], "text"])
def test_no_picture_without_points(curve: Any) -> None:
    assert loss_curve_svg(curve) == ""


def test_one_point_of_each_loss_is_a_picture() -> None:
    svg = loss_curve_svg([{"step": 1, "loss": 2.0}, {"step": 1, "eval_loss": 2.0}])
    assert "training" in svg and "validation" in svg


@given(st.lists(st.tuples(st.integers(0, 10_000), st.floats(0, 100) | st.just(math.nan) | st.none()), max_size=2000))
def test_a_long_curve_keeps_its_range_and_its_end(points: list[tuple[int, float | None]]) -> None:
    kept = series([{"step": step, "loss": loss} for step, loss in points], "loss")
    finite = [(step, loss) for step, loss in points if loss is not None and not math.isnan(loss)]
    assert len(kept) <= 300
    if finite:
        assert kept[-1][0] == max(step for step, _ in finite)
        low, high = min(loss for _, loss in finite), max(loss for _, loss in finite)
        assert all(low - 1e-9 <= loss <= high + 1e-9 for _, loss in kept)
    else:
        assert kept == []


def test_lengths_need_a_spread() -> None:
    assert lengths_svg([5, 5, 5]) == "" and lengths_svg(None) == "" and lengths_svg([math.nan, 3]) == ""
    assert "median 20" in lengths_svg([10, 20, 30])


def test_the_picture_for_a_readme(run_data: dict[str, Any], tmp_path: Path) -> None:
    run_data["title"] = "客服 support-agent"
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # a machine without a Chinese font
        path = save_overview_png(run_data, tmp_path / "overview.png")
    head = path.read_bytes()[:24]
    assert head.startswith(b"\x89PNG") and struct.unpack(">I", head[16:20])[0] == 1600


def test_no_picture_for_a_readme_without_numbers(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nothing to draw"):
        save_overview_png({}, tmp_path / "overview.png")
    assert not list(tmp_path.iterdir())


@given(st.text(max_size=80), st.lists(st.tuples(st.integers(0, 79), st.integers(2, 20)), max_size=4))
def test_marking_evidence_loses_no_character(text: str, cuts: list[tuple[int, int]]) -> None:
    failed = [Failed("i", f"found '{text[start : start + size]}'", False, "") for start, size in cuts]
    pieces = marked(text, failed)
    assert "".join(piece for piece, _ in pieces) == text
    assert all(piece for piece, _ in pieces)


@given(st.lists(st.tuples(st.text(alphabet="ab \n", max_size=5), st.booleans()), max_size=6))
def test_mask_marks_are_read_back(pieces: list[tuple[str, bool]]) -> None:
    sample = "".join(f"⟦{text}⟧" if learned else text for text, learned in pieces)
    read = mask_pieces(sample)
    assert "".join(text for text, _ in read) == "".join(text for text, _ in pieces)
    assert "".join(text for text, learned in read if learned) == "".join(text for text, learned in pieces if learned)
