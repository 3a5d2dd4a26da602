"""A GGUF file becomes a folder with safetensors, once.

GGUF is what quantised models are handed around in; training and LoRA need ordinary weights. transformers reads the file (and
undoes the quantisation) but refuses to save the result, so the model is built again from its configuration.

The folder holds float16: two bytes like bfloat16 with three bits more of mantissa, and the scales inside GGUF blocks are
float16 themselves. Measured on SmolLM2-135M Q4_1 against float32: KL 2.7e-6 nats per token (bfloat16: 7.6e-5), 269 MB
instead of 538.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import tempfile
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

from agentft.engine.exported import FILE, read
from agentft.errors import DataError, MissingDependency


def convert(gguf: Path, target: Path, weights: bool = True) -> None:
    """Write ``gguf`` as safetensors, configuration, tokenizer and chat template to the folder ``target``.

    The folder appears complete or not at all.

    Args:
        weights: False: tokenizer and chat template only, for whoever runs the file itself.

    Raises:
        DataError: the file is no GGUF, or of an architecture that transformers cannot read.
    """
    from agentft.engine.quiet import quiet_libraries

    try:
        import gguf as _  # noqa: F401
    except ImportError:
        raise MissingDependency("reading GGUF files needs gguf: pip install gguf") from None
    with gguf.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise DataError(f"{gguf}: not a GGUF file (it does not start with 'GGUF')")
    target.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}-"))
    try:
        with quiet_libraries():
            (_write if weights else _write_tokenizer)(gguf, part)
        try:
            part.rename(target)
        except OSError:
            if not target.is_dir():  # else another process was faster, with the same result
                raise
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _write(gguf: Path, part: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    try:
        # Its progress bar has no switch. What matters is raised, not printed.
        with redirect_stderr(io.StringIO()):
            loaded = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    except (ValueError, KeyError, NotImplementedError, RuntimeError) as error:
        raise DataError(f"{gguf}: transformers cannot read this GGUF file: {error}") from error
    settings = loaded.config.to_dict()
    settings.pop("quantization_config", None)  # it makes save_pretrained refuse
    settings.pop("_name_or_path", None)
    model: Any = type(loaded)(type(loaded.config).from_dict(settings))
    model.load_state_dict(loaded.state_dict())
    model.generation_config = loaded.generation_config
    model.tie_weights()
    half = model.to(torch.float16)
    if not all(torch.isfinite(value).all() for value in half.state_dict().values()):
        model.load_state_dict(loaded.state_dict())  # a weight above 65,504
        half = model.to(torch.float32)
    half.config.dtype = half.dtype
    half.save_pretrained(part)
    _write_tokenizer(gguf, part)


def _write_tokenizer(gguf: Path, part: Path) -> None:
    from transformers import AutoTokenizer

    try:
        with redirect_stderr(io.StringIO()):
            tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    except (ValueError, KeyError, NotImplementedError, RuntimeError) as error:
        raise DataError(f"{gguf}: transformers cannot read the tokenizer of this GGUF file: {error}") from error
    _restore_pre_tokenizer(gguf, tokenizer)
    tokenizer.model_max_length = context_of(gguf) or 2**30
    tokenizer.save_pretrained(part)
    exported = read(gguf)
    if exported is not None:
        (part / FILE).write_text(json.dumps(exported.to_dict(), ensure_ascii=False), "utf-8")
    os.chmod(part, 0o755)  # mkdtemp's 0700 is for secrets


def context_of(gguf: Path) -> int:
    """Tokens that the model was made to read, 0 if the file does not say."""
    from gguf import GGUFReader

    fields = GGUFReader(gguf).fields
    kind = fields.get("general.architecture")
    found = fields.get(f"{kind.contents()}.context_length") if kind is not None else None
    return int(found.contents()) if found is not None else 0


def _restore_pre_tokenizer(gguf: Path, tokenizer: Any) -> None:
    """GGUF only names the pre-tokenizer, and transformers takes GPT-2's. SmolLM and relatives split digits first: it shows in
    runs of spaces before a number."""
    from gguf import GGUFReader
    from tokenizers import pre_tokenizers

    field = GGUFReader(gguf).fields.get("tokenizer.ggml.pre")
    if field is not None and field.contents() in ("smollm", "starcoder", "refact", "command-r"):
        split = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(split)
