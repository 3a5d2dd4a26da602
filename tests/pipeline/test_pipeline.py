"""A recipe becomes an agent: the whole job on a tiny model, through the command line and the Python API."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

import agentft
from agentft.cli.main import cli
from agentft.errors import UserError
from agentft.runs import Store


def run(job: Path, *arguments: str) -> dict:
    result = CliRunner().invoke(cli, ["run", str(job / "recipe.yaml"), "--runs", str(job / "runs"), "--json", *arguments])
    if result.exception is not None:
        raise result.exception
    return json.loads(result.stdout)


def built(manifest: dict) -> dict[str, str]:
    """Stage -> why, of the stages that were not reused."""
    return {stage["name"]: stage["why"] for stage in manifest["stages"] if not stage["reused"]}


def test_the_whole_job(job):
    manifest = run(job)
    assert manifest["status"] == "complete"
    names = [stage["name"] for stage in manifest["stages"]]
    assert names[:5] == ["data", "rows", "train-0", "answers-base", "answers-tuned"] and names[-2:] == ["comparison", "report"]
    trained = next(stage for stage in manifest["stages"] if stage["name"] == "train-0")["summary"]
    assert 0 < trained["trainable"] < trained["total"]
    folder = job / "runs" / manifest["id"]
    report = json.loads((folder / "report.json").read_text("utf-8"))
    assert {row["name"] for row in report["comparisons"]} >= {
        "persona-adherence",
        "relevance/facts",
        "rouge-l",
        "perplexity/nll",
        "stop-rate",
    }
    assert {row["name"] for row in report["items"]} == {"persona-adherence/brief", "persona-adherence/polite"}
    assert len(report["samples"]) >= 10 and {"base", "tuned"} <= report["samples"][0].keys()
    assert report["training"][0]["curve"] and report["signal"][0]["supervised_tokens"] > 0
    page = (folder / "report.html").read_text("utf-8")
    assert page.startswith("<!doctype html>") or page.startswith("<!DOCTYPE html>")

    # Nothing has changed: nothing is built, and nothing heavy is needed for that.
    assert built(run(job)) == {}
    began = time.monotonic()
    code = "import sys; from agentft.cli.main import main\ntry: main()\nexcept SystemExit: pass\nassert 'torch' not in sys.modules"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    subprocess.run(
        [sys.executable, "-c", code, "run", str(job / "recipe.yaml"), "--runs", str(job / "runs")],
        check=True,
        env=environment,
        capture_output=True,
    )
    assert time.monotonic() - began < 20  # a hang would be a bug; benchmarks say how fast it is

    # Another evaluator: no training, no generation.
    assert set(built(run(job, "--set", "evaluate=[persona-adherence, relevance, rouge, perplexity, stop-rate, length]"))) == {
        "scores-base-length",
        "scores-tuned-length",
        "comparison",
        "report",
    }
    # Another prompt: answers and scores, but no training.
    with (job / "prompts.jsonl").open("a", encoding="utf-8") as stream:
        stream.write("\n" + json.dumps({"id": "p99", "messages": [{"role": "user", "content": "Is it open on Sunday?"}]}))
    again = built(run(job))
    assert again["data"] == "prompts.jsonl changed" and "train-0" not in again and "rows" not in again and "answers-base" in again

    # One word of the persona: everything that depends on it, and it says why.
    persona = (job / "persona.yaml").read_text("utf-8")
    (job / "persona.yaml").write_text(persona.replace("Say please.", "Say please always."), "utf-8")
    again = built(run(job))
    assert "data" not in again and {"rows", "train-0", "answers-base", "answers-tuned"} <= again.keys()
    assert again["rows"].startswith("persona.policies.polite.text: Say please. -> Say please always.")


def test_dry_run_says_what_would_run_and_changes_nothing(job):
    arguments = ["run", str(job / "recipe.yaml"), "--runs", str(job / "runs"), "--dry-run"]
    assert "data: would run (new), and what depends on it" in CliRunner().invoke(cli, arguments).stdout
    assert not (job / "runs").exists()
    run(job, "--until", "rows")
    output = CliRunner().invoke(cli, arguments).stdout
    assert "rows: unchanged, would be reused" in output and "train-0: would run (new)" in output


def test_data_preview_shows_counts_lengths_and_the_mask(job):
    result = CliRunner().invoke(cli, ["data", str(job / "recipe.yaml"), "--runs", str(job / "runs")], catch_exceptions=False)
    assert "split: train " in result.output and "⟦Please turn left at" in result.output and "tokens supervised" in result.output
    data = json.loads(CliRunner().invoke(cli, ["data", str(job / "recipe.yaml"), "--runs", str(job / "runs"), "--json"]).stdout)
    assert data["account"]["splits"]["train"] == data["signal"]["train"]["rows_in"]


def test_evaluate_chat_report_and_api(job, monkeypatch):
    monkeypatch.chdir(job)
    manifest = run(job)
    result = CliRunner().invoke(cli, ["evaluate", "recipe.yaml", "--runs", "runs", "--json"])
    data = json.loads(result.stdout)
    assert result.exit_code == (1 if data["worse"] else 0)
    assert CliRunner().invoke(cli, ["evaluate", "clerk", "--runs", "runs"]).exit_code == result.exit_code, "a run can be named instead"
    assert "report.html" in CliRunner().invoke(cli, ["report", "clerk", "--runs", "runs", "--rebuild"], catch_exceptions=False).output
    assert (
        "clerk" in CliRunner().invoke(cli, ["chat", "clerk", "--runs", "runs", "-m", "Hello?", "-m", "Why?"], catch_exceptions=False).output
    )
    typed = CliRunner().invoke(cli, ["chat", "clerk", "--runs", "runs"], input="Hello?\n/undo\n/system\n/quit\n", catch_exceptions=False)
    assert "counter of a small library" in typed.output

    agent = agentft.load_agent(job / "runs" / manifest["id"])
    answers = agent.generate(["May I borrow book 3?", "Where is shelf 5?"], max_new_tokens=5)
    assert len(answers) == 2 and agent.chat([{"role": "user", "content": "May I borrow book 3?"}], max_new_tokens=5) == answers[0]
    base = agentft.load_agent("clerk", base=True, runs=job / "runs")
    assert base.loaded.renderer.digest == agent.loaded.renderer.digest
    with pytest.raises(UserError, match="no run 'nobody'"):
        agentft.load_agent("nobody", runs=job / "runs")


def test_a_recipe_that_trains_nothing_measures_the_base_model(job):
    manifest = run(job, "--set", "train=[]")
    report = json.loads((job / "runs" / manifest["id"] / "report.json").read_text("utf-8"))
    assert {row["verdict"] for row in report["comparisons"]} == {"info"} and "tuned" not in report["samples"][0]


def test_python_api_and_observer(job):
    from types import ModuleType

    seen: list[str] = []
    module = ModuleType("watcher")

    @agentft.hookimpl
    def agentft_observe(event):
        seen.append(type(event).__name__)

    module.agentft_observe = agentft_observe
    done = agentft.run(job / "recipe.yaml", runs=job / "runs", until="data", host=agentft.Host(extra=[("watcher", module)]))
    assert done.manifest["status"] == "complete"
    assert seen == ["RunStarted", "StageStarted", "StageFinished", "RunFinished"]
    events = [json.loads(line)["event"] for line in (done.path / "events.jsonl").read_text("utf-8").splitlines()]
    assert events == seen


KILLER = textwrap.dedent(
    """
    import os, signal, sys
    import agentft, agentft.runs
    from agentft.progress import Progress
    recipe, runs, where = sys.argv[1:]

    def die():
        os.kill(os.getpid(), signal.SIGKILL)

    class Killer(Progress):
        name = ""
        def stage(self, name, why):
            self.name = name
        def step(self, done, total, info=None):
            # in the middle: after some steps or batches, before the last
            if self.name == where and done >= total / 2:
                die()

    complete = agentft.runs._folder_digest
    def digest(folder):
        # all files are written, the folder has not been renamed yet
        if where in ("data", "report") and folder.name.startswith(where):
            die()
        return complete(folder)
    agentft.runs._folder_digest = digest
    agentft.run(recipe, runs=runs, progress=Killer())
    """
)


def outcome(runs: Path) -> tuple[list, bytes]:
    """What must not depend on interruptions: the compared figures and the adapter's bytes."""
    manifest = Store(runs).manifest("clerk")
    stages = {stage["name"]: runs / "stages" / stage["folder"] for stage in manifest["stages"]}
    weights = next(stages["train-0"].glob("adapter/*.safetensors")).read_bytes()
    return json.loads((stages["comparison"] / "comparison.json").read_text("utf-8"))["comparisons"], weights


@pytest.mark.slow
def test_killed_anywhere_the_same_command_gives_the_same_result(job):
    agentft.run(job / "recipe.yaml", runs=job / "straight")
    expected = outcome(job / "straight")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    for where in ("data", "train-0", "answers-tuned", "report"):
        command = [sys.executable, "-c", KILLER, str(job / "recipe.yaml"), str(job / "killed"), where]
        killed = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert killed.returncode == -signal.SIGKILL, (where, killed.stderr)
        assert any(path.name.startswith(where) for path in (job / "killed" / "stages").glob("*.partial")), where
    finished = agentft.run(job / "recipe.yaml", runs=job / "killed")
    assert finished.manifest["status"] == "complete"
    assert outcome(job / "killed") == expected
    assert not list((job / "killed" / "stages").glob("*.partial"))


@pytest.mark.slow
def test_a_recipe_may_train_on_preferences_after_demonstrations(job):
    pairs = [{"prompt": f"Where is shelf {n}?", "chosen": f"Please turn left at {n}.", "rejected": "No idea, go away."} for n in range(12)]
    (job / "pairs.jsonl").write_text("\n".join(map(json.dumps, pairs)), "utf-8")
    recipe = (job / "recipe.yaml").read_text("utf-8")
    recipe = recipe.replace("path: talks.jsonl}]", "path: talks.jsonl}, {use: preferences, path: pairs.jsonl}]")
    recipe = recipe.replace(
        "save_every: 2}\n", "save_every: 2}\n  - {use: dpo, strategy: {lora: {r: 4}}, batch_size: 4, learning_rate: 1e-3}\n"
    )
    (job / "recipe.yaml").write_text(recipe, "utf-8")
    manifest = run(job)
    stages = {stage["name"]: stage["summary"] for stage in manifest["stages"]}
    assert stages["train-1"]["trainer"] == "dpo" and stages["rows"]["pairs"]["rows_out"] == stages["data"]["splits"]["pairs.train"]
    report = json.loads((job / "runs" / manifest["id"] / "report.json").read_text("utf-8"))
    assert [one["stage"] for one in report["signal"]] == ["demonstrations", "preference pairs"]
    # Preferences alone are enough where nothing else is asked for.
    alone = ["--set", "data.sources=[{use: preferences, path: pairs.jsonl}]", "--set", "train=[{use: dpo, batch_size: 4}]"]
    again = run(job, *alone, "--set", "evaluate=[persona-adherence]")
    assert [s["name"] for s in again["stages"] if s["name"].startswith("train")] == ["train-0"]


@pytest.mark.slow
def test_weights_of_messages_reach_preview_and_training(job):
    talks = [json.loads(line) for line in (job / "talks.jsonl").read_text("utf-8").splitlines()]
    for number, talk in enumerate(talks):
        talk["messages"][1] |= {"train": 0.3} if number % 2 else {}
    (job / "talks.jsonl").write_text("\n".join(map(json.dumps, talks)), "utf-8")
    arguments = [str(job / "recipe.yaml"), "--runs", str(job / "runs")]
    shown = CliRunner().invoke(cli, ["data", *arguments, "-n", "9"], catch_exceptions=False).output
    assert "⟦0.3 × Please turn left at" in shown and "⟦Please turn left at" in shown
    assert "weights of supervised tokens: 0.3 on " in shown and "weights     0.3 for " in shown
    run(job, "--until", "train")
    talks[1]["messages"][1]["train"] = 0.4
    (job / "talks.jsonl").write_text("\n".join(map(json.dumps, talks)), "utf-8")
    assert "train-0" in built(run(job, "--until", "train"))  # another weight, another model
