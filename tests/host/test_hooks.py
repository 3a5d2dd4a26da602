"""One test per hook, named after it, and the snapshot of all signatures."""

from __future__ import annotations

import inspect
import re
import sys
from pathlib import Path

import pytest

from agentft import docs_hooks, hookspecs
from agentft.events import RunStarted
from agentft.host import Host

SIGNATURES = {
    "agentft_personas": "() -> 'Iterable[PersonaSpec]'",
    "agentft_templates": "() -> 'Iterable[TemplateSpec]'",
    "agentft_sources": "() -> 'Iterable[SourceSpec]'",
    "agentft_transforms": "() -> 'Iterable[TransformSpec]'",
    "agentft_trainers": "() -> 'Iterable[TrainerSpec]'",
    "agentft_losses": "() -> 'Iterable[LossSpec]'",
    "agentft_critics": "() -> 'Iterable[CriticSpec]'",
    "agentft_evaluators": "() -> 'Iterable[EvaluatorSpec]'",
    "agentft_backends": "() -> 'Iterable[BackendSpec]'",
    "agentft_tools": "() -> 'Iterable[ToolSpec]'",
    "agentft_environments": "() -> 'Iterable[EnvironmentSpec]'",
    "agentft_exporters": "() -> 'Iterable[ExporterSpec]'",
    "agentft_commands": "() -> 'Iterable[CommandSpec]'",
    "agentft_check_recipe": "(recipe: 'Recipe', catalog: 'Catalog') -> 'Iterable[Problem]'",
    "agentft_resolve_model": "(reference: 'str') -> 'ModelRef | None'",
    "agentft_observe": "(event: 'Event') -> 'Any'",
}


@pytest.fixture
def host(install) -> Host:
    install("healthy")
    return Host()


def test_signatures_only_ever_grow():
    found = {name: str(inspect.signature(value)) for name, value in vars(hookspecs).items() if name.startswith("agentft_")}
    assert found == SIGNATURES


def test_every_hook_has_a_test_and_its_signature_in_the_docs():
    source = Path(__file__).read_text("utf-8")
    assert docs_hooks.PAGE.read_text("utf-8") == docs_hooks.page(), "run: python -m agentft.docs_hooks"
    for name in SIGNATURES:
        assert f"def test_hook_{name}(" in source
        assert re.search(rf"^def {name}\(", docs_hooks.page(), re.MULTILINE), name


def test_hook_agentft_personas(host):
    entry = host.catalog.get("persona", "weather/forecaster")
    assert host.catalog.path(entry).read_text("utf-8").startswith("name: forecaster")


def test_hook_agentft_templates(host):
    assert host.catalog.path(host.catalog.get("template", "weather/terse")).read_text("utf-8") == "{{ role }}\n"


def test_hook_agentft_sources(host):
    from agentft.contracts import DataContext

    rows = list(host.catalog.target(host.catalog.get("source", "weather/reports"))(None, DataContext()))
    assert len(rows) == 12 and rows[0].messages[0].role == "user"


def test_hook_agentft_transforms(host):
    from agentft.contracts import DataContext

    source = host.catalog.target(host.catalog.get("source", "weather/reports"))
    shout = host.catalog.target(host.catalog.get("transform", "weather/shout"))
    assert next(shout(source(None, DataContext()), None, DataContext())).messages[0].content == "WILL IT RAIN ON DAY 0?"


def test_hook_agentft_trainers(host):
    entry = host.catalog.get("trainer", "sft")
    assert entry.plugin.builtin and entry.spec.produces == "model"


def test_hook_agentft_losses(host):
    import torch

    from agentft.contracts import LossContext

    assert {"cross-entropy", "focal", "mse", "huber"} <= set(host.catalog.names("loss"))
    assert host.catalog.get("loss", "weather/cautious").distribution == "agentft-weather"
    loss = host.catalog.target(host.catalog.get("loss", "mae"))
    assert loss(torch.tensor([[1.0]]), torch.tensor([3.0]), None, LossContext("regress")).tolist() == [2.0]


def test_hook_agentft_critics(host):
    from agentft.records import Example, Message, Response

    critic = host.catalog.target(host.catalog.get("critic", "weather/umbrella"))
    (found,) = critic([Example("a", (Message("user", "?"),))], [Response("a", "It is dry.")], None, None)
    assert found.verdicts[0].verdict == "fail" and found.critique == "Mention the umbrella."


def test_hook_agentft_evaluators(host):
    from agentft.records import Example, Message, Response, Sample

    target = host.catalog.target(host.catalog.get("evaluator", "weather/mentions-sky"))
    samples = [Sample(Example("a", (Message("user", "?"),)), Response("a", "The sky is grey."))]
    assert target(samples, None, None, None)[0].value == 1.0


def test_hook_agentft_backends(host):
    assert host.catalog.get("backend", "transformers").spec.consumes == "prompt"


def test_hook_agentft_tools(host):
    from agentft.environments import ToolContext

    entry = host.catalog.get("tool", "weather/forecast")
    assert entry.spec.parameters["required"] == ["day"] and not entry.spec.writes
    assert host.catalog.target(entry)({"day": 2}, ToolContext()) == "Day 2: dry."


def test_hook_agentft_environments(host):
    from agentft.environments import SuiteContext

    suite = host.catalog.target(host.catalog.get("environment", "weather/station"))(None, SuiteContext())
    world = suite.open(suite.tasks[0])
    assert world.call("forecast", {"day": 1}).content == "Day 1: dry." and world.call("storm", {}).error


def test_hook_agentft_exporters(host, tmp_path):
    entry = host.catalog.get("exporter", "weather/postcard")
    assert entry.spec.kinds == ("model",) and entry.distribution == "agentft-weather"
    # What it writes and how it is refused: tests/export/test_check.py
    assert host.catalog.config_model(entry)().noise == 0


def test_hook_agentft_commands(install):
    install("commanding")
    assert "greet" in Host().catalog.names("command")


def test_hook_agentft_check_recipe(host):
    from types import SimpleNamespace

    recipe = SimpleNamespace(name="storm")
    assert [p.message for p in host.check_recipe(recipe, active={"weather"})] == ["storms are not allowed here"]
    assert host.check_recipe(recipe, active=set()) == [], "installed is not active"


def test_hook_agentft_resolve_model(host):
    assert host.resolve_model("cloud").origin == "weather"


def test_hook_agentft_observe(host, caplog):
    host.observe(RunStarted("r", "recipe"))
    assert [RunStarted("r", "recipe")] == sys.modules["fake_weather"].SEEN


def test_an_observer_that_fails_is_logged_and_goes_no_further(caplog):
    from types import ModuleType

    import agentft

    module = ModuleType("grumpy")

    @agentft.hookimpl
    def agentft_observe(event):
        raise RuntimeError("not today")

    module.agentft_observe = agentft_observe
    Host(extra=[("grumpy", module)]).observe(RunStarted("r", "recipe"))
    assert "plugin 'grumpy' failed in agentft_observe: RuntimeError: not today" in caplog.text
