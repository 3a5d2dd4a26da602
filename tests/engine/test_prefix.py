"""What all prompts begin with, and which models may share it in generation (the tokens are compared in test_generate.py)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentft.engine.models import load_model
from agentft.engine.prefix import WORTH_SHARING, common_prefix, why_not

tails = st.lists(st.lists(st.integers(0, 3), min_size=0, max_size=6), min_size=2, max_size=5)


@given(st.integers(0, 60), tails)
def test_common_prefix_is_the_longest_one_that_leaves_a_token(length, ends):
    rows = [[7] * length + end for end in ends]
    rows = [row or [1] for row in rows]
    found = common_prefix(rows)
    longest = next((i for i in range(min(map(len, rows))) if len({row[i] for row in rows}) > 1), min(map(len, rows)))
    longest = min(longest, min(map(len, rows)) - 1)
    assert found == (longest if longest >= WORTH_SHARING else 0)


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
