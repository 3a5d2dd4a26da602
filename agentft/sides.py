"""What can be compared: a run, or the folder of an evaluation. Both become the same thing, scores with samples."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from agentft import arms
from agentft.errors import DataError, UserError
from agentft.evaluate.slices import slices_of
from agentft.records import Score
from agentft.runs import Store

RESULT = "result.json"
SIMULATED, EPISODES = "results.json", "episodes.jsonl"


@dataclass(frozen=True)
class Side:
    """One of two that are compared.

    Attributes:
        name: for tables; where: folder or run that it was read from.
        scores: with values per sample.
        groups: sample id -> group, for statistics that resample whole groups.
        samples: sample id -> ``prompt`` (messages), ``reference, text, finish, error``, ``slices`` (key -> value). Empty where the run kept
            no texts.
        headline: scores that decide, if the suite says so.
        persona: as data; empty if unknown.
    """

    name: str
    where: str
    scores: list[Score]
    groups: Mapping[str, str] = field(default_factory=dict)
    samples: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    headline: tuple[str, ...] = ()
    persona: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


def open_side(reference: str, store: Store, slices: tuple[str, ...] = ()) -> Side:
    """A finished run (id, folder, recipe name), or the folder of an evaluation or a simulation.

    Args:
        slices: keys of ``meta`` that a run's prompts are broken down by; an evaluation has those of its suite.

    Raises:
        UserError: it is neither, or it has no scores.
    """
    folder = Path(reference)
    if is_result(folder):
        return side_of_folder(folder)
    return side_of_run(reference, store, slices)


def is_result(folder: Path) -> bool:
    """Whether ``agentft evaluate --suite`` or ``agentft simulate`` left this folder."""
    return (folder / RESULT).is_file() or ((folder / SIMULATED).is_file() and (folder / EPISODES).is_file())


def side_of_folder(folder: Path) -> Side:
    """What ``agentft evaluate --suite`` or ``agentft simulate`` left.

    Raises:
        UserError: the file is damaged, or holds no scores.
    """
    path = folder / RESULT if (folder / RESULT).is_file() else folder / SIMULATED
    try:
        data = json.loads(path.read_text("utf-8"))
        scores = [Score.from_dict(row) for row in data["scores"]]
        samples = {row["id"]: row for row in data.get("samples") or ()} if path.name == RESULT else _conversations(folder)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is not the result of an evaluation ({type(error).__name__}: {error})") from None
    if not scores:
        raise UserError(f"{path} has no scores; give the suite evaluators")
    agent = data.get("agent") or {}
    return Side(
        str(agent.get("name", folder.name)) if isinstance(agent, Mapping) else str(agent),
        str(folder),
        scores,
        {name: str(row.get("group") or name) for name, row in samples.items()},
        samples,
        tuple(data.get("headline") or ()),
        data.get("persona") or {},
        tuple(data.get("warnings") or ()),
    )


def _conversations(folder: Path) -> dict[str, dict[str, Any]]:
    """The first conversation about each task of a simulation, as a sample whose prompt is the task's name and whose text is all of it."""
    found: dict[str, dict[str, Any]] = {}
    for row in arms.whole_lines(folder / EPISODES):
        name = str(row["task"])
        if name not in found:
            found[name] = {
                "id": name,
                "slices": {},
                "prompt": [{"role": "user", "content": f"task {name}"}],
                "reference": None,
                "text": "\n".join(_line(message) for message in row["messages"]),
                "finish": "error" if row.get("end") == "agent-error" else "stop",
                "error": str(row.get("error") or ""),
            }
    return found


def _line(message: Mapping[str, Any]) -> str:
    calls = "".join(f" {call['name']}({json.dumps(call['arguments'], ensure_ascii=False)})" for call in message.get("tool_calls") or ())
    return f"{message['role']}: {message['content']}{calls}"


def side_of_run(reference: str, store: Store, slices: tuple[str, ...] = ()) -> Side:
    """What a run trained (its base model where it trained nothing), on the rows that it was evaluated on.

    Raises:
        UserError: there is no such run, or it was not evaluated.
    """
    home = Store.holding(reference, store.root)
    manifest = home.manifest(reference)
    stages: Mapping[str, Any] = {stage["name"]: stage for stage in manifest["stages"]}
    arm = "tuned" if any(name.startswith("scores-tuned-") for name in stages) else "base"
    scores = [
        score
        for name, stage in stages.items()
        if name.startswith(f"scores-{arm}-")
        for score in arms.read_scores(home.stages / stage["folder"])
    ]
    if not scores:
        raise UserError(f"run '{manifest['id']}' has no scores; give its recipe evaluators and run it")
    data = home.stages / stages["data"]["folder"]
    answers = stages.get(f"answers-{arm}")
    samples = _samples(home.stages / answers["folder"], data, slices) if answers else {}
    return Side(manifest["id"], manifest["id"], scores, arms.groups(data), samples, persona=manifest.get("persona") or {})


def _samples(answers: Path, data: Path, slices: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """The texts of a run; none for models that predict labels or fill in masks."""
    try:
        found = arms.samples(answers, data)
    except (OSError, ValueError, KeyError, TypeError, DataError):
        return {}
    of_sample = slices_of((sample.prompt for sample in found), slices)
    return {
        sample.id: {
            "id": sample.id,
            "slices": of_sample[sample.id],
            "prompt": [{"role": m.role, "content": m.content} for m in sample.prompt.messages],
            "reference": sample.reference,
            "text": sample.text,
            "finish": sample.response.finish,
            "error": sample.response.error,
        }
        for sample in found
    }


def told_apart(first: Side, second: Side) -> tuple[Side, Side]:
    """The same with names that differ."""
    if first.name != second.name:
        return first, second
    if Path(first.where).name != Path(second.where).name:
        return replace(first, name=Path(first.where).name), replace(second, name=Path(second.where).name)
    return replace(first, name=f"{first.name} (A)"), replace(second, name=f"{second.name} (B)")


def common(first: Side, second: Side) -> list[str]:
    """Ids of the prompts that both were asked, in the order of ``first``.

    Raises:
        UserError: something else was asked under one id.
    """
    both = [name for name in first.samples if name in second.samples]
    for name in both:
        if first.samples[name]["prompt"] != second.samples[name]["prompt"]:
            raise UserError(f"prompt '{name}' is not the same in {first.where} and {second.where}; compare evaluations of the same prompts")
    return both
