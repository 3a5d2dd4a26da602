"""A task for inspect_ai: ten plain questions, scored by whether the answer is told. The data lie in ../lm-eval/questions.json.

inspect eval house_questions.py --model openai-api/agentft/MODEL
"""

from __future__ import annotations

import json
from pathlib import Path

from inspect_ai import Task, task
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.scorer import includes
from inspect_ai.solver import generate

FILE = Path(__file__).resolve().parents[1] / "lm-eval" / "questions.json"


@task
def house_questions() -> Task:
    rows = json.loads(FILE.read_text("utf-8"))
    samples = [Sample(input=row["question"], target=row["answer"], id=number) for number, row in enumerate(rows)]
    return Task(dataset=MemoryDataset(samples), solver=generate(max_tokens=48, temperature=0.0), scorer=includes())
