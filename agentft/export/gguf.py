"""``--to gguf``: one file for llama.cpp and the programs around it.

Llama, Mistral, Qwen2 and Qwen3 with a byte-level BPE tokenizer are written here; anything else by the converter of a llama.cpp checkout,
which knows every architecture that llama.cpp runs.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal

from pydantic import Field

from agentft.contracts import ExportJob, ExportResult, Reading, Tolerance
from agentft.engine.exported import template_hash
from agentft.engine.optional import available
from agentft.errors import DataError, UserError
from agentft.export.folder import Spoken, spoken, write_beside, write_facts
from agentft.export.gguf_model import check_architecture, unread, write
from agentft.export.llamacpp import llamacpp_reading
from agentft.export.readings import gguf_reading
from agentft.export.weights import check_mergeable, merged, parameters, save
from agentft.validation import Model

Quantisation = Literal["f32", "f16", "q8_0"]
BITS = {"f32": 32.0, "f16": 16.0, "q8_0": 8.5}
LIMITS = {"f32": Tolerance(1e-4, 0.99), "f16": Tolerance(1e-3, 0.98), "q8_0": Tolerance(2e-2, 0.93)}


class GgufConfig(Model):
    """Options of ``gguf`` and ``ollama``."""

    quantise: Quantisation = Field(default="q8_0", description="what the weights are stored as: `f32`, `f16` or `q8_0` (8.5 bits each)")
    converter: str | None = Field(
        default=None, description="`convert_hf_to_gguf.py` of a llama.cpp checkout, for architectures that agentft does not write itself"
    )


def estimate(job: ExportJob) -> int:
    """Bytes of the file."""
    check_mergeable(job)
    if job.config.converter is None:
        check_architecture(Path(job.model.path))
    return int(parameters(job) * BITS[job.config.quantise] / 8)


def file_name(job: ExportJob) -> str:
    name = "".join(sign if sign.isalnum() or sign in "-_." else "-" for sign in job.name).strip("-.") or "agent"
    return f"{name}.{job.config.quantise.upper()}.gguf"


def export(job: ExportJob) -> ExportResult:
    """See :data:`agentft.contracts.ExportJob`."""
    how = spoken(job, "gguf")
    written(job, how)
    write_facts(single(how).facts, job.out)
    return result(job)


def written(job: ExportJob, how: Spoken) -> Path:
    """The GGUF file in ``job.out``."""
    how = single(how)
    file = job.out / file_name(job)
    if job.config.converter is not None:
        _by_converter(job, how, file)
    else:
        check_architecture(Path(job.model.path))
        write(merged(job, "float32"), how, file, job.config.quantise, job.name, job.progress)
    return file


def single(how: Spoken) -> Spoken:
    """``how`` with one chat template: of several named ones the default, which is what GGUF programs look at."""
    if isinstance(how.template, str):
        return how
    template, source = how.template["default"], how.source["default"]
    facts = replace(how.facts, template=template_hash(template), source=source)
    return replace(how, template=template, source=source, facts=facts)


def result(job: ExportJob) -> ExportResult:
    """Readings of the file with transformers and, where it is installed, llama.cpp."""
    name = file_name(job)
    readings: list[Callable[[Path], Reading]] = []
    warnings = []
    if available("xllamacpp"):
        readings.append(llamacpp_reading(name))
    else:
        warnings.append("not run with llama.cpp, which would check tokenizer and chat template too: pip install 'agentft[llamacpp]'")
    lost = "what a converter may have written" if job.config.converter else unread(Path(job.model.path))
    if not lost:
        readings.append(gguf_reading(name))
    elif not readings:
        raise UserError(
            f"transformers does not read {lost} from a GGUF file, so it is checked with llama.cpp: pip install 'agentft[llamacpp]'"
        )
    elif not job.config.converter:
        warnings.append(f"transformers does not read {lost} from a GGUF file: use this one with llama.cpp only")
    return ExportResult(tuple(readings), LIMITS[job.config.quantise], (f"The weights are {job.config.quantise}.",), tuple(warnings))


def _by_converter(job: ExportJob, how: Spoken, file: Path) -> None:
    """Let llama.cpp's own script convert a merged folder."""
    import tempfile

    script = Path(job.config.converter).expanduser()
    if not script.is_file():
        raise UserError(f"--converter: there is no file {script}; name convert_hf_to_gguf.py of a llama.cpp checkout")
    with tempfile.TemporaryDirectory(dir=job.out.parent) as folder:
        save(merged(job, "float32"), Path(folder))
        write_beside(job, how, Path(folder))
        command = [sys.executable, str(script), folder, "--outfile", str(file), "--outtype", job.config.quantise]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode or not file.is_file():
        last = (done.stderr.strip().splitlines() or done.stdout.strip().splitlines() or ["no message"])[-1]
        raise DataError(f"{script} failed: {last}")
