"""``agentft evaluate``: tuned against base for a recipe, or any agent on a suite; with an exit code for CI."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from agentft.cli.common import (
    comparison_row,
    echo_json,
    json_option,
    make_host,
    make_store,
    number,
    open_session,
    runs_option,
    set_option,
    table,
)

OUT = "evaluations"


@click.command("evaluate")
@click.argument("agent")
@click.option("--suite", help="Suite to ask: a .yaml file, or a name such as customer-service/support.")
@click.option("--min", "lowest", multiple=True, metavar="NAME=VALUE", help="Score that must be at least VALUE (0.8 or 80%).")
@click.option("--max", "highest", multiple=True, metavar="NAME=VALUE", help="Score that may be at most VALUE.")
@click.option("--limit", type=click.IntRange(1), help="Ask at most so many prompts of the suite, drawn by its seed.")
@click.option("--name", "label", default="", help="What reports call the agent.")
@click.option("--persona", help="Whom the agent plays, instead of the suite's persona.")
@click.option("--as-is", is_flag=True, help="Send no system prompt: the agent behind the address has its own.")
@click.option("--model", help="A server's name for the model. Default: the first that it lists.")
@click.option("--key-env", help="Environment variable that holds the server's key.")
@click.option("--concurrency", default=4, show_default=True, type=click.IntRange(1), help="Requests at a time, for a server.")
@click.option("--timeout", default=60.0, show_default=True, type=click.FloatRange(0, min_open=True), help="Seconds per request.")
@click.option("--out", type=click.Path(file_okay=False), default=OUT, show_default=True, help="Folder of the evaluations.")
@click.option("--junit", type=click.Path(dir_okay=False), help="Write the result as JUnit XML to this file.")
@set_option
@runs_option
@json_option
def command(agent: str, suite: str | None, overrides: tuple[str, ...], runs: str, as_json: bool, **options: Any) -> None:
    """Measure AGENT.

    \b
    With --suite, AGENT is anything that answers: a run (ID@base: its base model), a model
    folder or name, a .gguf file, or the address of an OpenAI-compatible server
    (http://.../v1#MODEL). Exit code 1 if a score misses its --min or --max.

    \b
    Without it, AGENT is a recipe (a file, or a run): its tuned model is compared with its
    base model on held-out prompts, trained first if need be. Exit code 1 if a headline
    metric (adherence, relevance) is significantly worse.
    """
    if suite is None:
        _recipe(agent, overrides, runs, as_json, options)
    else:
        _suite(agent, suite, overrides, runs, as_json, options)


def _recipe(recipe: str, overrides: tuple[str, ...], runs: str, as_json: bool, options: dict[str, Any]) -> None:
    from agentft.errors import UserError
    from agentft.pipeline import Pipeline
    from agentft.progress import Lines, for_terminal
    from agentft.reporting import headline

    if recipe.startswith(("http://", "https://")):
        raise UserError(f"name what to ask {recipe} with --suite, for example --suite customer-service/support")
    given = click.get_current_context().get_parameter_source
    if wrong := [name for name in options if (source := given(name)) and source.name == "COMMANDLINE"]:
        flag = {"lowest": "min", "highest": "max", "label": "name"}.get(wrong[0], wrong[0]).replace("_", "-")
        raise UserError(f"--{flag} goes with --suite; without it, the recipe says what is measured")
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


def _suite(agent: str, suite: str, overrides: tuple[str, ...], runs: str, as_json: bool, options: dict[str, Any]) -> None:
    from agentft.errors import UserError
    from agentft.evaluate.bounds import check_bounds, parse_bound
    from agentft.evaluation import evaluate_agent
    from agentft.progress import Lines, for_terminal
    from agentft.report.compared import render_evaluation
    from agentft.report.junit import evaluation_xml
    from agentft.runs import write_atomic

    if overrides:
        raise UserError("--set changes a recipe; a suite is a file of its own: edit it, or use --limit, --min and --max")
    lowest, highest = (
        dict(parse_bound(text, option) for text in options[key]) for key, option in (("lowest", "--min"), ("highest", "--max"))
    )
    host = make_host()
    found = load_suite(suite, options["limit"], options["persona"])
    found.session(host)  # every mistake of the suite is told before a model is loaded
    opened = open_for(agent, found, runs, options)
    progress = Lines() if as_json else for_terminal()
    evaluation = evaluate_agent(opened, found, Path(options["out"]), host=host, progress=progress, name=options["label"])
    bounds = check_bounds(evaluation.scores, {**found.min, **lowest}, {**found.max, **highest})
    told = [{**bound.to_dict(), "text": bound.text} for bound in bounds]
    write_atomic(evaluation.folder / "report.html", render_evaluation(evaluation.result, told))
    if options["junit"]:
        write_file(options["junit"], evaluation_xml(evaluation.result, told))
    failed = [bound.text for bound in bounds if not bound.passed]
    if as_json:
        scores = [row | {"per_sample": {}, "details": {}} for row in evaluation.result["scores"]]
        kept = {key: evaluation.result[key] for key in ("agent", "suite", "slices", "warnings", "seconds")}
        echo_json({"folder": str(evaluation.folder), **kept, "scores": scores, "thresholds": told, "failed": failed})
    else:
        _show(evaluation.result, evaluation.folder)
        for bound in bounds:
            click.echo(f"{'ok  ' if bound.passed else 'FAIL'} {bound.text}")
    if failed:
        for text in failed:
            click.echo(f"threshold missed: {text}", err=True)
        raise click.exceptions.Exit(1)


def _show(result: dict[str, Any], folder: Path) -> None:
    rows = [row for row in result["scores"] if "/" not in row["name"] or row["name"].startswith("relevance/")]
    click.echo(f"{result['agent']['name']} on {result['suite']['name']}: {len(result['samples'])} prompts")
    table(
        ["metric", "value", "95 % interval", "n"],
        [[row["name"], number(row["value"], row["unit"]), _interval(row), _count(row)] for row in rows],
    )
    if result["slices"]:
        shown = [[f"{r['key']}: {r['slice']}", r["score"], number(r["value"], r["unit"]), _interval(r), r["n"]] for r in result["slices"]]
        table(["slice", "metric", "value", "95 % interval", "n"], shown)
    for warning in result["warnings"]:
        click.echo(f"note: {warning}", err=True)
    click.echo(f"everything is in {folder} (report.html, result.json)")


def _interval(row: dict[str, Any]) -> str:
    return f"{number(row['ci'][0], row['unit'])} .. {number(row['ci'][1], row['unit'])}" if row["ci"] else ""


def _count(row: dict[str, Any]) -> str:
    unscored = sum(value is None for value in row["per_sample"].values())
    return f"{row['n']}{f' ({unscored} unscored)' if unscored else ''}"


def load_suite(reference: str, limit: int | None = None, persona: str | None = None) -> Any:
    """The suite, with another limit or persona if the command line has one.

    Raises:
        UserError: it is an environment with users and tools, which another command runs.
    """
    from agentft.errors import UserError
    from agentft.recipe import PersonaUse
    from agentft.suite import find_suite

    if reference.startswith("env:"):
        raise UserError(
            f"'{reference}' has users and tools: agentft simulate AGENT --env {reference[4:]}; compare the folders that it leaves"
        )
    suite = find_suite(reference)
    changes: dict[str, Any] = {} if limit is None else {"limit": limit}
    if persona is not None:
        # A file that is named on the command line lies relative to the current folder, not to the suite.
        changes["persona"] = PersonaUse(use=str(Path(persona).absolute()) if Path(persona).is_file() else persona)
    other = suite.model_copy(update=changes)
    other._document = suite._document
    return other


def open_for(agent: str, suite: Any, runs: str, options: dict[str, Any]) -> Any:
    """The agent with the persona that it is to play: its own if it is a run, else the suite's.

    Raises:
        UserError: there is no such agent or persona.
    """
    from agentft.agents import WEB, is_run, open_agent
    from agentft.errors import UserError
    from agentft.persona import find_persona

    server = {key: options[key] for key in ("concurrency", "timeout")}
    if agent.startswith(WEB):
        server |= {"model": options.get("model"), "key_env": options.get("key_env")}
    elif options.get("model"):
        raise UserError(f"--model names a model of a server, and '{agent}' is none")
    who: Any = None
    if options["as_is"] and options["persona"]:
        raise UserError("--as-is and --persona contradict each other")
    if suite.persona is not None and not options["as_is"] and (options["persona"] or not is_run(agent, runs)):
        base = Path(suite._document.file).parent if suite._document.file else Path(".")
        who = find_persona(make_host().catalog, suite.persona, base)
    return open_agent(agent, persona=who, runs=runs, **server)


def write_file(path: str, text: str) -> None:
    """Write a file that the user named, making its folder.

    Raises:
        UserError: it cannot be written.
    """
    from agentft.errors import UserError

    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror or error}") from None
