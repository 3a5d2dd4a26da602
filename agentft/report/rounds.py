"""The rounds of feedback as views: what the gate said, what was practised on, what moved, and what training changed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from agentft.report import plain
from agentft.report.difference import marked
from agentft.report.rounds_plots import curve_svg, flow_svg, rounds_svg
from agentft.report.samples import clip

MOST_ROUNDS = 20
PICTURED = 6  # of these rounds; earlier ones say it in words, drawing takes a second and 80 kB each
MOST_ROWS = 60
MOST_EXAMPLES = 12
MOST_PIECES = 600
# All texts of a round together may take this many UTF-8 bytes: the latest round's, and an earlier one's.
TEXT_BUDGET, EARLIER_BUDGET = 300_000, 60_000
LONGEST, SHORTEST = 4_000, 200

SIGNS = {"pass": "✓", "fail": "✗", "inconclusive": "?", "missing": "✗"}
WORDS = {"pass": "holds", "fail": "fails", "inconclusive": "unclear", "missing": "not measured"}
OUTCOMES = {"pass": "better", "fail": "worse", "missing": "worse"}
STATES = {"promoted": "better", "rejected": "worse", "inconclusive": "inconclusive"}
KINDS = {
    "primary": "has to become better",
    "guardrail": "must not become worse",
    "limit": "has to stay within limits",
    "critic": "has to agree with people",
    "pool": "has to be large enough",
}
ORIGINS = {
    "revision": "revised answer over the first one",
    "sample": "better sample over a worse one",
    "anchor": "demonstrated answer over the model's own",
    "human": "chosen or written by a person",
    "imported": "from a preference data set",
}
# Natural logarithms: at 2 a token is 7.4 times as likely, and the colour is at its strongest.
STRONGEST = 2.0
LEVELS = 4
NOTICEABLE = 0.25


def rounds(data: Mapping[str, Any]) -> dict[str, Any]:
    """The picture over the latest rounds, and one view per round, the latest first."""
    every = plain.rows(data.get("rounds"))
    found = every[-MOST_ROUNDS:]
    policies = plain.rows(plain.mapping(plain.mapping(data.get("recipe")).get("persona")).get("policies"))
    texts = {_text(one.get("id")): _text(one.get("text")) for one in policies}
    views = [_round(one, texts, index, age=len(found) - 1 - index) for index, one in enumerate(found)]
    return {"list": views[::-1], "picture": Markup(rounds_svg(found)), "left_out": len(every) - len(found)}


def _round(one: Mapping[str, Any], texts: Mapping[str, str], index: int, *, age: int) -> dict[str, Any]:
    state = _text(one.get("state")) or "not decided"
    arms = plain.rows(one.get("arms"))
    limit = _limit(one, EARLIER_BUDGET if age else TEXT_BUDGET)
    promoted = _label(one.get("promoted"), arms)
    after = {
        "promoted": f"the {promoted} is the new champion" if promoted else "there is a new champion",
        "rejected": "the champion stays",
        "inconclusive": "the champion stays" + (", because the gate could not tell" if plain.rows(one.get("conditions")) else ""),
    }
    return {
        "number": plain.integer(one.get("round")),
        "state": state,
        "after": after.get(state, ""),
        "arm": _text(one.get("promoted")) or "candidate",
        "kind": STATES.get(state, "inconclusive"),
        "sign": {"promoted": "✓", "rejected": "✗"}.get(state, "?"),
        "sentence": _sentence(one.get("sentence"), [_text(row.get("name")) for row in plain.rows(one.get("conditions"))]),
        "conditions": [_condition(row) for row in plain.rows(one.get("conditions"))[:MOST_ROWS]],
        "arms": _scores(one, arms),
        "flow": Markup(flow_svg(one.get("flow"), one.get("drops"), f"flow-{index}") if age < PICTURED else ""),
        "counts": [
            (plain.integer(n), _text(row.get("name"))) for row in _some(one, "flow") if (n := plain.number(row.get("count"))) is not None
        ],
        "drops": plain.counts(one.get("drops")),
        "training": [_training(row, arms, f"round-{index}-{n}" if age < PICTURED else "") for n, row in enumerate(_some(one, "training"))],
        "pairs": [_pair(row, texts, limit) for row in _some(one, "pairs")],
        "moved": [_moved(row, limit) for row in plain.rows(one.get("moved"))[:MOST_ROWS]],
        "tokens": [_tokens(row, limit) for row in _some(one, "tokens")],
        "feedback": [
            {key: clip(_text(row.get(key)), limit) for key in ("prompt", "response", "critic", "critique")}
            for row in _some(one, "feedback")
        ],
        "critics": [_critic(row) for row in plain.rows(one.get("critics"))[:MOST_ROWS]],
    }


def _text(value: Any, default: str = "") -> str:
    """Text and numbers as text, ``default`` for anything else: a NaN or a list where a word should be says nothing."""
    return value if isinstance(value, str) else default if plain.number(value) is None else str(value)


def _some(one: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    return plain.rows(one.get(key))[:MOST_EXAMPLES]


def _limit(one: Mapping[str, Any], budget: int) -> int:
    """Characters that one text of a round may have, so that all of them together stay within ``budget`` bytes."""
    texts = [text for key in ("pairs", "moved", "feedback") for row in plain.rows(one.get(key))[:MOST_ROWS] for text in _texts(row)]
    limit = LONGEST
    while limit > SHORTEST and sum(len(text[:limit].encode("utf-8", "replace")) for text in texts) > budget:
        limit = limit * 3 // 4
    return max(limit, SHORTEST)


def _texts(value: Any) -> list[str]:
    """Every text within a JSON value; of lists as many as are shown."""
    if isinstance(value, str):
        return [value]
    parts = list(value.values()) if isinstance(value, Mapping) else value[:MOST_EXAMPLES] if isinstance(value, (list, tuple)) else []
    return [text for part in parts for text in _texts(part)]


def _label(name: Any, arms: Sequence[Mapping[str, Any]]) -> str:
    """An arm in words: ``candidate (DPO on pairs)``. A label may begin with the name itself."""
    name = _text(name)
    label = next((_text(arm.get("label")) for arm in arms if _text(arm.get("name")) == name), "")
    label = label.removeprefix(f"{name}:").strip()
    return label if label.startswith(name) else f"{name} ({label})" if name and label else name or label


def _condition(row: Mapping[str, Any]) -> dict[str, Any]:
    outcome = _text(row.get("outcome")) or "missing"
    found, needed = figures(row)
    kind, name = _text(row.get("kind")), _text(row.get("name"))
    return {
        "name": name,
        "kind": KINDS.get(kind, kind),
        "sign": SIGNS.get(outcome, "?"),
        "word": WORDS.get(outcome, outcome),
        "css": OUTCOMES.get(outcome, "inconclusive"),
        "text": _sentence(row.get("text"), [name]),
        "found": found,
        "interval": plain.interval(plain.pair(row.get("ci")), _text(row.get("unit")), signed=True) if row.get("ci") else "",
        "needed": needed,
    }


def _sentence(value: Any, names: Sequence[str]) -> str:
    """With a capital letter at its start, unless that is the name of a score."""
    text = _text(value)
    return text if any(name and " " not in name and text.startswith(name) for name in names) else text[:1].upper() + text[1:]


def figures(row: Mapping[str, Any]) -> tuple[str, str]:
    """What was found and what was needed, as short texts; a dash where there is no number.

    A ``needed`` of two numbers is a range. For differences with an interval, its lower end has to reach what is needed.
    """
    unit, kind, outcome = (_text(row.get(key)) for key in ("unit", "kind", "outcome"))
    found, needed, span = plain.number(row.get("difference")), plain.number(row.get("needed")), plain.pair(row.get("needed"))
    if unit == "ratio":
        levels = [f"{value:.2f}" for value in span] if span else []
        # The data names one bound only: where that one holds and the condition fails, it was the other one.
        open_ = outcome == "fail" and found is not None and needed is not None and found >= needed
        bound = " to ".join(levels) if span else plain.ABSENT if needed is None or open_ else f"at least {needed:.2f}"
        return (plain.ABSENT if found is None else f"× {found:.2f}"), bound
    if unit == "prompts":
        # What must not happen is counted downwards from zero.
        downwards = kind == "limit"
        bound = plain.ABSENT if needed is None else f"{'at most' if downwards else 'at least'} {plain.integer(abs(needed))}"
        return plain.integer(None if found is None else abs(found)), bound
    if span:
        return plain.change(found, unit), f"{plain.change(span[0], unit)} to {plain.change(span[1], unit)}"
    bound = plain.ABSENT if needed is None else f"{'interval above' if row.get('ci') else 'at least'} {plain.change(needed, unit)}"
    return plain.change(found, unit), bound


def _scores(one: Mapping[str, Any], arms: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A table: scores down, arms across; the primary score first, then what the gate looked at. Checklist items have their own view."""
    primary = _text(one.get("primary"))
    gate = [_text(row.get("name")) for row in plain.rows(one.get("conditions"))]
    names = list(dict.fromkeys(_text(name) for arm in arms for name in plain.mapping(arm.get("values"))))
    names = [name for name in names if not name.startswith("persona-adherence/")]
    names.sort(key=lambda name: (name != primary, gate.index(name) if name in gate else len(gate)))
    rows = []
    for name in names[:MOST_ROWS]:
        cells = []
        for arm in arms:
            value = plain.mapping(plain.mapping(arm.get("values")).get(name))
            unit, ci = _text(value.get("unit")), plain.pair(value.get("ci"))
            cells.append((plain.amount(plain.number(value.get("value")), unit), plain.interval(ci, unit) if ci else ""))
        rows.append({"name": name, "cells": cells, "gate": name in gate})
    return {"names": [_label(arm.get("name"), arms) for arm in arms], "rows": rows}


def _training(row: Mapping[str, Any], arms: Sequence[Mapping[str, Any]], name: str) -> dict[str, Any]:
    return {
        "arm": _label(row.get("arm"), arms),
        "words": plain.strings(row.get("words")),
        "curve": Markup(curve_svg(row.get("curve"), name) if name else ""),
    }


def _critic(row: Mapping[str, Any]) -> dict[str, Any]:
    state = row.get("calibrated")
    return {
        "name": _text(row.get("name")),
        "text": _text(row.get("text")).rstrip("."),
        "state": {True: "calibrated", False: "not calibrated: it may advise, not decide"}.get(state, "") if isinstance(state, bool) else "",
        "css": "worse" if state is False else "",
    }


def _pair(row: Mapping[str, Any], texts: Mapping[str, str], limit: int) -> dict[str, Any]:
    turns = [
        (_text(m.get("role"), "user"), clip(_text(m.get("content")), limit))
        for m in plain.rows(row.get("prompt"))
        if m.get("role") != "system"
    ]
    question = turns.pop()[1] if turns else ""
    left, right = _both(row.get("rejected"), row.get("chosen"), limit)
    origin = _text(row.get("origin"))
    return {
        "id": _text(row.get("id")),
        "earlier": turns,
        "question": question,
        "rejected": left,
        "chosen": right,
        "origin": ORIGINS.get(origin, origin),
        "critique": clip(_text(row.get("critique")), limit),
        "mended": [(item, texts.get(item, "")) for item in plain.strings(row.get("mended"))[:MOST_EXAMPLES]],
    }


def _both(before: Any, after: Any, limit: int) -> tuple[list[tuple[str, bool]], list[tuple[str, bool]]]:
    """Both texts in marked pieces, each cut at ``limit``; the note on what was cut is no part of the comparison."""
    one, other = _text(before), _text(after)
    sides = marked(one[:limit], other[:limit])
    for side, text in zip(sides, (one, other), strict=True):
        if len(text) > limit:
            side.append((clip(text, limit)[limit:], False))
    return sides


def _moved(row: Mapping[str, Any], limit: int) -> dict[str, Any]:
    before, after = plain.number(row.get("before")), plain.number(row.get("after"))
    change = None if before is None or after is None else after - before
    places = [min(100.0, max(0.0, 100 * (value or 0.0))) for value in (before, after)]
    lists = []
    for key, title in (("fixed", "mended"), ("broken", "broken")):
        shown = [_example(one, limit) for one in _some(row, key)]
        count = plain.number(row.get(f"count_{key}"))
        if shown or count:
            lists.append({"title": title, "count": int(len(shown) if count is None else count), "examples": shown})
    return {
        "item": _text(row.get("item")),
        "text": _text(row.get("text")),
        "hard": row.get("severity") == "hard",
        "before": plain.amount(before, "share"),
        "after": plain.amount(after, "share"),
        "change": plain.change(change, "share"),
        "drawn": change is not None,
        "places": places,
        "css": "inconclusive" if not change else "better" if change > 0 else "worse",
        "lists": lists,
    }


def _example(one: Mapping[str, Any], limit: int) -> dict[str, Any]:
    left, right = _both(one.get("before"), one.get("after"), limit)
    return {"prompt": clip(_text(one.get("prompt")), limit), "before": left, "after": right}


def _tokens(row: Mapping[str, Any], limit: int) -> dict[str, Any]:
    """An answer as tokens with a strength each, and the tokens that gained and lost most in words."""
    given = row.get("pieces") if isinstance(row.get("pieces"), (list, tuple)) else []
    pieces = [(_text(one[0]), plain.number(one[1])) for one in given or () if isinstance(one, (list, tuple)) and len(one) == 2]
    measured = [(text, value) for text, value in pieces if value is not None]
    order = sorted(((text, value) for text, value in measured if text.strip() and abs(value) >= NOTICEABLE), key=lambda one: one[1])
    total = math.fsum(value for _, value in measured)
    return {
        "prompt": clip(_text(row.get("prompt")), limit),
        "arm": _text(row.get("arm")),
        "pieces": [
            {"text": text, "css": level(value), "title": "" if value is None else times(value)} for text, value in pieces[:MOST_PIECES]
        ],
        "answer": "" if pieces else clip(_text(row.get("answer")), limit),
        "more": max(0, len(pieces) - MOST_PIECES),
        "gained": [(text.strip(), times(value)) for text, value in order[:-4:-1] if value > 0],
        "lost": [(text.strip(), times(value)) for text, value in order[:3] if value < 0],
        "total": _signed(total) if measured else "",
        "count": len(measured),
    }


def level(value: float | None) -> str:
    """CSS class of a token: ``up1`` .. ``up4`` or ``down1`` .. ``down4``; empty where nothing noticeable changed."""
    if value is None or abs(value) < NOTICEABLE:
        return ""
    strength = min(LEVELS, 1 + int(abs(value) / STRONGEST * (LEVELS - 1)))
    return f"{'up' if value > 0 else 'down'}{strength}"


def times(value: float) -> str:
    """A difference of log-probabilities as a factor: ``7.4 times likelier``."""
    way = "likelier" if value > 0 else "less likely"
    if abs(value) > math.log(1e6):
        return f"over a million times {way}"
    factor = math.exp(abs(value))
    return f"{factor:,.0f} times {way}" if factor >= 100 else f"{factor:.1f} times {way}"


def _signed(value: float) -> str:
    return f"+{plain.decimals(value)}" if value > 0 else plain.decimals(value)
