"""``agentft personas``: list, show, render."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agentft.cli.common import echo_json, json_option, make_host, table

if TYPE_CHECKING:
    from agentft.catalog import Catalog
    from agentft.persona import Persona


@click.group("personas")
def command() -> None:
    """List, show and render personas."""


@command.command("list")
@json_option
def list_personas(as_json: bool) -> None:
    """All personas that can be named in a recipe."""
    rows = [
        {"name": e.name, "language": e.spec.language, "summary": e.spec.summary, "distribution": e.distribution}  # type: ignore[attr-defined]
        for e in make_host().catalog.entries("persona")
    ]
    if as_json:
        echo_json(rows)
    else:
        table(["persona", "language", "summary", "from"], [list(row.values()) for row in rows])


@command.command("show")
@click.argument("name")
@click.option("--var", "variables", multiple=True, metavar="NAME=VALUE", help="Value of a variable.")
@json_option
def show_persona(name: str, variables: tuple[str, ...], as_json: bool) -> None:
    """The persona NAME (or a .yaml file) with inheritance merged and variables filled in."""
    _, persona = _load(name, variables)
    if as_json:
        echo_json(persona.to_dict())
        return
    click.echo(f"{persona.name} ({persona.language}): {persona.summary}")
    click.echo(f"extends {persona.extends}" if persona.extends else "extends nothing")
    click.echo(f"variables: {', '.join(f'{k}={v}' for k, v in persona.variables.items()) or 'none'}")
    table(
        ["policy", "severity", "kind", "decided by", "text"],
        [[p.id, p.severity, p.kind, "a judge" if p.rule is None else next(iter(p.rule)), p.text] for p in persona.policies],
    )
    if persona.tools:
        table(["tool", "arguments", "run by", "what it does"], [_tool_row(tool) for tool in persona.tools])


@command.command("render")
@click.argument("name")
@click.option("--var", "variables", multiple=True, metavar="NAME=VALUE", help="Value of a variable.")
@click.option("--model", default="smollm2-135m", show_default=True, help="Model whose tokenizer counts.")
@json_option
def render_persona(name: str, variables: tuple[str, ...], model: str, as_json: bool) -> None:
    """The exact system prompt of the persona NAME (or a .yaml file), and how many tokens it costs on every row."""
    from agentft.engine.models import load_tokenizer
    from agentft.persona import template_path
    from agentft.render.conversation import Renderer
    from agentft.render.system import system_prompt

    catalog, persona = _load(name, variables)
    text = system_prompt(persona, template_path(persona, catalog).read_text("utf-8"))
    tokenizer = load_tokenizer(make_host().resolve_model(model))
    if persona.tools:  # a chat template that shows tools itself does so in its own words, which are not the persona's
        text = Renderer(tokenizer, text, tools=persona.schemas).shown_system
    tokens = len(tokenizer(text, add_special_tokens=False)["input_ids"])
    if as_json:
        echo_json({"persona": persona.name, "model": model, "tokens": tokens, "system_prompt": text})
    else:
        click.echo(text)
        click.echo(f"-- {tokens} tokens ({model})", err=True)


def _tool_row(tool: Mapping[str, Any]) -> list[str]:
    schema = tool["parameters"]
    named = [f"{name}{'' if name in schema.get('required', ()) else '?'}" for name in schema.get("properties", {})]
    return [tool["name"], ", ".join(named) or "none", tool.get("use", "nobody"), tool["description"]]


def _load(name: str, variables: Sequence[str]) -> tuple[Catalog, Persona]:
    from agentft.persona import Persona, persona_path, resolver
    from agentft.yamlio import parse_value

    wrong = [pair for pair in variables if "=" not in pair]
    if wrong:
        raise click.UsageError(f"--var takes NAME=VALUE, not '{wrong[0]}'")
    values: dict[str, Any] = {key: parse_value(value) for key, _, value in (pair.partition("=") for pair in variables)}
    catalog = make_host().catalog
    resolve = resolver(catalog)
    return catalog, Persona.load(persona_path(name, Path.cwd(), resolve), resolve=resolve, values=values)
