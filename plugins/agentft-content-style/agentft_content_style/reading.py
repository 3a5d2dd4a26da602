"""``readability``: how hard the answer is to read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from agentft.contracts import EvalContext, Generate
from agentft.evaluate.common import NAN, sample_score
from agentft.evaluate.readability import flesch_kincaid_grade, flesch_reading_ease
from agentft.records import Sample, Score
from agentft_content_style.style import sentence_length


def reading(samples: Sequence[Sample], generate: Generate, config: Any, ctx: EvalContext) -> list[Score]:
    """``reading/sentence-length`` in words, for Chinese in characters; for an English persona also ``reading/ease`` (Flesch)
    and ``reading/grade`` (Flesch-Kincaid).

    No direction: a newsroom does not want a notice's sentences. The formulas are noisy on texts as short as these; compare
    means over many. An answer without a sentence, or not in the persona's language, is NaN.
    """

    def length(sample: Sample) -> float:
        value = sentence_length(sample.text)
        return value if math.isfinite(value) else NAN

    unit = "characters" if ctx.language == "zh" else "words"
    scores = [
        sample_score("reading/sentence-length", samples, length, ctx, direction="none", unit=unit, summary=f"mean {unit} per sentence")
    ]
    if ctx.language == "en":
        scores += [
            sample_score(
                "reading/ease",
                samples,
                lambda s: flesch_reading_ease(s.text),
                ctx,
                direction="none",
                unit="points",
                summary="Flesch reading ease, higher is easier",
            ),
            sample_score(
                "reading/grade",
                samples,
                lambda s: flesch_kincaid_grade(s.text),
                ctx,
                direction="none",
                unit="grade",
                summary="Flesch-Kincaid US school grade",
            ),
        ]
    return scores
