"""A batch as a tree gives what separate rows give: losses, gradients, scores; for every kind of attention that it says it knows."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentft.engine.models import load_model
from agentft.engine.reward import last_scores
from agentft.engine.score import pad, token_losses
from agentft.engine.tree import WORTH, grow, why_not

SIZES = {
    "vocab_size": 120,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "pad_token_id": 2,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "initializer_range": 0.2,
}
MIXED = {"sliding_window": 24, "layer_types": ["sliding_attention", "full_attention", "sliding_attention"], "head_dim": 16}
FAMILIES = {
    "Llama": {},
    "Qwen2": {},
    "Qwen2 with a window": {"use_sliding_window": True, "sliding_window": 20, "max_window_layers": 1},
    "Qwen3": {"head_dim": 16},
    "Mistral": {"sliding_window": 24},
    "Gemma3": MIXED,
    "Phi3": {"sliding_window": 24},
    "Mixtral": {"num_local_experts": 4, "sliding_window": None},
    "GPT2": {},
}


def make(name, seed=0, **changes):
    import torch
    import transformers

    torch.manual_seed(seed)
    kind = name.split()[0]
    if kind == "GPT2":
        sizes = {"vocab_size": 120, "n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 256, "initializer_range": 0.2}
        none = {"resid_pdrop": 0.0, "attn_pdrop": 0.0, "embd_pdrop": 0.0, "bos_token_id": 1, "eos_token_id": 2}
        return transformers.GPT2LMHeadModel(transformers.GPT2Config(**(sizes | none | changes)))
    config = {"Gemma3": "Gemma3TextConfig"}.get(kind, f"{kind}Config")
    return getattr(transformers, f"{kind}ForCausalLM")(getattr(transformers, config)(**(SIZES | FAMILIES[name] | changes)))


def talks(seed=1):
    """Rows of an agent: persona, three prompts with three answers each; one without an answer, one twice, one of somebody else. Several
    parts of each are labelled, what is shared and the token after it among them."""
    draw = random.Random(seed)

    def some(count):
        return [draw.randrange(3, 110) for _ in range(count)]

    persona = some(40)
    prompts = [persona + some(count) for count in (17, 23, 9)]
    rows = [prompt + some(draw.randrange(5, 30)) for prompt in prompts for _ in range(3)]
    rows += [prompts[0], rows[1], some(30)]
    labels = [[-100 if place % 7 < 3 else token for place, token in enumerate(row)] for row in rows]
    return rows, labels


def tensors(rows, labels=None):
    made = (pad(rows, 2), pad([[1] * len(row) for row in rows], 0))
    return made if labels is None else (*made, pad(labels, -100))


def gradients(model):
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def both(model, rows, labels, **options):
    """(losses, gradients) with ordinary rows and as a tree."""
    found = []
    for share in (False, True):
        model.zero_grad()
        losses, owner = token_losses(model, *tensors(rows, labels), share_prefix=share, **options)
        losses.mean().backward()
        found.append((losses.detach(), gradients(model), owner.tolist()))
    return found


def assert_equal(plain, tree):
    import torch

    assert plain[2] == tree[2]
    assert torch.allclose(plain[0], tree[0], rtol=1e-5, atol=1e-5)
    assert plain[1].keys() == tree[1].keys()
    for name, gradient in plain[1].items():
        scale = float(gradient.norm())
        assert float((gradient - tree[1][name]).norm()) <= 1e-5 * scale + 1e-7, name


def lengths_seen(model):
    """Shapes (B, T) that the first layer sees, noted while the model runs."""
    seen = []
    layers = model.transformer.h if hasattr(model, "transformer") else model.model.layers
    layers[0].register_forward_pre_hook(lambda _, args, kwargs: seen.append(tuple(args[0].shape[:2])), with_kwargs=True)
    return seen


@pytest.mark.parametrize("family", FAMILIES)
def test_losses_and_gradients_equal_those_of_separate_rows(family):
    model = make(family).train()
    rows, labels = talks()
    seen = lengths_seen(model)
    plain, tree = both(model, rows, labels)
    assert_equal(plain, tree)
    # Otherwise the same thing would have been compared with itself.
    assert seen == [(12, 86), (1, len(grow(rows)))]
    assert why_not(model) == ""


@pytest.mark.parametrize("family", ["Llama", "Gemma3", "GPT2"])
def test_lora_gets_the_gradients_of_separate_rows(family):
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(make(family), LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False)).train()
    rows, labels = talks()
    plain, tree = both(model, rows, labels)
    assert plain[1]
    assert all("lora_" in name for name in plain[1])
    assert_equal(plain, tree)


def test_gradient_checkpointing_runs_the_tree_again():
    import torch

    model = make("Gemma3").train()
    rows, labels = talks()
    plain, _ = both(model, rows, labels)
    model.gradient_checkpointing_enable({"use_reentrant": False})
    calls = []
    model.model.layers[0].self_attn.register_forward_pre_hook(lambda *_: calls.append(model.config._attn_implementation))
    again, tree = both(model, rows, labels)
    assert_equal(plain, tree)
    assert_equal(plain, again)
    assert calls == ["sdpa"] * 2 + ["agentft_tree"] * 2  # forward, and again in the backward pass
    with torch.no_grad():
        token_losses(model, *tensors(rows[:1], labels[:1]))
    assert calls[-1] == "sdpa"


def test_smoothed_losses_are_equal():
    assert_equal(*both(make("Llama").train(), *talks(), smoothing=0.2))


def test_micro_batches_add_up_to_the_batch():
    """4 x 3 rows, each a tree of its own, give the gradient of 1 x 12."""
    import torch

    model = make("Llama").train()
    rows, labels = talks()
    whole = both(model, rows, labels)[1]
    model.zero_grad()
    for start in range(0, 12, 3):
        losses, _ = token_losses(model, *tensors(rows[start : start + 3], labels[start : start + 3]))
        (losses.sum() / len(whole[0])).backward()
    for name, gradient in gradients(model).items():
        assert torch.allclose(gradient, whole[1][name], rtol=1e-4, atol=1e-6), name


def test_half_precision_is_as_close_as_half_precision_allows():
    import torch

    model = make("Llama").train()
    rows, labels = talks()
    exact = both(model, rows, labels)[0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        plain, tree = both(model, rows, labels)
    errors = [float((losses - exact[0]).abs().mean()) for losses, _, _ in (plain, tree)]
    assert errors[1] <= 1.5 * errors[0]


@pytest.mark.parametrize("share", [True, False])
def test_reward_of_a_row_is_read_at_its_last_token(share):
    """Against each row alone, and with the gradient."""
    import torch
    import transformers

    torch.manual_seed(0)
    model = transformers.LlamaForSequenceClassification(transformers.LlamaConfig(**SIZES, num_labels=1)).train()
    rows, _ = talks()
    seen = lengths_seen(model)
    found = last_scores(model, *tensors(rows), share_prefix=share)
    assert seen == [(1, len(grow(rows)))] if share else [(12, 86)]
    found.sum().backward()
    got = gradients(model)
    model.zero_grad()
    alone = torch.cat([last_scores(model, *tensors([row])) for row in rows])
    alone.sum().backward()
    assert torch.allclose(found, alone, rtol=1e-5, atol=1e-5)
    for name, gradient in gradients(model).items():
        assert float((gradient - got[name]).norm()) <= 1e-4 * float(gradient.norm()) + 1e-6, name


branches = st.lists(st.lists(st.integers(3, 5), min_size=0, max_size=5), min_size=1, max_size=7)


@given(st.integers(0, 30), branches)
def test_every_row_is_found_again_in_the_tree(length, ends):
    """Each row's tokens stand in its order at the positions it gave them, and it sees itself and nothing else."""
    rows = [[7] * length + end or [1] for end in ends]
    tree = grow(rows)
    seen = tree.seen()
    for row, place in zip(rows, tree.places, strict=True):
        assert tree.input_ids[place].tolist() == row
        assert tree.positions[place].tolist() == list(range(len(row)))
        for depth, index in enumerate(place.tolist()):
            assert seen[index].nonzero()[:, 0].tolist() == sorted(place[: depth + 1].tolist())
    assert len(tree) <= sum(map(len, rows))
    covered = [index for segment in tree.segments for index in range(segment.start, segment.stop)]
    assert sorted(covered) == list(range(len(tree)))


def test_what_is_not_worth_it_is_not_shared():
    short = [[5] * (WORTH - 1) + [6], [5] * (WORTH - 1) + [7]]
    assert len(grow(short)) == 2 * WORTH
    assert len(grow([*short, [5] * (WORTH - 1) + [8]])) == WORTH - 1 + 3


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.lists(st.integers(3, 6), min_size=1, max_size=12), min_size=1, max_size=6),
    st.integers(0, 60),
    st.sampled_from(["Llama", "Gemma3"]),
)
def test_any_batch_scores_the_same(ends, prefix, family):
    import torch

    if family not in _kept:
        _kept[family] = make(family).eval()
    rows = [[9] * prefix + end for end in ends]
    labels = [[-100] * min(prefix, 3) + row[min(prefix, 3) :] for row in rows]
    with torch.inference_mode():
        plain, _ = token_losses(_kept[family], *tensors(rows, labels), share_prefix=False)
        tree, _ = token_losses(_kept[family], *tensors(rows, labels))
    assert torch.allclose(plain, tree, rtol=1e-5, atol=2e-5)


_kept: dict = {}


@pytest.mark.parametrize("family", ["Llama", "Gemma3"])
def test_flex_attention_computes_the_same_rule(family):
    """On a GPU the rule of the tree is a block mask; here uncompiled, and without a gradient, which torch has not on CPUs."""
    import torch

    from agentft.engine import tree_attention

    rows, _ = talks()
    tree = grow(rows)
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(1, heads, len(tree), 16, generator=generator) for heads in (4, 2, 2))
    for window in (None, 24):
        flex = tree_attention._flex(query, key, value, tree, 0.25, window).transpose(1, 2)
        pieces = tree_attention._function().apply(query, key, value, tree, 0.25, window)
        scores = (query @ key.repeat_interleave(2, 1).transpose(2, 3) * 0.25).masked_fill(~tree.seen(window), float("-inf"))
        dense = (scores.softmax(-1) @ value.repeat_interleave(2, 1)).transpose(1, 2)
        assert torch.allclose(flex, dense, atol=1e-5)
        assert torch.allclose(pieces, dense, atol=1e-5)


def test_without_torchs_fused_kernel_it_is_the_same(monkeypatch):
    from agentft.engine import tree_attention

    model = make("Llama").train()
    fused = both(model, *talks())[1]
    monkeypatch.setattr(tree_attention, "_fused", lambda *_: False)
    assert_equal(fused, both(model, *talks())[1])


@pytest.mark.parametrize(
    ("family", "changes", "reason"),
    [
        ("Llama", {"attention_dropout": 0.1}, "attention dropout"),
        ("GPT2", {"resid_pdrop": 0.1}, "dropout"),
        ("Mixtral", {"output_router_logits": True}, "router"),
        ("Llama", {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}}, "length of the row"),
    ],
)
def test_where_it_is_not_exact_rows_stay_rows(family, changes, reason):
    model = make(family, **changes).train()
    assert reason in why_not(model)
    seen = lengths_seen(model)
    token_losses(model, *tensors(*talks()))
    assert seen == [(12, 86)]


def test_recurrent_layers_are_refused():
    import transformers

    model = transformers.MambaForCausalLM(transformers.MambaConfig(vocab_size=120, hidden_size=32, num_hidden_layers=2, state_size=8))
    assert why_not(model)


def test_an_attention_that_is_found_unknown_on_the_way_falls_back():
    """Gemma 2 caps its scores: only its attention says so."""
    import torch
    import transformers

    torch.manual_seed(0)
    model = transformers.Gemma2ForCausalLM(transformers.Gemma2Config(**SIZES, head_dim=16, sliding_window=24)).eval()
    plain, tree = both(model, *talks())
    assert_equal(plain, tree)
    assert "Gemma2Attention" in why_not(model)
    assert model.config._attn_implementation != "agentft_tree"


def test_logits_are_computed_once_where_a_label_is():
    model = make("Llama")
    rows, labels = talks()
    seen = []
    model.lm_head.register_forward_hook(lambda _, args, out: seen.append(tuple(out.shape[:2])))
    losses, _ = token_losses(model, *tensors(rows, labels))
    ((one, count),) = seen
    assert one == 1
    assert count < len(losses)


def test_rows_without_a_label_give_a_gradient_of_zero(tiny_ref, cpu):
    model = load_model(tiny_ref, cpu, trainable=True)
    rows, _ = talks()
    losses, owner = token_losses(model, *tensors(rows, [[-100] * len(row) for row in rows]))
    losses.sum().backward()
    assert len(losses) == len(owner) == 0
    assert all(not gradient.any() for gradient in gradients(model).values())


@pytest.mark.parametrize("kind", ["persona", "pairs", "nothing shared", "one long one"])
def test_gradients_in_half_precision_are_as_exact_as_their_inputs(kind, monkeypatch):
    """Queries and keys come in bf16; against the gradient that float32 gives for the same ones."""
    import torch

    from agentft.engine import tree_attention, tree_half

    draw = random.Random(0)

    def some(count):
        return [draw.randrange(9999) for _ in range(count)]

    persona = some(100)
    questions = [persona + some(30) for _ in range(4)]
    rows = {
        "persona": [persona + some(draw.randrange(40, 60)) for _ in range(8)],
        "pairs": [question + some(draw.randrange(40, 60)) for question in questions for _ in range(2)],
        "nothing shared": [some(draw.randrange(40, 60)) for _ in range(6)],
        "one long one": [persona + some(length) for length in (200, 9, 12, 8)],  # leaves that differ too much to run together
    }[kind]
    tree = grow(rows)
    generator = torch.Generator().manual_seed(0)
    inputs = [torch.randn(1, heads, len(tree), 32, generator=generator).mul(2).bfloat16() for heads in (6, 2, 2)]
    grad = torch.randn(1, len(tree), 6, 32, generator=generator).bfloat16()

    def gradients_of(parts):
        own = [part.clone().requires_grad_() for part in parts]
        tree_attention._function().apply(*own, tree, 32**-0.5, None).backward(grad.to(own[0].dtype))
        return [part.grad.float() for part in own]

    exact = gradients_of([part.float() for part in inputs])
    errors = {}
    for hardware in (False, True):
        monkeypatch.setattr(tree_half, "_hardware", lambda hardware=hardware: hardware)
        found = gradients_of(inputs)
        errors[hardware] = [float((one - other).norm() / other.norm()) for one, other in zip(found, exact, strict=True)]
    assert max(errors[False]) < 0.005  # what rounding the result to bf16 costs
    assert max(errors[True]) < 0.01
    assert errors[True] != errors[False], "the products in bf16 have run"
