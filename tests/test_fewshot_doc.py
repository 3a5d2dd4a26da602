"""The recipes of docs/few-shot.md pass the check, and its Python runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from agentft.check import check_recipe
from agentft.host import Host
from agentft.recipe import Recipe

PAGE = (Path(__file__).parents[1] / "docs" / "few-shot.md").read_text("utf-8")
RECIPES = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize("text", RECIPES, ids=lambda text: text.partition("\n")[0])
def test_the_recipe_passes_the_check(tmp_path, text):
    for name in ("conversations.jsonl", "train.csv"):
        (tmp_path / name).write_text("{}\n", "utf-8")
    (tmp_path / "recipe.yaml").write_text(text, "utf-8")
    assert check_recipe(Recipe.load(tmp_path / "recipe.yaml"), Host(allow=()).catalog) == []


def test_the_python_runs(tiny_ref, cpu, monkeypatch, capsys):
    import agentft
    from agentft.api import Agent
    from agentft.engine.agent import LoadedAgent

    monkeypatch.setattr(agentft, "load_agent", lambda name: Agent(name, LoadedAgent.load(tiny_ref, profile=cpu)), raising=False)
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(code, {})
    assert re.match(r"\[\{'yes': 0\.\d+, 'no': 0\.\d+\}\]", capsys.readouterr().out)
