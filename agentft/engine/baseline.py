"""What a task with a head would get without a model: the trivial answer, learned by counting. Every figure is shown beside it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from agentft.labelled import Labelled, Prediction
from agentft.render.task import TaskName, target_of

NAMES = {
    "classify": "the most frequent class",
    "regress": "the mean of the training rows",
    "tag": "the most frequent tag of each word",
    "span": "a known answer that stands in the context",
}


class Baseline:
    """Counts over training rows.

    Args:
        name: of the task.
        rows: training rows with labels.
    """

    def __init__(self, name: TaskName, rows: Iterable[Labelled]):
        self.name = name
        self.total, self.seen, self.empty = 0.0, 0, 0
        self.classes: Counter[str] = Counter()
        self.sets: Counter[tuple[str, ...]] = Counter()
        self.words: dict[str, Counter[str]] = {}
        self.answers: dict[str, set[str]] = {}
        self.multi = False
        for row in rows:
            target = target_of(row, name)
            self.seen += 1
            if name == "regress":
                self.total += target
            elif name == "classify":
                self.multi |= isinstance(row.label, list)
                self.classes.update(target)
                self.sets[tuple(target)] += 1
            elif name == "tag":
                for word, tag in zip(row.inputs["tokens"], target, strict=True):
                    self.words.setdefault(word.lower(), Counter())[tag] += 1
            else:
                self.empty += not target
                self.answers.setdefault(row.inputs["question"], set()).update(one["text"] for one in target)

    def predict(self, row: Labelled) -> Prediction:
        """The trivial answer: the most frequent class with the frequencies as probabilities, the mean, the most frequent tag of a word
        (unknown words: ``O``), or the longest answer to the same question in training that stands in the context."""
        if self.name == "regress":
            mean = self.total / max(1, self.seen)
            return Prediction(row, mean, {"value": mean})
        if self.name == "classify":
            shares = {label: count / max(1, self.seen) for label, count in sorted(self.classes.items())}
            return Prediction(row, list(self.sets.most_common(1)[0][0]) if self.multi else self.classes.most_common(1)[0][0], shares)
        if self.name == "tag":
            return Prediction(row, _repaired([self._tag(word) for word in row.inputs["tokens"]]))
        return Prediction(row, self._span(row.inputs["question"], row.inputs["context"]))

    def _tag(self, word: str) -> str:
        known = self.words.get(word.lower())
        return known.most_common(1)[0][0] if known else "O"

    def _span(self, question: str, context: str) -> list[dict[str, Any]]:
        inside = sorted((text for text in self.answers.get(question, ()) if text in context), key=lambda text: (-len(text), text))
        return [{"text": inside[0], "start": context.index(inside[0])}] if inside else []


def _repaired(tags: list[str]) -> list[str]:
    """An ``I-`` tag that continues nothing begins something."""
    result: list[str] = []
    for tag in tags:
        goes_on = result and result[-1][2:] == tag[2:] and result[-1] != "O"
        result.append(f"B-{tag[2:]}" if tag.startswith("I-") and not goes_on else tag)
    return result
