"""Log-probabilities of the supervised tokens of a batch; the one forward pass of training and of scoring.

The output layer is applied only where a label is. For a 135M model with 49,152 tokens it is a fifth of all arithmetic, and
its logits are by far the largest tensor.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from agentft.engine.prefix import common_prefix, prefix_cache, why_not
from agentft.engine.virtual import in_hidden_states, virtual_tokens


def pad(rows: Sequence[Sequence[int]], value: int) -> Any:
    """``rows`` as one int64 tensor of shape (rows, longest), padded on the right with ``value``."""
    import torch

    width = max(len(row) for row in rows)
    return torch.tensor([[*row, *[value] * (width - len(row))] for row in rows])


def token_losses(
    model: Any, input_ids: Any, attention_mask: Any, labels: Any, *, share_prefix: bool = True, smoothing: float = 0.0
) -> tuple[Any, Any]:
    """Negative log-likelihood (natural logarithm) of each supervised token.

    Args:
        model: a causal language model of transformers, or a PEFT model around one.
        input_ids: (B, T), padded on the right.
        attention_mask: (B, T), 0 on padding.
        labels: (B, T), -100 where nothing is learned. ``labels[:, t]`` is predicted at position ``t - 1``.
        share_prefix: run the common prefix of the rows once (see :mod:`agentft.engine.prefix`). Not done with virtual tokens, which
            PEFT puts in front of whatever it is given, the rest of a row too.
        smoothing: label smoothing (Szegedy et al. 2016): with e, the loss is ``(1 - e) * nll + e * mean over the vocabulary of -log p``.

    Returns:
        losses: (N,) float32, N = number of supervised tokens, row by row.
        rows: (N,) int64, the row that each of them belongs to.
    """
    import torch
    import torch.nn.functional as F

    kwargs: dict[str, Any] = {}
    shared = 0
    if share_prefix and len(input_ids) > 1 and not virtual_tokens(model) and not why_not(model):
        lengths = attention_mask.sum(1).tolist()
        ids = [row[:n] for row, n in zip(input_ids.tolist(), lengths, strict=True)]
        shared = common_prefix(ids, [row[:n] for row, n in zip(labels.tolist(), lengths, strict=True)])
    if shared:
        with only_where(model, torch.zeros_like(attention_mask[:1, :shared], dtype=torch.bool)):  # no logits at all
            kwargs["past_key_values"] = prefix_cache(model, input_ids[0, :shared], len(input_ids))
        input_ids, labels = input_ids[:, shared:], labels[:, shared:]
    mask = F.pad(labels[:, 1:], (0, 1), value=-100) != -100
    front = in_hidden_states(model)
    seen = F.pad(mask, (front, 0), value=False)
    with only_where(model, seen):
        outputs = model(input_ids=input_ids, attention_mask=attention_mask, use_cache=bool(shared), **kwargs)
    # (1, N, V), or (B, T, V) for a model whose output layer could not be found
    logits = outputs.logits[0] if outputs.logits.shape[0] == 1 and outputs.logits.shape[1] == int(mask.sum()) else outputs.logits[seen]
    targets = labels[:, 1:][mask[:, :-1]]
    losses = F.cross_entropy(logits.float(), targets.to(logits.device), reduction="none", label_smoothing=smoothing)
    return losses, mask.nonzero()[:, 0]


class only_where:
    """Inside the block, the output layer of ``model`` sees only the positions where ``mask`` (B, T) is true, as (1, N, hidden).

    A hook on the layer's input instead of a forward pass of our own: what a model does with its logits afterwards
    (soft capping, scaling) still happens.
    """

    def __init__(self, model: Any, mask: Any):
        self.head, self.mask = model.get_output_embeddings(), mask

    def __enter__(self) -> None:
        def select(_: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
            return args[0][self.mask.to(args[0].device)][None], *args[1:]

        self.handle = self.head.register_forward_pre_hook(select) if self.head is not None else None

    def __exit__(self, *_: Any) -> None:
        if self.handle is not None:
            self.handle.remove()
