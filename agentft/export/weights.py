"""The agent's weights as one ordinary model: base and adapter together, in the dtype that is wanted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from agentft.contracts import ExportJob
from agentft.errors import DataError, UserError

Dtype = Literal["auto", "float32", "float16", "bfloat16"]
SHARD = "5GB"  # a larger model is written in several files
BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}


def stored_dtype(folder: str) -> str:
    """What ``config.json`` says that the weights are stored in; float32 where it says nothing."""
    config = json.loads((Path(folder) / "config.json").read_text("utf-8"))
    found = config.get("dtype") or config.get("torch_dtype") or "float32"
    return found if found in BYTES else "float32"


def chosen_dtype(job: ExportJob, wanted: str) -> str:
    """``wanted``; with ``auto`` that of the base model."""
    return stored_dtype(job.model.path) if wanted == "auto" else wanted


def parameters(job: ExportJob) -> int:
    """Number of parameters of the model without its adapter, read from the headers of its files."""
    from safetensors import safe_open

    count = 0
    for path in sorted(Path(job.model.path).glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 - it is no mapping
                size = 1
                for side in file.get_slice(name).get_shape():
                    size *= side
                count += size
    return count


def check_mergeable(job: ExportJob) -> None:
    """Raise :class:`UserError` if what was trained cannot become part of the weights."""
    if job.adapter is not None:
        kind = json.loads((job.adapter / "adapter_config.json").read_text("utf-8")).get("peft_type", "")
        if kind in ("PROMPT_TUNING", "PREFIX_TUNING", "P_TUNING", "MULTITASK_PROMPT_TUNING"):
            raise UserError(
                f"'{job.name}' learned virtual tokens ({kind.lower().replace('_', ' ')}), which no weights can hold; "
                "use --to adapter, or train with lora, full or freeze"
            )


def merged(job: ExportJob, dtype: str) -> Any:
    """The whole model of ``job`` on the CPU, in evaluation mode, with the adapter in its weights.

    The sum is made in float32 and rounded once.

    Raises:
        UserError: what was trained cannot be merged.
        DataError: the model cannot be loaded, or a weight does not fit into ``dtype``.
    """
    import torch

    from agentft.engine.models import load_model
    from agentft.engine.profile import Profile

    check_mergeable(job)
    cpu = Profile("cpu", threads=torch.get_num_threads())
    if job.kind == "head":
        model = _head(job, cpu)
    elif job.kind == "encoder":
        model = encoder(job, cpu)
    else:
        kind = "AutoModelForSeq2SeqLM" if job.kind == "seq2seq" else "AutoModelForCausalLM"
        model = load_model(job.model, cpu, job.adapter, dtype="float32", kind=kind)
    if hasattr(model, "peft_config"):
        model = model.merge_and_unload()
    model = model.to(getattr(torch, dtype)).eval()
    if dtype == "float16" and not all(torch.isfinite(value).all() for value in model.state_dict().values()):
        raise DataError(f"a weight of '{job.name}' is too large for float16; use --dtype bfloat16 or float32")
    model.config.dtype = getattr(torch, dtype)
    return model


def _head(job: ExportJob, profile: Any) -> Any:
    from agentft.engine.heads import HeadModel

    assert job.trained is not None
    return HeadModel.load(job.model, job.trained, profile).model


def encoder(job: ExportJob, profile: Any) -> Any:
    """An encoder with its masked-language-model head, or the body alone where the folder has no such head."""
    from agentft.engine.models import load_model
    from agentft.engine.quiet import quiet_libraries

    with quiet_libraries():
        try:
            from agentft.engine.masked import load_masked

            model, drawn = load_masked(job.model, profile, "float32", 0)
            if not drawn:
                return model.eval()
        except DataError:
            pass
        return load_model(job.model, profile, kind="AutoModel", dtype="float32")


def save(model: Any, folder: Path) -> None:
    """Safetensors, in several files above :data:`SHARD`, and the configuration."""
    from agentft.engine.quiet import quiet_libraries

    with quiet_libraries():
        model.config.name_or_path = ""
        model.save_pretrained(folder, max_shard_size=SHARD)
    readable(folder)


def readable(folder: Path) -> None:
    """Weights are written for their owner alone; an export is for whoever may read what lies beside them."""
    mode = (folder / "config.json").stat().st_mode
    for path in folder.glob("*.safetensors"):
        path.chmod(mode)
