"""Memory and time of training by arithmetic: bytes on each GPU, FLOPs for each token. Nothing here is measured.

What is counted, for P parameters of which T move:

======================  =================================================================================================
weights                 full: 4 P (float32); lora: 2 P (bf16) + 4 T; sharded lora: 4 P, as what is
                        sharded together has one dtype; qlora: 4.127 bits for each weight of a linear layer
                        (NF4 with double quantisation, arXiv 2305.14314), 2 bytes for the rest, + 4 T
gradients, optimiser    4 T and 8 T (Adam's two averages, float32), as agentft trains: bf16 autocast over float32 weights
gathered                sharded: the layer that is being computed, whole and in bf16, and the next one on its way
activations             what the backward pass needs, bf16, attention without a stored score matrix (SDPA, flash); counted as in
                        arXiv 2205.05198 for a Llama layer: 2 (5 h + 2 q + 3 k + 4 f) bytes a token, h hidden, q and k the widths of
                        queries and keys, f the width of the feed-forward layer. With checkpointing 2 h a layer, and one layer in full
logits                  10 bytes for each supervised token and word of the vocabulary (bf16, float32, gradient)
======================  =================================================================================================

Sharding (FSDP2 ``reshard_after_forward``, ZeRO-3) divides weights, gradients and optimiser by the number of GPUs; copies (DDP) do not.
FLOPs for each token: 2 P forward, 2 P for the gradient of the activations, 2 T for that of the weights, 2 P more with
checkpointing, and causal attention, 2 L q s a pass at s tokens a row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from agentft.errors import UserError

Kind = Literal["full", "lora", "qlora"]
NF4 = 4.127 / 8  # bytes


@dataclass(frozen=True)
class Shape:
    """A decoder of the Llama family, as its ``config.json`` gives it. ``tied``: input and output embeddings are one matrix."""

    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    vocabulary: int
    tied: bool = False
    head_width: int = 0  # 0: hidden / heads

    @property
    def queries(self) -> int:
        return self.heads * (self.head_width or self.hidden // self.heads)

    @property
    def keys(self) -> int:
        return self.kv_heads * (self.head_width or self.hidden // self.heads)

    @property
    def linear(self) -> list[tuple[int, int]]:
        """Inputs and outputs of the linear layers of one layer."""
        h, q, k, f = self.hidden, self.queries, self.keys, self.intermediate
        return [(h, q), (h, k), (h, k), (q, h), (h, f), (h, f), (f, h)]

    @property
    def in_linear(self) -> int:
        """Weights in the linear layers of all layers."""
        return self.layers * sum(a * b for a, b in self.linear)

    @property
    def parameters(self) -> int:
        """All of them: linear layers, two norms a layer and one at the end, embeddings."""
        return self.in_linear + (2 * self.layers + 1) * self.hidden + (1 if self.tied else 2) * self.vocabulary * self.hidden

    def adapter(self, r: int) -> int:
        """Parameters of LoRA of rank ``r`` on all linear layers."""
        return self.layers * sum(r * (a + b) for a, b in self.linear)


# Published architectures of well-known sizes (Llama 2 7B, Llama 3 8B and 70B).
SHAPES: Mapping[str, Shape] = {
    "7b": Shape(32, 4096, 11008, 32, 32, 32000),
    "8b": Shape(32, 4096, 14336, 32, 8, 128256),
    "70b": Shape(80, 8192, 28672, 64, 8, 128256),
}


@dataclass(frozen=True)
class Load:
    """What one forward and backward pass on one GPU is: rows, tokens in a row, share of tokens with a label."""

    rows: int = 1
    length: int = 2048
    supervised: float = 0.25

    @property
    def tokens(self) -> int:
        return self.rows * self.length


@dataclass(frozen=True)
class Need:
    """Bytes on each GPU, and FLOPs for each token."""

    weights: float
    gradients: float
    optimiser: float
    gathered: float
    activations: float
    logits: float
    flops: float
    checkpointing: bool

    def fits(self, memory: float) -> bool:
        """Whether it fits into ``memory`` bytes, a tenth left to the driver and to gaps between tensors."""
        return self.total <= 0.9 * memory

    @property
    def total(self) -> float:
        return self.weights + self.gradients + self.optimiser + self.gathered + self.activations + self.logits

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "total": self.total}


def shape_of(config: Mapping[str, Any]) -> Shape:
    """The shape in a ``config.json``.

    Raises:
        UserError: a number is missing: the architecture is not one of the Llama family.
    """
    config = config.get("text_config", config)
    wanted = ("num_hidden_layers", "hidden_size", "intermediate_size", "num_attention_heads", "vocab_size")
    if missing := [key for key in wanted if not isinstance(config.get(key), int)]:
        raise UserError(f"config.json has no {', '.join(missing)}; give --layers, --hidden, --intermediate, --heads, --vocabulary by hand")
    layers, hidden, intermediate, heads, vocabulary = (config[key] for key in wanted)
    tied = bool(config.get("tie_word_embeddings", False))
    return Shape(
        layers, hidden, intermediate, heads, config.get("num_key_value_heads") or heads, vocabulary, tied, config.get("head_dim") or 0
    )


def need(
    shape: Shape,
    kind: Kind,
    gpus: int = 1,
    *,
    sharded: bool = True,
    load: Load = Load(),
    checkpointing: bool = False,
    r: int = 16,
) -> Need:
    """What training takes on each of ``gpus``; see the module for the formulas.

    Args:
        kind: which parameters move.
        sharded: weights, gradients and optimiser are divided among the GPUs; else every GPU has a copy.
        r: rank of the adapter.
    """
    total = shape.parameters
    moving = total if kind == "full" else shape.adapter(r)
    frozen = {
        "full": 0.0,
        "lora": (4.0 if sharded and gpus > 1 else 2.0) * total,
        "qlora": NF4 * shape.in_linear + 2.0 * (total - shape.in_linear),
    }[kind]
    parts = gpus if sharded else 1
    layer = shape.in_linear / shape.layers
    whole = 2.0 * layer * (2.0 if kind != "qlora" else NF4)
    h, q, k, f = shape.hidden, shape.queries, shape.keys, shape.intermediate
    one_layer = 2.0 * (5 * h + 2 * q + 3 * k + 4 * f) * load.tokens
    activations = 2.0 * h * shape.layers * load.tokens + one_layer if checkpointing else shape.layers * one_layer
    attention = 2.0 * shape.layers * q * load.length  # causal: half of 4 L q s
    passes = 3 if checkpointing else 2
    return Need(
        weights=(frozen + 4.0 * moving) / parts,
        gradients=4.0 * moving / parts,
        optimiser=8.0 * moving / parts,
        gathered=whole if parts > 1 else 0.0,
        activations=activations,
        logits=10.0 * load.supervised * load.tokens * shape.vocabulary,
        flops=2.0 * passes * total + 2.0 * moving + attention * (passes + 1),
        checkpointing=checkpointing,
    )


def smallest(shape: Shape, kind: Kind, gpus: int, memory: float, *, sharded: bool = True, load: Load = Load(), r: int = 16) -> Need:
    """:func:`need` without checkpointing where that fits into ``memory`` bytes, else with it."""
    plain = need(shape, kind, gpus, sharded=sharded, load=load, r=r)
    return plain if plain.fits(memory) else need(shape, kind, gpus, sharded=sharded, load=load, checkpointing=True, r=r)


def hours(need_: Need, tokens: float, gpus: int, flops: float, share: float) -> float:
    """Hours for ``tokens`` on ``gpus`` of ``flops`` FLOP/s each, of which training reaches ``share``."""
    return need_.flops * tokens / (gpus * flops * share) / 3600


def with_numbers(shape: Shape | None, numbers: Mapping[str, int | None]) -> Shape:
    """``shape`` with the numbers given by hand; without a shape they must be complete (kv_heads: default heads).

    Raises:
        UserError: a number is missing.
    """
    given: dict[str, Any] = {key: value for key, value in numbers.items() if value is not None}
    if shape is not None:
        return replace(shape, **given)
    if missing := [key for key in ("layers", "hidden", "intermediate", "heads", "vocabulary") if key not in given]:
        options = ", ".join(f"--{key}" for key in missing)
        raise UserError(f"name a model ({', '.join(SHAPES)}, or one of `agentft models list`), or give {options}")
    return Shape(**{"kv_heads": given["heads"], **given})
