"""Options of the trainer: defaults, and what is refused with which words, before torch is imported."""

from __future__ import annotations

import subprocess
import sys

import pytest
from pydantic import ValidationError

from agentft.train.options import config_fields
from agentft.train.sft import SFTConfig


def test_defaults():
    config = SFTConfig()
    assert (config.strategy.name, config.strategy.lora.r, config.epochs, config.batch_size, config.rate) == ("lora", 16, 3.0, 8, 2e-4)


@pytest.mark.parametrize(
    ("given", "name", "rate"),
    [
        ("lora", "lora", 2e-4),
        ("full", "full", 2e-5),
        ({"lora": {"r": 8}}, "lora", 2e-4),
        ({"lora": None}, "lora", 2e-4),
        ({"full": {}}, "full", 2e-5),
    ],
)
def test_strategies(given, name, rate):
    config = SFTConfig(strategy=given)
    assert (config.strategy.name, config.rate) == (name, rate)
    assert (config.strategy.lora is None) == (name == "full")
    assert SFTConfig.model_validate(config.model_dump()) == config


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strategy": "lroa"}, "did you mean 'lora'"),
        ({"strategy": {"lora": {}, "full": {}}}, "exactly one strategy"),
        ({"strategy": {}}, "exactly one strategy"),
        ({"strategy": {"lora": {"rank": 8}}}, "strategy.lora.rank"),
        ({"strategy": {"lora": {"r": 0}}}, "strategy.lora.r"),
        ({"strategy": {"qlora": {}}}, "strategy.qlora"),
        ({"epochs": 0}, "epochs"),
        ({"epoch": 1}, "Extra inputs"),
        ({"learning_rate": "2e-4"}, "valid number"),
        ({"batch_size": 8, "micro_batch": 3}, "micro_batch 3 must divide batch_size 8"),
        ({"scheduler": "cosin"}, "cosine"),
        ({"warmup": 1.0}, "less than 1"),
        ({"early_stopping": 0}, "early_stopping"),
        ({"extra": {"optimm": "sgd"}}, "trl.SFTConfig has no field 'optimm' .did you mean 'optim'"),
        ({"extra": {"learning_rate": 1.0}}, "extra.learning_rate cannot be set here: use learning_rate"),
        ({"extra": {"push_to_hub": True}}, "agentft sends nothing"),
        ({"extra": {"trust_remote_code": True}}, "never runs code"),
    ],
)
def test_mistakes_are_named(options, message):
    with pytest.raises(ValidationError, match=message):
        SFTConfig(**options)


def test_fields_read_from_source_are_those_of_the_class():
    import dataclasses

    import trl

    assert config_fields("SFTConfig") == {field.name for field in dataclasses.fields(trl.SFTConfig)}


def test_checking_options_imports_nothing_heavy():
    code = (
        "import sys; from agentft.train.sft import SFTConfig; SFTConfig(extra={'optim': 'sgd'});"
        "print([name for name in ('torch', 'transformers', 'trl', 'datasets', 'peft', 'accelerate') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
