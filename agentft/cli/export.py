"""``agentft export``: an agent as files for other programs, checked."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agentft.cli.common import echo_json, json_option, make_host, runs_option, table

if TYPE_CHECKING:
    from agentft.exporting import Export


@click.command("export")
@click.argument("agent")
@click.option("--to", "form", required=True, metavar="FORM", help="merged, adapter, gguf, ollama, int8, onnx, or a plugin's form.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder to write; default AGENT-FORM here.")
@click.option("--version", help="Version of a run: start or round-N; default: the promoted one.")
@click.option("--base", is_flag=True, help="The untrained model of a run, with the same persona.")
@click.option("--persona", help="Persona (name or file) for a model that is no run.")
@click.option("--dtype", help="merged, int8: what the weights are stored as.")
@click.option("--quantise", help="gguf, ollama: f32, f16 or q8_0.")
@click.option("--converter", help="gguf, ollama: convert_hf_to_gguf.py of a llama.cpp checkout, for other architectures.")
@click.option("-O", "--option", "options", multiple=True, metavar="NAME=VALUE", help="An option of the form (a plugin's, for example).")
@click.option("--prompts", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Rows (JSON lines) to compare on.")
@click.option("--probes", default=16, show_default=True, type=click.IntRange(1), help="How many rows are compared on.")
@click.option("--tolerance", type=click.FloatRange(0), help="Allowed mean KL divergence in nats, instead of the form's own.")
@click.option("--min-agreement", type=click.FloatRange(0, 1), help="Needed share of equal choices, instead of the form's own.")
@click.option("--force", is_flag=True, help="Replace an earlier export.")
@click.option("--dry-run", is_flag=True, help="Write nothing; say what would be written and what is missing.")
@runs_option
@json_option
def command(
    agent: str,
    form: str,
    out: Path | None,
    version: str | None,
    base: bool,
    persona: str | None,
    dtype: str | None,
    quantise: str | None,
    converter: str | None,
    options: tuple[str, ...],
    prompts: Path | None,
    probes: int,
    tolerance: float | None,
    min_agreement: float | None,
    force: bool,
    dry_run: bool,
    runs: str,
    as_json: bool,
) -> None:
    """Write AGENT (a run, a model folder, a bundled name, a hub id or a .gguf file) as files that other programs run.

    The files are read back and compared with the agent on held-out rows. Exit code 1 if they are not the agent: then
    they are left in OUT.refused, with the reason.
    """
    from agentft.exporting import export_agent
    from agentft.progress import Bars, Lines, for_terminal

    progress = Lines() if as_json else for_terminal()
    given = {"dtype": dtype, "quantise": quantise, "converter": converter}
    try:
        done = export_agent(
            agent,
            form,
            out,
            options={name: value for name, value in given.items() if value is not None} | dict(map(_option, options)),
            version=version,
            base=base,
            persona=persona,
            prompts=prompts,
            probes=probes,
            tolerance=tolerance,
            min_agreement=min_agreement,
            force=force,
            dry_run=dry_run,
            runs=runs,
            host=make_host(),
            progress=progress,
        )
    finally:
        if isinstance(progress, Bars):
            progress.close()
    if as_json:
        echo_json(done.to_dict())
    elif dry_run:
        _plan(done)
    else:
        _result(done)
    if not done.good:
        raise click.exceptions.Exit(1)


def _option(text: str) -> tuple[str, Any]:
    """``NAME=VALUE``; a value that is JSON is read as such."""
    import json

    name, sign, value = text.partition("=")
    if not sign or not name:
        raise click.UsageError(f"--option takes NAME=VALUE, not '{text}'")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _plan(done: Export) -> None:
    click.echo(f"{done.name} as {done.form} would be written to {done.path}")
    click.echo(f"size: {'not known before' if done.bytes is None else f'about {_size(done.bytes)}'}")
    click.echo(f"missing: {done.missing}" if done.missing else "everything that it needs is installed")


def _result(done: Export) -> None:
    columns = ["read with", "rows", "positions", "KL", "max KL", "choices", "answers", "prompts", "difference"]
    rows = [
        [
            one.reading,
            one.probes,
            one.positions or "",
            _number(one.kl),
            _number(one.kl_max),
            _share(one.agreement),
            _share(one.same_answers),
            _share(one.prompts),
            _number(one.difference),
        ]
        for one in done.agreements
    ]
    shown = [place for place in range(len(columns)) if any(row[place] != "" for row in rows)]
    table([columns[place] for place in shown], [[row[place] for place in shown] for row in rows])
    if any(one.kl is not None for one in done.agreements):
        click.echo("KL in nats per position; choices, answers and prompts: the share that is the agent's own.")
    for text in (*done.notes, *(f"note: {text}" for text in done.warnings)):
        click.echo(text)
    if done.good:
        click.echo(f"{done.path} ({_size(done.bytes or 0)}, {done.seconds:.0f} s)")
        return
    click.echo(f"refused, and left in {done.path}:", err=True)
    for text in done.refused:
        click.echo(f"  {text}", err=True)


def _size(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2g}"


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"
