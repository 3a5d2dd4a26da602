"""``agentft plugins``: what is installed, what it contributes, and what is wrong with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from agentft.cli.common import echo_json, json_option, make_host, table

if TYPE_CHECKING:
    from agentft.catalog import Catalog, Entry
    from agentft.host import Host


@click.group("plugins", invoke_without_command=True)
@click.pass_context
def command(ctx: click.Context) -> None:
    """List, show and examine plugins."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_plugins)


@command.command("list")
@json_option
def list_plugins(as_json: bool = False) -> None:
    """Installed plugins with distribution, version, status and the cause of a failure."""
    host = make_host()
    counts = _counts(host)
    rows = [{**vars(p), "parts": counts.get(p.name, {})} for p in host.plugins]
    if as_json:
        echo_json(rows)
    elif not rows:
        click.echo("no plugins installed; try: pip install agentft-customer-service")
    else:
        table(
            ["plugin", "distribution", "version", "status", "parts or cause"],
            [[r["name"], r["distribution"], r["version"], r["status"], r["cause"] or _counted(r["parts"])] for r in rows],
        )
    for problem in host.catalog.problems:
        click.echo(f"note: {problem}", err=True)


@command.command("show")
@click.argument("name")
@json_option
def show_plugin(name: str, as_json: bool) -> None:
    """The parts that the plugin NAME contributes (`builtin` shows agentft's own)."""
    from agentft.catalog import KINDS
    from agentft.errors import PluginError, did_you_mean

    host = make_host()
    catalog = host.catalog
    plugin = host.plugin(name)
    if name != "builtin" and (plugin is None or plugin.builtin):
        raise PluginError(f"no plugin '{name}' ({did_you_mean(name, [p.name for p in host.plugins])})")
    entries = [e for kind in KINDS for e in catalog.entries(kind) if (e.plugin.builtin if name == "builtin" else e.plugin.name == name)]
    if as_json:
        echo_json({"plugin": vars(plugin) if plugin else "builtin", "parts": [_described(entry) for entry in entries]})
        return
    if plugin is not None:
        click.echo(f"{plugin.name}: {plugin.distribution} {plugin.version}, {plugin.status} {plugin.cause}".rstrip())
    # A tool that changes something is told from one that only looks.
    marks = {True: " (writes)", False: ""}
    table(["kind", "name", "summary"], [[e.kind, e.name, e.spec.summary + marks[getattr(e.spec, "writes", False)]] for e in entries])


@command.command("doctor")
@json_option
def doctor(as_json: bool) -> None:
    """Import every part, load every persona and template, and list what fails. Exit code 1 if something does."""
    host = make_host()
    problems = [
        f"{p.name} ({p.distribution} {p.version}) is {p.status}: {p.cause}" for p in host.plugins if p.status not in ("loaded", "blocked")
    ]
    problems += host.catalog.problems
    checked = 0
    for entry in _entries(host):
        checked += 1
        problem = _examine(host.catalog, entry)
        if problem:
            problems.append(f"{entry.kind} '{entry.name}' of {entry.distribution}: {problem}")
    if as_json:
        echo_json({"checked": checked, "problems": problems})
    else:
        for problem in problems:
            click.echo(f"problem: {problem}")
        click.echo(f"{checked} parts of {1 + len(host.plugins)} distributions examined, {len(problems)} problems")
    if problems:
        raise click.exceptions.Exit(1)


def _examine(catalog: Catalog, entry: Entry) -> str:
    from agentft.errors import UserError
    from agentft.jinja import environment
    from agentft.persona import load_persona

    try:
        if entry.kind == "persona":
            load_persona(catalog, entry.name)
        elif entry.kind == "template":
            environment().parse(catalog.path(entry).read_text("utf-8"))
        else:
            catalog.target(entry)
            catalog.config_model(entry)
    except UserError as error:
        return str(error)
    except Exception as error:  # whatever a foreign module does at import is its problem, and is shown
        return f"{type(error).__name__}: {error}"
    return ""


def _entries(host: Host) -> list[Entry]:
    from agentft.catalog import KINDS

    return [entry for kind in KINDS for entry in host.catalog.entries(kind)]


def _counts(host: Host) -> dict[str, dict[str, int]]:
    counts: dict[str, dict[str, int]] = {}
    for entry in _entries(host):
        by_kind = counts.setdefault(entry.plugin.name, {})
        by_kind[entry.kind] = by_kind.get(entry.kind, 0) + 1
    return counts


def _counted(parts: dict[str, int]) -> str:
    return ", ".join(f"{count} {kind}{'s' if count != 1 else ''}" for kind, count in parts.items())


def _described(entry: Entry) -> dict[str, Any]:
    return {**vars(entry.spec), "kind": entry.kind, "name": entry.name}
