"""Virtual tokens: what prompt tuning and prefix tuning put in front of every row, in the terms of PEFT.

With prompt tuning they are embeddings and take part in the forward pass; with prefix tuning they are keys and values of every
layer. Either way a row sees them as tokens at the positions 0 to P - 1, and its own tokens follow from P on.
"""

from __future__ import annotations

from typing import Any


def virtual_tokens(model: Any) -> int:
    """Number P of virtual tokens that the adapter of ``model`` puts in front of each row; 0 for any other model."""
    config = getattr(model, "active_peft_config", None)
    return int(config.num_virtual_tokens) if config is not None and config.is_prompt_learning else 0


def base_of(model: Any) -> Any:
    """The model below the virtual tokens; any other model as it is."""
    return model.get_base_model() if virtual_tokens(model) else model


def in_hidden_states(model: Any) -> int:
    """How many positions the output of a forward pass has in front of the row's own: P with prompt tuning, else 0."""
    return 0 if _prefix(model) else virtual_tokens(model)


def inputs(model: Any, input_ids: Any, attention_mask: Any) -> dict[str, Any]:
    """Arguments for the model below, with the virtual tokens in front of ``input_ids`` (B, T).

    What PEFT's own ``forward`` hands down; needed where the body is called and not the whole model.
    """
    import torch

    mask = torch.cat((attention_mask.new_ones(len(input_ids), virtual_tokens(model)), attention_mask), dim=1)
    if _prefix(model):
        return {"input_ids": input_ids, "attention_mask": mask, "past_key_values": model.get_prompt(len(input_ids))}
    embedded = model.get_base_model().get_input_embeddings()(input_ids)
    front = model.get_prompt(len(input_ids)).to(embedded.dtype)
    return {"inputs_embeds": torch.cat((front, embedded), dim=1), "attention_mask": mask}


def _prefix(model: Any) -> bool:
    return bool(virtual_tokens(model)) and model.active_peft_config.peft_type.value == "PREFIX_TUNING"
