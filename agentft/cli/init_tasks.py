"""What ``agentft init --task`` writes: for each task a recipe, and a few rows that show its form and that it runs on as it is."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

RECIPE = """\
# agentft check {folder}/recipe.yaml     finds every mistake before anything runs
# agentft data {folder}/recipe.yaml      shows what will be learned
# agentft run {folder}/recipe.yaml       trains, and measures on rows that were held out
# {advice} All options: docs/tasks.md
name: {name}
model: {model}
data:
  # Made-up rows, far too few to learn from: put yours in their place, or another source (docs/data.md).
  sources: [{source}]
  transforms: [{transforms}]
  split: {split}
train:
  - {trainer}
evaluate: [{evaluators}]
"""


@dataclass(frozen=True)
class Start:
    """A task with its trainer and its data.

    Attributes:
        says: what it does, for the help.
        advice: one sentence at the head of the recipe.
        rows: makes the files with the rows: name -> text.
    """

    says: str
    model: str
    source: str
    trainer: str
    evaluators: str
    advice: str
    rows: Callable[[], dict[str, str]]
    transforms: str = "normalize, dedup"
    split: str = "{validation: 0, test: 0.25, seed: 7}"


ITEMS = ("lamp", "kettle", "tent", "backpack", "mug", "jacket", "stove", "bottle")
PLACES = ("Turin", "Lyon", "Oslo", "Porto", "Bremen", "Gent", "Malmö", "Graz")
MESSAGES = {
    "delivery": ("Where is my {}?", "My {} has not arrived yet.", "When will the {} be delivered?"),
    "refund": ("I want my money back for the {}.", "How do I get a refund for this {}?", "Please refund the {}, I sent it back."),
    "defect": ("The {} arrived broken.", "My {} stopped working after two days.", "There is a crack in the {}."),
}
REVIEWS = (
    (5, "The {} is perfect, I would buy it again at once."),
    (4, "A good {}, only the colour is not what I expected."),
    (2, "The {} works, but it feels cheap and loud."),
    (1, "The {} broke on the first day, a waste of money."),
)
DOCUMENT = """\
# {title}

The {item} is made in {place}. It is tested there before it leaves the workshop, and every part can be replaced.

# Care

Clean the {item} with warm water and a soft cloth. Do not use bleach. Keep it dry when you do not use it.

# Guarantee

We repair the {item} free of charge for two years. Send it to our workshop in {place} with the number on its base.
"""


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([head, *rows])
    return text.getvalue()


def _classes() -> dict[str, str]:
    rows = [(said.format(item), label) for item in ITEMS for label, ways in MESSAGES.items() for said in ways]
    return {"rows.csv": _table(("text", "label"), rows)}


def _numbers() -> dict[str, str]:
    return {"rows.csv": _table(("text", "stars"), [(said.format(item), stars) for item in ITEMS for stars, said in REVIEWS])}


def _tags() -> dict[str, str]:
    # Each name is in one sentence only: what is held out has to be told by what stands around it.
    items = [f"Please O\nsend O\nthe O\n{item} B-ITEM\nback O\ntoday O\n. O\n" for item in ITEMS]
    places = [f"I O\nlive O\nin O\n{place} B-PLACE\nsince O\nMay O\n. O\n" for place in PLACES]
    return {"rows.conll": "\n".join(items + places)}


def _spans() -> dict[str, str]:
    rows: list[dict[str, Any]] = []
    for number, (item, place) in enumerate(zip(ITEMS, PLACES, strict=True)):
        context = f"The {item} was sent to {place} on day {number + 2} of the month."
        for question, answer in ((f"Where was the {item} sent?", place), ("When was it sent?", f"day {number + 2}")):
            answers = [{"text": answer, "answer_start": context.index(answer)}]
            rows.append({"id": f"{number}-{len(rows)}", "question": question, "context": context, "answers": answers})
    return {"rows.jsonl": "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)}


def _texts() -> dict[str, str]:
    return {
        f"texts/{item}.md": DOCUMENT.format(title=f"The {item}", item=item, place=place) for item, place in zip(ITEMS, PLACES, strict=True)
    }


STARTS = {
    "classify": Start(
        "sort texts into classes",
        "minilm",
        "{use: csv, path: rows.csv, columns: {text: text, label: label}}",
        "{use: classify, epochs: 10, learning_rate: 3e-4}",
        "accuracy, f1, calibration, confusion",
        "Ten to twenty rows of each class are a beginning; rare ones: class_weights: balanced.",
        _classes,
        split="{validation: 0, test: 0.25, stratify: label, seed: 7}",
    ),
    "regress": Start(
        "give texts a number",
        "minilm",
        "{use: csv, path: rows.csv, columns: {text: text, label: stars}}",
        "{use: regress, epochs: 10, learning_rate: 3e-4}",
        "regression",
        "A thousand rows are a beginning; with outliers: loss: huber.",
        _numbers,
    ),
    "tag": Start(
        "find names and things in sentences",
        "minilm",
        "{use: conll, path: rows.conll}",
        "{use: tag, epochs: 20, learning_rate: 5e-4}",
        "ner",
        "One word and its tag a line, an empty line between sentences; some hundred with each type.",
        _tags,
        transforms="",
    ),
    "span": Start(
        "find the answer to a question in a text",
        "minilm",
        "{use: spans, path: rows.jsonl}",
        "{use: span, epochs: 20, learning_rate: 5e-4}",
        "qa",
        "An answer has to stand in the context, where answer_start says.",
        _spans,
        transforms="",
    ),
    "clm": Start(
        "teach a chat model the language of your documents",
        "smollm2-135m",
        "{use: text, path: texts, by: heading}",
        "{use: clm, strategy: {lora: {r: 16}}, block: 256, epochs: 2, learning_rate: 5e-4}",
        "text-perplexity",
        "It learns words and phrases; facts belong into retrieval. Conversations may follow: add sft.",
        _texts,
    ),
}


def files(task: str, folder: str, name: str, model: str | None) -> dict[str, str]:
    """File name -> its text, for a task of :data:`STARTS`. ``model``: instead of the task's own."""
    start = STARTS[task]
    recipe = RECIPE.format(
        folder=folder,
        name=name,
        advice=start.advice,
        model=model or start.model,
        source=start.source,
        transforms=start.transforms,
        split=start.split,
        trainer=start.trainer,
        evaluators=start.evaluators,
    )
    return {"recipe.yaml": recipe, **start.rows()}
