"""A persona's prompt is paid for once: the tokens that all rows of a batch start with are run once per batch.

The prefix goes through the model as a single row; its keys and values are repeated for the rows of the batch, which then
continue from position ``P``. Every token attends to exactly what it would attend to in a row of its own, and gradients
flow through the repeated cache, so loss, gradient and log-probabilities are those of separate rows, to rounding
(asserted in ``tests/engine/test_prefix.py``). Generation needs no gradient and repeats nothing: :mod:`agentft.engine.decode`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

# Below this the second forward pass costs more than it saves.
WORTH_SHARING = 32


def common_prefix(rows: Sequence[list[int]], labels: Sequence[list[int]] | None = None) -> int:
    """Number of leading tokens that can be shared by ``rows``; 0 where it is not worth it.

    At least one token stays behind in each row. With ``labels``, the first token that stays behind is never a supervised
    one: its loss belongs to the last position *of the prefix*, whose logits are not computed.
    """
    if len(rows) < 2:
        return 0
    # The smallest and the largest row in lexicographic order differ first where any two rows differ.
    low, high = min(rows), max(rows)
    shared = next((i for i, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), min(len(low), len(high)))
    shared = min(shared, min(len(row) for row in rows) - 1)
    for row in labels or ():
        first = next((i for i, label in enumerate(row) if label != -100), len(row))
        shared = min(shared, first - 1)
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


def prefix_cache(model: Any, prefix: Any, rows: int) -> Any:
    """Key-value cache of ``prefix`` (a 1-D tensor of P token ids), repeated for ``rows`` rows.

    With gradients enabled the cache is differentiable.
    """
    cache = model(input_ids=prefix[None], use_cache=True).past_key_values
    cache.batch_repeat_interleave(rows)
    return cache
