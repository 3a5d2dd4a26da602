"""The machine is timed once, the decision remembered, and a run never depends on the timing itself."""

from __future__ import annotations

import json
import time

import pytest
from click.testing import CliRunner

from agentft.cli.main import cli
from agentft.engine import measure
from agentft.engine.measure import decide
from agentft.engine.profile import detect


@pytest.fixture
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("AGENTFT_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("AGENTFT_PROFILE", raising=False)
    return tmp_path / "cache" / "profiles"


@pytest.mark.parametrize(
    ("train", "decode", "scaling", "idle", "expected"),
    [
        ({"float32": 97, "bfloat16": 360}, {"float32": 10, "bfloat16": 9}, {1: 190, 2: 360}, True, ("bfloat16", "float32", 2)),
        ({"float32": 97, "bfloat16": 30}, {"float32": 10, "bfloat16": 4}, {1: 50, 2: 97}, True, ("float32", "float32", 2)),
        ({"float32": 97, "bfloat16": 120}, {"float32": 10, "bfloat16": 14}, {1: 50, 2: 97}, True, ("float32", "float32", 2)),
        ({"float32": 97, "bfloat16": 360}, {"float32": 10, "bfloat16": 16}, {1: 50, 2: 97}, True, ("bfloat16", "bfloat16", 2)),
        # Half of the threads: only by the margin, and only where nobody else takes the cores.
        ({"float32": 97, "bfloat16": 30}, {"float32": 10, "bfloat16": 4}, {8: 120, 16: 97}, True, ("float32", "float32", 8)),
        ({"float32": 97, "bfloat16": 30}, {"float32": 10, "bfloat16": 4}, {8: 120, 16: 97}, False, ("float32", "float32", 16)),
        ({"float32": 97, "bfloat16": 360}, {"float32": 10, "bfloat16": 20}, {8: 120, 16: 97}, False, ("bfloat16", "float32", 16)),
        ({"float32": 97, "bfloat16": 30}, {"float32": 10, "bfloat16": 4}, {8: 100, 16: 97}, True, ("float32", "float32", 16)),
    ],
)
def test_something_else_than_float32_and_all_threads_has_to_be_faster_by_a_margin(train, decode, scaling, idle, expected):
    assert decide(train, decode, scaling, idle=idle, gpu=False) == expected


@pytest.mark.parametrize(
    ("train", "dtype"),
    [
        ({"float32": 50, "bfloat16": 700, "float16": 720}, "bfloat16"),
        ({"float32": 10, "bfloat16": 9, "float16": 60}, "float16"),
        ({"float32": 10, "float16": 60}, "float16"),
        ({"float32": 10, "float16": 11}, "float32"),
        ({"float32": 10}, "float32"),
    ],
)
def test_a_gpu_decodes_in_what_it_trains_in_and_bf16_goes_before_fp16(train, dtype):
    assert decide(train, train, {4: 1.0}, idle=True, gpu=True) == (dtype, dtype, 4)


def test_timing_is_short_and_done_once(cache, monkeypatch):
    first = detect()
    (file,) = cache.glob("*.json")
    stored = json.loads(file.read_text())
    assert (first.train_dtype, first.threads) == (stored["train_dtype"], stored["threads"])
    assert all(rate > 0 for rates in ("train", "decode", "scaling") for rate in stored[rates].values())

    def never(*_):
        raise AssertionError("measured twice")

    monkeypatch.setattr(measure, "_measure", never)
    assert detect() == first
    assert "measured: products float32" in str(first)


def test_decision_and_not_the_timing_is_what_the_next_run_takes(cache):
    detect()
    (file,) = cache.glob("*.json")
    stored = json.loads(file.read_text()) | {"train_dtype": "float32", "decode_dtype": "bfloat16"}
    file.write_text(json.dumps(stored))
    assert (detect().train_dtype, detect().decode_dtype) == ("float32", "bfloat16")
    assert detect({"train_dtype": "bf16"}).train_dtype == "bfloat16"  # the recipe wins
    detect(again=True)
    assert json.loads(file.read_text())["machine"] == stored["machine"]


def test_of_two_processes_that_measure_at_once_the_first_one_to_write_decides(cache, monkeypatch):
    from dataclasses import replace

    real = measure._measure
    first = []

    def slow(*args):
        found = real(*args)
        if not first:  # another process finishes while this one still measures
            first.append(replace(found, train_dtype="float32", train={"float32": 1.0, "bfloat16": 1.0}))
            measure._write(measure._file(args[3]), first[0], False)
        return replace(found, train_dtype="bfloat16")

    monkeypatch.setattr(measure, "_measure", slow)
    assert detect().train_dtype == "float32"
    assert [file.suffix for file in cache.iterdir()] == [".json"]


def test_another_machine_gets_a_decision_of_its_own(cache, monkeypatch):
    detect()
    monkeypatch.setattr(measure, "_processor", lambda: ("Another CPU", {"avx2"}))
    detect()
    assert len(list(cache.glob("*.json"))) == 2


def test_where_timing_fails_the_flags_decide(cache, monkeypatch):
    from agentft.engine import profile

    def broken(*_):
        raise RuntimeError("not implemented for BFloat16")

    monkeypatch.setattr(measure, "_product", broken)
    monkeypatch.setattr(profile, "bf16_hardware", lambda: "AMX")
    assert detect().train_dtype == "bfloat16" and "AMX" in str(detect()) and not cache.exists()


def test_cache_that_cannot_be_written_or_read_is_no_error(cache, monkeypatch):
    cache.parent.mkdir()
    cache.write_text("a file where the folder should be")
    assert "measured" in str(detect())
    cache.unlink()
    detect()
    (file,) = cache.glob("*.json")
    file.write_text("{")
    assert "measured" in str(detect())


def test_timing_leaves_torch_as_it_was(cache):
    import torch

    before = torch.get_num_threads()
    began = time.process_time()
    detect()
    assert torch.get_num_threads() == before
    assert time.process_time() - began < 30  # a guard against a size that explodes; the usual time is about a second


def test_command(cache):
    runner = CliRunner()
    text = runner.invoke(cli, ["profile"], catch_exceptions=False).output
    assert "training " in text and "products: float32" in text and "GB available" in text
    data = json.loads(runner.invoke(cli, ["profile", "--json"], catch_exceptions=False).output)
    assert data["measured"]["train_dtype"] == data["profile"]["train_dtype"] and data["available_bytes"] > 0
    again = json.loads(runner.invoke(cli, ["profile", "--measure", "--json"], catch_exceptions=False).output)
    assert again["measured"]["machine"] == data["measured"]["machine"]
