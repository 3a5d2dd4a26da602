"""What can be seen without knowing the question: stopping, length, repetition, variety, failed generations."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from agentft.contracts import EvalContext, Generate
from agentft.evaluate.common import failed, groups_of, per_sample, sample_score, score_from
from agentft.records import Sample, Score
from agentft.text import is_chinese, words


def form(samples: Sequence[Sample], generate: Generate, config: Any, ctx: EvalContext) -> list[Score]:
    """All of this module: ``stop-rate``, ``length``, ``repetition``, ``distinct-2``, ``error-rate``."""
    parts = (stop_rate, length, repetition, distinct_2, error_rate)
    return [score for part in parts for score in part(samples, generate, config, ctx)]


def stop_rate(samples: Sequence[Sample], generate: Generate, config: Any, ctx: EvalContext) -> list[Score]:
    """Share of answers that ended with a stop token instead of being cut at the length limit."""
    return [sample_score("stop-rate", samples, lambda s: s.response.finish == "stop", ctx, summary="answers that end by themselves")]


def length(samples: Sequence[Sample], generate: Generate, config: Any, ctx: EvalContext) -> list[Score]:
    """Words per answer, a CJK character counted as one word. Neither long nor short is better in itself."""
    summary = "words per answer (a Chinese character is a word)"
    return [sample_score("length", samples, lambda s: len(words(s.text)), ctx, direction="none", unit="words", summary=summary)]


def repetition(samples: Sequence[Sample], generate: Generate, config: Any, ctx: EvalContext) -> list[Score]:
    """Share of answers that say the same four words twice (lower is better)."""
    summary = "answers that repeat four words in a row"
    return [sample_score("repetition", samples, lambda s: repeats(s.text), ctx, direction="lower", summary=summary)]


def repeats(text: str, size: int = 4) -> bool:
    """Whether any ``size`` consecutive words occur twice; in Chinese, twice as many characters (a word is about two)."""
    tokens = [word.lower() for word in words(text)]
    for n, chinese in ((size, False), (2 * size, True)):
        grams = Counter(tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1))
        if any(count > 1 and is_chinese("".join(gram)) == chinese for gram, count in grams.items()):
            return True
    return False


def distinct_2(samples: Sequence[Sample], generate: Generate, config: Any, ctx: EvalContext) -> list[Score]:
    """Variety of the answers taken together: different word pairs / all word pairs (Li et al. 2016). Falls with collapse.

    Value: the corpus figure. Per sample: the mean over the answer's word pairs of 1 / (occurrences in all answers); weighted with
    the number of pairs these average to the corpus figure, so that comparing them compares variety among answers
    and not only within one. An answer with fewer than two words has no pairs and does not apply. Falls by
    itself as texts get longer: look at ``length`` too.
    """
    grams = {sample.id: _bigrams(sample.text) for sample in samples if not failed(sample)}
    counts = Counter(gram for of_sample in grams.values() for gram in of_sample)

    def rarity(sample: Sample) -> float | None:
        own = grams[sample.id]
        return math.fsum(1 / counts[gram] for gram in own) / len(own) if own else None

    value = len(counts) / counts.total() if counts else None
    summary = "different word pairs in all answers together; compared: the mean per answer"
    return [score_from("distinct-2", per_sample(samples, rarity), groups_of(samples), seed=ctx.seed, value=value, summary=summary)]


def error_rate(samples: Sequence[Sample], generate: Generate, config: Any, ctx: EvalContext) -> list[Score]:
    """Share of prompts to which no answer could be generated; every other metric counts these as unscored."""
    values = {key: 0.0 for key in groups_of(samples)} | {sample.id: 1.0 for sample in samples if failed(sample)}
    reasons = {sample.id: sample.response.error for sample in samples if failed(sample)}
    summary = "prompts whose generation failed"
    return [score_from("error-rate", values, groups_of(samples), seed=ctx.seed, direction="lower", summary=summary, details=reasons)]


def _bigrams(text: str) -> list[tuple[str, str]]:
    tokens = [word.lower() for word in words(text)]
    return list(pairwise(tokens))
