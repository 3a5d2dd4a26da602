"""Feedback on an agent in use: a store that loses nothing, and what the source ``served-feedback`` makes of it."""

from __future__ import annotations

import json
import multiprocessing
import os

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from agentft import Host
from agentft.cli.main import cli
from agentft.contracts import DataContext
from agentft.errors import DataError
from agentft.feedback.lines import Lines
from agentft.feedback.served import Served, ServedStore
from agentft.feedback.served_data import ServedConfig, feedback_of, preferences_of
from agentft.persona import Persona
from agentft.records import Example, Message, Response

CLERK = Persona.from_dict({"name": "clerk", "summary": "A clerk", "language": "en", "role": "A clerk."})


def ask(*texts: str) -> Example:
    return Example("", tuple(Message("assistant" if n % 2 else "user", text) for n, text in enumerate(texts)))


def said(question: str = "Where is it?", answer: str = "On the left.", **more) -> Served:
    given = {"thumb": "down", "client": "c1", "persona": "clerk", "model": "desk"} | more
    return Served(ask(*question.split("|")), answer, **given)


def read(store: ServedStore, persona: Persona | None = CLERK, **options):
    catalog = Host(allow=()).catalog
    ctx = DataContext(persona=persona, base=store.path.parent)
    config = ServedConfig.model_validate({"path": store.path.name, **options})
    return list(catalog.target(catalog.get("source", "served-feedback"))(config, ctx)), ctx


@pytest.fixture
def store(tmp_path) -> ServedStore:
    return ServedStore(tmp_path / "deep" / "served.jsonl")


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
asked = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40).filter(str.strip)


@given(asked, asked, texts, texts, st.sampled_from(["up", "down", "none", None]), st.dictionaries(asked, st.integers() | texts, max_size=2))
def test_whatever_is_written_is_read(question, answer, edit, words, thumb, arguments):
    calls = ({"name": "look", "arguments": arguments},)
    row = Served(ask(question), answer, calls, thumb, edit, words, "Ann", known=True, created="2026-01-01T00:00:00")
    assert Served.from_dict(json.loads(json.dumps(row.to_dict()))) == row


def test_a_torn_last_line_is_reported_and_costs_nothing_else(store):
    store.append(said("One?"))
    with store.path.open("ab") as stream:
        stream.write(b'{"v": 1, "prompt": [{"role": "us')
    bad: list[tuple[int, str]] = []
    assert [one.prompt.last_user for one in store.rows(lambda *why: bad.append(why))] == ["One?"]
    assert bad == [(2, "half a line (a process was stopped while it wrote)")]
    store.append(said("Two?"))
    assert [one.prompt.last_user for one in store.rows()] == ["One?", "Two?"]
    prompts, ctx = read(store, on_bad="skip")
    assert len(prompts) == 2 and ctx.drops.total() == 1
    with pytest.raises(DataError, match="served.jsonl:2: not JSON"):
        read(store)


def test_a_full_disk_leaves_nothing_of_the_row_behind(store, monkeypatch):
    store.append(said("One?"))
    size = store.path.stat().st_size

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            store.append(said("Two?"))
    assert store.path.stat().st_size == size
    store.append(said("Three?"))
    assert [one.prompt.last_user for one in store.rows()] == ["One?", "Three?"]


def test_a_line_has_a_longest_length_in_both_directions(tmp_path):
    lines = Lines(tmp_path / "x.jsonl", longest=100)
    with pytest.raises(DataError, match="more than a row of x.jsonl may have"):
        lines.append({"a": "x" * 200})
    lines.append({"a": 1})
    with lines.path.open("ab") as stream:
        stream.write(b'{"a": "' + b"y" * 1000 + b'"}\n')
    lines.append({"a": 2})
    bad: list[int] = []
    assert [row for _, row in lines.rows(lambda number, why: bad.append(number))] == [{"a": 1}, {"a": 2}] and bad == [2]


def test_a_row_of_a_later_version_is_named_and_not_guessed_at(store):
    store.append(said())
    row = json.loads(store.path.read_text("utf-8"))
    store.path.write_text(json.dumps(row | {"v": 9}) + "\n", "utf-8")
    with pytest.raises(DataError, match="version 9; this agentft reads version 1"):
        read(store)


def _write(path: str, rater: str) -> None:
    for number in range(20):
        ServedStore(path).append(said(f"Question {number} of {rater}?", rater=rater))


def test_several_processes_write_at_once(tmp_path):
    path = str(tmp_path / "s.jsonl")
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write, args=(path, f"r{n}")) for n in range(2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert len(list(ServedStore(path).rows())) == 40


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"thumb": "sideways"}, "thumb must be one of"),
        ({"thumb": None}, "nothing is said"),
        ({"words": "x" * 20_001}, "words has 20,001 characters"),
        ({"answer": " "}, "the answer is empty"),
        ({"question": "Hi|Hello"}, "must end with the message that was answered"),
    ],
)
def test_what_is_no_judgement_is_refused(change, problem):
    with pytest.raises(DataError, match=problem):
        said(**change)


def test_personal_data_are_replaced_but_for_what_the_persona_itself_says(store):
    row = said(
        "I am ann@mail.example, card 4111 1111 1111 1111.",
        "Write to help@shop.example, ann@mail.example.",
        edit="Please write to help@shop.example.",
        calls=({"name": "find", "arguments": {"mail": "ann@mail.example", "order": "NW-1", "n": 3}},),
    )
    stored = store.append(row, public="You work for a shop (help@shop.example).")
    text = store.path.read_text("utf-8")
    assert "ann@" not in text and "4111" not in text and "NW-1" in text
    assert stored.answer == "Write to help@shop.example, [EMAIL]." and stored.edit == "Please write to help@shop.example."
    assert stored.calls[0]["arguments"] == {"mail": "[EMAIL]", "order": "NW-1", "n": 3}
    assert stored.scrubbed == {"email": 3, "card": 1} and list(store.rows()) == [stored]
    plain = ServedStore(store.path.with_name("plain.jsonl"), scrub=False)
    plain.append(row)
    assert "ann@mail.example" in plain.path.read_text("utf-8")


def test_a_later_word_stands_in_for_an_earlier_one_field_by_field(store):
    for row in (
        said(thumb="up"),
        said(thumb="down"),
        said(thumb=None, edit="On the right."),
        said(thumb="up", client="c2"),
        said(thumb="up", client="", words="nobody knows who"),
        said("Gone?", thumb="up"),
        said("Gone?", thumb="none"),
    ):
        store.append(row)
    found = [(one.client, one.thumb, one.edit) for one in store.latest()]
    assert found == [("c1", "down", "On the right."), ("c2", "up", None), ("", "up", None)]
    store.append(said(thumb=None, edit=""))
    assert [one.edit for one in store.latest() if one.client == "c1"] == [""], "an edit can be taken back"


def fill(store: ServedStore) -> None:
    for row in (
        said("Where is it?", thumb="down", edit="It is on the left. Anything else?", words="Ask for more."),
        said("where is it?", "No idea.", thumb="down", client="c2"),
        said("Where is it?", "By the door.", thumb="up", client="c3"),
        said("Where is it?|On the left.|And the second?", "There.", thumb="up"),
        said("Thanks", "Bye.", thumb=None, words="Friendlier, please."),
        said("Same?", "Yes.", thumb=None, edit=" Yes. "),
        said("Mail?", "None.", thumb=None, edit="Write to [EMAIL]."),
        said("Other?", "Yes.", persona="teller"),
        said("Split?", "Maybe.", thumb="up"),
        said("Split?", "Maybe.", thumb="down", client="c2"),
    ):
        store.append(row)


def test_prompts_carry_what_was_said_about_them(store):
    fill(store)
    prompts, ctx = read(store)
    first = prompts[0]
    assert [one.last_user for one in prompts] == ["Where is it?", "where is it?", "And the second?", "Thanks", "Same?", "Mail?", "Split?"]
    assert first.meta["feedback"][0]["edit"] == "It is on the left. Anything else?" and len(first.meta["feedback"]) == 2
    assert first.group == prompts[2].group, "turns of one conversation are never divided"
    assert [m.train for m in prompts[2].messages] == [None, False, None]
    assert ctx.drops == {"for another persona": 1} and len({one.id for one in prompts}) == 7
    assert [one.id for one in read(store, limit=2)[0]] == [one.id for one in prompts[:2]]


def test_edits_become_demonstrations(store):
    fill(store)
    rows, ctx = read(store, **{"as": "demonstrations"})
    assert [(one.last_user, one.messages[-1].content) for one in rows] == [("Where is it?", "It is on the left. Anything else?")]
    assert ctx.drops["edit is the answer itself"] == 1 and ctx.drops["edit has a placeholder for personal data"] == 1
    rows, _ = read(store, **{"as": "demonstrations", "liked": True})
    assert [one.messages[-1].content for one in rows] == ["It is on the left. Anything else?", "By the door.", "There.", "Maybe."]


def test_edits_and_thumbs_become_preferences(store):
    fill(store)
    rows, ctx = read(store, **{"as": "preferences"})
    found = [(one.chosen and one.chosen.content, one.rejected and one.rejected.content) for one in rows]
    assert found == [
        ("It is on the left. Anything else?", "On the left."),
        ("By the door.", "On the left."),
        (None, "No idea."),
        ("There.", None),
    ]
    assert {one.origin for one in rows} == {"human"} and len({one.id for one in rows}) == 4
    assert ctx.drops["words only"] == 1 and ctx.drops["raters disagree"] == 1


def test_a_store_about_somebody_else_is_an_error_that_says_whom_it_is_about(store):
    store.append(said(persona="teller"))
    with pytest.raises(DataError, match=r"nothing is about clerk; the store has feedback on teller \(1\)"):
        read(store)
    assert len(read(store, personas=["teller"])[0]) == 1 and len(read(store, None)[0]) == 1


def test_rows_can_be_narrowed_down(store):
    store.append(said("One?", known=True))
    store.append(said("Two?", model="other"))
    assert [one.last_user for one in read(store, known=True)[0]] == ["One?"]
    assert [one.last_user for one in read(store, models=["other"])[0]] == ["Two?"]
    store.append(Served(Example("", (Message("system", "I am Ann"), Message("user", "Hi"))), "Hello", thumb="up"))
    rows, ctx = read(store)
    assert [m.role for m in rows[-1].messages] == ["user"] and ctx.changes["system message of the caller left out"] == 1


def test_words_about_the_very_answer_reach_the_critics():
    heard = [
        {"answer": "On the  left.", "thumb": "down", "words": "Ask for more.", "edit": "Left. More?", "rater": "Ann"},
        {"answer": "No.", "thumb": "down"},
        {"answer": "Fine.", "thumb": "up"},
    ]
    (first,) = feedback_of(Response("p#0", "On the left."), heard, "en")
    assert first.critique == "- Ask for more." and first.edit == "Left. More?" and first.rater == "Ann"
    assert [(v.item, v.verdict, v.severity) for v in first.verdicts] == [("people", "fail", "hard")]
    assert feedback_of(Response("p#1", "No."), heard, "zh")[0].critique == "- 有人对这个回答不满意。"
    assert feedback_of(Response("p#2", "Fine."), heard, "en")[0].verdicts[0].verdict == "pass"
    assert feedback_of(Response("p#3", "Something new."), heard, "en") == []


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["up", "down", "none", ""]), st.sampled_from(["", "a", "better"]))))
def test_no_pair_prefers_an_answer_to_itself_and_no_id_is_used_twice(rows):
    heard = [{"answer": answer, "thumb": thumb, "edit": edit} for answer, thumb, edit in rows]
    found = preferences_of(Example("p", (Message("user", "q"),)), heard)
    assert len({one.id for one in found}) == len(found)
    assert all(one.chosen is None or one.rejected is None or one.chosen.content != one.rejected.content for one in found)


def test_the_command_shows_counts_and_exports(store, tmp_path):
    fill(store)
    with store.path.open("ab") as stream:
        stream.write(b"{")

    def run(*arguments: str) -> str:
        result = CliRunner().invoke(cli, ["feedback", *arguments], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.output

    text = run("show", str(store.path), "--persona", "clerk")
    assert "9 judgements; 1 lines cannot be used: line 11 (half a line" in text and "says: Ask for more." in text
    stats = json.loads(run("stats", str(store.path), "--json"))
    assert [(row["persona"], row["judgements"], row["edits"]) for row in stats["groups"]] == [("clerk", 9, 3), ("teller", 1, 0)]
    out = tmp_path / "pairs.jsonl"
    exported = json.loads(run("export", str(store.path), "--to", str(out), "--persona", "clerk", "--json"))
    assert exported["rows"] == 4 and exported["reasons"]["for another persona"] == 1
    trl = tmp_path / "trl.jsonl"
    result = CliRunner().invoke(cli, ["pairs", "export", str(out), "--to", str(trl), "--json"], catch_exceptions=False)
    assert json.loads(result.output)["rows"] == 2, "two pairs; a thumb without a partner is left out and counted"


def test_what_experts_wrote_instead_of_novices_comes_back_as_pairs(store, shared_data):
    """BRIDGE (Wang et al. 2024): chats of novice tutors, and what experts would have said."""
    roles = {"student": "user", "tutor": "assistant"}
    expected = []
    for number, one in enumerate(json.loads((shared_data / "bridge" / "validation.json").read_text("utf-8"))):
        talk = tuple(Message(roles[turn["user"]], turn["text"]) for turn in one["c_h"])
        answer, edit = (" ".join(turn["text"] for turn in one[key]).strip() for key in ("c_r", "c_r_"))
        if talk[-1].role == "user" and answer and edit and answer != edit:
            store.append(Served(Example("", talk), answer, thumb="down", edit=edit, rater=f"expert {number}", persona="clerk"))
            expected.append((talk[-1].content, edit))
    assert len(expected) > 50
    pairs, ctx = read(store, **{"as": "preferences"})
    assert sorted((one.prompt.last_user, one.chosen.content) for one in pairs) == sorted(expected) and not ctx.drops
    prompts, _ = read(store)
    assert sum(len(one.meta["feedback"]) for one in prompts) == len(expected)
