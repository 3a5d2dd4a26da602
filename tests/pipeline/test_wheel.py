"""One turn of the wheel: run, serve, conversations and feedback over HTTP, refine, promoted, serve again. Real commands, a tiny model."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

import agentft
from agentft.feedback.served import ServedStore

REFINE = """\
seed: 1
refine:
  rounds: 0
  prompts: [{use: served-feedback, path: served.jsonl, known: true}]
  sampling: {candidates: 1}
  revision: {model: none}
  pairs: {from_samples: false, length_balance: 1.0, near_duplicate: 1.0}
  train: {use: dpo, epochs: 2, batch_size: 4, learning_rate: 1e-3}
  control: null
  gate: {minimum: -1.0, length_ratio: [0.001, 1000], distinct_drop: 1.0, stop_drop: 1.0, new_hard_failures: 1000, min_prompts: 2}
"""


def command(job: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "agentft", *arguments],
        cwd=job,
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"AGENTFT_PLUGINS": ""},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@contextmanager
def served(job: Path):
    """``agentft serve`` on a free port, told to stop at the end."""
    process = subprocess.Popen(
        [sys.executable, "-m", "agentft", "serve", "clerk", "--port", "0", "--feedback", "served.jsonl"],
        cwd=job,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        url = next(found[0] for line in process.stdout if (found := re.search(r"http://[\d.]+:\d+", line)))
        with httpx.Client(base_url=url, timeout=60) as client:
            yield client
    finally:
        process.terminate()
        process.wait(timeout=60)


def answer(client: httpx.Client, question: str) -> dict:
    name = client.get("/v1/models").json()["data"][0]["id"]
    body = {"model": name, "messages": [{"role": "user", "content": question}], "max_tokens": 12}
    reply = client.post("/v1/chat/completions", json=body)
    assert reply.status_code == 200, reply.text
    return reply.json()


@pytest.mark.slow
def test_from_chat_to_promoted_version(job):
    text = (job / "recipe.yaml").read_text("utf-8").replace("max_new_tokens: 6", "max_new_tokens: 12")
    (job / "recipe.yaml").write_text(text + REFINE, "utf-8")
    store = ServedStore(job / "served.jsonl")
    store.path.touch()
    command(job, "run", "recipe.yaml")
    questions = [f"Is book {number} in?" for number in range(10, 22)]
    with served(job) as client:
        assert client.get("/v1/agents").json()["data"][0]["version"] == "start"
        assert "chat/app.js" in client.get("/").text
        before = [answer(client, question) for question in questions]
        for number, one in enumerate(before):
            if not one["choices"][0]["message"]["content"].strip():
                continue
            said = {"thumb": "down", "edit": f"Please ask for book {number}.", "words": "Say please."}
            reply = client.post("/v1/feedback", json={"completion_id": one["id"], "rater": "Ann", **said})
            assert reply.status_code == 200, reply.text
    rows = store.latest()
    assert len(rows) >= 8 and {(row.version, row.persona, row.known, row.rater) for row in rows} == {("start", "clerk", True, "Ann")}

    data = json.loads(command(job, "refine", "recipe.yaml", "--next", "--json"))
    assert data["current"] == "round-1" and data["rounds"][0]["state"] == "promoted"
    stages = job / "runs" / "stages"
    pairs = json.loads((stages / data["rounds"][0]["stages"]["round-1-pairs"] / "stage.json").read_text("utf-8"))["summary"]
    assert set(pairs["by_origin"]) == {"human"}, "nothing but what people wrote was learned from"
    dropped = sum(count for reason, count in pairs["drops"].items() if not reason.startswith(("samples", "no sample")))
    assert pairs["human"] == len(rows) == pairs["kept"] + dropped and pairs["kept"] >= 4, pairs["drops"]

    with served(job) as client:
        assert client.get("/v1/agents").json()["data"][0]["version"] == "round-1"
        after = [answer(client, question)["choices"][0]["message"]["content"] for question in questions]
    expected = agentft.load_agent("clerk", version="round-1", runs=job / "runs").generate(questions, max_new_tokens=12)
    assert [text.strip() for text in after] == [(text or "").strip() for text in expected]
    assert after != [one["choices"][0]["message"]["content"] for one in before], "another version answers"
