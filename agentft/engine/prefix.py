"""What all prompts of an agent begin with, for generation: its keys and values are computed once (:mod:`agentft.engine.decode`).

Training and scoring share more than a common beginning, see :mod:`agentft.engine.tree`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

# Below this the second forward pass costs more than it saves.
WORTH_SHARING = 32


def common_prefix(rows: Sequence[list[int]]) -> int:
    """Number of leading tokens that all ``rows`` have in common and that leave each of them one token; 0 where it is not worth it."""
    if len(rows) < 2:
        return 0
    # The smallest and the largest row in lexicographic order differ first where any two rows differ.
    low, high = min(rows), max(rows)
    shared = next((i for i, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), min(len(low), len(high)))
    shared = min(shared, min(len(row) for row in rows) - 1)
    return shared if shared >= WORTH_SHARING else 0


def why_not(model: Any) -> str:
    """Reason why ``model`` must see whole rows, or an empty string.

    Only plain causal attention over the whole context is shared: windows, recurrent states, experts and attention
    dropout each make a shared prefix differ from separate ones, or have not been proven equal.
    """
    config = model.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ()) - {"full_attention"}
    if kinds:
        return f"layers with {', '.join(sorted(kinds))}"
    if getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True):
        return "sliding-window attention"
    if getattr(config, "num_local_experts", None) or getattr(config, "num_experts", None):
        return "a mixture of experts"
    # config.use_cache says nothing: TRL switches it off for training, and here it is asked for in the call.
    if getattr(config, "is_encoder_decoder", False):
        return "no key-value cache of a decoder alone"
    if model.training and (getattr(config, "attention_dropout", 0) or getattr(config, "attention_probs_dropout_prob", 0)):
        return "attention dropout"
    rope = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    if "dynamic" in str(rope) or "longrope" in str(rope):
        return "positions that depend on the length of the row"
    return ""
