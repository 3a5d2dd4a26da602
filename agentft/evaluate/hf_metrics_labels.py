"""Classes of ``evaluate.Metric`` for classes, numbers, tags and spans.

Import them from :mod:`agentft.evaluate.hf_metrics`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import datasets
import evaluate
import numpy as np

from agentft.errors import DataError
from agentft.evaluate.auc import area
from agentft.evaluate.classification import f1_parts, f1_values
from agentft.evaluate.entities import entities, entity_parts, entity_values
from agentft.evaluate.question_answering import answer_f1, exact_match
from agentft.evaluate.regression import regression_values

_TEXT = datasets.Value("string")


class _OfLabels(evaluate.Metric):
    about = ""
    takes: dict[str, Any] = {"predictions": _TEXT, "references": _TEXT}  # noqa: RUF012

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=self.about, citation="", inputs_description=self.__doc__ or "", features=datasets.Features(self.takes)
        )


class Accuracy(_OfLabels):
    """Share of predictions equal to their reference: ``{"accuracy": x}``. ``predictions`` and ``references`` are classes (text)."""

    about = "Share of right classes."

    def _compute(self, predictions: Sequence[str], references: Sequence[str]) -> dict[str, float]:
        return {"accuracy": sum(a == b for a, b in zip(predictions, references, strict=True)) / len(references)}


class F1(_OfLabels):
    """``{"f1_macro": x, "f1_micro": y}`` of classes (text); the macro mean is over the classes among the references."""

    about = "F1 of classes, macro and micro."

    def _compute(self, predictions: Sequence[str], references: Sequence[str]) -> dict[str, float]:
        true, guessed = ([frozenset([one]) for one in labels] for labels in (references, predictions))
        parts = f1_parts(true, guessed, sorted(set(references)))
        macro, micro = f1_values(parts.sum(axis=0, keepdims=True))[0, :2]
        return {"f1_macro": float(macro), "f1_micro": float(micro)}


class RocAuc(_OfLabels):
    """``{"roc_auc": x, "average_precision": y}``: each class against the rest, mean over the classes that occur.

    ``RocAuc(labels)``: the classes, in the order of the probabilities in ``prediction_scores``; ``references`` are classes.
    """

    about = "Area under the ROC and precision-recall curves, each class against the rest."
    takes = {"prediction_scores": datasets.Sequence(datasets.Value("float64")), "references": _TEXT}  # noqa: RUF012

    def __init__(self, labels: Sequence[str], **kwargs: Any):
        self.labels = list(labels)
        super().__init__(**kwargs)

    def _compute(self, prediction_scores: Sequence[Sequence[float]], references: Sequence[str]) -> dict[str, float]:
        if unknown := sorted(set(references) - set(self.labels)):
            raise DataError(f"'{unknown[0]}' is among the references and not among the labels")
        truth = np.array([[name == one for name in self.labels] for one in references])
        (roc, pr), _ = area(np.asarray(prediction_scores, dtype=np.float64), truth)
        return {"roc_auc": roc, "average_precision": pr}


class Regression(_OfLabels):
    """``{"rmse", "mae", "pearson", "spearman"}`` of numbers; a correlation is NaN where one of the two series does not vary."""

    about = "Errors and correlations of predicted numbers."
    takes = {"predictions": datasets.Value("float64"), "references": datasets.Value("float64")}  # noqa: RUF012

    def _compute(self, predictions: Sequence[float], references: Sequence[float]) -> dict[str, float]:
        return regression_values(np.asarray(references, dtype=np.float64), np.asarray(predictions, dtype=np.float64))


class Ner(_OfLabels):
    """``{"ner_f1", "ner_precision", "ner_recall"}``: entities exact in type and borders (strict, IOB2); lists of tags."""

    about = "Strict F1 of entities."
    takes = {"predictions": datasets.Sequence(_TEXT), "references": datasets.Sequence(_TEXT)}  # noqa: RUF012

    def _compute(self, predictions: Sequence[Sequence[str]], references: Sequence[Sequence[str]]) -> dict[str, float]:
        pairs = list(zip(references, predictions, strict=True))
        for index, (true, guessed) in enumerate(pairs):
            if len(true) != len(guessed):
                raise DataError(f"row {index}: {len(guessed)} predicted tags for {len(true)} tokens")
        true_found, found = ([entities(tags, str(index)) for index, tags in enumerate(side)] for side in (references, predictions))
        f1, precision, recall = entity_values(entity_parts(true_found, found, []).sum(axis=0, keepdims=True))[0]
        return {"ner_f1": float(f1), "ner_precision": float(precision), "ner_recall": float(recall)}


class QuestionAnswering(_OfLabels):
    """``{"exact_match": x, "answer_f1": y}``, 0 to 1. ``references``: lists of right answers, empty where there is none."""

    about = "Exact match and F1 of answers as in SQuAD, right for Chinese."
    takes = {"predictions": _TEXT, "references": datasets.Sequence(_TEXT)}  # noqa: RUF012

    def _compute(self, predictions: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
        pairs = list(zip(predictions, references, strict=True))
        measures = {"exact_match": exact_match, "answer_f1": answer_f1}
        return {name: sum(measure(*pair) for pair in pairs) / len(pairs) for name, measure in measures.items()}
