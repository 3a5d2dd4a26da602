"""Preference pairs to token rows: one prompt, two answers, each exactly as it would be trained and served."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from agentft.contracts import DataContext
from agentft.errors import DataError
from agentft.records import Message, Preference
from agentft.render.conversation import Renderer
from agentft.render.rows import show_mask


@dataclass
class PairsReport:
    """What became of the preferences; the keys are those of :class:`agentft.render.rows.RowsReport`.

    Attributes:
        rows_in: preferences; ``rows_out``: rows written.
        tokens, supervised_tokens, longest: over both sides of the rows written.
        drops: reason -> preferences that were left out.
        sample: the first chosen answer, decoded, with marks around what is learned.
    """

    rows_in: int = 0
    rows_out: int = 0
    tokens: int = 0
    supervised_tokens: int = 0
    longest: int = 0
    drops: dict[str, int] = field(default_factory=dict)
    mode: str = ""
    max_length: int = 0
    sample: str = ""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def render_pairs(renderer: Renderer, preferences: Iterable[Preference], out: Path, *, max_length: int, ctx: DataContext) -> PairsReport:
    """Write one JSON line ``{"id", "group", "prompt_ids", "chosen_ids", "rejected_ids"}`` per preference.

    An answer's ids are what the renderer supervises in it, the stop token included; the side that an unpaired preference
    lacks is null. Rows in which a side is longer than ``max_length`` tokens are dropped and counted, never cut: a
    pair without its end teaches not to stop.
    """
    report = PairsReport(mode=renderer.mode, max_length=max_length)
    with out.open("w", encoding="utf-8") as stream:
        for one in preferences:
            report.rows_in += 1
            try:
                row = _row(renderer, one, max_length, report)
            except DataError as error:
                report.drops[str(error)] = report.drops.get(str(error), 0) + 1
                ctx.drop(str(error), one.id)
                continue
            report.rows_out += 1
            stream.write(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n")
    return report


def _row(renderer: Renderer, one: Preference, max_length: int, report: PairsReport) -> dict[str, Any]:
    prompt = renderer.prompt(one.prompt).input_ids
    sides = {"chosen_ids": _answer(renderer, one, one.chosen, prompt), "rejected_ids": _answer(renderer, one, one.rejected, prompt)}
    if sides["chosen_ids"] == sides["rejected_ids"]:
        raise DataError("chosen and rejected are the same tokens")
    lengths = [len(prompt) + len(ids) for ids in sides.values() if ids is not None]
    if max(lengths) > max_length:
        raise DataError(f"longer than {max_length} tokens")
    report.tokens += sum(lengths)
    report.supervised_tokens += sum(len(ids) for ids in sides.values() if ids is not None)
    report.longest = max(report.longest, *lengths)
    if not report.sample and one.chosen is not None:
        report.sample = show_mask(renderer, renderer.training(one.completed(one.chosen))[-1])
    return {"id": one.id, "group": one.group_key, "prompt_ids": prompt, **sides}


def _answer(renderer: Renderer, one: Preference, message: Message | None, prompt: list[int]) -> list[int] | None:
    """Ids of an answer: what follows the prompt in the row that would be trained, up to the last supervised stop token."""
    if message is None:
        return None
    if message.empty:
        raise DataError("an answer is empty")
    rows = renderer.training(one.completed(message))
    if not rows:
        raise DataError("an answer is not supervised")
    ids = rows[-1].input_ids
    if ids[: len(prompt)] != prompt or len(ids) == len(prompt):
        raise DataError("the chat template renders the prompt differently before an answer")
    return ids[len(prompt) :]
