"""Rounds of feedback: lock, generate, criticise, revise, pair, train, evaluate, gate. Each step is a stage of the run store.

    start version -> [lock -> answers -> feedback -> revisions -> feedback -> pairs -> rows -> candidate, control
                      -> answers and scores on the gate prompts -> gate] -> promote, or keep the champion

A decided round is immutable: later changes of the recipe's ``refine:`` apply to the next round.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentft import arms, round_steps
from agentft.arms import Arm
from agentft.contracts import TrainJob
from agentft.data.jsonl import read_examples
from agentft.errors import RecipeError, did_you_mean
from agentft.lineage import START, Lineage, Version
from agentft.recipe_parts import PartUse
from agentft.recipe_refine import Refine
from agentft.records import Example
from agentft.runs import Outcome, StageFile, StageResult, code_digest, digest, file_digest

if TYPE_CHECKING:
    from agentft.pipeline import Pipeline
    from agentft.session import Part

# What the gate measures besides the recipe's own evaluators.
ALWAYS = ("length", "stop-rate", "distinct-2")


@dataclass(frozen=True)
class Ended:
    """How the last round that was asked for ended; ``state`` is empty where none was."""

    state: str = ""
    sentence: str = ""


class Rounds:
    """The rounds of one pipeline.

    Args:
        pipeline: with a recipe that has ``refine:``.
    """

    def __init__(self, pipeline: Pipeline):
        assert pipeline.recipe.refine is not None
        self.pipeline, self.session, self.recipe = pipeline, pipeline.session, pipeline.recipe
        self.lineage = Lineage(pipeline.run.path)

    @cached_property
    def start(self) -> Arm:
        """The agent before any round."""
        return self.pipeline.agents[-1]

    def execute(self, total: int) -> Ended:
        """Run rounds until ``total`` are decided; those that are decided already are taken over as they are.

        Stops early after ``stop_after`` failed gates in a row.
        """
        started = self.start.trained
        if not self.pipeline.dry_run:
            self.lineage.begin(_version(START, started, arm="start"))
        ended = Ended()
        for number in range(1, total + 1):
            known = next((row for row in self.lineage.rounds if row["round"] == number), None)
            if known is None and self._exhausted():
                self.pipeline.progress.note(f"no round {number}: the last {self._failures()} gates failed (refine.stop_after)")
                break
            if known is not None:
                for folder in known["stages"].values():
                    self.pipeline.adopt(folder)
            else:
                known = Round(self, number).run()
            ended = Ended(known["state"], known["sentence"])
        return ended

    def champion(self) -> Arm:
        """The agent that is in charge now."""
        return self.arm_of(self.lineage.current) if self.lineage.data["versions"] else self.start

    def arm_of(self, version: Version) -> Arm:
        """The agent of a version, under the name that its answers have in the store."""
        if version.name == START:
            return self.start
        return Arm(version.arm, self.session, _stage(self.pipeline.store.stages, version))

    def _failures(self) -> int:
        count = 0
        for row in reversed(self.lineage.rounds):
            if row["state"] == "promoted":
                break
            count += 1
        return count

    def _exhausted(self) -> bool:
        assert self.recipe.refine is not None
        return self._failures() >= self.recipe.refine.stop_after


def _version(name: str, trained: StageResult | None, arm: str, why: str = "", feedback: str = "") -> Version:
    from agentft.lineage import now

    if trained is None:
        return Version(name, "", "", "", {}, arm, why, feedback, now())
    return Version(name, trained.path.name, trained.key, trained.content, dict(trained.summary), arm, why, feedback, now())


def _stage(stages: Path, version: Version) -> StageResult | None:
    if not version.folder:
        return None
    return StageResult(version.name, version.key, stages / version.folder, version.content, True, 0.0, "", version.summary)


class Round:
    """One round; see :meth:`run`."""

    def __init__(self, rounds: Rounds, number: int):
        self.rounds, self.number = rounds, number
        self.pipeline, self.session, self.recipe = rounds.pipeline, rounds.session, rounds.recipe
        assert self.recipe.refine is not None
        self.options: Refine = self.recipe.refine
        self.champion = rounds.champion()
        self.stages: list[str] = []

    def run(self) -> dict[str, Any]:
        """All steps; the record of the decision, as it stands in the lineage."""
        self.check_gate()
        pairs = self.pairs
        if pairs.summary["yield"] < self.options.min_yield or not pairs.summary["kept"]:
            sentence = (
                f"{pairs.summary['kept']} pairs from {pairs.summary['prompts']} prompts, less than refine.min_yield "
                f"{self.options.min_yield:.0%}: nothing was trained"
            )
            return self._decide("inconclusive", sentence, [], None)
        gate = self.gate
        decisions = json.loads((gate.path / "gate.json").read_text("utf-8"))["decisions"]
        winner = gate.summary["promoted"]
        _ = self.explain
        shown = next((one for one in decisions if one["arm"] == (winner or self.arm_name("candidate"))), decisions[0])
        return self._decide(shown["state"], shown["sentence"], decisions, winner)

    def check_gate(self) -> None:
        """A score that the gate asks for and nobody measures is found before anything is trained, not after.

        Raises:
            RecipeError: with the place in the recipe.
        """
        from agentft.arms import read_scores

        gate = self.options.gate
        known = {score.name for part in self.evaluators for score in read_scores(self._scores(self.champion, part).path)}
        known |= {f"critic/{one.critic.use}" for one in gate.critics}
        self.champion.close()
        asked = [(("primary",), gate.primary), *((("guardrails", n, "use"), rail.use) for n, rail in enumerate(gate.guardrails))]
        problems = [
            self.recipe.problem(("refine", "gate", *path), f"no evaluator measures '{name}'", did_you_mean(name, known))
            for path, name in asked
            if name not in known
        ]
        if problems:
            raise RecipeError(problems)

    def _decide(self, state: str, sentence: str, decisions: list[dict[str, Any]], winner: str | None) -> dict[str, Any]:
        lineage = self.rounds.lineage
        record: dict[str, Any] = {
            "round": self.number,
            "state": state,
            "sentence": sentence,
            "start": lineage.data["current"],
            "promoted": winner,
            "decisions": decisions,
            "options": self.options.model_dump(mode="json"),
            "stages": {name: self.pipeline.folder(name) for name in self.stages},
        }
        version = None
        if winner:
            arm = next(arm for arm in self.arms if arm.name == winner)
            version = _version(f"round-{self.number}", arm.trained, winner, sentence, self.pairs.content)
        lineage.decide(record, version)
        self.pipeline.round_gated(self.number, state, sentence)
        return record

    # Steps

    @cached_property
    def lock(self) -> StageResult:
        """Everything that the round depends on, the prompts to practise on and the gate's, proved to be disjoint."""
        data = self.pipeline.data
        human = self.human_store

        def build(out: Path) -> Outcome:
            return round_steps.lock(self, out)

        parts = {
            "code": code_digest("round_steps.py", "data", "feedback"),
            "round": self.number,
            "options": self.options.model_dump(mode="json"),
            "champion": self.rounds.lineage.data["current"],
            "sources": [part.identity() for part in self.session.parts("source", self.options.prompts)],
            "critics": [part.identity() for part in self.critics],
            "persona": self.session.persona.model_dump(mode="json"),
            "base": str(self.recipe.base.resolve()),
            "human": file_digest(human),
            "seed": self.recipe.seed,
        }
        inputs: dict[str, Any] = {
            "prompts": data.file("prompts.jsonl"),
            "test": data.file("test.jsonl"),
            "train": data.file("train.jsonl"),
            **self.champion.inputs(),
        }
        return self._stage("lock", parts, inputs, build)

    @cached_property
    def answers(self) -> StageResult:
        """Sampled answers and a greedy one to each prompt, from the champion."""
        parts = self._generation(self.options.sampling.model_dump(mode="json"))
        inputs = {"prompts": self.lock.file("prompts.jsonl"), "said": self.lock.file("said.jsonl"), **self.champion.inputs()}
        return self._stage("answers", parts, inputs, lambda out: round_steps.sample(self, out))

    @cached_property
    def feedback(self) -> StageResult:
        """What the critics say about the answers."""
        return self._criticise("feedback", self.answers)

    @cached_property
    def revisions(self) -> StageResult:
        """Answers written anew after feedback in words."""
        revision = self.options.revision
        parts = self._generation(revision.model_dump(mode="json")) | {"template": digest(round_steps.template(self, "refine"))}
        inputs = {
            "prompts": self.lock.file("prompts.jsonl"),
            "answers": self.answers.file("answers.jsonl"),
            "feedback": self.feedback.file("feedback.jsonl"),
            **self.champion.inputs(),
        }
        return self._stage("revisions", parts, inputs, lambda out: round_steps.revise(self, out))

    @cached_property
    def revision_feedback(self) -> StageResult:
        """What the same critics say about the revisions."""
        return self._criticise("revision-feedback", self.revisions)

    @cached_property
    def pairs(self) -> StageResult:
        """Preference pairs that survived all filters, and the chosen answers for the control arm."""
        parts = {
            "code": code_digest("round_steps.py", "feedback", "text.py"),
            "pairs": self.options.pairs.model_dump(mode="json"),
            "template": digest(round_steps.template(self, "judge_pair")) if self.options.pairs.swap is not None else "",
            "seed": self.recipe.seed,
        }
        inputs: dict[str, StageResult | StageFile | str] = {
            "lock": self.lock,
            "answers": self.answers.file("answers.jsonl"),
            "feedback": self.feedback.file("feedback.jsonl"),
            "revisions": self.revisions.file("answers.jsonl"),
            "revision-feedback": self.revision_feedback.file("feedback.jsonl"),
        }
        for row in self.rounds.lineage.rounds:
            earlier = row["stages"].get(f"round-{row['round']}-pairs")
            if earlier:
                inputs[f"pairs-{row['round']}"] = file_digest(self.pipeline.store.stages / earlier / "pairs.jsonl")
        return self._stage("pairs", parts, inputs, lambda out: round_steps.pair(self, out))

    @cached_property
    def rows(self) -> StageResult:
        """The pairs as tokens, and the chosen answers as training rows for the control arm."""
        parts = {
            "code": code_digest("render"),
            "system_prompt": self.session.system_prompt,
            "tools": self.session.tools,
            "max_length": self.recipe.data.max_length,
            "consumes": self._consumes(self.options.train),
        }
        inputs: dict[str, Any] = {
            "pairs": self.pairs.file("pairs.jsonl"),
            "chosen": self.pairs.file("chosen.jsonl"),
            "model": self.session.model.digest,
        }
        return self._stage("rows", parts, inputs, lambda out: round_steps.rows(self, out))

    @cached_property
    def arms(self) -> list[Arm]:
        """The candidate, and the control arm if there is one; trained when asked for."""
        found = [Arm(self.arm_name("candidate"), self.session, self._train("candidate", self.options.train))]
        if self.options.control is not None:
            found.append(Arm(self.arm_name("control"), self.session, self._train("control", self.options.control)))
        return found

    @cached_property
    def evaluators(self) -> list[Part]:
        """The recipe's evaluators, and what the gate needs besides."""
        uses = list(self.recipe.evaluate)
        known = set(self.session.catalog.names("evaluator"))
        gate = self.options.gate
        for name in (gate.primary, *(rail.use for rail in gate.guardrails), *ALWAYS):
            wanted = next((one for one in (name, name.partition("/")[0]) if one in known), None)
            if wanted and wanted not in {use.use for use in uses}:
                uses.append(PartUse.model_validate(wanted))
        return self.session.parts("evaluator", uses)

    @cached_property
    def gate(self) -> StageResult:
        """The decision, in ``gate.json``."""
        stages: dict[str, dict[str, StageResult]] = {}
        for arm in (self.champion, *self.arms):
            stages[arm.name] = {part.name: self._scores(arm, part) for part in self.evaluators}
            arm.close()
        for arm in (self.champion, *self.arms):
            stages[arm.name] |= {f"critic-{index}": self._judged(arm, index) for index in range(len(self.options.gate.critics))}
        inputs: dict[str, Any] = {stage.name: stage for found in stages.values() for stage in found.values()}
        inputs["pools"] = self.lock.file("pools.json")
        inputs |= {f"calibration-{index}": file_digest(path) for index, path in enumerate(self.calibrations) if path}
        parts = {
            "code": code_digest("evaluate/gate.py", "evaluate/statistics.py", "round_steps.py"),
            "gate": self.options.gate.model_dump(mode="json"),
            "seed": self.recipe.seed,
        }
        scores = {name: list(found.values()) for name, found in stages.items()}
        return self._stage("gate", parts, inputs, lambda out: round_steps.gate(self, out, scores))

    @cached_property
    def explain(self) -> StageResult:
        """What training changed token by token: answers of the candidate under the candidate and under the base model."""
        candidate = self.arms[0]
        inputs: dict[str, Any] = {
            "gate": self.gate.file("gate.json"),
            "answers": self.pipeline.answers(candidate).file("answers.jsonl"),
            **candidate.inputs(),
        }
        parts = {"code": code_digest("engine", "render", "round_steps.py"), "seed": self.recipe.seed}
        return self._stage("explain", parts, inputs, lambda out: round_steps.explain(self, out))

    # Plumbing

    @cached_property
    def critics(self) -> list[Part]:
        """``rules`` first, because it is exact and free, then those of the recipe."""
        uses = [use for use in self.options.critics if use.use != "rules"]
        return self.session.parts("critic", [PartUse.model_validate("rules"), *uses])

    @property
    def human_store(self) -> Path:
        """Where the annotation page keeps what people said about this agent."""
        return self.pipeline.store.root / "feedback" / f"{self.recipe.name}.jsonl"

    def arm_name(self, role: str) -> str:
        return f"round-{self.number}-{role}"

    def prompts(self) -> list[Example]:
        """The prompts to practise on."""
        return list(read_examples(self.lock.path / "prompts.jsonl"))

    def _scores(self, arm: Arm, part: Part) -> StageResult:
        result = self.pipeline.scores(arm, part)
        likely = self.pipeline.choices(arm, part)
        for name in (self.pipeline.answers(arm).name, *([likely.name] if likely else []), result.name):
            self._note(name)
        return result

    @property
    def calibrations(self) -> list[Path | None]:
        """Files that say how far the gate's critics agree with people."""
        return [self.recipe.base / one.calibration if one.calibration else None for one in self.options.gate.critics]

    def _judged(self, arm: Arm, index: int) -> StageResult:
        """What one of the gate's critics says about an arm's answers, as a score ``critic/NAME``."""
        (part,) = self.session.parts("critic", [self.options.gate.critics[index].critic])
        parts = {
            "code": code_digest("round_steps.py", "feedback"),
            "critic": part.identity(),
            "templates": digest([round_steps.template(self, one) for one in ("critique", "judge_pair")]),
            "persona": self.session.persona.model_dump(mode="json"),
            "seed": self.recipe.seed,
        }
        inputs = {"answers": self.pipeline.answers(arm).file("answers.jsonl"), "prompts": self.pipeline.data.file("prompts.jsonl")}
        name = f"judged-{arm.name}-{index}"
        return self._stage(name, parts, inputs, lambda out: round_steps.judge_arm(self, arm, part, out))

    def _criticise(self, name: str, answers: StageResult) -> StageResult:
        parts = {
            "code": code_digest("round_steps.py", "feedback", "rules.py", "text.py"),
            "critics": [part.identity() for part in self.critics],
            "templates": digest([round_steps.template(self, one) for one in ("critique", "judge_pair")]),
            "persona": self.session.persona.model_dump(mode="json"),
            "human": self.lock.summary["human_digest"],
            "seed": self.recipe.seed,
        }
        inputs: dict[str, Any] = {"answers": answers.file("answers.jsonl")}
        inputs |= {name: self.lock.file(f"{name}.jsonl") for name in ("prompts", "said")}
        if self.pipeline.reward is not None and any(part.name == "reward-model" for part in self.critics):
            inputs["reward"] = self.pipeline.reward
        return self._stage(name, parts, inputs, lambda out: round_steps.criticise(self, answers.path, out))

    def _generation(self, options: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "code": code_digest("render", "engine", "round_steps.py"),
            "system_prompt": self.session.system_prompt,
            "tools": self.session.tools,
            "generation": self.recipe.generation.model_dump(mode="json"),
            "options": dict(options),
            "seed": self.recipe.seed,
            "round": self.number,
            "device": self.recipe.device,
        }

    def _consumes(self, use: PartUse) -> str:
        return getattr(self.session.catalog.get("trainer", use.use).spec, "consumes", "example")

    def _train(self, role: str, use: PartUse) -> StageResult:
        last = self.recipe.train[-1] if self.recipe.train else None
        if last is not None and "strategy" in last.options and "strategy" not in use.options:
            # The adapter of the champion is continued, so its shape is the one that was trained before.
            use = PartUse.model_validate({"use": use.use, "strategy": last.options["strategy"], **use.options})
        (part,) = self.session.parts("trainer", [use])
        preference = self._consumes(use) == "preference"
        rows, start = ("pairs" if preference else "train"), self.rounds.start.trained
        inputs: dict[str, Any] = {"rows": self.rows.file(f"{rows}.jsonl"), **self.champion.inputs()}
        if preference and start is not None:
            inputs["reference"] = start

        def build(out: Path) -> Outcome:
            job = TrainJob(
                model=arms.trained_model(self.session.model, self.champion.trained),
                rows=self.rows.path / f"{rows}.jsonl",
                out=out,
                config=part.config,
                seed=self.recipe.seed,
                pad_token_id=self.rows.summary["pad_token_id"],
                adapter=arms.adapter(self.champion.trained),
                device=self.recipe.device,
                progress=self.pipeline.progress.step,
                reference=arms.adapter(start) if preference else None,
            )
            return self.pipeline.trained_outcome(part, job)

        parts = {
            "code": code_digest("train", "engine/profile.py"),
            "trainer": part.identity(),
            "seed": self.recipe.seed,
            "device": self.recipe.device,
        }
        return self._stage(role, parts, inputs, build)

    def _stage(
        self,
        name: str,
        parts: Mapping[str, Any],
        inputs: Mapping[str, StageResult | StageFile | str],
        build: Callable[[Path], Outcome],
    ) -> StageResult:
        full = f"round-{self.number}-{name}"
        result = self.pipeline.stage(full, parts, inputs, build)
        self._note(full)
        return result

    def _note(self, name: str) -> None:
        if name not in self.stages:
            self.stages.append(name)

    def evaluated(self) -> Sequence[Arm]:
        """Champion, candidate and control, in this order."""
        return [self.champion, *self.arms]
