"""``--to merged``: one folder of safetensors that transformers, vLLM, SGLang and TGI load as it is."""

from __future__ import annotations

import json

from pydantic import Field

from agentft.contracts import ExportJob, ExportResult, Tolerance
from agentft.engine.exported import Exported
from agentft.export.folder import spoken, write_beside, write_facts
from agentft.export.readings import transformers_reading
from agentft.export.weights import BYTES, Dtype, check_mergeable, chosen_dtype, merged, parameters, save
from agentft.validation import Model

# Well above what rounding alone costs: of SmolLM2 6e-7 nats with float16 and 6e-5 with bfloat16 (docs/export.md).
LIMITS = {"float32": Tolerance(1e-5, 0.995, 1e-4), "float16": Tolerance(1e-4, 0.99, 1e-2), "bfloat16": Tolerance(2e-3, 0.97, 5e-2)}


class MergedConfig(Model):
    """Options of ``merged``."""

    dtype: Dtype = Field(default="auto", description="`float32`, `float16`, `bfloat16`; `auto`: that of the base model")


def estimate(job: ExportJob) -> int:
    """Bytes of the weights."""
    check_mergeable(job)
    return parameters(job) * BYTES[chosen_dtype(job, job.config.dtype)]


def export(job: ExportJob) -> ExportResult:
    """See :data:`agentft.contracts.ExportJob`."""
    dtype = chosen_dtype(job, job.config.dtype)
    how = spoken(job, "merged") if job.kind == "model" else None
    model = merged(job, dtype)
    save(model, job.out)
    if how is not None:
        write_beside(job, how, job.out)
    else:
        _write_others(job)
    return ExportResult((transformers_reading(job.kind),), LIMITS[dtype], (f"The weights are {dtype}.",))


def _write_others(job: ExportJob) -> None:
    """Tokenizer and task of a model that holds no conversation."""
    from agentft.engine.models import load_tokenizer

    load_tokenizer(job.model).save_pretrained(job.out)
    write_facts(Exported("merged", job.kind, options=dict(job.options)), job.out)
    if job.trained is not None:
        (job.out / "task.json").write_text((job.trained / "task.json").read_text("utf-8"), "utf-8")
    if job.kind == "seq2seq":
        from transformers import GenerationConfig

        file = job.out / "generation_config.json"
        data = json.loads(file.read_text("utf-8")) if file.is_file() else GenerationConfig().to_diff_dict()
        data |= {"num_beams": job.options.get("num_beams", 1)}
        file.write_text(json.dumps(data, indent=1), "utf-8")
