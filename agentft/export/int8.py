"""``--to int8``: the matrices of the layers as 8-bit numbers with a scale per row (torchao, weight-only), loaded by transformers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from pydantic import Field

from agentft.contracts import ExportJob, ExportResult, Tolerance
from agentft.engine.optional import need
from agentft.export.folder import spoken, write_beside
from agentft.export.readings import Language, TorchReading, plain_tokenizer
from agentft.export.weights import check_mergeable, merged, parameters, readable, save
from agentft.validation import Model


class Int8Config(Model):
    """Options of ``int8``."""

    dtype: Literal["float32", "bfloat16"] = Field(
        default="bfloat16", description="what embeddings and norms are stored in, and what is computed in: `bfloat16` or `float32`"
    )


def estimate(job: ExportJob) -> int:
    """Bytes of the weights: one for a number of a layer's matrix, the dtype's for the rest."""
    check_mergeable(job)
    config = json.loads((Path(job.model.path) / "config.json").read_text("utf-8"))
    width = 2 if job.config.dtype == "bfloat16" else 4
    count, embedding = parameters(job), config.get("vocab_size", 0) * config.get("hidden_size", 0)
    rest = min(count, embedding * (1 if config.get("tie_word_embeddings") else 2))
    return count - rest + rest * width


def export(job: ExportJob) -> ExportResult:
    """See :data:`agentft.contracts.ExportJob`."""
    need("torchao", "int8", "the form 'int8'")
    how = spoken(job, "int8")
    before = _write(job)
    write_beside(job, how, job.out)
    after = sum(path.stat().st_size for path in job.out.glob("*.safetensors"))
    sizes = f"{after / 1e6:.1f} MB instead of {before / 1e6:.1f} MB in 16 bits"
    note = f"The layers' matrices are int8 with a scale per row, everything else {job.config.dtype}: {sizes}."
    return ExportResult((_reading(job.config.dtype),), Tolerance(2e-2, 0.93), (note, "Loading it needs torchao: pip install torchao."))


def _write(job: ExportJob) -> int:
    """Quantise and save; bytes of the weights in float16 or bfloat16 before."""
    import torch
    from torchao.quantization import Int8WeightOnlyConfig
    from transformers import AutoModelForCausalLM, TorchAoConfig

    from agentft.engine.quiet import quiet_libraries

    with TemporaryDirectory(dir=job.out.parent) as folder, quiet_libraries():
        save(merged(job, "float32"), Path(folder))
        model: Any = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=getattr(torch, job.config.dtype),
            quantization_config=TorchAoConfig(Int8WeightOnlyConfig()),
            local_files_only=True,
            use_safetensors=True,
        )
        count = sum(value.numel() for value in model.parameters())
        model.config.name_or_path = ""
        model.save_pretrained(job.out)
    readable(job.out)
    return 2 * count


def _reading(dtype: str) -> Callable[[Path], TorchReading]:
    def opened(folder: Path) -> TorchReading:
        from agentft.engine.models import pretrained
        from agentft.engine.quiet import quiet_libraries

        with quiet_libraries():
            model = pretrained("AutoModelForCausalLM", folder, dtype).eval()
            return TorchReading("transformers + torchao", model, Language(), plain_tokenizer(folder))

    return opened
