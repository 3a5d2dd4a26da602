"""What training changed, token by token: log-probabilities of the same answer under two models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from agentft.records import Example

if TYPE_CHECKING:
    from agentft.engine.agent import LoadedAgent


def token_logprobs(agent: LoadedAgent, examples: Sequence[Example]) -> list[list[tuple[str, float]]]:
    """For each example, the tokens of its last answer as text, each with its log-probability (natural logarithm).

    Rendered as in training, the stop token included. Two agents with the same tokenizer and persona give the same
    tokens, so that their figures can be subtracted.
    """
    import torch

    from agentft.engine.score import pad, token_losses

    found = []
    for example in examples:
        row = agent.renderer.training(example)[-1]
        tensors = [pad([row.input_ids], agent.tokenizer.pad_token_id), pad([[1] * len(row.input_ids)], 0), pad([row.labels], -100)]
        with torch.inference_mode():
            losses, _ = token_losses(agent.model, *(tensor.to(agent.model.device) for tensor in tensors))
        supervised = [token for token, label in zip(row.input_ids, row.labels, strict=True) if label != -100]
        texts = [agent.tokenizer.decode([token], skip_special_tokens=False, clean_up_tokenization_spaces=False) for token in supervised]
        found.append([(text, -loss) for text, loss in zip(texts, losses.tolist(), strict=True)])
    return found
