"""Exports read back with torch: by transformers from a folder or a GGUF file, by PEFT from an adapter."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentft.contracts import Probe
from agentft.render.messages import to_chat, to_tools

if TYPE_CHECKING:
    from agentft.render.task import Task


def language_outputs(model: Any, probe: Probe) -> Any:
    """Log-probabilities (positions, vocabulary) as float32 that a chat model gives at each place of the answer."""
    import torch

    ids = torch.tensor([list(probe.ids[:-1])], device=model.device)
    count = len(probe.ids) - probe.start
    with torch.inference_mode():
        try:
            logits = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False, logits_to_keep=count).logits
        except TypeError:  # a model that always gives all of them
            logits = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits
        return torch.log_softmax(logits[0, -count:].float(), -1).cpu().numpy()


class Language:
    """:func:`language_outputs` probe after probe; what one has in common with the one before it, the persona, is computed once.

    Models whose cache cannot be cut back (sliding windows, states), and virtual tokens, are asked without.
    """

    def __init__(self) -> None:
        self._ids: list[int] = []
        self._cache: Any = None

    def __call__(self, model: Any, probe: Probe) -> Any:
        import torch
        from transformers import DynamicCache

        from agentft.engine.virtual import virtual_tokens

        if virtual_tokens(model):
            return language_outputs(model, probe)
        ids, count = list(probe.ids[:-1]), len(probe.ids) - probe.start
        shared = 0
        if self._cache is not None:
            pairs = zip(self._ids, ids[:-count], strict=False)
            shared = next((place for place, (one, other) in enumerate(pairs) if one != other), min(len(self._ids), len(ids) - count))
        cache = self._cache if shared else DynamicCache(config=model.config.get_text_config())
        if any(type(layer).__name__ != "DynamicLayer" for layer in cache.layers):
            return language_outputs(model, probe)
        if shared and len(self._ids) > shared:
            cache.crop(shared - len(self._ids))  # a negative number of tokens is taken off in every version of transformers
        rest = torch.tensor([ids[shared:]], device=model.device)
        mask = torch.ones((1, len(ids)), dtype=torch.int64, device=model.device)
        with torch.inference_mode():
            logits = model(input_ids=rest, attention_mask=mask, past_key_values=cache, use_cache=True).logits
            self._ids, self._cache = ids, cache
            return torch.log_softmax(logits[0, -count:].float(), -1).cpu().numpy()


def pair_outputs(model: Any, probe: Probe) -> Any:
    """Log-probabilities (positions, vocabulary) of an encoder-decoder at each place of its answer."""
    import torch

    ids, labels = (torch.tensor([list(one)], device=model.device) for one in (probe.ids, probe.target))
    with torch.inference_mode():
        shifted = model.prepare_decoder_input_ids_from_labels(labels)
        logits = model(input_ids=ids, attention_mask=torch.ones_like(ids), decoder_input_ids=shifted, use_cache=False).logits
        return torch.log_softmax(logits[0].float(), -1).cpu().numpy()


def head_outputs(model: Any, task: Task, probe: Probe) -> Any:
    """Raw outputs of a head: (1, classes), (tokens, tags), (2, tokens) for start and end of a span, or (1, 1) for a number."""
    import torch

    from agentft.engine.heads import outputs

    ids, types = (torch.tensor([list(one)], device=model.device) for one in (probe.ids, probe.types))
    with torch.inference_mode():
        values = outputs(model, task, ids, torch.ones_like(ids), types).float().cpu().numpy()
    return as_positions(values, task)


def as_positions(values: Any, task: Task) -> Any:
    """A head's outputs for one row, one position a line; ``values``: (1, C) or (1, tokens, C)."""
    if task.name in ("classify", "regress"):
        return values
    return values[0].T if task.name == "span" else values[0]


def encoder_outputs(model: Any, probe: Probe) -> Any:
    """What an encoder says to each token: logits (tokens, vocabulary) where it has a head, else its last states (tokens, size)."""
    import torch

    ids = torch.tensor([list(probe.ids)], device=model.device)
    with torch.inference_mode():
        found = model(input_ids=ids, attention_mask=torch.ones_like(ids))
        values = found.logits if hasattr(found, "logits") else found.last_hidden_state
        return values[0].float().cpu().numpy()


class TorchReading:
    """An export as a torch model.

    Args:
        name: the program.
        model: in evaluation mode.
        ask: (model, probe) -> outputs.
        tokenizer: with the chat template that was written; None where there are no conversations.
    """

    def __init__(self, name: str, model: Any, ask: Callable[[Any, Probe], Any], tokenizer: Any = None):
        self.name, self._model, self._ask, self._tokenizer = name, model, ask, tokenizer

    def outputs(self, probe: Probe) -> Any:
        return self._ask(self._model, probe)

    def prompt(self, probe: Probe) -> list[int] | None:
        if self._tokenizer is None or probe.example is None:
            return None
        chat, tools = to_chat(probe.example.messages), to_tools(probe.example.tools)
        made = self._tokenizer.apply_chat_template(chat, tools=tools, add_generation_prompt=True, tokenize=True, return_dict=True)
        return [int(token) for token in made["input_ids"]]

    def close(self) -> None:
        self._model = None


def plain_tokenizer(folder: Path) -> Any:
    """The tokenizer as transformers loads it: with the chat template that is there, persona and all."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)


def transformers_reading(kind: str) -> Callable[[Path], TorchReading]:
    """Opens a folder of safetensors with transformers alone; computes in float32, whatever is stored."""

    def opened(folder: Path) -> TorchReading:
        from agentft.engine.models import pretrained
        from agentft.engine.quiet import quiet_libraries

        with quiet_libraries():
            if kind == "model":
                model = pretrained("AutoModelForCausalLM", folder, "float32").eval()
                return TorchReading("transformers", model, Language(), plain_tokenizer(folder))
            if kind == "seq2seq":
                return TorchReading("transformers", pretrained("AutoModelForSeq2SeqLM", folder, "float32").eval(), pair_outputs)
            if kind == "encoder":
                return TorchReading("transformers", _encoder(folder), encoder_outputs)
        return _head(folder)

    return opened


def _head(folder: Path) -> TorchReading:
    import torch

    from agentft.components import ModelRef
    from agentft.engine.heads import HeadModel
    from agentft.engine.profile import Profile

    loaded = HeadModel.load(ModelRef(str(folder), str(folder), "", "folder"), folder, Profile("cpu", threads=torch.get_num_threads()))
    return TorchReading("transformers", loaded.model, lambda model, probe: head_outputs(model, loaded.task, probe))


def _encoder(folder: Path) -> Any:
    import torch

    from agentft.components import ModelRef
    from agentft.contracts import ExportJob
    from agentft.engine.profile import Profile
    from agentft.export.weights import encoder

    job = ExportJob("", "encoder", folder, ModelRef(str(folder), str(folder), "", "folder"))
    return encoder(job, Profile("cpu", threads=torch.get_num_threads()))


def peft_reading(base: str) -> Callable[[Path], TorchReading]:
    """Opens an adapter with PEFT on the model in the folder ``base``."""

    def opened(folder: Path) -> TorchReading:
        from peft import PeftModel

        from agentft.engine.models import pretrained
        from agentft.engine.quiet import quiet_libraries

        with quiet_libraries():
            model = PeftModel.from_pretrained(pretrained("AutoModelForCausalLM", base, "float32"), str(folder)).eval()
            return TorchReading("peft", model, Language(), plain_tokenizer(folder))

    return opened


def gguf_reading(name: str) -> Callable[[Path], TorchReading]:
    """Opens the GGUF file ``name`` with transformers, which undoes the quantisation; it does not read tokenizers of GGUF exactly."""

    def opened(folder: Path) -> TorchReading:
        import io
        from contextlib import redirect_stderr

        import torch
        from transformers import AutoModelForCausalLM

        from agentft.engine.quiet import quiet_libraries

        with quiet_libraries(), redirect_stderr(io.StringIO()):  # its progress bar has no switch
            model: Any = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32)
        return TorchReading("transformers", model.eval(), Language())

    return opened
