"""What the two arms of a comparison are called: base and tuned model, or the trivial answer and the trained model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agentft.report import plain


@dataclass(frozen=True)
class Names:
    """Names of the arms for headings; ``baseline``: what the trivial answer is, empty for two models that talk."""

    base: str = "Base model"
    tuned: str = "Tuned model"
    baseline: str = ""

    def spoken(self, sentence: str) -> str:
        """A sentence on base and tuned model as one on the trivial answer and the trained model, where these are compared."""
        if self.baseline:
            for old, new in _WORDS:
                sentence = sentence.replace(old, new)
        return sentence


_WORDS = (
    ("the base model", "the trivial answer"),
    (" before tuning, ", " by the trivial answer, "),
    (" after, on ", " by the trained model, on "),
    ("tuned model", "trained model"),
    ("held-out prompt", "held-out row"),
    ("so many prompts", "so many rows"),
    ("prompt,", "row,"),
    ("prompts,", "rows,"),
)


def names_of(data: Mapping[str, Any]) -> Names:
    """The names for a run's data."""
    baseline = plain.string(data.get("baseline"))
    return Names("Trivial answer", "Trained model", baseline) if baseline else Names()
