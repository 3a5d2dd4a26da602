"""One agent, whatever it is, on a suite: asked, measured, and kept in a folder that a comparison can take up.

The folder's name has the agent and a key of everything that its answers depend on: the prompts, the settings, the system prompt and
the agent's own identity. The same command continues where it was interrupted; another evaluator measures the answers that are there.
"""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any

from agentft import arms
from agentft.arms import Arm
from agentft.contracts import Backend, CriticContext, DataContext
from agentft.data.jsonl import write_rows
from agentft.data.prepare import Step, prepare
from agentft.errors import DataError, UserError
from agentft.evaluate.common import NAN, score_from
from agentft.evaluate.slices import slice_table, slices_of
from agentft.feedback.prompts import open_model, template_source
from agentft.progress import Progress
from agentft.records import Feedback, Score
from agentft.runs import canonical, digest, file_digest, write_atomic
from agentft.session import versions

if TYPE_CHECKING:
    from agentft.agents import OpenAgent
    from agentft.engine.agent import LoadedAgent
    from agentft.host import Host
    from agentft.session import Part, Session
    from agentft.suite import Suite

RESULT = "result.json"
FORMAT = 1


@dataclass(frozen=True)
class Evaluation:
    """What an agent reached on a suite.

    Attributes:
        folder: with ``answers.jsonl``, ``result.json`` and the scores.
        result: what ``result.json`` holds: ``agent``, ``suite``, ``scores`` (with values per sample),
            ``slices``, ``samples``, ``warnings``.
    """

    folder: Path
    result: dict[str, Any]

    @property
    def scores(self) -> list[Score]:
        return [Score.from_dict(row) for row in self.result["scores"]]


def evaluate_agent(
    agent: OpenAgent, suite: Suite, out: Path, *, host: Host | None = None, progress: Progress | None = None, name: str = ""
) -> Evaluation:
    """Ask the agent the suite's prompts, measure its answers, and write ``result.json``.

    Args:
        out: folder of all evaluations; this one gets a folder of its own in it.
        name: what reports call the agent; default: its own name.

    Raises:
        RecipeError: the suite names something that is not there.
        UserError: not one prompt was answered.
    """
    from agentft.host import Host

    began, progress = time.monotonic(), progress or Progress()
    session = suite.session(host or Host())
    if suite.persona is None and agent.persona is not None:
        session.__dict__["persona"] = agent.persona  # the run's own, as it was when the run was made
    folder, account = _prepared(agent, suite, session, out, progress, name or agent.name)
    arm = _AgentArm(agent, session)
    _answer(arm, folder, progress)
    found = arms.samples(folder, folder / "data")
    failed = [sample for sample in found if sample.response.finish == "error"]
    if found and len(failed) == len(found):
        raise UserError(f"{agent.name} answered none of {len(found)} prompts: {failed[0].response.error}")
    scores = [score for part in session.parts("evaluator", suite.evaluate) for score in _score(arm, part, folder, progress)]
    if suite.judge is not None:
        scores += _judged(arm, suite, folder, progress)
    slices, groups = slices_of((sample.prompt for sample in found), suite.slices), arms.groups(folder / "data")
    result = {
        "kind": "evaluation",
        "format": FORMAT,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(time.monotonic() - began, 2),
        "agent": {"name": name or agent.name, "kind": agent.kind, "identity": agent.identity, "system": agent.system},
        "suite": {"name": suite.name, "summary": suite.summary, "digest": suite.digest},
        "persona": session.persona.to_dict(),
        "seed": suite.seed,
        "headline": list(suite.headline),
        "scores": [score.to_dict() for score in scores],
        "slices": slice_table(scores, slices, groups, suite.seed),
        "samples": [_shown(sample, slices, groups) for sample in found],
        "prompts": account,
        "warnings": _warnings(failed, len(found), scores),
        "versions": {**versions(), **session.plugin_versions()},
    }
    write_atomic(folder / RESULT, json.dumps(result, ensure_ascii=False, indent=1, allow_nan=False))
    return Evaluation(folder, result)


class _Elsewhere:
    """Stands for the device profile of an agent that does not run in this process."""

    def to_dict(self) -> dict[str, Any]:
        return {}


class _AgentArm(Arm):
    """An open agent in the place of a recipe's base or tuned model."""

    reads_texts = False

    def __init__(self, agent: OpenAgent, session: Session):
        super().__init__(agent.name, session)
        self.opened, self.gives_choices = agent, agent.loaded is not None

    @cached_property
    def agent(self) -> LoadedAgent:
        if self.opened.loaded is None:
            raise DataError(f"'{self.opened.name}' does not run in this process, so that the probability of a text cannot be measured")
        return self.opened.loaded

    @cached_property
    def backend(self) -> Backend:
        return self.opened.backend

    @property
    def profile(self) -> Any:
        return self.opened.loaded.profile if self.opened.loaded else _Elsewhere()


def _prepared(agent: OpenAgent, suite: Suite, session: Session, out: Path, progress: Progress, name: str) -> tuple[Path, dict[str, Any]]:
    """The evaluation's folder with its prompts in ``data/``, and the account of where these came from."""
    out.mkdir(parents=True, exist_ok=True)
    work = Path(mkdtemp(prefix=".prompts-", dir=out))
    try:
        account = prepare(
            work,
            sources=[],
            transforms=[],
            prompts=[_step(session, part) for part in session.parts("source", suite.prompts)],
            split_options={"validation": 0.0, "test": 0.0, "by": "group", "seed": suite.seed, "stratify": None},
            max_prompts=suite.limit,
            ctx=DataContext(persona=session.persona, base=session.recipe.base, seed=suite.seed),
        )
        asked = [agent.identity, agent.system, suite.generation.model_dump(), suite.seed, file_digest(work / "prompts.jsonl")]
        slug = re.sub(r"[^\w.@-]+", "-", name).strip("-")[:60] or "agent"
        folder = out / f"{slug}-{suite.name}-{digest(asked)[:10]}"
        folder.mkdir(exist_ok=True)
        if not (folder / "data").is_dir():
            work.rename(folder / "data")
    finally:
        shutil.rmtree(work, ignore_errors=True)
    kept = {key: value for key, value in account.to_dict().items() if key in ("sources", "steps")}
    progress.note(f"{suite.name}: {account.splits['prompts']} prompts, kept in {folder}")
    return folder, kept


def _step(session: Session, part: Part) -> Step:
    target = session.catalog.target(part.entry)
    return Step(part.name, lambda ctx: target(part.config, ctx), part.use.weight)


def _answer(arm: _AgentArm, folder: Path, progress: Progress) -> None:
    prompts = [prompt.id for prompt, _ in arms.questions(folder / "data")]
    known, name = arms.finished(folder), f"answers of {arm.name}"
    if (folder / "answers.jsonl").is_file() and all(prompt in known for prompt in prompts):
        progress.reused(name)
        return
    began = time.monotonic()
    progress.stage(name, f"{len(prompts)} prompts" + (f", {len(known)} of them answered before" if known else ""))
    arm.answer(folder / "data", folder, progress)
    progress.finished(name, time.monotonic() - began)


def _score(arm: _AgentArm, part: Part, folder: Path, progress: Progress) -> list[Score]:
    """What one evaluator says; kept, because some ask the agent questions of their own."""
    key = digest([part.identity(), file_digest(folder / "answers.jsonl"), arm.session.persona.digest, arm.session.recipe.seed])[:10]
    kept = folder / "scores" / f"{part.name.replace('/', '.')}-{key}"
    if not (kept / "scores.json").is_file():
        began = time.monotonic()
        progress.stage(part.name, "new")
        kept.parent.mkdir(exist_ok=True)
        work = Path(mkdtemp(prefix=".", dir=kept.parent))
        try:
            choices = None
            if getattr(part.entry.spec, "probabilities", False) and arm.choosing(folder / "data"):
                arm.choose(folder / "data", work, progress)
                choices = work
            arm.score(part, folder, folder / "data", work, progress, choices)
            shutil.rmtree(kept, ignore_errors=True)
            work.rename(kept)
        finally:
            shutil.rmtree(work, ignore_errors=True)
        progress.finished(part.name, time.monotonic() - began)
    return arms.read_scores(kept)


def _judged(arm: _AgentArm, suite: Suite, folder: Path, progress: Progress) -> list[Score]:
    """Share of the asked checklist items that a judge model says are met; judgements are kept, failures are asked again."""
    from agentft.feedback.judge import judge

    assert suite.judge is not None
    session, found = arm.session, arms.samples(folder, folder / "data")
    settings = digest([suite.judge.model_dump(mode="json"), session.persona.digest, suite.seed])
    log = folder / "judgements.jsonl"
    known = {(row["settings"], canonical(row["text"]), row["feedback"]["response"]): row for row in arms.whole_lines(log)}
    done = {s.id: row for s in found if (row := known.get((settings, canonical(s.text), s.id))) and not row["feedback"]["error"]}
    waiting = [sample for sample in found if sample.id not in done]
    if waiting:
        progress.stage("judge", f"{len(waiting)} answers")
        backends: dict[str, Backend] = {}

        def opened(use: Any) -> Backend:
            key = canonical(use.model_dump(mode="json"))
            if key not in backends:
                backends[key] = open_model(use, resolve=session.host.resolve_model, device={}, catalog=session.catalog)
            return backends[key]

        persona = session.persona
        context = CriticContext(
            persona,
            persona.language,
            suite.seed,
            arm.opened.system,
            base=session.recipe.base,
            template=lambda name: template_source(session.catalog, name, persona.language, persona.templates),
            open_model=opened,
            progress=progress.step,
        )
        given = judge([s.prompt for s in waiting], [s.response for s in waiting], suite.judge, context)
        rows = [{"settings": settings, "text": s.text, "feedback": one.to_dict()} for s, one in zip(waiting, given, strict=True)]
        write_rows(log, [*known.values(), *rows])
        done |= {sample.id: row for sample, row in zip(waiting, rows, strict=True)}
        progress.finished("judge", 0.0)
    feedback = {name: Feedback.from_dict(row["feedback"]) for name, row in done.items()}
    return judged_scores(feedback, arms.groups(folder / "data"), suite.seed)


def judged_scores(feedback: Mapping[str, Feedback], groups: Mapping[str, str], seed: int = 0) -> list[Score]:
    """``judged`` (share of the judged items that are met) and ``judged/ITEM``; what the judge could not read is NaN and counted.

    Args:
        feedback: sample id -> what the judge said.
    """
    whole: dict[str, float] = {}
    items: dict[str, dict[str, float]] = {}
    for sample, one in feedback.items():
        passed = [float(v.verdict == "pass") for v in one.verdicts if v.verdict in ("pass", "fail")]
        if one.error or any(v.verdict == "unscored" for v in one.verdicts) or passed:
            whole[sample] = sum(passed) / len(passed) if passed else NAN
        for v in one.verdicts:
            if v.verdict != "n.a.":
                items.setdefault(v.item, {})[sample] = {"pass": 1.0, "fail": 0.0}.get(v.verdict, NAN)
    details = {sample: [v.to_dict() for v in one.verdicts] for sample, one in feedback.items()}
    summary = "share of checklist items that the judge model says are met"
    return [
        score_from("judged", whole, groups, seed=seed, summary=summary, details=details),
        *(score_from(f"judged/{item}", values, groups, seed=seed, summary=f"{item}, as judged") for item, values in items.items()),
    ]


def _shown(sample: Any, slices: Mapping[str, Mapping[str, str]], groups: Mapping[str, str]) -> dict[str, Any]:
    return {
        "id": sample.id,
        "group": groups.get(sample.id, sample.id),
        "slices": dict(slices.get(sample.id, {})),
        "prompt": [{"role": m.role, "content": m.content} for m in sample.prompt.messages],
        "reference": sample.reference,
        "text": sample.text,
        "finish": sample.response.finish,
        "error": sample.response.error,
        "tokens": sample.response.tokens,
    }


def _warnings(failed: Sequence[Any], total: int, scores: Sequence[Score]) -> list[str]:
    found = []
    if failed:
        reasons = sorted({sample.response.error for sample in failed})[:3]
        found.append(f"{len(failed)} of {total} prompts were not answered: {'; '.join(reasons)}")
    return found + [
        f"{score.name} could not score {score.unscored} samples" for score in scores if score.unscored and "/" not in score.name
    ]
