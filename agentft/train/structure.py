"""The parts of a model, found by its structure and not by the names of one family: layers, embeddings, head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from agentft.engine.score import bare
from agentft.errors import TrainingError


def stacks(model: Any) -> list[tuple[str, int]]:
    """Names of the stacks of transformer layers inside ``model``, and how many layers each has.

    There is one, or two in an encoder-decoder: the encoder's and the decoder's. A stack is the longest ``ModuleList`` that is not inside
    of another one (the experts of a layer are).

    Raises:
        TrainingError: there is none.
    """
    from torch import nn

    lists = [(name, len(module)) for name, module in model.named_modules() if isinstance(module, nn.ModuleList)]
    outer = [(name, count) for name, count in lists if not any(name.startswith(f"{other}.") for other, _ in lists)]
    if not outer:
        raise TrainingError(f"{type(model).__name__} has no list of layers, so `layers` and `layer_decay` cannot be used with it")
    names = {module: name for name, module in model.named_modules()}
    within = [f"{names[side]}." for side in sides(model)] or [""]
    return [max((item for item in outer if item[0].startswith(start)), key=lambda item: item[1]) for start in within]


def sides(model: Any) -> tuple[Any, ...]:
    """Encoder and decoder of an encoder-decoder; nothing for any other model."""
    body = bare(model)
    return (body.get_encoder(), body.get_decoder()) if getattr(body.config, "is_encoder_decoder", False) else ()


def layer_of(name: str, found: Sequence[tuple[str, int]]) -> tuple[int, int] | None:
    """Number of the layer, from the bottom, that the parameter ``name`` belongs to, and how many layers its stack has.

    ``found`` is what :func:`stacks` found; None for a parameter outside of them.
    """
    for layers, count in found:
        number = name[len(layers) + 1 :].split(".")[0]
        if name.startswith(f"{layers}.") and number.isdigit():
            return int(number), count
    return None


def embedding_names(model: Any) -> set[str]:
    """Names of the parameters that turn tokens (and their positions) into the first layer's input.

    Where the token embeddings share a module with others that are no layers (BERT: positions, types, a norm), all of it. In an
    encoder-decoder those of both sides.
    """
    from torch import nn

    body = bare(model)
    token = body.get_input_embeddings()
    modules = dict(body.named_modules())
    name = next(key for key, module in modules.items() if module is token)
    parent = name.rpartition(".")[0]
    if parent and not any(isinstance(child, nn.ModuleList) for child in modules[parent].modules()):
        found = {id(parameter) for parameter in modules[parent].parameters()}
    else:
        siblings = [child for child in modules[parent].children() if isinstance(child, nn.Embedding)]
        siblings += [child for side in sides(model) for name, child in side.named_children() if "embed" in name]
        found = {id(parameter) for child in [token, *siblings] for parameter in child.parameters()}
    return {key for key, parameter in model.named_parameters() if id(parameter) in found}


def head_names(model: Any, heads: Sequence[str]) -> set[str]:
    """Names of the parameters of the modules ``heads``; without any, of the output layer of a language model.

    Raises:
        TrainingError: there is no such module.
    """
    wanted = set(heads)
    if wanted:
        found = {name for name, _ in model.named_parameters() if wanted & set(name.split("."))}
    else:
        output = bare(model).get_output_embeddings()
        mine = {id(parameter) for parameter in output.parameters()} if output is not None else set()
        found = {name for name, parameter in model.named_parameters() if id(parameter) in mine}
    if not found:
        raise TrainingError(f"{type(model).__name__} has no head" + (f" called {' or '.join(heads)}" if heads else "") + " to train")
    return found


def tied(model: Any) -> bool:
    """Whether the output layer and the token embeddings are one tensor."""
    body = bare(model)
    output = body.get_output_embeddings()
    return output is not None and output.weight is body.get_input_embeddings().weight


def causal(model: Any) -> bool:
    """Whether a position sees only those before it, by what the attention modules say of themselves."""
    return any(getattr(module, "is_causal", False) is True for module in model.modules())
