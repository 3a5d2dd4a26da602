"""``rouge``, ``bleu``, ``chrf``: overlap with the demonstrated answer, right for Chinese and for mixed text.

All three look only at samples that have a reference. What is compared between two agents is the mean of the
per-sample values; for BLEU and chrF the headline value is the corpus figure that papers report.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from agentft.contracts import EvalContext, Generate
from agentft.evaluate.common import failed, groups_of, per_sample, sample_score, score_from, with_reference
from agentft.records import Sample, Score
from agentft.text import cjk_share, words
from agentft.validation import Model


class BleuConfig(Model):
    """Options of ``bleu``."""

    tokenize: Literal["auto", "13a", "zh", "char"] = "auto"


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
    """BLEU-4 (Papineni et al. 2002; sacrebleu). Value: corpus BLEU, 0 to 100; per sample: sentence BLEU, exponential smoothing."""
    from sacrebleu.metrics import BLEU

    chosen = with_reference(samples)
    wanted = config.tokenize if config else "auto"
    tokenize = bleu_tokenizer([sample.reference or "" for sample in chosen], ctx.language) if wanted == "auto" else wanted
    sentence, corpus = BLEU(tokenize=tokenize, effective_order=True), BLEU(tokenize=tokenize)
    return [_corpus_score("bleu", chosen, sentence, corpus, ctx, f"corpus BLEU, tokenizer {tokenize}; compared: mean of sentence BLEU")]


def chrf(samples: Sequence[Sample], generate: Generate, config: Any, ctx: EvalContext) -> list[Score]:
    """chrF2 (Popovic 2015; sacrebleu): character n-grams, the same for every language. Value: corpus, 0 to 100; per sample: sentence."""
    from sacrebleu.metrics import CHRF

    metric = CHRF()
    return [_corpus_score("chrf", with_reference(samples), metric, metric, ctx, "corpus chrF2; compared: mean of sentence chrF2")]


def _corpus_score(name: str, chosen: Sequence[Sample], sentence: Any, corpus: Any, ctx: EvalContext, summary: str) -> Score:
    values = per_sample(chosen, lambda sample: float(sentence.sentence_score(sample.text, [sample.reference]).score))
    answered = [sample for sample in chosen if not failed(sample)]
    value = corpus.corpus_score([s.text for s in answered], [[s.reference for s in answered]]).score if answered else None
    return score_from(name, values, groups_of(chosen), seed=ctx.seed, value=value, unit="points", summary=summary)
