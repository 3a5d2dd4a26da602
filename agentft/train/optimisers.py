"""Optimisers by transformers' names, checked without importing it; and learning rates that differ by layer."""

from __future__ import annotations

import ast
import importlib.util
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentft.errors import TrainingError, did_you_mean

if TYPE_CHECKING:
    from agentft.train.options import LoopOptions

# Our words for transformers' names.
SHORT = {"adamw": "adamw_torch", "lion": "lion_32bit"}
# Pattern over transformers' name -> module that it needs, and how to get it. The first that fits counts.
_NEEDS = (
    (r"^adamw_torch_[48]bit$", "torchao", "torchao"),
    (r"^galore_", "galore_torch", "galore-torch"),
    (r"^apollo_", "apollo_torch", "apollo-torch"),
    (r"lomo$", "lomo_optim", "lomo-optim"),
    (r"^grokadamw$", "grokadamw", "grokadamw"),
    (r"^schedule_free_", "schedulefree", "schedulefree"),
    (r"^stable_adamw$", "optimi", "torch-optimi"),
    (r"8bit|bnb|paged|lion|ademamix", "bitsandbytes", "bitsandbytes"),
)


def full_name(name: str) -> str:
    """Transformers' name of an optimiser."""
    return SHORT.get(name, name)


@cache
def known_names() -> frozenset[str]:
    """All names that the installed transformers knows, read from its source, and our short ones; empty where it is not found."""
    spec = importlib.util.find_spec("transformers")
    file = Path(spec.origin).parent / "training_args.py" if spec and spec.origin else None
    if file is None or not file.is_file():
        return frozenset()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef) and node.name == "OptimizerNames":
            values = [item.value for item in node.body if isinstance(item, ast.Assign)]
            return frozenset(str(value.value) for value in values if isinstance(value, ast.Constant)) | SHORT.keys()
    return frozenset()


def check_name(name: str) -> None:
    """Raise ValueError if ``name`` is unknown, or needs a package that is not installed."""
    known = known_names()
    if known and name not in known:
        raise ValueError(f"unknown optimizer '{name}' ({did_you_mean(name, known)})")
    for pattern, module, package in _NEEDS:
        if re.search(pattern, full_name(name)):
            if importlib.util.find_spec(module) is None:
                raise ValueError(f"optimizer '{name}' needs a package that is not installed: pip install {package}")
            return


def fields_of(options: LoopOptions) -> dict[str, Any]:
    """The fields of transformers' ``TrainingArguments`` that choose the optimiser."""
    fields: dict[str, Any] = {"weight_decay": options.weight_decay}
    if options.optimizer != "adamw":  # left to transformers, which takes the fused AdamW where torch has one: several times as fast
        fields["optim"] = full_name(options.optimizer)
    if options.betas is not None:
        fields |= {"adam_beta1": options.betas[0], "adam_beta2": options.betas[1]}
    return fields | ({} if options.eps is None else {"adam_epsilon": options.eps})


def layered(trainer: Any, options: LoopOptions, model: Any) -> Any:
    """The optimiser of ``trainer`` with a rate per layer (``layer_decay``): the groups of :func:`layer_groups`.

    Raises:
        TrainingError: an optimiser that makes its groups itself.
    """
    assert options.layer_decay is not None
    kind, settings = trainer.get_optimizer_cls_and_kwargs(trainer.args, model)
    if isinstance(settings, Mapping) and {"params", "model", "optimizer_dict"} & set(settings):
        raise TrainingError(f"layer_decay cannot be used with optimizer '{options.optimizer}', which groups the parameters itself")
    decayed = set(trainer.get_decay_parameter_names(model))
    return kind(layer_groups(model, decayed, options.rate, options.weight_decay, options.layer_decay), **settings)


def layer_groups(model: Any, decayed: set[str], rate: float, weight_decay: float, decay: float) -> list[dict[str, Any]]:
    """Parameter groups of an optimiser in which lower layers learn more slowly (Clark et al. 2020, ELECTRA).

    A parameter gets ``rate * decay ** depth``: depth 0 for everything above the layers (head, last norm), 1 for the highest of N
    layers, N for the lowest, N + 1 for the embeddings, and for an output layer that is tied to them. (ELECTRA's code counts one
    more for all but the head.) In an encoder-decoder each side counts its own layers.

    Args:
        decayed: names of the parameters with weight decay.

    Returns: groups with ``params``, ``lr`` and ``weight_decay``, the fastest first; parameters that do not move are left out.
    """
    from agentft.train.structure import embedding_names, layer_of, stacks

    layers = stacks(model)
    highest = max(count for _, count in layers)
    low = embedding_names(model)
    groups: dict[tuple[int, bool], list[Any]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            place = layer_of(name, layers)
            depth = place[1] - place[0] if place else highest + 1 if name in low else 0
            groups.setdefault((depth, name not in decayed), []).append(parameter)
    return [
        {"params": groups[depth, bare], "lr": rate * decay**depth, "weight_decay": 0.0 if bare else weight_decay}
        for depth, bare in sorted(groups)
    ]
