"""Probabilities of choices through the whole pipeline: computed once per arm, and what the metrics make of them."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from agentft.arms import Arm, samples
from agentft.cli.main import cli
from agentft.evaluate.predictions import from_samples
from agentft.pipeline import Pipeline
from agentft.runs import Store
from agentft.session import open_recipe

RECIPE = """\
name: intents
model: {model}
persona: persona.yaml
data:
  sources: [{{use: jsonl, path: rows.jsonl, records: labelled}}]
  transforms: [{{use: instruct, template: "{{text}}", label_names: {{"0": 退款, "1": card}}}}]
  split: {{validation: 0.1, test: 0.4}}
train: [{{use: sft, strategy: {{lora: {{r: 4}}}}, epochs: 4, batch_size: 4, learning_rate: 1e-2}}]
generation: {{max_new_tokens: 8, batch_size: 8}}
evaluate: [accuracy]
device: {{device: cpu, train_dtype: fp32, threads: 1}}
"""
PERSONA = "name: clerk\nsummary: A clerk\nlanguage: en\nrole: You sort.\n"
ASKING = "evaluate=[accuracy, auc, ranking, calibration]"


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny_ref):
    path = tmp_path_factory.mktemp("intents")
    rows = [{"id": f"r{n}", "inputs": {"text": f"{'钱' if n % 2 else 'card'} {n}"}, "label": "01"[n % 2 == 0]} for n in range(30)]
    (path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    (path / "persona.yaml").write_text(PERSONA, "utf-8")
    (path / "recipe.yaml").write_text(RECIPE.format(model=tiny_ref.path), "utf-8")
    return path


def run(folder, *overrides):
    arguments = [part for one in overrides for part in ("--set", one)]
    result = CliRunner().invoke(cli, ["run", str(folder / "recipe.yaml"), "--runs", str(folder / "runs"), "--json", *arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    manifest = json.loads(result.stdout)
    return {stage["name"]: stage for stage in manifest["stages"]}


@pytest.mark.slow
def test_metrics_of_probabilities_for_a_chat_model(folder, monkeypatch):
    from sklearn.metrics import roc_auc_score

    from agentft.engine.agent import LoadedAgent

    plain = run(folder)
    assert not any(name.startswith("choices") for name in plain), "nobody asked"

    asked = []
    real = LoadedAgent.choice_scores
    monkeypatch.setattr(LoadedAgent, "choice_scores", lambda self, prompts: asked.extend(p.id for p in prompts) or real(self, prompts))
    stages = run(folder, ASKING)
    built = {name for name, stage in stages.items() if not stage["reused"]}
    assert {"choices-base", "choices-tuned"} <= built and not built & {"data", "rows", "train-0", "answers-base", "answers-tuned"}
    count = stages["choices-base"]["summary"]["questions"]
    assert count == 12 and len(asked) == 2 * count, "three metrics, one pass for each arm"

    pipeline = Pipeline(open_recipe(folder / "recipe.yaml", [ASKING]), Store(folder / "runs"))
    pipeline.execute("answers")
    for name, trained in (("base", None), ("tuned", pipeline.trained)):
        arm = Arm(name, pipeline.session, trained)
        paths = {what: folder / "runs" / "stages" / stages[f"{what}-{name}"]["folder"] for what in ("answers", "choices")}
        predictions = from_samples(samples(paths["answers"], pipeline.data.path, paths["choices"]))
        by_hand = arm.agent.choice_scores([arm.choosing(pipeline.data.path)[3]])[0]
        assert set(by_hand) == {"退款", "card"}
        found = next(one for one in predictions if one.id == arm.choosing(pipeline.data.path)[3].id)
        assert found.scores == pytest.approx({"0": by_hand["退款"], "1": by_hand["card"]}, rel=1e-4)
        assert all(set(one.scores) == {"0", "1"} and one.label in ("0", "1") for one in predictions)
        truth = [one.row.label == "1" for one in predictions]
        scores = {
            name: value
            for stage in stages.values()
            if stage["name"].startswith(f"scores-{arm.name}")
            for name, value in stage["summary"]["scores"].items()
        }
        assert scores["auc-roc"] == pytest.approx(roc_auc_score(truth, [one.scores["1"] for one in predictions]))
        assert scores["accuracy"] == pytest.approx(sum(one.label == one.row.label for one in predictions) / count)
        assert 0.5 <= scores["mrr"] <= 1 and 0 <= scores["calibration"] <= 1
        assert not any(stage["summary"].get("unscored") for stage in stages.values() if stage["name"].startswith("scores"))

    assert all(stage["reused"] for stage in run(folder, ASKING).values())


def test_an_interrupted_stage_goes_on_where_it_was(folder, tmp_path, monkeypatch):
    from agentft.engine.agent import LoadedAgent

    pipeline = Pipeline(open_recipe(folder / "recipe.yaml", [ASKING]), Store(folder / "runs"))
    pipeline.execute("data")
    arm, real, asked = Arm("base", pipeline.session), LoadedAgent.choice_scores, []

    def dies(self, prompts):
        if len(asked) == 6:
            raise KeyboardInterrupt
        asked.extend(prompt.id for prompt in prompts)
        return real(self, prompts)

    out = tmp_path / "out"
    out.mkdir()
    monkeypatch.setattr("agentft.arms.TOGETHER", 2)
    monkeypatch.setattr(LoadedAgent, "choice_scores", dies)
    with pytest.raises(KeyboardInterrupt):
        arm.choose(pipeline.data.path, out, pipeline.progress)
    with (out / "partial.choices.jsonl").open("a", encoding="utf-8") as stream:
        stream.write('{"id": "r9", "sco')  # cut by a kill
    monkeypatch.setattr(
        LoadedAgent, "choice_scores", lambda self, prompts: asked.extend(prompt.id for prompt in prompts) or real(self, prompts)
    )
    arm.choose(pipeline.data.path, out, pipeline.progress)
    assert len(asked) == len(set(asked)) == 12, "nothing twice"
    straight = tmp_path / "straight"
    straight.mkdir()
    arm.choose(pipeline.data.path, straight, pipeline.progress)
    assert (out / "choices.jsonl").read_bytes() == (straight / "choices.jsonl").read_bytes()
    assert [path.name for path in out.iterdir()] == ["choices.jsonl"]


def test_a_prompt_that_is_too_long_is_unscored_and_the_rest_goes_on(folder, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    prompts = [
        {"id": name, "messages": [{"role": "user", "content": text}], "meta": {"label": "a", "labels": ["a", "b"], "choices": ["a", "b"]}}
        for name, text in (("short", "hi"), ("long", "x" * 600))
    ]
    (data / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in prompts), "utf-8")
    (data / "test.jsonl").write_text("", "utf-8")
    pipeline = Pipeline(open_recipe(folder / "recipe.yaml", [ASKING]), Store(folder / "runs"))
    outcome = Arm("base", pipeline.session).choose(data, tmp_path, pipeline.progress)
    assert outcome.summary["questions"] == 2 and outcome.summary["failed"] == 1 and "exceed" in outcome.summary["errors"][0]
    rows = [json.loads(line) for line in (tmp_path / "choices.jsonl").read_text("utf-8").splitlines()]
    assert [(row["id"], bool(row["scores"])) for row in rows] == [("short", True), ("long", False)]
