"""What the machine is used for, and what a recipe may say about it."""

from __future__ import annotations

import pytest

from agentft.engine import profile as profiles
from agentft.engine.profile import Profile, check_overrides, detect
from agentft.errors import RecipeError


@pytest.fixture(autouse=True)
def no_accelerator(monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


def test_cpu_with_bf16_trains_in_it_and_decodes_in_fp32(monkeypatch):
    monkeypatch.setattr(profiles, "bf16_hardware", lambda: "AMX")
    found = detect()
    assert (found.device, found.train_dtype, found.decode_dtype) == ("cpu", "bfloat16", "float32")
    assert "AMX" in str(found)


def test_cpu_without_bf16_uses_fp32(monkeypatch):
    monkeypatch.setattr(profiles, "bf16_hardware", lambda: "")
    assert detect().train_dtype == "float32"


@pytest.mark.parametrize(
    ("capability", "bf16", "dtype"), [((9, 0), True, "bfloat16"), ((7, 5), False, "float16"), ((6, 1), False, "float32")]
)
def test_cuda_dtype_follows_the_card(monkeypatch, capability, bf16, dtype):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Card")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: bf16)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    assert detect().train_dtype == dtype
    assert detect({"device": "cuda:1"}).device == "cuda:1"
    with pytest.raises(RecipeError, match="cuda:2 is not available here"):
        detect({"device": "cuda:2"})
    assert detect({"device": "cpu"}).device == "cpu"


def test_overrides_win_and_are_noted():
    found = detect({"train_dtype": "fp32", "threads": 1, "micro_batch": 4, "gradient_checkpointing": True})
    assert (found.train_dtype, found.threads, found.micro_batch, found.gradient_checkpointing) == ("float32", 1, 4, True)
    assert any("micro_batch 4 is set by the recipe" in note for note in found.notes)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"dtype": "bf16"}, "unknown key 'dtype'"),
        ({"train_dtyp": "bf16"}, "did you mean 'train_dtype'"),
        ({"train_dtype": "int8"}, "one of bf16, fp16, fp32"),
        ({"threads": 0}, "whole number >= 1"),
        ({"threads": True}, "whole number"),
        ({"gradient_checkpointing": "yes"}, "true or false"),
        ({"attention": "spda"}, "did you mean 'sdpa'"),
        ({"device": "gpu"}, "cpu, cuda, cuda:N or mps"),
        ({"device": "cuda"}, "not available here"),
        ({"device": "mps"}, "not available here"),
        ({"device": "cpu", "train_dtype": "fp16"}, "needs a GPU"),
    ],
)
def test_wrong_overrides_are_refused_with_a_fix(overrides, message):
    with pytest.raises(RecipeError, match=message):
        detect(overrides)


def test_all_problems_are_reported_together():
    assert len(check_overrides({"a": 1, "threads": "x", "train_dtype": 3})) == 3


def test_profile_survives_the_manifest():
    import json

    found = detect({"threads": 1})
    assert Profile.from_dict(json.loads(json.dumps(found.to_dict()))) == found


def test_from_dict_takes_overrides_too():
    assert Profile.from_dict({"threads": 1}).threads == 1
    assert Profile.from_dict({}) == detect()


def test_threads_are_limited_by_the_container_quota(monkeypatch, tmp_path):
    import torch

    monkeypatch.setattr(torch, "get_num_threads", lambda: 64)
    monkeypatch.setattr(profiles.os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    quota = tmp_path / "cpu.max"
    quota.write_text("300000 100000")
    monkeypatch.setattr(profiles, "Path", lambda text: quota if "cgroup" in text else tmp_path / "absent")
    assert detect().threads == 3
    quota.write_text("max 100000")
    assert detect().threads == 64
