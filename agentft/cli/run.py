"""``agentft run``: the whole job of a recipe."""

from __future__ import annotations

import click

from agentft.cli.common import echo_json, json_option, make_store, open_session, runs_option, set_option


@click.command("run")
@click.argument("recipe")
@set_option
@runs_option
@click.option(
    "--until",
    type=click.Choice(["data", "rows", "train", "answers", "comparison", "rounds", "report"]),
    default="report",
    show_default=True,
    help="Last stage to run.",
)
@click.option("--dry-run", is_flag=True, help="Say what would run and why, and run nothing.")
@json_option
def command(recipe: str, overrides: tuple[str, ...], runs: str, until: str, dry_run: bool, as_json: bool) -> None:
    """Do everything that RECIPE says: data, training, evaluation, rounds of feedback, report.

    What is already there is reused; after an interruption (even kill -9) the same command continues.
    Exit code 1 if the last round of feedback was not promoted.
    """
    from agentft.cli.refine import leave
    from agentft.pipeline import Pipeline, WouldRun
    from agentft.progress import Lines, for_terminal

    session = open_session(recipe, overrides, runs)
    pipeline = Pipeline(session, make_store(runs), Lines() if as_json else for_terminal(), dry_run=dry_run)
    try:
        finished = pipeline.execute(until)
    except WouldRun as stop:
        if as_json:
            echo_json({"run": pipeline.run.id, "reused": stop.reused, "next": stop.stage, "why": stop.why})
        else:
            for name in stop.reused:
                click.echo(f"{name}: unchanged, would be reused")
            click.echo(f"{stop.stage}: would run ({stop.why}), and what depends on it")
        return
    manifest = finished.manifest
    if as_json:
        echo_json(manifest)
        leave(pipeline)
        return
    if until == "report":
        from agentft.cli.report import show

        show(finished.path)
    click.echo(f"run {finished.id} in {finished.path}")
    if dry_run:
        click.echo("everything is up to date; nothing would run")
    leave(pipeline)
