"""The arms of a task with a head: the trivial answer and the trained model, on the same held-out rows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentft import arms
from agentft.arms import Arm
from agentft.contracts import EvalContext
from agentft.data.jsonl import read_records, write_rows
from agentft.errors import DataError
from agentft.labelled import Labelled, Prediction
from agentft.progress import Progress
from agentft.runs import Outcome

if TYPE_CHECKING:
    from agentft.engine.heads import HeadModel
    from agentft.session import Part


class HeadArm(Arm):
    """``base`` is what counting alone would say, ``tuned`` the trained model. Answers are predictions."""

    gives_choices = False

    @cached_property
    def head(self) -> HeadModel:
        """The trained model, loaded when first needed."""
        from agentft.engine.heads import HeadModel
        from agentft.engine.profile import detect

        assert self.trained is not None
        folder = arms.adapter(self.trained) or Path(arms.trained_model(self.session.model, self.trained).path)
        base = arms.trained_model(self.session.model, self.trained)
        return HeadModel.load(base, folder, detect(self.session.recipe.device))

    def answer(self, data: Path, out: Path, progress: Progress) -> Outcome:
        """Predict every test row into ``answers.jsonl``."""
        rows = self.rows(data)
        if self.trained is None:
            from agentft.engine.baseline import NAMES, Baseline

            name = self.task_name
            baseline = Baseline(
                name, (row for row in read_records(data / "train.jsonl") if isinstance(row, Labelled) and row.label is not None)
            )
            found = [baseline.predict(row) for row in rows]
            further: dict[str, Any] = {"baseline": NAMES[name], "profile": {}}
        else:
            done = 0

            def on_batch(batch: Sequence[Prediction]) -> None:
                nonlocal done
                done += len(batch)
                progress.step(done, len(rows))

            found = self.head.predict(rows, on_batch)
            further = {"profile": self.head.profile.to_dict()}
        write_rows(out / "answers.jsonl", (one.to_dict() for one in found))
        failed = [one for one in found if one.error]
        return Outcome({"answers": len(found), "failed": len(failed), "errors": sorted({one.error for one in failed})[:5], **further})

    @property
    def task_name(self) -> Any:
        """The task of the recipe's last trainer with a head."""
        from agentft.render.task import TaskName

        names: tuple[str, ...] = TaskName.__args__  # type: ignore[attr-defined]
        used = [part.use for part in self.session.recipe.train if part.use in names]
        return used[-1]

    def rows(self, data: Path) -> list[Labelled]:
        """The held-out rows; a number that a table holds as text is a number.

        Raises:
            DataError: a label is of another kind than the task's.
        """
        from agentft.render.task import target_of

        rows = test_rows(data)
        return [replace(row, label=target_of(row, "regress")) for row in rows] if self.task_name == "regress" else rows

    def predictions(self, answers: Path, data: Path) -> list[Prediction]:
        """Test rows with the predictions of a stage."""
        from agentft.engine.heads import as_record

        found = {row["id"]: row for row in map(json.loads, (answers / "answers.jsonl").read_text("utf-8").splitlines())}
        return [as_record(found[row.id], row) for row in self.rows(data)]

    def score(self, part: Part, answers: Path, data: Path, out: Path, progress: Progress, choices: Path | None = None) -> Outcome:
        session = self.session
        ctx = EvalContext(session.persona, session.persona.language, session.recipe.seed)

        def generate(prompts: Any) -> Any:
            raise DataError(f"'{part.name}' asks questions of its own, which a model that predicts labels cannot answer")

        scores = session.catalog.target(part.entry)(self.predictions(answers, data), generate, part.config, ctx)
        return arms.write_scores(out, scores)

    def shown(self, answers: Path, data: Path) -> dict[str, dict[str, Any]]:
        return {one.id: shown(one) for one in self.predictions(answers, data)}

    def close(self) -> None:
        self.__dict__.pop("head", None)


def test_rows(data: Path) -> list[Labelled]:
    """The held-out rows."""
    return [row for row in read_records(data / "test.jsonl") if isinstance(row, Labelled) and row.label is not None]


def shown(one: Prediction) -> dict[str, Any]:
    """A prediction in the words of the report's samples: what was asked, what is right, what was said."""
    return {
        "prompt": [{"role": "user", "content": one.row.text}],
        "reference": label_text(one.row, one.row.label),
        "text": label_text(one.row, one.label),
        "finish": "error" if one.error else "stop",
        "error": one.error,
    }


def label_text(row: Labelled, label: Any) -> str:
    """A label as people read it."""
    if "tokens" in row.inputs and label is not None:
        from itertools import groupby

        marked = [(tag, word) for word, tag in zip(row.inputs["tokens"], label, strict=True)]
        pieces: list[str] = []
        for outside, run in groupby(marked, key=lambda pair: pair[0] == "O"):
            pieces += [] if outside else [" ".join(f"{word} ({tag})" for tag, word in run)]
        return "; ".join(pieces) or "nothing"
    if "context" in row.inputs and label is not None:
        return "; ".join(one["text"] for one in label) or "no answer"
    if isinstance(label, float):
        return f"{label:.4g}"
    return ", ".join(map(str, label)) or "none" if isinstance(label, list) else str(label)
