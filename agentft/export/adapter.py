"""``--to adapter``: what was trained on top of the base model, as a PEFT folder with the persona's chat template."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from agentft.contracts import ExportJob, ExportResult, Tolerance
from agentft.errors import UserError
from agentft.export.folder import spoken, write_beside
from agentft.export.readings import peft_reading


def estimate(job: ExportJob) -> int:
    """Bytes of the adapter's weights."""
    return sum(path.stat().st_size for path in _adapter(job).glob("*.safetensors"))


def export(job: ExportJob) -> ExportResult:
    """See :data:`agentft.contracts.ExportJob`."""
    source = _adapter(job)
    how = spoken(job, "adapter")
    for path in source.iterdir():
        if path.suffix == ".safetensors":
            shutil.copy2(path, job.out / path.name)
    config = json.loads((source / "adapter_config.json").read_text("utf-8"))
    # A path of this machine says nothing elsewhere; a hub id does.
    config["base_model_name_or_path"] = job.model.reference
    (job.out / "adapter_config.json").write_text(json.dumps(config, indent=1), "utf-8")
    write_beside(job, how, job.out)
    notes = [f"The base model is `{job.model.reference}` (sha256 of its files {job.model.digest[:16]}); the adapter fits no other."]
    warnings = []
    if job.model.origin not in ("hub", "bundled"):
        warnings.append(f"the base model '{job.model.reference}' is a folder of this machine: whoever gets the adapter needs it too")
    return ExportResult((peft_reading(job.model.path),), Tolerance(1e-5, 0.995), tuple(notes), tuple(warnings))


def _adapter(job: ExportJob) -> Path:
    if job.adapter is None:
        raise UserError(f"'{job.name}' has no adapter: its whole model was trained, or nothing; use --to merged")
    return job.adapter
