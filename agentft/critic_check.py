"""A critic against human labels, resumable: judgements are written as they come, and taken over by the next try."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from agentft.contracts import Backend, GenerationSettings
from agentft.data.labels import Labelled, LabelledItem, LabelledPair
from agentft.evaluate.agreement import BAR, Calibration, Judged, calibrate
from agentft.feedback.pairwise import Duel, by_likelihood, by_text, compare_pairs
from agentft.feedback.parse import parse_items
from agentft.jinja import render_text
from agentft.records import Example, Message
from agentft.runs import digest, write_atomic

Mode = Literal["text", "likelihood"]
CHUNK = 16


def check_critic(
    labels: Sequence[Labelled],
    backend: Backend,
    *,
    model: str,
    template: str,
    mode: Mode = "text",
    repeats: int = 1,
    temperature: float = 0.0,
    seed: int = 0,
    bar: float = BAR,
    out: Path,
    progress: Callable[[int, int], None] | None = None,
) -> Calibration:
    """Judge every label, and the figures; ``out`` gets ``judgements.jsonl`` and ``calibration.json``.

    Args:
        backend: with ``mode="likelihood"``, one in process.
        template: source of ``judge_pair`` for pairs, of ``critique`` for items.
        repeats: tries per question; above 1 needs a temperature.

    Judgements of an earlier try with the same settings are taken over; failures are tried again.
    """
    out.mkdir(parents=True, exist_ok=True)
    settings = digest([model, template, mode, repeats, temperature, seed])
    log = out / "judgements.jsonl"
    done = {row["id"]: row for row in _known(log) if row["settings"] == settings and not row["error"]}
    waiting = [label for label in labels if label.id not in done]
    ask = _asker(backend, mode, temperature, seed)
    for start in range(0, len(waiting), CHUNK):
        chunk = waiting[start : start + CHUNK]
        rows = _pairs(chunk, ask, template, repeats) if isinstance(chunk[0], LabelledPair) else _items(chunk, ask, template, repeats)
        with log.open("a", encoding="utf-8") as stream:
            for row in rows:
                row["settings"] = settings
                stream.write(json.dumps(row, ensure_ascii=False) + "\n")
                done[row["id"]] = row
        if progress is not None:
            progress(len(labels) - len(waiting) + start + len(chunk), len(labels))
    cases = [_judged(label, done[label.id]) for label in labels]
    found = calibrate(cases, critic="judge", model=model, bar=bar)
    write_atomic(out / "calibration.json", json.dumps(found.to_dict(), ensure_ascii=False, indent=1))
    return found


def _known(log: Path) -> Iterator[dict[str, Any]]:
    for line in log.read_text("utf-8").splitlines() if log.is_file() else ():
        try:
            yield json.loads(line)
        except ValueError:
            continue  # the line that a kill cut


def _judged(label: Labelled, row: dict[str, Any]) -> Judged:
    return Judged(label.id, label.label, row["said"], tuple(row["forward"]), tuple(row["backward"]))


def _asker(backend: Backend, mode: Mode, temperature: float, seed: int) -> Any:
    if mode == "likelihood":
        return backend.agent  # type: ignore[attr-defined]
    return backend, GenerationSettings(max_new_tokens=64, temperature=temperature, batch_size=CHUNK, seed=seed)


def _pairs(chunk: Sequence[Labelled], ask: Any, template: str, repeats: int) -> list[dict[str, Any]]:
    duels = [Duel(one.id, one.prompt, one.first, one.second) for one in chunk if isinstance(one, LabelledPair)]
    asker = by_text(*ask) if isinstance(ask, tuple) else by_likelihood(ask)
    return [
        {"id": one.id, "said": one.winner, "forward": one.forward, "backward": one.backward, "error": one.error}
        for one in compare_pairs(duels, asker, template, repeats=repeats)
    ]


def _items(chunk: Sequence[Labelled], ask: Any, template: str, repeats: int) -> list[dict[str, Any]]:
    items = [one for one in chunk if isinstance(one, LabelledItem)]
    questions = [_item_question(one, f"{one.id}~{number}", template) for one in items for number in range(repeats)]
    if isinstance(ask, tuple):
        backend, settings = ask
        replies = {one.id: one for one in backend.generate(questions, settings)}
        votes = {
            key: parse_items(one.text, [_slug(one.id, items)]).get(_slug(one.id, items), (None, ""))[0] for key, one in replies.items()
        }
        errors = {key: one.error for key, one in replies.items()}
    else:
        both = [
            Example(one.id, (*one.messages, Message("assistant", f"{_slug(one.id, items)}: {word}")))
            for one in questions
            for word in ("yes", "no")
        ]
        sums = [total for total, _ in ask.logprobs(both)]
        votes = {one.id: "pass" if sums[2 * i] > sums[2 * i + 1] else "fail" for i, one in enumerate(questions)}
        errors = dict.fromkeys(votes, "")
    rows = []
    for one in items:
        tries = [votes[f"{one.id}~{number}"] for number in range(repeats)]
        failed = [errors[f"{one.id}~{number}"] for number in range(repeats)]
        said = next((word for word in ("pass", "fail") if 2 * tries.count(word) > repeats), None)
        rows.append({"id": one.id, "said": said, "forward": tries, "backward": [], "error": failed[0] if all(failed) else ""})
    return rows


def _slug(question: str, items: Sequence[LabelledItem]) -> str:
    return next(one.item for one in items if one.id == question.rpartition("~")[0])


def _item_question(one: LabelledItem, name: str, template: str) -> Example:
    variables = {
        "conversation": [{"role": m.role, "content": m.content} for m in one.prompt.messages],
        "prompt": one.prompt.last_user,
        "response": one.response,
        "items": [{"id": one.item, "text": one.text}],
    }
    return Example(name, (Message("user", render_text(template, variables, "template 'critique'").strip()),))
