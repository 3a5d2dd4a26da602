"""``agentft compare``: is B better than A? Two runs, two evaluations, or two agents on one suite; with an exit code for CI."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from agentft.cli.common import comparison_row, echo_json, json_option, make_host, make_store, number, runs_option, table
from agentft.cli.evaluate import OUT, load_suite, open_for, write_file


@click.command("compare")
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
@click.option("--suite", help="Ask both agents this suite: a .yaml file or a name. Not needed for runs and folders of evaluations.")
@click.option("--judge", help="Who decides which answer is better: a model, or http://.../v1#MODEL. Default: the suite's judge.")
@click.option("--judge-key-env", help="Environment variable that holds the key of the judge's server.")
@click.option(
    "--judge-mode",
    type=click.Choice(["text", "likelihood"]),
    help="Read what the judge writes, or compare probabilities (models in this process). Default: likelihood where it can be.",
)
@click.option("--judge-repeats", default=1, show_default=True, type=click.IntRange(1, 9), help="Tries per order, with temperature 0.7.")
@click.option("--alpha", default=0.05, show_default=True, type=click.FloatRange(0, 0.5, min_open=True), help="Significance level.")
@click.option(
    "--fail-on",
    multiple=True,
    metavar="NAME",
    help="Another score on which a significant loss is an exit code of 1; also win-rate, length-controlled-win-rate.",
)
@click.option("--slice", "slices", multiple=True, metavar="KEY", help="Break runs down by this key of the prompts' meta.")
@click.option("--limit", type=click.IntRange(1), help="Ask at most so many prompts of the suite.")
@click.option("--show", default=3, show_default=True, type=click.IntRange(0), help="Samples that changed most, in the terminal.")
@click.option("--persona", help="Whom both agents play, instead of the suite's persona.")
@click.option("--as-is", is_flag=True, help="Send no system prompt: the agents behind the addresses have their own.")
@click.option("--key-env", help="Environment variable that holds the key of the agents' servers.")
@click.option("--concurrency", default=4, show_default=True, type=click.IntRange(1), help="Requests at a time, for a server.")
@click.option("--timeout", default=60.0, show_default=True, type=click.FloatRange(0, min_open=True), help="Seconds per request.")
@click.option("--out", type=click.Path(file_okay=False), default=OUT, show_default=True, help="Folder for answers and the comparison.")
@click.option("--junit", type=click.Path(dir_okay=False), help="Write the result as JUnit XML to this file.")
@runs_option
@json_option
def command(first: str, second: str, suite: str | None, runs: str, as_json: bool, **options: Any) -> None:
    """Is B better than A?

    \b
    A and B are two runs, two folders that `agentft evaluate --suite` or `agentft simulate`
    left, or with --suite two agents of any kind (see `agentft evaluate --help`). Everything is paired: the same
    prompts, the difference on each. Exit code 1 if B is significantly worse in a score that
    decides, or in one that --fail-on names.
    """
    from agentft.comparing import compare_sides
    from agentft.duels import duel
    from agentft.progress import Lines, for_terminal
    from agentft.report.compared import render_comparison
    from agentft.report.junit import comparison_xml
    from agentft.runs import digest, write_atomic

    progress = Lines() if as_json else for_terminal()
    found = load_suite(suite, options["limit"], options["persona"]) if suite else None
    one, other = (_side(reference, found, runs, options, progress) for reference in (first, second))
    folder = Path(options["out"]) / f"compare-{digest([one.where, other.where])[:10]}"
    judge = _judge(found, other, options)
    duels, words = duel(one, other, judge, folder, progress) if judge else ([], {})
    data = compare_sides(
        one,
        other,
        duels=duels,
        words=words,
        judge=judge.name if judge else "",
        alpha=options["alpha"],
        fail_on=options["fail_on"],
        headline=found.headline if found else (),
        seed=found.seed if found else 0,
    )
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / "comparison.json", json.dumps(data, ensure_ascii=False, indent=1, allow_nan=False))
    write_atomic(folder / "report.html", render_comparison(data))
    if options["junit"]:
        write_file(options["junit"], comparison_xml(data))
    if as_json:
        echo_json({"folder": str(folder), **data})
    else:
        _show(data, folder, options["show"])
    if data["worse"]:
        click.echo(f"{data['second']} is worse than {data['first']}: {', '.join(data['worse'])}", err=True)
        raise click.exceptions.Exit(1)


def _side(reference: str, suite: Any, runs: str, options: dict[str, Any], progress: Any) -> Any:
    from agentft.errors import UserError
    from agentft.evaluation import evaluate_agent
    from agentft.sides import is_result, open_side, side_of_folder

    if suite is not None and not is_result(Path(reference)):
        agent = open_for(reference, suite, runs, options)
        return side_of_folder(evaluate_agent(agent, suite, Path(options["out"]), host=make_host(), progress=progress).folder)
    try:
        return open_side(reference, make_store(runs), tuple(options["slices"]))
    except UserError as error:
        if suite is None and str(error).startswith("no run"):
            raise UserError(f"{error}; any other agent is compared on a suite: --suite FILE") from None
        raise


def _judge(suite: Any, side: Any, options: dict[str, Any]) -> Any:
    """The judge that the command line or the suite names, or None."""
    from agentft.duels import Judge
    from agentft.errors import UserError
    from agentft.feedback.prompts import open_model, template_source

    named = options["judge"]
    if named is None and (suite is None or suite.judge is None):
        for option in ("judge_mode", "judge_key_env"):
            if options[option]:
                raise UserError(f"--{option.replace('_', '-')} goes with --judge")
        return None
    use = _model_use(named, options) if named else suite.judge.model
    inside = use.url is None and (use.backend is None or use.backend.use == "transformers")
    mode: Any = options["judge_mode"] or ("likelihood" if inside else "text")
    if mode == "likelihood" and not inside:
        raise UserError("--judge-mode likelihood needs a model in this process; use --judge-mode text")
    repeats = options["judge_repeats"]
    if mode == "likelihood" and repeats > 1:
        raise UserError("--judge-mode likelihood always gives the same answer; leave out --judge-repeats")
    host = make_host()
    backend: Any = open_model(use, resolve=host.resolve_model, device={}, catalog=host.catalog)
    language = str(side.persona.get("language") or "en")
    template = template_source(host.catalog, "judge_pair", language, side.persona.get("templates") or {})
    name = f"{use.model} ({use.url if isinstance(use.url, str) else ', '.join(use.url)})" if use.url else use.model
    return Judge(name, backend, template, mode, repeats, 0.7 if repeats > 1 else 0.0, seed=suite.seed if suite else 0)


def _model_use(named: str, options: dict[str, Any]) -> Any:
    from agentft.agents import WEB, first_model
    from agentft.feedback.prompts import ModelUse

    key = options["judge_key_env"]
    if not named.startswith(WEB):
        return ModelUse(model=named, key_env=key)
    url, _, model = named.partition("#")
    return ModelUse(
        model=model or first_model(url, key, options["timeout"]),
        url=url,
        key_env=key,
        timeout=options["timeout"],
        concurrency=options["concurrency"],
    )


def _show(data: dict[str, Any], folder: Path, samples: int) -> None:
    click.echo(f"A = {data['first']}\nB = {data['second']}\n{data['n']} prompts; deciding: {', '.join(data['headline'])}")
    level = f"{100 * (1 - data['alpha']):g} % interval"
    rows = [row for row in data["comparisons"] if "/" not in row["name"] or row["name"].startswith("relevance/")]
    table(
        ["metric", "A", "B", "B - A", level, "n", "verdict", "detectable"],
        [[*comparison_row(row), number(row["smallest_detectable"], row["unit"])] for row in rows],
    )
    if data["wins"]:
        _show_wins(data, level)
    if data["slices"]:
        _show_slices(data, level)
    for row in data["changed"][:samples]:
        _show_sample(row, data)
    for warning in data["warnings"]:
        click.echo(f"note: {warning}", err=True)
    click.echo(f"everything is in {folder} (report.html, comparison.json)")


def _show_slices(data: dict[str, Any], level: str) -> None:
    """The slices that are large enough to say something, in the scores that decide."""
    from agentft.report.compared import SMALL

    rows = [row for row in data["slices"] if row["score"] in data["headline"]] or data["slices"]
    large = [row for row in rows if row["n"] >= SMALL]
    if large:
        table(
            ["slice", "metric", "A", "B", "B - A", level, "n", "verdict"],
            [
                [f"{r['key']}: {r['slice']}", r["score"]]
                + [number(r[key], r["unit"]) for key in ("first", "second", "difference")]
                + [f"{number(r['ci'][0], r['unit'])} .. {number(r['ci'][1], r['unit'])}" if r["ci"] else "", r["n"], r["verdict"]]
                for r in large
            ],
        )
    few = {(row["key"], row["slice"]) for row in rows} - {(row["key"], row["slice"]) for row in large}
    if few:
        click.echo(f"{len(few)} slices with fewer than {SMALL} prompts are in the report only")


def _show_wins(data: dict[str, Any], level: str) -> None:
    wins, controlled = data["wins"], data["wins"]["controlled"]

    def share(value: float | None, ci: Any) -> list[str]:
        return [number(value, "share"), f"{number(ci[0], 'share')} .. {number(ci[1], 'share')}" if ci else ""]

    tally = f"{wins['wins']} wins, {wins['ties']} ties ({wins['same']} with equal texts), {wins['losses']} losses, {wins['unread']} unread"
    click.echo(f"judge {data['judge']}: {tally}")
    table(
        ["judge", "value", level],
        [
            ["win rate of B", *share(wins["rate"], wins["ci"])],
            ["length-controlled", *share(controlled["rate"], controlled["ci"])],
            ["same answer in both orders", *share(wins["consistent"], wins["consistent_ci"])],
            ["votes for what stands first", *share(wins["first_share"], wins["first_ci"])],
        ],
    )
    if controlled["note"]:
        click.echo(f"length: {controlled['note']}")


def _show_sample(row: dict[str, Any], data: dict[str, Any]) -> None:
    asked = next((one["content"] for one in reversed(row["prompt"]) if one["role"] == "user"), "")
    click.echo(click.style(f"{row['id']}  {_short(asked)}", bold=True))
    for mark, side in (("A", "first"), ("B", "second")):
        click.echo(f"  {mark}  {_short(row[side]['text'] or row[side]['error'], 300)}")
    turned = [f"{one['item']}: {one['first']} -> {one['second']}" for one in row["verdicts"]]
    if row["winner"]:
        turned.append(f"judge: {({'first': 'A', 'second': 'B'}).get(row['winner'], 'tie')}")
    if turned:
        click.echo(f"     {'; '.join(turned)}")


def _short(text: str, most: int = 120) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= most else flat[: most - 1] + "…"
