"""Plugins are found through real entry points of (fake) installed distributions."""

from __future__ import annotations

import pytest

from agentft.errors import PluginError
from agentft.host import Host


def status(host: Host, name: str) -> tuple[str, str]:
    plugin = host.plugin(name)
    assert plugin is not None
    return plugin.status, plugin.cause


def test_healthy_plugin_gets_its_namespace(install):
    install("healthy")
    host = Host()
    entry = host.catalog.get("source", "weather/reports")
    assert (entry.distribution, entry.version) == ("agentft-weather", "1.2.0")
    assert host.catalog.target(entry).__name__ == "reports"
    assert "dedup" in host.catalog.names("transform")  # built-ins are bare


def test_broken_import_is_recorded_and_named_when_needed(install):
    install("broken", "healthy")
    host = Host()
    assert status(host, "broken") == (
        "broken",
        "import of fake_broken failed: ModuleNotFoundError: No module named 'a_module_that_does_not_exist'",
    )
    assert "weather/reports" in host.catalog.names("source")
    with pytest.raises(PluginError, match=r"'broken' \(agentft-broken 0.3\), which is broken: import of fake_broken failed"):
        host.catalog.get("source", "broken/anything")


def test_strict_raises_the_first_failure(install, monkeypatch):
    install("broken")
    monkeypatch.setenv("AGENTFT_STRICT_PLUGINS", "1")
    with pytest.raises(ModuleNotFoundError):
        Host()


def test_two_distributions_of_one_name_are_named_both(install):
    install("collide_a", "collide_b")
    kind, cause = status(Host(), "twin")
    assert kind == "broken"
    assert "agentft-first 1.0" in cause and "agentft-second 2.0" in cause


def test_mistyped_hook_gets_a_suggestion(install):
    install("mistyped")
    assert status(Host(), "mistyped") == ("broken", "there is no hook 'agentft_evaluator' (did you mean 'agentft_evaluators'?)")


def test_hook_with_an_argument_that_does_not_exist(install):
    install("wrong_argument")
    kind, cause = status(Host(), "wrongarg")
    assert kind == "broken"
    assert "agentft_resolve_model" in cause


def test_built_for_another_agentft(install):
    install("outdated")
    kind, cause = status(Host(), "outdated")
    assert kind == "incompatible"
    assert cause.startswith("built for agentft<0.1, this is agentft ")


def test_blocked_plugin_is_not_even_imported(install):
    install("blockable")
    assert status(Host(block=["blockable"]), "blockable") == ("blocked", "blocked by -p no:blockable")
    assert status(Host(), "blockable")[0] == "broken"


@pytest.mark.parametrize(("value", "expected"), [("", "blocked"), ("weather", "loaded"), ("other,weather", "loaded"), ("other", "blocked")])
def test_environment_limits_plugins(install, monkeypatch, value, expected):
    install("healthy")
    monkeypatch.setenv("AGENTFT_PLUGINS", value)
    assert status(Host(), "weather")[0] == expected


def test_command_is_added_and_cannot_hide_a_built_in_one(install):
    install("commanding")
    catalog = Host().catalog
    assert catalog.get("command", "greet").plugin.name == "greeter"
    assert catalog.get("command", "run").plugin.builtin
    assert catalog.problems == ["command 'run' of agentft-greeter is not used: agentft already has one of that name"]


def test_replacing_a_built_in_needs_a_recipe_that_requires_the_plugin(install):
    install("replacing")
    catalog = Host().catalog
    assert catalog.get("transform", "dedup").plugin.builtin, "installed is not active"
    assert catalog.activate(["agentft-replacing"]).get("transform", "dedup").plugin.name == "replacing"


def test_wrong_return_value_takes_the_whole_plugin_out(install):
    install("bad_returns")
    host = Host()
    assert "badreturns/fine" not in host.catalog.names("source")
    assert status(host, "badreturns") == ("broken", "agentft_personas: returned str, expected PersonaSpec")


def test_unknown_names_get_a_suggestion(install):
    install("healthy")
    catalog = Host().catalog
    with pytest.raises(PluginError, match="did you mean 'weather/reports'"):
        catalog.get("source", "weather/report")
    with pytest.raises(PluginError, match="did you mean 'weather/reports'"):
        catalog.get("source", "reports")
    with pytest.raises(PluginError, match="pip install agentft-nowhere"):
        catalog.get("source", "nowhere/reports")


def test_hosts_do_not_share_state(install):
    install("healthy")
    blocked, free = Host(block=["weather"]), Host()
    assert "weather/reports" not in blocked.catalog.names("source")
    assert "weather/reports" in free.catalog.names("source")
