"""Dropout of the model itself, by the names that its configuration gives it."""

from __future__ import annotations

from typing import Any

from agentft.engine.score import bare
from agentft.errors import TrainingError

# What the families call it: on embeddings, hidden states and residuals, attention weights, and in front of a classifier.
FIELDS = (
    "dropout",
    "hidden_dropout",
    "hidden_dropout_prob",
    "attention_dropout",
    "attention_probs_dropout_prob",
    "attn_pdrop",
    "resid_pdrop",
    "resid_dropout",
    "embd_pdrop",
    "embd_dropout",
    "embed_dropout",
    "embedding_dropout",
    "activation_dropout",
    "mlp_dropout",
    "classifier_dropout",
    "classifier_dropout_prob",
    "seq_classif_dropout",
)


def set_dropout(model: Any, rate: float) -> list[str]:
    """Set every dropout of the model (not of an adapter) to ``rate``, in its configuration and in its modules.

    Returns: the fields of the configuration that were set.

    Raises:
        TrainingError: the model has no dropout.
    """
    from torch import nn

    body = bare(model)
    config = body.config.get_text_config()
    # None is the default of classifier_dropout: BERT takes hidden_dropout_prob in its place.
    found = [name for name in FIELDS if hasattr(config, name) and not isinstance(getattr(config, name), bool)]
    for name in found:
        setattr(config, name, rate)
    places = len(found)
    for path, module in body.named_modules():
        if "lora_" in path:
            continue
        if isinstance(module, nn.Dropout):
            module.p, places = rate, places + 1
        for name in FIELDS:  # the attention of many families keeps the number, and hands it to the kernel
            if isinstance(module.__dict__.get(name), float):
                setattr(module, name, rate)
    if not places:
        raise TrainingError(f"dropout: {type(body).__name__} has no dropout that could be set; remove the option")
    return found
