"""The report: one HTML file that needs nothing else, neither network nor script.

Everything that a model or a user wrote goes through Jinja's autoescape; only pictures drawn here are inserted as markup,
and a content security policy in the page forbids scripts and requests besides.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from agentft.report import lineage, plain, views
from agentft.report.confusion import confusion_svg
from agentft.report.effects import read_all, split
from agentft.report.naming import names_of
from agentft.report.plots import forest_groups, forest_svg, items_svg, levels
from agentft.report.rounds import rounds
from agentft.report.samples import MOST_SAMPLES, read_samples
from agentft.report.verdict import finished, judge

TEMPLATES = Path(__file__).parent / "templates"


def render_report(data: Mapping[str, Any]) -> str:
    """The run as one self-contained HTML page.

    Args:
        data: JSON-plain description of a run. Every part may be absent, null or
            empty; its section then says so in one line. NaN and null mean "not measured".

    Returns:
        The page as text, to be saved as UTF-8. Typically 150-500 kB; sample texts are cut to keep it below about 1 MB.
    """
    return plain.printable(environment().get_template("page.html").render(_context(data)))


@cache
def environment() -> Environment:
    """Jinja for the templates of this package: everything is escaped that is not marked as markup."""
    made = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    made.filters["breakable"] = breakable
    return made


def breakable(text: str) -> Markup:
    """Lets a long identifier wrap after ``/``, ``_``, ``-`` or ``.`` on a narrow screen."""
    return Markup(re.sub(r"([/_.\-])(?=\w)", r"\1<wbr>", str(Markup.escape(text))))


def _context(data: Mapping[str, Any]) -> dict[str, Any]:
    metrics, items = split(data)
    who = views.persona(data)
    texts = {policy["id"]: policy["text"] for policy in who["policies"]}
    hard = {policy["id"] for policy in who["policies"] if policy["hard"]}
    samples = read_samples(data.get("samples"), texts)
    drawn = forest_groups(metrics)
    stages = lineage.read_stages(data.get("lineage"))
    status = plain.string(data.get("status"))
    outcome, names = judge(data), names_of(data)
    return {
        "style": Markup((TEMPLATES / "style.css").read_text(encoding="utf-8")),
        "title": plain.string(data.get("title")) or "Untitled run",
        "created": _date(plain.string(data.get("created"))),
        "run_id": plain.string(data.get("run_id")),
        "status": status,
        "finished": finished(status),
        "outcome": outcome,
        "alone": outcome.kind == "alone",
        "persona": who,
        "policy_texts": texts,
        "hard": hard,
        "rounds": rounds(data),
        "flow": views.data_flow(data),
        "signal": views.signal(data),
        "training": views.training(data),
        "metrics": metrics,
        "forest": Markup(forest_svg(metrics)),
        "not_drawn": [one.label for one in metrics if one.direction in ("higher", "lower") and one not in drawn[0] and one not in drawn[1]],
        "items": items,
        "classes": sorted(read_all(data.get("classes")), key=lambda one: (one.tuned is None, one.tuned)),
        "confusion": Markup(_confusion(data)),
        "items_plot": Markup(items_svg(items, sorted(hard))),
        "items_not_drawn": [one.item for one in items if one not in levels(items)],
        "samples": samples,
        "names": names,
        "columns": [getattr(names, key) for key in ("base", "tuned") if any(getattr(one, key) for one in samples)],
        "samples_more": max(0, len(plain.rows(data.get("samples"))) - MOST_SAMPLES),
        "selection": plain.string(data.get("sample_selection")) or "Shown in the order in which the run recorded them.",
        "stages": stages,
        "arcs": Markup(lineage.arcs_svg(stages)),
        "row_height": lineage.ROW,
        "versions": views.facts(data.get("versions")),
        "hardware": views.facts(data.get("hardware")),
        "profile": views.facts(data.get("profile")),
        "warnings": plain.strings(data.get("warnings")),
    }


def _confusion(data: Mapping[str, Any]) -> str:
    table = plain.mapping(data.get("confusion"))
    return confusion_svg(table["labels"], table["counts"]) if table.get("labels") else ""


def _date(iso: str) -> str:
    """``12 March 2025, 14:05`` (with the zone where the text names one); unknown forms stay as they are."""
    try:
        moment = datetime.fromisoformat(iso)
    except ValueError:
        return iso
    months = ["January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December"]
    return f"{moment.day} {months[moment.month - 1]} {moment.year}, {moment:%H:%M}{f' {moment:%Z}' if moment.tzinfo else ''}"
