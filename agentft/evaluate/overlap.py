"""``rouge``, ``bleu``, ``chrf``, ``ter``: overlap with the demonstrated answer, right for Chinese and for mixed text.

All look only at samples that have a reference. What is compared between two agents is the mean of the
per-sample values; for BLEU, chrF and TER the headline value is the corpus figure that papers report.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from pydantic import Field

from agentft.contracts import EvalContext, Generate
from agentft.evaluate.common import failed, groups_of, per_sample, sample_score, score_from, with_reference
from agentft.evaluate.statistics import statistic_ci
from agentft.records import Sample, Score
from agentft.text import cjk_share, words
from agentft.validation import Model

RESAMPLES = 1000  # of a corpus figure; sacrebleu's default


class BleuConfig(Model):
    """Options of ``bleu``."""

    tokenize: Literal["auto", "13a", "zh", "char"] = Field(
        "auto", description="sacrebleu's tokenizer; `auto`: `zh` for a Chinese persona or references with Chinese, else `13a`"
    )


class WordTokenizer:
    """Lower-case words for ``rouge_score``, every CJK character a word. The library's own tokenizer drops all CJK."""

    def tokenize(self, text: str) -> list[str]:
        return [word.lower() for word in words(text)]


def rouge_f(answer: str, reference: str, kinds: Sequence[str] = ("rouge1", "rougeL")) -> dict[str, float]:
    """F-measures of one answer (Lin 2004), 0 to 1, no stemming."""
    from rouge_score.rouge_scorer import RougeScorer

    found = RougeScorer(list(kinds), tokenizer=WordTokenizer()).score(reference, answer)
    return {kind: float(found[kind].fmeasure) for kind in kinds}


def rouge(samples: Sequence[Sample], generate: Generate, config: Any, ctx: EvalContext) -> list[Score]:
    """``rouge-1`` and ``rouge-l``: mean F-measure of single words and of the longest common subsequence."""
    chosen = with_reference(samples)
    found = {sample.id: rouge_f(sample.text, sample.reference or "") for sample in chosen if not failed(sample)}
    return [
        sample_score("rouge-1", chosen, lambda s: found[s.id]["rouge1"], ctx, summary="words shared with the demonstrated answer (F1)"),
        sample_score("rouge-l", chosen, lambda s: found[s.id]["rougeL"], ctx, summary="words shared in the same order (F1)"),
    ]


def bleu_tokenizer(references: Sequence[str], language: str) -> Literal["13a", "zh"]:
    """``zh`` when the persona or a tenth of the references' letters is Chinese: it also cuts the English in mixed text as ``13a`` does.

    Depends on the references and never on the answers, so that both agents are measured with the same one.
    """
    return "zh" if language == "zh" or cjk_share("\n".join(references)) >= 0.1 else "13a"


def bleu(samples: Sequence[Sample], generate: Generate, config: BleuConfig | None, ctx: EvalContext) -> list[Score]:
    """BLEU-4 (Papineni et al. 2002; sacrebleu). Value: corpus BLEU, 0 to 100, with a bootstrap interval by clusters; per sample:
    sentence BLEU, exponential smoothing.
    """
    chosen = with_reference(samples)
    wanted = config.tokenize if config else "auto"
    tokenize = bleu_tokenizer([sample.reference or "" for sample in chosen], ctx.language) if wanted == "auto" else wanted
    sentence, corpus = bleu_metric(tokenize, sentence=True), bleu_metric(tokenize)
    return [_corpus_score("bleu", chosen, sentence, corpus, ctx, f"corpus BLEU, tokenizer {tokenize}; compared: mean of sentence BLEU")]


def bleu_metric(tokenize: str, *, sentence: bool = False) -> Any:
    """sacrebleu's BLEU. ``sentence``: of the orders only those that a short sentence has."""
    from sacrebleu.metrics import BLEU

    return BLEU(tokenize=tokenize, effective_order=sentence)


def chrf(samples: Sequence[Sample], generate: Generate, config: Any, ctx: EvalContext) -> list[Score]:
    """chrF2 (Popovic 2015; sacrebleu): character n-grams, the same for every language. Value: corpus, 0 to 100, with a bootstrap interval
    by clusters; per sample: sentence.
    """
    metric = chrf_metric()
    return [_corpus_score("chrf", with_reference(samples), metric, metric, ctx, "corpus chrF2; compared: mean of sentence chrF2")]


def chrf_metric() -> Any:
    """sacrebleu's chrF2."""
    from sacrebleu.metrics import CHRF

    return CHRF()


def ter(samples: Sequence[Sample], generate: Generate, config: Any, ctx: EvalContext) -> list[Score]:
    """TER (Snover et al. 2006; sacrebleu): words to insert, delete, replace or shift, for 100 words of the reference; lower is better.

    Value: all edits over all words of the references (may exceed 100), with a bootstrap interval by clusters; per sample: sentence TER.
    """
    chosen = with_reference(samples)
    chinese = ter_chinese([sample.reference or "" for sample in chosen], ctx.language)
    metric = ter_metric(chinese=chinese)
    found = {s.id: metric.sentence_score(s.text, [s.reference]) for s in sorted(chosen, key=lambda s: s.id) if not failed(s)}
    parts = np.array([[one.num_edits, one.ref_length] for one in found.values()], dtype=np.float64).reshape(len(found), 2)
    groups = groups_of(chosen)
    edits, length = parts.sum(axis=0)
    return [
        score_from(
            "ter",
            per_sample(chosen, lambda sample: float(found[sample.id].score)),
            groups,
            seed=ctx.seed,
            value=100 * float(edits / length) if found else None,
            ci=statistic_ci(lambda sums: 100 * sums[:, :1] / sums[:, 1:], parts, [groups[key] for key in found], seed=ctx.seed)[0]
            if found
            else None,
            direction="lower",
            unit="points",
            summary=f"edits for 100 words{', Chinese by characters' if chinese else ''}; compared: mean of sentence TER",
        )
    ]


def ter_chinese(references: Sequence[str], language: str) -> bool:
    """Whether text is cut into characters: a Chinese persona, or any Chinese in the references. Without it a Chinese sentence is one word.

    Like :func:`bleu_tokenizer` it does not depend on the answers, so that both agents are measured the same way.
    """
    return language == "zh" or any(cjk_share(text) > 0 for text in references)


def ter_metric(*, chinese: bool) -> Any:
    """sacrebleu's TER: its default, or (``chinese``) with punctuation cut off and Chinese cut into characters."""
    from sacrebleu.metrics import TER

    return TER(normalized=True, asian_support=True) if chinese else TER()


def _corpus_score(name: str, chosen: Sequence[Sample], sentence: Any, corpus: Any, ctx: EvalContext, summary: str) -> Score:
    values = per_sample(chosen, lambda sample: float(sentence.sentence_score(sample.text, [sample.reference]).score))
    answered = sorted((sample for sample in chosen if not failed(sample)), key=lambda sample: sample.id)
    groups = groups_of(chosen)
    value, ci = None, None
    if answered:
        # What sacrebleu's own significance tests are made of: the counts of each sentence, whose sums make the corpus figure.
        counts = corpus._extract_corpus_statistics([s.text for s in answered], [[s.reference for s in answered]])
        parts = np.array(counts, dtype=np.float64)

        def scores(sums: Any) -> Any:
            return np.array([[corpus._compute_score_from_stats(row).score] for row in sums.round().astype(int).tolist()])

        value = float(scores(parts.sum(axis=0, keepdims=True))[0, 0])
        labels = [groups[sample.id] for sample in answered]
        ci = statistic_ci(scores, parts, labels, seed=ctx.seed, resamples=RESAMPLES, method="percentile")[0]
    return score_from(name, values, groups, seed=ctx.seed, value=value, ci=ci, unit="points", summary=summary)
