"""``agentft simulate``: an agent in conversations with tools and users."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from agentft.cli.common import echo_json, json_option, make_host, number, runs_option, table


@click.command("simulate")
@click.argument("agent")
@click.option("--env", required=True, help="Name of the environment, for example customer-service/shop.")
@click.option("--option", "options", multiple=True, metavar="KEY=VALUE", help="Option of the environment; may be repeated.")
@click.option("--tasks", metavar="N|NAMES", help="So many tasks, drawn by the seed; or names with *, several with commas.")
@click.option("--trials", default=1, show_default=True, type=click.IntRange(1), help="Conversations per task.")
@click.option("--user", default="scripted", show_default=True, metavar="scripted|MODEL|URL", help="Who plays the users.")
@click.option("--persona", help="Whom the agent plays; default: that of the run.")
@click.option("--base", is_flag=True, help="The untrained model of the run, with the same persona.")
@click.option("--version", help="Version of the run: start, round-N.")
@click.option("--model", help="The server's name for the model, where AGENT is an address.")
@click.option("--key-env", help="Environment variable with the server's key.")
@runs_option
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Folder; default: simulations/ENV-AGENT.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0))
@click.option("--temperature", default=0.0, show_default=True, type=click.FloatRange(0, 2))
@click.option("--max-turns", default=20, show_default=True, type=click.IntRange(1), help="Messages of the user that are answered.")
@click.option("--max-calls", default=30, show_default=True, type=click.IntRange(1), help="Tool calls between two messages of the user.")
@click.option("--max-tokens", default=8192, show_default=True, type=click.IntRange(1), help="Tokens of the agent in one conversation.")
@click.option("--max-new-tokens", default=256, show_default=True, type=click.IntRange(1), help="Tokens of one answer.")
@click.option("--concurrency", default=64, show_default=True, type=click.IntRange(1), help="Conversations at a time.")
@click.option("--language", type=click.Choice(["en", "zh"]), help="Default: the persona's.")
@click.option("--min-pass", type=click.FloatRange(0, 1), help="Exit code 1 if pass^1 is below.")
@json_option
def command(
    agent: str,
    env: str,
    options: tuple[str, ...],
    tasks: str | None,
    out: Path | None,
    seed: int,
    temperature: float,
    max_turns: int,
    max_calls: int,
    max_tokens: int,
    max_new_tokens: int,
    min_pass: float | None,
    as_json: bool,
    **given: Any,
) -> None:
    """Let AGENT talk to the users of an environment and count the tasks that it gets done.

    AGENT is a run, a model, a GGUF file or the address of an OpenAI-compatible server; or `reference`, which does what each task
    asks for, and `silent`, which does nothing: with them an environment is checked.

    An interrupted simulation goes on with the same command. Exit code 1 if pass^1 is below --min-pass.
    """
    from agentft.contracts import GenerationSettings
    from agentft.progress import Lines, for_terminal
    from agentft.simulate.episodes import Limits
    from agentft.simulation import simulate_agent

    found = simulate_agent(
        agent,
        env,
        options=_options(options),
        tasks=tasks,
        out=out,
        seed=seed,
        settings=GenerationSettings(max_new_tokens=max_new_tokens, temperature=temperature),
        limits=Limits(max_turns, max_calls, max_tokens),
        host=make_host(),
        progress=Lines() if as_json else for_terminal(),
        **given,
    )
    results = found.results
    if as_json:
        echo_json({key: value for key, value in results.items() if key != "plan"} | {"folder": str(found.folder)})
    else:
        show(results)
        click.echo(f"transcripts: {found.folder / 'index.html'}")
    value = results["pass"].get("1", {}).get("value")
    if min_pass is not None and (value is None or value < min_pass):
        click.echo(f"pass^1 is {number(value, 'share')}, below {min_pass:.1%}", err=True)
        raise click.exceptions.Exit(1)


def _options(given: tuple[str, ...]) -> dict[str, Any]:
    from agentft import yamlio
    from agentft.errors import UserError

    found: dict[str, Any] = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise UserError(f"--option {text}: it is not of the form KEY=VALUE")
        found[key.strip()] = yamlio.parse_value(value)
    return found


def show(results: dict[str, Any] | Any) -> None:
    """The figures as tables."""
    rows = [[f"pass^{k}", *_cells(one)] for k, one in results["pass"].items()]
    rows += [[f"pass@{k}", *_cells(one)] for k, one in results["pass_at"].items()]
    rows += [[f"{name}: {value}", *_cells(one)] for name, values in results["slices"].items() for value, one in values.items()]
    table(["", "share", "95 % interval", "tasks"], rows)
    sums = [[f"check '{name}'", f"{one['passed']} of {one['of']} episodes"] for name, one in results["checks"].items()]
    sums += [[f"violations of '{name}'", count] for name, count in results["violations"].items()]
    sums += [[f"ended: {name}", count] for name, count in results["ends"].items()]
    sums += [["tool calls", results["calls"]], ["answers with an error", results["tool_errors"]]]
    sums += [["calls that could not be read", f"{results['malformed']} in {results['with_malformed']} episodes"]]
    sums += [["tokens of the agent", f"{results['tokens']:,}"], ["seconds", f"{results['seconds']:.1f}"]]
    sums += [[f"agent error: {text}", count] for text, count in results["agent_errors"].items()]
    sums += [[f"fault of the user simulator (left out): {text}", count] for text, count in results["user_faults"].items()]
    table([f"{results['agent']} in {results['environment']}", f"{results['episodes']} episodes"], sums)


def _cells(one: dict[str, Any]) -> list[Any]:
    interval = f"{number(one['ci'][0], 'share')} .. {number(one['ci'][1], 'share')}" if one["ci"] else ""
    return [number(one["value"], "share"), interval, one["n"]]
