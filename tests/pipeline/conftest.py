"""A small job on a tiny model: everything that a recipe names, in a folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

PERSONA = """\
name: clerk
summary: A clerk who is brief
language: en
role: You are a clerk at the counter of a small library.
policies:
  - {id: brief, text: Answer in at most 20 words., rule: {words: {max: 20}}}
  - {id: polite, text: Say please., kind: substance, rule: {contains: {any: [please]}}}
"""
RECIPE = """\
name: clerk
model: {model}
persona: persona.yaml
data:
  sources: [{{use: jsonl, path: talks.jsonl}}]
  transforms: [normalize, dedup]
  split: {{validation: 0.1, test: 0.2, by: group, seed: 3}}
  prompts: [{{use: jsonl, path: prompts.jsonl}}]
train:
  - {{use: sft, strategy: {{lora: {{r: 4}}}}, epochs: 2, batch_size: 4, learning_rate: 1e-3, save_every: 2}}
generation: {{max_new_tokens: 6, batch_size: 4}}
evaluate: [persona-adherence, relevance, rouge, perplexity, stop-rate]
device: {{device: cpu, train_dtype: fp32, threads: 1}}
"""


@pytest.fixture
def job(tmp_path, tiny_ref) -> Path:
    """A folder with everything that a recipe names."""
    talks = [
        {
            "id": f"t{n}",
            "messages": [
                {"role": "user", "content": f"Where is shelf {n}?"},
                {"role": "assistant", "content": f"Please turn left at {n}."},
            ],
        }
        for n in range(24)
    ]
    prompts = [
        {"id": f"p{n}", "messages": [{"role": "user", "content": f"May I borrow book {n}?"}], "meta": {"facts": [["book"], [str(n)]]}}
        for n in range(10)
    ]
    (tmp_path / "talks.jsonl").write_text("\n".join(map(json.dumps, talks)), "utf-8")
    (tmp_path / "prompts.jsonl").write_text("\n".join(map(json.dumps, prompts)), "utf-8")
    (tmp_path / "persona.yaml").write_text(PERSONA, "utf-8")
    (tmp_path / "recipe.yaml").write_text(RECIPE.format(model=tiny_ref.path), "utf-8")
    return tmp_path
