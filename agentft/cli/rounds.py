"""``agentft rounds``: list, show, promote, roll back."""

from __future__ import annotations

from typing import Any

import click

from agentft.cli.common import echo_json, json_option, make_store, runs_option, table


@click.group("rounds")
def command() -> None:
    """List and show rounds of feedback; promote a version, or roll back."""


@command.command("list")
@click.argument("run")
@runs_option
@json_option
def list_rounds(run: str, runs: str, as_json: bool) -> None:
    """All rounds and versions of RUN (id, folder or recipe name)."""
    from agentft.lineage import lineage_of

    manifest, lineage = lineage_of(make_store(runs), run)
    if as_json:
        echo_json({"run": manifest["id"], **lineage.data})
        return
    if lineage.rounds:
        rows = [[r["round"], r["state"], r["start"], r["promoted"] or "", r["decided"][:19], r["sentence"]] for r in lineage.rounds]
        table(["round", "state", "from", "promoted", "decided", "why"], rows)
    versions = [["*" if v.name == lineage.data["current"] else "", v.name, v.arm, v.created[:19], v.why] for v in lineage.versions.values()]
    table(["", "version", "arm", "made", "why"], versions)


@command.command("show")
@click.argument("run")
@click.option("--round", "number", type=int, help="Which round; default: the latest.")
@runs_option
@json_option
def show_round(run: str, number: int | None, runs: str, as_json: bool) -> None:
    """One round: what went in, what was dropped and why, and every condition of the gate."""
    import json

    from agentft.errors import UserError
    from agentft.lineage import lineage_of

    store = make_store(runs)
    _, lineage = lineage_of(store, run)
    found = [row for row in lineage.rounds if number in (None, row["round"])]
    if not found:
        raise UserError(f"there is no round {number}" if number is not None else "no round is decided yet")
    row = found[-1]
    stages = {
        name.partition("-")[2].partition("-")[2]: json.loads((store.stages / folder / "stage.json").read_text("utf-8"))["summary"]
        for name, folder in row["stages"].items()
        if name.startswith(f"round-{row['round']}-")
    }
    if as_json:
        echo_json({**row, "summaries": stages})
        return
    click.echo(f"round {row['round']}: {row['state']}, started from {row['start']}, decided {row['decided'][:19]}")
    click.echo(row["sentence"])
    pairs = stages.get("pairs", {})
    if pairs:
        click.echo(
            f"{pairs['prompts']} prompts -> {pairs['responses']} answers, {pairs['failing']} with failed items"
            f" -> {pairs['revised']} revisions, better for {pairs['better_revisions']} answers"
            f" -> {pairs['made']} pairs made, {pairs['kept']} kept ({pairs['human']} by people)"
        )
        for name, one in stages.get("feedback", {}).get("critics", {}).items():
            errors = "; ".join(f"{count} x {reason}" for reason, count in one["errors"].items())
            click.echo(
                f"critic {name}: {one['judged']} judged, {one['unscored']} items left open" + (f"; failed: {errors}" if errors else "")
            )
        table(["dropped", "why"], [[count, reason] for reason, count in sorted(pairs["drops"].items(), key=lambda item: -item[1])])
    for decision in row["decisions"]:
        click.echo(f"{decision['arm']}: {decision['state']}")
        table(["", "condition", "what was found"], [[_SIGNS[one["outcome"]], one["name"], one["text"]] for one in decision["conditions"]])


_SIGNS = {"pass": "ok", "fail": "FAILS", "inconclusive": "unclear", "missing": "MISSING"}


@command.command("promote")
@click.argument("run")
@click.argument("version")
@click.option("--why", default="", help="Reason, for the lineage.")
@runs_option
@json_option
def promote(run: str, version: str, why: str, runs: str, as_json: bool) -> None:
    """Make VERSION (`start`, `round-1` ...) the champion of RUN, by hand."""
    _move(run, version, why or "promoted by hand", runs, as_json)


@command.command("rollback")
@click.argument("run")
@click.option("--to", "version", help="Version to go back to; default: the one before the current champion.")
@click.option("--why", default="", help="Reason, for the lineage.")
@runs_option
@json_option
def rollback(run: str, version: str | None, why: str, runs: str, as_json: bool) -> None:
    """Point back at an earlier version of RUN. Nothing is deleted; the next round starts from there."""
    _move(run, version, why or "rolled back by hand", runs, as_json)


def _move(run: str, version: str | None, why: str, runs: str, as_json: bool) -> None:
    from agentft.errors import UserError
    from agentft.lineage import lineage_of

    _, lineage = lineage_of(make_store(runs), run)
    before = lineage.data["current"]
    if version is None:
        names = list(lineage.versions)
        place = names.index(before)
        if place == 0:
            raise UserError("the champion is the version before any round; there is nothing to roll back to")
        version = names[place - 1]
    moved: Any = lineage.move(version, why)
    if as_json:
        echo_json({"from": before, "to": moved.name, "why": why})
    else:
        click.echo(f"champion: {before} -> {moved.name}")
