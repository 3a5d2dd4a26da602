"""Commands that need no model, through the command line itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from agentft.cli.main import cli
from agentft.runs import Outcome, Store


@pytest.fixture
def agentft(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AGENTFT_CACHE", str(tmp_path / "cache"))

    def call(*arguments: str, code: int = 0, input: str | None = None):
        result = CliRunner().invoke(cli, arguments, input=input, catch_exceptions=True)
        if result.exception is not None and not isinstance(result.exception, SystemExit) and code == 0:
            raise result.exception
        if code:
            assert result.exit_code == code or type(result.exception).__name__.endswith("Error"), result.output
        return result

    return call


def test_plugin_command_is_listed_and_called(agentft, install):
    install("commanding")
    assert "greet" in agentft("--help").output
    assert agentft("greet", "you").output == "hello you\n"
    assert "greet" not in agentft("-p", "no:greeter", "--help").output


def test_broken_plugin_never_kills_help_and_is_shown_with_its_cause(agentft, install):
    install("broken", "healthy", "outdated", "collide_a", "collide_b", "mistyped")
    assert agentft("--help").exit_code == 0
    rows = {row["name"]: row for row in json.loads(agentft("plugins", "list", "--json").output)}
    assert rows["broken"]["status"] == "broken" and "a_module_that_does_not_exist" in rows["broken"]["cause"]
    parts = ("persona", "template", "source", "transform", "loss", "critic", "evaluator", "tool", "environment", "exporter")
    assert rows["weather"]["parts"] == dict.fromkeys(parts, 1)
    assert rows["outdated"]["status"] == "incompatible"


def test_plugin_show_and_doctor(agentft, install):
    install("healthy")
    shown = json.loads(agentft("plugins", "show", "weather", "--json").output)
    assert {part["name"] for part in shown["parts"]} >= {"weather/reports", "weather/forecaster"}
    install("broken")
    result = agentft("plugins", "doctor", "--json")
    assert result.exit_code == 1
    problems = [p for p in json.loads(result.output)["problems"] if "fake" in p or "broken" in p]
    assert any(p.startswith("broken (agentft-broken 0.3) is broken: import of fake_broken failed") for p in problems)


def test_doctor_finds_nothing_wrong_with_what_agentft_ships(agentft, monkeypatch):
    monkeypatch.setenv("AGENTFT_PLUGINS", "")
    result = agentft("plugins", "doctor", "--json")
    assert json.loads(result.output)["problems"] == [] and result.exit_code == 0


def test_personas_list_and_show(agentft, install):
    install("healthy")
    names = [row["name"] for row in json.loads(agentft("personas", "list", "--json").output)]
    assert {"assistant", "assistant-zh", "weather/forecaster"} <= set(names)
    assert json.loads(agentft("personas", "show", "weather/forecaster", "--json").output)["policies"][0]["id"] == "short"


@pytest.mark.parametrize("persona", ["assistant", "assistant-zh"])
def test_init_makes_a_recipe_that_passes_its_check(agentft, persona):
    agentft("init", "my agent", "--persona", persona)
    result = agentft("check", "my agent/recipe.yaml", "--json")
    assert json.loads(result.output)["ok"] is True, result.output
    again = agentft("init", "my agent", "--persona", persona, code=2)
    assert "is already there (use --force" in str(again.exception)
    assert agentft("init", "my agent", "--force").exit_code == 0


def test_check_reports_everything_at_once_with_places(agentft, tmp_path):
    (tmp_path / "r.yaml").write_text("name: x\nmodel: smollm2-135m\npersona: assistent\ntrian: []\nevaluate: [rogue]\n", "utf-8")
    problems = json.loads(agentft("check", "r.yaml", "--json").output)["problems"]
    assert [(p["line"], p["column"]) for p in problems][:1] == [(4, 1)]
    (tmp_path / "r.yaml").write_text("name: x\nmodel: smollm2-135m\npersona: assistent\nevaluate: [rogue]\n", "utf-8")
    problems = json.loads(agentft("check", "r.yaml", "--json").output)["problems"]
    assert [p["line"] for p in problems] == [3, 4]
    assert "assistant" in problems[0]["message"] + problems[0]["hint"] and "rouge" in problems[1]["message"] + problems[1]["hint"]


def test_runs_list_show_and_gc(agentft, tmp_path):
    assert "no runs in" in agentft("runs", "list").output
    run = Store(tmp_path / "runs").open("job-1", "job")
    run.start({"versions": {"agentft": "0"}, "model": {"reference": "m", "origin": "folder", "digest": "d" * 64}})
    run.stage("data", {}, {}, lambda out: Outcome())
    run.save("complete")
    (tmp_path / "runs" / "stages" / "data-old").mkdir()
    (tmp_path / "runs" / "stages" / "data-old" / "file").write_text("12345")
    assert json.loads(agentft("runs", "list", "--json").output)[0]["id"] == "job-1"
    assert json.loads(agentft("runs", "show", "job", "--json").output)["stages"][0]["name"] == "data"
    assert "data" in agentft("runs", "show", "job").output
    assert json.loads(agentft("runs", "gc", "--json").output) == {"unused": ["data-old"], "bytes": 5, "deleted": False}
    assert agentft("runs", "gc", input="n\n").exit_code == 0 and (tmp_path / "runs" / "stages" / "data-old").exists()
    agentft("runs", "gc", "--yes")
    assert not (tmp_path / "runs" / "stages" / "data-old").exists() and Store(tmp_path / "runs").manifest("job")["stages"]


def test_init_keeps_what_is_practised_on_out_of_the_evaluation(agentft):
    agentft("init", "support", "--persona", "customer-service/support")
    text = Path("support/recipe.yaml").read_text("utf-8")
    assert "  prompts: [customer-service/prompts]\n" in text and "refine:\n  rounds: 1\n  prompts: [customer-service/queries]\n" in text
    agentft("init", "reader", "--persona", "tutoring/reading-tutor")
    assert "refine:" not in Path("reader/recipe.yaml").read_text("utf-8"), "there is nothing to practise on for this persona"
