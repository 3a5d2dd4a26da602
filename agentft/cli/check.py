"""``agentft check``: every mistake of a recipe at once, before anything runs."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from agentft.cli.common import echo_json, json_option, open_session, runs_option, set_option


@click.command("check")
@click.argument("recipe")
@set_option
@runs_option
@click.option(
    "--distributed",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Also check this configuration file of accelerate, and say what it would divide among how many processes.",
)
@json_option
def command(recipe: str, overrides: tuple[str, ...], runs: str, distributed: Path | None, as_json: bool) -> None:
    """Find every mistake in RECIPE before anything runs.

    Checks names, options, types along the chain of parts, required plugins, the persona and its rules, without
    loading a model. Exit code 2 if something is wrong.
    """
    from agentft.errors import RecipeError

    try:
        session = open_session(recipe, overrides, runs)
        persona = session.persona
        if distributed is not None:
            from agentft.distributed_config import plan

            planned = plan(distributed, session)
    except RecipeError as error:
        if not as_json:
            raise
        echo_json({"ok": False, "problems": [vars(problem) for problem in error.problems]})
        raise click.exceptions.Exit(2) from None
    checked = session.recipe
    chain = [
        " + ".join(use.use for use in checked.data.sources) or "no training data",
        *(use.use for use in checked.data.transforms),
        "split",
        *(use.use for use in checked.train),
        f"{len(checked.evaluate)} evaluators",
    ]
    if as_json:
        result = {"ok": True, "name": checked.name, "persona": persona.name, "chain": chain, "plugins": session.plugin_versions()}
        echo_json(result | ({"distributed": asdict(planned)} if distributed else {}))
        return
    click.echo(f"ok: {checked.name}: {' -> '.join(chain)}")
    click.echo(f"    model {checked.model}, persona {checked.persona.use} ({len(persona.policies)} policies)")
    if distributed is not None:
        of = f" of {planned.layers} layers ({planned.layer})" if planned.layer else ""
        click.echo(f"    {planned.processes} processes, the model in {planned.kind}{of}")
        for name, need in planned.needs:
            click.echo(
                f"    {name}: {need.total / 1e9:.1f} GB on each by arithmetic: weights {need.weights / 1e9:.1f}, gradients and Adam "
                f"{(need.gradients + need.optimiser) / 1e9:.1f}, activations {need.activations / 1e9:.1f}, "
                f"other {(need.gathered + need.logits) / 1e9:.1f}"
            )
        for note in planned.notes:
            click.echo(f"    {note}")
