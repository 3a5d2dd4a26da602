"""``agentft compare``: verdicts, judge, slices, what changed, exit codes; a page; and the form of the JUnit file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from servers import completion, serving

from agentft.comparing import compare_sides
from agentft.errors import UserError
from agentft.evaluate.common import score_from
from agentft.evaluate.winrate import Judged
from agentft.report.compared import render_comparison
from agentft.report.junit import comparison_xml
from agentft.sides import Side

XSD = """<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema">
<xs:simpleType name="count"><xs:restriction base="xs:nonNegativeInteger"/></xs:simpleType>
<xs:complexType name="told"><xs:simpleContent><xs:extension base="xs:string">
  <xs:attribute name="message" type="xs:string"/><xs:attribute name="type" type="xs:string"/>
</xs:extension></xs:simpleContent></xs:complexType>
<xs:complexType name="case">
  <xs:choice minOccurs="0" maxOccurs="unbounded">
    <xs:element name="skipped" type="told"/><xs:element name="error" type="told"/>
    <xs:element name="failure" type="told"/><xs:element name="system-out" type="xs:string"/>
  </xs:choice>
  <xs:attribute name="name" type="xs:string" use="required"/><xs:attribute name="classname" type="xs:string"/>
  <xs:attribute name="time" type="xs:decimal"/>
</xs:complexType>
<xs:complexType name="suite">
  <xs:sequence><xs:element name="testcase" type="case" minOccurs="0" maxOccurs="unbounded"/></xs:sequence>
  <xs:attribute name="name" type="xs:string" use="required"/><xs:attribute name="tests" type="count" use="required"/>
  <xs:attribute name="failures" type="count" use="required"/><xs:attribute name="errors" type="count" use="required"/>
  <xs:attribute name="skipped" type="count"/><xs:attribute name="time" type="xs:decimal"/>
</xs:complexType>
<xs:element name="testsuites"><xs:complexType>
  <xs:sequence><xs:element name="testsuite" type="suite" minOccurs="0" maxOccurs="unbounded"/></xs:sequence>
  <xs:attribute name="name" type="xs:string"/><xs:attribute name="tests" type="count"/>
  <xs:attribute name="failures" type="count"/><xs:attribute name="errors" type="count"/>
</xs:complexType></xs:element>
</xs:schema>"""


def checked(xml: str) -> Any:
    """The root of a JUnit file, after validation against the schema above (the elements and attributes that build servers agree on)."""
    etree = pytest.importorskip("lxml.etree")
    root = etree.fromstring(xml.encode("utf-8"))
    etree.XMLSchema(etree.fromstring(XSD)).assertValid(root)
    for suite in root.iter("testsuite"):
        cases = suite.findall("testcase")
        assert suite.attrib["tests"] == str(len(cases)) and suite.attrib["failures"] == str(
            sum(c.find("failure") is not None for c in cases)
        )
    return root


def side(name: str, values: list[float], texts: list[str] | None = None, **changes: Any) -> Side:
    ids = [f"s{n}" for n in range(len(values))]
    samples = {
        one: {
            "id": one,
            "slices": {"kind": "even" if n % 2 == 0 else "odd"},
            "prompt": [{"role": "user", "content": f"Question {n}?"}],
            "reference": None,
            "text": (texts or [f"{name} {n}"] * len(ids))[n],
            "finish": "stop",
            "error": "",
        }
        for n, one in enumerate(ids)
    }
    scores = [score_from("persona-adherence", dict(zip(ids, values, strict=True)))]
    return Side(name, name, scores, {}, samples, **changes)


def test_a_loss_is_told_and_named_and_a_gain_is_not() -> None:
    worse, better = side("old", [1.0] * 20), side("new", [0.0] * 12 + [1.0] * 8)
    data = compare_sides(worse, better)
    assert data["worse"] == ["persona-adherence"] and data["n"] == 20 and data["headline"] == ["persona-adherence"]
    row = data["comparisons"][0]
    assert row["difference"] == pytest.approx(-0.6) and row["verdict"] == "worse" and row["smallest_detectable"] > 0
    assert [one["id"] for one in data["changed"]] == [f"s{n}" for n in (0, 1, 10, 11, 2, 3, 4, 5, 6, 7)]
    assert {one["change"] for one in data["changed"]} == {-1.0}
    back = compare_sides(better, worse)
    assert back["worse"] == [] and back["better"] == ["persona-adherence"]
    assert back["comparisons"][0]["difference"] == pytest.approx(0.6)


def test_the_level_decides() -> None:
    old, new = side("old", [1.0] * 20), side("new", [0.0] * 7 + [1.0] * 13)  # sign test: p = 2 / 2**7 = 0.0156
    assert compare_sides(old, new)["worse"] == ["persona-adherence"]
    strict = compare_sides(old, new, alpha=0.01)
    assert strict["worse"] == [] and strict["comparisons"][0]["verdict"] == "inconclusive"
    wide, narrow = (compare_sides(old, new, alpha=alpha)["comparisons"][0]["ci"] for alpha in (0.01, 0.3))
    assert wide[0] < narrow[0] and wide[1] >= narrow[1]


def test_a_win_rate_fails_only_where_it_is_asked_to() -> None:
    old, new = side("old", [1.0] * 20), side("new", [1.0] * 20)
    lost = [Judged(f"s{n}", "first", ("first",), ("first",), (5, 5 + n % 3)) for n in range(20)]
    assert compare_sides(old, new, duels=lost, judge="j")["worse"] == []
    data = compare_sides(old, new, duels=lost, judge="j", fail_on=["win-rate", "length-controlled-win-rate"])
    assert data["worse"] == ["length-controlled-win-rate", "win-rate"] or data["worse"] == ["win-rate", "length-controlled-win-rate"]
    with pytest.raises(UserError, match="needs a judge"):
        compare_sides(old, new, fail_on=["win-rate"])
    with pytest.raises(UserError, match="did you mean 'persona-adherence'"):
        compare_sides(old, new, fail_on=["persona-adherance"])


def test_what_was_not_asked_of_both_cannot_be_compared() -> None:
    one, other = side("a", [1.0, 0.0]), side("b", [1.0, 0.0])
    other.samples["s1"]["prompt"] = [{"role": "user", "content": "Something else?"}]  # type: ignore[index]
    with pytest.raises(UserError, match="prompt 's1' is not the same"):
        compare_sides(one, other)
    with pytest.raises(UserError, match="no scored sample in common"):
        compare_sides(one, Side("c", "c", [score_from("length", {"z": 1.0})]))


def test_two_of_one_name_are_told_apart() -> None:
    data = compare_sides(side("agent", [1.0] * 4), side("agent", [1.0] * 4))
    assert (data["first"], data["second"]) == ("agent (A)", "agent (B)") and data["changed"] == []


def test_page_and_junit_hold_any_text() -> None:
    texts = ["<script>alert(1)</script> \x1b 你好", "b", "c", "d"]
    data = compare_sides(
        side("<b>old</b>", [1.0] * 4, texts),
        side("new&", [0.0, 1.0, 1.0, 1.0], ["x", "b", "c", "d"]),
        duels=[Judged("s0", "first", ("first",), ("first",), (3, 1)), *(Judged(f"s{n}", "tie", same=True) for n in (1, 2, 3))],
        words={"s0": ["A, because <i>it</i> is kinder", "B"]},
        judge="j",
    )
    page = render_comparison(json.loads(json.dumps(data, allow_nan=False)))
    assert (
        "<script>" not in page
        and "&lt;script&gt;" in page
        and "because &lt;i&gt;" in page
        and "你好" in page
        and "1.0" not in data["judge"]
    )
    root = checked(comparison_xml(data))
    assert [case.attrib["name"] for case in root.iter("testcase") if case.find("skipped") is not None] == ["s0"]
    assert root.attrib["failures"] == "0"


def answers(curt: bool) -> Any:
    """Polite clerks; the curt one forgets its manners about two thirds of the books."""

    def answer(_number: int, body: dict) -> tuple:
        number = int("".join(char for char in body["messages"][-1]["content"] if char.isdigit()))
        return completion("Yes." if curt and number % 3 else f"Yes, please take book {number}, it is yours for four weeks.")

    return answer


def judge(_number: int, body: dict) -> tuple:
    """Prefers the longer reply, and says so; where they are alike, what stands first."""
    text = body["messages"][-1]["content"]
    first, second = text.split("Reply A:\n")[1].split("Reply B:\n")
    second = second.split("\n\nWhich")[0]
    return completion("A" if len(first.strip()) >= len(second.strip()) else "B: it says more")


def test_two_agents_on_a_suite_with_a_judge(desk: Path, agentft) -> None:
    with serving(answers(False)) as (kind, _), serving(answers(True)) as (curt, _), serving(judge) as (third, seen):
        command = ("compare", f"{kind}#kind", f"{curt}#curt", "--suite", "suite.yaml", "--judge", f"{third}#judge", "--junit", "out.xml")
        result = agentft(*command, code=1)
        asked = len(seen)
        assert asked == 16  # eight pairs differ, each in both orders
        again = json.loads(agentft(*command, "--json", code=1).stdout)
        assert len(seen) == asked  # verdicts are kept
    assert "curt is worse than kind: persona-adherence, relevance/facts" in result.output
    assert "8 losses" in result.output and "4 ties (4 with equal texts)" in result.output
    wins = again["wins"]
    assert (wins["wins"], wins["ties"], wins["losses"]) == (0, 4, 8) and wins["rate"] == pytest.approx(2 / 12)
    assert wins["consistent"] == 1 and wins["first_share"] == 0.5
    assert wins["controlled"]["effect"] > 0 and wins["controlled"]["rate"] > wins["rate"]  # the judge likes what is longer
    verdicts = {row["slice"]: row for row in again["slices"] if row["score"] == "persona-adherence"}
    assert verdicts["new"]["difference"] == 0 and verdicts["old"]["difference"] == -0.5 and verdicts["old"]["verdict"] == "worse"
    one = again["changed"][0]
    assert one["slices"] == {"kind": "old"} and one["second"]["text"] == "Yes." and {"polite"} == {row["item"] for row in one["verdicts"]}
    assert one["winner"] == "first" and "B: it says more" in one["words"]
    root = checked((desk / "out.xml").read_text("utf-8"))
    failed = {case.attrib["name"] for case in root.iter("testcase") if case.find("failure") is not None}
    assert {"persona-adherence", "relevance/facts", "p1"} <= failed and "p0" not in failed
    page = Path(again["folder"], "report.html").read_text("utf-8")
    assert "curt against kind" in page and "it says more" in page and "<del>" in page


def test_a_better_agent_passes_and_folders_can_be_compared_later(desk: Path, agentft) -> None:
    with serving(answers(False)) as (kind, _), serving(answers(True)) as (curt, _):
        agentft("evaluate", f"{kind}#kind", "--suite", "suite.yaml")
        agentft("evaluate", f"{curt}#curt", "--suite", "suite.yaml")
    one, other = sorted((desk / "evaluations").glob("*-desk-*"))
    assert one.name.startswith("curt")
    assert agentft("compare", str(one), str(other)).exit_code == 0
    agentft("compare", str(other), str(one), code=1)
    assert agentft("compare", str(other), str(one), "--alpha", "0.000001").exit_code == 0
    (one / "result.json").write_text("{}", "utf-8")
    assert "is not the result of an evaluation" in str(agentft("compare", str(one), str(other), code=2).exception)


def test_an_undecided_judge_is_seen_through(desk: Path, agentft) -> None:
    with serving(answers(False)) as (kind, _), serving(answers(True)) as (curt, _), serving(lambda *_: completion("A")) as (third, _):
        command = ("compare", f"{kind}#kind", f"{curt}#curt", "--suite", "suite.yaml", "--judge", f"{third}#judge", "--json")
        wins = json.loads(agentft(*command, code=1).stdout)["wins"]
    assert wins["ties"] == 12 and wins["consistent"] == 0 and wins["first_share"] == 1 and wins["rate"] == 0.5


def test_a_judge_in_this_process_compares_probabilities(desk: Path, agentft, tiny_ref) -> None:
    with serving(answers(False)) as (kind, _), serving(answers(True)) as (curt, _):
        command = ("compare", f"{kind}#kind", f"{curt}#curt", "--suite", "suite.yaml", "--judge", tiny_ref.path, "--json")
        first = json.loads(agentft(*command, code=1).stdout)
    assert first["wins"]["n"] == 12 and first["wins"]["unread"] == 0 and first["changed"][0]["words"] == []


def test_a_run_beside_its_base_model(desk: Path, agentft, tiny_ref, run: str) -> None:
    data = json.loads(agentft("compare", f"{run}@base", run, "--suite", "suite.yaml", "--json").stdout)
    assert (data["first"], data["second"], data["n"]) == ("clerk@base", "clerk", 12)
    same = json.loads(agentft("compare", run, run, "--json", "--slice", "kind").stdout)
    assert {row["slice"] for row in same["slices"]} >= {"old", "new"} and all(
        row["difference"] == 0 for row in same["comparisons"] if row["n"]
    )
    runs = json.loads(agentft("runs", "compare", run, run, "--json").stdout)
    assert [row["name"] for row in runs["comparisons"]] == [row["name"] for row in same["comparisons"]]


def test_without_a_suite_an_agent_is_told_what_it_needs(desk: Path, agentft) -> None:
    assert "--suite FILE" in str(agentft("compare", "clark", "clerk", code=2).exception)


def test_simulations_are_compared_task_by_task(desk: Path, agentft) -> None:
    """The form that ``agentft simulate`` leaves: results.json with one value a task, episodes.jsonl."""
    for name, done in (("old", 1.0), ("new", 0.0)):
        folder = desk / name
        folder.mkdir()
        tasks = [f"t{n}" for n in range(10)]
        scores = [score_from("success", dict.fromkeys(tasks, done)).to_dict(), score_from("success/state", {}).to_dict()]
        (folder / "results.json").write_text(json.dumps({"agent": name, "scores": scores}), "utf-8")
        call = {"role": "assistant", "content": "", "tool_calls": [{"name": "refund", "arguments": {"order": "a7"}}]}
        rows = [
            {"task": task, "trial": trial, "end": "user", "messages": [{"role": "user", "content": f"Hi, I am {name}."}, call]}
            for task in tasks
            for trial in range(2)
        ]
        (folder / "episodes.jsonl").write_text("\n".join(map(json.dumps, rows)), "utf-8")
    data = json.loads(agentft("compare", "old", "new", "--json", code=1).stdout)
    assert data["worse"] == ["success"] and data["n"] == 10 and (data["first"], data["second"]) == ("old", "new")
    assert data["changed"][0]["second"]["text"] == 'user: Hi, I am new.\nassistant:  refund({"order": "a7"})'
