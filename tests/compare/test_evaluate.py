"""``agentft evaluate AGENT --suite``: figures by hand, thresholds, resumption, and what is left for others to read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from servers import completion, serving

from agentft.errors import UserError
from agentft.evaluate.bounds import check_bounds, parse_bound
from agentft.evaluate.common import score_from
from agentft.report.junit import evaluation_xml


def clerk(_number: int, body: dict) -> tuple:
    """Polite about every old book; says nothing about the new ones."""
    asked = body["messages"][-1]["content"]
    number = int("".join(char for char in asked if char.isdigit()))
    return completion(f"Yes, please take book {number}." if number % 3 else "Yes.")


def results(folder: Path) -> dict:
    (path,) = folder.glob("evaluations/*/result.json")
    return json.loads(path.read_text("utf-8"))


def test_figures_slices_and_files(desk: Path, agentft) -> None:
    with serving(clerk) as (url, seen):
        out = agentft("evaluate", f"{url}#clerk", "--suite", "suite.yaml", "--name", "the clerk").output
    assert len(seen) == 12 and all("small library" in body["messages"][0]["content"] for body in seen)
    found = results(desk)
    scores = {row["name"]: row for row in found["scores"]}
    assert scores["persona-adherence/polite"]["value"] == pytest.approx(8 / 12)
    assert scores["persona-adherence"]["value"] == pytest.approx((8 + 4 * 0.5) / 12)
    assert scores["relevance/facts"]["value"] == pytest.approx(8 / 12) and scores["hard-violations"]["value"] == 0
    low, high = scores["persona-adherence"]["ci"]
    assert low < scores["persona-adherence"]["value"] < high
    slices = {(row["slice"], row["score"]): row for row in found["slices"]}
    assert slices[("old", "relevance/facts")]["value"] == 1 and slices[("new", "relevance/facts")]["value"] == 0
    assert slices[("old", "relevance/facts")]["n"] == 8
    assert "the clerk on desk: 12 prompts" in out and "kind: new" in out
    page = (next(desk.glob("evaluations/*/report.html"))).read_text("utf-8")
    assert "the clerk on desk" in page and "Yes, please take book 1." in page and "<script" not in page


def test_thresholds_decide_the_exit_code_and_the_colour(desk: Path, agentft) -> None:
    with serving(clerk) as (url, seen):
        agent = ("evaluate", f"{url}#clerk", "--suite", "suite.yaml", "--junit", "junit/out.xml")
        good = agentft(*agent, "--min", "persona-adherence=80%", "--max", "hard-violations=0")
        assert 'failures="0"' in (desk / "junit/out.xml").read_text("utf-8") and "ok   persona-adherence" in good.output
        bad = agentft(*agent, "--min", "relevance/facts=0.9", code=1)
        assert "threshold missed: relevance/facts 0.6667 is below 0.9" in bad.output
        assert len(seen) == 12  # asked once
        xml = (desk / "junit/out.xml").read_text("utf-8")
        assert '<testcase classname="desk.clerk.relevance/facts" name="p0"' in xml and 'failures="5"' in xml.splitlines()[1]
        agentft(*agent, "--min", "relevance/fact=0.9", code=2)
        agentft(*agent, "--min", "0.9", code=2)


def test_bounds_by_hand() -> None:
    scores = [score_from("a", {"x": 0.5, "y": 1.0}), score_from("b", {"x": float("nan")})]
    found = check_bounds(scores, {"a": 0.75, "b": 0.0}, {"a": 0.7})
    assert [(one.name, one.kind, one.passed) for one in found] == [("a", "min", True), ("b", "min", False), ("a", "max", False)]
    assert found[1].text == "b could not be measured, so that it is not known to be at least 0"
    assert found[2].text == "a 0.75 is above 0.7"
    assert parse_bound("relevance/facts=80%", "--min") == ("relevance/facts", 0.8)
    with pytest.raises(UserError, match="did you mean 'a'|no such score"):
        check_bounds(scores, {"aa": 1}, {})
    for text in ("a", "=3", "a=x", "a=nan"):
        with pytest.raises(UserError, match="--min takes NAME=VALUE"):
            parse_bound(text, "--min")


def test_it_goes_on_where_it_stopped_and_asks_again_what_failed(desk: Path, agentft) -> None:
    def failing(_number: int, body: dict) -> tuple:
        return (400, {}, {"error": {"message": "too long"}}) if body["messages"][-1]["content"].endswith("book 7?") else clerk(0, body)

    with serving(failing) as (url, seen):
        first = agentft("evaluate", f"{url}#clerk", "--suite", "suite.yaml")
        port = int(url.split(":")[2].split("/")[0])
    assert "1 of 12 prompts were not answered" in first.output and len(seen) == 12
    assert {row["name"]: row["n"] for row in results(desk)["scores"]}["persona-adherence"] == 11
    with serving(clerk, port) as (url, again):
        agentft("evaluate", f"{url}#clerk", "--suite", "suite.yaml")
    assert [body["messages"][-1]["content"] for body in again] == ["May I borrow book 7?"]
    assert {row["name"]: row["n"] for row in results(desk)["scores"]}["persona-adherence"] == 12


def test_an_agent_that_answers_nothing_is_an_error(desk: Path, agentft) -> None:
    with serving(lambda *_: (400, {}, {"error": {"message": "no"}})) as (url, _):
        agentft("evaluate", f"{url}#clerk", "--suite", "suite.yaml", code=2)


def test_a_model_in_this_process_and_json(desk: Path, agentft, tiny_ref) -> None:
    arguments = ("evaluate", tiny_ref.path, "--suite", "suite.yaml", "--json", "--limit", "5")
    data = json.loads(agentft(*arguments).stdout)
    assert data["agent"]["kind"] == "model" and {row["name"] for row in data["scores"]} >= {"persona-adherence", "relevance/facts"}
    assert all(row["per_sample"] == {} for row in data["scores"]) and data["thresholds"] == []
    assert json.loads(agentft(*arguments).stdout)["scores"] == data["scores"]
    assert len(results(desk)["samples"]) == 5


def test_the_persona_may_stay_away_or_be_another(desk: Path, agentft) -> None:
    (desk / "pirate.yaml").write_text(
        (desk / "clerk.yaml").read_text("utf-8").replace("clerk at the counter", "pirate on the deck"), "utf-8"
    )
    with serving(clerk) as (url, seen):
        agentft("evaluate", f"{url}#clerk", "--suite", "suite.yaml", "--as-is")
        assert all(body["messages"][0]["role"] == "user" for body in seen)
        agentft("evaluate", f"{url}#clerk", "--suite", "suite.yaml", "--persona", "pirate.yaml")
        assert "pirate on the deck" in seen[-1]["messages"][0]["content"]
        agentft("evaluate", f"{url}#clerk", "--suite", "suite.yaml", "--persona", "pirate.yaml", "--as-is", code=2)


def test_a_judge_reads_the_items_that_it_is_given(desk: Path, agentft) -> None:
    def both(_number: int, body: dict) -> tuple:
        text = body["messages"][-1]["content"]
        if body["model"] == "judge":
            return completion("polite: yes | please" if "please take" in text else "polite: no | curt" if "Yes." in text else "?")
        return clerk(0, body)

    with serving(both) as (url, seen):
        text = (desk / "suite.yaml").read_text("utf-8")
        judge = f"judge: {{model: {{url: '{url}', model: judge}}, items: [polite], temperature: 0}}\n"
        (desk / "suite.yaml").write_text(text + judge, "utf-8")
        agentft("evaluate", f"{url}#clerk", "--suite", "suite.yaml")
        count = len(seen)
        agentft("evaluate", f"{url}#clerk", "--suite", "suite.yaml")
        assert len(seen) == count == 24  # judgements are kept
    scores = {row["name"]: row for row in results(desk)["scores"]}
    assert scores["judged"]["value"] == pytest.approx(8 / 12) and scores["judged/polite"]["per_sample"]["p0"] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["clerk", "--suite", "env:tau2"], "agentft simulate"),
        (["http://127.0.0.1:1/v1"], "with --suite"),
        (["suite.yaml", "--min", "a=1"], "--min goes with --suite"),
        (["clerk", "--suite", "suite.yaml", "--set", "a=1"], "--set changes a recipe"),
        (["clerk", "--suite", "suite.yaml", "--model", "m"], "--model names a model of a server"),
        (["clerk", "--suite", "suite.yaml"], "nor is it a run"),
    ],
)
def test_mistakes_are_one_line(desk: Path, agentft, arguments, message) -> None:
    assert message in str(agentft("evaluate", *arguments, code=2).exception)


def test_junit_survives_any_text(desk: Path) -> None:
    from xml.etree import ElementTree

    dirty = "a\x00b\x1b[31m\ud800\uffff <&\"'> 你好 😀"
    result = {
        "agent": {"name": dirty},
        "suite": {"name": "s"},
        "seconds": 1234.5,
        "samples": [{"id": dirty, "prompt": [{"role": "user", "content": dirty}], "text": dirty}],
        "scores": [score_from("ok", {dirty: 0.0}).to_dict()],
    }
    root = ElementTree.fromstring(evaluation_xml(result, []).encode("utf-8"))
    case = root.find("testsuite/testcase")
    assert case is not None and "你好 😀" in case.attrib["name"] and "\ud800" not in case.attrib["name"]
    assert case.find("skipped").text.startswith("user: a␀b␛[31m")  # type: ignore[union-attr]
