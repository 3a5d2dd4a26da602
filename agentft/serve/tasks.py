"""What a person is asked: answers of a run, in pairs where there are two, in an order that gives nothing away."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from agentft.data.jsonl import iter_rows, read_conversations
from agentft.errors import DataError, UserError
from agentft.records import Example


@dataclass(frozen=True)
class Task:
    """One or two answers to one prompt; ``responses``: id -> text."""

    id: str
    prompt: Example
    responses: Mapping[str, str]

    def shown(self, rater: str, seed: int) -> list[tuple[str, str]]:
        """The answers in the order in which ``rater`` sees them: drawn by seed, the same after a reload."""
        order = sorted(self.responses.items())
        Random(f"{seed}\0{rater}\0{self.id}").shuffle(order)
        return order

    @classmethod
    def from_dict(cls, data: Any) -> Task:
        if not isinstance(data, Mapping) or not isinstance(data.get("responses"), Sequence):
            raise DataError("a task needs id, prompt and responses")
        responses = {str(one["id"]): str(one["text"]) for one in data["responses"]}
        if len(responses) not in (1, 2):
            raise DataError(f"task '{data.get('id')}' has {len(responses)} answers; one or two can be shown")
        return cls(str(data["id"]), Example.from_dict(data["prompt"], str(data["id"])), responses)


def tasks_of_run(manifest: Mapping[str, Any], stages: Path) -> list[Task]:
    """The work list of the latest round; without rounds, the tuned model's answers beside the base model's.

    Raises:
        UserError: the run has no answers yet.
    """
    folders = [stages / stage["folder"] for stage in manifest["stages"]]
    lists = [folder / "annotate.jsonl" for folder in folders if (folder / "annotate.jsonl").is_file()]
    if lists:
        return [Task.from_dict(row) for row in iter_rows(lists[-1])]
    answers = [stage for stage in manifest["stages"] if stage["name"].startswith("answers-")]
    data = next((stages / stage["folder"] for stage in manifest["stages"] if stage["name"] == "data"), None)
    if not answers or data is None:
        raise UserError(f"run {manifest['id']} has no answers yet; continue it with `agentft run`")
    prompts = [*read_conversations(data / "prompts.jsonl"), *read_conversations(data / "test.jsonl")]
    texts = {
        stage["name"].removeprefix("answers-"): {row["id"]: row["text"] for row in iter_rows(stages / stage["folder"] / "answers.jsonl")}
        for stage in answers
    }
    found = []
    for example in prompts:
        prompt = example.as_prompt()[0]
        answered = {f"{prompt.id}@{arm}": rows[prompt.id].strip() for arm, rows in texts.items() if rows.get(prompt.id, "").strip()}
        if len(set(answered.values())) == 1:
            answered = dict(list(answered.items())[:1])
        if answered:
            found.append(Task(prompt.id, prompt, dict(list(answered.items())[-2:])))
    return found
