"""``agentft refine``: rounds of feedback, with an exit code for CI."""

from __future__ import annotations

from typing import Any

import click

from agentft.cli.common import echo_json, json_option, make_store, open_session, runs_option, set_option


@click.command("refine")
@click.argument("recipe")
@set_option
@runs_option
@click.option("--rounds", type=click.IntRange(min=1), help="Go on until so many rounds are decided; default: refine.rounds of the recipe.")
@click.option("--next", "next_", is_flag=True, help="One round after those that are decided.")
@click.option("--dry-run", is_flag=True, help="Say what would run and why, and run nothing.")
@json_option
def command(recipe: str, overrides: tuple[str, ...], runs: str, rounds: int | None, next_: bool, dry_run: bool, as_json: bool) -> None:
    """Improve the agent of RECIPE (a file, or a run) in rounds of feedback; trains it first if that has not been done.

    A round lets the champion answer, criticises and revises the answers, trains a candidate on the pairs, and promotes it only
    if the gate says that it is better. Exit code 1 if the last round was rejected or inconclusive: the champion stays.
    What people said on `agentft annotate` since the last round takes part.
    """
    from agentft.errors import UserError
    from agentft.pipeline import Pipeline, WouldRun
    from agentft.progress import Lines, for_terminal

    if rounds is not None and next_:
        raise click.UsageError("--rounds and --next exclude each other")
    session = open_session(recipe, overrides, runs)
    if session.recipe.refine is None:
        raise UserError(f"{recipe} has no `refine:`; see docs/rounds.md for one to start from")
    pipeline = Pipeline(session, make_store(runs), Lines() if as_json else for_terminal(), dry_run=dry_run)
    assert pipeline.rounds is not None
    total = len(pipeline.rounds.lineage.rounds) + 1 if next_ else rounds
    try:
        finished = pipeline.execute("report", rounds=total)
    except WouldRun as stop:
        click.echo(f"{stop.stage}: would run ({stop.why}), and what depends on it")
        return
    data = pipeline.rounds.lineage.data
    if as_json:
        echo_json({"run": finished.id, **data})
    else:
        show(data)
        click.echo(f"report: {finished.path / 'report.html'}")
    leave(pipeline)


def show(data: dict[str, Any]) -> None:
    """Every round in a line, and who is in charge."""
    for row in data["rounds"]:
        click.echo(f"round {row['round']}: {row['state']}: {row['sentence']}")
    click.echo(f"champion: {data['current']}")


def leave(pipeline: Any) -> None:
    """Exit code 1 unless the last round that was asked for was promoted."""
    if pipeline.ended is not None and pipeline.ended.state in ("rejected", "inconclusive"):
        click.echo(f"the champion stays; {pipeline.ended.state}: {pipeline.ended.sentence}", err=True)
        raise click.exceptions.Exit(1)
