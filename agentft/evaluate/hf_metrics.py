"""Our exact metrics as ``evaluate.Metric`` classes, for use outside agentft and with ``evaluate.combine``.

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

from agentft.evaluate.overlap import rouge_f
from agentft.records import Example, Message


class Rouge(evaluate.Metric):
    """ROUGE-1, -2 and -L F-measures (0 to 1) that are right for Chinese and mixed text: every CJK character is a word."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="ROUGE with a tokenizer that keeps Chinese, Japanese and Korean characters.",
            citation="Lin, C.-Y. (2004). ROUGE: A package for automatic evaluation of summaries.",
            inputs_description="predictions: list of texts; references: list of texts, one each.",
            features=datasets.Features({"predictions": datasets.Value("string"), "references": datasets.Value("string")}),
        )

    def _compute(self, predictions: Sequence[str], references: Sequence[str]) -> dict[str, float]:
        kinds = ("rouge1", "rouge2", "rougeL")
        found = [rouge_f(answer, reference, kinds) for answer, reference in zip(predictions, references, strict=True)]
        return {kind: sum(one[kind] for one in found) / len(found) for kind in kinds}


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
