"""How much memory training and generation take, from a model's configuration and numbers of tokens; nothing is loaded.

The formulas count what autograd keeps in a decoder layer of the Llama kind (RMSNorm, rotary positions, attention that keeps its output and
the log-sum-exp instead of a T x T matrix, a gated MLP), and what the loop of :mod:`agentft.engine.decode` allocates. `benchmarks/memory.py`
puts the estimates beside real peaks; slow tests hold those of a training step and of generation in float32 within 25 %. For generation in
bfloat16 on a CPU the estimate is low, by up to 30 %: the library that multiplies there takes memory of its own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from agentft.engine.profile import Profile

SIZES = {"float32": 4, "bfloat16": 2, "float16": 2}
# Bytes per parameter that an optimiser keeps; what is not named here is taken as Adam, which keeps two numbers.
STATES = {"sgd": 0, "adafactor": 1, "lion_32bit": 4, "adamw_8bit": 2, "adamw_bnb_8bit": 2, "lion_8bit": 1}
UNGATED = {"gpt2", "gpt_neo", "gpt_neox", "gptj", "opt", "phi", "bloom", "falcon", "mpt", "starcoder2", "bert", "roberta"}


class Moving(Protocol):
    """What the estimate has to know of a strategy; :class:`agentft.train.strategies.Strategy` is one."""

    @property
    def adapter(self) -> bool: ...
    @property
    def low_rank(self) -> Any: ...
    @property
    def freeze(self) -> Any: ...
    @property
    def virtual(self) -> int: ...


@dataclass(frozen=True)
class Shape:
    """The numbers of a model that decide about memory.

    Attributes:
        queries, keys: width of all query heads, and of all key (or value) heads.
        heads: number of query heads.
        linear: parameters of the linear layers of one transformer layer.
        parameters: all of them; tied embeddings once.
    """

    layers: int
    hidden: int
    queries: int
    keys: int
    heads: int
    intermediate: int
    vocabulary: int
    gated: bool
    linear: int
    parameters: int

    @classmethod
    def of(cls, config: Any) -> Shape:
        """From a configuration of transformers, or the mapping in a model's ``config.json``.

        Raises:
            ValueError: it says too little: no number of layers, no width.
        """
        data: Mapping[str, Any] = config if isinstance(config, Mapping) else config.to_dict()
        data = data.get("text_config") or data

        def number(*names: str) -> int | None:
            return next((int(data[name]) for name in names if isinstance(data.get(name), int)), None)

        layers, hidden = number("num_hidden_layers", "n_layer", "num_layers"), number("hidden_size", "n_embd", "d_model")
        heads, vocabulary = number("num_attention_heads", "n_head", "num_heads"), number("vocab_size")
        if not (layers and hidden and heads and vocabulary):
            raise ValueError("the configuration names no number of layers, width, heads or vocabulary")
        width = number("head_dim") or hidden // heads
        queries, keys = heads * width, (number("num_key_value_heads") or heads) * width
        gated = data.get("model_type") not in UNGATED
        intermediate = number("intermediate_size", "n_inner", "ffn_dim") or 4 * hidden
        attention, mlp = 2 * hidden * (queries + keys), (3 if gated else 2) * hidden * intermediate
        linear = attention + mlp * (number("num_local_experts", "num_experts", "n_routed_experts") or 1)
        embeddings = vocabulary * hidden * (1 if data.get("tie_word_embeddings", True) else 2)
        parameters = embeddings + layers * (linear + 2 * hidden) + hidden
        return cls(layers, hidden, queries, keys, heads, intermediate, vocabulary, gated, linear, parameters)


@dataclass(frozen=True)
class Memory:
    """Bytes at the peak, by what they are for.

    Attributes:
        weights: of the model; ``states``: what the optimiser keeps and the adapter.
        gradients: of the parameters that move, with what is made twice before it is added up.
        activations: what the forward pass keeps for the backward pass; for generation: keys and values.
        logits: of the tokens with a label, and their gradient.
    """

    weights: int
    states: int = 0
    gradients: int = 0
    activations: int = 0
    logits: int = 0

    @property
    def total(self) -> int:
        """Gradients grow while activations go: both are not there at once, but for what earlier micro-batches left."""
        return self.weights + self.states + max(self.gradients, self.activations + self.logits)


def shape_at(folder: Path | str) -> Shape | None:
    """The shape of the model in ``folder``; None where its ``config.json`` is absent or says too little."""
    try:
        return Shape.of(json.loads((Path(folder) / "config.json").read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return None


def training(
    shape: Shape,
    strategy: Moving,
    profile: Profile,
    tokens: int,
    supervised: int,
    *,
    optimizer: str = "adamw_torch",
    checkpointing: bool | None = None,
    accumulates: bool = False,
) -> Memory:
    """Peak of a training step.

    Args:
        tokens: of a micro-batch, shared ones (the persona) once, padding included.
        supervised: those with a label; logits are computed for them only.
        optimizer: transformers' name.
        checkpointing: activations are computed again in the backward pass; default from the profile.
        accumulates: gradients of earlier micro-batches are there during the forward pass.
    """
    checkpointing = profile.gradient_checkpointing if checkpointing is None else checkpointing
    mixed = profile.train_dtype != "float32"
    compute = SIZES[profile.train_dtype]
    rank = strategy.low_rank.r if strategy.low_rank else 0
    layers = shape.layers
    if strategy.adapter:
        quantised = getattr(strategy, "qlora", None) is not None
        body = shape.layers * shape.linear
        weights = (body // 2 + compute * (shape.parameters - body)) if quantised else compute * shape.parameters
        moving = rank * layers * _adapter_width(shape) + strategy.virtual * shape.hidden
        twice = 0
    else:
        frozen = strategy.freeze
        below = min(layers, frozen.layers) if frozen is not None else 0
        layers -= below
        weights = 4 * shape.parameters
        if frozen is not None and frozen.only == "head":
            layers, moving = 0, shape.vocabulary * shape.hidden
        else:
            moving = shape.parameters - below * shape.linear
            moving -= shape.vocabulary * shape.hidden if frozen is not None and frozen.with_embeddings else 0
        # Autograd keeps the copy of each moving weight in the smaller dtype until the backward pass is through.
        twice = compute * layers * shape.linear if mixed else 0
    gradients = 4 * moving
    states = moving * STATES.get(optimizer, 8) + (4 * moving if strategy.adapter else 0)
    each = _layer_bytes(shape, compute, rank, strategy.adapter)
    kept = tokens * ((layers * shape.hidden * (compute if strategy.adapter else 4) + each) if checkpointing else layers * each)
    transient = tokens * (2 * shape.intermediate + 4 * shape.hidden) * compute
    # Logits, their log-softmax in float32 (and, mixed, the small logits that it was made of), and two tensors of gradients.
    logits = supervised * shape.vocabulary * (compute + 12)
    activations = kept + transient + twice + (gradients if accumulates else 0)
    return Memory(weights, states, gradients + twice, activations, logits)


def generation(shape: Shape, profile: Profile, rows: int, prompt_tokens: int, new_tokens: int, shared_tokens: int = 0) -> Memory:
    """Peak of greedy generation in agentft's own loop: weights and what is copied of them, keys and values, the widest moment of a pass.

    Args:
        rows: generated at the same time.
        prompt_tokens: of a row, behind what is shared.
        new_tokens: of an answer at most.
        shared_tokens: what all rows begin with; their keys and values are kept once.
    """
    from agentft.engine.decode import PREFILL_TOKENS
    from agentft.engine.generate import PACK_TOKENS
    from agentft.engine.window import SLACK

    size = SIZES[profile.decode_dtype]
    packed = profile.device == "cpu" and profile.decode_dtype == "float32" and rows * new_tokens >= PACK_TOKENS
    copies = size * (shape.layers * shape.linear + shape.vocabulary * shape.hidden) if packed else 0
    cache = 2 * shape.layers * shape.keys * size * (shared_tokens + rows * (prompt_tokens + new_tokens + SLACK))
    # A prefill of rows that take turns, or the shared tokens, which run at once: the MLP's four tensors, or scores and their softmax.
    at_once = min(rows, max(1, PREFILL_TOKENS // max(1, prompt_tokens))) * prompt_tokens
    mlp = (4 if shape.gated else 2) * shape.intermediate * size
    scores = 2 * 4 * shape.heads * prompt_tokens
    widest = max(at_once * max(mlp, scores), shared_tokens * mlp) + max(at_once, shared_tokens) * 3 * shape.hidden * size
    logits = rows * shape.vocabulary * (size + 4)
    return Memory(shape.parameters * size + copies, activations=cache + widest, logits=logits)


def tokens_that_fit(
    model_config: Any,
    strategy: Moving,
    profile: Profile,
    available_bytes: int,
    *,
    supervised_share: float = 1.0,
    optimizer: str = "adamw_torch",
    checkpointing: bool | None = None,
    accumulates: bool = True,
) -> int:
    """The largest number of tokens of a micro-batch whose training step stays below ``available_bytes``; 0 if not even one does.

    Args:
        model_config: a :class:`Shape`, a configuration of transformers, or its mapping.
        supervised_share: of the tokens that have a label.
    """
    shape = model_config if isinstance(model_config, Shape) else Shape.of(model_config)

    def fits(tokens: int) -> bool:
        supervised = round(tokens * supervised_share)
        options = {"optimizer": optimizer, "checkpointing": checkpointing, "accumulates": accumulates}
        return training(shape, strategy, profile, tokens, supervised, **options).total <= available_bytes  # type: ignore[arg-type]

    low, high = 0, 1
    while fits(high) and high < 1 << 40:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def available(device: str) -> int:
    """Bytes that this process may still take on ``device``: free memory, within the container's limit."""
    import torch

    if device.startswith("cuda"):
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    if device.startswith("mps"):
        return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
    import psutil

    found = [psutil.virtual_memory().available]
    try:  # cgroup v2: "max", or bytes. Pages of files that were read count as used, but are given back when asked for.
        limit = int(Path("/sys/fs/cgroup/memory.max").read_text())
        used = int(Path("/sys/fs/cgroup/memory.current").read_text())
        stat = dict(line.split() for line in Path("/sys/fs/cgroup/memory.stat").read_text().splitlines())
        found.append(limit - used + int(stat.get("inactive_file", 0)) + int(stat.get("active_file", 0)))
    except (OSError, ValueError):
        pass
    return max(0, min(found))


def _adapter_width(shape: Shape) -> int:
    """Inputs and outputs of all linear layers of a transformer layer: LoRA has ``r`` weights for each."""
    attention = 2 * (shape.hidden + shape.queries) + 2 * (shape.hidden + shape.keys)
    return attention + (3 if shape.gated else 2) * (shape.hidden + shape.intermediate)


def _layer_bytes(shape: Shape, compute: int, rank: int, adapter: bool) -> int:
    """What one layer keeps for the backward pass, in bytes per token."""
    hidden, queries, keys, wide = shape.hidden, shape.queries, shape.keys, shape.intermediate
    norms = 2 * 4 * hidden  # the input of each norm in float32
    if not adapter:
        norms += 2 * 4 * hidden  # and its normalised input, for the gradient of its weight
    # Input of the linear layers behind a norm: one tensor for all of them, but a cast copy for each where the stream is float32.
    copies = (5 if shape.gated else 4) if compute == 2 and not adapter else 2
    inputs = copies * compute * hidden
    attention = compute * (2 * queries + 2 * keys) + 4 * shape.heads  # q, k, v, output and log-sum-exp
    mlp = compute * (4 if shape.gated else 2) * wide  # gate, its activation, up, and their product
    low_rank = compute * rank * (7 if shape.gated else 6)
    return norms + inputs + attention + mlp + low_rank
