"""Results as JUnit XML, which build servers read. A file is red exactly if the command's exit code is 1.

One test case for each threshold or deciding score, and one for each answer that an evaluator finds fault with. The latter fail where
their evaluator's threshold is not met, and are marked as skipped, with what was found, where it is or where there is none: no agent
answers everything well, and a build that is red every day is read by nobody.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree as ET

from agentft.report import plain

# What XML 1.0 cannot hold, not even escaped (section 2.2): most control characters, lone surrogates, two noncharacters.
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
MOST_TEXT = 4000


@dataclass(frozen=True)
class Case:
    """A test case: ``kind`` is empty (passed), ``failure`` or ``skipped``; ``message`` one line, ``text`` the rest."""

    group: str
    name: str
    kind: str = ""
    message: str = ""
    text: str = ""


def evaluation_xml(result: Mapping[str, Any], bounds: Sequence[Mapping[str, Any]]) -> str:
    """An evaluation (``result.json``) with its thresholds (``name, kind, bound, value, passed, text``)."""
    failed = {one["name"] for one in bounds if not one["passed"]}
    title = f"{result['suite']['name']}.{result['agent']['name']}"
    cases = [
        Case("thresholds", f"{one['name']} {one['kind']} {one['bound']:g}", "" if one["passed"] else "failure", one["text"])
        for one in bounds
    ]
    samples = {row["id"]: row for row in result["samples"]}
    for score in result["scores"]:
        if "/" in score["name"] and not score["name"].startswith("relevance/"):
            continue
        for name in _faulty(score):
            kind = "failure" if score["name"] in failed else "skipped"
            cases.append(Case(score["name"], name, kind, _fault(score, name), _text(samples.get(name))))
    return _document(title, cases, float(result.get("seconds") or 0))


def comparison_xml(data: Mapping[str, Any]) -> str:
    """A comparison: one case for each score, and one for each sample that got worse in it."""
    cases = []
    worse = set(data["worse"])
    for row in data["comparisons"]:
        if row["direction"] == "none" or not row["n"]:
            continue
        message = f"{row['name']}: {row['base']:.4g} -> {row['tuned']:.4g}, difference {row['difference']:+.4g}, {row['verdict']}"
        cases.append(Case("scores", row["name"], "failure" if row["name"] in worse else "", message))
    if wins := data.get("wins"):
        for name, value in (("win-rate", wins["rate"]), ("length-controlled-win-rate", wins["controlled"]["rate"])):
            if value is not None:
                cases.append(Case("judge", name, "failure" if name in worse else "", f"{name} of {data['second']}: {value:.3f}"))
    directions = {row["name"]: row["direction"] for row in data["comparisons"]}
    texts = {row["id"]: row for row in data["changed"]}
    for item in data["items"]:
        for name, (first, second) in item["scores"].items():
            if (
                None in (first, second)
                or directions[name] == "none"
                or first == second
                or (second > first) == (directions[name] == "higher")
            ):
                continue
            kind = "failure" if name in worse else "skipped"
            text = _text({**texts[item["id"]], "text": texts[item["id"]]["second"]["text"]}) if item["id"] in texts else ""
            cases.append(Case(name, item["id"], kind, f"{first:.4g} -> {second:.4g}", text))
    return _document(f"{data['first']}.{data['second']}", cases, 0.0)


def _faulty(score: Mapping[str, Any]) -> list[str]:
    """Samples that a score finds fault with: those that fail a checklist item, and the wrong ones of a yes-or-no score.

    A share of 0.7 by itself is none: most measures of a good agent are not 1 on every answer.
    """
    values = score["per_sample"]
    bad = {"higher": 0.0, "lower": 1.0}.get(score["direction"])
    if bad is None or score["unit"] != "share":
        return []
    plain_answer = all(value in (None, 0.0, 1.0) for value in values.values())
    return [name for name, value in values.items() if value is None or _failed(score, name) or (plain_answer and value == bad)]


def _failed(score: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    details = score["details"].get(name)
    return [one for one in details if isinstance(one, Mapping) and one.get("verdict") == "fail"] if isinstance(details, list) else []


def _fault(score: Mapping[str, Any], name: str) -> str:
    value = score["per_sample"][name]
    if value is None:
        return "could not be scored"
    failed = _failed(score, name)
    return "; ".join(f"{one['item']}: {one.get('evidence') or 'not met'}" for one in failed) or f"{score['name']} {value:.4g}"


def _text(sample: Mapping[str, Any] | None) -> str:
    if sample is None:
        return ""
    asked = "\n".join(f"{one['role']}: {one['content']}" for one in sample["prompt"])
    return f"{asked}\nassistant: {sample.get('text') or sample.get('error') or ''}"[:MOST_TEXT]


def _document(title: str, cases: Sequence[Case], seconds: float) -> str:
    count = {kind: str(sum(case.kind == kind for case in cases)) for kind in ("failure", "skipped")}
    root = ET.Element("testsuites", {"name": _safe(title), "tests": str(len(cases)), "failures": count["failure"], "errors": "0"})
    groups = dict.fromkeys(case.group for case in cases)
    for group in groups or {"nothing": None}:
        members = [case for case in cases if case.group == group]
        suite = ET.SubElement(
            root,
            "testsuite",
            {
                "name": _safe(group),
                "tests": str(len(members)),
                "failures": str(sum(case.kind == "failure" for case in members)),
                "errors": "0",
                "skipped": str(sum(case.kind == "skipped" for case in members)),
                "time": f"{seconds:.3f}" if group == next(iter(groups), "") else "0.000",
            },
        )
        for case in members:
            node = ET.SubElement(suite, "testcase", {"classname": _safe(f"{title}.{case.group}"), "name": _safe(case.name), "time": "0"})
            if case.kind:
                ET.SubElement(node, case.kind, {"message": _safe(case.message), "type": case.group}).text = _safe(case.text)
            elif case.message:
                ET.SubElement(node, "system-out").text = _safe(case.message)
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _safe(text: str) -> str:
    """``text`` without what XML cannot hold: control characters become their pictures (U+2400 ...), anything else U+FFFD."""
    return _FORBIDDEN.sub("\ufffd", plain.printable(str(text)))
