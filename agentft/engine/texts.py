"""How well a language model that reads from left to right predicts raw texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentft.components import ModelRef
from agentft.engine.profile import Profile
from agentft.labelled import Labelled
from agentft.render.texts import MASKED, TextEncoder

WINDOW = 1024  # tokens that are read at once; each token of a longer text is scored once, behind at least half of them


@dataclass
class TextModel:
    """A language model without persona and chat template.

    Attributes:
        model: in evaluation mode, on the profile's device.
        tokenizer, profile: its tokenizer, and how it runs.
    """

    model: Any
    tokenizer: Any
    profile: Profile

    @classmethod
    def load(cls, ref: ModelRef, adapter: Path | None, profile: Profile) -> TextModel:
        from agentft.engine.models import load_model, load_tokenizer

        profile.apply()
        return cls(load_model(ref, profile, adapter), load_tokenizer(ref), profile)

    def logprobs(self, texts: Sequence[Labelled]) -> list[tuple[float, int]]:
        """Sum of the log-probabilities (natural logarithm) of a text's tokens, and their number, per text.

        The first token is predicted behind the token that documents begin with (:attr:`TextEncoder.start`), so that every byte of the
        text is paid for; the end token is not counted. Long texts are read in windows that overlap by half.
        """
        from agentft.engine.score import summed

        encoder = TextEncoder(self.tokenizer)
        context = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        size = min(WINDOW, context or WINDOW)
        rows = [(index, *row) for index, text in enumerate(texts) for row in windows([*encoder.start, *encoder.ids(text.text)], size)]
        rows.sort(key=lambda row: len(row[1]))
        return summed(self.model, rows, len(texts), size=self.profile.score_batch, pad_token_id=self.tokenizer.pad_token_id)


def windows(ids: list[int], size: int) -> list[tuple[list[int], list[int]]]:
    """``ids`` in windows of up to ``size`` tokens with labels such that every token but the first is labelled in exactly one."""
    found, done, step = [], 1, max(1, size // 2)
    for start in range(0, len(ids), step):
        piece = ids[start : start + size]
        if start + len(piece) > done:
            seen = done - start
            found.append((piece, [MASKED] * seen + piece[seen:]))
            done = start + len(piece)
    return found
