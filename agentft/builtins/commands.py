"""Built-in commands; their table is in :mod:`agentft.cli.table`."""

from __future__ import annotations

from agentft.cli.table import COMMANDS
from agentft.components import CommandSpec
from agentft.hookspecs import hookimpl


@hookimpl
def agentft_commands() -> list[CommandSpec]:
    return [CommandSpec(name, summary, f"agentft.cli.{name.replace('-', '_')}:command") for name, summary in COMMANDS.items()]
