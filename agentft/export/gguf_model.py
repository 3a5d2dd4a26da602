"""Weights and settings of Llama, Mistral, Qwen2 and Qwen3 in the terms of GGUF.

Names come from the package gguf. What has to be known beside: llama.cpp turns pairs of neighbouring numbers for Llama's rotary
positions and transformers the two halves of a head, so the rows of the query and key projections change places (``permute``, as in
llama.cpp's ``convert_hf_to_gguf.py``); Qwen's stay.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentft.engine.exported import GGUF_KEY
from agentft.errors import DataError
from agentft.export.gguf_tokenizer import vocabulary

if TYPE_CHECKING:
    from agentft.export.folder import Spoken

# transformers' model type -> (llama.cpp's architecture, whether query and key are permuted)
ARCHITECTURES = {"llama": ("LLAMA", True), "mistral": ("LLAMA", True), "qwen2": ("QWEN2", False), "qwen3": ("QWEN3", False)}
# Rows of a quantised tensor are cut into blocks of so many numbers.
BLOCK = 32
FILE_TYPES = {"f32": 0, "f16": 1, "q8_0": 7}


def check_architecture(folder: Path) -> str:
    """The kind of the model in ``folder``.

    Raises:
        DataError: it is none that is written here, or uses something that is not.
    """
    config = json.loads((folder / "config.json").read_text("utf-8"))
    kind = config.get("model_type", "")
    converter = "convert it with llama.cpp's own script: --converter path/to/convert_hf_to_gguf.py"
    if kind not in ARCHITECTURES:
        raise DataError(f"agentft writes GGUF files of {', '.join(ARCHITECTURES)}, not of '{kind}'; {converter}")
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    scaling = rope.get("rope_type") or rope.get("type") or "default"
    if scaling not in ("default", "llama3"):
        raise DataError(f"agentft does not write rotary positions of the type '{scaling}' into GGUF files; {converter}")
    window = config.get("sliding_window")
    sliding = config.get("use_sliding_window", kind == "mistral")
    if sliding and window and window < config.get("max_position_embeddings", 0):
        raise DataError(f"agentft does not write sliding windows of attention into GGUF files; {converter}")
    return str(kind)


def unread(folder: Path) -> str:
    """What transformers would lose of a GGUF file of this model, which it then reads as another one; empty: nothing."""
    config = json.loads((folder / "config.json").read_text("utf-8"))
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if rope.get("rope_type", "default") != "default":
        return f"rotary positions of the type '{rope['rope_type']}'"
    heads, head = config["num_attention_heads"], config.get("head_dim")
    if ARCHITECTURES[config["model_type"]][0] != "LLAMA" and head and head * heads != config["hidden_size"]:
        return "the size of its attention heads"
    return ""


def write(model: Any, how: Spoken, file: Path, quantise: str, name: str, progress: Callable[[int, int], None] | None = None) -> None:
    """Write a model in float32 and the way it is asked into ``file``.

    Raises:
        DataError: tokenizer or model cannot be written.
    """
    import gguf

    config = model.config
    architecture, permuted = ARCHITECTURES[config.model_type]
    writer = gguf.GGUFWriter(str(file), gguf.MODEL_ARCH_NAMES[gguf.MODEL_ARCH[architecture]])
    _settings(writer, config, name, quantise)
    _tokenizer(writer, how, int(model.get_input_embeddings().weight.shape[0]))
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH[architecture], config.num_hidden_layers)
    state = model.state_dict()
    tied = bool(config.tie_word_embeddings)
    todo = [key for key in state if not (tied and key == "lm_head.weight") and not key.endswith("rotary_emb.inv_freq")]
    factors = _rope_factors(config)
    if factors is not None:
        writer.add_tensor("rope_freqs.weight", factors)
    for done, key in enumerate(todo, 1):
        target = names.get_name(key, try_suffixes=(".weight", ".bias"))
        if target is None:
            raise DataError(f"GGUF has no name for the weight '{key}'")
        values = state[key].float().numpy()
        if permuted and ".q_proj." in key:
            values = permute(values, config.num_attention_heads)
        if permuted and ".k_proj." in key:
            values = permute(values, config.num_key_value_heads)
        _add(writer, target, values, quantise)
        if progress is not None:
            progress(done, len(todo))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def permute(values: Any, heads: int) -> Any:
    """Rows of a query or key projection (or its bias), from transformers' order to llama.cpp's."""
    return values.reshape(heads, 2, values.shape[0] // heads // 2, *values.shape[1:]).swapaxes(1, 2).reshape(values.shape)


def _add(writer: Any, name: str, values: Any, quantise: str) -> None:
    """Vectors stay float32; a matrix whose rows are no whole blocks stays float16, as in llama.cpp."""
    import gguf
    import numpy as np

    if values.ndim < 2 or quantise == "f32":
        writer.add_tensor(name, np.ascontiguousarray(values, dtype=np.float32))
    elif quantise == "f16" or values.shape[-1] % BLOCK:
        half = values.astype(np.float16)
        if not np.isfinite(half).all():
            raise DataError(f"the weight '{name}' does not fit into float16; use --quantise f32")
        writer.add_tensor(name, half)
    else:
        kind = gguf.GGMLQuantizationType.Q8_0
        writer.add_tensor(name, gguf.quants.quantize(np.ascontiguousarray(values, dtype=np.float32), kind), raw_dtype=kind)


def _settings(writer: Any, config: Any, name: str, quantise: str) -> None:
    heads = config.num_attention_heads
    head = getattr(config, "head_dim", None) or config.hidden_size // heads
    writer.add_name(name)
    writer.add_file_type(FILE_TYPES[quantise])
    writer.add_quantization_version(2)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(head)
    writer.add_rope_freq_base(float(_rope(config).get("rope_theta", 10000.0)))
    writer.add_vocab_size(config.vocab_size)
    if head * heads != config.hidden_size or config.model_type == "qwen3":
        writer.add_key_length(head)
        writer.add_value_length(head)


def _rope(config: Any) -> dict[str, Any]:
    found = dict(getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {})
    found.setdefault("rope_theta", getattr(config, "rope_theta", 10000.0))
    return found


def _rope_factors(config: Any) -> Any:
    """What llama.cpp divides the rotary frequencies by with Llama 3's scaling (Grattafiori et al. 2024, as in transformers); else None."""
    import numpy as np

    rope = _rope(config)
    if rope.get("rope_type") != "llama3":
        return None
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    low, high, length = rope["low_freq_factor"], rope["high_freq_factor"], rope["original_max_position_embeddings"]
    factors = []
    for place in range(0, head, 2):
        wave = 2 * math.pi * rope["rope_theta"] ** (place / head)
        if wave < length / high:
            factors.append(1.0)
        elif wave > length / low:
            factors.append(float(rope["factor"]))
        else:
            smooth = (length / wave - low) / (high - low)
            factors.append(1 / ((1 - smooth) / rope["factor"] + smooth))
    return np.array(factors, dtype=np.float32)


def _tokenizer(writer: Any, how: Spoken, size: int) -> None:
    tokenizer, found = how.tokenizer, vocabulary(how.tokenizer, size)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(found.pre)
    writer.add_token_list(found.tokens)
    writer.add_token_types(found.types)
    writer.add_token_merges(found.merges)
    writer.add_add_bos_token(found.add_bos)
    if tokenizer.bos_token_id is not None:
        writer.add_bos_token_id(tokenizer.bos_token_id)
    end = tokenizer.eos_token_id if tokenizer.eos_token_id is not None else how.stops[0]
    writer.add_eos_token_id(end)
    if how.stops[0] != end:
        writer.add_eot_token_id(how.stops[0])
    if tokenizer.pad_token_id is not None:
        writer.add_pad_token_id(tokenizer.pad_token_id)
    writer.add_chat_template(how.template)
    writer.add_string(GGUF_KEY, json.dumps(how.facts.to_dict(), ensure_ascii=False))
