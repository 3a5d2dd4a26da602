"""A configuration file of accelerate, checked against a recipe before anything is started.

Names and values are those of the installed accelerate: its own classes and the options of its own launcher.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentft.distributed import problems_with
from agentft.engine.capacity import Kind, Load, Need, need, shape_of
from agentft.errors import Problem, RecipeError, UserError, did_you_mean
from agentft.session import Session
from agentft.yamlio import Document
from agentft.yamlio import load as load_yaml

PRECISIONS = {"no": "float32", "bf16": "bfloat16", "fp16": "float16"}
DISTRIBUTED = ("MULTI_GPU", "FSDP", "DEEPSPEED", "NO", "MULTI_CPU")


@dataclass(frozen=True)
class Plan:
    """What would be started: how the model is held, by how many, the class of the layers that are sharded, bytes for each trainer."""

    kind: str
    processes: int
    layer: str
    layers: int
    needs: tuple[tuple[str, Need], ...]
    notes: tuple[str, ...]


def plan(path: Path, session: Session) -> Plan:
    """Check the file with the recipe, and say what it would do.

    Raises:
        RecipeError: with every problem, as file:line:column.
    """
    document = load_yaml(path)
    found = list(_keys(document))
    if found:
        raise RecipeError(found)
    data = document.data
    kind, world = str(data["distributed_type"]), int(data.get("num_processes", 1))
    found += problems_with(session, world) + list(_fits(document, session))
    sharded = kind == "FSDP" or (kind == "DEEPSPEED" and data.get("deepspeed_config", {}).get("zero_stage", 2) == 3)
    config = json.loads((Path(session.model.path) / "config.json").read_text("utf-8"))
    classes = _classes(session)
    layer = ""
    if kind == "FSDP":
        found += _plugin(document)
        chosen = _option(data, "transformer_layer_cls_to_wrap")
        layer = str(chosen or ", ".join(classes.get("", ())))
        for name in str(chosen).split(",") if chosen else ():
            if name.strip() not in classes:
                at = ("fsdp_config", "fsdp_transformer_layer_cls_to_wrap")
                hint = did_you_mean(name.strip(), [known for known in classes if known.endswith(("Layer", "Block"))])
                found.append(document.problem(at, f"{session.model.reference} has no module of class '{name.strip()}'", hint))
    if found:
        raise RecipeError(found)
    needs: list[tuple[str, Need]] = []
    notes: list[str] = []
    for part in session.parts("trainer", session.recipe.train):
        strategy = getattr(part.config, "strategy", None)
        moves: Kind = "qlora" if getattr(strategy, "qlora", None) else "lora" if getattr(strategy, "adapter", False) else "full"
        micro = getattr(part.config, "micro_batch", None) or 1
        length = session.recipe.data.max_length or config.get("max_position_embeddings", 2048)
        r = getattr(getattr(strategy, "low_rank", None), "r", None) or 16
        recompute = bool(getattr(part.config, "gradient_checkpointing", None)) or _option(data, "activation_checkpointing") is True
        try:
            shape = shape_of(config)
        except UserError as error:
            notes.append(f"no arithmetic: {error}")
            break
        load = Load(rows=micro, length=length)
        needs.append((part.name, need(shape, moves, world, sharded=sharded, load=load, checkpointing=recompute, r=r)))
    if kind == "DEEPSPEED":
        from importlib.util import find_spec

        if find_spec("deepspeed") is None:
            notes.append("deepspeed is not installed here: names and values of the file were checked, nothing more")
    return Plan("shards" if sharded else "copies", world, layer, int(config.get("num_hidden_layers", 0)), tuple(needs), tuple(notes))


def _keys(document: Document) -> Iterator[Problem]:
    """Unknown keys and values that accelerate does not take."""
    from accelerate.commands.config.config_args import ClusterConfig
    from accelerate.commands.launch import launch_command_parser

    data = document.data
    if not isinstance(data, dict) or "distributed_type" not in data:
        yield document.problem((), "this is no configuration of accelerate: it has no 'distributed_type'", "see examples/distributed/")
        return
    known = set(ClusterConfig.__dataclass_fields__) | {"fp16", "dynamo_backend"}
    groups = {group.title: [action.dest for action in group._group_actions] for group in launch_command_parser()._action_groups}
    nested = {"fsdp_config": set(groups["FSDP Arguments"]), "deepspeed_config": set(groups["DeepSpeed Arguments"])}
    for key, value in data.items():
        if key not in known:
            yield document.problem((key,), f"accelerate knows no '{key}'", did_you_mean(key, known), key=True)
        elif key in nested and isinstance(value, dict):
            for name in value:
                if name not in nested[key] and not (key == "fsdp_config" and f"fsdp_{name}" in nested[key]):
                    hint = did_you_mean(name, nested[key])
                    yield document.problem((key, name), f"accelerate knows no '{name}' in {key}", hint, key=True)
    if data["distributed_type"] not in DISTRIBUTED:
        hint = did_you_mean(str(data["distributed_type"]), DISTRIBUTED)
        yield document.problem(("distributed_type",), f"agentft does not start '{data['distributed_type']}'", hint)
    if data.get("mixed_precision", "no") not in PRECISIONS:
        yield document.problem(("mixed_precision",), f"'mixed_precision' must be one of {', '.join(PRECISIONS)}")
    world = data.get("num_processes", 1)
    if isinstance(world, bool) or not isinstance(world, int) or world < 1:
        yield document.problem(("num_processes",), "'num_processes' must be a whole number of at least 1")


def _fits(document: Document, session: Session) -> Iterator[Problem]:
    """What the file and the recipe say differently, or what cannot be sharded."""
    data, recipe = document.data, session.recipe
    shards = data["distributed_type"] in ("FSDP", "DEEPSPEED")
    from agentft.engine.profile import DTYPES

    wanted = DTYPES.get(str(recipe.device.get("train_dtype", "")))
    given = PRECISIONS[data.get("mixed_precision", "no")]
    if wanted and wanted != given:
        yield document.problem(("mixed_precision",), f"the recipe trains in {wanted} (device.train_dtype), and this file in {given}")
    for index, part in enumerate(session.parts("trainer", recipe.train)):
        strategy = getattr(part.config, "strategy", None)
        if shards and (getattr(strategy, "qlora", None) is not None or getattr(strategy, "freeze", None) is not None):
            name = strategy.name if strategy is not None else ""
            hint = "use lora, or examples/distributed/ddp.yaml, where every GPU has a copy"
            yield recipe.problem(("train", index), f"strategy: {name} was not made to be sharded", hint)
        if part.name == "dpo" and shards:
            hint = "its reference is computed with the whole model; use examples/distributed/ddp.yaml"
            yield recipe.problem(("train", index), "dpo does not train in shards", hint)
        if getattr(part.config, "gradient_checkpointing", None) and _option(data, "activation_checkpointing") is True:
            yield document.problem(
                ("fsdp_config", "fsdp_activation_checkpointing"), "the recipe has gradient_checkpointing: true; set one of the two"
            )
    deepspeed = data.get("deepspeed_config") or {}
    if deepspeed.get("zero_stage") == 3 and deepspeed.get("zero3_save_16bit_model") is not True:
        yield document.problem(("deepspeed_config",), "zero_stage 3 without zero3_save_16bit_model: true saves no weights")


def _option(data: Mapping[str, Any], name: str) -> Any:
    """An option of ``fsdp_config``, with or without its prefix."""
    options = data.get("fsdp_config") or {}
    return options.get(f"fsdp_{name}", options.get(name))


def _plugin(document: Document) -> Iterator[Problem]:
    """What accelerate's own plugin says when it is made of these values."""
    from accelerate.utils import FullyShardedDataParallelPlugin

    given: Mapping[str, Any] = document.data.get("fsdp_config") or {}
    values = {(key if key.startswith("fsdp_") else f"fsdp_{key}").upper(): value for key, value in given.items()}
    # As accelerate's launcher hands them over.
    values["FSDP_TRANSFORMER_CLS_TO_WRAP"] = values.pop("FSDP_TRANSFORMER_LAYER_CLS_TO_WRAP", None)
    with _environment({key: str(value) for key, value in values.items() if value is not None}):
        try:
            FullyShardedDataParallelPlugin()
        except (ValueError, KeyError) as error:
            yield document.problem(("fsdp_config",), f"accelerate: {error}")


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    for name in [name for name in os.environ if name.startswith("FSDP_")]:
        del os.environ[name]
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _classes(session: Session) -> dict[str, tuple[str, ...]]:
    """Class names of the model's modules; under the empty name those that the model says must not be split. No weights are read."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(session.model.path))
    return {type(module).__name__: () for module in model.modules()} | {"": tuple(model._no_split_modules or ())}
