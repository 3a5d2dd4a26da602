"""``agentft``: the lazy command table and the place where errors become one line and an exit code."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import Any

import click

from agentft import __version__
from agentft.cli.table import COMMANDS


class LazyGroup(click.Group):
    """Knows names and one-line helps of all commands; imports a command when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*COMMANDS, *_plugin_commands(ctx)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        target = (
            f"agentft.cli.{cmd_name.replace('-', '_')}:command"
            if cmd_name in COMMANDS
            else _plugin_commands(ctx, cmd_name).get(cmd_name, ("", ""))[0]
        )
        if not target:
            return None
        module, _, attribute = target.partition(":")
        return getattr(import_module(module), attribute)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        from agentft.errors import did_you_mean

        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            raise click.UsageError(f"{error.message.rstrip('.')} ({did_you_mean(args[0], self.list_commands(ctx))})", ctx) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        # Not through get_command: a help page must not import what it lists.
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))
        from_plugins = _plugin_commands(ctx)
        if from_plugins:
            with formatter.section("Commands from plugins"):
                formatter.write_dl([(name, summary) for name, (_, summary) in from_plugins.items()])


def _plugin_commands(ctx: click.Context, name: str = "") -> dict[str, tuple[str, str]]:
    """Name -> (target, summary) of the commands that plugins add."""
    from agentft.cli.plugin_commands import find

    return find(ctx.params.get("plugin") or (), name)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="agentft")
@click.option("-p", "plugin", multiple=True, is_eager=True, metavar="no:NAME", help="Do not load the plugin NAME.")
def cli(plugin: tuple[str, ...]) -> None:
    """Customise the behaviour of LLM agents: personas, plugins, fine-tuning, honest evaluation.

    \b
    Start:  agentft init my-agent --persona customer-service/support
            agentft run my-agent/recipe.yaml
            agentft chat my-agent
    """
    wrong = [value for value in plugin if not value.startswith("no:")]
    if wrong:
        raise click.UsageError(f"-p takes no:NAME, not '{wrong[0]}'")


def main() -> None:
    """Entry point. A user's mistake: its message and exit code 2. A failed comparison: 1. Our bug: a traceback.

    Of several processes (torchrun) the first does what the command line says; the others help where it calls them.
    """
    if os.environ.get("WORLD_SIZE", "1") == "1":
        _main()
        return
    import signal

    from agentft import processes

    if processes.rank():
        sys.exit(processes.serve())
    # torchrun sends it when another process has failed; the run should be left as one that was interrupted.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    code: object = 1
    try:
        _main()
        code = 0
    except SystemExit as stop:
        code = stop.code
        raise
    finally:
        processes.release(code if isinstance(code, int) else int(code is not None))


def _main() -> None:
    try:
        # Outside of its standalone mode click turns `Exit` into a return value; commands return nothing else.
        code = cli.main(standalone_mode=False)
        if isinstance(code, int) and code:
            sys.exit(code)
    except click.Abort:
        click.echo("interrupted; the same command continues where it stopped", err=True)
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except BrokenPipeError:
        # The reader (head, less) has seen enough; keep Python from complaining at shutdown.
        sys.stdout = None
        sys.exit(0)
    except Exception as error:
        from agentft import processes
        from agentft.errors import UserError

        if not processes.first_to_fail():  # another process has said why
            sys.exit(getattr(error, "exit_code", 1))
        if not isinstance(error, UserError):
            raise
        for line in str(error).splitlines():
            click.echo(f"error: {line}", err=True)
        sys.exit(error.exit_code)
