"""A critic against human labels: figures, resumption, and the bar."""

from __future__ import annotations

import json
import random

import pytest
from click.testing import CliRunner
from servers import completion, serving

from agentft.cli.main import cli
from agentft.data.labels import read_labels
from agentft.errors import DataError
from agentft.evaluate.agreement import Judged, calibrate


def cases(n: int, right: float, seed: int = 0) -> list[Judged]:
    draw = random.Random(seed)
    found = []
    for number in range(n):
        label = "first" if number % 2 else "second"
        said = label if draw.random() < right else ("second" if label == "first" else "first")
        found.append(Judged(str(number), label, said, (said,), (said,)))
    return found


def test_figures_are_those_of_a_hand_count():
    found = calibrate(
        [
            Judged("1", "first", "first", ("first",), ("first",)),
            Judged("2", "first", "tie", ("first",), ("second",)),
            Judged("3", "second", "first", ("first",), ("first",)),
            Judged("4", "second", None, (None,), ("second",)),
        ],
        critic="judge",
        model="m",
    )
    assert (found.accuracy, found.tpr, found.tnr, found.ties) == (0.25, 0.5, 0.0, 0.25)
    assert found.swap_consistency == 0.5 and found.unreadable == 1 / 8
    # Forward, 3 of 3 tries prefer what stood first; backward, where "second" stood first, 2 of 4.
    assert found.first_share == 5 / 7
    assert not found.passes and "4 labelled cases, needed: 100" in found.why


def test_kappa_is_zero_for_chance_and_one_for_agreement():
    assert calibrate(cases(400, 1.0), critic="j", model="m").kappa == 1.0
    assert abs(calibrate(cases(400, 0.5), critic="j", model="m").kappa) < 0.1


def test_the_bar_is_on_both_rates():
    assert calibrate(cases(200, 0.95), critic="j", model="m").passes
    assert not calibrate(cases(200, 0.7), critic="j", model="m").passes
    one_sided = [Judged(str(n), "first" if n % 2 else "second", "first", ("first",), ("first",)) for n in range(200)]
    found = calibrate(one_sided, critic="j", model="m")
    assert found.tpr == 1.0 and not found.passes and "true negative rate 0.00" in found.why


def write(path, count: int = 120):
    rows = [
        {"prompt": f"Question {n}?", "a": "GOOD", "b": "BAD", "label": "a"}
        if n % 2
        else {"prompt": f"Question {n}?", "a": "BAD", "b": "GOOD", "label": "b"}
        for n in range(count)
    ]
    path.write_text("\n".join(map(json.dumps, rows)), "utf-8")
    return path


def perfect(number, body):
    text = body["messages"][-1]["content"]
    return completion("A" if text.index("GOOD") < text.index("BAD") else "B")


def command(*arguments):
    result = CliRunner().invoke(cli, ["evaluate-critic", *map(str, arguments), "--json"])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, json.loads(result.stdout)


def test_a_good_judge_may_gate_and_a_killed_check_continues(tmp_path):
    labels, out = write(tmp_path / "labels.jsonl"), tmp_path / "out"
    with serving(lambda number, body: perfect(number, body) if number <= 96 else (400, {}, "gone")) as (url, seen):
        code, found = command(labels, "--model", "j", "--url", url, "--out", out)
    assert code == 1 and found["unreadable"] > 0 and not found["passes"]
    with serving(perfect) as (url, seen):
        code, found = command(labels, "--model", "j", "--url", url, "--out", out)
        assert 0 < len(seen) < 240, "what was judged is not asked again"
    assert code == 0 and found["passes"] and found["accuracy"] == 1.0 and found["swap_consistency"] == 1.0
    assert json.loads((out / "calibration.json").read_text("utf-8")) == found


def test_items_are_judged_too(tmp_path):
    rows = [
        {"prompt": "Q?", "response": "fine" if n % 2 else "rude", "item": "kind", "text": "Be kind.", "label": "pass" if n % 2 else "fail"}
        for n in range(110)
    ]
    labels = tmp_path / "items.jsonl"
    labels.write_text("\n".join(map(json.dumps, rows)), "utf-8")
    with serving(lambda number, body: completion("kind: no" if "rude" in body["messages"][-1]["content"] else "kind: yes")) as (url, _):
        code, found = command(labels, "--model", "j", "--url", url, "--out", tmp_path / "o", "--repeats", 3)
    assert code == 0 and found["tpr"] == found["tnr"] == 1.0 and found["flips"] == 0 and found["swap_consistency"] is None


def test_a_local_model_is_asked_by_likelihood(tmp_path, tiny_ref):
    code, found = command(write(tmp_path / "l.jsonl", 10), "--model", tiny_ref.path, "--out", tmp_path / "o")
    assert code == 1 and found["n"] == 10 and found["unreadable"] == 0 and "10 labelled cases" in found["why"]


def test_labels_of_llmbar(shared_data):
    labels = read_labels(shared_data / "llmbar" / "LLMBar")
    assert len(labels) == 419 and {one.label for one in labels} == {"first", "second"} and len({one.id for one in labels}) == 419


def test_bad_labels_are_named_by_line(tmp_path):
    path = tmp_path / "l.jsonl"
    path.write_text('{"prompt": "q", "a": "x", "b": "y", "label": "c"}\n{"prompt": "q", "a": "x", "label": "a"}\n[]\n', "utf-8")
    with pytest.raises(DataError) as error:
        read_labels(path)
    assert [line.partition(": ")[2] for line in str(error.value).splitlines()[:3]] == [
        "label must be a or b, not 'c'",
        "no 'b'",
        "a row must be an object, not list",
    ]
