"""A simulation as one page: figures and transcripts, which can be filtered by outcome without a script."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from agentft.report import plain
from agentft.report.page import TEMPLATES, environment
from agentft.report.samples import clip
from agentft.simulate.outcome import ENDS, FROM_TOOLS

MOST_TEXT = 6_000
# All transcripts together, in characters: the page must open on a phone. The rest is in episodes.jsonl.
BUDGET = 1_500_000
OPEN = 3


@dataclass(frozen=True)
class Said:
    """A message: ``who`` is ``user``, ``agent``, ``tool`` or ``note``; ``calls`` as (name, arguments)."""

    who: str
    text: str
    name: str = ""
    calls: tuple[tuple[str, str], ...] = ()
    wrong: bool = False


def render_episodes(
    results: Mapping[str, Any], episodes: Sequence[Mapping[str, Any]], about: Mapping[str, Mapping[str, Any]], system: str = ""
) -> str:
    """The page, self-contained, as text to be saved as UTF-8.

    Args:
        results: of :func:`agentft.simulate.summary.summarise`, with ``agent``, ``environment``, ``trials``, ``options`` and ``seconds``.
        episodes: ``Ended.to_dict()`` each; failures come first on the page.
        about: task -> ``goal`` and ``slices``.
        system: the system prompt.
    """
    order = {"failure": 0, "fault": 1, "success": 2}
    ordered = sorted(episodes, key=lambda one: order[one["result"]])
    shown: list[dict[str, Any]] = []
    size = 0
    for one in ordered:
        row = _episode(one, about.get(one["task"], {}))
        size += sum(len(said.text) + sum(len(text) for _, text in said.calls) for said in row["said"])
        if size > BUDGET and shown:
            break
        shown.append(row)
    numbers = {result: sum(one["result"] == result for one in episodes) for result in order}
    context = {
        "style": Markup((TEMPLATES / "style.css").read_text(encoding="utf-8")),
        "results": results,
        "seconds": plain.seconds(results.get("seconds")),
        "rates": [
            *((f"pass^{k}", *_cells(one)) for k, one in results["pass"].items()),
            *((f"pass@{k}", *_cells(one)) for k, one in results["pass_at"].items()),
        ],
        "slices": {name: [(value, *_cells(one)) for value, one in values.items()] for name, values in results["slices"].items()},
        "facts": _facts(results),
        "settings": _settings(results["options"]),
        "system": clip(system, 40_000),
        "episodes": shown,
        "more": len(episodes) - len(shown),
        "numbers": numbers,
        "open": OPEN,
    }
    return plain.printable(environment().get_template("episodes.html").render(context))


def _cells(one: Mapping[str, Any]) -> tuple[str, str, str]:
    return plain.amount(plain.number(one["value"]), "share"), plain.interval(plain.pair(one["ci"]), "share"), plain.integer(one["n"])


def _facts(results: Mapping[str, Any]) -> list[tuple[str, str]]:
    lines = [(f"check “{name}” passed", f"{one['passed']} of {one['of']} episodes") for name, one in results["checks"].items()]
    lines += [(f"violations of “{name}”", plain.integer(count)) for name, count in results["violations"].items()]
    lines += [(f"ended: {ENDS.get(name, name)}", plain.integer(count)) for name, count in results["ends"].items()]
    lines += [
        ("tool calls", plain.integer(results["calls"])),
        ("tool answers with an error", plain.integer(results["tool_errors"])),
        ("calls that could not be read", f"{plain.integer(results['malformed'])} in {results['with_malformed']} episodes"),
        ("tokens of the agent", plain.integer(results["tokens"])),
    ]
    lines += [(f"agent error: {text}", plain.integer(count)) for text, count in results["agent_errors"].items()]
    return lines + [(f"fault of the user simulator: {text}", plain.integer(count)) for text, count in results["user_faults"].items()]


def _settings(options: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    lines: list[tuple[str, str]] = []
    for key, value in options.items():
        if isinstance(value, Mapping):
            lines += _settings(value, f"{prefix}{key} ")
        elif value not in (None, "", [], {}):
            lines.append((f"{prefix}{key}".replace("_", " "), value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)))
    return lines


def _episode(one: Mapping[str, Any], about: Mapping[str, Any]) -> dict[str, Any]:
    said, wrong = [], set(one["wrong"])
    for place, message in enumerate(one["messages"]):
        who = {"assistant": "agent", "tool": "tool"}.get(message["role"], "note" if message.get("name") == FROM_TOOLS else message["role"])
        calls = tuple((call["name"], json.dumps(call["arguments"], ensure_ascii=False)) for call in message.get("tool_calls", ()))
        name = plain.string(message.get("name")) if who == "tool" else ""
        said.append(Said(who, clip(message["content"], MOST_TEXT), name, calls, place in wrong))
    return {
        "task": one["task"],
        "trial": one["trial"],
        "result": one["result"],
        "detail": one["detail"],
        "end": ENDS.get(one["end"], one["end"]),
        "checks": list(one["checks"].items()),
        "goal": plain.string(about.get("goal")),
        "slices": [f"{name} {value}" for name, value in plain.mapping(about.get("slices")).items()],
        "said": said,
    }
