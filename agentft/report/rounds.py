"""The rounds of feedback as views: what the gate said, what was practised on, what moved, and what training changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from agentft.report import plain
from agentft.report.difference import marked
from agentft.report.rounds_plots import curve_svg, flow_svg, rounds_svg
from agentft.report.samples import clip

MOST_TEXT = 3_000
MOST_ROUNDS = 20
SIGNS = {"pass": "✓", "fail": "✗", "inconclusive": "?", "missing": "✗"}
STATES = {"promoted": "better", "rejected": "worse", "inconclusive": "inconclusive"}
ORIGINS = {"revision": "revised answer over the first one", "sample": "better sample over a worse one", "human": "chosen by a person"}
# Natural logarithms: at 2 a token became 7 times as likely, and the colour is at its strongest.
STRONGEST = 2.0
LEVELS = 4
NOTICEABLE = 0.25


def rounds(data: Mapping[str, Any]) -> dict[str, Any]:
    """The picture over all rounds, and one view per round, the latest first."""
    found = plain.rows(data.get("rounds"))[:MOST_ROUNDS]
    policies = plain.rows(plain.mapping(plain.mapping(data.get("recipe")).get("persona")).get("policies"))
    texts = {plain.string(one.get("id")): plain.string(one.get("text")) for one in policies}
    return {"list": [_round(one, texts) for one in reversed(found)], "picture": Markup(rounds_svg(found))}


def _round(one: Mapping[str, Any], texts: Mapping[str, str]) -> dict[str, Any]:
    number, state = plain.integer(one.get("round")), plain.string(one.get("state"))
    return {
        "number": number,
        "state": state,
        "kind": STATES.get(state, "inconclusive"),
        "sign": {"promoted": "✓", "rejected": "✗"}.get(state, "?"),
        "sentence": plain.string(one.get("sentence")),
        "conditions": [_condition(row) for row in plain.rows(one.get("conditions"))],
        "arms": _arms(one),
        "flow": Markup(flow_svg(one.get("flow"), f"flow-{number}")),
        "flow_words": [(plain.string(row.get("name")), plain.integer(row.get("count"))) for row in plain.rows(one.get("flow"))],
        "drops": plain.counts(one.get("drops")),
        "training": [_training(row, f"round-{number}-{index}") for index, row in enumerate(plain.rows(one.get("training")))],
        "pairs": [_pair(row, texts) for row in plain.rows(one.get("pairs"))],
        "moved": [_moved(row) for row in plain.rows(one.get("moved"))],
        "tokens": [_tokens(row) for row in plain.rows(one.get("tokens"))],
        "feedback": [
            {key: clip(plain.string(row.get(key)), MOST_TEXT) for key in ("prompt", "response", "critic", "critique")}
            for row in plain.rows(one.get("feedback"))
        ],
        "critics": [(plain.string(row.get("name")), plain.string(row.get("text"))) for row in plain.rows(one.get("critics"))],
    }


def _condition(row: Mapping[str, Any]) -> dict[str, Any]:
    outcome = plain.string(row.get("outcome"), "missing")
    return {
        "name": plain.string(row.get("name")),
        "kind": plain.string(row.get("kind")),
        "sign": SIGNS.get(outcome, "?"),
        "word": {"pass": "holds", "fail": "fails", "inconclusive": "unclear", "missing": "not measured"}.get(outcome, outcome),
        "css": {"pass": "better", "fail": "worse", "missing": "worse"}.get(outcome, "inconclusive"),
        "text": plain.string(row.get("text")),
    }


def _arms(one: Mapping[str, Any]) -> dict[str, Any]:
    """A table: scores down, arms across; the primary score and what most arms have first."""
    arms = plain.rows(one.get("arms"))
    primary = plain.string(one.get("primary"))
    guarded = [plain.string(row.get("name")) for row in plain.rows(one.get("conditions")) if row.get("kind") in ("primary", "guardrail")]
    names = list(dict.fromkeys(name for arm in arms for name in plain.mapping(arm.get("values"))))
    names = [name for name in names if not name.startswith("persona-adherence/")]
    names.sort(key=lambda name: (name != primary, name not in guarded, "/" in name))
    rows = []
    for name in names:
        cells = []
        for arm in arms:
            value = plain.mapping(plain.mapping(arm.get("values")).get(name))
            level, ci, unit = plain.number(value.get("value")), plain.pair(value.get("ci")), plain.string(value.get("unit"))
            interval = f"{plain.amount(ci[0], unit)} to {plain.amount(ci[1], unit)}" if ci else ""
            cells.append((plain.amount(level, unit), interval))
        rows.append({"name": name, "cells": cells, "gate": name in guarded})
    return {"names": [plain.string(arm.get("label")) or plain.string(arm.get("name")) for arm in arms], "rows": rows}


def _training(row: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {
        "arm": plain.string(row.get("arm")),
        "words": plain.strings(row.get("words")),
        "curve": Markup(curve_svg(row.get("curve"), name)),
    }


def _pair(row: Mapping[str, Any], texts: Mapping[str, str]) -> dict[str, Any]:
    turns = [(plain.string(m.get("role"), "user"), clip(plain.string(m.get("content")), MOST_TEXT)) for m in plain.rows(row.get("prompt"))]
    rejected, chosen = (clip(plain.string(row.get(key)), MOST_TEXT) for key in ("rejected", "chosen"))
    left, right = marked(rejected, chosen)
    origin = plain.string(row.get("origin"))
    return {
        "question": turns[-1][1] if turns else "",
        "rejected": left,
        "chosen": right,
        "origin": ORIGINS.get(origin, origin),
        "critique": clip(plain.string(row.get("critique")), MOST_TEXT),
        "mended": [(item, texts.get(item, "")) for item in plain.strings(row.get("mended"))],
    }


def _moved(row: Mapping[str, Any]) -> dict[str, Any]:
    before, after = plain.number(row.get("before")), plain.number(row.get("after"))
    change = None if before is None or after is None else after - before
    return {
        "item": plain.string(row.get("item")),
        "text": plain.string(row.get("text")),
        "hard": row.get("severity") == "hard",
        "before": plain.amount(before, "share"),
        "after": plain.amount(after, "share"),
        "change": plain.change(change, "share"),
        "css": "inconclusive" if not change else "better" if change > 0 else "worse",
        "lists": [
            (title, plain.integer(row.get(f"count_{key}")), [_example(one) for one in plain.rows(row.get(key))])
            for key, title in (("fixed", "mended"), ("broken", "broken"))
            if plain.rows(row.get(key))
        ],
    }


def _example(one: Mapping[str, Any]) -> dict[str, Any]:
    before, after = (clip(plain.string(one.get(key)), MOST_TEXT) for key in ("before", "after"))
    left, right = marked(before, after)
    return {"prompt": clip(plain.string(one.get("prompt")), MOST_TEXT), "before": left, "after": right}


def _tokens(row: Mapping[str, Any]) -> dict[str, Any]:
    pieces = []
    for one in row.get("pieces") or ():
        if isinstance(one, (list, tuple)) and len(one) == 2:
            value = plain.number(one[1])
            pieces.append({"text": plain.string(one[0]), "css": _level(value), "title": "" if value is None else _times(value)})
    total = sum(value for one in row.get("pieces") or () if len(one) == 2 and (value := plain.number(one[1])) is not None)
    return {"prompt": clip(plain.string(row.get("prompt")), MOST_TEXT), "pieces": pieces[:600], "total": plain.decimals(total)}


def _level(value: float | None) -> str:
    """CSS class of a token: ``up1`` .. ``up4`` or ``down1`` .. ``down4``; empty where nothing noticeable changed."""
    if value is None or abs(value) < NOTICEABLE:
        return ""
    level = min(LEVELS, 1 + int(abs(value) / STRONGEST * (LEVELS - 1)))
    return f"{'up' if value > 0 else 'down'}{level}"


def _times(value: float) -> str:
    factor = 2.718281828459045 ** min(abs(value), 30.0)
    return f"{factor:,.1f} times {'as likely' if value > 0 else 'less likely'} as under the base model ({value:+.2f})"
