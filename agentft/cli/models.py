"""``agentft models``: what can be named under ``model:``, and fetching it beforehand."""

from __future__ import annotations

import click

from agentft.cli.common import echo_json, json_option, table


@click.group("models")
def command() -> None:
    """List and fetch models."""


@command.command("list")
@json_option
def list_models(as_json: bool) -> None:
    """Bundled models and those in the cache."""
    from agentft.engine.models import list_models as rows

    found = rows()
    if as_json:
        echo_json(found)
        return
    columns = list(found[0])
    table(columns, [[f"{row['size'] / 1e6:.0f} MB" if column == "size" else row[column] for column in columns] for row in found])
    click.echo("also: a hub id (org/name), a folder with safetensors, or a .gguf file")


@command.command("pull")
@click.argument("name")
def pull_model(name: str) -> None:
    """Fetch NAME (a bundled model or a hub id) into the cache, ready for use."""
    from agentft.engine.models import pull

    ref = pull(name)
    click.echo(f"{ref.reference}: {ref.path} ({ref.origin}, {ref.digest[:12]})")
