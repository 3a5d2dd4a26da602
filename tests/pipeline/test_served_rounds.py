"""A round that practises on what people asked an agent in use, and learns from what they said about its answers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from agentft import round_steps
from agentft.cli.main import cli
from agentft.feedback.served import Served, ServedStore
from agentft.records import Example, Message

REFINE = """\
seed: 1
refine:
  rounds: 0
  prompts: [{use: jsonl, path: practice.jsonl}, {use: served-feedback, path: served.jsonl}]
  sampling: {candidates: 1}
  revision: {drafts: 1}
  pairs: {from_samples: false, length_ratio: [0.01, 100], length_balance: 1.0, near_duplicate: 1.0}
  train: {use: dpo, epochs: 1, batch_size: 4, learning_rate: 1e-3}
  control: null
  min_yield: 0.0
  gate: {minimum: -1.0, length_ratio: [0.001, 1000], distinct_drop: 1.0, stop_drop: 1.0, new_hard_failures: 1000, min_prompts: 2}
"""


def said(question: str, answer: str, **more) -> Served:
    return Served(Example("", (Message("user", question),)), answer, **({"persona": "clerk", "client": "c"} | more))


@pytest.fixture
def recipe(job) -> Path:
    practice = [{"id": "q0", "messages": [{"role": "user", "content": "Do you have book 0, please?"}]}]
    (job / "practice.jsonl").write_text("\n".join(map(json.dumps, practice)), "utf-8")
    text = (job / "recipe.yaml").read_text("utf-8").replace("max_new_tokens: 6", "max_new_tokens: 12")
    (job / "recipe.yaml").write_text(text + REFINE, "utf-8")
    store = ServedStore(job / "served.jsonl")
    for row in (
        # The same question as one of the practice file: what was said about it counts all the same.
        said("do you have book 0, please", "No idea.", edit="Please look at shelf 0.", words="Say where to look.", rater="Ann"),
        said("Is book 77 in?", "It may be.", thumb="down", words="Name a desk."),
        said("Is book 77 in?", "Please ask at desk 77.", thumb="up", client="d"),
        said("Is book 78 in?", "Yes.", thumb="up"),
        said("May I borrow book 3?", "No.", edit="Please do."),  # also in the gate pool
        said("Is book 79 in?", "No.", edit="Please write to [EMAIL]."),
        said("Is book 80 in?", "No.", persona="teller", thumb="up"),
    ):
        store.append(row)
    return job


def refine(job: Path, *arguments: str, code: int = 0) -> dict:
    result = CliRunner().invoke(cli, ["refine", str(job / "recipe.yaml"), "--next", "--json", "--runs", str(job / "runs"), *arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return json.loads(result.stdout)


def lines(job: Path, row: dict, stage: str, name: str) -> list[dict]:
    path = job / "runs" / "stages" / row["stages"][f"round-1-{stage}"] / f"{name}.jsonl"
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_served_feedback_is_practised_on_and_learned_from(recipe, monkeypatch):
    asked: dict[str, str] = {}
    original = round_steps._revision_prompt

    def watched(round_, prompt, answer, name):
        made = original(round_, prompt, answer, name)
        asked[name] = made.messages[0].content
        return made

    monkeypatch.setattr(round_steps, "_revision_prompt", watched)
    data = refine(recipe)
    (row,) = data["rounds"]
    assert data["current"] == "round-1" and row["state"] == "promoted"
    lock = json.loads((recipe / "runs" / "stages" / row["stages"]["round-1-lock"] / "stage.json").read_text("utf-8"))["summary"]
    assert lock["prompts"] == 4 and lock["said"] == 5
    assert lock["drops"] == {
        "for another persona": 1,
        "duplicate prompt": 1,
        "prompt is in the gate or test pool": 1,
        "edit has a placeholder for personal data": 1,
    }
    assert all("feedback" not in prompt.get("meta", {}) for prompt in lines(recipe, row, "lock", "prompts"))

    # (b) Pairs: an edit over the answer, a liked answer over a disliked one.
    pairs = lines(recipe, row, "pairs", "pairs")
    assert [(one["chosen"]["content"], one["rejected"]["content"], one["origin"]) for one in pairs if one["origin"] == "human"] == [
        ("Please look at shelf 0.", "No idea.", "human"),
        ("Please ask at desk 77.", "It may be.", "human"),
    ]
    # (c) The judged answer itself takes part, with the words as critique, and is what is revised.
    answers = {one["id"]: one["text"] for one in lines(recipe, row, "answers", "answers")}
    assert answers["q0#said0"] == "No idea."
    people = {one["response"]: one for one in lines(recipe, row, "feedback", "feedback") if one["critic"] == "people"}
    assert people["q0#said0"]["critique"] == "- Say where to look." and people["q0#said0"]["rater"] == "Ann"
    (revised,) = [text for name, text in asked.items() if "#said0>" in name and "It may be." in text]
    assert "- Name a desk." in revised
    assert "q0#said0>0" not in asked, "what a person has rewritten needs no other revision"
    verdicts = {name: [(v["item"], v["verdict"]) for v in one["verdicts"]] for name, one in people.items()}
    assert list(verdicts.values()).count([("people", "fail")]) == 3 and list(verdicts.values()).count([("people", "pass")]) == 2


@pytest.mark.slow
def test_kto_learns_from_thumbs_without_a_partner(recipe):
    options = [f"--set=refine.train={json.dumps({'use': 'kto', 'epochs': 1, 'batch_size': 4, 'learning_rate': 1e-3})}"]
    (row,) = refine(recipe, *options)["rounds"]
    found = lines(recipe, row, "pairs", "pairs")
    assert [one["chosen"]["content"] for one in found if one["rejected"] is None] == ["Yes."]
    assert len(lines(recipe, row, "rows", "pairs")) == len(found)


def test_a_store_about_somebody_else_stops_the_round_before_anything_is_trained(recipe):
    store = ServedStore(recipe / "served.jsonl")
    store.path.unlink()
    store.append(said("Is book 80 in?", "No.", persona="teller", thumb="up"))
    result = CliRunner().invoke(cli, ["refine", str(recipe / "recipe.yaml"), "--next", "--runs", str(recipe / "runs")])
    assert "nothing is about clerk; the store has feedback on teller (1)" in str(result.exception)


def test_the_check_knows_the_kinds(recipe):
    text = (recipe / "recipe.yaml").read_text("utf-8").replace("use: served-feedback,", "use: served-feedback, as: preferences,")
    (recipe / "recipe.yaml").write_text(text, "utf-8")
    result = CliRunner().invoke(cli, ["check", str(recipe / "recipe.yaml")])
    assert "'served-feedback' gives preference records, which are no prompts" in str(result.exception)
