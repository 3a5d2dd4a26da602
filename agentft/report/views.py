"""The sections of the page as plain views of the run's data: persona, data, signal, training, versions."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from agentft.report import plain
from agentft.report.curves import lengths_svg, loss_curve_svg
from agentft.report.samples import clip

MOST_TEXT = 40_000
MOST_DROPPED = 60

# Metrics of a training stage that a reader asks for first, with the words for them.
_METRICS = {
    "train_loss": "mean training loss",
    "eval_loss": "validation loss",
    "best_eval_loss": "best validation loss",
    "steps": "steps",
    "epochs": "epochs",
    "tokens": "tokens",
    "tokens_per_second": "tokens per second",
}


def persona(data: Mapping[str, Any]) -> dict[str, Any]:
    """What was asked: names, policies, system prompt, recipe."""
    recipe = plain.mapping(data.get("recipe"))
    who = plain.mapping(recipe.get("persona"))
    policies = [
        {
            "id": plain.string(one.get("id")),
            "text": plain.string(one.get("text")),
            "hard": one.get("severity") == "hard",
            "kind": plain.string(one.get("kind")),
        }
        for one in plain.rows(who.get("policies"))
    ]
    language = plain.string(who.get("language"))
    return {
        "recipe": plain.string(recipe.get("name")),
        "model": plain.string(recipe.get("model")),
        "name": plain.string(who.get("name")),
        "summary": plain.string(who.get("summary")),
        # Only a well-formed tag may stand in lang="".
        "language": language if re.fullmatch(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*", language) else "",
        "policies": policies,
        "system": clip(plain.string(data.get("system_prompt")), MOST_TEXT),
        "system_tokens": plain.integer(data.get("system_prompt_tokens"))
        if plain.number(data.get("system_prompt_tokens")) is not None
        else "",
        "yaml": clip(plain.string(recipe.get("yaml")), MOST_TEXT),
    }


def data_flow(data: Mapping[str, Any]) -> dict[str, Any]:
    """Rows in, out and dropped with reasons, per source and step; sizes of the splits; token lengths."""
    flow = plain.mapping(data.get("data"))
    lines = [
        {
            "kind": "source",
            "name": plain.string(one.get("name")),
            "into": "",
            "out": plain.integer(one.get("rows")),
            "drops": plain.counts(one.get("dropped")),
            "changes": plain.counts(one.get("changes")),
        }
        for one in plain.rows(flow.get("sources"))
    ] + [
        {
            "kind": "step",
            "name": plain.string(one.get("name")),
            "into": plain.integer(one.get("rows_in")),
            "out": plain.integer(one.get("rows_out")),
            "drops": plain.counts(one.get("drops")),
            "changes": plain.counts(one.get("changes")),
        }
        for one in plain.rows(flow.get("steps"))
    ]
    dropped = [
        {"reason": plain.string(one.get("reason")), "where": plain.string(one.get("where"))} for one in plain.rows(flow.get("dropped"))
    ]
    splits = [
        (plain.string(name), plain.integer(n)) for name, n in plain.mapping(flow.get("splits")).items() if plain.number(n) is not None
    ]
    lengths = plain.mapping(flow.get("lengths")).get("train")
    return {
        "lines": lines,
        "splits": splits,
        "dropped": dropped[:MOST_DROPPED],
        "dropped_more": max(0, len(dropped) - MOST_DROPPED),
        "dropped_total": sum(n for line in lines for _, n in line["drops"]),
        "lengths": Markup(lengths_svg(lengths)),
        "card": card_lines(plain.mapping(flow.get("card"))),
        "balance": balance(plain.mapping(flow.get("card"))),
    }


def card_lines(card: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The data card of the training rows as lines ``name, text``; a line that goes on has an empty name."""
    if not card.get("rows"):
        return []
    from agentft.data.card import card_text

    return [(line[:12].strip(), line[12:]) for line in card_text(dict(card)).splitlines()]


def balance(card: Mapping[str, Any], most: int = 12) -> list[tuple[str, str, float]]:
    """The largest classes as bars: name, rows, share of the largest in percent."""
    counts = [
        (plain.string(name), plain.number(n) or 0) for name, n in plain.mapping(plain.mapping(card.get("labels")).get("counts")).items()
    ]
    largest = max((n for _, n in counts), default=0)
    return [(name, plain.integer(n), 100 * n / largest) for name, n in counts[:most]] if largest else []


def signal(data: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What each training stage learns from, with a decoded example in masked and supervised pieces."""
    stages = []
    for one in plain.rows(data.get("signal")):
        tokens, supervised = plain.number(one.get("tokens")), plain.number(one.get("supervised_tokens"))
        stages.append(
            {
                "stage": plain.string(one.get("stage"), "stage"),
                "rows": plain.integer(one.get("rows")),
                "tokens": plain.integer(tokens),
                "supervised": plain.integer(supervised),
                "share": f"{supervised / tokens:.0%}".replace("%", f"{plain.NBSP}%") if tokens and supervised is not None else "",
                "longest": plain.integer(one.get("longest")),
                "mode": plain.string(one.get("mode")),
                "drops": plain.counts(one.get("drops")),
                "pieces": mask_pieces(clip(plain.string(one.get("sample")), MOST_TEXT)),
            }
        )
    return stages


def mask_pieces(sample: str) -> list[tuple[str, bool]]:
    """A decoded row cut at the marks ``⟦`` and ``⟧``: (text, learned) pieces without the marks."""
    pieces = []
    for position, chunk in enumerate(re.split("⟦", sample)):
        learned, mark, rest = chunk.partition("⟧")
        if position == 0:
            pieces.append((chunk, False))
        elif mark:
            pieces += [(learned, True), (rest, False)]
        else:
            pieces.append((learned, True))
    return [piece for piece in pieces if piece[0]]


def training(data: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Trainable share, metrics and loss curve of each training stage."""
    stages = []
    for index, one in enumerate(plain.rows(data.get("training"))):
        trainable, total = plain.number(one.get("trainable")), plain.number(one.get("total"))
        share = (
            f"{plain.integer(trainable)} of {plain.integer(total)} ({100 * trainable / total:.2g}{plain.NBSP}%)"
            if trainable is not None and total
            else ""
        )
        metrics = plain.mapping(one.get("metrics"))
        order = [*(key for key in _METRICS if key in metrics), *(key for key in metrics if key not in _METRICS and key != "seconds")]
        stages.append(
            {
                "stage": plain.string(one.get("stage"), "stage"),
                "share": share,
                "notes": plain.strings(one.get("notes")),
                "seconds": plain.seconds(one.get("seconds")),
                "metrics": [(_METRICS.get(key, key.replace("_", " ")), _value(metrics[key])) for key in order],
                "curve": Markup(loss_curve_svg(one.get("curve"), f"loss-{index}")),
            }
        )
    return stages


def facts(value: Any, prefix: str = "") -> list[tuple[str, str]]:
    """A (nested) mapping as lines ``name, value``; lists are joined, empty values left out."""
    lines: list[tuple[str, str]] = []
    for key, one in plain.mapping(value).items():
        name = f"{prefix}{plain.string(key).replace('_', ' ')}"
        if isinstance(one, Mapping):
            lines += facts(one, f"{name} ")
        elif isinstance(one, (list, tuple)):
            lines += [(name, ", ".join(_value(part) for part in one))] if one else []
        elif one is not None and one != "":
            lines.append((name, _value(one)))
    return lines


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        n = plain.number(value)
        return plain.ABSENT if n is None else plain.integer(n) if n.is_integer() else plain.decimals(n)
    if isinstance(value, int):
        return plain.integer(value)
    return plain.string(value, plain.ABSENT)
