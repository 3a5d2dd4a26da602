"""Memory by arithmetic against real models: what can be counted is counted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from agentft.cli.main import cli
from agentft.engine.capacity import SHAPES, Load, Shape, hours, need, shape_of, smallest


def test_parameters_are_those_of_the_models(tiny_ref):
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM

    for changes in ({}, {"tie_word_embeddings": True, "num_hidden_layers": 3}):
        config = LlamaConfig(**(json.loads((Path(tiny_ref.path) / "config.json").read_text("utf-8")) | changes))
        with torch.device("meta"):
            model = LlamaForCausalLM(config)
        shape = shape_of(config.to_dict())
        assert shape.parameters == sum(p.numel() for p in model.parameters())
        adapted = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear"))
        assert shape.adapter(4) == sum(p.numel() for p in adapted.parameters() if p.requires_grad)


def test_states_are_as_large_as_counted(tiny_ref):
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_ref.path)
    optimiser = torch.optim.AdamW(model.parameters())
    model(input_ids=torch.tensor([[3, 4]]), labels=torch.tensor([[3, 4]])).loss.backward()
    optimiser.step()
    one = need(shape_of(model.config.to_dict()), "full")
    assert one.weights == sum(p.numel() * p.element_size() for p in model.parameters())
    assert one.gradients == sum(p.grad.numel() * p.grad.element_size() for p in model.parameters())
    averages = [v for state in optimiser.state.values() for key, v in state.items() if key != "step"]
    assert one.optimiser == sum(v.numel() * v.element_size() for v in averages)


def test_well_known_sizes():
    # As the model cards give them: Llama 2 7B has 6.74 billion parameters, Llama 3 has 8.03 and 70.55.
    assert [round(SHAPES[name].parameters / 1e9, 2) for name in ("7b", "8b", "70b")] == [6.74, 8.03, 70.55]
    # 16 bytes for each parameter in full, arXiv 1910.02054: here 4 + 4 + 8.
    full = need(SHAPES["7b"], "full")
    assert full.weights + full.gradients + full.optimiser == 16 * SHAPES["7b"].parameters


width = st.integers(1, 8).map(lambda n: 8 * n)
shapes = st.builds(Shape, width, width, width, st.just(4), st.sampled_from([1, 2, 4]), st.integers(8, 99))


@settings(deadline=None)  # the machine may be busy
@given(shapes, st.sampled_from(["full", "lora"]), st.integers(2, 64))
def test_more_gpus_never_need_more_each(shape, kind, gpus):
    few, many = need(shape, kind, gpus), need(shape, kind, 2 * gpus)
    assert many.total < few.total
    assert need(shape, kind, gpus, sharded=False) == need(shape, kind, 1)
    once, again = need(shape, kind, load=Load(2, 64)), need(shape, kind, load=Load(2, 64), checkpointing=True)
    assert again.flops > once.flops
    assert hours(once, 1e6, 2, 1e12, 0.5) == pytest.approx(hours(once, 1e6, 1, 1e12, 1.0))
    assert smallest(shape, kind, 1, 1e12) == need(shape, kind)


def test_the_command_prints_a_table_and_json():
    done = CliRunner().invoke(cli, ["scale", "7b", "--gpus", "1,8", "--json"])
    rows = json.loads(done.stdout)["rows"]
    assert {(row["gpus"], row["strategy"], row["sharded"]) for row in rows} >= {(1, "qlora", False), (8, "full", True)}
    assert not next(row for row in rows if row["strategy"] == "full" and not row["sharded"])["fits"]  # 108 GB on 80
    text = CliRunner().invoke(cli, ["scale", "7b", "--gpus", "1"]).stdout
    assert "nothing here was measured" in text and max(map(len, text.splitlines())) <= 120
    by_hand = ["--layers", "2", "--hidden", "8", "--intermediate", "16", "--heads", "2", "--vocabulary", "10"]
    assert CliRunner().invoke(cli, ["scale", *by_hand]).exit_code == 0


def test_what_is_missing_is_named():
    with pytest.raises(Exception, match="--intermediate, --heads, --vocabulary"):
        CliRunner().invoke(cli, ["scale", "--layers", "2", "--hidden", "8"], catch_exceptions=False, standalone_mode=False)
    done = CliRunner().invoke(cli, ["scale", "7b", "--gpus", "many"])
    assert done.exit_code == 2 and "--gpus takes numbers" in done.output
