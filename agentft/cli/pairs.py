"""``agentft pairs``: look at preference pairs, and export them in TRL's form."""

from __future__ import annotations

import glob
import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agentft.cli.common import echo_json, json_option, runs_option

if TYPE_CHECKING:
    from agentft.records import Preference


@click.group("pairs")
def command() -> None:
    """Show and export preference pairs of a run, or of a file."""


@command.command("show")
@click.argument("source")
@click.option("--round", "number", type=click.IntRange(min=1), help="Of which round; default: the latest.")
@click.option("--limit", default=10, show_default=True, type=click.IntRange(1), help="How many.")
@runs_option
@json_option
def show(source: str, number: int | None, limit: int, runs: str, as_json: bool) -> None:
    """Pairs of SOURCE, a run (id, folder, recipe name) or a file in any shape that the source `preferences` reads.

    The words that differ are marked.
    """
    pairs, drops = find_pairs(source, number, runs)
    if as_json:
        echo_json([one.to_dict() for one in pairs[:limit]])
        return
    from rich.console import Console
    from rich.text import Text

    from agentft.report.difference import marked

    console = Console(highlight=False)
    counts = Counter(one.origin for one in pairs)
    found = ", ".join(f"{count} {origin}" for origin, count in counts.most_common())
    console.print(f"{len(pairs)} pairs{f': {found}' if found else ''}{_left_out(drops)}")
    for one in pairs[:limit]:
        console.print(f"\n[bold]{_escape(one.prompt.last_user)}[/]  [dim]{one.origin}{_margin(one)}[/]")
        left, right = (side.content if side else "" for side in (one.rejected, one.chosen))
        for sign, colour, pieces in (("-", "red", marked(left, right)[0]), ("+", "green", marked(left, right)[1])):
            line = Text(f"{sign} ", colour)
            for text, differs in pieces:
                line.append(text, f"bold {colour}" if differs else "")
            console.print(line)


@command.command("export")
@click.argument("source")
@click.option("--to", "out", required=True, type=click.Path(dir_okay=False, path_type=Path), help="JSON-lines file to write.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["trl", "kto"]),
    default="trl",
    show_default=True,
    help="TRL's pairs, or single answers with labels.",
)
@click.option("--round", "number", type=click.IntRange(min=1), help="Of which round; default: the latest.")
@runs_option
@json_option
def export(source: str, out: Path, form: str, number: int | None, runs: str, as_json: bool) -> None:
    """Write the pairs of SOURCE in the form that TRL's DPOTrainer (or KTOTrainer) reads."""
    from agentft.data.pair_export import kto_rows, trl_row
    from agentft.errors import UserError

    pairs, drops = find_pairs(source, number, runs)
    usable = pairs if form == "kto" else [one for one in pairs if one.paired]
    rows = [row for one in usable for row in (kto_rows(one) if form == "kto" else [trl_row(one)])]
    temporary = out.with_name(f".{out.name}.tmp")
    try:
        temporary.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
        temporary.replace(out)
    except OSError as error:
        raise UserError(f"cannot write {out}: {error.strerror or error}") from None
    if len(pairs) > len(usable):
        drops["a thumb without a partner (--format kto has them)"] = len(pairs) - len(usable)
    if as_json:
        echo_json({"rows": len(rows), "pairs": len(usable), "left_out": drops.total(), "reasons": dict(drops), "file": str(out)})
    else:
        click.echo(f"{len(rows)} rows in {out}{_left_out(drops)}")


def find_pairs(source: str, number: int | None, runs: str) -> tuple[list[Preference], Counter[str]]:
    """Preferences of a file, or of a run: those of a round, else those of its data; and what was left out, by reason.

    Raises:
        UserError: there are none, or a row of the file is no preference (with its line).
    """
    from agentft.contracts import DataContext
    from agentft.data.jsonl import iter_rows
    from agentft.data.preferences import PreferencesConfig, read_preferences
    from agentft.errors import UserError
    from agentft.lineage import Lineage
    from agentft.records import Preference
    from agentft.runs import Store

    if Path(source).is_file():
        if number is not None:
            raise UserError(f"--round is for runs, and {source} is a file")
        ctx = DataContext()
        config = PreferencesConfig.model_validate({"path": glob.escape(source)})
        return list(read_preferences(config, ctx)), ctx.drops
    store = Store.holding(source, runs)
    manifest = store.manifest(source)
    stages: dict[str, Any] = {stage["name"]: store.stages / stage["folder"] for stage in manifest["stages"]}
    for row in Lineage(store.root / manifest["id"]).rounds:
        stages |= {name: store.stages / folder for name, folder in row["stages"].items()}
    of_rounds = sorted(
        (int(name.split("-")[1]), path) for name, path in stages.items() if name.startswith("round-") and name.endswith("-pairs")
    )
    if number is not None:
        of_rounds = [one for one in of_rounds if one[0] == number]
    if of_rounds:
        path = of_rounds[-1][1] / "pairs.jsonl"
    elif number is not None:
        raise UserError(f"run {manifest['id']} has no pairs of round {number}")
    else:
        path = stages.get("data", Path()) / "pairs.train.jsonl"
        if not path.is_file():
            raise UserError(f"run {manifest['id']} has no pairs; `agentft refine` makes some, or name a source of preferences")
    return [Preference.from_dict(row) for row in iter_rows(path)], Counter()


def _left_out(drops: Counter[str]) -> str:
    if not drops:
        return ""
    return f"; {drops.total()} left out: " + ", ".join(f"{count} {reason}" for reason, count in drops.most_common())


def _margin(one: Preference) -> str:
    return "" if one.margin != one.margin else f", margin {one.margin:g}"


def _escape(text: str) -> str:
    from rich.markup import escape

    return escape(text)
