"""``agentft runs``: list, show, compare and clean up."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import click

from agentft.cli.common import comparison_row, echo_json, json_option, make_store, runs_option, table


@click.group("runs")
def command() -> None:
    """List, show, compare and clean up runs."""


@command.command("list")
@runs_option
@json_option
def list_runs(runs: str, as_json: bool) -> None:
    """All runs, the latest first."""
    found = make_store(runs).runs()
    if as_json:
        echo_json([{key: m[key] for key in ("id", "name", "status", "started", "updated")} for m in found])
    elif not found:
        click.echo(f"no runs in {Path(runs).absolute()}")
    else:
        table(["run", "status", "updated", "stages"], [[m["id"], m["status"], m["updated"][:19], len(m["stages"])] for m in found])


@command.command("show")
@click.argument("run")
@runs_option
@json_option
def show_run(run: str, runs: str, as_json: bool) -> None:
    """What RUN was made from, stage by stage, and why each stage ran."""
    manifest = make_store(runs).manifest(run)
    if as_json:
        echo_json(manifest)
        return
    click.echo(f"{manifest['id']}  {manifest['status']}  {manifest['updated'][:19]}")
    click.echo("  " + ", ".join(f"{name} {version}" for name, version in manifest.get("versions", {}).items()))
    click.echo(f"  model {manifest['model']['reference']} ({manifest['model']['origin']}, {manifest['model']['digest'][:12]})")
    table(["stage", "from", "key", "seconds", "MB", "why"], [_stage_row(stage) for stage in manifest["stages"]])


@command.command("compare")
@click.argument("first")
@click.argument("second")
@runs_option
@json_option
def compare_two(first: str, second: str, runs: str, as_json: bool) -> None:
    """Is SECOND better than FIRST? What both trained, paired on the test rows that both were measured on.

    Exit code 1 if a headline metric is significantly worse.
    """
    from agentft.reporting import headline
    from agentft.run_compare import compare_runs

    rows = [row.to_dict() for row in compare_runs(first, second, make_store(runs))]
    worse = [row["name"] for row in rows if row["verdict"] == "worse" and row["name"] in headline(rows)]
    if as_json:
        echo_json({"first": first, "second": second, "comparisons": rows, "worse": worse})
    else:
        shown = [comparison_row(row) for row in rows if not row["name"].startswith(("f1-macro/", "ner-f1/"))]
        table(["metric", "first", "second", "difference", "95 % interval", "n", "verdict"], shown)
    if worse:
        click.echo(f"worse than {first}: {', '.join(worse)}", err=True)
        raise click.exceptions.Exit(1)


def _stage_row(stage: dict[str, Any]) -> list[Any]:
    why = "reused" if stage["reused"] else stage["why"]
    return [stage["name"], ", ".join(stage["inputs"]), stage["key"][:10], f"{stage['seconds']:.1f}", stage["peak_memory_mb"], why]


@command.command("gc")
@runs_option
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
def collect(runs: str, yes: bool, as_json: bool) -> None:
    """Delete stages that no run refers to any more (delete a run's folder to give up its stages)."""
    store = make_store(runs)
    unused = store.unused()
    size = sum(file.stat().st_size for folder in unused for file in folder.rglob("*") if file.is_file())
    if as_json and not yes:
        echo_json({"unused": [folder.name for folder in unused], "bytes": size, "deleted": False})
        return
    if not unused:
        click.echo("nothing to delete")
        return
    if not as_json:
        for folder in unused:
            click.echo(folder.name)
    if not yes and not click.confirm(f"delete {len(unused)} folders ({size / 1e6:.1f} MB)?"):
        return
    for folder in unused:
        shutil.rmtree(folder)
    if as_json:
        echo_json({"unused": [folder.name for folder in unused], "bytes": size, "deleted": True})
    else:
        click.echo(f"deleted {len(unused)} folders, {size / 1e6:.1f} MB")
