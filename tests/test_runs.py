"""The run store: hits, misses with their reason, atomic completion, recovery after a kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentft.errors import UserError
from agentft.runs import Outcome, Store, canonical, digest, explain


def opened(tmp_path, name="job", run_id=None):
    run = Store(tmp_path).open(run_id or f"{name}-1", name)
    run.start({})
    return run


def writer(text, calls=None, **outcome):
    def build(out: Path) -> Outcome:
        if calls is not None:
            calls.append(out)
        (out / "result.txt").write_text(text, "utf-8")
        return Outcome(**outcome)

    return build


def test_a_stage_is_built_once(tmp_path):
    calls: list[Path] = []
    run = opened(tmp_path)
    first = run.stage("a", {"x": 1}, {}, writer("one", calls))
    again = run.stage("a", {"x": 1}, {}, writer("one", calls))
    assert len(calls) == 1 and not first.reused and again.reused
    assert first.why == "new" and again.path == first.path and (again.path / "result.txt").read_text("utf-8") == "one"
    assert not list(tmp_path.glob("stages/*.partial"))


def test_a_miss_says_what_changed(tmp_path):
    opened(tmp_path).stage("a", {"persona": {"policies": [{"id": "close", "text": "Say goodbye."}]}}, {}, writer("1"))
    run = opened(tmp_path, run_id="job-2")
    again = run.stage("a", {"persona": {"policies": [{"id": "close", "text": "Say farewell."}]}}, {}, writer("2"))
    assert again.why == "persona.policies.close.text: Say goodbye. -> Say farewell."


def test_later_stages_depend_on_content_not_on_how_it_came_about(tmp_path):
    run = opened(tmp_path)
    a = run.stage("a", {"x": 1}, {}, writer("same"))
    b = run.stage("b", {}, {"a": a}, writer("b"))
    changed = run.stage("a", {"x": 2}, {}, writer("same"))
    assert run.stage("b", {}, {"a": changed}, writer("b")).reused
    other = run.stage("a", {"x": 3}, {}, writer("different"))
    again = run.stage("b", {}, {"a": other}, writer("b"))
    assert not again.reused and b.key != again.key


def test_one_file_of_a_stage_as_input(tmp_path):
    run = opened(tmp_path)

    def two(first, second):
        def build(out):
            (out / "train.jsonl").write_text(first)
            (out / "prompts.jsonl").write_text(second)
            return Outcome()

        return build

    a = run.stage("a", {"x": 1}, {}, two("t", "p"))
    run.stage("b", {}, {"train": a.file("train.jsonl")}, writer("b"))
    other = run.stage("a", {"x": 2}, {}, two("t", "other prompts"))
    assert run.stage("b", {}, {"train": other.file("train.jsonl")}, writer("b")).reused


def test_changed_data_file_is_noticed(tmp_path):
    source = tmp_path / "data.jsonl"
    source.write_text("1")
    run = opened(tmp_path / "runs")
    run.stage("data", {}, {}, writer("1", files=[source]))
    assert run.stage("data", {}, {}, writer("1", files=[source])).reused
    source.write_text("2")
    again = run.stage("data", {}, {}, writer("2", files=[source]))
    assert not again.reused and again.why == "data.jsonl changed"
    source.write_text("1")
    assert run.stage("data", {}, {}, writer("never")).reused, "both results are kept"


def test_failures_are_not_cached(tmp_path):
    run, calls = opened(tmp_path), []
    run.stage("answers", {}, {}, writer("half", calls, retry=True))
    again = run.stage("answers", {}, {}, writer("whole", calls))
    assert again.why == "tries again what failed the last time"
    assert len(calls) == 2 and run.stage("answers", {}, {}, writer("x", calls)).reused


def test_an_exception_leaves_the_partial_work_for_the_next_try(tmp_path):
    run = opened(tmp_path)

    def fail(out):
        (out / "half.txt").write_text("half")
        raise RuntimeError("boom")

    with pytest.raises(RuntimeError):
        run.stage("a", {}, {}, fail)

    def carry_on(out):
        assert (out / "half.txt").read_text() == "half"
        return Outcome()

    assert run.stage("a", {}, {}, carry_on).why == "continued after an interruption"


def test_killed_process_can_be_continued(tmp_path):
    script = textwrap.dedent(
        """
        import os, signal, sys
        from pathlib import Path
        from agentft.runs import Outcome, Store
        run = Store(sys.argv[1]).open("job-1", "job")
        def build(out):
            (out / "half.txt").write_text("half")
            os.kill(os.getpid(), signal.SIGKILL)
        with run.lock():
            run.start({})
            run.stage("a", {}, {}, build)
        """
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    killed = subprocess.run([sys.executable, "-c", script, str(tmp_path)], env=environment, check=False)
    assert killed.returncode == -signal.SIGKILL
    run = Store(tmp_path).open("job-1", "job")
    with run.lock():
        run.start({})
        assert run.stage("a", {}, {}, lambda out: Outcome({"seen": (out / "half.txt").read_text()})).summary == {"seen": "half"}


def test_manifest_by_id_name_and_folder(tmp_path):
    opened(tmp_path)
    store = Store(tmp_path)
    assert store.manifest("job")["id"] == store.manifest("job-1")["id"] == store.manifest(str(tmp_path / "job-1"))["id"]
    with pytest.raises(UserError, match=r"no run 'jobb-1' \(did you mean 'job-1'\?\)"):
        store.manifest("jobb-1")
    with pytest.raises(UserError, match="start one with `agentft run RECIPE`"):
        Store(tmp_path / "empty").manifest("x")


def test_unused_stages_are_those_no_run_refers_to(tmp_path):
    run = opened(tmp_path)
    kept = run.stage("a", {"x": 1}, {}, writer("1"))
    (tmp_path / "stages" / "b-dead.partial").mkdir()
    assert [p.name for p in Store(tmp_path).unused()] == ["b-dead.partial"]
    assert kept.path.is_dir()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


@given(json_values)
def test_equal_data_has_equal_digests_and_no_differences(value):
    copy = json.loads(canonical(value))
    assert digest(copy) == digest(value)
    assert list(explain(value, copy)) == []


@given(json_values, json_values)
def test_different_data_has_an_explanation(left, right):
    left, right = json.loads(canonical(left)), json.loads(canonical(right))
    if canonical(left) != canonical(right) and left != right:
        assert list(explain(left, right))
