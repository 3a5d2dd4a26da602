"""``agentft evaluate``: tuned against base on held-out prompts, with an exit code for CI."""

from __future__ import annotations

import json

import click

from agentft.cli.common import comparison_row, echo_json, json_option, make_store, number, open_session, runs_option, set_option, table


@click.command("evaluate")
@click.argument("recipe")
@set_option
@runs_option
@json_option
def command(recipe: str, overrides: tuple[str, ...], runs: str, as_json: bool) -> None:
    """Compare the tuned model of RECIPE (a file, or a run) with the base model on held-out prompts.

    Trains first if that has not been done. Exit code 1 if a headline metric (persona adherence, relevance) is
    significantly worse than that of the base model.
    """
    from agentft.pipeline import Pipeline
    from agentft.progress import Lines, for_terminal
    from agentft.reporting import headline

    session = open_session(recipe, overrides, runs)
    pipeline = Pipeline(session, make_store(runs), Lines() if as_json else for_terminal())
    pipeline.execute("comparison")
    data = json.loads((pipeline.comparison.path / "comparison.json").read_text("utf-8"))
    worse = [row["name"] for row in data["comparisons"] if row["verdict"] == "worse" and row["name"] in headline(data["comparisons"])]
    if as_json:
        echo_json({"run": pipeline.run.id, **data, "worse": worse})
    elif data["comparisons"]:
        table(
            ["metric", "base", "tuned", "difference", "95 % interval", "n", "verdict"], [comparison_row(row) for row in data["comparisons"]]
        )
    else:
        table(["metric", "value", "n"], [[s["name"], number(s["value"], s["unit"]), s["n"]] for s in data["scores"]["base"]])
    if worse:
        click.echo(f"worse than the base model: {', '.join(worse)}", err=True)
        raise click.exceptions.Exit(1)
