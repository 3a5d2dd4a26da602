"""The shared prefix gives what separate rows give: losses, gradients, tokens."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentft.engine.models import load_model
from agentft.engine.prefix import WORTH_SHARING, common_prefix, why_not
from agentft.engine.score import pad, token_losses


def batch(rows, labels):
    return pad(rows, 2), pad([[1] * len(row) for row in rows], 0), pad(labels, -100)


def make(lengths, prefix=40, supervised=4, seed=0):
    import random

    draw = random.Random(seed)
    shared = [draw.randrange(3, 250) for _ in range(prefix)]
    rows = [shared + [draw.randrange(3, 250) for _ in range(n)] for n in lengths]
    return rows, [[-100] * (len(row) - supervised) + row[-supervised:] for row in rows]


tails = st.lists(st.lists(st.integers(0, 3), min_size=0, max_size=6), min_size=2, max_size=5)


@given(st.integers(0, 60), tails)
def test_common_prefix_is_the_longest_one_that_leaves_a_token(length, ends):
    rows = [[7] * length + end for end in ends]
    rows = [row or [1] for row in rows]
    found = common_prefix(rows)
    longest = next((i for i in range(min(map(len, rows))) if len({row[i] for row in rows}) > 1), min(map(len, rows)))
    longest = min(longest, min(map(len, rows)) - 1)
    assert found == (longest if longest >= WORTH_SHARING else 0)


@given(st.integers(33, 60), st.integers(0, 70))
def test_first_token_after_the_prefix_is_never_supervised(prefix, first):
    rows, labels = make([5, 9], prefix)
    labels = [[-100 if i < first else token for i, token in enumerate(row)] for row in rows]
    shared = common_prefix(rows, labels)
    assert all(label[shared] == -100 or not shared for label in labels)


def gradients(model):
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("lengths", [(6, 6), (5, 17, 9, 30)])
def test_losses_and_gradients_equal_those_of_separate_rows(tiny_ref, cpu, lengths):
    import torch

    model = load_model(tiny_ref, cpu, trainable=True).train()
    rows, labels = make(lengths)
    alone, grads = [], {}
    for row, label in zip(rows, labels, strict=True):  # the plainest way: one row at a time, the model's own loss
        losses = model(input_ids=pad([row], 2), labels=pad([label], -100)).loss * 4
        alone.append(float(losses.detach()))
        losses.backward()
    grads, _ = gradients(model), model.zero_grad()
    for share in (False, True):
        losses, owner = token_losses(model, *batch(rows, labels), share_prefix=share)
        assert owner.tolist() == [i for i in range(len(rows)) for _ in range(4)]
        sums = torch.zeros(len(rows)).index_add(0, owner, losses.detach())
        assert torch.allclose(sums, torch.tensor(alone), rtol=1e-5)
        losses.sum().backward()
        for name, gradient in gradients(model).items():
            assert torch.allclose(gradient, grads[name], rtol=1e-4, atol=1e-5), (share, name)
        model.zero_grad()


def test_prefix_is_computed_once(tiny_ref, cpu):
    """Otherwise the equality above would compare the same thing with itself."""
    model = load_model(tiny_ref, cpu)
    rows, labels = make([6, 8, 10])
    seen = []
    handle = model.model.layers[0].register_forward_pre_hook(
        lambda _, args, kwargs: seen.append(tuple(args[0].shape[:2])), with_kwargs=True
    )
    token_losses(model, *batch(rows, labels), share_prefix=True)
    token_losses(model, *batch(rows, labels), share_prefix=False)
    handle.remove()
    assert seen == [(1, 40), (3, 10), (3, 50)]


def test_logits_are_computed_only_where_a_label_is(tiny_ref, cpu):
    model = load_model(tiny_ref, cpu)
    rows, labels = make([6, 8], supervised=3)
    seen = []
    handle = model.lm_head.register_forward_hook(lambda _, args, out: seen.append(tuple(out.shape[:2])))
    token_losses(model, *batch(rows, labels), share_prefix=False)
    handle.remove()
    assert seen == [(1, 6)]


def test_rows_without_a_label_give_a_gradient_of_zero(tiny_ref, cpu):
    model = load_model(tiny_ref, cpu, trainable=True)
    rows, _ = make([6, 8])
    losses, owner = token_losses(model, *batch(rows, [[-100] * len(row) for row in rows]))
    losses.sum().backward()
    assert len(losses) == len(owner) == 0
    assert all(not gradient.any() for gradient in gradients(model).values())


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"sliding_window": 16, "layer_types": ["sliding_attention", "full_attention"]}, "sliding_attention"),
        ({"attention_dropout": 0.1}, "dropout"),
        ({"num_experts": 4}, "experts"),
        ({"is_encoder_decoder": True}, "cache"),
        ({"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}}, "length"),
    ],
)
def test_models_that_are_not_proven_see_whole_rows(changes, reason):
    class Fake:
        training = True

        class config:
            @staticmethod
            def get_text_config():
                return type("Config", (), changes)

    assert reason in why_not(Fake)


def test_plain_causal_model_is_shared(tiny_ref, cpu):
    assert why_not(load_model(tiny_ref, cpu)) == ""


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(1, 25), min_size=1, max_size=5), st.integers(30, 60), st.integers(1, 6), st.integers(0, 99))
def test_any_batch_scores_the_same_with_and_without_sharing(tiny_ref, cpu, lengths, prefix, supervised, seed):
    import torch

    rows, labels = make(lengths, prefix, supervised, seed)
    if "model" not in _kept:
        _kept["model"] = load_model(tiny_ref, cpu)
    with torch.inference_mode():
        plain, _ = token_losses(_kept["model"], *batch(rows, labels), share_prefix=False)
        shared, _ = token_losses(_kept["model"], *batch(rows, labels), share_prefix=True)
    assert torch.allclose(plain, shared, rtol=1e-5, atol=1e-5)


_kept: dict = {}
