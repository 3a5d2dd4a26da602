"""What people said: an append-only store, preferences, the critic, and agreement."""

from __future__ import annotations

import json
import multiprocessing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentft import Host
from agentft.contracts import CriticContext
from agentft.errors import DataError
from agentft.feedback.agreement import agreement, krippendorff_alpha
from agentft.feedback.human import HumanConfig, HumanStore, Judged
from agentft.persona import Persona
from agentft.records import Example, Message, Response

PROMPT = Example("p1", (Message("user", "Where is it?"),), group="c1")
PERSONA = Persona.from_dict(
    {
        "name": "clerk",
        "summary": "A clerk",
        "language": "en",
        "role": "A clerk.",
        "policies": [{"id": "kind", "text": "Be kind.", "severity": "hard"}],
    }
)


def row(task: str = "p1", rater: str = "Ann", choice: str = "x", **more) -> Judged:
    return Judged(
        task, PROMPT.to_dict(), {"x": "On the left.", "y": "No idea."}, **({"kind": "choice", "choice": choice, "rater": rater} | more)
    )


def test_later_answers_stand_in_for_earlier_ones_and_both_stay(tmp_path):
    store = HumanStore(tmp_path / "deep" / "s.jsonl")
    for one in (row(choice="x"), row(rater="Bo", choice="y"), row(choice="tie")):
        store.append(one)
    assert [(one.rater, one.choice) for one in store.latest()] == [("Bo", "y"), ("Ann", "tie")]
    assert len(list(store.rows())) == 3 and store.answered("Ann") == {"p1"}


def test_half_a_line_of_a_killed_process_costs_nothing_else(tmp_path):
    store = HumanStore(tmp_path / "s.jsonl")
    store.append(row(choice="x"))
    with store.path.open("ab") as stream:
        stream.write(b'{"task": "p2", "promp')
    store.append(row(task="p3", choice="y"))
    assert [one.task for one in store.rows()] == ["p1", "p3"]


def _write(path: str, rater: str) -> None:
    for number in range(20):
        HumanStore(path).append(row(task=f"t{number}", rater=rater))


def test_several_processes_write_at_once(tmp_path):
    path = str(tmp_path / "s.jsonl")
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write, args=(path, f"r{n}")) for n in range(2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert len(list(HumanStore(path).rows())) == 40


def test_choices_and_edits_become_preferences(tmp_path):
    store = HumanStore(tmp_path / "s.jsonl")
    store.append(row(choice="x", edits={"y": "It is on the left, second shelf."}))
    store.append(row(rater="Bo", choice="x"))
    store.append(row(rater="Cy", choice="y"))
    store.append(row(task="p2", choice="tie"))
    store.append(row(task="p3", choice="both-bad"))
    store.append(row(task="p4", rater="Ann", choice="x"))
    store.append(row(task="p4", rater="Bo", choice="y"))
    found = store.preferences()
    assert [(one.chosen.content, one.rejected.content, one.origin) for one in found] == [
        ("It is on the left, second shelf.", "No idea.", "human"),
        ("On the left.", "No idea.", "human"),
    ], "a majority counts, a tie and a split vote do not"
    assert len({one.id for one in found}) == 2 and found[0].group_key == "c1"


def critic(tmp_path, *responses: Response):
    catalog = Host(allow=()).catalog
    target = catalog.target(catalog.get("critic", "human"))
    return target([PROMPT] * len(responses), list(responses), HumanConfig(), CriticContext(PERSONA, "en", human=tmp_path / "s.jsonl"))


def test_the_critic_finds_what_was_said_about_the_very_answer(tmp_path):
    store = HumanStore(tmp_path / "s.jsonl")
    store.append(row(verdicts={"y": {"kind": "fail", "gone": "fail"}, "x": {"kind": "pass"}}, words="Say where.", edits={"y": "Left."}))
    seen, unseen = critic(tmp_path, Response("new", " No  idea."), Response("other", "Ask somebody else."))
    assert [(v.item, v.verdict, v.severity) for v in seen.verdicts] == [("kind", "fail", "hard")]
    assert seen.critique == "- kind: Be kind. (says Ann)\nSay where." and seen.edit == "Left." and seen.rater == "Ann"
    assert not unseen.verdicts and not unseen.error, "nobody saw it: that is no failure"


def test_alpha_is_krippendorffs():
    # The nominal example of Krippendorff (2011), section C: 4 observers, 12 units, alpha = 0.743.
    table = [
        "1 1 . 1",
        "2 2 3 2",
        "3 3 3 3",
        "3 3 3 3",
        "2 2 2 2",
        "1 2 3 4",
        "4 4 4 4",
        "1 1 2 1",
        "2 2 2 2",
        ". 5 5 5",
        ". . 1 1",
        ". . 3 .",
    ]
    units = [{str(n): value for n, value in enumerate(line.split()) if value != "."} for line in table]
    assert krippendorff_alpha(units) == pytest.approx(0.743, abs=0.0005)


@given(st.lists(st.dictionaries(st.sampled_from("abcd"), st.sampled_from("xyz"), max_size=4), max_size=12))
def test_alpha_is_at_most_one_and_one_means_agreement(units):
    alpha = krippendorff_alpha(units)
    shared = [unit for unit in units if len(unit) > 1]
    assert alpha is None or alpha <= 1
    if alpha is not None and alpha > 1 - 1e-12:
        assert all(len(set(unit.values())) == 1 for unit in shared)


def test_agreement_names_what_was_shared(tmp_path):
    rows = [
        row(task=f"t{n}", rater=who, choice="x" if n % 2 else "y", verdicts={"x": {"kind": "pass"}})
        for n in range(4)
        for who in ("Ann", "Bo")
    ]
    found = {one.name: one for one in agreement([*rows, row(task="t9", rater="Cy")])}
    assert found["choice"].alpha == 1.0 and found["choice"].units == 4 and found["choice"].raters == 2
    assert found["kind"].alpha is None and found["kind"].units == 4, "no variation, no figure"


def test_rows_are_checked():
    with pytest.raises(DataError, match="choice must be an answer, tie or both-bad, not 'z'"):
        row(choice="z")
    with pytest.raises(DataError, match="kind must be"):
        row(kind="maybe")
    assert json.dumps(row().responses)
