"""The page: complete in itself, safe against what models and users write, and honest about what is missing."""

from __future__ import annotations

import copy
import json
import math
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentft.report import render_report

TAGS = """
html head meta title style body header main footer section article nav div p h1 h2 h3 h4 a b br ul ol li dl dt dd span code pre mark
table thead tbody tr th td figure figcaption details summary wbr svg g path text tspan use defs clippath rect circle
"""
ALLOWED = set(TAGS.split())
PARTS = (
    "title", "created", "run_id", "status", "recipe", "system_prompt", "system_prompt_tokens", "data", "signal", "training", "headline",
    "comparisons", "items", "samples", "lineage", "versions", "hardware", "profile", "warnings",
)  # fmt: skip


class Page(HTMLParser):
    """What a browser would make of the page, as far as the tests ask."""

    def __init__(self, html: str):
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.texts: list[str] = []
        self._raw = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        self._raw = tag if tag in ("style", "script") else ""

    def handle_endtag(self, tag: str) -> None:
        self._raw = ""

    def handle_data(self, data: str) -> None:
        if not self._raw:
            self.texts.append(data)

    @property
    def text(self) -> str:
        return "".join(self.texts)


def assert_harmless(html: str) -> Page:
    page = Page(html)
    assert set(page.tags) <= ALLOWED, set(page.tags) - ALLOWED
    for tag, name, value in page.attributes:
        assert not name.startswith("on"), (tag, name)
        assert name not in ("src", "srcset", "data", "action", "formaction", "background", "poster"), (tag, name)
        if name in ("href", "xlink:href"):
            assert value.startswith("#"), value
    return page


def test_the_page_needs_nothing_else(html: str) -> None:
    assert_harmless(html)
    assert html.startswith("<!doctype html>")
    style = "".join(re.findall(r"<style>(.*?)</style>", html, re.S))
    assert "@import" not in style and "url(" not in style and "@font-face" not in style
    # Besides model text that was put into the fixture, no address at all: no namespace, no font, no picture.
    assert set(re.findall(r"https?://[\w.]+", html)) == {"https://evil.example", "https://shop.example"}
    assert "default-src 'none'" in html


def test_what_a_model_wrote_is_shown_and_not_run(html: str) -> None:
    assert "<script>" not in html and "<img" not in html
    assert "<script>alert('x')</script><img src=https://evil.example/x.png onerror=alert(1)>" in Page(html).text


def _everywhere(text: str, data: dict[str, Any]) -> dict[str, Any]:
    """``data`` with ``text`` in place of every text that somebody writes."""
    fixed = {"verdict", "direction", "role", "finish", "severity"}

    def replace(value: Any, key: str = "") -> Any:
        if isinstance(value, str) and key not in fixed:
            return text
        if isinstance(value, dict):
            return {(text if key in ("drops", "dropped", "scores", "versions", "metrics") else k): replace(v, k) for k, v in value.items()}
        return [replace(one, key) for one in value] if isinstance(value, list) else value

    return replace(data)


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        '"><img src=x onerror=alert(1)>',
        "'\"></style><script>",
        "${7*7}{{7*7}}{% raw %}",
        "]]></svg><b>",
        "$x^$ \\frac",
    ],
)
def test_hostile_text_everywhere(run_data: dict[str, Any], text: str) -> None:
    run_data["samples"] = run_data["samples"][:3]
    page = assert_harmless(render_report(_everywhere(text, run_data)))
    assert page.text.count(text) > 40


@settings(max_examples=60, deadline=None)
@given(st.text(min_size=1, max_size=60))
def test_any_answer_arrives_unchanged(text: str) -> None:
    html = render_report(
        {"samples": [{"id": "a", "prompt": [{"role": "user", "content": "?"}], "base": {"text": text}, "tuned": {"text": text}}]}
    )
    html.encode("utf-8")
    page = assert_harmless(html)
    shown = re.sub("[\x00-\x08\x0b-\x1f]", lambda found: chr(0x2400 + ord(found.group())), text.replace("\r\n", "\n"))
    shown = re.sub("[\ud800-\udfff\x7f-\x9f]", "\ufffd", shown)
    assert page.text.count(shown) >= 2


def test_an_empty_run_says_what_is_missing() -> None:
    text = Page(render_report({})).text
    for line in (
        "Untitled run", "has not been compared with the base model", "holds no recipe or persona", "holds no record of its data",
        "no record of what the model learned from", "Nothing was trained", "were not compared", "No checklist item was measured",
        "holds no answers to show", "no record of its stages", "Not recorded.",
    ):  # fmt: skip
        assert line in text, line


@pytest.mark.parametrize("nothing", [None, {}, [], "", 0, "text", [None], {"x": None}, math.nan])
def test_any_part_may_be_nothing_or_of_another_type(nothing: Any) -> None:
    for part in PARTS:
        assert_harmless(render_report({part: nothing}))


@pytest.mark.parametrize("part", ["recipe", "comparisons", "samples"])
def test_the_rest_is_shown_without_a_part(run_data: dict[str, Any], part: str) -> None:
    run_data["samples"] = run_data["samples"][:8]
    del run_data[part]
    text = assert_harmless(render_report(run_data)).text
    assert ("Answers side by side" in text and "How this came about" in text) and "{{" not in text


@pytest.mark.parametrize(
    "holes",
    [
        {"comparisons": [{}], "items": [{}], "samples": [{}], "signal": [{}], "training": [{}], "warnings": [None]},
        {"data": {"sources": [{}], "steps": [{}], "splits": {"train": None}, "dropped": [{}], "lengths": {"train": [None, 3]}}},
        {"lineage": {"nodes": [{}]}, "recipe": {"persona": {"policies": [{}]}}, "samples": [{"base": {}, "tuned": {"verdicts": [{}]}}]},
        {"training": [{"curve": [{"step": 1, "loss": math.nan}, {"step": 2, "loss": None}, {"loss": 3.0}], "metrics": {"a": math.inf}}]},
    ],
)
def test_holes_inside_a_part(holes: dict[str, Any]) -> None:
    assert_harmless(render_report(holes))


def test_nan_and_null_are_dashes(run_data: dict[str, Any]) -> None:
    for row in run_data["comparisons"] + run_data["items"]:
        row.update(base=math.nan, tuned=None, difference=math.inf, ci=[math.nan, None], base_ci=None, tuned_ci=[1], p=math.nan)
    run_data["training"][0]["metrics"]["eval_loss"] = math.nan
    text = Page(render_report(run_data)).text
    assert not re.search(r"\b(nan|NaN|inf|None(?! of))\b", text)
    assert "not measured" in text and "–" in text


def test_unscored_answers_are_counted(html: str) -> None:
    text = Page(html).text
    assert "unscored: 1 base, 2 tuned" in text
    assert "unscored: 126 base, 126 tuned" in text
    assert "relevance unscored" in text


def test_every_sample_is_there_in_the_given_order(run_data: dict[str, Any]) -> None:
    run_data["sample_selection"] = "126 of 150 prompts, drawn with seed 7."
    text = Page(render_report(run_data)).text
    ids = [sample["id"] for sample in run_data["samples"]]
    places = [text.index(one) for one in ids]
    assert len(ids) == 126 and places == sorted(places)
    assert "126 of 150 prompts, drawn with seed 7." in text
    for index in (5, 20):
        for who in ("base", "tuned"):
            assert run_data["samples"][index][who]["text"] in text


def test_failed_items_stand_with_their_evidence() -> None:
    verdicts = [
        {"item": "brief", "verdict": "fail", "evidence": "91 words", "severity": "soft"},
        {"item": "no-secrets", "verdict": "fail", "evidence": "asks for a secret: 'your PIN'", "severity": "hard"},
        {"item": "plain", "verdict": "pass"},
        {"item": "facts", "verdict": "unscored"},
        {"item": "escalate", "verdict": "n.a."},
    ]
    sample = {
        "id": "a",
        "prompt": [],
        "base": {"text": "Tell me your PIN & name.", "verdicts": verdicts, "finish": "length"},
        "tuned": None,
    }
    html = render_report({"samples": [sample], "recipe": {"persona": {"policies": [{"id": "brief", "text": "At most 75 words."}]}}})
    assert "Tell me <mark>your PIN</mark> &amp; name." in html
    text = Page(html).text
    assert "1 of 3 items met" in text
    assert text.index("asks for a secret") < text.index("91 words"), "what must never happen comes first"
    assert "unscored: facts" in text and "1 not applicable" in text and "cut off at the length limit" in text


def test_empty_and_failed_answers_are_told_apart() -> None:
    text = Page(
        render_report({"samples": [{"id": "a", "base": {"text": ""}, "tuned": {"text": "", "finish": "error", "error": "out of memory"}}]})
    ).text
    assert text.count("empty answer") == 1 and "no answer: out of memory" in text


def test_the_masked_part_is_told_from_the_learned_part(run_data: dict[str, Any]) -> None:
    html = render_report({"signal": run_data["signal"]})
    learned = re.findall(r'<span class="learned">(.*?)</span>', html, re.S)
    masked = re.findall(r'<span class="masked">(.*?)</span>', html, re.S)
    assert any("tracking page" in one for one in learned) and not any("tracking page" in one for one in masked)
    assert any("Where is my parcel?" in one for one in masked) and not any("Where is my parcel?" in one for one in learned)
    assert "⟦" not in html
    assert "63,280 are learned (18\u00a0%)" in html


def test_data_in_out_and_dropped_with_reasons(run_data: dict[str, Any]) -> None:
    text = Page(render_report({"data": run_data["data"]})).text
    assert "128 rows were dropped in all." in text
    assert "88 near duplicate (0.80); 31 exact duplicate" in text and "2 unknown role" in text
    assert "tickets.jsonl:3" in text and "and 39 more" in text


def test_every_stage_and_every_arc(run_data: dict[str, Any]) -> None:
    html = render_report({"lineage": run_data["lineage"]})
    arcs = re.search(r'<svg class="arcs".*?</svg>', html, re.S)
    nodes = run_data["lineage"]["nodes"]
    assert arcs and arcs.group().count("<path") == sum(len(node["inputs"]) for node in nodes)
    assert arcs.group().count('class="reused"') == 3
    for node in nodes:
        assert node["stage"] in html and node["key"] in html


def test_a_circle_among_the_stages_does_not_hang() -> None:
    nodes = [{"stage": "a", "inputs": ["b"]}, {"stage": "b", "inputs": ["a", "b"]}, {"stage": "c", "inputs": ["gone"], "why": "new"}]
    text = Page(render_report({"lineage": {"nodes": nodes}})).text
    assert "from gone · new" in text


def test_ids_are_unique_and_references_resolve(html: str) -> None:
    ids = [value for _, name, value in Page(html).attributes if name == "id"]
    assert len(ids) == len(set(ids))
    wanted = set(re.findall(r"url\(#([\w-]+)\)", html)) | {v[1:] for _, n, v in Page(html).attributes if n == "href"}
    assert wanted <= set(ids)


def test_pictures_follow_the_theme(html: str) -> None:
    pictures = re.findall(r'<div class="plot (?:wide|narrow)">(.*?)</svg>', html, re.S)
    assert len(pictures) == 8  # loss, lengths, differences, items; for two widths
    for picture in pictures:
        assert set(re.findall(r"#[0-9a-f]{6}", picture)) <= {"#000000"}
        assert "font-family" not in picture and "var(--muted)" in picture
    assert "prefers-color-scheme: dark" in html and "@media print" in html


def test_a_run_without_training_shows_the_base_model_alone(run_data: dict[str, Any]) -> None:
    for row in run_data["comparisons"] + run_data["items"]:
        row.update(tuned=None, difference=None, ci=None, tuned_ci=None, p=None, adjusted_p=None, verdict="info", unscored_base=None)
    for sample in run_data["samples"]:
        del sample["tuned"]
    text = Page(render_report(run_data | {"training": [], "signal": []})).text
    assert "The base model alone" in text and "met 61.2\u00a0% of the persona's checklist" in text
    assert "no answer recorded" in text  # one base answer is absent
    assert "Tuned model" not in text


def test_the_page_stays_small_whatever_comes(run_data: dict[str, Any], html: str) -> None:
    assert len(html.encode()) < 600_000
    sample = run_data["samples"][20]
    sample["base"]["text"] = "很长的回答。" * 3000
    sample["prompt"][-1]["content"] = "long question " * 2000
    run_data["samples"] = [copy.deepcopy(sample) | {"id": f"sample-{index}"} for index in range(500)]
    run_data["system_prompt"] = "x" * 1_000_000
    run_data["recipe"]["yaml"] = "y" * 1_000_000
    run_data["training"][0]["curve"] = [{"step": step, "loss": 1 / (1 + step)} for step in range(60_000)]
    run_data["data"]["dropped"] = [{"reason": "r", "where": f"f:{n}"} for n in range(50_000)]
    run_data["comparisons"] = run_data["comparisons"] * 10
    html = render_report(run_data)
    assert len(html.encode()) < 1_300_000
    text = Page(html).text
    assert "more characters" in text and "300 more are in the run folder" in text and "sample-199" in text and "sample-200" not in text


def test_rendering_repeats_exactly(run_data: dict[str, Any], html: str) -> None:
    assert render_report(run_data) == html


def test_importing_the_report_does_not_import_matplotlib() -> None:
    code = "import sys, agentft.report; print([m for m in ('matplotlib', 'numpy', 'torch') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_pictures_need_no_display_and_leave_no_settings_behind(run_data: dict[str, Any]) -> None:
    code = (
        "import json, sys, matplotlib; before = matplotlib.rcParams.copy(); from agentft.report import render_report;"
        "render_report(json.load(sys.stdin)); print(dict.__eq__(matplotlib.rcParams, before), 'matplotlib.pyplot' in sys.modules)"
    )
    environment = {key: value for key, value in os.environ.items() if key not in ("DISPLAY", "MPLBACKEND")}
    given_data = json.dumps({key: run_data[key] for key in ("comparisons", "items", "training")})
    done = subprocess.run([sys.executable, "-c", code], input=given_data, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True False"


def test_a_chinese_persona_is_marked_as_such(run_data: dict[str, Any]) -> None:
    run_data["recipe"]["persona"] |= {"language": "zh", "policies": [{"id": "简短", "text": "回答不超过100字。", "severity": "hard"}]}
    run_data |= {"items": [run_data["items"][0] | {"name": "persona-adherence/简短"}], "samples": run_data["samples"][:8], "training": []}
    html = render_report(run_data)
    assert 'lang="zh"' in html and html.count("简短") > 3
    run_data["recipe"]["persona"]["language"] = 'zh" onclick="alert(1)'
    assert_harmless(render_report(run_data))
