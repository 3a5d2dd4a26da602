"""The arms of models that are no chat models and have no head: encoders that fill in masks, and encoder-decoders that answer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentft import arms
from agentft.arms import Arm
from agentft.contracts import Backend, EvalContext
from agentft.data.jsonl import read_texts, write_rows
from agentft.errors import DataError
from agentft.labelled import Labelled
from agentft.progress import Progress
from agentft.runs import Outcome

if TYPE_CHECKING:
    from agentft.engine.masked import MaskedModel
    from agentft.engine.seq2seq import Seq2SeqAgent
    from agentft.session import Part


def options_of(arm: Arm, kind: str) -> Any:
    """Options of the recipe's last trainer that leaves ``kind`` behind: both arms are asked in the way that was trained."""
    parts = arm.session.parts("trainer", arm.session.recipe.train)
    return next(part.config for part in reversed(parts) if getattr(part.entry.spec, "produces", "") == kind)


class EncoderArm(Arm):
    """An encoder that fills in masked tokens of the held-out texts; the masks are the same for both arms. Answers are guesses."""

    gives_choices = False

    @cached_property
    def encoder(self) -> MaskedModel:
        """The encoder, loaded when first needed."""
        from agentft.engine.heads import readable_length
        from agentft.engine.masked import MaskedModel
        from agentft.engine.models import load_tokenizer

        options, recipe = options_of(self, "encoder"), self.session.recipe
        model = arms.trained_model(self.session.model, self.trained)
        size = readable_length(model.path, load_tokenizer(model), recipe.data.max_length)
        return MaskedModel.load(
            model,
            self.profile,
            size=min(getattr(options, "max_length", None) or size, size),
            share=getattr(options, "mask", 0.15),
            whole=getattr(options, "whole_words", False),
            seed=recipe.seed,
        )

    def answer(self, data: Path, out: Path, progress: Progress) -> Outcome:
        """Guess the masked tokens of every held-out text into ``answers.jsonl``."""
        from agentft.engine.masked import drawn_note

        texts, done = list(read_texts(data / "test.jsonl")), 0

        def on_batch(count: int) -> None:
            nonlocal done
            done += count
            progress.step(min(done, len(texts)), len(texts))

        found = self.encoder.guess(texts, on_batch)
        write_rows(out / "answers.jsonl", (one.__dict__ for one in found))
        notes = [drawn_note(self.encoder.drawn)] if self.encoder.drawn else []
        profile = self.encoder.profile.to_dict()
        return Outcome({"answers": len(found), "failed": 0, "errors": [], "notes": notes, "profile": profile})

    def score(self, part: Part, answers: Path, data: Path, out: Path, progress: Progress, choices: Path | None = None) -> Outcome:
        session, found = self.session, guesses(answers)

        def logprobs(texts: Sequence[Labelled]) -> list[tuple[float, int]]:
            return [(found[text.id]["logprob"], found[text.id]["tokens"]) for text in texts]

        def generate(prompts: Any) -> Any:
            raise DataError(f"'{part.name}' asks questions of its own, which an encoder cannot answer")

        ctx = EvalContext(
            session.persona,
            session.persona.language,
            session.recipe.seed,
            texts=list(read_texts(data / "test.jsonl")),
            masked_logprobs=logprobs,
        )
        return arms.write_scores(out, session.catalog.target(part.entry)([], generate, part.config, ctx))

    def shown(self, answers: Path, data: Path) -> dict[str, dict[str, Any]]:
        """The masked text, what stood there, and what the model would have put there."""
        return {
            name: {
                "prompt": [{"role": "user", "content": row["masked"]}],
                "reference": row["truth"],
                "text": row["said"],
                "finish": "stop",
                "error": "",
            }
            for name, row in guesses(answers).items()
        }

    def close(self) -> None:
        self.__dict__.pop("encoder", None)


def guesses(answers: Path) -> dict[str, dict[str, Any]]:
    """Text id -> guess, of a stage."""
    return {row["id"]: row for row in map(json.loads, (answers / "answers.jsonl").read_text("utf-8").splitlines())}


class Seq2SeqArm(Arm):
    """An encoder-decoder: the same questions as for a chat model, without a persona in front."""

    reads_texts = False
    gives_choices = False

    @cached_property
    def agent(self) -> Seq2SeqAgent:  # type: ignore[override]
        from agentft.engine.seq2seq import Seq2SeqAgent

        model, options = arms.trained_model(self.session.model, self.trained), options_of(self, "seq2seq")
        return Seq2SeqAgent.load(model, arms.adapter(self.trained), self.profile, options, self.session.recipe.data.max_length)

    @cached_property
    def backend(self) -> Backend:
        return self.agent
