"""The arms of an evaluation: the base model and the tuned one, with the same persona prompt and the same questions."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentft.components import ModelRef
from agentft.contracts import AgentSource, Backend, EvalContext, GenerationSettings
from agentft.data.jsonl import read_conversations, read_records, read_texts, write_rows
from agentft.errors import DataError
from agentft.progress import Progress
from agentft.records import Example, Message, Response, Sample, Score
from agentft.runs import Outcome, StageResult

if TYPE_CHECKING:
    from agentft.engine.agent import LoadedAgent
    from agentft.engine.profile import Profile
    from agentft.engine.texts import TextModel
    from agentft.session import Part, Session

PARTIAL = "answers.partial.jsonl"
CHOICES = "choices.jsonl"
TOGETHER = 16  # questions whose choices are scored in one go


def adapter(trained: StageResult | None) -> Path | None:
    """The adapter folder that a training stage left behind, if it trained one."""
    name = trained.summary.get("adapter") if trained else None
    return trained.path / name if trained and name else None


def examples(trained: StageResult | None) -> Path | None:
    """The folder with conversations to show that a training stage left behind, if it did."""
    name = trained.summary.get("examples") if trained else None
    return trained.path / name if trained and name else None


def trained_model(base: ModelRef, trained: StageResult | None) -> ModelRef:
    """The full model that a training stage left behind, or that its adapter belongs to; else the base model."""
    if trained is None:
        return base
    if name := trained.summary.get("model"):
        return replace(base, path=str(trained.path / name), digest=trained.content, origin="trained")
    if on := trained.summary.get("on"):
        return replace(base, path=str(trained.path.parent / on["path"]), digest=on["digest"], origin="trained")
    return base


def written(model: ModelRef, stages: Path) -> dict[str, str]:
    """A model that a stage trained, as a later stage's summary names it: its place below the folder of all stages, and its digest."""
    return {"path": Path(model.path).relative_to(stages).as_posix(), "digest": model.digest}


class Arm:
    """One agent that takes part in the comparison. The model is loaded when first needed.

    Attributes:
        reads_texts: it is a language model that raw texts can be scored with.
        gives_choices: it can say how likely each of ``meta.choices`` is.
    """

    reads_texts = True
    gives_choices = True

    def __init__(self, name: str, session: Session, trained: StageResult | None = None):
        self.name, self.session, self.trained = name, session, trained

    def inputs(self) -> dict[str, StageResult | str]:
        """What its answers depend on, for the stage keys."""
        model: dict[str, StageResult | str] = {"model": self.session.model.digest}
        return model | ({"trained": self.trained} if self.trained else {})

    @cached_property
    def agent(self) -> LoadedAgent:
        from agentft.engine.agent import LoadedAgent
        from agentft.engine.profile import detect

        self.__dict__.pop("text_model", None)  # two models may not fit
        model = trained_model(self.session.model, self.trained)
        device = detect(self.session.recipe.device)
        session, shown = self.session, examples(self.trained)
        return LoadedAgent.load(model, adapter(self.trained), session.system_prompt, device, examples=shown, tools=session.tools)

    @cached_property
    def text_model(self) -> TextModel:
        """The model alone, for raw texts; a model without a chat template can read these too."""
        from agentft.engine.profile import detect
        from agentft.engine.texts import TextModel

        if loaded := self.__dict__.get("agent"):
            return TextModel(loaded.model, loaded.tokenizer, loaded.profile)
        model = trained_model(self.session.model, self.trained)
        return TextModel.load(model, adapter(self.trained), detect(self.session.recipe.device))

    @property
    def profile(self) -> Profile:
        """How the model runs."""
        from agentft.engine.profile import detect

        return detect(self.session.recipe.device)

    @cached_property
    def backend(self) -> Backend:
        from agentft.engine.backends import Choice

        session = self.session
        chosen = Choice(session.catalog, session.recipe.generation.backend)
        if chosen.loads:
            return chosen.of(self.agent)
        model = chosen.model(session.recipe.model_reference, lambda _: trained_model(session.model, self.trained))
        source = AgentSource(
            model, session.system_prompt, adapter(self.trained), examples(self.trained), session.recipe.device, session.tools
        )
        return chosen.open(source)

    @property
    def settings(self) -> GenerationSettings:
        generation = self.session.recipe.generation
        return GenerationSettings(
            generation.max_new_tokens, generation.temperature, generation.top_p, generation.batch_size, self.session.recipe.seed
        )

    def answer(self, data: Path, out: Path, progress: Progress) -> Outcome:
        """Answer every held-out question; see :func:`answer`."""
        return answer(self, data, out, progress)

    def choosing(self, data: Path) -> list[Example]:
        """The questions whose choices can be given probabilities: those with a right answer, ``meta.label``, among ``meta.choices``."""
        if not self.gives_choices:
            return []
        return [prompt for prompt, _ in questions(data) if prompt.meta.get("choices") and prompt.meta.get("label") is not None]

    def choose(self, data: Path, out: Path, progress: Progress) -> Outcome:
        """The probability of every choice; see :func:`choose`."""
        return choose(self, data, out, progress)

    def score(self, part: Part, answers: Path, data: Path, out: Path, progress: Progress, choices: Path | None = None) -> Outcome:
        """What one evaluator says; see :func:`score`."""
        return score(self, part, answers, data, out, progress, choices)

    def shown(self, answers: Path, data: Path) -> dict[str, dict[str, Any]]:
        """Question, reference and answer of each sample, for the report."""
        return {
            sample.id: {
                "prompt": [{"role": m.role, "content": said(m)} for m in sample.prompt.messages],
                "reference": sample.reference,
                "text": said(sample.response.message),
                "finish": sample.response.finish,
                "error": sample.response.error,
            }
            for sample in samples(answers, data)
        }

    def close(self) -> None:
        """Let go of the model: two of them at once may not fit."""
        for name in ("backend", "agent", "text_model"):
            self.__dict__.pop(name, None)


def said(message: Message) -> str:
    """What a reader is shown of a message: its words, and a line for each call."""
    calls = (f"{call['name']}({json.dumps(call['arguments'], ensure_ascii=False)})" for call in message.tool_calls)
    return "\n".join(part for part in (message.content, *calls) if part)


def questions(data: Path) -> list[tuple[Example, str | None]]:
    """Held-out prompts and the prompts of held-out demonstrations, each with its reference answer if there is one."""
    examples = [*read_conversations(data / "prompts.jsonl"), *read_conversations(data / "test.jsonl")]
    return [example.as_prompt() for example in examples]


def groups(data: Path) -> dict[str, str]:
    """Sample id -> group, for statistics that resample whole groups."""
    return {row.id: row.group_key for name in ("prompts", "test") for row in read_records(data / f"{name}.jsonl")}


def answer(arm: Arm, data: Path, out: Path, progress: Progress) -> Outcome:
    """Answer every question into ``answers.jsonl``; batches that an interrupted try finished are taken over."""
    prompts = [prompt for prompt, _ in questions(data)]
    done = finished(out)
    report = counter(progress, len(prompts), len(done))
    with (out / PARTIAL).open("a", encoding="utf-8") as stream:

        def on_batch(responses: Sequence[Response]) -> None:
            for response in responses:
                stream.write(json.dumps(response.to_dict(), ensure_ascii=False) + "\n")
            stream.flush()
            report(responses)

        # Without a question no model need be loaded, nor have a chat template.
        responses = arm.backend.generate(prompts, arm.settings, on_batch, done) if prompts else []
    write_rows(out / "answers.jsonl", (response.to_dict() for response in responses))
    (out / PARTIAL).unlink()
    failed = [response for response in responses if response.finish == "error"]
    summary: dict[str, Any] = {"answers": len(responses), "failed": len(failed), "errors": sorted({r.error for r in failed})[:5]}
    summary["profile"] = arm.profile.to_dict()
    if (shots := getattr(arm.__dict__.get("agent"), "shots", None)) is not None:
        summary["shots"] = dict(shots.account)
    return Outcome(summary, retry=bool(failed))


def counter(progress: Progress, total: int, done: int = 0) -> Callable[[Sequence[Response]], None]:
    """An ``on_batch`` that tells ``progress`` how many of ``total`` are answered."""

    def on_batch(responses: Sequence[Response]) -> None:
        nonlocal done
        done += len(responses)
        progress.step(done, total)

    return on_batch


def finished(out: Path) -> dict[str, Response]:
    """Answers of an earlier try. A line that was cut by a kill is left out, failures are tried again."""
    done: dict[str, Response] = {}
    for name in ("answers.jsonl", PARTIAL):
        if not (out / name).is_file():
            continue
        for line in (out / name).read_text("utf-8").splitlines():
            try:
                response = Response.from_dict(json.loads(line))
            except (ValueError, TypeError):
                continue
            if response.finish != "error":
                done[response.id] = response
    return done


def choose(arm: Arm, data: Path, out: Path, progress: Progress) -> Outcome:
    """The probability of every choice of every question into ``choices.jsonl``: ``{"id", "scores", "error"}``.

    Lines that an interrupted try has written are taken over: what is found for a question depends on the others by rounding only.
    """
    asked, partial = arm.choosing(data), out / f"partial.{CHOICES}"
    known = {row["id"]: row for row in whole_lines(partial)}
    with partial.open("a", encoding="utf-8") as stream:
        stream.write("\n")  # behind a line that was cut
        for start in range(0, len(asked), TOGETHER):  # cut as without the interruption: to the last digit the same numbers
            group = asked[start : start + TOGETHER]
            if all(prompt.id in known for prompt in group):
                continue
            for row in _likely(arm, group):
                if row["id"] not in known:
                    stream.write(json.dumps(row, ensure_ascii=False) + "\n")
                    known[row["id"]] = row
            stream.flush()
            progress.step(len(known), len(asked))
    write_rows(out / CHOICES, (known[prompt.id] for prompt in asked))
    partial.unlink()
    failed = [known[prompt.id] for prompt in asked if known[prompt.id]["error"]]
    return Outcome({"questions": len(asked), "failed": len(failed), "errors": sorted({row["error"] for row in failed})[:5]})


def _likely(arm: Arm, prompts: Sequence[Example]) -> list[dict[str, Any]]:
    """The rows of some questions. What they begin with, the persona, is run once for all of them."""
    try:
        found = arm.agent.choice_scores(prompts)
    except DataError as error:  # longer than the model's context, say: it must not cost the others
        if len(prompts) > 1:
            return [row for prompt in prompts for row in _likely(arm, [prompt])]
        return [{"id": prompts[0].id, "scores": {}, "error": str(error)}]
    return [{"id": prompt.id, "scores": scores, "error": ""} for prompt, scores in zip(prompts, found, strict=True)]


def whole_lines(path: Path) -> list[dict[str, Any]]:
    """Rows of a file that a kill may have cut in its last line."""
    rows = []
    for line in path.read_text("utf-8", "ignore").splitlines() if path.is_file() else ():
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return rows


def samples(answers: Path, data: Path, choices: Path | None = None) -> list[Sample]:
    """Questions with the answers of a stage, and with the probabilities of another one."""
    responses = {row["id"]: Response.from_dict(row) for row in map(json.loads, (answers / "answers.jsonl").read_text("utf-8").splitlines())}
    likely = {row["id"]: row["scores"] for row in whole_lines(choices / CHOICES)} if choices else {}
    return [Sample(prompt, responses[prompt.id], reference, likely.get(prompt.id, {})) for prompt, reference in questions(data)]


def score(arm: Arm, part: Part, answers: Path, data: Path, out: Path, progress: Progress, choices: Path | None = None) -> Outcome:
    """Run one evaluator on one arm; the scores go to ``scores.json``. ``choices``: folder of :func:`choose`, for those that ask."""
    session = arm.session
    found = samples(answers, data, choices)
    if getattr(part.entry.spec, "consumes", "") == "reference":
        found = [sample for sample in found if sample.reference is not None]

    def generate(prompts: Iterable[Example]) -> list[Response]:
        asked = list(prompts)
        return arm.backend.generate(asked, arm.settings, counter(progress, len(asked)))

    complete = [e for name in ("prompts", "test") for e in read_conversations(data / f"{name}.jsonl") if e.as_prompt()[1] is not None]
    context = EvalContext(
        persona=session.persona,
        language=session.persona.language,
        seed=session.recipe.seed,
        examples=complete,
        logprobs=lambda examples: arm.agent.logprobs(examples),
        texts=list(read_texts(data / "test.jsonl")),
        text_logprobs=(lambda found: arm.text_model.logprobs(found)) if arm.reads_texts else None,
    )
    return write_scores(out, session.catalog.target(part.entry)(found, generate, part.config, context))


def write_scores(out: Path, scores: Sequence[Score]) -> Outcome:
    """The scores of one evaluator into ``scores.json``."""
    (out / "scores.json").write_text(json.dumps([s.to_dict() for s in scores], ensure_ascii=False, allow_nan=False), encoding="utf-8")
    return Outcome(
        {"scores": {s.name: s.to_dict()["value"] for s in scores}, "unscored": {s.name: s.unscored for s in scores if s.unscored}}
    )


def read_scores(folder: Path) -> list[Score]:
    """What :func:`write_scores` wrote."""
    return [Score.from_dict(row) for row in json.loads((folder / "scores.json").read_text("utf-8"))]
