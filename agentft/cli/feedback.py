"""``agentft feedback``: look at what people said about served answers, count it, and write it as data."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agentft.cli.common import echo_json, json_option, table

if TYPE_CHECKING:
    from agentft.feedback.served import Served


@click.group("feedback")
def command() -> None:
    """Show, count and export what people said about the answers of `agentft serve`."""


_store = click.argument("store", type=click.Path(exists=True, dir_okay=False, path_type=Path))
_persona = click.option("--persona", help="Only about answers of this persona.")


@command.command("show")
@_store
@_persona
@click.option("--limit", default=10, show_default=True, type=click.IntRange(1), help="How many, the latest first.")
@json_option
def show(store: Path, persona: str | None, limit: int, as_json: bool) -> None:
    """The latest judgements in STORE, a file that `agentft serve` writes. Look at them before an agent learns from them."""
    found, bad = read(store, persona)
    chosen = found[::-1][:limit]
    if as_json:
        echo_json({"judgements": [one.to_dict() for one in chosen], "unusable": bad})
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.text import Text

    from agentft.report.difference import marked

    console = Console(highlight=False)
    console.print(f"{len(found)} judgements{_unusable(bad)}")
    for one in chosen:
        thumb = {"up": " [green]+ good[/]", "down": " [red]- bad[/]"}.get(one.thumb or "", "")
        who = " ".join(part for part in (one.created[:16], one.model, one.version, one.rater or one.client) if part)
        console.print(f"\n[bold]{escape(one.prompt.last_user)}[/]{thumb}  [dim]{escape(who)}[/]")
        left, right = marked(one.answer, one.edit) if one.edit else ([(one.answer, False)], [])
        for sign, colour, pieces in (("-" if one.edit else " ", "red", left), ("+", "green", right)):
            if pieces:
                line = Text(f"{sign} ", colour if one.edit else "")
                for text, differs in pieces:
                    line.append(text, f"bold {colour}" if differs else "")
                console.print(line)
        for call in one.calls:
            console.print(Text(f"  calls {call['name']}"))
        if one.words:
            console.print(Text(f"  says: {one.words}"))


@command.command("stats")
@_store
@_persona
@json_option
def stats(store: Path, persona: str | None, as_json: bool) -> None:
    """How much there is in STORE, by deployment and version, and what became of lines that cannot be read."""
    found, bad = read(store, persona)
    groups: dict[tuple[str, str, str], Counter[str]] = {}
    for one in found:
        count = groups.setdefault((one.model, one.version, one.persona), Counter())
        count.update(
            judgements=1,
            up=one.thumb == "up",
            down=one.thumb == "down",
            edits=bool(one.edit),
            words=bool(one.words),
            page=one.source == "page",
            told=not one.known,
        )
    names = ("judgements", "up", "down", "edits", "words", "page", "told")
    rows = [
        {"model": model, "version": version, "persona": who, **{name: count[name] for name in names}}
        for (model, version, who), count in sorted(groups.items())
    ]
    if as_json:
        raters = len({one.rater or one.client for one in found} - {""})
        echo_json({"store": str(store), "groups": rows, "raters": raters, "unusable": bad})
        return
    table(["deployment", "version", "persona", *names], [list(row.values()) for row in rows])
    click.echo(f"told: the caller says that this was the answer; the server did not remember it{_unusable(bad)}")


@command.command("export")
@_store
@_persona
@click.option("--to", "out", required=True, type=click.Path(dir_okay=False, path_type=Path), help="JSON-lines file to write.")
@click.option(
    "--as",
    "kind",
    type=click.Choice(["prompts", "demonstrations", "preferences"]),
    default="preferences",
    show_default=True,
    help="What the source `served-feedback` makes of it.",
)
@json_option
def export(store: Path, persona: str | None, out: Path, kind: str, as_json: bool) -> None:
    """Write STORE as records that the sources `jsonl` and `preferences` read; `agentft pairs export` makes TRL's form of the latter."""
    import glob

    from agentft.contracts import DataContext
    from agentft.data.jsonl import write_rows
    from agentft.errors import UserError
    from agentft.feedback.served_data import ServedConfig, read_served

    options: dict[str, Any] = {"path": glob.escape(str(store.resolve())), "as": kind, "on_bad": "skip"}
    config = ServedConfig.model_validate(options | ({"personas": [persona]} if persona else {}))
    ctx = DataContext()
    temporary = out.with_name(f".{out.name}.tmp")
    try:
        count = write_rows(temporary, (one.to_dict() for one in read_served(config, ctx)))
        temporary.replace(out)
    except OSError as error:
        raise UserError(f"cannot write {out}: {error.strerror or error}") from None
    if as_json:
        echo_json({"rows": count, "file": str(out), "left_out": ctx.drops.total(), "reasons": dict(ctx.drops)})
        return
    reasons = ", ".join(f"{times} {reason}" for reason, times in ctx.drops.most_common())
    click.echo(f"{count} rows in {out}{f'; left out: {reasons}' if reasons else ''}")


def read(store: Path, persona: str | None) -> tuple[list[Served], list[dict[str, Any]]]:
    """The last word of every rater on every answer, and the lines that cannot be used."""
    from agentft.feedback.served import ServedStore

    bad: list[dict[str, Any]] = []
    found = ServedStore(store).latest(lambda number, why: bad.append({"line": number, "reason": why}))
    return [one for one in found if persona is None or one.persona == persona], bad


def _unusable(bad: list[dict[str, Any]]) -> str:
    if not bad:
        return ""
    return f"; {len(bad)} lines cannot be used: " + ", ".join(f"line {one['line']} ({one['reason']})" for one in bad[:5])
