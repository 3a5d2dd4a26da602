"""``style-and-facts``: one number for the whole task, from exact parts."""

from __future__ import annotations

from collections.abc import Sequence

from agentft.contracts import EvalContext, Generate
from agentft.evaluate.common import NAN, failed, sample_score
from agentft.evaluate.form import repeats
from agentft.records import Sample, Score
from agentft_content_style.facts import invented, kept_share, source_of
from agentft_content_style.likeness import copied
from agentft_content_style.style import STYLES, StyleConfig, marker_share, style_of

COPY = 0.8  # from here on an answer is the source again; the demonstrations stay below 0.6


def style_and_facts(samples: Sequence[Sample], generate: Generate, config: StyleConfig, ctx: EvalContext) -> list[Score]:
    """Share of the style's markers x share of the facts kept, and 0 for an answer that is no use whatever its style.

    No use is an answer that was cut off, says four words twice, has a number or name of its own, or copies at least 80 % of
    its runs of words from a text that it should rewrite. So 1 means: has every marker, keeps every fact, adds none. A
    source without facts counts with its style alone. Not measured: whether the sentences are good, and whether
    a wish of a later turn (a headline, fewer words) was met.
    """
    style = style_of(config, ctx)
    reasons = {sample.id: useless(sample, ctx.persona.role) for sample in samples if not failed(sample)}

    def value(sample: Sample) -> float:
        if style is None:
            return NAN
        kept = kept_share(sample.prompt, sample.text)
        return 0.0 if reasons[sample.id] else marker_share(style, sample.text) * (1.0 if kept is None else kept)

    known = "style markers x facts kept; 0 if cut off, repeated, invented or copied"
    summary = known if style else f"not computed: set style: {', '.join(STYLES)}"
    return [sample_score("style-and-facts", samples, value, ctx, summary=summary, details={k: v for k, v in reasons.items() if v})]


def useless(sample: Sample, role: str) -> list[str]:
    """Why the answer counts 0; empty if it does not."""
    added = invented(sample.prompt, sample.text, role)
    found = {
        "cut off": sample.response.finish != "stop",
        "repeats itself": repeats(sample.text),
        f"not in the source: {', '.join(added)}": bool(added),
        "copies the source": sample.prompt.meta.get("task") != "notes" and copied(sample.text, source_of(sample.prompt)) >= COPY,
    }
    return [reason for reason, holds in found.items() if holds]
