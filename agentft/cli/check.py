"""``agentft check``: every mistake of a recipe at once, before anything runs."""

from __future__ import annotations

import click

from agentft.cli.common import echo_json, json_option, open_session, runs_option, set_option


@click.command("check")
@click.argument("recipe")
@set_option
@runs_option
@json_option
def command(recipe: str, overrides: tuple[str, ...], runs: str, as_json: bool) -> None:
    """Find every mistake in RECIPE before anything runs.

    Checks names, options, types along the chain of parts, required plugins, the persona and its rules, without
    loading a model. Exit code 2 if something is wrong.
    """
    from agentft.errors import RecipeError

    try:
        session = open_session(recipe, overrides, runs)
        persona = session.persona
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
        echo_json({"ok": True, "name": checked.name, "persona": persona.name, "chain": chain, "plugins": session.plugin_versions()})
        return
    click.echo(f"ok: {checked.name}: {' -> '.join(chain)}")
    click.echo(f"    model {checked.model}, persona {checked.persona.use} ({len(persona.policies)} policies)")
