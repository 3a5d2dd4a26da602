"""What several commands share: options, the host with ``-p`` applied, tables and JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from agentft.host import Host
    from agentft.runs import Store
    from agentft.session import Session

F = TypeVar("F", bound=Callable[..., Any])

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for scripts.")
runs_option = click.option(
    "--runs", "runs", type=click.Path(file_okay=False), envvar="AGENTFT_RUNS", default="runs", show_default=True, help="Folder of the runs."
)
set_option = click.option(
    "--set", "overrides", multiple=True, metavar="PATH=VALUE", help="Override a value of the recipe, for example train.0.epochs=1."
)


def make_host() -> Host:
    """A fresh host that respects the ``-p no:NAME`` of the command line."""
    from agentft.host import Host

    switches = click.get_current_context().find_root().params.get("plugin") or ()
    return Host(block=[switch.removeprefix("no:") for switch in switches])


def make_store(runs: str) -> Store:
    from agentft.runs import Store

    return Store(runs)


def open_session(reference: str, overrides: Sequence[str], runs: str) -> Session:
    """The checked recipe behind a recipe file, a folder with ``recipe.yaml``, or a run (id or recipe name)."""
    from agentft.session import open_recipe

    path = Path(reference)
    if path.is_dir() and (path / "recipe.yaml").is_file():
        path = path / "recipe.yaml"
    if not path.is_file() and path.suffix not in (".yaml", ".yml") and not path.is_dir():
        manifest = make_store(runs).manifest(reference)
        path, overrides = Path(manifest["recipe_file"]), [*manifest.get("overrides", []), *overrides]
    return open_recipe(path, overrides, make_host())


def echo_json(data: Any) -> None:
    import json

    click.echo(json.dumps(data, ensure_ascii=False, indent=2, default=str))


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """A plain table that fits the terminal."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    grid = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False)
    for column in columns:
        grid.add_column(column, overflow="fold")
    for row in rows:
        grid.add_row(*(_cell(value) for value in row))
    Console().print(grid)


def _cell(value: Any) -> str:
    from rich.markup import escape

    return "" if value is None else escape(str(value))


def comparison_row(row: dict[str, Any]) -> list[Any]:
    """One comparison as cells: name, both values, difference, interval, number of pairs, verdict."""
    unit = row["unit"]
    interval = f"{number(row['ci'][0], unit)} .. {number(row['ci'][1], unit)}" if row["ci"] else ""
    unscored = f" ({row['unscored_base']}/{row['unscored_tuned']} unscored)" if row["unscored_base"] or row["unscored_tuned"] else ""
    numbers = [number(row[key], unit) for key in ("base", "tuned", "difference")]
    return [row["name"], *numbers, interval, f"{row['n']}{unscored}", row["verdict"]]


def number(value: float | None, unit: str) -> str:
    """A value in its unit; a dash where there is none."""
    if value is None:
        return "-"
    return f"{value:.1%}" if unit == "share" else f"{value:.3g}"
