"""``similarity``: does the answer mean what the demonstrated one means?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from agentft.contracts import EvalContext, Generate
from agentft.evaluate.common import need, with_reference
from agentft.evaluate.embedding import EXTRA, PACKAGE
from agentft.evaluate.relevance import similarity_score
from agentft.records import Sample, Score


def similarity(samples: Sequence[Sample], generate: Generate, config: Any, ctx: EvalContext) -> list[Score]:
    """Cosine of MiniLM embeddings of the answer and the reference, over samples that have one. English only.

    NaN, and counted, where either text cannot be read by the model (Chinese).

    Raises:
        MissingDependency: the extra ``semantic`` is not installed; who asks for this metric by name wants to know.
    """
    need(PACKAGE, EXTRA)
    chosen = with_reference(samples)
    references = {sample.id: sample.reference or "" for sample in chosen}
    return [similarity_score("similarity", chosen, references, ctx, "similarity of answer and demonstrated answer")]
