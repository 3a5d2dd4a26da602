"""``capability``: general instructions with answers that a rule can check, to see whether training cost the model what it could do.

60 English or 20 Chinese tasks by the persona's language (``data/capability.jsonl``), written for this project: plain facts, small
sums, copying, formats, words to translate, sorting, counting, yes or no. They are asked through the persona's prompt like every
other prompt. So the figure says what *this agent* still does when it is asked, not what the model is able to do: a
persona that must refuse everything outside its shop, or end every answer with a question, loses some here. What counts is the
difference between two agents with the same persona, which is what the gate and the comparison look at.

Rules are lenient about words around an answer, except for the kind ``format``. An answer that is right by chance counts: half of the
English yes-or-no tasks are "no". No task is passed by repeating its question or by saying the same thing to all of them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from agentft.contracts import EvalContext, Generate
from agentft.evaluate.common import NAN, score_from
from agentft.records import Example, Message, Response, Score
from agentft.rules import Rule, compile_rule

FILE = Path(__file__).parent / "data" / "capability.jsonl"
SUMMARIES = {
    "facts": "plain facts that everybody knows",
    "arithmetic": "sums with small numbers",
    "copying": "a text written again without a change",
    "format": "an answer in exactly the form that was asked for",
    "translation": "single words into another language",
    "sorting": "short lists put in order",
    "counting": "things counted",
    "logic": "yes or no, and which of two",
}


@dataclass(frozen=True)
class Task:
    """One instruction of the suite; ``answer`` is one right answer, for the reader and the tests."""

    id: str
    kind: str
    prompt: str
    answer: str
    rule: Rule


@cache
def tasks(language: str) -> tuple[Task, ...]:
    """The suite in ``en`` or ``zh``, in the order of the file."""
    rows = [json.loads(line) for line in FILE.read_text(encoding="utf-8").splitlines()]
    return tuple(
        Task(f"capability-{row['id']}", row["kind"], row["prompt"], row["answer"], compile_rule(row["rule"]))
        for row in rows
        if row["language"] == language
    )


def capability(samples: Sequence[Any], generate: Generate, config: Any, ctx: EvalContext) -> list[Score]:
    """Share of the tasks answered right, whatever the samples are.

    Returns:
        ``capability``: all tasks, with ``details``: task id -> prompt, response, a right answer and whether it was right;
        ``capability/KIND``: those of one kind. ``per_sample`` is 1 or 0 by task id; a failed generation is NaN, an empty answer wrong.
    """
    asked = tasks("zh" if ctx.language == "zh" else "en")
    prompts = [Example(task.id, (Message("user", task.prompt),), meta={"language": ctx.language}) for task in asked]
    values: dict[str, float] = {}
    details: dict[str, Mapping[str, Any]] = {}
    for task, response in zip(asked, generate(prompts), strict=True):
        values[task.id] = _value(task, response)
        shown = response.text if response.finish != "error" else f"(failed: {response.error})"
        details[task.id] = {"prompt": task.prompt, "response": shown, "right": task.answer, "passed": values[task.id] == 1}
    summary = f"general instructions ({len(asked)}) with an answer that can be checked, asked through the persona's prompt"
    scores = [score_from("capability", values, seed=ctx.seed, summary=summary, details=details)]
    for kind, text in SUMMARIES.items():
        of_kind = {task.id: values[task.id] for task in asked if task.kind == kind}
        scores.append(score_from(f"capability/{kind}", of_kind, seed=ctx.seed, summary=text))
    return scores


def _value(task: Task, response: Response) -> float:
    return NAN if response.finish == "error" else float(task.rule.check(response.text, {}).passed)
