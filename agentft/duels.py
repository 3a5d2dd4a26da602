"""Both answers to every prompt put before a judge, in both orders; resumable, with the judge's words kept."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from agentft.arms import whole_lines
from agentft.contracts import Backend, GenerationSettings
from agentft.evaluate.winrate import Judged
from agentft.feedback.pairwise import Duel, DuelVerdict, by_likelihood, by_text, compare_pairs
from agentft.progress import Progress
from agentft.records import Example, Message
from agentft.runs import digest
from agentft.sides import Side, common

Mode = Literal["text", "likelihood"]
CHUNK = 16


@dataclass(frozen=True)
class Judge:
    """Who decides.

    Attributes:
        name: for the report; part of the key under which verdicts are kept.
        backend: without a persona; with ``mode="likelihood"``, one in this process.
        template: source of ``judge_pair``.
        mode: read what the judge writes, or compare the probabilities of "A" and "B".
        repeats: tries per order, the majority counts; above 1 only with a temperature.
    """

    name: str
    backend: Backend
    template: str
    mode: Mode = "text"
    repeats: int = 1
    temperature: float = 0.0
    max_new_tokens: int = 64
    seed: int = 0


def duel(first: Side, second: Side, judge: Judge, out: Path, progress: Progress | None = None) -> tuple[list[Judged], dict[str, list[str]]]:
    """Judge every prompt that both answered.

    Returns:
        The duels in the order of ``first``, and for each id what the judge wrote (given order first), empty with ``likelihood``.

    Prompts that one of the two did not answer are left out. Equal texts are a tie, and nobody is asked.
    """
    out.mkdir(parents=True, exist_ok=True)
    log, progress = out / "duels.jsonl", progress or Progress()
    who = [judge.name, judge.template, judge.mode, judge.repeats, judge.temperature, judge.max_new_tokens, judge.seed]
    found = [(name, first.samples[name], second.samples[name]) for name in common(first, second)]
    found = [(name, a, b) for name, a, b in found if a["finish"] != "error" and b["finish"] != "error"]
    keys = {name: digest([who, a["prompt"], a["text"], b["text"]])[:24] for name, a, b in found}
    known = {row["key"]: row for row in whole_lines(log) if not row["error"]}
    waiting = [(name, a, b) for name, a, b in found if keys[name] not in known and a["text"].strip() != b["text"].strip()]
    if waiting:
        progress.stage(f"judge {judge.name}", f"{len(waiting)} pairs of answers, each in both orders")
    for start in range(0, len(waiting), CHUNK):
        chunk = waiting[start : start + CHUNK]
        rows = _ask(chunk, judge, keys)
        with log.open("a", encoding="utf-8") as stream:
            if start == 0:
                stream.write("\n")  # behind a line that a kill cut
            for row in rows:
                stream.write(json.dumps(row, ensure_ascii=False) + "\n")
                known[row["key"]] = row
        progress.step(start + len(chunk), len(waiting))
    if waiting:
        progress.finished(f"judge {judge.name}", 0.0)
    return [_judged(name, a, b, known.get(keys[name])) for name, a, b in found], {
        name: known[keys[name]]["words"] for name, _, _ in found if keys[name] in known
    }


def _ask(chunk: Sequence[tuple[str, dict[str, Any], dict[str, Any]]], judge: Judge, keys: Mapping[str, str]) -> list[dict[str, Any]]:
    words: dict[str, list[str]] = {}

    def listen(replies: Any) -> None:
        for reply in replies:
            words.setdefault(reply.id.rpartition("~")[0], []).append(f"{reply.id.rpartition('~')[2]} {reply.text.strip()}")

    settings = GenerationSettings(judge.max_new_tokens, judge.temperature, 1.0, CHUNK, judge.seed)
    ask = by_text(judge.backend, settings, listen) if judge.mode == "text" else by_likelihood(judge.backend.agent)  # type: ignore[attr-defined]
    duels = [Duel(name, _prompt(name, a["prompt"]), a["text"], b["text"]) for name, a, b in chunk]
    verdicts = compare_pairs(duels, ask, judge.template, repeats=judge.repeats)
    return [_row(one, keys[one.id], words.get(one.id, [])) for one in verdicts]


def _row(one: DuelVerdict, key: str, words: list[str]) -> dict[str, Any]:
    # "0f ..." was asked in the given order, "0b ..." in the swapped one; the given order is shown first.
    said = [text.partition(" ")[2] for text in sorted(words, key=lambda text: (text.partition(" ")[0][-1:] != "f", text))]
    return {
        "key": key,
        "id": one.id,
        "winner": one.winner,
        "forward": one.forward,
        "backward": one.backward,
        "error": one.error,
        "words": said,
    }


def _prompt(name: str, messages: Sequence[Mapping[str, str]]) -> Example:
    return Example(name, tuple(Message(one["role"], one["content"]) for one in messages))


def _judged(name: str, a: Mapping[str, Any], b: Mapping[str, Any], row: Mapping[str, Any] | None) -> Judged:
    lengths = (len(a["text"].strip()), len(b["text"].strip()))
    if a["text"].strip() == b["text"].strip():
        return Judged(name, "tie", lengths=lengths, same=True)
    if row is None:
        return Judged(name, None, lengths=lengths)
    return Judged(name, row["winner"], tuple(row["forward"]), tuple(row["backward"]), lengths)
