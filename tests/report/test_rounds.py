"""The report's view of the rounds: complete, hostile, Chinese, endless and empty data."""

from __future__ import annotations

import html
import math
import re
import time
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentft.report import render_report
from agentft.report.difference import marked
from agentft.report.rounds import figures, level, rounds, times
from agentft.report.rounds_plots import curve_svg, flow_svg, rounds_svg

EVIL = "<script>alert(1)</script>"
KEYS = (
    "round", "state", "promoted", "sentence", "primary", "arms", "conditions", "flow", "drops", "training", "pairs", "moved", "tokens",
    "feedback", "critics",
)  # fmt: skip

SMALL: dict[str, Any] = {
    "round": 1,
    "state": "promoted",
    "promoted": "candidate",
    "primary": "a",
    "arms": [{"name": "candidate", "label": "DPO", "values": {"a": {"value": 0.5, "ci": [0.4, 0.6], "unit": "share"}}}],
    "conditions": [
        {"name": "a", "kind": "primary", "outcome": "pass", "difference": 0.1, "ci": [0.0, 0.2], "needed": 0.0, "unit": "share"}
    ],
    "flow": [{"name": "pairs kept", "count": 3}, {"name": "b", "count": 0}],
    "drops": {"reason": 2},
    "training": [{"arm": "candidate", "words": ["w"], "curve": [{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.0}]}],
    "pairs": [{"prompt": [{"role": "user", "content": "q"}], "rejected": "a", "chosen": "b", "mended": ["close"]}],
    "moved": [{"item": "close", "before": 0.1, "after": 0.2, "count_fixed": 1, "fixed": [{"prompt": "q", "before": "a", "after": "b"}]}],
    "tokens": [{"prompt": "q", "pieces": [["a", 1.0], ["b", -3.0]]}],
    "critics": [{"name": "rules", "calibrated": False, "text": "t"}],
}


def page(found: Any) -> str:
    return render_report({"title": "t", "status": "complete", "rounds": found})


def section(found: Any) -> str:
    text = page(found)
    return text[text.index('<section id="rounds">') : text.index('<section id="asked">')]


def plain_text(markup: str) -> str:
    """The text of the markup with single spaces, pictures left out."""
    bare = re.sub(r"<svg.*?</svg>", " ", markup, flags=re.S).replace("<wbr>", "")
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", bare)).split())


class Tags(HTMLParser):
    """Which elements and attributes a browser would see, and whether they are closed in order."""

    VOID = frozenset({"meta", "br", "wbr", "path", "use"})

    def __init__(self, text: str):
        super().__init__()
        self.found: set[str] = set()
        self.attributes: set[str] = set()
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.add(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
            self.open.pop()


def test_everything_that_a_round_holds_is_on_the_page(rounds_data):
    found = section(rounds_data[-1:])
    text = plain_text(found)
    for said in (
        "✓ Round 3: promoted the candidate (DPO on pairs) is the new champion",
        "persona-adherence has to become better +3.5 pp [+1.7, +5.3] interval above 0.0 pp",
        "✓ holds", "? unclear", "✗ not measured", "× 1.03 0.80 to 1.25", "× 0.99 at least 0.90", "0 at most 0", "126 at least 100",
        "Critic rules judged 740 answers, left 0 items open.", "54 % of 419 items; not calibrated: it may advise, not decide .",
        "close Offer further help in the last sentence.", "50.0 % → 81.0 % +31.0 pp", "mended on 24 prompts (2 shown)",
        "broken on 1 prompt",
        "2 more pairs", "revised answer over the first one · mended: facts no-promises close", "缺少具体的下一步。",
        "Feedback in words: 2 examples", "human (Ann) Too vague; say where to start the return.",
        "Training: candidate (DPO on pairs)", "prefers the chosen answer in 84% of the pairs",
    ):  # fmt: skip
        assert said in text, said
    assert "三十天内可以退<del>货</del>。" in found and "三十天内可以退<ins>款</ins>。" in found
    assert "You are Northwind." not in text, "the system prompt is the same everywhere and stands elsewhere"
    assert 'href="#rounds"' in page(rounds_data)


def test_the_pictures_say_what_was_measured(rounds_data):
    picture = rounds_svg(rounds_data)
    for label in ("round 3 candidate 90.6", "round 1: 106 pairs kept, 363 rows dropped", "length (words): round 1 champion 47.9"):
        assert label in picture
    for written in ("✗ rejected", "? inconclusive", "✓ promoted", "candidate: DPO on pairs", "champion before the round", "90.6"):
        assert f">{written}</text>" in picture, written
    assert "round 3: 124 pairs kept" not in rounds_svg(rounds_data[-1:]), "one round alone has nothing to be compared with"
    flow = flow_svg(rounds_data[0]["flow"], rounds_data[0]["drops"], "flow")
    assert ">740</text>" in flow and ">revision is not better</text>" in flow and "301 revision is not better" in flow
    curve = curve_svg(rounds_data[0]["training"][0]["curve"], "curve")
    assert "margin of the chosen answers from 0.016 to 0.8" in curve and "drift of the chosen answers (nats) from -0.09 to -4.5" in curve


def test_many_reasons_are_summed_up():
    flow = flow_svg([{"name": "prompts", "count": 9}], {f"reason {n:02}": 30 - n for n in range(20)}, "flow")
    assert ">9 further reasons</text>" in flow and "reason 10" in flow and "reason 11" not in flow


def test_the_latest_round_is_open_and_the_others_are_folded(rounds_data):
    found = section(rounds_data)
    places = [found.index(f"Round {n}: ") for n in (3, 2, 1)]
    assert places == sorted(places) and found.count('<details class="round') == 2
    assert "the champion stays, because the gate could not tell" in found
    ids = re.findall(r'\bid="([^"]+)"', page([rounds_data[-1], rounds_data[-1]]))
    assert len(ids) == len(set(ids)), "two rounds with the same number draw pictures with the same ids"


def test_the_latest_of_many_rounds_are_kept(rounds_data):
    many = [{"round": n, "state": "rejected"} for n in range(1, 31)]
    view = rounds({"rounds": many})
    assert [one["number"] for one in view["list"]][:2] == ["30", "29"] and len(view["list"]) == 20 and view["left_out"] == 10
    assert "10 earlier rounds are not shown." in section(many)


def test_an_arm_is_named_once_whatever_its_label():
    def title(label: str) -> str:
        arms = [{"name": "candidate", "label": label}]
        return plain_text(section([{"round": 1, "state": "promoted", "promoted": "candidate", "arms": arms}]))

    for label, named in (("candidate: DPO", "candidate (DPO)"), ("candidate", "candidate"), ("", "candidate"), ("DPO", "candidate (DPO)")):
        assert f"the {named} is the new champion" in title(label)


def test_a_round_that_made_no_pairs_does_not_blame_the_gate():
    text = plain_text(section([{"round": 1, "state": "inconclusive", "sentence": "0 pairs from 8 prompts"}]))
    assert "inconclusive the champion stays 0 pairs from 8 prompts." in text and "the gate could not tell" not in text


def test_the_reward_stands_in_for_a_drift_that_was_not_logged():
    rows = [{"step": n, "loss": 1.0 / n, "margin": 0.1 * n, "reward_chosen": -0.2 * n} for n in range(1, 4)]
    assert "reward of the chosen answers from -0.2 to -0.6" in curve_svg(rows, "c")
    assert "reward" not in curve_svg([row | {"drift": -1.0 * row["step"]} for row in rows], "c")


def test_earlier_rounds_say_in_words_what_later_ones_draw():
    many = [{"round": n, "flow": [{"name": "prompts", "count": 9}, {"name": "kept", "count": n}], "drops": {"tie": n}} for n in range(1, 8)]
    found = section(many)
    assert found.count('role="img"') == 2 * 6 and "9 prompts, 1 kept." in found and "Dropped: 1 tie." in found


def test_what_the_control_arm_moved_is_not_called_the_candidates(rounds_data):
    text = plain_text(section([rounds_data[-1] | {"promoted": "control"}]))
    assert "the control (SFT on refined) is the new champion" in text and "champion (ring) to control (filled)" in text
    assert " Control " in text and " Candidate " not in text


def test_without_rounds_there_is_no_section():
    for nothing in (None, [], {}, "x", math.nan, [None], [3]):
        assert 'id="rounds"' not in page(nothing) and 'href="#rounds"' not in page(nothing)


def poisoned(value: Any, evil: str = EVIL) -> Any:
    if isinstance(value, dict):
        return {poisoned(key, evil) if key in ("close", "length") else key: poisoned(one, evil) for key, one in value.items()}
    if isinstance(value, list):
        return [poisoned(one, evil) for one in value]
    return f"{value}{evil}" if isinstance(value, str) else value


@pytest.mark.parametrize("evil", [EVIL, '"><img src=x onerror=alert(1)>', "'\"></style>{{7*7}}{% raw %}$x^$\x00\ud83d"])
def test_no_text_becomes_markup(rounds_data, evil):
    hostile = [poisoned(one, evil) for one in rounds_data[-1:]]
    assert isinstance(hostile[0], dict)
    hostile[0]["arms"] = rounds_data[-1]["arms"]
    tags = Tags(page(hostile))
    assert not tags.found & {"script", "img", "iframe", "object"} and not {name for name in tags.attributes if name.startswith("on")}
    assert not tags.open and "49" not in plain_text(section(hostile)).split()


def test_the_page_is_closed_in_order(rounds_data):
    assert not Tags(page(rounds_data)).open


@pytest.mark.parametrize("hole", KEYS)
def test_any_part_may_be_missing_or_of_another_type(hole):
    light = {key: value for key, value in SMALL.items() if key not in ("flow", "training") or key == hole}
    holed = [light | {hole: junk} for junk in (None, "x", [], 7, math.nan, {}, [None, 1, "x", []], {"x": None}, [{}], [{"x": [{}]}])]
    text = plain_text(section([*holed, {key: value for key, value in light.items() if key != hole}, {}]))
    assert text.count("Round ") == 12 and "nan" not in text.casefold() and "{" not in text


@settings(max_examples=15, deadline=None)
@given(st.data())
@pytest.mark.slow
def test_any_leaf_may_be_anything(data):
    """Junk at any depth: in a condition, a curve, a token, an example of an item."""
    junk = st.sampled_from([None, math.nan, math.inf, -1, 10**400, "", "x", [], [1], {}, True])

    def spoiled(value: Any) -> Any:
        if data.draw(st.integers(0, 5)) == 0:
            return data.draw(junk)
        if isinstance(value, dict):
            return {key: spoiled(one) for key, one in value.items()}
        return [spoiled(one) for one in value] if isinstance(value, list) else value

    assert isinstance(page([spoiled(SMALL)]), str)


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"difference": 0.02, "ci": [0.01, 0.03], "needed": 0.0, "unit": "share"}, ("+2.0 pp", "interval above 0.0 pp")),
        ({"difference": -0.01, "needed": -0.02, "unit": "share"}, ("−1.0 pp", "at least −2.0 pp")),
        ({"difference": 1.5, "needed": [0.8, 1.25], "unit": "ratio"}, ("× 1.50", "0.80 to 1.25")),
        ({"difference": 0.7, "needed": 0.8, "unit": "ratio", "outcome": "fail"}, ("× 0.70", "at least 0.80")),
        # Too long: the bound that is known holds, so it cannot be the one that was missed.
        ({"difference": 2.0, "needed": 0.8, "unit": "ratio", "outcome": "fail"}, ("× 2.00", "–")),
        ({"difference": -3.0, "needed": -0.0, "unit": "prompts", "kind": "limit"}, ("3", "at most 0")),
        ({"difference": 12.0, "needed": 100.0, "unit": "prompts", "kind": "pool"}, ("12", "at least 100")),
        ({"difference": math.nan, "needed": None, "unit": "words"}, ("–", "–")),
    ],
)
def test_what_was_found_and_needed(row, expected):
    assert tuple(text.replace("\u00a0", " ") for text in figures(row)) == expected


def test_tokens_have_a_strength_and_a_factor():
    assert [level(v) for v in (None, 0.1, 0.3, 1.0, 1.5, 2.0, 9.0, -0.3, -2.5)] == [
        "",
        "",
        "up1",
        "up2",
        "up3",
        "up4",
        "up4",
        "down1",
        "down4",
    ]
    assert times(math.log(22)) == "22.0 times likelier" and times(-math.log(300)) == "300 times less likely"
    assert times(900.0) == "over a million times likelier"
    found = section([{"tokens": [{"prompt": "Is it free?", "pieces": [["Yes", 3.1], [",", -0.1], [" for", -2.4], [" 30", None]]}]}])
    assert '<span class="up4" title="22.2 times likelier">Yes</span>' in found and "<span> 30</span>" in found
    text = plain_text(found)
    assert "Gained most: Yes 22.2 times likelier. Lost most: for 11.0 times less likely." in text
    assert "Log-likelihood of the answer against the base model: +0.600 over 3 tokens." in text


def test_long_texts_are_cut_and_the_page_stays_small(rounds_data):
    for one in rounds_data[1:]:
        for pair in one["pairs"]:
            pair["rejected"] = "退货 the end " * 4000
        for row in one["moved"]:
            row["fixed"] = row["fixed"] * 40
        one["tokens"][0]["pieces"] *= 400
    start = time.process_time()
    text = page(rounds_data[1:])
    assert time.process_time() - start < 20
    assert "more characters]" in text and "more tokens]" in text
    assert len(text.encode()) < 1_000_000


@given(st.text(max_size=60), st.text(max_size=60))
def test_marking_differences_loses_nothing(before, after):
    left, right = marked(before, after)
    assert "".join(text for text, _ in left) == before and "".join(text for text, _ in right) == after
    assert not any(differs for _, differs in marked(before, before)[0])


@given(st.lists(st.sampled_from(["the", "parcel", "退", "款", "5", ".", "a"]), max_size=12), st.data())
def test_what_is_not_marked_is_equal(words, data):
    other = [word for word in words if data.draw(st.booleans())] + data.draw(st.lists(st.sampled_from(["the", "late", "货"]), max_size=4))
    left, right = (
        "".join("".join(text for text, differs in side if not differs).split()) for side in marked(" ".join(words), " ".join(other))
    )
    assert left == right


def test_differences_are_those_a_reader_sees():
    left, right = marked("三十天内可以退货。", "三十天内可以退款。")
    assert left == [("三十天内可以退", False), ("货", True), ("。", False)] and right[1] == ("款", True)
    # "is" between two changes is no common ground; white space is no difference.
    assert marked("Returns is free", "Refunds is slow")[0] == [("Returns is free", True)]
    assert marked("Two  days", "Two days") == ([("Two  days", False)], [("Two days", False)])
    assert marked("1.5 days", "2.5 days")[0] == [("1.5", True), (" days", False)]


def test_a_model_that_repeats_itself_is_no_reason_to_wait():
    start = time.process_time()
    left, _ = marked("the end the " * 3000, "a the the " * 3000)
    assert time.process_time() - start < 2 and left[0][1]
