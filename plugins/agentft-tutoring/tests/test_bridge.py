"""The source ``bridge`` on a small file of the same shape, and on the real one where it is present."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from agentft_tutoring.bridge import BridgeConfig, bridge
from agentft_tutoring.guidance import question_ratio, telling_ratio

from agentft.contracts import DataContext
from agentft.errors import DataError
from agentft.records import Response, Sample
from agentft.testing import eval_context


def line(user, text):
    return {"id": 1, "text": text, "time": "16:19", "user": user}


def row(c_id, history, expert, novice=("That is incorrect.",), **more):
    chat = [line({"S": "student", "T": "tutor"}[who], text) for who, text in history]
    revision = [{"user": "tutor", "text": text, "is_revised": True} for text in expert]
    fields = {"lesson_topic": "3.6E.Shapes and Area (Review) - 1", "e": "guess", "z_what": "ask_question", "z_why": "hint_mistake"}
    return {"c_id": c_id, "c_h": chat, "c_r": [line("tutor", text) for text in novice], "c_r_": revision, **fields, **more}


ROWS = [
    row(
        "77_19",
        [("T", "Hi [STUDENT]."), ("T", "What is the area?"), ("S", "4 m"), ("S", "or 5")],
        ["Hm, not quite.", " ", "What is the width?"],
    ),
    row(
        "77_19",
        [("T", "Hi [STUDENT]."), ("T", "What is the area?"), ("S", "4 m"), ("S", "or 5")],
        ["Close! How did you get 4?"],
        e="No error, I think",
    ),
    row("78_2", [("S", "help"), ("T", "Sure."), ("S", "what is 2 x 3")], ["What does x mean?"], lesson_topic="7.RP.2a.Graphs"),
    row("79_5", [("S", "bye"), ("T", "Bye.")], ["See you."]),
    row("80_1", [("T", "Go on."), ("S", "ok")], ["  "]),
    {"text": "something else"},
    {**row("81_1", [("S", "hm")], ["?"]), "c_h": [{"user": "bot", "text": "hm"}]},
]


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "train.json").write_text(json.dumps(ROWS), "utf-8")
    (tmp_path / "test.json").write_text(json.dumps([row("77_40", [("S", "hm")], ["?"])]), "utf-8")
    return tmp_path


def read(files: Path, **options):
    ctx = DataContext(base=files)
    return list(bridge(BridgeConfig(**{"path": "train.json", **options}), ctx)), ctx


def test_a_row_becomes_a_conversation(files):
    rows, _ = read(files)
    first, _, third = rows
    assert [(m.role, m.content, m.train) for m in first.messages] == [
        ("user", "Lesson: Shapes and Area (Review) - 1", None),
        ("assistant", "Hi there.\nWhat is the area?", False),
        ("user", "4 m\nor 5", None),
        ("assistant", "Hm, not quite.\nWhat is the width?", None),
    ]
    assert [m.content for m in third.messages] == ["Lesson: Graphs\nhelp", "Sure.", "what is 2 x 3", "What does x mean?"]
    assert (
        first.meta["error"] == "guess"
        and first.meta["strategy"] == "ask_question"
        and first.meta["topic"] == "Shapes and Area (Review) - 1"
    )


def test_two_revisions_of_one_turn_share_a_group(files):
    rows, _ = read(files)
    assert [r.id for r in rows] == ["bridge-77_19", "bridge-77_19-2", "bridge-78_2"]
    assert [r.group for r in rows] == ["bridge-77", "bridge-77", "bridge-78"] and rows[1].meta["error"] == "other"


def test_every_row_is_accounted_for(files):
    rows, ctx = read(files, limit=2)
    assert len(rows) + sum(ctx.drops.values()) == len(ROWS) and ctx.files == [files / "train.json"]
    assert dict(ctx.drops) == {
        "over the limit": 1,
        "the chat does not end with the student": 1,
        "no answer of the expert": 1,
        "not a row of the BRIDGE data set (no c_id)": 1,
        "a chat line has no speaker (student or tutor) or no text": 1,
    }


def test_the_novice_answers_once_for_each_turn(files):
    rows, ctx = read(files, answer="novice", student="Sam")
    assert [r.messages[-1].content for r in rows] == ["That is incorrect."] * 3 and ctx.drops[
        "the same novice turn again, revised by another expert"
    ] == 1
    assert rows[0].messages[1].content.startswith("Hi Sam.")


def test_sessions_of_another_file_are_left_out(files):
    rows, ctx = read(files, without=["test.json"])
    assert [r.id for r in rows] == ["bridge-78_2"] and ctx.drops["the session is in a file that is kept apart"] == 2
    assert files / "test.json" in ctx.files


def test_a_file_of_another_kind_is_an_error(files):
    (files / "other.json").write_text('[{"question": "?"}]', "utf-8")
    with pytest.raises(DataError, match="no row of the BRIDGE data set is left"):
        read(files, path="other.json")


def test_the_real_data_set(shared_data):
    folder = shared_data / "bridge"
    apart = [str(folder / "test.json")]
    rows, ctx = read(folder, path=["train.json", "validation.json"])
    assert len(rows) + sum(ctx.drops.values()) == 490 and len(rows) >= 485
    assert len({r.id for r in rows}) == len(rows) and all(r.messages[0].role == "user" and r.messages[-1].supervised for r in rows)
    assert all(m.role == ("user", "assistant")[i % 2] for r in rows for i, m in enumerate(r.messages))
    assert not any("[STUDENT]" in m.content for r in rows for m in r.messages)
    clean, ctx = read(folder, path=["train.json", "validation.json"], without=apart)
    held_out, _ = read(folder, path="test.json")
    assert {r.group for r in rows} & {r.group for r in held_out} and not {r.group for r in clean} & {r.group for r in held_out}
    assert len(clean) + sum(ctx.drops.values()) == 490


def test_on_real_chats_experts_ask_more_and_tell_less_than_novices(shared_data, readme):
    """The test file: the word lists were looked at with the training file only."""

    def means(answer: str) -> dict[str, float]:
        rows, _ = read(shared_data / "bridge", path="test.json", answer=answer)
        pairs = [r.as_prompt() for r in rows]
        samples = [Sample(prompt, Response(prompt.id, reference)) for prompt, reference in pairs]
        return {s.name: s.value for e in (question_ratio, telling_ratio) for s in e(samples, lambda _: [], None, eval_context())}

    expert, novice = means("expert"), means("novice")
    assert expert["question-ratio/last"] > 2 * novice["question-ratio/last"]
    assert expert["telling-ratio"] < novice["telling-ratio"] / 2
    for name, digits in (("question-ratio", 2), ("question-ratio/last", 2), ("telling-ratio", 3)):
        assert f"| `{name}` | {expert[name]:.{digits}f} | {novice[name]:.{digits}f} |" in readme


def test_revisions_are_preferences_of_the_expert_over_the_novice(shared_data, catalog):
    ctx = DataContext()
    entry = catalog.get("source", "tutoring/bridge-revisions")
    config = catalog.config_model(entry).model_validate(
        {"path": str(shared_data / "bridge" / "train.json"), "without": [str(shared_data / "bridge" / "test.json")]}
    )
    found = list(catalog.target(entry)(config, ctx))
    assert len(found) + sum(ctx.drops.values()) == 419 and ctx.drops["the session is in a file that is kept apart"] == 133
    assert all(one.origin == "human" and one.chosen != one.rejected and one.prompt.messages[-1].role == "user" for one in found)
    assert len({one.id for one in found}) == len(found) > 250
