"""``agentft init``: a folder with a recipe that runs as it is: for a persona of one's own, or for a task without one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from agentft.check import missing
from agentft.cli import init_tasks
from agentft.cli.common import make_host
from agentft.errors import UserError

if TYPE_CHECKING:
    from agentft.catalog import Catalog, Entry

RECIPE = """\
# agentft check {folder}/recipe.yaml     finds every mistake before anything runs
# agentft data {folder}/recipe.yaml      shows what will be learned
# agentft run {folder}/recipe.yaml       does everything
# agentft chat {name}     talks to the result
name: {name}
model: {model}
persona: persona.yaml
{requires}data:
  sources:
{sources}
  transforms: [normalize, dedup]
  split: {{validation: 0.1, test: 0.1, by: group, seed: 7}}
{prompts}train:
  - {{use: sft, strategy: {{lora: {{r: 16}}}}, epochs: 3, learning_rate: 1e-3}}
{refine}evaluate:
{evaluators}
"""

REFINE = """\
# Rounds of feedback: agentft refine {folder}/recipe.yaml (docs/rounds.md). Without these lines `agentft run` stops after the evaluation.
refine:
  rounds: 1
  prompts: [{prompts}]
  max_prompts: 100
  critics: [{critics}]
  train: {{use: dpo, epochs: 1, learning_rate: 1e-4, loss_weights: [1.0, 0.5]}}
  control: {{use: sft, epochs: 1, learning_rate: 2e-4}}
  gate:
    primary: persona-adherence
    guardrails: [{{use: {guard}, margin: 0.05}}]
"""

PERSONA = """\
# Everything that is not written here comes from {parent}. See: agentft personas show {parent}
name: {name}
extends: {parent}
summary: {summary}
# role: |
#   Who the agent is, in one to three sentences.
# policies:               # the checklist that every answer is held against
#   - id: short           # the id of an inherited policy changes that one; `enabled: false` switches it off
#     text: Answer in at most 40 words.
#     rule: {{words: {{max: 40}}}}
"""

CONVERSATIONS = (
    ("How do I export my notes?", "Open Settings, choose Export and pick PDF or Markdown. The file lands in your Downloads folder."),
    ("Can I use the app offline?", "Yes. Notes that you opened in the last 30 days stay on your device and are sent when you are online."),
    ("The sync icon is red, what now?", "Red means that the last sync failed. Tap the icon to see why; most often Retry is enough."),
)

BUILTIN_EVALUATORS = (
    "persona-adherence",
    "relevance",
    "rouge",
    "bleu",
    "chrf",
    "perplexity",
    "stop-rate",
    "length",
    "distinct-2",
    "break-character",
)


@click.command("init")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--persona", help="Persona to start from (see: agentft personas list).  [default: assistant]")
@click.option(
    "--task",
    type=click.Choice(["chat", *init_tasks.STARTS]),
    default="chat",
    show_default=True,
    help=f"What the model is to do: chat as a persona; {'; '.join(f'{name}: {start.says}' for name, start in init_tasks.STARTS.items())}.",
)
@click.option("--model", help="Bundled name, hub id, folder or .gguf file.  [default: smollm2-135m; minilm to predict labels]")
@click.option("--force", is_flag=True, help="Overwrite files that are there.")
def command(folder: Path, persona: str | None, task: str, model: str | None, force: bool) -> None:
    """Start a recipe in FOLDER: recipe.yaml, and what you change first: persona.yaml, or for a task some rows.

    A persona of a plugin brings the plugin's data, prompts and evaluators; with a built-in one, put your
    conversations into conversations.jsonl.
    """
    name = "-".join(folder.resolve().name.lower().replace("_", " ").split())
    if task != "chat":
        if persona is not None:
            raise UserError(f"--task {task} needs no persona: leave out --persona, or the task to chat")
        files = init_tasks.files(task, str(folder), name, model)
    else:
        files = _chat(folder, name, persona or "assistant", model or "smollm2-135m")
    there = [file for file in files if (folder / file).exists()]
    if there and not force:
        raise UserError(f"{folder / there[0]} is already there (use --force to overwrite, or another folder)")
    for file, text in files.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(text, encoding="utf-8")
        click.echo(f"wrote {folder / file}")
    click.echo(f"next: agentft check {folder}/recipe.yaml, then agentft run {folder}/recipe.yaml")


def _chat(folder: Path, name: str, persona: str, model: str) -> dict[str, str]:
    catalog = make_host().catalog
    entry = catalog.get("persona", persona)
    namespace = persona.partition("/")[0] if "/" in persona else ""
    files = {
        "persona.yaml": PERSONA.format(name=name, parent=persona, summary=entry.spec.summary),
        "recipe.yaml": _recipe(catalog, folder, name, model, namespace, entry.distribution, persona),
    }
    if not namespace:
        files["conversations.jsonl"] = "".join(_row(question, answer) for question, answer in CONVERSATIONS)
    return files


def _row(question: str, answer: str) -> str:
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return json.dumps({"messages": messages}, ensure_ascii=False) + "\n"


def _has_rows(catalog: Catalog, source: Entry, persona: str) -> bool:
    """Whether a packaged source has rows for a persona; not every persona of a plugin has queries of its own."""
    from agentft.contracts import DataContext
    from agentft.data.packaged import PackagedConfig
    from agentft.errors import DataError
    from agentft.persona import load_persona

    try:
        next(iter(catalog.target(source)(PackagedConfig.model_validate({}), DataContext(persona=load_persona(catalog, persona)))))
    except DataError:
        return False
    return True


def _recipe(catalog: Catalog, folder: Path, name: str, model: str, namespace: str, distribution: str, persona: str) -> str:
    mine = {
        kind: [e for e in catalog.entries(kind) if namespace and e.plugin.name == namespace] for kind in ("source", "critic", "evaluator")
    }
    # A source that needs options (a path) cannot be used as it is.
    packaged = [e for e in mine["source"] if getattr(catalog.config_model(e), "__name__", "") == "PackagedConfig"]
    sources = [f"    - {e.name}" for e in packaged if getattr(e.spec, "produces", "") == "example"]
    asked = [e for e in packaged if getattr(e.spec, "produces", "") == "prompt"]
    prompts = [e.name for e in asked if not getattr(e.spec, "practice", False)]
    practice = [e.name for e in asked if getattr(e.spec, "practice", False) and _has_rows(catalog, e, persona)]
    refine = REFINE.format(
        folder=folder, prompts=", ".join(practice), critics=", ".join(e.name for e in mine["critic"]), guard="relevance/facts"
    )
    evaluators = [
        *(e for e in BUILTIN_EVALUATORS if e in catalog.names("evaluator")),
        *(e.name for e in mine["evaluator"] if not missing(e)),
    ]
    return RECIPE.format(
        folder=folder,
        name=name,
        model=model,
        requires=f'requires: ["{distribution}"]\n' if namespace else "",
        sources="\n".join(sources) or "    - {use: jsonl, path: conversations.jsonl}",
        prompts=f"  prompts: [{', '.join(prompts)}]\n" if prompts else "",
        refine=refine if practice else "",
        evaluators="\n".join(f"  - {e}" for e in evaluators),
    )
