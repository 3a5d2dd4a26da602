"""``copied`` and ``source-similarity``: how close the answer stays to its source, in words and in meaning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from agentft.contracts import EvalContext, Generate
from agentft.evaluate.common import need, sample_score
from agentft.evaluate.embedding import EXTRA, PACKAGE
from agentft.evaluate.relevance import similarity_score
from agentft.records import Sample, Score
from agentft.text import is_chinese, words
from agentft_content_style.facts import source_of

RUN, RUN_ZH = 4, 8  # words in a row, Chinese characters in a row (a word is about two)


def verbatim(samples: Sequence[Sample], generate: Generate, config: Any, ctx: EvalContext) -> list[Score]:
    """``copied``: share of the answer's runs of 4 words (8 Chinese characters) that stand in the source.

    No direction, because names must stay; the demonstrations of this package have 0.01 to 0.15, a repeated source 1.
    """
    summary = f"runs of {RUN} words ({RUN_ZH} Chinese characters) that are copied from the source"
    return [sample_score("copied", samples, lambda s: copied(s.text, source_of(s.prompt)), ctx, direction="none", summary=summary)]


def source_similarity(samples: Sequence[Sample], generate: Generate, config: Any, ctx: EvalContext) -> list[Score]:
    """``source-similarity``: cosine of MiniLM embeddings of answer and source. English only: Chinese is NaN.

    No direction: an answer that repeats the source has 1. Read it beside ``copied``.

    Raises:
        MissingDependency: the extra ``semantic`` is not installed.
    """
    need(PACKAGE, EXTRA)
    sources = {sample.id: source_of(sample.prompt) for sample in samples}
    return [replace(similarity_score("source-similarity", samples, sources, ctx, "likeness of answer and source"), direction="none")]


def copied(answer: str, source: str) -> float:
    """Share of the runs of words of ``answer`` that stand in ``source``, case aside; 0 where it is too short to have one."""
    size = RUN_ZH if is_chinese(answer) else RUN
    own, given = _runs(answer, size), set(_runs(source, size))
    return sum(run in given for run in own) / len(own) if own else 0.0


def _runs(text: str, size: int) -> list[tuple[str, ...]]:
    found = [word.lower() for word in words(text)]
    return [tuple(found[i : i + size]) for i in range(len(found) - size + 1)]
