"""A run is exported with its persona, held-out prompts, metrics and lineage."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from agentft.agents import open_agent
from agentft.cli.main import cli
from agentft.contracts import GenerationSettings
from agentft.records import Example, Message


@pytest.mark.slow
def test_a_run_is_exported(job):
    runs = job / "runs"

    def agentft(*arguments):
        return CliRunner().invoke(cli, [*arguments, "--runs", str(runs)], catch_exceptions=False)

    assert agentft("run", str(job / "recipe.yaml")).exit_code in (0, 1)
    for form, out in (("merged", "m"), ("adapter", "a")):
        done = agentft("export", "clerk", "--to", form, "--out", str(job / out), "--probes", "3", "--json")
        found = json.loads(done.stdout)
        assert done.exit_code == 0 and found["agreements"][0]["prompts"] == 1.0 and found["agreements"][0]["probes"] == 3
    card = (job / "m" / "README.md").read_text("utf-8")
    assert "persona-adherence" in card and "jsonl (" in card and "recipe `clerk`" in card and "Stages: data" in card
    prompts = [Example(str(n), (Message("user", f"May I borrow book {n}?"),)) for n in range(3)]
    agents = (open_agent("clerk", runs=runs), open_agent(str(job / "m")))
    first, second = ([r.text for r in agent.generate(prompts, GenerationSettings(max_new_tokens=8))] for agent in agents)
    assert first == second
    # The base model of the run is another agent: exported, it is not what the adapter made of it.
    base = json.loads(agentft("export", "clerk", "--to", "merged", "--base", "--out", str(job / "b"), "--probes", "3", "--json").stdout)
    assert base["agreements"][0]["kl"] < 1e-5
    assert [r.text for r in open_agent(str(job / "b")).generate(prompts, GenerationSettings(max_new_tokens=8))] != first
