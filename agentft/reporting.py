"""Collects what the report shows from the stages of a run. Rendering is :mod:`agentft.report`'s business."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from agentft.data.jsonl import read_conversations
from agentft.reporting_rounds import collect_rounds

if TYPE_CHECKING:
    from agentft.pipeline import Pipeline

SHOWN = 24  # samples in the report
HEADLINE = ("persona-adherence", "relevance/facts", "relevance/similarity")
HEADS = ("accuracy", "f1-macro", "mae", "pearson", "ner-f1", "qa-em", "qa-f1")


def collect(pipeline: Pipeline) -> dict[str, Any]:
    """The report's data as JSON-plain values; the keys are those of :func:`agentft.report.render_report`."""
    session, recipe = pipeline.session, pipeline.recipe
    comparison = json.loads((pipeline.comparison.path / "comparison.json").read_text("utf-8"))
    rows = comparison["comparisons"] or _single_arm(comparison["scores"]["base"])
    samples = _samples(pipeline)
    return {
        "title": recipe.name,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "run_id": pipeline.run.id,
        "status": "complete",
        "recipe": {
            "name": recipe.name,
            "model": recipe.model,
            "persona": session.persona.model_dump(mode="json") if pipeline.plays else {},
            "yaml": recipe.source_text,
        },
        "system_prompt": session.system_prompt if pipeline.plays else "",
        "system_prompt_tokens": next((stage.summary.get("system_prompt_tokens") for _, stage in pipeline.all_rows), None),
        "baseline": pipeline.answers(pipeline.agents[0]).summary.get("baseline", ""),
        "data": dict(pipeline.data.summary) | {"lengths": _lengths(pipeline)},
        "signal": _signals(pipeline),
        "training": _training(pipeline),
        "headline": headline(rows),
        "comparisons": [row for row in rows if not row["name"].startswith(_PARTS)],
        "items": [row for row in rows if row["name"].startswith("persona-adherence/")],
        "classes": [row for row in rows if row["name"].startswith(_CLASSES)],
        "confusion": _confusion(pipeline),
        "samples": samples,
        "sample_selection": f"{len(samples)} of {pipeline.answers(pipeline.agents[0]).summary['answers']} held-out prompts, "
        f"drawn with the recipe's seed {recipe.seed}; nobody picked them.",
        "lineage": {
            "nodes": [
                {
                    "stage": s["name"],
                    "key": s["key"][:12],
                    "reused": s["reused"],
                    "seconds": s["seconds"],
                    "inputs": s["inputs"],
                    "why": s["why"],
                }
                for s in pipeline.run.manifest["stages"]
            ]
        },
        "versions": pipeline.run.manifest["versions"],
        "hardware": hardware(),
        "profile": pipeline.answers(pipeline.agents[0]).summary["profile"],
        "warnings": _warnings(pipeline),
        "rounds": collect_rounds(pipeline),
    }


_CLASSES = ("f1-macro/", "ner-f1/")
_PARTS = ("persona-adherence/", *_CLASSES)


def _confusion(pipeline: Pipeline) -> dict[str, Any]:
    """The table of which class was taken for which, of the last arm that has one."""
    from agentft.arms import read_scores

    for part in pipeline.session.parts("evaluator", pipeline.recipe.evaluate):
        if part.name == "confusion":
            for score in read_scores(pipeline.scores(pipeline.agents[-1], part).path):
                return dict(score.details.get("confusion", {}))
    return {}


def headline(rows: list[dict[str, Any]]) -> list[str]:
    """Names of the comparisons that decide: adherence, and relevance by facts, or by similarity where no prompt names facts."""
    measured = [name for name in (*HEADLINE, *HEADS) if any(row["name"] == name and row["n"] for row in rows)]
    if not any(name in HEADLINE for name in measured):
        return measured[:3]
    measured = [name for name in measured if name in HEADLINE]
    return [name for name in measured if name != "relevance/similarity" or "relevance/facts" not in measured]


def _single_arm(scores: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows in the shape of comparisons for a recipe that trains nothing."""
    empty = dict.fromkeys(("tuned", "difference", "ci", "tuned_ci", "p", "adjusted_p", "smallest_detectable"))
    return [
        empty
        | {"name": s["name"], "base": s["value"], "base_ci": s["ci"], "n": s["n"], "unscored_base": None, "unscored_tuned": None}
        | {"verdict": "info", "direction": s["direction"], "unit": s["unit"], "summary": s["summary"]}
        for s in scores
    ]


def _lengths(pipeline: Pipeline) -> dict[str, list[int]]:
    from agentft.render.rows import read_rows

    path = next((stage.path / "train.jsonl" for _, stage in pipeline.all_rows), None)
    return {"train": [len(row["input_ids"]) for row in read_rows(path)]} if path else {}


def _signals(pipeline: Pipeline) -> list[dict[str, Any]]:
    """What each kind of trainer learns from; trainers that get the same rows are shown once."""
    found = []
    for part, stage in {stage.path: (part, stage) for part, stage in pipeline.all_rows}.values():
        for what, name in (("train", part.name if "task" in stage.summary else "demonstrations"), ("pairs", "preference pairs")):
            signal = stage.summary.get(what, {})
            if signal.get("rows_in"):
                shown = {key: signal.get(key) for key in ("tokens", "supervised_tokens", "longest", "sample", "mode", "drops")}
                found.append({"stage": name, "rows": signal["rows_out"]} | shown)
    return found


def _training(pipeline: Pipeline) -> list[dict[str, Any]]:
    result = []
    for stage in pipeline.run.manifest["stages"]:
        if not stage["name"].startswith("train-"):
            continue
        log = pipeline.store.stages / stage["folder"] / "metrics.jsonl"
        curve = [json.loads(line) for line in log.read_text("utf-8").splitlines()] if log.is_file() else []
        summary = stage["summary"]
        result.append(
            {"stage": f"{stage['name']} {summary['trainer']}", "curve": curve, "seconds": stage["seconds"]}
            | {key: summary[key] for key in ("trainable", "total", "metrics")}
            | {"notes": list(summary.get("notes", ()))}
        )
    return result


def _samples(pipeline: Pipeline) -> list[dict[str, Any]]:
    """Held-out questions with all arms' answers: a seeded choice, so that nobody picks the flattering ones."""
    import random

    found = {arm.name: arm.shown(pipeline.answers(arm).path, pipeline.data.path) for arm in pipeline.agents}
    details = {
        arm.name: _details(pipeline.scores(arm, part) for part in pipeline.session.parts("evaluator", pipeline.recipe.evaluate))
        for arm in pipeline.agents
    }
    ids = list(found["base"])
    chosen = sorted(random.Random(pipeline.recipe.seed).sample(range(len(ids)), min(SHOWN, len(ids))))
    result = []
    for name in (ids[index] for index in chosen):
        row: dict[str, Any] = {"id": name} | {key: found["base"][name][key] for key in ("prompt", "reference")}
        for arm, by_id in found.items():
            verdicts, scores = details[arm]
            said = {key: by_id[name][key] for key in ("text", "finish", "error")}
            row[arm] = said | {"verdicts": verdicts.get(name, []), "scores": scores.get(name, {})}
        result.append(row)
    return result


def _details(stages: Any) -> tuple[dict[str, Any], dict[str, dict[str, float | None]]]:
    """Verdicts and per-sample values of one arm, by sample id."""
    from agentft.arms import read_scores

    verdicts: dict[str, Any] = {}
    values: dict[str, dict[str, float | None]] = {}
    for stage in stages:
        for score in read_scores(stage.path):
            if score.name == "persona-adherence":
                verdicts.update(score.details)
            if score.name.startswith(_PARTS):
                continue
            for sample, value in score.to_dict()["per_sample"].items():
                values.setdefault(sample, {})[score.name] = value
    return verdicts, values


def _warnings(pipeline: Pipeline) -> list[str]:
    warnings = [f"{stage['name']}: {note}" for stage in pipeline.run.manifest["stages"] for note in stage["summary"].get("warnings", ())]
    for arm in pipeline.agents:
        summary: Mapping[str, Any] = pipeline.answers(arm).summary
        if summary["failed"]:
            warnings.append(f"{arm.name}: {summary['failed']} of {summary['answers']} answers failed: {'; '.join(summary['errors'])}")
        for part in pipeline.session.parts("evaluator", pipeline.recipe.evaluate):
            for name, count in pipeline.scores(arm, part).summary["unscored"].items():
                warnings.append(f"{arm.name}: {name} could not score {count} samples")
    for stage in {stage.path: stage for _, stage in pipeline.all_rows}.values():
        for name in ("train", "validation"):
            warnings += [f"{name}: {count} rows dropped: {reason}" for reason, count in stage.summary[name]["drops"].items()]
            warnings += unknown_tokens(stage.summary[name], name)
            if "task" in stage.summary and (cut := stage.summary[name]["truncated"]):
                warnings.append(f"{name}: {cut} texts are longer than a row and were cut or read in windows")
    demonstrated, prompts = (any(read_conversations(pipeline.data.path / f"{name}.jsonl")) for name in ("test", "prompts"))
    if pipeline.plays and demonstrated and not prompts:
        warnings.append("no held-out prompts (data.prompts): only held-out demonstrations were asked")
    return warnings


def unknown_tokens(signal: Mapping[str, Any], part: str) -> list[str]:
    """A warning where the model cannot read a tenth of the tokens or more: a Chinese text, say, for an English encoder."""
    share = signal.get("unknown", 0) / max(1, signal["tokens"])
    return (
        [f"{part}: the model does not know {share:.0%} of the tokens; take one that was trained on this language"] if share >= 0.1 else []
    )


def hardware() -> dict[str, Any]:
    """Processor, cores and memory of this machine."""
    import os
    import platform
    from pathlib import Path

    info: dict[str, Any] = {"system": platform.system(), "machine": platform.machine(), "cores": os.cpu_count()}
    cpu = Path("/proc/cpuinfo")
    if cpu.is_file():
        model = [line.partition(":")[2].strip() for line in cpu.read_text().splitlines() if line.startswith("model name")]
        info["processor"] = model[0] if model else platform.processor()
    if hasattr(os, "sysconf"):
        info["memory_gb"] = round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    return info
