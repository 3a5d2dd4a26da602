"""Perplexity of raw texts: against transformers' own loss, right for Chinese, NaN and counted where there is none."""

from __future__ import annotations

import math

import pytest

from agentft.contracts import EvalContext
from agentft.engine.texts import TextModel
from agentft.errors import DataError
from agentft.evaluate.texts import masked_perplexity, text_perplexity
from agentft.labelled import Labelled

TEXTS = [Labelled("en", {"text": "the card is late"}), Labelled("zh", {"text": "退款多久到账"}), Labelled("long", {"text": "abc " * 300})]


def context(**given) -> EvalContext:
    return EvalContext(None, "en", 1, **given)  # type: ignore[arg-type]


def test_logprobs_are_those_of_transformers(tiny_ref, cpu):
    import torch

    model = TextModel.load(tiny_ref, None, cpu)
    found = model.logprobs(TEXTS)
    for text, (logprob, count) in zip(TEXTS[:2], found, strict=False):
        ids = [model.tokenizer.eos_token_id, *model.tokenizer(text.inputs["text"])["input_ids"]]
        loss = model.model(input_ids=torch.tensor([ids]), labels=torch.tensor([ids])).loss.item()
        assert count == len(ids) - 1 and abs(-logprob / count - loss) < 1e-4
    assert found[2][1] == 1200, "a text longer than the context: every token once"
    assert model.logprobs([TEXTS[1]])[0][0] == pytest.approx(found[1][0], abs=1e-3), "whatever it is batched with"


def test_bits_per_byte_do_not_depend_on_the_number_of_tokens():
    def scores(tokens: int):
        ctx = context(texts=TEXTS[:2], text_logprobs=lambda texts: [(-8 * math.log(2), tokens)] * len(texts))
        return {score.name: score for score in text_perplexity([], None, None, ctx)}  # type: ignore[arg-type]

    few, many = scores(4), scores(8)
    assert few["text-perplexity"].value == pytest.approx(4.0) and many["text-perplexity"].value == pytest.approx(2.0)
    bits = few["bits-per-byte"]
    assert bits.per_sample == many["bits-per-byte"].per_sample == {"en": 8 / 16, "zh": 8 / 18}, "3 bytes a character"
    assert bits.value == pytest.approx((8 / 16 + 8 / 18) / 2) and f"{16 / 34:.4f}" in bits.summary and bits.direction == "lower"


def test_what_cannot_be_scored_is_nan_and_counted():
    ctx = context(texts=TEXTS, text_logprobs=lambda texts: [(-math.inf, 3), (-3.0, 3), (0.0, 0)])
    whole, of_tokens, bits = text_perplexity([], None, None, ctx)  # type: ignore[arg-type]
    assert whole.value == pytest.approx(math.e) and whole.n == 1 and of_tokens.unscored == bits.unscored == 1
    assert set(of_tokens.per_sample) == {"en", "zh"} and "1 texts without" in whole.summary
    empty = text_perplexity([], None, None, context(text_logprobs=lambda texts: []))  # type: ignore[arg-type]
    assert all(math.isnan(score.value) and score.n == 0 for score in empty)


def test_a_model_of_another_kind_and_ids_twice_are_refused():
    with pytest.raises(DataError, match="use masked-perplexity"):
        text_perplexity([], None, None, context())  # type: ignore[arg-type]
    with pytest.raises(DataError, match="use text-perplexity"):
        masked_perplexity([], None, None, context())  # type: ignore[arg-type]
    twice = context(texts=[TEXTS[0], TEXTS[0]], masked_logprobs=lambda texts: [(-1.0, 1)] * 2)
    with pytest.raises(DataError, match="same id"):
        masked_perplexity([], None, None, twice)  # type: ignore[arg-type]


def test_real_texts(shared_data, tiny_ref, cpu):
    import csv

    with (shared_data / "banking77" / "test.csv").open(encoding="utf-8", newline="") as stream:
        texts = [Labelled(str(n), {"text": row["text"]}) for n, row in zip(range(40), csv.DictReader(stream), strict=False)]
    model = TextModel.load(tiny_ref, None, cpu)
    whole, of_tokens, bits = text_perplexity([], None, None, context(texts=texts, text_logprobs=model.logprobs))  # type: ignore[arg-type]
    assert whole.n == of_tokens.n == bits.n == 40
    # Bytes are tokens here, so that bits per byte are bits per token.
    assert bits.value == pytest.approx(of_tokens.value / math.log(2))
