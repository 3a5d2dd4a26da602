import click

import agentft
from agentft.components import CommandSpec


@agentft.hookimpl
def agentft_commands():
    return [CommandSpec("greet", "Say hello", "fake_greeter:greet"), CommandSpec("run", "Hides a built-in", "fake_greeter:greet")]


@click.command()
@click.argument("name")
def greet(name):
    """Say hello to NAME."""
    click.echo(f"hello {name}")
