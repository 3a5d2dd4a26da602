"""ROUGE, BLEU and chrF on hand-computed values, Chinese and mixed text included."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from agentft.evaluate.overlap import BleuConfig, bleu, bleu_tokenizer, chrf, rouge, rouge_f

ZH = "您的订单已经发货，预计三天内送达。"
MIXED = "请用 iPhone 扫描 QR code，然后点击“确认”按钮完成支付。"
EN = "Your order has left our warehouse and arrives within three days."


def test_rouge_by_hand() -> None:
    # 3 of 4 answer words and 3 of 6 reference words are shared; in order: the, sat, mat (3), not on.
    found = rouge_f("the cat sat mat", "the dog sat on a mat")
    assert found["rouge1"] == pytest.approx(2 * (3 / 4) * (3 / 6) / (3 / 4 + 3 / 6))
    assert found["rougeL"] == pytest.approx(0.6)
    # 退 款 已 到 against 退 款 未 到 账: 3 of 4 and 3 of 5 characters.
    found = rouge_f("退款已到", "退款未到账")
    assert found["rouge1"] == found["rougeL"] == pytest.approx(2 * (3 / 4) * (3 / 5) / (3 / 4 + 3 / 5))
    assert rouge_f("到款退", "退款到") == pytest.approx({"rouge1": 1.0, "rougeL": 1 / 3})  # order matters for L only


@pytest.mark.parametrize(("text", "language"), [(ZH, "zh"), (MIXED, "zh"), (MIXED, "en"), (EN, "en")])
def test_identical_texts_reach_the_top(text: str, language: str, make_sample: Any, make_context: Any, no_generation: Any) -> None:
    samples = [make_sample(name, text, reference=text) for name in ("a", "b")]
    context = make_context(language)
    for metric, top in ((rouge, 1.0), (bleu, 100.0), (chrf, 100.0)):
        for score in metric(samples, no_generation, None, context):
            assert score.value == pytest.approx(top), score.name
            assert list(score.per_sample.values()) == pytest.approx([top, top])


def test_chinese_bleu_by_hand(make_sample: Any, make_context: Any, no_generation: Any) -> None:
    # Characters 一二三四五 against 一二三四六: precisions 4/5, 3/4, 2/3, 1/2, same length.
    (score,) = bleu([make_sample("a", "一二三四五", reference="一二三四六")], no_generation, None, make_context("zh"))
    assert score.value == pytest.approx(100 * (4 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** 0.25)
    (wrong,) = bleu([make_sample("a", "一二三四五", reference="一二三四六")], no_generation, BleuConfig(tokenize="13a"), make_context("zh"))
    assert wrong.value < 1  # what happens when the language is not looked at
    assert "tokenizer zh" in score.summary and "sentence BLEU" in score.summary


def test_the_tokenizer_depends_on_language_and_references_only(make_sample: Any, make_context: Any, no_generation: Any) -> None:
    assert bleu_tokenizer([EN], "en") == "13a" and bleu_tokenizer([EN, ZH], "en") == "zh" and bleu_tokenizer([EN], "zh") == "zh"
    base = bleu([make_sample("a", ZH, reference=EN)], no_generation, None, make_context())
    tuned = bleu([make_sample("a", EN, reference=EN)], no_generation, None, make_context())
    assert base[0].summary == tuned[0].summary  # an answer in Chinese does not change how it is measured


def test_corpus_value_and_sentence_values(make_sample: Any, make_context: Any, no_generation: Any) -> None:
    samples = [make_sample("a", EN, reference=EN), make_sample("b", "No idea.", reference=EN)]
    (score,) = bleu(samples, no_generation, None, make_context())
    assert score.per_sample["a"] == pytest.approx(100) and score.per_sample["b"] < 5
    assert score.value != pytest.approx(sum(score.per_sample.values()) / 2)
    assert score.ci is not None and score.ci[0] <= score.value <= score.ci[1] == pytest.approx(100)
    assert score.unit == "points"


@pytest.mark.parametrize("metric", [bleu, chrf])
def test_the_interval_of_the_corpus_figure_is_that_of_sacrebleu(
    metric: Any, make_sample: Any, make_context: Any, no_generation: Any
) -> None:
    from sacrebleu.metrics import BLEU, CHRF

    draw = random.Random(0)
    references = [" ".join(draw.choices(EN.lower().split(), k=12)) for _ in range(60)]
    answers = [" ".join(word for word in text.split() if draw.random() < 0.8) for text in references]
    samples = [make_sample(f"s{n:02}", *pair[:1], reference=pair[1]) for n, pair in enumerate(zip(answers, references, strict=True))]
    (score,) = metric(samples, no_generation, None, make_context())
    theirs = (BLEU() if metric is bleu else CHRF()).corpus_score(answers, [references], n_bootstrap=1000)
    assert score.value == pytest.approx(theirs.score) and score.ci is not None
    assert score.ci[0] < score.value < score.ci[1]
    assert (score.ci[1] - score.ci[0]) / 2 == pytest.approx(theirs._ci, rel=0.15)
    # Samples of one customer are drawn together: with few of them the figure is less certain.
    grouped = [replace(one, prompt=replace(one.prompt, group=f"g{n % 3}")) for n, one in enumerate(samples)]
    (few,) = metric(grouped, no_generation, None, make_context())
    assert few.value == score.value and few.ci != score.ci


def test_failed_empty_and_unreferenced(make_sample: Any, make_context: Any, no_generation: Any) -> None:
    samples = [
        make_sample("good", EN, reference=EN),
        make_sample("failed", finish="error", reference=EN),
        make_sample("empty", "", reference=EN),
        make_sample("free", EN),
        make_sample("blank", EN, reference=" "),
    ]
    for metric in (rouge, bleu, chrf):
        for score in metric(samples, no_generation, None, make_context()):
            assert set(score.per_sample) == {"good", "failed", "empty"}, score.name
            assert math.isnan(score.per_sample["failed"]) and score.unscored == 1
            assert score.per_sample["empty"] == 0  # an answer without words shares nothing: measured, and zero
    nothing = bleu([make_sample("failed", finish="error", reference=EN)], no_generation, None, make_context())[0]
    assert math.isnan(nothing.value) and nothing.n == 0
    assert math.isnan(chrf([], no_generation, None, make_context())[0].value)


def test_the_order_of_samples_changes_nothing(make_sample: Any, make_context: Any, no_generation: Any) -> None:
    samples = [make_sample(str(i), EN[: 10 + 7 * i], reference=EN) for i in range(6)]
    for metric in (rouge, bleu, chrf):
        forth, back = (metric(order, no_generation, None, make_context()) for order in (samples, samples[::-1]))
        assert forth == back


def test_unknown_options_are_refused() -> None:
    with pytest.raises(ValidationError, match="tokenise"):
        BleuConfig.model_validate({"tokenise": "zh"})
