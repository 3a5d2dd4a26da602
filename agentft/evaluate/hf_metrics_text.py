"""Classes of ``evaluate.Metric`` for texts.

Import them from :mod:`agentft.evaluate.hf_metrics`.
All take ``predictions`` and ``references``, one text each, but :class:`Perplexity`, which takes ``predictions`` alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import datasets
import evaluate

from agentft.evaluate import embedding
from agentft.evaluate.common import NAN, need
from agentft.evaluate.meteor import Meteor as MeteorScore
from agentft.evaluate.overlap import bleu_metric, bleu_tokenizer, chrf_metric, rouge_f, ter_chinese, ter_metric
from agentft.evaluate.perplexity import perplexity_of, text_logprobs


class _OfTexts(evaluate.Metric):
    about, source = "", ""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=self.about,
            citation=self.source,
            inputs_description="predictions: list of texts; references: list of texts, one each.",
            features=datasets.Features({"predictions": datasets.Value("string"), "references": datasets.Value("string")}),
        )


class Rouge(_OfTexts):
    """ROUGE-1, -2 and -L F-measures (0 to 1) that are right for Chinese and mixed text: every CJK character is a word."""

    about = "ROUGE with a tokenizer that keeps Chinese, Japanese and Korean characters."
    source = "Lin, C.-Y. (2004). ROUGE: A package for automatic evaluation of summaries."

    def _compute(self, predictions: Sequence[str], references: Sequence[str]) -> dict[str, float]:
        kinds = ("rouge1", "rouge2", "rougeL")
        found = [rouge_f(answer, reference, kinds) for answer, reference in zip(predictions, references, strict=True)]
        return {kind: sum(one[kind] for one in found) / len(found) for kind in kinds}


class Bleu(_OfTexts):
    """Corpus BLEU, 0 to 100: ``{"bleu": x}``. The tokenizer is chosen by the references (``zh`` with Chinese in them)."""

    about = "Corpus BLEU of sacrebleu with the tokenizer of the language."
    source = "Papineni et al. (2002). BLEU: a method for automatic evaluation of machine translation."

    def _compute(self, predictions: Sequence[str], references: Sequence[str]) -> dict[str, float]:
        metric = bleu_metric(bleu_tokenizer(references, ""))
        return {"bleu": float(metric.corpus_score(list(predictions), [list(references)]).score)}


class Chrf(_OfTexts):
    """Corpus chrF2, 0 to 100: ``{"chrf": x}``."""

    about = "Corpus chrF2 of sacrebleu."
    source = "Popovic (2015). chrF: character n-gram F-score for automatic MT evaluation."

    def _compute(self, predictions: Sequence[str], references: Sequence[str]) -> dict[str, float]:
        return {"chrf": float(chrf_metric().corpus_score(list(predictions), [list(references)]).score)}


class Ter(_OfTexts):
    """Corpus TER, edits for 100 words of the references, lower is better: ``{"ter": x}``. Chinese is cut into characters."""

    about = "Translation edit rate of sacrebleu, Chinese by characters."
    source = "Snover et al. (2006). A study of translation edit rate with targeted human annotation."

    def _compute(self, predictions: Sequence[str], references: Sequence[str]) -> dict[str, float]:
        metric = ter_metric(chinese=ter_chinese(references, ""))
        return {"ter": float(metric.corpus_score(list(predictions), [list(references)]).score)}


class Meteor(_OfTexts):
    """Mean METEOR, 0 to 1: ``{"meteor": x}``. Synonyms match where WordNet is installed; Chinese is matched by characters."""

    about = "METEOR of nltk with stems, and synonyms where WordNet is installed."
    source = "Banerjee and Lavie (2005). METEOR: an automatic metric for MT evaluation."

    def _compute(self, predictions: Sequence[str], references: Sequence[str]) -> dict[str, float]:
        score = MeteorScore()
        found = [score(answer, reference) for answer, reference in zip(predictions, references, strict=True)]
        return {"meteor": math.fsum(found) / len(found)}


class SemanticSimilarity(_OfTexts):
    """Mean cosine of MiniLM embeddings: ``{"semantic_similarity": x, "scored": n}``. English only.

    Pairs that the model cannot read (Chinese) are left out; NaN where none is left. An empty answer counts as 0.
    """

    about = "Cosine similarity of MiniLM sentence embeddings, English only."
    source = "Reimers and Gurevych (2019). Sentence-BERT."

    def _compute(self, predictions: Sequence[str], references: Sequence[str]) -> dict[str, float]:
        need(embedding.PACKAGE, embedding.EXTRA)
        pairs = list(zip(predictions, references, strict=True))
        empty = [pair for pair in pairs if not pair[0].strip()]
        full = [pair for pair in pairs if pair[0].strip() and all(map(embedding.readable, pair))]
        values = [0.0] * len(empty) + embedding.cosine([one for one, _ in full], [other for _, other in full])
        return {"semantic_similarity": math.fsum(values) / len(values) if values else NAN, "scored": float(len(values))}


class Perplexity(evaluate.Metric):
    """Perplexity of texts under a causal language model in a local folder: ``{"perplexity": x, "nll": y}``.

    ``perplexity``: exp(total negative log-likelihood / all tokens); ``nll``: mean over texts of nats per token.
    """

    def __init__(self, model: str, **kwargs: Any):
        self.model = str(model)
        super().__init__(**kwargs)

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="Perplexity of texts under a causal language model.",
            citation="",
            inputs_description="predictions: list of texts.",
            features=datasets.Features({"predictions": datasets.Value("string")}),
        )

    def _compute(self, predictions: Sequence[str]) -> dict[str, float]:
        found = [(-logprob, count) for logprob, count in text_logprobs(self.model, predictions) if count]
        each = [nll / count for nll, count in found]
        total, tokens = math.fsum(nll for nll, _ in found), sum(count for _, count in found)
        return {"perplexity": perplexity_of(total, tokens), "nll": math.fsum(each) / len(each) if each else NAN}
