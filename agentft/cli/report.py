"""``agentft report``: where the report of a run is, and its headline in the terminal."""

from __future__ import annotations

import json
from pathlib import Path

import click

from agentft.cli.common import echo_json, json_option, make_store, runs_option
from agentft.errors import UserError


@click.command("report")
@click.argument("run")
@runs_option
@click.option("--open", "open_it", is_flag=True, help="Open the page in a browser.")
@click.option("--rebuild", is_flag=True, help="Render the page again, for example after an update of agentft.")
@json_option
def command(run: str, runs: str, open_it: bool, rebuild: bool, as_json: bool) -> None:
    """Show the report of RUN (an id, a folder, or a recipe name: its latest run)."""
    store = make_store(runs)
    manifest = store.manifest(run)
    folder = store.root / manifest["id"]
    if not (folder / "report.json").is_file():
        raise UserError(f"run {manifest['id']} has no report yet (status: {manifest['status']}); continue it with `agentft run`")
    if rebuild:
        from agentft.report import render_report
        from agentft.runs import write_atomic

        write_atomic(folder / "report.html", render_report(json.loads((folder / "report.json").read_text("utf-8"))))
    if as_json:
        echo_json(json.loads((folder / "report.json").read_text("utf-8")))
        return
    show(folder)
    if open_it:
        click.launch((folder / "report.html").as_uri())


def show(folder: Path) -> None:
    """Print the headline and the place of the page."""
    from agentft.report import summary_text

    click.echo(summary_text(json.loads((folder / "report.json").read_text("utf-8"))))
    click.echo(f"report: {folder / 'report.html'}")
