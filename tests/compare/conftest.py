"""A small suite with a persona and prompts, the command line, and a server that answers."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from agentft.cli.main import cli
from agentft.host import Host
from agentft.pipeline import Pipeline
from agentft.runs import Store
from agentft.session import open_recipe

PERSONA = """\
name: clerk
summary: A clerk who is brief
language: en
role: You are a clerk at the counter of a small library.
policies:
  - {id: brief, text: Answer in at most 20 words., severity: hard, rule: {words: {max: 20}}}
  - {id: polite, text: Say please., kind: substance, rule: {contains: {any: [please]}}}
"""
SUITE = """\
name: desk
persona: clerk.yaml
prompts: [{use: jsonl, path: prompts.jsonl}]
evaluate: [persona-adherence, relevance, length]
slices: [kind]
generation: {max_new_tokens: 6, batch_size: 4}
"""

RECIPE = """\
name: clerk
model: {model}
persona: clerk.yaml
data:
  prompts: [{{use: jsonl, path: prompts.jsonl}}]
  sources: [{{use: jsonl, path: talks.jsonl}}]
  split: {{validation: 0.1, test: 0.2}}
train: [{{use: sft, strategy: {{lora: {{r: 4}}}}, epochs: 1, batch_size: 4, learning_rate: 1e-2}}]
generation: {{max_new_tokens: 5, batch_size: 4}}
evaluate: [persona-adherence, relevance]
device: {{device: cpu, train_dtype: fp32, threads: 1}}
"""


def fill(folder: Path) -> None:
    """``suite.yaml``, its persona, and 12 prompts of two kinds."""
    rows = [
        {
            "id": f"p{n}",
            "group": f"g{max(n, 1)}",
            "messages": [{"role": "user", "content": f"May I borrow book {n}?"}],
            "meta": {"kind": "old" if n % 3 else "new", "facts": [["book"], [str(n)]]},
        }
        for n in range(12)
    ]
    (folder / "prompts.jsonl").write_text("\n".join(map(json.dumps, rows)), "utf-8")
    (folder / "clerk.yaml").write_text(PERSONA, "utf-8")
    (folder / "suite.yaml").write_text(SUITE, "utf-8")


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with ``suite.yaml`` and what it names; the current folder."""
    fill(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AGENTFT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("AGENTFT_RUNS", str(tmp_path / "runs"))
    return tmp_path


@pytest.fixture
def agentft() -> Callable[..., Any]:
    """``agentft("evaluate", ..., code=1)``: a command with the exit code that it must have."""

    def call(*arguments: str, code: int = 0) -> Any:
        result = CliRunner().invoke(cli, arguments)
        found = getattr(result.exception, "exit_code", result.exit_code)
        if found != code or (code == 0 and result.exception and not isinstance(result.exception, SystemExit)):
            raise AssertionError(f"exit code {found}, not {code}: {result.output}\n{result.exception!r}") from result.exception
        return result

    return call


@pytest.fixture(scope="session")
def made(tmp_path_factory, tiny_ref) -> tuple[Path, str]:
    """A folder with a run of a small recipe in ``runs``, and the run's id; made once."""
    folder = tmp_path_factory.mktemp("made")
    fill(folder)
    talks = [
        {
            "id": f"t{n}",
            "messages": [{"role": "user", "content": f"Where is shelf {n}?"}, {"role": "assistant", "content": f"Please, at {n}."}],
        }
        for n in range(20)
    ]
    (folder / "talks.jsonl").write_text("\n".join(map(json.dumps, talks)), "utf-8")
    (folder / "recipe.yaml").write_text(RECIPE.format(model=tiny_ref.path), "utf-8")
    pipeline = Pipeline(open_recipe(folder / "recipe.yaml", (), Host()), Store(folder / "runs"))
    pipeline.execute("comparison")
    return folder, pipeline.run.id


@pytest.fixture
def run(made: tuple[Path, str], desk: Path) -> str:
    """The id of a run of a small recipe, in a ``./runs`` of the test's own."""
    shutil.copytree(made[0] / "runs", desk / "runs")
    return made[1]
