"""The strategy ``freeze``: some parameters stay as they are, the rest trains in full."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from agentft.errors import TrainingError
from agentft.train.strategies import FreezeOptions, Strategy
from agentft.train.structure import embedding_names, head_names, layer_of, stacks, tied


def freeze(model: Any, options: FreezeOptions, heads: Sequence[str] = ()) -> None:
    """Let every parameter of ``model`` move but those that ``options`` name; ``heads``: modules of the head, if it is not an output layer.

    Raises:
        TrainingError: more layers than there are, a pattern that fits no parameter, or nothing left to train.
    """
    names = [name for name, _ in model.named_parameters()]
    if options.only == "head":
        frozen = set(names) - head_names(model, heads)
    else:
        frozen = embedding_names(model) if options.with_embeddings else set()
        if options.layers:
            found_in = stacks(model)
            if options.layers > (count := min(count for _, count in found_in)):
                raise TrainingError(f"strategy.freeze.layers: {options.layers} layers are to stay as they are, and the model has {count}")
            frozen |= {name for name in names if (place := layer_of(name, found_in)) and place[0] < options.layers}
        for pattern in options.patterns:
            found = {name for name in names if re.search(pattern, name)}
            if not found:
                raise TrainingError(f"strategy.freeze.patterns: '{pattern}' finds no parameter; a name looks like '{names[-1]}'")
            frozen |= found
    if frozen >= set(names):
        raise TrainingError("strategy.freeze: no parameter is left to train; freeze fewer layers")
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name not in frozen)


def notes(model: Any, strategy: Strategy) -> tuple[str, ...]:
    """What a reader of the report should know about what moved, in sentences."""
    if strategy.freeze is None or not tied(model):
        return ()
    moves = model.get_output_embeddings().weight.requires_grad
    return (
        f"The output layer and the token embeddings are one tensor (tied embeddings): both {'moved' if moves else 'stayed as they were'}.",
    )
