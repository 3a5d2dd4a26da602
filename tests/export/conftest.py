"""A tiny agent to export: a model in a folder, and a persona."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny import tiny_model, tiny_tokenizer

PERSONA = """\
name: clerk
summary: A clerk who is brief
language: en
role: 'You are a clerk at the counter of a small library; say "please", and 您好.'
policies:
  - {id: brief, text: Answer in at most 20 words., rule: {words: {max: 20}}}
"""
MERGES = (("t", "h"), ("th", "e"), ("i", "n"), ("Ġ", "b"), ("e", "r"))


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Path:
    """A model whose tokenizer merges, which GGUF needs."""
    place = tmp_path_factory.mktemp("model")
    tiny_model(place, tokenizer=tiny_tokenizer(MERGES))
    return place


@pytest.fixture(scope="session")
def persona(tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("persona") / "clerk.yaml"
    file.write_text(PERSONA, "utf-8")
    return file


@pytest.fixture
def options(persona, tmp_path) -> dict:
    """What every export here is called with."""
    return {"persona": str(persona), "out": tmp_path / "out", "probes": 4, "device": {"device": "cpu", "train_dtype": "fp32", "threads": 1}}
