"""``agentft report``: where the report of a run is, and its headline in the terminal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from agentft.cli.common import echo_json, json_option, make_store, runs_option
from agentft.errors import UserError


@click.command("report")
@click.argument("run")
@runs_option
@click.option("--open", "open_it", is_flag=True, help="Open the page in a browser.")
@click.option("--rebuild", is_flag=True, help="Render the page again, for example after an update of agentft.")
@click.option("--png", type=click.Path(file_okay=False), help="Write the pictures for a README into this folder.")
@json_option
def command(run: str, runs: str, open_it: bool, rebuild: bool, png: str | None, as_json: bool) -> None:
    """Show the report of RUN (an id, a folder, or a recipe name: its latest run)."""
    store = make_store(runs)
    manifest = store.manifest(run)
    folder = store.root / manifest["id"]
    if not (folder / "report.json").is_file():
        raise UserError(f"run {manifest['id']} has no report yet (status: {manifest['status']}); continue it with `agentft run`")
    if rebuild or png or as_json:
        data = json.loads((folder / "report.json").read_text("utf-8"))
    if rebuild:
        from agentft.report import render_report
        from agentft.runs import write_atomic

        write_atomic(folder / "report.html", render_report(data))
    if png:
        pictures(data, Path(png))
    if as_json:
        echo_json(data)
        return
    show(folder)
    if open_it:
        click.launch((folder / "report.html").as_uri())


def pictures(data: dict[str, Any], folder: Path) -> None:
    """``overview.png`` and ``rounds.png``, each where there is something to draw."""
    from agentft.report import save_overview_png, save_rounds_png

    folder.mkdir(parents=True, exist_ok=True)
    for save, name in ((save_overview_png, "overview.png"), (save_rounds_png, "rounds.png")):
        try:
            click.echo(f"{save(data, folder / name)}", err=True)
        except ValueError as nothing:
            click.echo(f"no {name}: {nothing}", err=True)


def show(folder: Path) -> None:
    """Print the headline and the place of the page."""
    from agentft.report import summary_text

    click.echo(summary_text(json.loads((folder / "report.json").read_text("utf-8"))))
    click.echo(f"report: {folder / 'report.html'}")
