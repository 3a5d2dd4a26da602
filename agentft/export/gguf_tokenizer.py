"""A byte-level BPE tokenizer in the terms of GGUF: tokens, their kinds, merges, and the name of the rule that cuts text into words."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from agentft.errors import DataError

_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_QWEN2 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
# llama.cpp's names for what cuts the text.
_BY_PATTERN = {_GPT2: "gpt-2", _QWEN2: "qwen2", _LLAMA3: "llama-bpe"}
_OTHERWISE = "convert it with llama.cpp's own script: --converter path/to/convert_hf_to_gguf.py"
NORMAL, CONTROL, USER_DEFINED, UNUSED = 1, 3, 4, 5


@dataclass(frozen=True)
class Vocabulary:
    """What a GGUF file says about a tokenizer.

    Attributes:
        tokens, types: by id; as many as the model has embeddings.
        merges: ``"left right"``, the first merged first.
        pre: llama.cpp's name for the rule that cuts text.
        add_bos: a text begins with the BOS token.
    """

    tokens: list[str]
    types: list[int]
    merges: list[str]
    pre: str
    add_bos: bool


def vocabulary(tokenizer: Any, size: int) -> Vocabulary:
    """The vocabulary of a fast tokenizer, for a model with ``size`` embeddings.

    Raises:
        DataError: it is no byte-level BPE, or cuts text in a way that has no name here.
    """
    data = json.loads(tokenizer.backend_tokenizer.to_str())
    model = data["model"]
    if model["type"] != "BPE" or model.get("byte_fallback") or "ByteLevel" not in _types(data.get("pre_tokenizer")):
        raise DataError(f"the tokenizer ({model['type']}) is no byte-level BPE; {_OTHERWISE}")
    if not model["merges"]:
        raise DataError("the tokenizer has no merges, and llama.cpp reads none without")
    pre = _pre(data["pre_tokenizer"])
    known = {index: text for text, index in tokenizer.get_vocab().items()}
    if max(known) >= size:
        raise DataError(f"the tokenizer has {max(known) + 1} tokens and the model {size} embeddings")
    added = tokenizer.added_tokens_decoder
    tokens, types = [], []
    for index in range(size):
        if index in added:
            tokens.append(added[index].content)
            types.append(CONTROL if added[index].special else USER_DEFINED)
        elif index in known:
            tokens.append(known[index])
            types.append(NORMAL)
        else:
            tokens.append(f"[PAD{index}]")
            types.append(UNUSED)
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
    starts = tokenizer("x")["input_ids"][:1] == [tokenizer.bos_token_id] and tokenizer.bos_token_id is not None
    return Vocabulary(tokens, types, merges, pre, starts)


def _types(step: Any) -> list[str]:
    """Kinds of the steps that cut text, in order."""
    return [one["type"] for one in _steps(step)]


def _steps(step: Any) -> list[dict[str, Any]]:
    if step is None:
        return []
    return [inner for one in step["pretokenizers"] for inner in _steps(one)] if step["type"] == "Sequence" else [step]


def _pre(step: Any) -> str:
    """llama.cpp's name for a pre-tokenizer."""
    steps = _steps(step)
    first = steps[0]
    if any(one.get("add_prefix_space") for one in steps):
        raise DataError(f"the tokenizer puts a space in front of a text; {_OTHERWISE}")
    if [one["type"] for one in steps] == ["ByteLevel"] and first.get("use_regex", True):
        return "gpt-2"
    if [one["type"] for one in steps] == ["Digits", "ByteLevel"] and first["individual_digits"] and steps[1].get("use_regex", True):
        return "smollm"
    if [one["type"] for one in steps] == ["Split", "ByteLevel"] and not steps[1].get("use_regex", True):
        pattern = first["pattern"].get("Regex", "")
        if pattern in _BY_PATTERN and first["behavior"] == "Isolated" and not first["invert"]:
            return _BY_PATTERN[pattern]
    raise DataError(f"agentft has no name for the way in which the tokenizer cuts text; {_OTHERWISE}")
