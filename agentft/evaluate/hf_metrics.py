"""Our metrics as ``evaluate.Metric`` classes, for use outside agentft and with ``evaluate.combine``; none needs the hub.

The classes stand in two files by what they take, labels or texts, and are all imported from here. Each calls the function that
the evaluator of the same metric calls.

Importing this module imports ``evaluate`` (seconds), because a subclass needs its parent; nothing in agentft imports it::

    import evaluate
    from agentft.evaluate.hf_metrics import PersonaAdherence, Rouge

    both = evaluate.combine([Rouge(), PersonaAdherence(Persona.load("support.yaml"))])
    both.add_batch(predictions=["..."], references=["..."], prompts=["..."])
    both.compute()

(With ``combine``, inputs that only some metrics take go through ``add_batch``: its ``compute`` hands all of them to all metrics.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import datasets
import evaluate

from agentft.evaluate.hf_metrics_labels import F1, Accuracy, Ner, QuestionAnswering, Regression, RocAuc
from agentft.evaluate.hf_metrics_text import Bleu, Chrf, Meteor, Perplexity, Rouge, SemanticSimilarity, Ter
from agentft.records import Example, Message

__all__ = [
    "F1",
    "Accuracy",
    "Bleu",
    "Chrf",
    "Meteor",
    "Ner",
    "Perplexity",
    "PersonaAdherence",
    "QuestionAnswering",
    "Regression",
    "RocAuc",
    "Rouge",
    "SemanticSimilarity",
    "Ter",
]


class PersonaAdherence(evaluate.Metric):
    """Mean share of a persona's checklist items that answers pass, decided by the persona's rules.

    ``compute(predictions=answers, prompts=user messages)``. Facts that a rule wants from ``meta`` are not known here, so such
    items do not apply. ``persona_adherence`` is NaN when no item could be decided.
    """

    def __init__(self, persona: Any, **kwargs: Any):
        self.persona = persona
        super().__init__(**kwargs)

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="Share of a persona's checklist items passed.",
            citation="",
            inputs_description="predictions: list of answers; prompts: the user messages that they answer.",
            features=datasets.Features({"predictions": datasets.Value("string"), "prompts": datasets.Value("string")}),
        )

    def _compute(self, predictions: Sequence[str], prompts: Sequence[str]) -> Mapping[str, float]:
        shares = []
        for answer, prompt in zip(predictions, prompts, strict=True):
            verdicts = self.persona.check(answer, Example("", (Message("user", prompt),)))
            decided = [verdict.verdict == "pass" for verdict in verdicts if verdict.verdict in ("pass", "fail")]
            if decided:
                shares.append(sum(decided) / len(decided))
        return {"persona_adherence": sum(shares) / len(shares) if shares else float("nan")}
