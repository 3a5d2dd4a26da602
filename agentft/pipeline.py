"""The whole job of a recipe, stage by stage. Besides the command line, the only module that knows all stages.

    data -> rows -> train-0 .. train-N -> answers (base, tuned) -> scores -> comparison -> rounds -> report

Each stage is a folder in the run store, keyed by what it depends on; see :mod:`agentft.runs`.
"""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentft import arms, processes
from agentft.arms import Arm
from agentft.contracts import BoundLoss, DataContext, RowsJob, TrainJob
from agentft.data.prepare import Step, prepare
from agentft.data_models import DataModels
from agentft.distributed import check_processes
from agentft.errors import DataError
from agentft.events import Event, RoundGated, RunFailed, RunFinished, RunStarted, StageFinished, StageStarted
from agentft.head_arms import HeadArm
from agentft.progress import Progress
from agentft.recipe import PartUse
from agentft.records import Preference
from agentft.render.rows import signal_text
from agentft.runs import Outcome, Run, StageFile, StageResult, Store, code_digest, digest
from agentft.session import Part, Session, versions
from agentft.text_arms import EncoderArm, Seq2SeqArm

if TYPE_CHECKING:
    from agentft.rounds import Ended, Rounds


# What training computes with, besides its own modules.
_ENGINE = [f"engine/{name}.py" for name in ("profile", "score", "tree", "tree_attention", "memory")]


class WouldRun(Exception):
    """A dry run came to a stage that is not in the store."""

    def __init__(self, stage: str, why: str, reused: list[str]):
        self.stage, self.why, self.reused = stage, why, reused


class Pipeline:
    """One run of a checked recipe.

    Args:
        session: the recipe with everything it names.
        store: where runs lie.
        progress: who is told; silent if None.
        dry_run: build nothing; raise :class:`WouldRun` at the first stage that would be built.
    """

    def __init__(self, session: Session, store: Store | None = None, progress: Progress | None = None, *, dry_run: bool = False):
        self.session, self.recipe = session, session.recipe
        self.store = store or Store()
        self.progress = progress or Progress()
        self.run: Run = self.store.open(self.run_id, self.recipe.name)
        self.dry_run = dry_run
        self._current = ""
        self.ended: Ended | None = None
        self._done: dict[str, StageResult] = {}

    @cached_property
    def run_id(self) -> str:
        """Recipe name and the first 8 digits of what the job is: the same recipe and persona continue the same run.

        ``refine:`` does not count: its rounds build on one another, and the next one may have other options.
        """
        job = {key: value for key, value in self.recipe.to_dict().items() if key != "refine"}
        return f"{self.recipe.name}-{digest([job, self.session.persona.digest])[:8]}"

    # The job

    def execute(self, until: str = "report", *, rounds: int | None = None) -> Run:
        """Run every stage up to ``data``, ``rows``, ``train``, ``answers``, ``comparison``, ``rounds`` or ``report``.

        ``rounds``: until how many rounds are decided; default: the recipe's ``refine.rounds``.
        """
        self._total = rounds
        check_processes(self.session, processes.world())
        if advice := processes.advice():
            self.progress.note(advice)
        began = time.monotonic()
        if self.dry_run:
            self._execute(until)
            return self.run
        with self.run.lock():
            self.run.start(self._facts())
            self._tell(RunStarted(self.run.id, self.recipe.name))
            try:
                self._execute(until)
            except BaseException as error:
                self.run.save("failed" if isinstance(error, Exception) else "interrupted")
                self._tell(RunFailed(self.run.id, self._current, f"{type(error).__name__}: {error}"))
                raise
            self.run.save("complete")
            self._tell(RunFinished(self.run.id, round(time.monotonic() - began, 3)))
        return self.run

    def _execute(self, until: str) -> None:
        steps: dict[str, Callable[[], Any]] = {
            "data": lambda: self.data,
            "rows": lambda: self.all_rows,
            "train": lambda: self.trained,
            "answers": lambda: [self.answers(arm) for arm in self.agents],
            "comparison": lambda: self.comparison,
            "rounds": lambda: self.refine(self._total),
            "report": lambda: self.report,
        }
        for name, step in steps.items():
            step()
            if name == until:
                return

    @cached_property
    def agents(self) -> list[Arm]:
        """What is compared: the base model and, if anything was trained, the tuned one; both with the persona's prompt."""
        kind = {"head": HeadArm, "encoder": EncoderArm, "seq2seq": Seq2SeqArm}.get(self.leaves, Arm)
        base = kind("base", self.session)
        return [base, kind("tuned", self.session, self.trained)] if self.trained else [base]

    @cached_property
    def trainers(self) -> list[Part]:
        return self._parts("trainer", self.recipe.train)

    @cached_property
    def leaves(self) -> str:
        """What the last trainer leaves behind, reward models aside: ``model`` (also where nothing is trained), ``head`` ..."""
        found = [kind for part in self.trainers if (kind := produces(part)) != "reward"]
        return found[-1] if found else "model"

    @property
    def predicts(self) -> bool:
        """Whether the recipe trains a model that predicts labels, and not one that talks."""
        return self.leaves == "head"

    @property
    def plays(self) -> bool:
        """Whether what is compared plays the persona."""
        return self.leaves == "model"

    # Stages

    @cached_property
    def data(self) -> StageResult:
        data = self.recipe.data
        sources, prompts = self._parts("source", data.sources), self._parts("source", data.prompts)
        transforms = self._parts("transform", data.transforms)
        divided = {name: self._parts("source", getattr(data, name)) for name in ("validation", "test")}
        models = DataModels(self.session)

        def build(out: Path) -> Outcome:
            account = prepare(
                out,
                sources=[self._step(part) for part in sources],
                transforms=[self._step(part) for part in transforms],
                prompts=[self._step(part) for part in prompts],
                split_options=data.split.model_dump(),
                max_prompts=data.max_prompts,
                **{name: [self._step(part) for part in parts] for name, parts in divided.items()},
                mix=data.mix,
                leaks=data.leaks,
                max_test=data.max_test,
                ctx=DataContext(
                    persona=self.session.persona,
                    base=self.recipe.base,
                    seed=self.recipe.seed,
                    open_model=models,
                    template=models.template,
                    progress=self.progress.step,
                ),
            )
            models.close()
            return Outcome(account.to_dict() | {"dropped": account.dropped[:200]}, account.files)

        parts = {
            "code": code_digest("data", "records.py", "labelled.py", "text.py"),
            "sources": [part.identity() for part in sources],
            "transforms": [part.identity() for part in transforms],
            "prompts": [part.identity() for part in prompts],
            "split": data.split.model_dump(),
            "max_prompts": data.max_prompts,
            **{name: [part.identity() for part in parts] for name, parts in divided.items()},
            "mix": data.mix,
            "leaks": data.leaks,
            "max_test": data.max_test,
            "persona": self.session.persona.name,
            "base": str(self.recipe.base.resolve()),
            "seed": self.recipe.seed,
        }
        if asked := models.identity(transforms):
            parts["asked"] = asked
        return self.stage("data", parts, {}, build)

    @cached_property
    def rows(self) -> StageResult:
        """Tokenised and masked rows, with the report of the signal that training will see."""
        data = self.recipe.data
        inputs: dict[str, StageResult | StageFile | str] = {
            "train": self.data.file("train.jsonl"),
            "validation": self.data.file("validation.jsonl"),
            "model": self.session.model.digest,
        }
        pairs = {name: self.data.path / f"pairs.{name}.jsonl" for name in ("train", "validation")}
        inputs |= {f"pairs.{name}": self.data.file(path.name) for name, path in pairs.items() if path.is_file()}

        def build(out: Path) -> Outcome:
            from agentft.data.jsonl import iter_rows, read_conversations
            from agentft.engine.models import load_tokenizer
            from agentft.render.conversation import Renderer
            from agentft.render.rows import render_rows

            tokenizer = load_tokenizer(self.session.model)
            renderer = Renderer(tokenizer, self.session.system_prompt, tools=self.session.tools)
            summary: dict[str, Any] = {
                "pad_token_id": tokenizer.pad_token_id,
                "template": renderer.digest,
                "checks": renderer.check(),
                "system_prompt_tokens": len(tokenizer(self.session.system_prompt, add_special_tokens=False)["input_ids"]),
            }
            for part in ("train", "validation"):
                examples = read_conversations(self.data.path / f"{part}.jsonl")
                report = render_rows(
                    renderer, examples, out / f"{part}.jsonl", max_length=data.max_length, overflow=data.on_overflow, ctx=DataContext()
                )
                summary[part] = report.to_dict()
            if pairs["train"].is_file():
                from agentft.render.pairs import render_pairs

                preferences = (Preference.from_dict(row) for row in iter_rows(pairs["train"]))
                found = render_pairs(renderer, preferences, out / "pairs.jsonl", max_length=data.max_length, ctx=DataContext())
                summary["pairs"] = found.to_dict()
            return Outcome(summary)

        parts = {
            "code": code_digest("render"),
            "persona": self.session.persona.model_dump(mode="json"),
            "system_prompt": self.session.system_prompt,
            "max_length": data.max_length,
            "on_overflow": data.on_overflow,
        }
        result = self.stage("rows", parts, inputs, build)
        for what in ("train", "pairs"):
            if result.summary.get(what, {}).get("rows_in"):
                self.progress.note(signal_text(result.summary[what]))
        return result

    @cached_property
    def trained(self) -> StageResult | None:
        """The last stage that trained the agent, or None if the recipe trains none."""
        return self._stages_of_training[0]

    @cached_property
    def reward(self) -> StageResult | None:
        """The last stage that trained a reward model, or None."""
        return self._stages_of_training[1]

    @cached_property
    def _stages_of_training(self) -> tuple[StageResult | None, StageResult | None]:
        agent: StageResult | None = None
        reward: StageResult | None = None
        for index, part in enumerate(self.trainers):
            if produces(part) == "reward":
                reward = self._train(index, part, None)
            else:
                agent = self._train(index, part, agent)
        return agent, reward

    @property
    def all_rows(self) -> list[tuple[Part, StageResult]]:
        """Every trainer with the rows that it gets."""
        return [(part, self.rows_of(index, part)) for index, part in enumerate(self.trainers)]

    def rows_of(self, index: int, part: Part) -> StageResult:
        """The token rows that a trainer gets: those of its own kind, or rendered conversations."""
        reference = getattr(part.entry.spec, "rows", "")
        if not reference:
            return self.rows
        name = f"rows-{index}"
        if name in self._done:
            return self._done[name]
        inputs = {part: self.data.file(f"{part}.jsonl") for part in ("train", "validation")} | {"model": self.session.model.digest}

        def build(out: Path) -> Outcome:
            from agentft.engine.heads import family, readable_length
            from agentft.engine.models import load_tokenizer

            path = self.session.model.path
            tokenizer = load_tokenizer(self.session.model)
            job = RowsJob(
                train=self.data.path / "train.jsonl",
                validation=self.data.path / "validation.jsonl",
                out=out,
                tokenizer=tokenizer,
                config=part.config,
                max_length=readable_length(path, tokenizer, self.recipe.data.max_length, part.config),
                causal=family(path) == "causal",
                seed=self.recipe.seed,
                family=family(path),
            )
            return Outcome({**self.session.catalog.resolve(part.entry, reference)(job), "pad_token_id": tokenizer.pad_token_id})

        parts = {
            "code": code_digest("render", "labelled.py"),
            "trainer": part.identity(),
            "max_length": self.recipe.data.max_length,
            "seed": self.recipe.seed,
        }
        result = self.stage(name, parts, inputs, build)
        self.progress.note(signal_text(result.summary["train"]))
        return result

    def _train(self, index: int, part: Part, before: StageResult | None) -> StageResult:
        rows = self.rows_of(index, part)
        preference = getattr(part.entry.spec, "consumes", "") == "preference"
        if preference and not rows.summary.get("pairs", {}).get("rows_out"):
            raise DataError(f"train.{index}: no preference is left for '{part.name}'; `agentft data` shows where they were dropped")
        name = "pairs.jsonl" if preference else "train.jsonl"
        inputs: dict[str, StageResult | StageFile | str] = {"rows": rows.file(name), "model": self.session.model.digest}
        if not preference:
            inputs["validation"] = rows.file("validation.jsonl")
        if before is not None:
            inputs["before"] = before
        shows = produces(part) == "examples"
        if shows:
            inputs["examples"] = self.data.file("train.jsonl")
        loss = self._loss(part)

        def build(out: Path) -> Outcome:
            validation = rows.path / "validation.jsonl"
            held = None if preference or not validation.stat().st_size else validation
            return self.trained_outcome(
                part,
                TrainJob(
                    model=arms.trained_model(self.session.model, before),
                    rows=rows.path / name,
                    validation=held,
                    out=out,
                    config=part.config,
                    seed=self.recipe.seed,
                    pad_token_id=rows.summary["pad_token_id"],
                    loss=loss and loss[1],
                    adapter=arms.adapter(before),
                    device=self.recipe.device,
                    progress=self.progress.step,
                    note=self.progress.note,
                    examples=self.data.path / "train.jsonl" if shows else None,
                ),
            )

        parts = {
            "code": code_digest("train", *_ENGINE, *(["engine/shots.py", "engine/retrieval.py"] if shows else [])),
            "trainer": part.identity(),
            "loss": loss and loss[0].identity(),
            "seed": self.recipe.seed,
            "device": self.recipe.device,
        }
        return self.stage(f"train-{index}", parts, inputs, build)

    def _loss(self, part: Part) -> tuple[Part, Callable[..., Any]] | None:
        """The loss that a trainer's options name, with its own options bound; None for the trainer's own."""
        use = getattr(part.config, "loss", None)
        if not isinstance(use, PartUse):
            return None
        chosen = self._parts("loss", [use])[0]
        target = self.session.catalog.target(chosen.entry)
        return chosen, BoundLoss(target, chosen.config)

    def trained_outcome(self, part: Part, job: TrainJob) -> Outcome:
        """Train, and what the manifest says about it."""
        result = self.session.catalog.target(part.entry)(job)
        gc.collect()  # the trainer holds the model in cycles, and the answers need the memory
        return Outcome(
            {
                "adapter": result.adapter.name if result.adapter else None,
                "model": result.model.name if result.model else None,
                "examples": result.examples.name if result.examples else None,
                "trainer": part.name,
                "produces": produces(part),
                "trainable": result.trainable,
                "total": result.total,
                "notes": list(result.notes),
                "warnings": list(result.warnings),
                "metrics": dict(result.metrics),
                # An adapter on a model that an earlier stage trained in full belongs to that model.
                **({"on": arms.written(job.model, self.store.stages)} if result.adapter and job.model.origin == "trained" else {}),
            }
        )

    def answers(self, arm: Arm) -> StageResult:
        """Answers of one arm to the held-out prompts and to the prompts of the held-out demonstrations."""
        inputs = {"prompts": self.data.file("prompts.jsonl"), "test": self.data.file("test.jsonl"), **arm.inputs()}
        if self.predicts and arm.trained is None:
            inputs["train"] = self.data.file("train.jsonl")  # what the trivial answer is learned from
        parts = {
            "code": code_digest("render", "engine"),
            "system_prompt": self.session.system_prompt,
            "tools": self.session.tools,
            "generation": self.recipe.generation.model_dump(mode="json"),
            "seed": self.recipe.seed,
            "device": self.recipe.device,
        }
        return self.stage(f"answers-{arm.name}", parts, inputs, lambda out: arm.answer(self.data.path, out, self.progress))

    def choices(self, arm: Arm, part: Part) -> StageResult | None:
        """How likely each of ``meta.choices`` is to one arm; None where ``part`` does not ask or no prompt has choices."""
        if not getattr(part.entry.spec, "probabilities", False) or not arm.choosing(self.data.path):
            return None
        inputs = {"prompts": self.data.file("prompts.jsonl"), "test": self.data.file("test.jsonl"), **arm.inputs()}
        parts = {
            "code": code_digest("render", "engine"),
            "system_prompt": self.session.system_prompt,
            "tools": self.session.tools,
            "device": self.recipe.device,
        }
        return self.stage(f"choices-{arm.name}", parts, inputs, lambda out: arm.choose(self.data.path, out, self.progress))

    def scores(self, arm: Arm, part: Part) -> StageResult:
        """What one evaluator says about one arm."""
        inputs = {
            "answers": self.answers(arm).file("answers.jsonl"),
            "prompts": self.data.file("prompts.jsonl"),
            "test": self.data.file("test.jsonl"),
            **arm.inputs(),
        }
        choices = self.choices(arm, part)
        if choices is not None:
            inputs["choices"] = choices.file(arms.CHOICES)
        parts = {
            "code": code_digest("evaluate", "rules.py", "text.py"),
            "evaluator": part.identity(),
            "persona": self.session.persona.model_dump(mode="json"),
            "generation": self.recipe.generation.model_dump(mode="json"),
            "seed": self.recipe.seed,
        }
        name = f"scores-{arm.name}-{part.name.replace('/', '.')}"
        answers, likely = self.answers(arm).path, choices.path if choices else None
        return self.stage(name, parts, inputs, lambda out: arm.score(part, answers, self.data.path, out, self.progress, likely))

    def all_scores(self) -> dict[str, list[StageResult]]:
        """Arm name -> its score stages, in the order of the recipe."""
        evaluators = self._parts("evaluator", self.recipe.evaluate)
        result: dict[str, list[StageResult]] = {}
        for arm in self.agents:
            result[arm.name] = [self.scores(arm, part) for part in evaluators]
            arm.close()
        return result

    @cached_property
    def comparison(self) -> StageResult:
        """Paired statistics of tuned against base, in ``comparison.json``."""
        stages = self.all_scores()
        inputs = {stage.name: stage for found in stages.values() for stage in found}
        groups = arms.groups(self.data.path)

        def build(out: Path) -> Outcome:
            from agentft.evaluate.compare import compare

            scores = {arm: [score for stage in found for score in arms.read_scores(stage.path)] for arm, found in stages.items()}
            rows = (
                [row.to_dict() for row in compare(scores["base"], scores["tuned"], groups, self.recipe.seed)] if "tuned" in scores else []
            )
            data = {
                "comparisons": rows,
                "scores": {arm: [s.to_dict() | {"per_sample": {}, "details": {}} for s in found] for arm, found in scores.items()},
            }
            (out / "comparison.json").write_text(json.dumps(data, ensure_ascii=False), encoding="utf-8")
            return Outcome(
                {
                    "worse": [row["name"] for row in rows if row["verdict"] == "worse"],
                    "better": [row["name"] for row in rows if row["verdict"] == "better"],
                }
            )

        return self.stage(
            "comparison", {"code": code_digest("evaluate"), "groups": digest(groups), "seed": self.recipe.seed}, inputs, build
        )

    @cached_property
    def rounds(self) -> Rounds | None:
        """The rounds of feedback, or None if the recipe has none."""
        from agentft.rounds import Rounds

        return Rounds(self) if self.recipe.refine else None

    def refine(self, total: int | None = None) -> None:
        """Run rounds until ``total`` (default: the recipe's ``refine.rounds``) are decided; see :attr:`ended`."""
        if self.rounds is not None and self.recipe.refine is not None:
            self.ended = self.rounds.execute(self.recipe.refine.rounds if total is None else total)

    @cached_property
    def report(self) -> StageResult:
        """The run as one HTML page, ``report.html`` of the run folder."""
        from agentft.reporting import collect

        inputs: dict[str, Any] = {"data": self.data, "comparison": self.comparison}
        if self.recipe.train:
            inputs |= {stage.name: stage for _, stage in self.all_rows} | {
                f"trained-{n}": one for n, one in enumerate(self._stages_of_training) if one
            }

        def build(out: Path) -> Outcome:
            from agentft.report import render_report

            data = collect(self)
            (out / "report.json").write_text(json.dumps(data, ensure_ascii=False), encoding="utf-8")
            (out / "report.html").write_text(render_report(data), encoding="utf-8")
            return Outcome({})

        parts = {
            "code": code_digest("report", "reporting.py", "reporting_rounds.py"),
            "recipe": self.recipe.to_dict(),
            "rounds": self.rounds.lineage.rounds if self.rounds else [],
        }
        result = self.stage("report", parts, inputs, build)
        for name in ("report.html", "report.json"):
            target = self.run.path / name
            if not target.exists() or target.read_bytes() != (result.path / name).read_bytes():
                target.write_bytes((result.path / name).read_bytes())
        return result

    # Plumbing

    def _parts(self, kind: str, uses: Sequence[Any]) -> list[Part]:
        return self.session.parts(kind, uses)

    def _step(self, part: Part) -> Step:
        target = self.session.catalog.target(part.entry)
        if part.entry.kind == "source":
            return Step(part.name, lambda ctx: target(part.config, ctx), part.use.weight)
        flags = {name: bool(getattr(part.entry.spec, name, False)) for name in ("everywhere", "asks")}
        return Step(part.name, lambda rows, ctx: target(rows, part.config, ctx), **flags)

    def stage(
        self,
        name: str,
        parts: Mapping[str, Any],
        inputs: Mapping[str, StageResult | StageFile | str],
        build: Callable[[Path], Outcome],
    ) -> StageResult:
        self._current = name

        def announce(stage: str, why: str) -> None:
            if self.dry_run:
                raise WouldRun(stage, why, [found["name"] for found in self.run.manifest["stages"]])
            self.progress.stage(stage, why)
            self._tell(StageStarted(self.run.id, stage, why))

        if name in self._done:
            return self._done[name]
        result = self._done[name] = self.run.stage(name, parts, inputs, build, announce)
        (self.progress.reused(name) if result.reused else self.progress.finished(name, result.seconds))
        self._tell(StageFinished(self.run.id, name, result.key, result.reused, result.seconds))
        return result

    def adopt(self, folder: str) -> StageResult:
        """Take over a stage of a decided round as it is, whatever has changed since."""
        return self.run.adopt(folder)

    def folder(self, name: str) -> str:
        """Folder name of a stage of this run."""
        return self._done[name].path.name

    def round_gated(self, number: int, state: str, sentence: str) -> None:
        """Tell that a round is decided."""
        self.progress.note(f"round {number}: {state}: {sentence}")
        self._tell(RoundGated(self.run.id, number, state, sentence))

    def _tell(self, event: Event) -> None:
        if self.dry_run:
            return
        self.run.event(event)
        self.session.host.observe(event)

    def _facts(self) -> dict[str, Any]:
        return {
            "recipe": self.recipe.to_dict(),
            "recipe_file": str(self.recipe.path or ""),
            "overrides": list(self.recipe.overrides),
            "persona": self.session.persona.model_dump(mode="json"),
            "system_prompt": self.session.system_prompt,
            "model": {"reference": self.session.model.reference, "digest": self.session.model.digest, "origin": self.session.model.origin},
            "versions": {**versions(), **self.session.plugin_versions()},
        }


def produces(part: Part) -> str:
    """What a trainer leaves behind: ``model``, ``head``, ``reward`` ..."""
    return str(getattr(part.entry.spec, "produces", ""))
