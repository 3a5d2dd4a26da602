"""Collects what the report shows of the rounds: figures per arm, the gate's conditions, pairs, what moved, and why."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from agentft import round_steps
from agentft.data.jsonl import iter_rows, read_examples
from agentft.records import Example, Feedback, Preference, Response, Score
from agentft.runs import STAGE_FILE
from agentft.text import words

if TYPE_CHECKING:
    from agentft.pipeline import Pipeline

SHOWN_PAIRS = 12
SHOWN_FEEDBACK = 8
SHOWN_MOVES = 4
LABELS = {"candidate": "candidate", "control": "control: SFT on the chosen answers"}


def collect_rounds(pipeline: Pipeline) -> list[dict[str, Any]]:
    """One entry per decided round, in the shape of ``rounds`` in :mod:`agentft.report`."""
    if pipeline.rounds is None:
        return []
    return [_round(pipeline, row) for row in pipeline.rounds.lineage.rounds]


def _round(pipeline: Pipeline, row: Mapping[str, Any]) -> dict[str, Any]:
    stages = pipeline.store.stages
    folder = {name: stages / place for name, place in row["stages"].items()}
    prefix = f"round-{row['round']}-"
    of_round = {name.removeprefix(prefix): path for name, path in folder.items() if name.startswith(prefix)}
    summaries = {name: json.loads((path / STAGE_FILE).read_text("utf-8"))["summary"] for name, path in of_round.items()}
    scores = _scores(folder)
    champion = next((name for name in scores if not name.startswith(prefix)), "")
    conditions: list[dict[str, Any]] = next(
        (one["conditions"] for one in row["decisions"] if one["arm"] == (row["promoted"] or f"{prefix}candidate")), []
    )
    candidate = row["promoted"] or f"{prefix}candidate"
    pool = {one.id: one for one in round_steps.gate_and_test(pipeline.data.path)[0]}
    texts = {arm: _answers(folder.get(f"answers-{arm}")) for arm in scores}
    return {
        "round": row["round"],
        "state": row["state"],
        "promoted": row["promoted"] and row["promoted"].removeprefix(prefix),
        "sentence": row["sentence"],
        "primary": row["options"]["gate"]["primary"],
        "arms": [_arm(name, name.removeprefix(prefix) if name.startswith(prefix) else "champion", row, scores[name]) for name in scores],
        "conditions": conditions,
        "flow": _flow(summaries),
        "drops": _drops(summaries),
        "training": _training(row, of_round, summaries, _length_words(row, scores, texts, champion)),
        "pairs": _pairs(pipeline, of_round.get("pairs"), of_round),
        "moved": _moved(
            pipeline, scores.get(champion, {}), scores.get(candidate, {}), pool, texts.get(champion, {}), texts.get(candidate, {})
        ),
        "tokens": _tokens(of_round.get("explain")),
        "feedback": _feedback(pipeline, of_round),
        "critics": _critics(summaries, conditions),
    }


def _scores(folder: Mapping[str, Path]) -> dict[str, dict[str, Score]]:
    """Arm -> score name -> score, from the stages ``scores-ARM-EVALUATOR`` of a round."""
    arms = [name.removeprefix("answers-") for name in folder if name.startswith("answers-")]
    found: dict[str, dict[str, Score]] = {arm: {} for arm in arms}
    for name, path in folder.items():
        arm = next((one for one in sorted(arms, key=len, reverse=True) if name.startswith(f"scores-{one}-")), None)
        if arm is not None:
            rows = json.loads((path / "scores.json").read_text("utf-8"))
            found[arm] |= {score.name: score for score in map(Score.from_dict, rows)}
    return found


def _answers(folder: Path | None) -> dict[str, str]:
    rows = iter_rows(folder / "answers.jsonl") if folder else ()
    return {row["id"]: row["text"] for row in rows}


def _arm(name: str, role: str, row: Mapping[str, Any], scores: Mapping[str, Score]) -> dict[str, Any]:
    label = f"champion ({row['start']})" if role == "champion" else LABELS.get(role, role)
    if role == "candidate":
        label = f"candidate: {row['options']['train']['use'].upper()}"
    values = {}
    for score in scores.values():
        data = score.to_dict()
        values[score.name] = {"value": data["value"], "ci": data["ci"], "unit": score.unit}
    return {"name": role, "label": label, "arm": name, "values": values}


def _flow(summaries: Mapping[str, Any]) -> list[dict[str, Any]]:
    pairs = summaries.get("pairs", {})
    names = {
        "prompts": "prompts",
        "responses": "answers",
        "failing": "with failed items",
        "revised": "revisions drawn",
        "better_revisions": "answers with a better revision",
        "made": "pairs made",
        "kept": "pairs kept",
    }
    return [{"name": label, "count": pairs[key]} for key, label in names.items() if key in pairs]


def _drops(summaries: Mapping[str, Any]) -> dict[str, int]:
    found = {f"prompt: {reason}": count for reason, count in summaries.get("lock", {}).get("drops", {}).items()}
    for name, what in (("answers", "answer"), ("revisions", "revision")):
        if summaries.get(name, {}).get("failed"):
            found[f"{what} could not be generated"] = summaries[name]["failed"]
    found |= summaries.get("pairs", {}).get("drops", {})
    rows = summaries.get("rows", {}).get("pairs", {}).get("drops", {})
    return found | {f"pair: {reason}": count for reason, count in rows.items()}


def _length_words(
    row: Mapping[str, Any], scores: Mapping[str, Mapping[str, Score]], texts: Mapping[str, Mapping[str, str]], champion: str
) -> list[str]:
    """Whether the primary score goes with the length of the answers: the first thing to suspect behind a rise."""
    primary = row["options"]["gate"]["primary"]
    arms = (champion, f"round-{row['round']}-candidate")
    before, after = (_length_correlation(scores.get(arm, {}).get(primary), texts.get(arm, {})) for arm in arms)
    if before is None or after is None:
        return []
    strong = " Longer or shorter answers explain a part of the score; look at the pairs." if abs(after) >= 0.3 else ""
    return [f"Score and length of an answer: rank correlation {after:+.2f}, with the champion {before:+.2f}.{strong}"]


def _length_correlation(score: Score | None, texts: Mapping[str, str]) -> float | None:
    """Spearman's rho of a score and the words of the answers; None where either does not vary."""
    from scipy.stats import spearmanr

    pairs = [
        (value, len(words(texts[name]))) for name, value in (score.per_sample if score else {}).items() if name in texts and value == value
    ]
    if len(pairs) < 3 or any(len(set(side)) < 2 for side in zip(*pairs, strict=True)):
        return None
    return float(spearmanr(*zip(*pairs, strict=True)).statistic)


def _training(
    row: Mapping[str, Any], of_round: Mapping[str, Path], summaries: Mapping[str, Any], further: Sequence[str]
) -> list[dict[str, Any]]:
    from agentft.train.words import preference_words

    found = []
    for arm in ("candidate", "control"):
        if arm not in of_round:
            continue
        log = of_round[arm] / "metrics.jsonl"
        metrics = summaries[arm]["metrics"]
        said = [*(preference_words(metrics) if "margin" in metrics else []), *(further if arm == "candidate" else ())]
        beta = (row["options"]["train"].get("beta") or 0.1) if arm == "candidate" else 0.1
        curve = [
            line | ({"drift": line["reward_chosen"] / beta} if "reward_chosen" in line else {})
            for line in (iter_rows(log) if log.is_file() else ())
        ]
        found.append({"arm": arm, "metrics": metrics, "words": said, "curve": curve})
    return found


def _pairs(pipeline: Pipeline, folder: Path | None, of_round: Mapping[str, Path]) -> list[dict[str, Any]]:
    """A seeded choice of pairs, with the words that the chosen answer answers to."""
    if folder is None:
        return []
    # A thumb without a partner, which KTO learns from too, has nothing to stand beside.
    every = [one for row in iter_rows(folder / "pairs.jsonl") if (one := Preference.from_dict(row)).paired]
    chosen = sorted(Random(pipeline.recipe.seed).sample(range(len(every)), min(SHOWN_PAIRS, len(every))))
    feedback = {one.id: one for name in ("feedback", "revision-feedback") if name in of_round for one in _read_feedback(of_round[name])}
    found = []
    for one in (every[index] for index in chosen):
        assert one.chosen is not None and one.rejected is not None
        known = [feedback[key] for key in one.feedback_ids if key in feedback]
        better, _, worse = (
            one.id.rpartition(">") if one.origin != "revision" else (one.id.rpartition(">")[0], "", one.id.rpartition(">")[2])
        )
        failed = {side: _failed(known, name) for side, name in (("chosen", better), ("rejected", worse))}
        found.append(
            {
                "id": one.id,
                "prompt": [{"role": m.role, "content": m.content} for m in one.prompt.messages],
                "rejected": one.rejected.content,
                "chosen": one.chosen.content,
                "origin": one.origin,
                "critique": "\n".join(note.critique for note in known if note.response == worse and note.critique),
                "mended": sorted(failed["rejected"] - failed["chosen"]),
            }
        )
    return found


def _failed(feedback: Sequence[Feedback], response: str) -> set[str]:
    return {v.item for one in feedback if one.response == response for v in one.verdicts if v.verdict == "fail"}


def _read_feedback(folder: Path) -> list[Feedback]:
    return [Feedback.from_dict(row) for row in iter_rows(folder / "feedback.jsonl")]


def _moved(
    pipeline: Pipeline,
    before: Mapping[str, Score],
    after: Mapping[str, Score],
    pool: Mapping[str, Example],
    old: Mapping[str, str],
    new: Mapping[str, str],
) -> list[dict[str, Any]]:
    """Checklist items whose share changed, the largest change first, with prompts on which they were mended and broken."""
    found = []
    for policy in pipeline.session.persona.policies:
        name = f"persona-adherence/{policy.id}"
        one, other = before.get(name), after.get(name)
        if one is None or other is None:
            continue
        both = [key for key in one.per_sample if key in other.per_sample and key in pool]
        mended = [key for key in both if one.per_sample[key] == 0 and other.per_sample[key] == 1]
        broken = [key for key in both if one.per_sample[key] == 1 and other.per_sample[key] == 0]
        if not both or not (mended or broken):
            continue
        values = [[score.per_sample[key] for key in both if score.per_sample[key] == score.per_sample[key]] for score in (one, other)]

        def shown(keys: Sequence[str]) -> list[dict[str, str]]:
            return [
                {"id": key, "prompt": pool[key].last_user, "before": old.get(key, ""), "after": new.get(key, "")}
                for key in keys[:SHOWN_MOVES]
            ]

        found.append(
            {
                "item": policy.id,
                "text": policy.text,
                "severity": policy.severity,
                "before": sum(values[0]) / max(1, len(values[0])),
                "after": sum(values[1]) / max(1, len(values[1])),
                "count_fixed": len(mended),
                "count_broken": len(broken),
                "fixed": shown(mended),
                "broken": shown(broken),
            }
        )
    return sorted(found, key=lambda row: -abs(row["after"] - row["before"]))


def _tokens(folder: Path | None) -> list[dict[str, Any]]:
    return json.loads((folder / "tokens.json").read_text("utf-8")) if folder else []


def _feedback(pipeline: Pipeline, of_round: Mapping[str, Path]) -> list[dict[str, Any]]:
    if "feedback" not in of_round:
        return []
    prompts = {one.id: one for one in read_examples(of_round["lock"] / "prompts.jsonl")}
    answers = {one.id: one for one in map(Response.from_dict, iter_rows(of_round["answers"] / "answers.jsonl"))}
    said = [one for one in _read_feedback(of_round["feedback"]) if one.critique]
    chosen = sorted(Random(pipeline.recipe.seed).sample(range(len(said)), min(SHOWN_FEEDBACK, len(said))))
    return [
        {
            "prompt": prompts[round_steps.prompt_of(one.response)].last_user,
            "response": answers[one.response].text,
            "critic": one.critic + (f" ({one.rater})" if one.rater else ""),
            "critique": one.critique,
        }
        for one in (said[index] for index in chosen)
    ]


def _critics(summaries: Mapping[str, Any], conditions: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What each critic did, and for those of the gate whether people have found it good enough."""
    checked = {one["name"].removeprefix("critic "): one["outcome"] == "pass" for one in conditions if one["kind"] == "critic"}
    found = []
    for name, one in summaries.get("feedback", {}).get("critics", {}).items():
        errors = "; ".join(f"{count} x {reason}" for reason, count in one["errors"].items())
        text = f"judged {one['judged']} answers, left {one['unscored']} items open" + (f"; failed: {errors}" if errors else "")
        found.append({"name": name, "calibrated": checked.get(name), "text": text})
    return found
