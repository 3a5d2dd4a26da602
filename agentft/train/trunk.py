"""The frozen trunk, computed once: with the lowest layers frozen, what enters the first layer that moves never changes.

The hidden states behind the frozen layers are computed for every row before the first step, kept in a file that is mapped into
memory, and put in the place of these layers from then on. A step costs only the layers that move: E epochs cost ``L + 3 E (L - k)`` layer
passes instead of ``E (L + 2 (L - k))``, for k frozen layers of L; next to nothing for a head on a frozen encoder.

Losses and gradients are those without the cache, to the rounding of the dtype in which the states are kept (that of training). Frozen
layers run without dropout, with the cache and without it, because a state that is drawn anew cannot be kept.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from agentft.engine.digest import write_json
from agentft.engine.score import bare
from agentft.errors import TrainingError
from agentft.train.structure import embedding_names, layer_of, stacks

LARGEST = 20e9  # bytes that are taken without being asked
BATCH_TOKENS = 4096
FOLDER = "trunk"


def frozen_layers(model: Any) -> list[Any]:
    """The lowest layers that do not move; empty where the embeddings below them do."""
    parameters = dict(model.named_parameters())
    if any(parameters[name].requires_grad for name in embedding_names(model)):
        return []
    still = []
    for stack in stacks(model):
        name, count = stack
        moving = [layer_of(key, [stack]) for key, value in parameters.items() if value.requires_grad]
        still += list(model.get_submodule(name))[: min((place[0] for place in moving if place), default=count)]
    return still


def hold_still(model: Any) -> list[Any]:
    """Keep frozen layers, and the embeddings below them, in evaluation mode whatever mode the model is in; returns the layers."""
    layers = frozen_layers(model)
    if layers:
        low = {name.rpartition(".")[0] for name in embedding_names(model)}
        # BERT's dropout stands beside the embeddings, in a module of its own with them.
        parents = {name.rpartition(".")[0] for name in low} - {""}
        modules = dict(model.named_modules())
        below = [
            modules[name] for name in parents | low if name in modules and not any(layer in modules[name].modules() for layer in layers)
        ]
        for module in (*layers, *below):
            module.register_forward_pre_hook(_to_evaluation)
    return layers


def _to_evaluation(module: Any, inputs: Any) -> None:
    if module.training:
        module.eval()


class _Reached(Exception):
    """The last frozen layer has been run; nothing above it is needed."""


class Trunk:
    """Hidden states of all rows behind the frozen layers.

    Args:
        trainer: with ``train_dataset``, ``eval_dataset``, ``data_collator`` and ``compute_loss``; its batches hold ``row``.
        layers: the frozen layers, lowest first.
        lengths: tokens of each training and of each validation row.
        folder: for the files; what a killed process left complete there is taken over.
        dtype: ``bfloat16`` or ``float32``.
    """

    def __init__(self, trainer: Any, layers: Sequence[Any], lengths: dict[bool, Sequence[int]], folder: Path, dtype: str):
        self.trainer, self.layers, self.lengths, self.folder, self.dtype = trainer, list(layers), lengths, folder, dtype
        config = bare(trainer.model).config.get_text_config()
        self.width = int(config.hidden_size)
        self.states: dict[bool, Any] = {}
        self.starts: dict[bool, list[int]] = {}
        self.rows: Sequence[int] = ()
        self.part = True
        self._tuple = False

    @property
    def size(self) -> int:
        """Bytes of the files."""
        return sum(map(sum, self.lengths.values())) * self.width * (2 if self.dtype == "bfloat16" else 4)

    def use(self, rows: Sequence[int], training: bool) -> None:
        """The next forward pass is of these rows, of the training or of the validation part."""
        self.rows, self.part = rows, training

    def fill(self, progress: Callable[[int, int], None] | None = None) -> None:
        """Compute every state once, in the trainer's own forward pass, and write it."""
        total = sum(map(len, self.lengths.values()))
        done = 0
        mark = self.folder / "trunk.json"
        facts = {
            "lengths": [sum(self.lengths[part]) for part in sorted(self.lengths)],
            "width": self.width,
            "dtype": self.dtype,
            "tuple": False,
        }
        if mark.is_file() and {**(known := json.loads(mark.read_text("utf-8"))), "tuple": False} == facts:
            self._tuple = known["tuple"]
            for part in self.lengths:
                self._map(part, "r")
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        for part, lengths in self.lengths.items():
            self._map(part, "w+")
            for batch in _batches(lengths):
                for row, state in zip(batch, self._run(part, batch), strict=True):
                    start = self.starts[part][row]
                    self.states[part][start : start + lengths[row]] = state[: lengths[row]]
                done += len(batch)
                if progress is not None:
                    progress(done, total)
            self.states[part].flush()
        write_json(mark, facts | {"tuple": self._tuple})

    def install(self) -> None:
        """Put the states in the place of the layers."""
        for layer in self.layers[:-1]:
            layer.forward = self._pass
        self.layers[-1].forward = self._inject

    def remove(self) -> None:
        """The layers are themselves again, and the files are gone."""
        for layer in self.layers:
            layer.__dict__.pop("forward", None)
        self.states.clear()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _map(self, part: bool, mode: Any) -> None:
        import numpy as np

        lengths = self.lengths[part]
        starts = [0]
        for length in lengths:
            starts.append(starts[-1] + length)
        self.starts[part] = starts
        # numpy has no bfloat16: the bits are kept as 16-bit integers.
        kind = np.uint16 if self.dtype == "bfloat16" else np.float32
        self.states[part] = np.memmap(self.folder / f"{'train' if part else 'validation'}.bin", kind, mode, shape=(starts[-1], self.width))

    def _run(self, part: bool, batch: Sequence[int]) -> Any:
        """States of a batch as an array (B, L, H) of the kind that is kept."""
        import torch

        trainer, caught = self.trainer, []
        dataset = trainer.train_dataset if part else trainer.eval_dataset
        inputs = trainer._prepare_inputs(trainer.data_collator([dataset[row] for row in batch]))

        def stop(module: Any, given: Any, output: Any) -> None:
            self._tuple = isinstance(output, tuple)
            caught.append(output[0] if self._tuple else output)
            raise _Reached

        handle = self.layers[-1].register_forward_hook(stop)
        try:
            with torch.no_grad(), trainer.compute_loss_context_manager():
                trainer.compute_loss(trainer.model.eval(), inputs)
        except _Reached:
            pass
        finally:
            handle.remove()
        state = caught[0].to("cpu", getattr(torch, self.dtype)).contiguous()
        return (state.view(torch.uint16) if self.dtype == "bfloat16" else state).numpy()

    def _pass(self, hidden_states: Any, *args: Any, **kwargs: Any) -> Any:
        return (hidden_states,) if self._tuple else hidden_states

    def _inject(self, hidden_states: Any, *args: Any, **kwargs: Any) -> Any:
        import numpy as np
        import torch

        lengths, starts, states = self.lengths[self.part], self.starts[self.part], self.states[self.part]
        padded = np.zeros(hidden_states.shape, states.dtype)
        for place, row in enumerate(self.rows):
            padded[place, : lengths[row]] = states[starts[row] : starts[row] + lengths[row]]
        found = torch.from_numpy(padded)
        if self.dtype == "bfloat16":
            found = found.view(torch.bfloat16)
        found = found.to(hidden_states.device, hidden_states.dtype)
        return (found,) if self._tuple else found


def _batches(lengths: Sequence[int]) -> list[list[int]]:
    """Rows in order of length, in batches of up to ``BATCH_TOKENS`` with padding."""
    order = sorted(range(len(lengths)), key=lambda row: lengths[row])
    batches: list[list[int]] = []
    for row in order:
        if not batches or (len(batches[-1]) + 1) * lengths[row] > BATCH_TOKENS:
            batches.append([])
        batches[-1].append(row)
    return batches


def why_not(trainer: Any, layers: Sequence[Any], size: int, folder: Path, epochs: float) -> str:
    """Reason not to keep the states, or an empty string."""
    if not layers:
        return "no layer at the bottom of the model is frozen together with the embeddings"
    if reason := getattr(trainer, "rows_change", ""):
        return str(reason)
    if trainer.accelerator.num_processes > 1:
        return "several processes train"
    if trainer.args.gradient_checkpointing:
        return "gradient checkpointing is on"
    if epochs <= 1:
        return "with one epoch every state is used once"
    if getattr(bare(trainer.model).config, "is_encoder_decoder", False):
        return "the model has two stacks of layers"
    if size > LARGEST:
        return f"it would take {size / 1e9:.1f} GB, more than {LARGEST / 1e9:.0f}"
    free = shutil.disk_usage(folder).free
    if 2 * size > free:
        return f"it would take {size / 1e9:.2f} GB, and {free / 1e9:.2f} GB are free on the disk"
    return ""


def prepare(
    trainer: Any,
    wanted: str,
    lengths: dict[bool, Sequence[int]],
    out: Path,
    dtype: str,
    epochs: float,
    progress: Callable[[int, int], None] | None = None,
    tell: Callable[[str], None] | None = None,
) -> tuple[Trunk | None, str]:
    """Hold frozen layers still, and keep their states if that is possible and worth it.

    Args:
        wanted: ``auto``, ``on`` or ``off``.
        tell: told how much disk it takes, before it begins.

    Returns: the trunk, filled and installed, or None; and a sentence for the report.

    Raises:
        TrainingError: ``on``, and it is not possible.
    """
    layers = hold_still(trainer.model)
    trunk = Trunk(trainer, layers, lengths, out / FOLDER, "bfloat16" if dtype == "bfloat16" else "float32")
    if wanted == "off":
        return None, ""
    if reason := why_not(trainer, layers, trunk.size, out, epochs):
        if wanted == "on":
            raise TrainingError(f"strategy.freeze.cache: the frozen layers cannot be computed once: {reason}; write `cache: auto`")
        return None, f"Frozen layers are computed in every step: {reason}."
    if tell is not None:
        tell(f"frozen trunk: what {len(layers)} layers give is kept for {trunk.size / 1e6:.0f} MB on disk while training runs")
    started = time.perf_counter()
    trainer.trunk = trunk  # from here on it runs whole rows: with a shared prefix a layer sees a row in two parts
    trunk.fill(progress)
    trunk.install()
    seconds = f"{time.perf_counter() - started:.0f} s, {trunk.size / 1e6:.0f} MB as {trunk.dtype}"
    return trunk, f"The {len(layers)} frozen layers were computed once ({seconds}) and not in every step."
