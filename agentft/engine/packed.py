"""Weights in the order in which the processor multiplies them, for as long as a generation runs.

On CPUs, torch multiplies float32 through a library that reorders the weights anew in every call, which is a large part of the work where
rows are few, as in decoding. oneDNN, which comes with torch, can keep the reordered weights; torch's own compiler uses it like that. The
products are the same sums, to rounding. And a row's sums do not depend on how many rows there are, nor does its answer.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Packed:
    """Reordered copies of the weights of ``model``'s linear layers, made when first needed and again when a weight has changed."""

    def __init__(self, model: Any):
        self.model = model
        self._copies: dict[Any, tuple[tuple[int, int], Any]] = {}

    @contextmanager
    def used(self, worth: bool = True) -> Iterator[None]:
        """Within, the linear layers multiply with the copies. Without copies yet, they are made only if it is ``worth`` it."""
        import torch

        layers: list[Any] = [layer for layer in self.model.modules() if type(layer) is torch.nn.Linear and _fits(layer)]
        if not layers or (not self._copies and not (worth and _room(layers))):
            yield
            return
        for layer in layers:
            stamp = (layer.weight.data_ptr(), _version(layer.weight))
            if layer not in self._copies or self._copies[layer][0] != stamp:
                self._copies[layer] = (stamp, torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach(), 64))
            layer.forward = _forward(self._copies[layer][1], layer.bias)
        try:
            yield
        finally:
            for layer in layers:
                del layer.forward  # the method of the class is seen again


def _forward(weight: Any, bias: Any) -> Any:
    import torch

    multiply = torch.ops.mkldnn._linear_pointwise.default

    def forward(x: Any) -> Any:
        return multiply(x, weight, bias, "none", [], "")

    return forward


def _fits(layer: Any) -> bool:
    import torch

    weight = layer.weight
    return bool(
        platform.machine() in ("x86_64", "AMD64")  # where it was found to be faster
        and weight.device.type == "cpu"
        and weight.dtype == torch.float32
        and "forward" not in vars(layer)
        and torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )


def _version(weight: Any) -> int:
    return -1 if weight.is_inference() else int(weight._version)


def _room(layers: Any) -> bool:
    """Whether the copies take no more than half of the memory that is free."""
    from agentft.engine.memory import available

    return sum(layer.weight.numel() * 4 for layer in layers) <= available("cpu") / 2
