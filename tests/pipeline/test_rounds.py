"""Rounds of feedback on a tiny model: every step, the gate's answers, roll-back, and what a kill leaves behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from click.testing import CliRunner

import agentft
from agentft.cli.main import cli
from agentft.runs import Store

REFINE = """\
refine:
  prompts: [{use: jsonl, path: practice.jsonl}]
  sampling: {candidates: 3}
  revision: {drafts: 2}
  pairs: {length_ratio: [0.01, 100], length_balance: 1.0, near_duplicate: 1.0}
  train: {use: dpo, epochs: 1, batch_size: 4, learning_rate: 1e-3, save_every: 1}
  control: {use: sft, epochs: 1, batch_size: 4, learning_rate: 1e-3, save_every: 1}
  min_yield: 0.0
  gate: GATE
"""
# What a random model of ten thousand parameters writes is noise, so the gates of these tests are open or shut on purpose.
OPEN = "{minimum: -1.0, length_ratio: [0.001, 1000], distinct_drop: 1.0, stop_drop: 1.0, new_hard_failures: 1000, min_prompts: 2}"
SHUT = "{minimum: 0.9, length_ratio: [0.001, 1000], distinct_drop: 1.0, stop_drop: 1.0, new_hard_failures: 1000, min_prompts: 2}"


@pytest.fixture
def recipe(job) -> Path:
    """The small job with a pool to practise on; one of its prompts is also in the gate pool."""
    rows = [{"id": f"q{n}", "messages": [{"role": "user", "content": f"Do you have book {n}, please?"}]} for n in range(8)]
    rows.append({"id": "leak", "messages": [{"role": "user", "content": "May I borrow book 3?"}]})
    (job / "practice.jsonl").write_text("\n".join(map(json.dumps, rows)), "utf-8")
    text = (job / "recipe.yaml").read_text("utf-8") + "seed: 1\n" + REFINE.replace("GATE", OPEN)
    (job / "recipe.yaml").write_text(text.replace("max_new_tokens: 6", "max_new_tokens: 12"), "utf-8")
    persona = (job / "persona.yaml").read_text("utf-8")
    # Items that noise passes now and then, so that there are pairs.
    items = [
        f"  - {{id: item-{letter}, text: Use the letter {letter}., rule: {{contains: {{any: ['{letter}']}}}}}}\n" for letter in "aeiorst"
    ]
    (job / "persona.yaml").write_text(persona + "".join(items), "utf-8")
    return job


def command(job: Path, *arguments: str, code: int = 0) -> dict:
    result = CliRunner().invoke(cli, [*arguments, "--runs", str(job / "runs"), "--json"])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return json.loads(result.stdout)


def refine(job: Path, *arguments: str, code: int = 0) -> dict:
    return command(job, "refine", str(job / "recipe.yaml"), *arguments, code=code)


def summaries(job: Path, row: dict) -> dict[str, dict]:
    stages = job / "runs" / "stages"
    return {name: json.loads((stages / folder / "stage.json").read_text("utf-8"))["summary"] for name, folder in row["stages"].items()}


def test_a_round_is_promoted_and_rolled_back(recipe):
    data = refine(recipe)
    assert data["current"] == "round-1" and [row["state"] for row in data["rounds"]] == ["promoted"]
    row = data["rounds"][0]
    found = summaries(recipe, row)
    lock, pairs = found["round-1-lock"], found["round-1-pairs"]
    assert lock["prompts"] == 8 and lock["drops"] == {"prompt is in the gate or test pool": 1}
    assert lock["pools"]["overlap"] == {"texts": 0, "groups": 0}
    assert found["round-1-answers"]["answers"] == 8 * 4 and pairs["kept"] > 0
    assert pairs["made"] == pairs["kept"] + sum(
        n for reason, n in pairs["drops"].items() if not reason.startswith(("samples", "revision", "no sample"))
    )
    assert found["round-1-candidate"]["trainer"] == "dpo" and found["round-1-control"]["trainer"] == "sft"
    assert [one["arm"] for one in row["decisions"]] == ["round-1-candidate", "round-1-control"]
    version = data["versions"][1]
    assert version["why"] == row["sentence"] and version["feedback"] and version["folder"] == row["stages"]["round-1-candidate"]

    # Nothing runs again, and the champion is what one talks to.
    assert refine(recipe) == data
    run = data["run"]
    ours = agentft.load_agent(run, runs=recipe / "runs").generate(["Do you have book 3?"], max_new_tokens=8)
    start = agentft.load_agent(run, version="start", runs=recipe / "runs")
    shown = command(recipe, "rounds", "show", run)
    assert shown["state"] == "promoted" and shown["summaries"]["pairs"]["kept"] == pairs["kept"]
    moved = command(recipe, "rounds", "rollback", run, "--why", "the tone was off")
    assert moved == {"from": "round-1", "to": "start", "why": "the tone was off"}
    assert agentft.load_agent(run, runs=recipe / "runs").generate(["Do you have book 3?"], max_new_tokens=8) == start.generate(
        ["Do you have book 3?"], max_new_tokens=8
    )
    assert command(recipe, "rounds", "promote", run, "round-1")["to"] == "round-1"
    assert agentft.load_agent(run, runs=recipe / "runs").generate(["Do you have book 3?"], max_new_tokens=8) == ours
    moves = command(recipe, "rounds", "list", run)["moves"]
    assert [(move["from"], move["to"]) for move in moves] == [("start", "round-1"), ("round-1", "start"), ("start", "round-1")]
    assert not [path for path in Store(recipe / "runs").unused() if path.name in row["stages"].values()], "gc keeps what rounds refer to"


@pytest.mark.slow
def test_a_rejected_round_keeps_the_champion_and_its_data_and_exits_with_1(recipe):
    data = refine(recipe, "--set", f"refine.gate={SHUT}", code=1)
    row = data["rounds"][0]
    assert data["current"] == "start" and row["state"] == "rejected" and row["promoted"] is None
    assert "persona-adherence did not become better" in row["sentence"] and "needed: above +90.0 points" in row["sentence"]
    assert (recipe / "runs" / "stages" / row["stages"]["round-1-pairs"] / "pairs.jsonl").stat().st_size > 0
    # The next round starts from the champion with the options of now; the decided one stays as it is.
    data = refine(recipe, "--next")
    assert [r["state"] for r in data["rounds"]] == ["rejected", "promoted"] and data["rounds"][1]["start"] == "start"
    assert data["rounds"][0] == row
    assert summaries(recipe, data["rounds"][1])["round-2-pairs"]["replayed"] > 0, "pairs of the first round are replayed"
    text = CliRunner().invoke(cli, ["rounds", "show", "clerk", "--runs", str(recipe / "runs")], catch_exceptions=False).output
    assert "round 2: promoted" in text and "dropped" in text


@pytest.mark.slow
def test_few_gate_prompts_are_inconclusive_and_two_failures_stop(recipe):
    gate = OPEN.replace("min_prompts: 2", "min_prompts: 60")
    data = refine(recipe, "--rounds", "3", "--set", f"refine.gate={gate}", code=1)
    assert [row["state"] for row in data["rounds"]] == ["inconclusive", "inconclusive"], "the third is not tried"
    assert "needed: 60; too few to tell" in data["rounds"][0]["sentence"]


@pytest.mark.slow
def test_a_round_without_pairs_says_so_and_trains_nothing(recipe):
    data = refine(recipe, "--set", "refine.pairs.margin=100", code=1)
    row = data["rounds"][0]
    assert row["state"] == "inconclusive" and "0 pairs from 8 prompts" in row["sentence"]
    assert "round-1-candidate" not in row["stages"]


@pytest.mark.slow
def test_run_contains_the_rounds_and_the_report_shows_them(recipe):
    manifest = command(recipe, "run", str(recipe / "recipe.yaml"))
    names = [stage["name"] for stage in manifest["stages"]]
    assert {"round-1-lock", "round-1-gate", "round-1-explain", "report"} <= set(names)
    report = json.loads((recipe / "runs" / manifest["id"] / "report.json").read_text("utf-8"))
    (shown,) = report["rounds"]
    assert (
        shown["state"] == "promoted"
        and shown["promoted"] == "candidate"
        and {arm["name"] for arm in shown["arms"]} == {"champion", "candidate", "control"}
    )
    assert shown["pairs"] and all(pair["chosen"] != pair["rejected"] for pair in shown["pairs"])
    assert any(pair["mended"] for pair in shown["pairs"]) and shown["feedback"] and shown["flow"] and shown["training"][0]["words"]


KILLER = textwrap.dedent(
    """
    import os, signal, sys
    import agentft, agentft.runs, agentft.progress
    recipe, runs, where = sys.argv[1:]

    def die():
        os.kill(os.getpid(), signal.SIGKILL)

    # All files of the stage are written, its folder has not been renamed yet.
    complete = agentft.runs._folder_digest
    def digest(folder):
        if folder.name.startswith(where):
            die()
        return complete(folder)
    agentft.runs._folder_digest = digest

    class Killer(agentft.progress.Progress):
        name = ""
        def stage(self, name, why):
            self.name = name
        def step(self, done, total, info=None):
            if self.name + "+" == where and done >= total / 2:
                die()

    agentft.run(recipe, runs=runs, progress=Killer())
    """
)


def outcome(runs: Path) -> tuple:
    manifest = Store(runs).manifest("clerk")
    data = json.loads((runs / manifest["id"] / "rounds.json").read_text("utf-8"))
    row = data["rounds"][0]
    weights = next((runs / "stages" / row["stages"]["round-1-candidate"]).glob("adapter/*.safetensors")).read_bytes()
    pairs = (runs / "stages" / row["stages"]["round-1-pairs"] / "pairs.jsonl").read_bytes()
    return row["state"], row["sentence"], json.dumps(row["decisions"]), weights, pairs, data["current"]


@pytest.mark.slow
def test_killed_at_every_step_the_same_command_gives_the_same_round(recipe):
    agentft.run(recipe / "recipe.yaml", runs=recipe / "straight")
    expected = outcome(recipe / "straight")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    steps = [
        "lock",
        "answers+",
        "answers",
        "feedback",
        "revisions",
        "revision-feedback",
        "pairs",
        "rows",
        "candidate+",
        "candidate",
        "control",
        "gate",
    ]
    for step in steps:
        command = [sys.executable, "-c", KILLER, str(recipe / "recipe.yaml"), str(recipe / "killed"), f"round-1-{step}"]
        killed = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert killed.returncode == -signal.SIGKILL, (step, killed.returncode, killed.stderr[-2000:])
    agentft.run(recipe / "recipe.yaml", runs=recipe / "killed")
    assert outcome(recipe / "killed") == expected
    assert not list((recipe / "killed" / "stages").glob("*.partial"))


def judge_server(answer):
    from servers import completion, serving

    return serving(lambda number, body: completion(answer) if isinstance(answer, str) else answer(number, body))


@pytest.mark.slow
def test_the_gate_refuses_a_critic_that_people_have_not_checked(recipe):
    """A judge gates only with a calibration that passed the bar, made with the model that judges now."""
    with judge_server("polite: yes\nbrief: yes") as (url, seen):
        judge = f"{{use: judge, items: all, repeats: 1, model: {{url: '{url}', model: j}}}}"
        gate = OPEN[:-1] + f", critics: [{{critic: {judge}, calibration: calibration.json}}]}}"
        arguments = ["--set", f"refine.gate={gate}"]
        row = refine(recipe, *arguments, code=1)["rounds"][-1]
        assert "critic judge was not held against human labels" in row["sentence"] and "agentft evaluate-critic" in row["sentence"]
        known = {"critic": "judge", "model": "j", "n": 419, "tpr": 0.5, "tnr": 0.51, "bar": 0.8, "passes": False}
        (recipe / "calibration.json").write_text(json.dumps(known), "utf-8")
        row = refine(recipe, "--next", *arguments, code=1)["rounds"][-1]
        assert "critic judge may advise, not gate: TPR 0.50, TNR 0.51 on 419 human labels, needed: 0.80" in row["sentence"]
        assert seen, "it was asked all the same: its advice is in the report"
    assert any(name.startswith("round-2-judged-tuned") for name in row["stages"])


@pytest.mark.slow
@pytest.mark.parametrize("trouble", ["garbage", "dies", "hangs"])
def test_a_judge_that_fails_loses_nothing_and_the_round_says_so(recipe, trouble):
    """The round goes on with what could be judged, counts the rest, and the next try asks again for what is missing only."""
    import time

    def answer(number, body):
        from servers import completion

        if trouble == "garbage":
            return completion("I would rather not say.")
        if trouble == "dies" and number > 10:
            return 500, {}, "gone"
        if trouble == "hangs" and number > 10:
            time.sleep(0.6)
        return completion("polite: yes")

    with judge_server(answer) as (url, _):
        judge = f"[{{use: judge, items: [polite], repeats: 1, model: {{url: '{url}', model: j, timeout: 0.3, concurrency: 1}}}}]"
        data = refine(recipe, "--set", f"refine.critics={judge}")
        found = summaries(recipe, data["rounds"][0])["round-1-feedback"]["critics"]
    assert found["rules"]["judged"] == 32 and found["judge"]["errors"], "what failed is counted by reason"
    reason = {"garbage": "no judgement could be read", "dies": "answers 500", "hangs": "within 0.3 s"}[trouble]
    assert any(reason in error for error in found["judge"]["errors"])
    assert found["judge"]["judged"] == 32 - sum(found["judge"]["errors"].values())
    shown = CliRunner().invoke(cli, ["rounds", "show", "clerk", "--runs", str(recipe / "runs")], catch_exceptions=False).output
    assert "judge" in shown and reason.split()[0] in shown


@pytest.mark.slow
def test_people_flow_into_the_next_round(recipe):
    from agentft.data.jsonl import iter_rows
    from agentft.feedback.human import HumanStore, Judged
    from agentft.serve.tasks import tasks_of_run

    store = Store(recipe / "runs")
    first = refine(recipe)
    manifest = store.manifest("clerk")
    task = next(task for task in tasks_of_run(manifest, store.stages) if len(task.responses) == 2)
    names = list(task.responses)
    row = Judged(
        task.id,
        task.prompt.to_dict(),
        task.responses,
        "choice",
        names[0],
        {names[1]: {"polite": "fail"}},
        {names[1]: "Please ask at the desk."},
        "Too curt.",
        "Ann",
    )
    HumanStore(recipe / "runs" / "feedback" / "clerk.jsonl").append(row)
    data = refine(recipe, "--next", "--set", "refine.critics=[human]", code=(0 if first else 1))
    found = summaries(recipe, data["rounds"][1])
    assert found["round-2-lock"]["human"] == 2 and found["round-2-pairs"]["by_origin"].get("human", 0) >= 1
    pairs = [
        row for row in iter_rows(store.stages / data["rounds"][1]["stages"]["round-2-pairs"] / "pairs.jsonl") if row["origin"] == "human"
    ]
    assert any(row["chosen"]["content"] == "Please ask at the desk." for row in pairs)


def test_a_mistyped_score_is_found_before_anything_is_trained(recipe):
    from agentft.errors import RecipeError

    gate = OPEN[:-1] + ", primary: persona-adherense, guardrails: [relevance/fact]}"
    with pytest.raises(RecipeError) as error:
        refine(recipe, "--set", f"refine.gate={gate}")
    text = str(error.value)
    assert "no evaluator measures 'persona-adherense' (did you mean 'persona-adherence'?)" in text
    assert "no evaluator measures 'relevance/fact' (did you mean 'relevance/facts'?)" in text
    assert not list((recipe / "runs" / "stages").glob("round-1-candidate*"))


@pytest.mark.slow
def test_a_judge_has_to_prefer_the_chosen_answer_in_both_orders(recipe):
    with judge_server("A") as (url, seen):  # always the one that stands first
        data = refine(recipe, "--set", f"refine.pairs.swap={{url: '{url}', model: j}}", code=1)
        found = summaries(recipe, data["rounds"][0])["round-1-pairs"]
        assert found["kept"] == 0 and found["drops"]["the judge does not prefer the chosen answer in both orders"] * 2 == len(seen)
