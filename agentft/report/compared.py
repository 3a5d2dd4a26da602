"""One agent's evaluation, or two agents side by side, as one HTML page that needs neither network nor script."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from agentft.report import plain
from agentft.report.difference import marked
from agentft.report.effects import Effect, read_all
from agentft.report.page import _date, environment
from agentft.report.plots import forest_svg
from agentft.report.samples import clip, read_samples

_TEMPLATES = Path(__file__).parent / "templates"
MOST_TEXT = 6000
MOST_ITEMS = 500
SMALL = 5  # prompts below which a slice is folded away


def render_comparison(data: Mapping[str, Any]) -> str:
    """A comparison (:func:`agentft.comparing.compare_sides`) as a page."""
    effects = [one for one in read_all(data.get("comparisons")) if "/" not in one.name or one.name.startswith("relevance/")]
    items = [one for one in read_all(data.get("comparisons")) if one not in effects]
    decisive = set(plain.strings(data.get("headline")))
    return _page(
        "compared.html",
        {
            "title": f"{data['second']} against {data['first']}",
            "first": plain.string(data.get("first")),
            "second": plain.string(data.get("second")),
            "n": plain.integer(data.get("n")),
            "alpha": data.get("alpha"),
            "level": f"{100 * (1 - float(data.get('alpha') or 0.05)):g}{plain.NBSP}%",
            "outcome": _outcome(data, effects, decisive),
            "headline": decisive,
            "effects": effects,
            "forest": Markup(forest_svg(effects)),
            "parts": items,
            **_slices(data, decisive),
            "judge": plain.string(data.get("judge")),
            "wins": _wins(data),
            "changed": [_changed(row) for row in plain.rows(data.get("changed"))],
            "items": [_item(row, decisive) for row in plain.rows(data.get("items"))[:MOST_ITEMS]],
            "items_more": max(0, len(plain.rows(data.get("items"))) - MOST_ITEMS),
            "columns": [one.name for one in effects if one.name in decisive],
            "warnings": plain.strings(data.get("warnings")),
        },
    )


def render_evaluation(data: Mapping[str, Any], bounds: Sequence[Mapping[str, Any]] = ()) -> str:
    """An evaluation (``result.json``) as a page; ``bounds``: its thresholds with ``text`` and ``passed``."""
    rows = [_figure(row) for row in plain.rows(data.get("scores"))]
    policies = {policy["id"]: policy["text"] for policy in plain.rows(plain.mapping(data.get("persona")).get("policies"))}
    verdicts = {
        name: found
        for row in plain.rows(data.get("scores"))
        if row["name"] == "persona-adherence"
        for name, found in row["details"].items()
    }
    samples = [
        {"id": row["id"], "prompt": row["prompt"], "reference": row["reference"], "base": {**row, "verdicts": verdicts.get(row["id"], [])}}
        for row in plain.rows(data.get("samples"))
    ]
    agent, suite = plain.mapping(data.get("agent")), plain.mapping(data.get("suite"))
    return _page(
        "evaluated.html",
        {
            "title": f"{agent.get('name')} on {suite.get('name')}",
            "agent": agent,
            "suite": suite,
            "created": _date(plain.string(data.get("created"))),
            "system": clip(plain.string(agent.get("system")), MOST_TEXT),
            "bounds": list(bounds),
            "figures": [row for row in rows if not row["part"]],
            "parts": [row for row in rows if row["part"]],
            **_slices(data, set(plain.strings(data.get("headline")))),
            "samples": read_samples(samples, policies),
            "warnings": plain.strings(data.get("warnings")),
        },
    )


def _page(template: str, context: Mapping[str, Any]) -> str:
    style = Markup((_TEMPLATES / "style.css").read_text(encoding="utf-8"))
    return plain.printable(environment().get_template(template).render({"style": style, **context}))


def _outcome(data: Mapping[str, Any], effects: Sequence[Effect], decisive: set[str]) -> dict[str, Any]:
    """Kind, title and one sentence for each deciding score; no more is claimed than the intervals carry."""
    second, worse = plain.string(data.get("second")), plain.strings(data.get("worse"))
    better = [one.name for one in effects if one.name in decisive and one.verdict == "better"]
    kind = "mixed" if worse and better else "worse" if worse else "better" if better else "inconclusive"
    titles = {
        "mixed": f"{second} is better in one thing and worse in another",
        "worse": f"{second} is worse",
        "better": f"{second} is better",
        "inconclusive": "No clear difference",
    }
    sentences = []
    for one in effects:
        if one.name in decisive and one.measured:
            detect = f"; so many prompts would show {one.detectable_text}" if one.verdict == "inconclusive" else ""
            change = f"{one.base_text} → {one.tuned_text}, difference {one.difference_text} {one.ci_text}"
            sentences.append(f"{one.label}: {change} on {one.n} prompts, {one.word}{detect}.")
    return {"kind": kind, "title": titles[kind], "sentences": sentences, "worse": worse}


def _wins(data: Mapping[str, Any]) -> dict[str, Any] | None:
    wins = plain.mapping(data.get("wins"))
    if not wins:
        return None
    controlled = plain.mapping(wins.get("controlled"))

    def share(owner: Mapping[str, Any], key: str, ci: str) -> dict[str, str]:
        value = plain.number(owner.get(key))
        return {"value": plain.amount(value, "share"), "ci": plain.interval(plain.pair(owner.get(ci)), "share")}

    total = max(1, int(plain.number(wins.get("n")) or 0))
    bars = [(key, int(wins[key]), 100 * int(wins[key]) / total) for key in ("wins", "ties", "losses")]
    return {
        "rate": share(wins, "rate", "ci"),
        "controlled": share(controlled, "rate", "ci"),
        "note": plain.string(controlled.get("note")),
        "effect": plain.number(controlled.get("effect")),
        "consistent": share(wins, "consistent", "consistent_ci"),
        "first": share(wins, "first_share", "first_ci"),
        "bars": bars,
        "same": wins.get("same"),
        "unread": wins.get("unread"),
        "n": wins.get("n"),
        "p": plain.decimals(float(wins["p"])) if plain.number(wins.get("p")) is not None else plain.ABSENT,
    }


def _figure(row: Mapping[str, Any]) -> dict[str, Any]:
    unit, name = plain.string(row.get("unit")), plain.string(row.get("name"))
    unscored = sum(value is None for value in plain.mapping(row.get("per_sample")).values())
    return {
        "name": name,
        "part": "/" in name and not name.startswith("relevance/"),
        "value": plain.amount(plain.number(row.get("value")), unit),
        "ci": plain.interval(plain.pair(row.get("ci")), unit),
        "n": f"{row.get('n')}{f' ({unscored} unscored)' if unscored else ''}",
        "summary": plain.string(row.get("summary")),
        "way": {"higher": "more is better", "lower": "less is better"}.get(plain.string(row.get("direction")), "neither way is better"),
    }


def _slices(data: Mapping[str, Any], decisive: set[str]) -> dict[str, Any]:
    """The rows that stand open: large slices in the scores that decide; the rest is folded away."""
    rows = [_slice(row) for row in plain.rows(data.get("slices"))]
    known = {row["score"] for row in rows} & decisive
    shown = [row for row in rows if row["n"] >= SMALL and (row["score"] in known or not known)]
    return {"slices": shown, "slices_more": [row for row in rows if row not in shown], "small": SMALL}


def _slice(row: Mapping[str, Any]) -> dict[str, Any]:
    unit = plain.string(row.get("unit"))
    shown = {key: plain.amount(plain.number(row.get(key)), unit) for key in ("value", "first", "second")}
    difference = plain.change(plain.number(row.get("difference")), unit)
    signed = "difference" in row
    return {
        **shown,
        "key": row["key"],
        "slice": row["slice"],
        "score": row["score"],
        "n": row["n"],
        "difference": difference,
        "ci": plain.interval(plain.pair(row.get("ci")), unit, signed=signed),
        "verdict": plain.string(row.get("verdict"), "info"),
    }


def _changed(row: Mapping[str, Any]) -> dict[str, Any]:
    before, after = marked(clip(row["first"]["text"], MOST_TEXT), clip(row["second"]["text"], MOST_TEXT))
    turns = [(one["role"], one["content"]) for one in row["prompt"]]
    scores = [
        (name, *(plain.ABSENT if value is None else plain.decimals(value) for value in pair))
        for name, pair in row["scores"].items()
        if pair[0] != pair[1]
    ]
    return {
        "id": row["id"],
        "slices": [value for value in row["slices"].values()],
        "earlier": turns[:-1],
        "question": turns[-1][1] if turns else "",
        "first": {"pieces": before, "note": _note(row["first"])},
        "second": {"pieces": after, "note": _note(row["second"])},
        "verdicts": row["verdicts"],
        "scores": scores,
        "winner": {"first": "first", "second": "second", "tie": "tie"}.get(plain.string(row.get("winner")), ""),
        "words": [clip(text, 600) for text in row["words"]],
        "better": row["change"] > 0,
    }


def _note(side: Mapping[str, Any]) -> str:
    return {"length": "cut off at the length limit", "error": f"no answer: {side['error']}"}.get(side["finish"], "")


def _item(row: Mapping[str, Any], decisive: set[str]) -> dict[str, Any]:
    values = {
        name: " → ".join(plain.ABSENT if value is None else plain.decimals(value) for value in pair)
        for name, pair in row["scores"].items()
        if name in decisive
    }
    return {
        "id": row["id"],
        "slices": ", ".join(row["slices"].values()),
        "values": values,
        "winner": row["winner"] or "",
        "change": plain.decimals(row["change"]),
    }
