"""A model with a head: how it is loaded, what its outputs mean, and how it predicts labels."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentft.components import ModelRef
from agentft.engine.profile import Profile
from agentft.engine.score import bare, unwrapped
from agentft.engine.virtual import in_hidden_states, inputs, virtual_tokens
from agentft.errors import DataError
from agentft.labelled import Labelled, Prediction
from agentft.render.heads import HeadEncoder, Window
from agentft.render.task import Task

_CLASSES = {
    "classify": "AutoModelForSequenceClassification",
    "regress": "AutoModelForSequenceClassification",
    "tag": "AutoModelForTokenClassification",
    "span": "AutoModelForQuestionAnswering",
}
ANSWER_TOKENS = 40  # the longest answer that is looked for
CANDIDATES = 20  # best starts and best ends that are combined
BATCH_TOKENS = 8192


def load_head(path: str, task: Task, profile: Profile, dtype: str, pad_token_id: int, reference: str = "", **further: Any) -> Any:
    """The model at ``path`` with a head for ``task``; the head is drawn where the folder has none of this shape.

    Raises:
        DataError: transformers has no such head for this kind of model, or cannot load it.
    """
    from agentft.engine.models import pretrained
    from agentft.engine.quiet import quiet_libraries

    with quiet_libraries():
        names = {index: label for index, label in enumerate(task.labels)} or {index: str(index) for index in range(task.outputs)}
        shape: dict[str, Any] = (
            {} if task.name == "span" else {"id2label": names, "label2id": {label: index for index, label in names.items()}}
        )
        if task.name in ("classify", "regress"):
            kinds = {"regress": "regression", "classify": "multi_label_classification" if task.multi else "single_label_classification"}
            shape["problem_type"] = kinds[task.name]
        try:
            model = pretrained(
                _CLASSES[task.name],
                path,
                dtype,
                attn_implementation=profile.attention,
                ignore_mismatched_sizes=True,
                **shape,
                **further,
            )
        except (ValueError, OSError, ImportError) as error:
            raise DataError(f"model {reference or path} cannot have a head for '{task.name}': {str(error).splitlines()[0]}") from error
    model.config.get_text_config().pad_token_id = pad_token_id
    return model


def head_modules(model: Any) -> list[str]:
    """Names of the parts that are not the body: what is drawn anew for a task."""
    return [name for name, part in model.named_children() if name != model.base_model_prefix and any(True for _ in part.parameters())]


def is_causal(path: str) -> bool:
    """Whether the model at ``path`` reads from left to right, by its kind; only ``config.json`` is read."""
    return family(path) == "causal"


def family(path: str) -> str:
    """``causal``, ``encoder`` or ``seq2seq`` (an encoder-decoder), by the kind of the model at ``path``; empty: not known."""
    import json

    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as CAUSAL
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES as MASKED

    config = json.loads((Path(path) / "config.json").read_text("utf-8"))
    kind = config.get("model_type", "")
    if config.get("is_encoder_decoder"):
        return "seq2seq"
    # BERT and its kin can be built as decoders too; as they come they read both ways.
    return "encoder" if kind in MASKED else "causal" if kind in CAUSAL else ""


def readable_length(path: str, tokenizer: Any, wanted: int, options: Any = None) -> int:
    """``wanted``, or the tokens of a row that the model at ``path`` can read if these are fewer.

    Virtual tokens that a trainer's ``options`` put in front of each row take their share of the model's positions.

    Raises:
        DataError: they leave no room.
    """
    import json

    limit = json.loads((Path(path) / "config.json").read_text("utf-8")).get("max_position_embeddings")
    # RoBERTa's positions begin behind the padding token: the tokenizer knows how many are left.
    readable = min(int(limit), tokenizer.model_max_length) if limit else tokenizer.model_max_length
    strategy = getattr(options, "strategy", None)
    virtual = strategy.virtual if strategy is not None else 0
    if virtual >= readable:
        raise DataError(f"strategy: {virtual} virtual tokens leave no room for a text in the {readable} tokens that the model can read")
    return min(wanted, readable - virtual)


def outputs(model: Any, task: Task, input_ids: Any, attention_mask: Any, types: Any) -> Any:
    """The head's outputs: (B, C) for classes and numbers, (B, L, C) for tags, (B, L, 2) for spans (start, end).

    Classes of a causal model are read at the last real token of each row. With pad == eos the model would look for it in
    the wrong place, so it is found by the mask.
    """
    import torch

    known: dict[str, Any] = {"input_ids": input_ids, "attention_mask": attention_mask}
    if _reads_types(bare(model).__class__):
        known["token_type_ids"] = types
    if task.name in ("classify", "regress"):
        if not task.causal:
            return model(**known).logits
        return at_last_token(model, **known)
    found = model(**known)
    values = found.logits if task.name == "tag" else torch.stack((found.start_logits, found.end_logits), -1)
    return values[:, -input_ids.shape[1] :]  # virtual tokens of prompt tuning stand in front


def at_last_token(model: Any, input_ids: Any, attention_mask: Any, **known: Any) -> Any:
    """What the head of a causal model gives for the last real token of each row, (B, C)."""
    import torch

    inner, body = unwrapped(model), bare(model)
    rows, last = torch.arange(len(input_ids), device=input_ids.device), in_hidden_states(inner) + attention_mask.sum(1) - 1
    if not virtual_tokens(inner):
        return at_every_token(model, input_ids=input_ids, attention_mask=attention_mask, **known)[rows, last]
    hidden = getattr(body, body.base_model_prefix)(**inputs(inner, input_ids, attention_mask), use_cache=False).last_hidden_state
    # Outside of the model's own forward nothing casts for a head in float32 on a body in bfloat16. Of it PEFT uses its copy, the last.
    *_, weight = body.score.parameters()
    return body.score(hidden[rows, last].to(weight.dtype))


def at_every_token(model: Any, **given: Any) -> Any:
    """What the head of a causal model gives for every token, (B, T, C).

    The whole model is called: its wrapper brings mixed precision, and several processes together.
    """
    found: list[Any] = []
    handle = bare(model).score.register_forward_hook(lambda _module, _given, output: found.append(output))
    try:
        model(**given, use_cache=False)
    finally:
        handle.remove()
    return found[0]


@functools.cache
def _reads_types(kind: Any) -> bool:
    import inspect

    return "token_type_ids" in inspect.signature(kind.forward).parameters


@dataclass
class HeadModel:
    """A trained model with a head, ready to predict.

    Attributes:
        model: in evaluation mode, on the profile's device.
        tokenizer, task, profile: what it was trained with, and how it runs.
    """

    model: Any
    tokenizer: Any
    task: Task
    profile: Profile

    @classmethod
    def load(cls, base: ModelRef, trained: Path, profile: Profile) -> HeadModel:
        """What ``use: classify``, ``regress``, ``tag`` or ``span`` left in ``trained``: a full model, or an adapter for ``base``."""
        from agentft.engine.models import load_tokenizer

        profile.apply()
        task, adapter = Task.load(trained), (trained / "adapter_config.json").is_file()
        tokenizer = load_tokenizer(base)
        model = load_head(
            base.path if adapter else str(trained), task, profile, profile.decode_dtype, tokenizer.pad_token_id, base.reference
        )
        if adapter:
            from peft import PeftModel

            model = PeftModel.from_pretrained(model, str(trained))
        return cls(model.eval().to(profile.device), tokenizer, task, profile)

    def predict(self, rows: Sequence[Labelled], on_batch: Callable[[Sequence[Prediction]], None] | None = None) -> list[Prediction]:
        """A prediction per row, in their order. A row that cannot be read has an ``error``; the others go on."""
        encoder = HeadEncoder(self.tokenizer, self.task)
        windows: list[tuple[int, Window]] = []
        found: dict[int, Prediction] = {}
        open_windows: list[int] = []
        for index, row in enumerate(rows):
            try:
                read = encoder.windows(row)
            except (DataError, KeyError) as error:
                found[index], read = Prediction(row, error=str(error)), []
            windows += [(index, window) for window in read]
            open_windows.append(len(read))
        windows.sort(key=lambda item: (len(item[1].input_ids), item[0]))
        parts: dict[int, list[tuple[Window, Any]]] = {}
        for batch in _batches(windows):
            fresh = []
            for (index, window), values in zip(batch, self._outputs([window for _, window in batch]), strict=True):
                parts.setdefault(index, []).append((window, values))
                if len(parts[index]) == open_windows[index]:
                    found[index] = self._read(rows[index], parts.pop(index))
                    fresh.append(found[index])
            if on_batch is not None and fresh:
                on_batch(fresh)
        return [found[index] for index in range(len(rows))]

    def _outputs(self, batch: Sequence[Window]) -> list[Any]:
        """Outputs of each window as a float32 array, without padding."""
        import torch

        from agentft.engine.score import pad

        device = self.profile.device
        ids = pad([window.input_ids for window in batch], self.tokenizer.pad_token_id).to(device)
        mask = pad([[1] * len(window.input_ids) for window in batch], 0).to(device)
        types = pad([window.types for window in batch], 0).to(device)
        with torch.inference_mode():
            values = outputs(self.model, self.task, ids, mask, types).float().cpu().numpy()
        if values.ndim == 2:
            return list(values)
        return [one[: len(window.input_ids)] for one, window in zip(values, batch, strict=True)]

    def _read(self, row: Labelled, parts: list[tuple[Window, Any]]) -> Prediction:
        """Outputs of all windows of a row as one prediction."""
        task = self.task
        if task.name == "regress":
            value = float(parts[0][1][0]) * task.scale + task.mean
            return Prediction(row, value, {"value": value})
        if task.name == "classify":
            return classes(row, task, parts[0][1])
        if task.name == "tag":
            tags = ["O"] * len(row.inputs["tokens"])
            for window, values in parts:
                for word, scores in zip(window.words, values, strict=True):
                    if word >= 0:
                        tags[word] = task.labels[int(scores.argmax())]
            return Prediction(row, tags)
        return best_span(row, task, parts)


def classes(row: Labelled, task: Task, logits: Any) -> Prediction:
    """Probabilities of the classes: softmax, or with several classes a row one sigmoid each, with 0.5 as the threshold."""
    import numpy as np

    if task.multi:
        chances = 1 / (1 + np.exp(-logits))
        label: Any = [name for name, chance in zip(task.labels, chances, strict=True) if chance >= 0.5]
    else:
        powers = np.exp(logits - logits.max())
        chances = powers / powers.sum()
        label = task.labels[int(chances.argmax())]
    return Prediction(row, label, {name: float(chance) for name, chance in zip(task.labels, chances, strict=True)})


def best_span(row: Labelled, task: Task, parts: list[tuple[Window, Any]]) -> Prediction:
    """The best start and end over all windows (Devlin et al. 2019, section 4.2 and 4.3).

    "No answer" wins where its score, the smallest over the windows, is above that of the best span; only in tasks where some
    training row has no answer.
    """
    context, best, nothing = row.inputs["context"], (-math.inf, 0, 0), math.inf
    for window, values in parts:
        nothing = min(nothing, float(values[window.null].sum()))
        places = [token for token, place in enumerate(window.offsets) if place is not None]
        starts = sorted(places, key=lambda token: -values[token, 0])[:CANDIDATES]
        ends = sorted(places, key=lambda token: -values[token, 1])[:CANDIDATES]
        for first in starts:
            for last in ends:
                score = float(values[first, 0] + values[last, 1])
                if first <= last < first + ANSWER_TOKENS and score > best[0]:
                    best = (score, window.offsets[first][0], window.offsets[last][1])  # type: ignore[index]
    score, start, end = best
    if start == end or (task.nullable and nothing > score):
        return Prediction(row, [])
    return Prediction(row, [{"text": context[start:end], "start": start}])


def _batches(windows: Sequence[tuple[int, Window]]) -> Iterator[list[tuple[int, Window]]]:
    """Windows, shortest first, in batches of up to ``BATCH_TOKENS`` tokens with padding."""
    batch: list[tuple[int, Window]] = []
    for item in windows:
        if batch and (len(batch) + 1) * len(item[1].input_ids) > BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(item)
    if batch:
        yield batch


def as_record(data: Mapping[str, Any], row: Labelled) -> Prediction:
    """A prediction as it was written down (:meth:`Prediction.to_dict`), with its row."""
    return Prediction(row, data.get("label"), data.get("scores") or {}, data.get("error", ""))
