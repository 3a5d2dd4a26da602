"""LoRA layers without the passes over memory that PEFT's make: the adapter's product is added while it is computed.

PEFT computes ``base(x) + B(A(x)) * s`` as four operations, two of which read and write the whole output only to scale and to add, and
autograd does as much again. Here ``B(A(x)) * s`` accumulates into the base product, and its gradient into that of the frozen weight. The
result is that of PEFT, to rounding (``tests/train/test_lora.py``).
"""

from __future__ import annotations

from functools import cache
from typing import Any


def fuse(model: Any) -> int:
    """Let the plain LoRA layers of ``model`` compute as above from now on; their weights stay where they are.

    A layer is left to PEFT where it is more than ``W x + s B A x``: dropout, DoRA, a bias of its own, several adapters, quantised or
    transposed weights.

    Returns: number of layers that were changed.
    """
    from peft.tuners.lora.layer import Linear

    layers: list[Any] = [module for module in model.modules() if type(module) is Linear and _plain(module)]
    for layer in layers:
        layer.forward = _forward(layer)
    return len(layers)


def _plain(layer: Any) -> bool:
    import torch

    if type(layer.base_layer) is not torch.nn.Linear or len(layer.lora_A) != 1 or layer.fan_in_fan_out or layer.merged:
        return False
    (name,) = layer.lora_A
    modules = (layer.lora_A[name], layer.lora_B[name])
    linear = all(type(module) is torch.nn.Linear and module.bias is None for module in modules)
    return linear and name not in layer.lora_variant and isinstance(layer.lora_dropout[name], torch.nn.Identity)


def _forward(layer: Any) -> Any:
    plain = layer.forward
    (name,) = layer.lora_A

    def forward(x: Any, *args: Any, **kwargs: Any) -> Any:
        import torch

        if args or kwargs or layer.disable_adapters or layer.merged or list(layer.active_adapters) != [name]:
            return plain(x, *args, **kwargs)
        kind = x.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
        base, down, up = layer.base_layer, layer.lora_A[name].weight, layer.lora_B[name].weight
        bias = None if base.bias is None else base.bias.to(dtype)
        # The casts are operations of autograd: gradients come back in the parameters' own dtype.
        return _function().apply(x.to(dtype), base.weight.to(dtype), bias, down.to(dtype), up.to(dtype), layer.scaling[name])

    return forward


@cache
def _function() -> Any:
    import torch
    from torch.autograd.function import once_differentiable

    class Fused(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any, weight: Any, bias: Any, down: Any, up: Any, scale: float) -> Any:
            with torch.autocast(x.device.type, enabled=False):
                rows = x.reshape(-1, x.shape[-1])
                low = rows @ down.t()
                out = rows @ weight.t() if bias is None else torch.addmm(bias, rows, weight.t())
                out.addmm_(low, up.t(), alpha=scale)
            ctx.save_for_backward(rows, weight, down, up, low)
            ctx.scale, ctx.shape = scale, x.shape
            return out.view(*x.shape[:-1], -1)

        @staticmethod
        @once_differentiable
        def backward(ctx: Any, *grads: Any) -> Any:
            rows, weight, down, up, low = ctx.saved_tensors
            wanted = ctx.needs_input_grad
            with torch.autocast(rows.device.type, enabled=False):
                grad = grads[0].reshape(-1, grads[0].shape[-1])
                through = (grad @ up).mul_(ctx.scale)
                below = None
                if wanted[0]:
                    below = (grad @ weight).addmm_(through, down).view(ctx.shape)
                first = through.t() @ rows if wanted[3] else None
                second = (grad.t() @ low).mul_(ctx.scale) if wanted[4] else None
                frozen = grad.t() @ rows if wanted[1] else None
                offset = grad.sum(0) if wanted[2] else None
            return below, frozen, offset, first, second, None

    return Fused
