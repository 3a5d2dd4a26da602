"""examples/flat_sft.py says that it does by hand what agentft does: the same rows, and a training that runs."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from tiny import SYSTEM

SCRIPT = Path(__file__).parents[2] / "examples" / "flat_sft.py"
TALKS = [
    [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "Hello! 你好 🙂"}],
    [*({"role": role, "content": f"{role} {i}"} for i in range(3) for role in ("user", "assistant"))],
]


def test_rows_are_those_of_agentft(tiny_ref):
    from agentft.engine.models import load_tokenizer
    from agentft.records import Example
    from agentft.render.conversation import Renderer

    encode = runpy.run_path(str(SCRIPT))["encode"]
    tokenizer = load_tokenizer(tiny_ref)
    for messages in TALKS:
        (row,) = Renderer(tokenizer, SYSTEM).training(Example.from_dict({"id": "x", "messages": messages}))
        assert encode(tokenizer, SYSTEM, messages) == {"input_ids": row.input_ids, "labels": row.labels}


@pytest.mark.slow
def test_it_runs(tiny_ref, tmp_path):
    data = tmp_path / "talks.jsonl"
    data.write_text("\n".join(json.dumps({"messages": messages}) for messages in TALKS * 4), encoding="utf-8")
    command = [sys.executable, str(SCRIPT), tiny_ref.path, str(data), str(tmp_path / "out"), SYSTEM]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    assert "8 rows" in done.stdout and (tmp_path / "out" / "adapter_model.safetensors").is_file()
    assert "import agentft" not in SCRIPT.read_text() and "from agentft" not in SCRIPT.read_text()
