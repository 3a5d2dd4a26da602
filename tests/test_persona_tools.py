"""Tools of a persona: described in its file, or a plugin's function by name."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from agentft.cli.main import cli
from agentft.errors import RecipeError
from agentft.host import Host
from agentft.persona import Persona, resolver

HEAD = "name: p\nsummary: s\nlanguage: en\nrole: You are a clerk.\n"
TRACK = "{name: track, description: Finds a parcel., parameters: {type: object, properties: {id: {type: string}}, required: [id]}}"


@pytest.fixture
def load(tmp_path, install):
    install("healthy")

    def read(text: str) -> Persona:
        path = tmp_path / "p.yaml"
        path.write_text(HEAD + text, "utf-8")
        return Persona.load(path, resolve=resolver(Host().catalog))

    return read


def test_a_plugin_brings_name_description_and_schema(load):
    persona = load(f"tools:\n  - {{use: weather/forecast}}\n  - {TRACK}\n")
    assert persona.schemas[0] == {
        "name": "forecast",
        "description": "Weather of a day",
        "parameters": {"type": "object", "properties": {"day": {"type": "integer"}}, "required": ["day"]},
    }
    assert [tool.get("use") for tool in persona.tools] == ["weather/forecast", None]
    assert Persona.from_dict(json.loads(json.dumps(persona.to_dict()))) == persona
    assert persona.context()["tools"] == list(persona.schemas)
    assert load("tools: [{use: weather/forecast, description: Ask the sky}]\n").schemas[0]["description"] == "Ask the sky"


@pytest.mark.parametrize(
    ("tools", "place", "message"),
    [
        ("  - {use: weather/forecst}", "6:11", "no tool 'weather/forecst' (did you mean 'weather/forecast'?)"),
        ("  - {use: nobody/forecast}", "6:11", "no plugin 'nobody' is installed"),
        ("  - {use: weather/forecast, name: sky}", "6:5", "'name' comes from 'weather/forecast'"),
        ("  - {name: sky, description: d}", "6:5", "'parameters' is missing (or name a plugin's function with use:)"),
        ("  - {uze: weather/forecast}", "6:6", "unknown key 'uze' (did you mean 'use'?)"),
        (
            "  - {use: weather/forecast}\n  - {name: forecast, description: d, parameters: {type: object}}",
            "7:5",
            "two tools have the name 'forecast'",
        ),
        ("  - {name: sky, description: d, parameters: {type: array}}", "6:45", "needs type: object"),
    ],
)
def test_mistakes_are_said_with_their_place(load, tools, place, message):
    with pytest.raises(RecipeError) as raised:
        load(f"tools:\n{tools}\n")
    text = str(raised.value)
    assert f"p.yaml:{place}: " in text and message in text


def test_without_plugins_a_function_cannot_be_found(tmp_path):
    (tmp_path / "p.yaml").write_text(HEAD + "tools: [{use: weather/forecast}]\n", "utf-8")
    with pytest.raises(RecipeError, match="no plugins are loaded here"):
        Persona.load(tmp_path / "p.yaml")


def test_tools_are_shown_on_the_command_line(tmp_path, install, monkeypatch):
    install("healthy")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.yaml").write_text(HEAD + f"tools: [{{use: weather/forecast}}, {TRACK}]\n", "utf-8")
    shown = CliRunner().invoke(cli, ["personas", "show", "p.yaml"]).output
    assert [line.split() for line in shown.splitlines() if line.strip().startswith(("forecast ", "track "))] == [
        ["forecast", "day", "weather/forecast", "Weather", "of", "a", "day"],
        ["track", "id", "nobody", "Finds", "a", "parcel."],
    ]
    parts = CliRunner().invoke(cli, ["plugins", "show", "weather"]).output
    assert all(kind in parts for kind in ("tool ", "environment ", "exporter "))
