"""``agentft evaluate-critic``: how far a judge agrees with people, with an exit code for CI."""

from __future__ import annotations

from pathlib import Path

import click

from agentft.cli.common import echo_json, json_option, make_host, table


@click.command("evaluate-critic")
@click.argument("labels", type=click.Path(exists=True, path_type=Path))
@click.option("--model", required=True, help="Who judges: a model name, or with --url the server's name for it.")
@click.option("--url", help="OpenAI-compatible server, up to /v1.")
@click.option("--backend", "part", help="Part that runs the model in place of transformers, such as llamacpp.")
@click.option("--key-env", help="Environment variable that holds the server's key.")
@click.option(
    "--mode",
    type=click.Choice(["text", "likelihood"]),
    help="Read what the judge writes, or compare log-probabilities (transformers only). Default: likelihood where it can be.",
)
@click.option("--repeats", default=1, show_default=True, type=click.IntRange(1, 9), help="Tries per question; the majority counts.")
@click.option("--temperature", type=click.FloatRange(0, 2), help="Default: 0, with --repeats above 1: 0.7.")
@click.option("--language", type=click.Choice(["en", "zh"]), default="en", show_default=True, help="Language of the judge's prompt.")
@click.option("--limit", type=click.IntRange(1), help="Only the first labels.")
@click.option("--bar", default=0.8, show_default=True, type=click.FloatRange(0.5, 1), help="TPR and TNR that a gating critic needs.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Folder for judgements and figures. Default: ./critic-MODEL.")
@click.option("--seed", default=0, show_default=True)
@json_option
def command(
    labels: Path,
    model: str,
    url: str | None,
    part: str | None,
    key_env: str | None,
    mode: str | None,
    repeats: int,
    temperature: float | None,
    language: str,
    limit: int | None,
    bar: float,
    out: Path | None,
    seed: int,
    as_json: bool,
) -> None:
    """Hold a judge model against human LABELS: a JSON-lines file, or a folder in the form of LLMBar.

    A row is {prompt, a, b, label: a | b} or {prompt, response, item, label: pass | fail}. Both orders of a pair are asked. The same command
    continues after an interruption. Exit code 1 if the judge may advise, but not gate.
    """
    from agentft.critic_check import check_critic
    from agentft.data.labels import LabelledPair, read_labels
    from agentft.errors import UserError
    from agentft.feedback.prompts import ModelUse, open_model, template_source
    from agentft.progress import Lines, for_terminal
    from agentft.recipe_parts import PartUse

    if part and url:
        raise UserError("--backend and --url are two ways to run the judge; leave one out")
    chosen = mode or ("text" if url or part else "likelihood")
    if chosen == "likelihood" and (url or part not in (None, "transformers")):
        raise UserError("--mode likelihood needs transformers in this process; leave out --url and --backend, or use --mode text")
    if chosen == "likelihood" and repeats > 1:
        raise UserError("--mode likelihood always gives the same answer; leave out --repeats")
    heat = (0.7 if repeats > 1 else 0.0) if temperature is None else temperature
    if repeats > 1 and heat == 0:
        raise UserError("--repeats above 1 needs a --temperature above 0: at 0 every try is the same")
    found = read_labels(labels)[:limit]
    host = make_host()
    use = ModelUse(model=model, url=url, key_env=key_env, backend=PartUse.model_validate(part) if part else None)
    backend = open_model(use, resolve=host.resolve_model, device={}, catalog=host.catalog)
    template = template_source(host.catalog, "judge_pair" if isinstance(found[0], LabelledPair) else "critique", language)
    progress = Lines() if as_json else for_terminal()
    progress.stage("evaluate-critic", f"{len(found)} labels, {model}, {chosen}")
    result = check_critic(
        found,
        backend,
        model=model,
        template=template,
        mode=chosen,  # type: ignore[arg-type]
        repeats=repeats,
        temperature=heat,
        seed=seed,
        bar=bar,
        out=out or Path(f"critic-{model.replace('/', '-')}"),
        progress=progress.step,
    )
    progress.finished("evaluate-critic", 0.0)
    if as_json:
        echo_json(result.to_dict())
    else:
        table(["figure", "value", "95 % interval"], _rows(result))
        click.echo("may gate" if result.passes else f"may advise, not gate: {result.why}")
    if not result.passes:
        raise click.exceptions.Exit(1)


def _rows(found: object) -> list[list[str]]:
    names = {
        "accuracy": "accuracy",
        "tpr": "true positive rate",
        "tnr": "true negative rate",
        "kappa": "kappa",
        "swap_consistency": "same answer in both orders",
        "flips": "flips over repeats",
        "ties": "ties",
        "unreadable": "unreadable",
        "first_share": "prefers what stands first",
    }
    rows = [["cases", str(found.n), ""]]  # type: ignore[attr-defined]
    for key, label in names.items():
        value, interval = getattr(found, key), getattr(found, f"{key}_ci", None)
        if value is not None:
            rows.append([label, f"{value:.3f}", f"{interval[0]:.3f} .. {interval[1]:.3f}" if interval else ""])
    return rows
