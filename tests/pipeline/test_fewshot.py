"""Few-shot as a baseline arm, through the whole pipeline: the same prompts, nothing trained, and what is shown is right."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

import agentft
from agentft.arms import Arm
from agentft.cli.main import cli
from agentft.errors import RecipeError
from agentft.pipeline import Pipeline
from agentft.runs import Store
from agentft.session import open_recipe

FEW = ["--set", "train=[{use: few-shot, examples: 2, by: bm25}]"]
# The tiny model reads bytes: room for two short examples and no more than that.
EVALUATE = ["--set", "evaluate=[persona-adherence, stop-rate, perplexity]", "--set", "data.max_prompts=4"]


def run(job, *arguments):
    result = CliRunner().invoke(cli, ["run", str(job / "recipe.yaml"), "--runs", str(job / "runs"), "--json", *arguments])
    if result.exception is not None:
        raise result.exception
    return json.loads(result.stdout)


def test_base_and_few_shot_answer_the_same_prompts_and_nothing_is_trained(job):
    manifest = run(job, *FEW, *EVALUATE)
    stages = {stage["name"]: stage for stage in manifest["stages"]}
    trained = stages["train-0"]["summary"]
    assert trained["trainable"] == 0 < trained["total"] and trained["adapter"] is None is trained["model"]
    assert trained["examples"] == "fewshot" and trained["trainer"] == "few-shot"

    folder = job / "runs" / "stages"
    asked, answers = {}, {}
    for arm in ("base", "tuned"):
        rows = [
            json.loads(line) for line in (folder / stages[f"answers-{arm}"]["folder"] / "answers.jsonl").read_text("utf-8").splitlines()
        ]
        asked[arm], answers[arm] = [row["id"] for row in rows], [row["text"] for row in rows]
        assert not any(row["error"] for row in rows)
    assert asked["base"] == asked["tuned"] and answers["base"] != answers["tuned"], "what is shown changes what is said"
    shots = stages["answers-tuned"]["summary"]["shots"]
    assert shots["prompts"] == len(asked["tuned"]) and shots["examples"] + shots["too long"] == 2 * shots["prompts"] and shots["examples"]
    assert "shots" not in stages["answers-base"]["summary"]
    report = json.loads((job / "runs" / manifest["id"] / "report.json").read_text("utf-8"))
    assert {"persona-adherence", "perplexity/nll"} <= {row["name"] for row in report["comparisons"]}

    # Nothing has changed, nothing is built; another option: only what depends on it.
    assert all(stage["reused"] for stage in run(job, *FEW, *EVALUATE)["stages"])
    again = run(job, "--set", "train=[{use: few-shot, examples: 1, by: bm25}]", *EVALUATE)
    built = {stage["name"] for stage in again["stages"] if not stage["reused"]}
    assert {"train-0", "answers-tuned"} <= built and not built & {"data", "rows", "answers-base"}

    # Talking to the run shows the examples as well.
    agent = agentft.load_agent(manifest["id"], runs=job / "runs")
    assert agent.loaded.shots is not None and agentft.load_agent(manifest["id"], base=True, runs=job / "runs").loaded.shots is None
    said = agent.chat([{"role": "user", "content": "Where is shelf 3?"}], max_new_tokens=6)
    assert agent.loaded.shots.account["examples"] > 0
    typed = CliRunner().invoke(
        cli, ["chat", manifest["id"], "--runs", str(job / "runs"), "-m", "Where is shelf 3?", "--max-new-tokens", "6"]
    )
    assert typed.exit_code == 0 and said in typed.output


def test_an_interrupted_run_goes_on(job, monkeypatch):
    overrides = ["train=[{use: few-shot, examples: 2, by: random}]", "evaluate=[stop-rate]", "generation.batch_size=2"]

    def pipeline():
        return Pipeline(open_recipe(job / "recipe.yaml", overrides), Store(job / "runs"))

    from agentft.engine.generate import TransformersBackend

    real, calls = TransformersBackend._turn, []

    def dies(self, run, rows):
        if self.agent.shots is not None and len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(rows) if self.agent.shots is not None else None
        return real(self, run, rows)

    monkeypatch.setattr(TransformersBackend, "_turn", dies)
    with pytest.raises(KeyboardInterrupt):
        pipeline().execute("answers")
    monkeypatch.setattr(TransformersBackend, "_turn", real)
    finished = pipeline().execute("answers")
    straight = Pipeline(open_recipe(job / "recipe.yaml", overrides), Store(job / "straight")).execute("answers")
    texts = []
    for done in (finished, straight):
        stage = next(stage for stage in done.manifest["stages"] if stage["name"] == "answers-tuned")
        texts.append((done.path.parent / "stages" / stage["folder"] / "answers.jsonl").read_bytes())
    assert texts[0] == texts[1]
    assert next(stage for stage in finished.manifest["stages"] if stage["name"] == "train-0")["reused"]


@pytest.mark.slow
def test_after_training_the_weights_go_on(job):
    overrides = ["train=[{use: sft, strategy: {lora: {r: 2}}, epochs: 1, batch_size: 8}, {use: few-shot, examples: 1, by: random}]"]
    pipeline = Pipeline(open_recipe(job / "recipe.yaml", overrides), Store(job / "runs"))
    pipeline.execute("train")
    arm = Arm("tuned", pipeline.session, pipeline.trained)
    first, second = (next(stage for stage in pipeline.run.manifest["stages"] if stage["name"] == f"train-{n}") for n in (0, 1))
    weights = [next((job / "runs" / "stages" / one["folder"] / "adapter").glob("*.safetensors")).read_bytes() for one in (first, second)]
    assert weights[0] == weights[1] and arm.agent.shots is not None


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["train=[few-shot, sft]"], "last stage"),
        (["train=[few-shot]", "refine={prompts: [{use: jsonl, path: prompts.jsonl}], train: {use: dpo}}"], "rounds could go on"),
        (["train=[{use: few-shot, by: likeness}]"], "similarity"),
    ],
)
def test_what_cannot_be_is_found_by_the_check(job, overrides, message):
    with pytest.raises(RecipeError, match=message):
        open_recipe(job / "recipe.yaml", overrides)
