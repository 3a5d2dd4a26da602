"""Losses of heads: one number per row, token or answer. Class weights and the mean over a step are the trainer's business."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import Field

from agentft.contracts import LossContext
from agentft.errors import TrainingError
from agentft.validation import Listed, Model

if TYPE_CHECKING:
    from torch import Tensor


class CrossEntropyOptions(Model):
    """Options of ``loss: cross-entropy``."""

    label_smoothing: float = Field(0.0, ge=0, lt=1, description="share of the target that is spread over all classes")


class FocalOptions(Model):
    """Options of ``loss: focal``."""

    gamma: float = Field(2.0, ge=0, description="how much well-classified rows are turned down; 0: cross-entropy")
    alpha: float | Listed[float] | dict[str, float] | None = Field(
        None,
        description="weight of the classes: one number (several classes a row: of the positive side, the other one has 1 - alpha), a list "
        "in the order of the classes, or a mapping from class to weight (others: 1)",
    )


class HuberOptions(Model):
    """Options of ``loss: huber``."""

    delta: float = Field(1.0, gt=0, description="error from which the loss grows linearly, in standard deviations of the training labels")


def cross_entropy(logits: Tensor, targets: Tensor, config: CrossEntropyOptions | None, ctx: LossContext) -> Tensor:
    """Cross-entropy; with several classes a row the mean of the binary ones.

    With ``label_smoothing`` e the target is ``(1 - e) * one_hot + e / C`` (Szegedy et al. 2016, arXiv:1512.00567), for binary ones
    ``t * (1 - e) + e / 2``.
    """
    import torch.nn.functional as F

    smooth = config.label_smoothing if config else 0.0
    if ctx.multi:
        soft = targets * (1 - smooth) + smooth / 2
        return F.binary_cross_entropy_with_logits(logits, soft, reduction="none").mean(-1)
    return F.cross_entropy(logits, targets, reduction="none", label_smoothing=smooth)


def focal(logits: Tensor, targets: Tensor, config: FocalOptions | None, ctx: LossContext) -> Tensor:
    """Focal loss ``-alpha * (1 - p)^gamma * log p``, p the probability of the target (Lin et al. 2017, arXiv:1708.02002)."""
    import torch
    import torch.nn.functional as F

    options = config or FocalOptions.model_validate({})
    alpha = _alpha(options.alpha, ctx, logits)
    if ctx.multi:
        nll = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
        if isinstance(options.alpha, float):
            weight: Any = options.alpha * targets + (1 - options.alpha) * (1 - targets)
        else:
            weight = 1.0 if alpha is None else alpha
        return (weight * (1 - torch.exp(-nll)) ** options.gamma * nll).mean(-1)
    nll = F.cross_entropy(logits, targets, reduction="none")
    weight = 1.0 if alpha is None else alpha[targets]
    return weight * (1 - torch.exp(-nll)) ** options.gamma * nll


def mse(logits: Tensor, targets: Tensor, config: Any, ctx: LossContext) -> Tensor:
    """Squared error, in squared standard deviations of the training labels where these are standardised."""
    return (logits.squeeze(-1) - targets) ** 2


def mae(logits: Tensor, targets: Tensor, config: Any, ctx: LossContext) -> Tensor:
    """Absolute error."""
    return (logits.squeeze(-1) - targets).abs()


def huber(logits: Tensor, targets: Tensor, config: HuberOptions | None, ctx: LossContext) -> Tensor:
    """``e^2 / 2`` up to ``delta``, ``delta * (|e| - delta / 2)`` beyond (Huber 1964)."""
    import torch.nn.functional as F

    return F.huber_loss(logits.squeeze(-1), targets, reduction="none", delta=(config.delta if config else 1.0))


def class_weights(wanted: str | Mapping[str, float] | None, ctx: LossContext) -> list[float] | None:
    """Weight of each class in the mean, or None.

    ``balanced``: ``rows / (classes * rows of the class)`` (King and Zeng 2001; the same as in scikit-learn). A mapping names the
    weights of some classes; the others have 1.

    Raises:
        TrainingError: a class that there is not, or several classes a row.
    """
    if wanted is None:
        return None
    if ctx.multi:
        raise TrainingError("class_weights are for one class a row; with several use `loss: {use: focal, alpha: 0.75}`")
    if wanted == "balanced":
        total = sum(ctx.counts)
        return [total / (len(ctx.counts) * count) for count in ctx.counts]
    assert not isinstance(wanted, str)
    return [wanted.get(label, 1.0) for label in _known(wanted, ctx)]


def _alpha(alpha: Any, ctx: LossContext, like: Tensor) -> Tensor | None:
    import torch

    if alpha is None:
        return None
    if isinstance(alpha, Mapping):
        values = [alpha.get(label, 1.0) for label in _known(alpha, ctx)]
    else:
        values = [alpha] * like.shape[-1] if isinstance(alpha, float) else list(alpha)
    if len(values) != like.shape[-1]:
        raise TrainingError(f"focal: alpha has {len(values)} numbers for {like.shape[-1]} classes")
    return torch.tensor(values, device=like.device, dtype=like.dtype)


def _known(weights: Mapping[str, float], ctx: LossContext) -> tuple[str, ...]:
    """The classes in order.

    Raises:
        TrainingError: a weight of a class that there is not.
    """
    if unknown := sorted(set(weights) - set(ctx.labels)):
        from agentft.errors import did_you_mean

        raise TrainingError(f"a weight for '{unknown[0]}', which is no class of the training rows ({did_you_mean(unknown[0], ctx.labels)})")
    return tuple(ctx.labels)
