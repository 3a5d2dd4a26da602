"""``agentft data``: what a recipe will train on, before it does."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agentft.cli.common import echo_json, json_option, make_store, open_session, runs_option, set_option, table

if TYPE_CHECKING:
    from agentft.pipeline import Pipeline
    from agentft.runs import StageResult


@click.command("data")
@click.argument("recipe")
@set_option
@runs_option
@click.option("-n", "shown", default=2, show_default=True, help="Number of decoded training rows to show.")
@json_option
def command(recipe: str, overrides: tuple[str, ...], runs: str, shown: int, as_json: bool) -> None:
    """Preview what RECIPE will train on: every row counted, lengths, and decoded rows with the mask visible."""
    from agentft.pipeline import Pipeline
    from agentft.progress import Progress

    session = open_session(recipe, overrides, runs)
    pipeline = Pipeline(session, make_store(runs), Progress())
    pipeline.execute("rows")
    account = pipeline.data.summary
    stages = {stage.path: (part.name, stage) for part, stage in pipeline.all_rows}
    if as_json:
        signals = {name: stage.summary for name, stage in stages.values()}
        echo_json({"account": account, "signal": next(iter(signals.values()), None), "signals": signals})
        return
    click.secho("sources", bold=True)
    table(["source", "rows", "used", "dropped"], [[s["name"], s["rows"], s["used"], _reasons(s["dropped"])] for s in account["sources"]])
    click.secho("steps", bold=True)
    rows = [[s["name"], s["rows_in"], s["rows_out"], _reasons(s["drops"]), _reasons(s.get("changes", {}))] for s in account["steps"]]
    table(["step", "in", "out", "dropped", "changed"], rows)
    click.echo("split: " + ", ".join(f"{part} {count}" for part, count in account["splits"].items()))
    for warning in account.get("warnings", ()):
        click.secho(f"! {warning}", fg="yellow")
    if account.get("card"):
        from agentft.data.card import card_text

        click.secho("training rows", bold=True)
        click.echo(card_text(account["card"]))
    for name, stage in stages.values():
        _show_stage(pipeline, name, stage, shown)
    if not stages:
        click.echo("the recipe trains nothing")


def _show_stage(pipeline: Pipeline, name: str, stage: StageResult, shown: int) -> None:
    """What one trainer, or several that take the same rows, will learn from."""
    from agentft.reporting import unknown_tokens

    signal = stage.summary
    if pairs := signal.get("pairs"):
        click.echo(
            f"preference pairs: {pairs['rows_out']} of {pairs['rows_in']}, longest answer with its prompt {pairs['longest']} tokens; "
            f"dropped: {_reasons(pairs['drops']) or 'none'}"
        )
    lengths = _lengths(stage.path / "train.jsonl")
    train = signal["train"]
    if not lengths:
        return
    click.secho(name, bold=True)
    click.echo(
        f"tokens a row: {_quantiles(lengths)}; {train['supervised_tokens']} labels on {train['tokens']} tokens"
        if "task" in signal
        else f"tokens a row: {_quantiles(lengths)}; {train['supervised_tokens']} of {train['tokens']} tokens supervised"
        f" ({train['supervised_tokens'] / max(1, train['tokens']):.0%})",
        nl=False,
    )
    click.echo(f"; dropped: {_reasons(train['drops']) or 'none'}")
    if train.get("weights"):
        click.echo("weights of supervised tokens: " + ", ".join(f"{weight} on {n}" for weight, n in train["weights"].items()))
    for warning in unknown_tokens(train, "train"):
        click.secho(f"! {warning}", fg="yellow")
    click.echo(_histogram(lengths))
    if "task" in signal:
        click.echo(train["sample"])
    else:
        _show_rows(pipeline, stage.path, shown)


def _show_rows(pipeline: Pipeline, folder: Path, shown: int) -> None:
    """The first training rows decoded; what is not learned is dim."""
    from itertools import islice

    from agentft.engine.models import load_tokenizer
    from agentft.render.rows import mask_runs, read_rows, times

    tokenizer = load_tokenizer(pipeline.session.model)
    for row in islice(read_rows(folder / "train.jsonl"), shown):
        click.secho(f"row {row['id']}: dim = read, bright = learned", bold=True)
        for learned, weight, ids in mask_runs(row["input_ids"], row["labels"], row.get("weights")):
            text = tokenizer.decode(ids)
            colours: dict[str, Any] = {"fg": "green" if weight == 1 else "yellow"} if learned else {"dim": True}
            click.echo(click.style(f"⟦{times(weight)}{text}⟧" if learned else text, **colours), nl=False)
        click.echo()


def _lengths(path: Path) -> list[int]:
    from agentft.render.rows import read_rows

    return sorted(len(row["input_ids"]) for row in read_rows(path))


def _quantiles(lengths: list[int]) -> str:
    pick = {"shortest": 0.0, "median": 0.5, "p90": 0.9, "longest": 1.0}
    return ", ".join(f"{name} {lengths[min(len(lengths) - 1, int(q * len(lengths)))]}" for name, q in pick.items()) if lengths else "none"


def _histogram(lengths: list[int], bins: int = 8) -> str:
    """Lengths as bars, one line a bin."""
    if not lengths:
        return ""
    low, high = lengths[0], lengths[-1] + 1
    width = max(1, -(-(high - low) // bins))
    lines = []
    for start in range(low, high, width):
        count = sum(start <= n < start + width for n in lengths)
        lines.append(f"  {start:>5} - {start + width - 1:<5} {'█' * round(40 * count / len(lengths))} {count}")
    return "\n".join(lines)


def _reasons(drops: dict[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in drops.items())
