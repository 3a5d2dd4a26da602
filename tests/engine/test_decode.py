"""Decoding with one prefix for all rows gives the tokens of rows on their own, in every architecture whose attention can be shared."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from agentft.engine.decode import decode, shared_keys, unsupported
from agentft.engine.sampling import Sampler, greedy

VOCABULARY = 60
SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "vocab_size": VOCABULARY, "max_position_embeddings": 200}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2}


def model(family: str):
    import transformers as hf

    common = SIZES | HEADS
    configs = {
        "llama": lambda: hf.LlamaConfig(**common),
        "qwen2": lambda: hf.Qwen2Config(**common),
        "qwen3": lambda: hf.Qwen3Config(**common, head_dim=8),
        "mistral": lambda: hf.MistralConfig(**common, sliding_window=None),
        "gemma": lambda: hf.GemmaConfig(**common, head_dim=16),
        "phi3": lambda: hf.Phi3Config(**common, pad_token_id=0),
        "gpt2": lambda: hf.GPT2Config(vocab_size=VOCABULARY, n_positions=200, n_embd=32, n_layer=2, n_head=4),
        "gpt_neox": lambda: hf.GPTNeoXConfig(**{k: v for k, v in common.items() if k != "num_key_value_heads"}),
        "windows": lambda: hf.MistralConfig(**common, sliding_window=8),
    }
    torch.manual_seed(3)
    built = hf.AutoModelForCausalLM.from_config(configs[family]()).eval()
    with torch.no_grad():  # far from ties
        for weights in built.parameters():
            weights.mul_(4 if weights.dim() > 1 else 1)
    return built


@torch.inference_mode()
def alone(built, prefix: list[int], row: list[int], new: int, stops: set[int]) -> list[int]:
    """No cache, no batch."""
    found: list[int] = []
    while len(found) < new and not stops & set(found):
        found.append(int(built(torch.tensor([prefix + row + found])).logits[0, -1].argmax()))
    return found


def together(built, prefix: list[int], rows: list[list[int]], new: int, stops: set[int], slots: int | None = None) -> list[list[int]]:
    with torch.inference_mode():
        return decode(built, shared_keys(built, prefix), rows, stops=stops, pad=0, new_tokens=new, choose=greedy, slots=slots)


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3", "mistral", "gemma", "phi3", "gpt2", "gpt_neox"])
@pytest.mark.parametrize("shared", [0, 1, 40])
def test_tokens_are_those_of_rows_on_their_own(family, shared):
    built = model(family)
    assert unsupported(built) == ""
    draw = torch.Generator().manual_seed(shared)
    prefix = torch.randint(1, VOCABULARY, (shared,), generator=draw).tolist()
    rows = [torch.randint(1, VOCABULARY, (n,), generator=draw).tolist() for n in (1, 9, 4, 17, 2, 2)]
    before = built.config._attn_implementation
    plain = [alone(built, prefix, row, 12, set()) for row in rows]
    stops = {plain[0][2], plain[3][5]}
    expected = [alone(built, prefix, row, 12, stops) for row in rows]
    for slots in (None, 2):
        assert together(built, prefix, rows, 12, stops, slots) == expected
    assert built.config._attn_implementation == before
    assert len({tuple(row) for row in expected}) > 2, "all rows say the same: the test shows nothing"


@settings(max_examples=25, deadline=None)
@given(st.lists(st.lists(st.integers(1, VOCABULARY - 1), min_size=1, max_size=12), min_size=1, max_size=7), st.integers(0, 20), st.data())
def test_any_rows_any_prefix_any_stops(rows, shared, data):
    built = _llama()
    prefix = data.draw(st.lists(st.integers(1, VOCABULARY - 1), min_size=shared, max_size=shared))
    stops = set(data.draw(st.lists(st.integers(0, VOCABULARY - 1), max_size=20)))
    rows = [row for row in rows for _ in range(data.draw(st.integers(1, 3), "candidates"))]
    new, slots = data.draw(st.integers(1, 12)), data.draw(st.integers(1, len(rows)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("agentft.engine.decode.SLACK", data.draw(st.integers(1, 6), "slack"))
        found = together(built, prefix, rows, new, stops, slots)
    assert found == [alone(built, prefix, row, new, stops) for row in rows]


_built: list = []


def _llama():
    if not _built:
        _built.append(model("llama"))
    return _built[0]


def test_a_prefill_in_turns_gives_the_same(monkeypatch):
    from agentft.engine import decode as module

    rows = [[5, 6, 7], [8], [9, 10], [11, 12, 13, 14], [3]]
    whole = together(_llama(), [1, 2, 3], rows, 6, set())
    monkeypatch.setattr(module, "PREFILL_TOKENS", 8)
    assert together(_llama(), [1, 2, 3], rows, 6, set()) == whole


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("steps", [1, 5])
def test_the_two_parts_are_one_softmax(steps, dtype, monkeypatch):
    """Against torch's attention over prefix and own tokens in one row; with the kernel of torch and without."""
    from agentft.engine import shared_attention as module

    draw = torch.Generator().manual_seed(0)

    def random(*shape):
        return torch.randn(*shape, generator=draw).to(dtype)

    query, key, value = random(4, 6, steps, 8), random(4, 2, 9, 8), random(4, 2, 9, 8)
    prefix = [(random(1, 2, 30, 8), random(1, 2, 30, 8))]
    seen = torch.rand(4, 1, steps, 9, generator=draw) > 0.4
    seen[..., -1] = True
    keys, values = (torch.cat((shared.expand(4, -1, -1, -1), own), 2) for shared, own in zip(prefix[0], (key, value), strict=True))
    whole = torch.cat((torch.ones(4, 1, steps, 30, dtype=torch.bool), seen), 3)
    expected = torch.nn.functional.scaled_dot_product_attention(query, keys, values, whole, enable_gqa=True).transpose(1, 2)
    token = module._shared.set(prefix)
    try:
        layer = type("Layer", (), {"layer_idx": 0})
        mask = torch.zeros(seen.shape).masked_fill(~seen, module.HIDDEN)
        tolerance = {"rtol": 0.03, "atol": 0.03} if dtype == torch.bfloat16 else {"rtol": 1e-5, "atol": 1e-5}
        torch.testing.assert_close(module.attend(layer, query, key, value, mask)[0], expected, **tolerance)
        monkeypatch.delattr(torch.ops.aten, "_scaled_dot_product_flash_attention_for_cpu", raising=False)
        torch.testing.assert_close(module.attend(layer, query, key, value, mask)[0], expected, **tolerance)
    finally:
        module._shared.reset(token)


def test_windows_are_left_to_the_library():
    assert "window" in unsupported(model("windows"))


@pytest.mark.parametrize("top_p", [1.0, 0.9, 0.3])
@pytest.mark.parametrize("tries", [32, 0])
def test_draws_follow_the_nucleus(top_p, tries, monkeypatch):
    """Against the definition: sort, cut, renormalise. Half of the cases are drawn through the sorted way out."""
    from agentft.engine import sampling as module

    monkeypatch.setattr(module, "TRIES", tries)
    logits = torch.tensor([2.0, 1.0, 0.0, -1.0, 1.5])
    probs = (logits / 0.8).softmax(-1)
    ordered, order = probs.sort(descending=True)
    kept = ordered * (ordered.cumsum(-1) - ordered < top_p)
    expected = torch.zeros(5).scatter(0, order, kept / kept.sum())
    rows = 4000
    drawn = Sampler(range(rows), 0.8, top_p)(logits.expand(rows, 5), range(rows))
    found = torch.bincount(drawn, minlength=5) / rows
    assert (found[expected == 0] == 0).all()
    assert torch.allclose(found, expected, atol=4 * 0.5 / rows**0.5)


def test_a_row_draws_the_same_in_any_company():
    logits = torch.randn(6, 30, generator=torch.Generator().manual_seed(0))
    whole = Sampler(range(6), 1.0, 0.9)(logits, range(6))
    few = Sampler(range(6), 1.0, 0.9)(logits[[4, 1]], [4, 1])
    assert few.tolist() == whole[[4, 1]].tolist()
