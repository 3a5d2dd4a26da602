"""``--to onnx``: an encoder, with its head if it has one, for onnxruntime; any number of rows of any length."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentft.contracts import ExportJob, ExportResult, Probe, Tolerance
from agentft.engine.exported import Exported
from agentft.engine.optional import need
from agentft.errors import DataError, UserError
from agentft.export.folder import write_facts
from agentft.export.readings import as_positions
from agentft.export.weights import merged, parameters

if TYPE_CHECKING:
    from agentft.render.task import Task

FILE = "model.onnx"


def estimate(job: ExportJob) -> int:
    """Bytes of the file."""
    return parameters(job) * 4


def export(job: ExportJob) -> ExportResult:
    """See :data:`agentft.contracts.ExportJob`.

    Raises:
        UserError: the head stands on a chat model.
        DataError: torch cannot export this kind of model.
    """
    for package in ("onnx", "onnxscript", "onnxruntime"):
        need(package, "onnx", "the form 'onnx'")
    from agentft.engine.models import load_tokenizer
    from agentft.render.task import Task

    task = Task.load(job.trained) if job.trained is not None else None
    if task is not None and task.causal:
        raise UserError(f"'{job.name}' has its head on a chat model; --to onnx writes encoders, so use --to merged")
    model, names = _wrapped(merged(job, "float32"), task)
    inputs = ["input_ids", "attention_mask", *(["token_type_ids"] if model.typed else [])]
    _write(model, job.out / FILE, inputs, names)
    load_tokenizer(job.model).save_pretrained(job.out)
    write_facts(Exported("onnx", job.kind), job.out)
    if task is not None:
        task.save(job.out)
    read = "logits" if "logits" in names else names[0]
    outputs = ", ".join(f"`{name}`" for name in names)
    note = f"Inputs are {', '.join(f'`{name}`' for name in inputs)} (int64, rows x tokens), outputs {outputs}."
    return ExportResult((lambda folder: OnnxReading(folder / FILE, read, task),), Tolerance(1e-6, 0.999, 1e-4), (note,))


class OnnxReading:
    """The file in onnxruntime. Every probe runs beside another row of other length, as in a batch with padding.

    Args:
        output: name of the output that is compared.
        task: of the head, or None.
    """

    name = "onnxruntime"

    def __init__(self, file: Path, output: str, task: Task | None):
        import onnxruntime

        self._session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
        self._inputs = {one.name for one in self._session.get_inputs()}
        self._output, self._task = output, task

    def outputs(self, probe: Probe) -> Any:
        import numpy as np

        length = len(probe.ids)
        feed = {name: np.zeros((2, length + 3), dtype=np.int64) for name in ("input_ids", "attention_mask", "token_type_ids")}
        feed["input_ids"][:, :length], feed["attention_mask"][0, :length] = probe.ids, 1
        feed["attention_mask"][1, : max(1, length // 2)] = 1
        feed["token_type_ids"][0, :length] = probe.types or 0
        found = self._session.run([self._output], {name: value for name, value in feed.items() if name in self._inputs})[0]
        if self._task is None:
            return found[0, :length]
        if self._task.name in ("classify", "regress"):
            return found[:1]
        return as_positions(found[:1, :length], self._task)

    def prompt(self, probe: Probe) -> list[int] | None:
        return None

    def close(self) -> None:
        del self._session


def _wrapped(model: Any, task: Task | None) -> tuple[Any, list[str]]:
    """A module of plain tensors, and the names of its outputs."""
    import torch

    from agentft.engine.heads import _reads_types, outputs

    kind: Any = type(model)
    typed = _reads_types(kind)

    class Graph(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model, self.typed = model, typed

        def forward(self, input_ids: Any, attention_mask: Any, token_type_ids: Any = None) -> Any:
            if task is not None:
                return outputs(self.model, task, input_ids, attention_mask, token_type_ids)
            further = {"token_type_ids": token_type_ids} if typed else {}
            found = self.model(input_ids=input_ids, attention_mask=attention_mask, output_hidden_states=True, **further)
            states = found.hidden_states[-1]
            mask = attention_mask.unsqueeze(-1).to(states.dtype)
            pooled = (states * mask).sum(1) / mask.sum(1).clamp(min=1)
            embedding = torch.nn.functional.normalize(pooled, dim=1)
            return (found.logits, states, embedding) if hasattr(found, "logits") else (states, embedding)

    if task is not None:
        return Graph().eval(), ["logits"]
    body = ["last_hidden_state", "sentence_embedding"]
    return Graph().eval(), (["logits", *body] if model.get_output_embeddings() is not None else body)


def _write(model: Any, file: Path, inputs: list[str], names: list[str]) -> None:
    import logging
    import warnings

    import torch

    from agentft.engine.quiet import quiet_libraries

    rows, tokens = torch.export.Dim("rows", min=1), torch.export.Dim("tokens", min=2)
    # A tensor for each: one that is given twice becomes one input, and the graph mixes them up.
    example = tuple(torch.full((2, 7), value, dtype=torch.int64) for value in (2, 1, 0)[: len(inputs)])
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it names packages that it would know more operators with
    try:
        with quiet_libraries(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                model,
                example,
                str(file),
                dynamo=True,
                verbose=False,
                external_data=False,
                input_names=inputs,
                output_names=names,
                dynamic_shapes={name: {0: rows, 1: tokens} for name in inputs},
            )
    except Exception as error:  # torch raises its own types for what it cannot trace
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise DataError(f"torch cannot export this kind of model to ONNX: {reason[:300]}") from error
