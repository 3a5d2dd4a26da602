"""Rows that come and go get the tokens of rows on their own; each draws with its own settings."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from agentft.engine.decode import shared_keys
from agentft.engine.live import Live
from agentft.engine.sampling import Draws, Sampler, greedy

VOCABULARY = 60
_built: list = []
ROW = st.lists(st.integers(1, VOCABULARY - 1), min_size=1, max_size=12)


def llama():
    if not _built:
        from transformers import LlamaConfig, LlamaForCausalLM

        torch.manual_seed(3)
        sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
        model = LlamaForCausalLM(LlamaConfig(vocab_size=VOCABULARY, max_position_embeddings=200, **sizes)).eval()
        with torch.no_grad():  # far from ties
            for weights in model.parameters():
                weights.mul_(4 if weights.dim() > 1 else 1)
        _built.append(model)
    return _built[0]


@torch.inference_mode()
def alone(prefix, row, new, stops):
    """No cache, no batch."""
    found: list[int] = []
    while len(found) < new and not stops & set(found):
        found.append(int(llama()(torch.tensor([prefix + row + found])).logits[0, -1].argmax()))
    return found


def live(prefix, slots, stops=(), choose=greedy):
    with torch.inference_mode():
        return Live(llama(), shared_keys(llama(), prefix), stops=set(stops), pad=0, choose=choose, slots=slots)


@settings(max_examples=12, deadline=None)
@given(st.data())
def test_whenever_they_join_and_whoever_leaves(data):
    prefix = data.draw(st.lists(st.integers(1, VOCABULARY - 1), max_size=20))
    stops = set(data.draw(st.lists(st.integers(0, VOCABULARY - 1), max_size=8)))
    run, rows, limits, cancelled, over = live(prefix, data.draw(st.integers(1, 4)), stops), {}, {}, set(), {}
    with torch.inference_mode():
        for number in range(data.draw(st.integers(1, 6), "rows")):
            # Some rows are equal: they copy each other's keys.
            rows[number] = data.draw(st.sampled_from(list(rows.values()))) if rows and data.draw(st.booleans()) else data.draw(ROW)
            limits[number] = data.draw(st.integers(1, 10))
            run.add(number, rows[number], limits[number])
            for _ in range(data.draw(st.integers(0, 6), "steps")):
                over |= {one: list(run.produced[one]) for one in run.step()}
            if data.draw(st.integers(0, 4)) == 0 and number not in over:
                run.cancel(number)
                cancelled.add(number)
        while run.busy:
            over |= {one: list(run.produced[one]) for one in run.step()}
    assert over.keys() == rows.keys() - cancelled
    assert over == {number: alone(prefix, rows[number], limits[number], stops) for number in over}


def test_nothing_is_kept_of_rows_that_are_gone():
    run = live([1, 2, 3], 2)
    with torch.inference_mode():
        for number in range(50):
            run.add(number, [5 + number % 7, 6], 3)
            if number % 5 == 0:
                run.step()
                run.cancel(number)
            while run.busy:
                for one in run.step():
                    run.forget(one)
    assert not (run.rows or run.produced or run.limits or run.alive)
    assert run._cache.width < 200


def test_a_row_needs_a_token():
    with pytest.raises(ValueError, match="a row needs a token"):
        live([], 1).add(0, [], 3)


def test_each_draws_as_it_would_alone():
    logits = torch.randn(5, 30, generator=torch.Generator().manual_seed(1))
    kinds = [(0.0, 1.0), (1.0, 1.0), (0.7, 0.9), (1.4, 0.5), (1.0, 0.9)]
    draws = Draws()
    for number, (temperature, top_p) in enumerate(kinds):
        draws.add(number, torch.Generator().manual_seed(number), temperature, top_p)
    for _ in range(20):
        found = draws(logits, range(5))
        assert found[0] == logits[0].argmax()
    for number, (temperature, top_p) in list(enumerate(kinds))[1:]:
        sampler = Sampler(range(5), temperature, top_p)
        for _ in range(20):
            expected = sampler(logits[[number]], [number])
        assert int(found[number]) == int(expected[0])
