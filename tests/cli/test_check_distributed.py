"""``agentft check --distributed``: accelerate's configuration files, and what is wrong in them."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from agentft.cli.main import cli
from agentft.errors import RecipeError

EXAMPLES = Path(__file__).parents[2] / "examples" / "distributed"
RECIPE = """\
name: clerk
model: {model}
persona: persona.yaml
data: {{sources: [{{use: jsonl, path: talks.jsonl}}]}}
train: [{{use: sft, strategy: {strategy}, batch_size: {batch}}}]
device: {{train_dtype: bf16}}
"""
PERSONA = "name: clerk\nsummary: A clerk\nlanguage: en\nrole: You are a clerk.\n"


def check(folder: Path, tiny, file: Path, strategy: str = "lora", batch: int = 8) -> str:
    (folder / "recipe.yaml").write_text(RECIPE.format(model=tiny.path, strategy=strategy, batch=batch), "utf-8")
    (folder / "persona.yaml").write_text(PERSONA, "utf-8")
    (folder / "talks.jsonl").write_text('{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n')
    done = CliRunner().invoke(cli, ["check", str(folder / "recipe.yaml"), "--distributed", str(file)])
    if done.exception is not None:
        raise done.exception
    return done.stdout


@pytest.mark.parametrize(
    ("name", "held"), [("fsdp2", "in shards of 2 layers (LlamaDecoderLayer)"), ("deepspeed-zero3", "in shards"), ("ddp", "in copies")]
)
def test_the_examples_are_right(tmp_path, tiny_ref, name, held):
    text = check(tmp_path, tiny_ref, EXAMPLES / f"{name}.yaml")
    assert f"8 processes, the model {held}" in text and "GB on each by arithmetic" in text


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "fsdp_reshard_after_forward:",
            "fsdp_reshard_after_foward:",
            ":15:3: accelerate knows no 'fsdp_reshard_after_foward'",
        ),
        ("num_machines:", "num_machine:", ":9:1: accelerate knows no 'num_machine'.*did you mean 'num_machines'"),
        ("LlamaDecoderLayer", "LlamaDecodrLayer", ":17:39: .* no module of class 'LlamaDecodrLayer' .did you mean 'LlamaDecoderLayer'"),
        ("fsdp_reshard_after_forward: true", "fsdp_reshard_after_forward: FULL_SHARD", "accelerate: invalid truth value"),
        ("num_processes: 8", "num_processes: 3", "batch_size 8 is over all processes and cannot be divided by 3"),
        ("mixed_precision: bf16", "mixed_precision: fp16", ":12:18: the recipe trains in bfloat16 .*, and this file in float16"),
        ("distributed_type: FSDP", "distributed_type: FDSP", ":8:19: agentft does not start 'FDSP' .did you mean 'FSDP'"),
        ("distributed_type: FSDP", "", "it has no 'distributed_type'"),
    ],
)
def test_mistakes_have_a_place_and_a_suggestion(tmp_path, tiny_ref, old, new, said):
    text = (EXAMPLES / "fsdp2.yaml").read_text("utf-8")
    assert old in text
    (tmp_path / "wrong.yaml").write_text(text.replace(old, new), "utf-8")
    with pytest.raises(RecipeError, match=said):
        check(tmp_path, tiny_ref, tmp_path / "wrong.yaml")


def test_what_cannot_be_sharded(tmp_path, tiny_ref):
    strategy = "{freeze: {layers: 1}}"
    with pytest.raises(RecipeError, match="recipe.yaml:5:9: strategy: freeze was not made to be sharded"):
        check(tmp_path, tiny_ref, EXAMPLES / "deepspeed-zero3.yaml", strategy)
    assert "in copies" in check(tmp_path, tiny_ref, EXAMPLES / "ddp.yaml", strategy)


def test_weights_that_nobody_could_read(tmp_path, tiny_ref):
    text = (EXAMPLES / "deepspeed-zero3.yaml").read_text("utf-8").replace("zero3_save_16bit_model: true", "zero3_save_16bit_model: false")
    (tmp_path / "wrong.yaml").write_text(text, "utf-8")
    with pytest.raises(RecipeError, match="saves no weights"):
        check(tmp_path, tiny_ref, tmp_path / "wrong.yaml")
