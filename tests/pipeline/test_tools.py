"""A persona with tools, from its file to a conversation in which the trained agent calls a plugin's function."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from tiny import tiny_model

import agentft
from agentft.cli.main import cli
from agentft.components import ModelRef
from agentft.engine.models import load_tokenizer
from agentft.runs import Store

PERSONA = """\
name: sky
summary: Knows the sky
language: en
role: You know the sky.
policies: [{id: brief, text: Be brief., rule: {words: {max: 9}}}]
"""
RECIPE = """\
name: sky
model: {model}
persona: persona.yaml
data: {{sources: [{{use: jsonl, path: talks.jsonl}}], transforms: [], split: {{validation: 0, test: 0.2, by: group, seed: 3}}}}
train: [{{use: sft, strategy: full, epochs: {epochs}, batch_size: 4, learning_rate: 5e-3, warmup: 0.0}}]
generation: {{max_new_tokens: 70, batch_size: 4}}
evaluate: [persona-adherence]
device: {{device: cpu, train_dtype: fp32, threads: 1}}
"""
CALL = {"name": "forecast", "arguments": {"day": 1}}


def talk(number: int) -> dict:
    return {
        "id": f"t{number}",
        "messages": [
            {"role": "user", "content": f"Sky {number}?"},
            {"role": "assistant", "content": "", "tool_calls": [CALL]},
            {"role": "tool", "content": "Day 1: dry."},
            {"role": "assistant", "content": "It is dry."},
        ],
    }


@pytest.fixture
def job(tmp_path: Path, install) -> Path:
    install("healthy")
    (tmp_path / "model").mkdir()
    tiny_model(tmp_path / "model", max_position_embeddings=1024)
    (tmp_path / "talks.jsonl").write_text("\n".join(json.dumps(talk(number)) for number in range(12)), "utf-8")
    (tmp_path / "persona.yaml").write_text(PERSONA + "tools: [{use: weather/forecast}]\n", "utf-8")
    return tmp_path


def trained(job: Path, epochs: int) -> dict:
    (job / "recipe.yaml").write_text(RECIPE.format(model=job / "model", epochs=epochs), "utf-8")
    run = agentft.run(job / "recipe.yaml", runs=job / "runs")
    return Store(job / "runs").manifest(run.id)


def test_the_persona_s_tools_reach_rows_prompts_and_the_loaded_agent(job):
    manifest = trained(job, 1)
    stages = {stage["name"]: stage for stage in manifest["stages"]}
    assert any("described behind the persona" in fact for fact in stages["rows"]["summary"]["checks"])
    written = Store(job / "runs").stages / stages["rows"]["folder"] / "train.jsonl"
    rows = [json.loads(line) for line in written.read_text("utf-8").splitlines()]
    tokenizer = load_tokenizer(ModelRef(str(job / "model"), str(job / "model"), "0" * 64, "folder"))
    for row in rows:
        text, learned = tokenizer.decode(row["input_ids"]), tokenizer.decode([label for label in row["labels"] if label >= 0])
        assert text.count('{"name": "forecast", "description": "Weather of a day"') == 1
        assert learned == '<tool_call>\n{"name": "forecast", "arguments": {"day": 1}}\n</tool_call><|im_end|>It is dry.<|im_end|>'
    agent = agentft.load_agent("sky", runs=job / "runs")
    assert agent.persona is not None and agent.loaded.renderer.tools == agent.persona.schemas
    assert agent.loaded.renderer.digest == stages["rows"]["summary"]["template"]


def test_a_persona_that_gets_a_tool_is_another_job(job):
    first = trained(job, 1)
    (job / "persona.yaml").write_text(PERSONA, "utf-8")
    second = trained(job, 1)
    assert first["id"] != second["id"]
    assert {stage["name"] for stage in second["stages"] if not stage["reused"]} >= {"rows", "train-0", "answers-base"}


@pytest.mark.slow
def test_a_trained_agent_calls_the_function_and_says_what_it_answered(job):
    trained(job, 40)
    result = CliRunner().invoke(cli, ["chat", "sky", "--runs", str(job / "runs"), "-m", "Sky 50?"])
    assert result.exception is None, result.output
    assert result.output.splitlines() == ['  forecast({"day": 1})', "  -> Day 1: dry.", "sky  It is dry."]


REFINE = """\
seed: 1
refine:
  prompts: [{use: jsonl, path: practice.jsonl}]
  sampling: {candidates: 1}
  revision: {model: none}
  pairs: {anchors: true, near_duplicate: 1.0}
  train: {use: dpo, epochs: 1, batch_size: 4, learning_rate: 1e-3}
  min_yield: 0.0
  gate: {minimum: -1.0, length_ratio: [0.001, 1000], distinct_drop: 1.0, stop_drop: 1.0, new_hard_failures: 1000, min_prompts: 2}
"""


def test_a_round_learns_demonstrated_calls_as_calls(job):
    calls = [{"name": "forecast", "arguments": {"day": number}} for number in range(20, 26)]
    practice = [
        {
            "id": f"q{number}",
            "messages": [{"role": "user", "content": f"Sky {number}?"}, {"role": "assistant", "content": "", "tool_calls": [call]}],
        }
        for number, call in enumerate(calls, 20)
    ]
    (job / "practice.jsonl").write_text("\n".join(map(json.dumps, practice)), "utf-8")
    recipe = RECIPE.format(model=job / "model", epochs=1).replace("max_new_tokens: 70", "max_new_tokens: 8") + REFINE
    (job / "recipe.yaml").write_text(recipe, "utf-8")
    result = CliRunner().invoke(cli, ["refine", str(job / "recipe.yaml"), "--runs", str(job / "runs"), "--json"])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.output
    found = json.loads(result.stdout)["rounds"][0]["stages"]
    stages = job / "runs" / "stages"
    pairs = [json.loads(line) for line in (stages / found["round-1-pairs"] / "pairs.jsonl").read_text("utf-8").splitlines()]
    assert [pair["chosen"]["tool_calls"] for pair in pairs] == [[call] for call in calls]
    (rows,) = (stages / folder for name, folder in found.items() if name.startswith("round-1-rows"))
    tokenizer = load_tokenizer(ModelRef(str(job / "model"), str(job / "model"), "0" * 64, "folder"))
    learned = [tokenizer.decode(json.loads(line)["chosen_ids"]) for line in (rows / "pairs.jsonl").read_text("utf-8").splitlines()]
    assert sorted(learned) == [f"<tool_call>\n{json.dumps(call)}\n</tool_call><|im_end|>" for call in calls]
