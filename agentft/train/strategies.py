"""Which parameters move: the options under ``strategy:``. Nothing here imports torch; :mod:`agentft.train.setup` applies them."""

from __future__ import annotations

import importlib.util
import re
from typing import Any, Literal

from pydantic import ConfigDict, Field, field_validator, model_validator

from agentft.errors import did_you_mean
from agentft.validation import Listed, Model


def check_patterns(patterns: Any) -> Any:
    """``patterns`` as they are, if each is a regular expression.

    Raises:
        ValueError: one is not.
    """
    for pattern in patterns:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"'{pattern}' is no regular expression: {error}") from None
    return patterns


class FullOptions(Model):
    """All parameters move. No options yet."""


class FreezeOptions(Model):
    """A part of the model stays as it is, and the rest trains in full; what is saved is a full model.

    `freeze: head-only` is short for `freeze: {only: head}`.
    """

    expects = "head-only, or a mapping such as {layers: 24}"

    layers: int = Field(0, ge=0, description="So many of the lowest transformer layers stay as they are.")
    embeddings: bool | None = Field(
        None,
        description="Whether the embeddings stay as they are; default: yes where `layers` is above 0. An output layer that shares "
        "their weights (tied embeddings) stays with them.",
    )
    only: Literal["head"] | None = Field(None, description="`head`: everything but the output layer stays as it is.")
    patterns: Listed[str] = Field((), description="Parameters whose name one of these regular expressions finds stay as they are.")
    cache: Literal["auto", "on", "off"] = Field(
        "auto",
        description="Compute the frozen layers once and train from what they gave, kept on disk while training runs. `auto`: where that "
        "is possible and saves something; the report says which.",
    )

    @model_validator(mode="before")
    @classmethod
    def _word(cls, data: Any) -> Any:
        if isinstance(data, str):
            if data != "head-only":
                raise ValueError(f"freeze must be {cls.expects}, not '{data}'")
            return {"only": "head"}
        return data

    _patterns = field_validator("patterns")(check_patterns)

    @model_validator(mode="after")
    def _something(self) -> FreezeOptions:
        if self.only and (self.layers or self.embeddings is not None or self.patterns):
            raise ValueError("freeze: `only: head` freezes everything else already; remove layers, embeddings and patterns")
        if not (self.only or self.layers or self.embeddings or self.patterns):
            raise ValueError("freeze names nothing that is to stay as it is; give layers, patterns, or write `freeze: head-only`")
        return self

    @property
    def with_embeddings(self) -> bool:
        return self.layers > 0 if self.embeddings is None else self.embeddings


class LoraOptions(Model):
    """Low-rank adapters (Hu et al. 2021): the model stays frozen, two small matrices per linear layer are trained."""

    r: int = Field(16, ge=1, description="Rank: more learns more and costs more memory.")
    alpha: float = Field(32.0, gt=0, description="The adapter's output is scaled by alpha / r.")
    dropout: float = Field(0.0, ge=0, lt=1, description="Dropout on the adapter's input. Above 0 nothing is shared between rows.")
    target_modules: Literal["all-linear"] | Listed[str] = Field("all-linear", description="Which layers get an adapter.")
    rslora: bool = Field(False, description="Scale by alpha / sqrt(r) instead (Kalajdzievski 2023): for ranks of 64 and more.")
    dora: bool = Field(False, description="Train the length of each weight's columns apart from their direction (Liu et al. 2024); slower.")
    rank_pattern: dict[str, int] = Field(default_factory=dict, description="Regular expression over layer names -> another rank there.")
    alpha_pattern: dict[str, float] = Field(default_factory=dict, description="Regular expression over layer names -> another alpha there.")
    modules_to_save: Listed[str] = Field((), description="Modules that are trained in full and saved with the adapter, such as `lm_head`.")

    _patterns = field_validator("rank_pattern", "alpha_pattern")(check_patterns)

    @field_validator("rank_pattern")
    @classmethod
    def _ranks(cls, value: dict[str, int]) -> dict[str, int]:
        if wrong := [name for name, rank in value.items() if rank < 1]:
            raise ValueError(f"the rank of '{wrong[0]}' must be at least 1")
        return value


class QLoraOptions(LoraOptions):
    """LoRA on a model whose frozen weights are held in 4 bits (Dettmers et al. 2023). Needs a CUDA GPU and bitsandbytes."""

    bits: Literal[4] = Field(4, description="Bits per frozen weight (NF4, with the constants quantised as well).")

    @model_validator(mode="after")
    def _can(self) -> QLoraOptions:
        if importlib.util.find_spec("bitsandbytes") is None:
            raise ValueError("qlora needs a CUDA GPU and bitsandbytes (pip install bitsandbytes); elsewhere use `lora`")
        return self


class PromptOptions(Model):
    """Prompt tuning (Lester et al. 2021): the model stays frozen, and a few virtual tokens in front of each row are trained."""

    tokens: int = Field(16, ge=1, description="Number of virtual tokens; they count towards the model's context.")
    init: Literal["text", "random"] = Field(
        "random",
        description="Where they start: at the embeddings of `text` (cut or repeated to fit), or of tokens drawn from the vocabulary.",
    )
    text: str | None = Field(None, min_length=1, description="For `init: text`.")

    @model_validator(mode="after")
    def _consistent(self) -> PromptOptions:
        if (self.init == "text") != (self.text is not None):
            raise ValueError("`init: text` and `text: ...` go together")
        return self


class PrefixOptions(PromptOptions):
    """Prefix tuning (Li and Liang 2021): the model stays frozen, and keys and values of a few virtual tokens in each layer are trained."""

    init: Literal["text", "random"] = Field(
        "random",
        description="Where they start: at what the model computes for `text` (cut or repeated to fit), or for tokens drawn by seed.",
    )


class Strategy(Model):
    """Which parameters move: exactly one of these; the bare word stands for its defaults."""

    model_config = ConfigDict(populate_by_name=True)
    expects = "full, freeze, lora, qlora, prompt-tuning, prefix-tuning, or a mapping such as {lora: {r: 16}}"

    lora: LoraOptions | None = None
    full: FullOptions | None = None
    freeze: FreezeOptions | None = None
    qlora: QLoraOptions | None = None
    prompt_tuning: PromptOptions | None = Field(None, alias="prompt-tuning")
    prefix_tuning: PrefixOptions | None = Field(None, alias="prefix-tuning")

    @model_validator(mode="before")
    @classmethod
    def _one_of(cls, data: Any) -> Any:
        known = [field.alias or name for name, field in cls.model_fields.items()]
        if isinstance(data, str):
            if data not in known:
                raise ValueError(f"unknown strategy '{data}' ({did_you_mean(data, known)})")
            return {data: {}}
        if isinstance(data, dict):
            # `{lora: }` means its defaults; `{lora: {...}, full: null}` is how a typed recipe is written down.
            given = data if len(data) == 1 else {key: value for key, value in data.items() if value is not None}
            if len(given) != 1 and given.keys() <= {*known, *cls.model_fields}:
                raise ValueError("name exactly one strategy: " + ", ".join(known))
            return {key: {} if value is None else value for key, value in given.items()}
        return data

    @property
    def name(self) -> str:
        """The word in the recipe, such as ``prompt-tuning``."""
        return next(field.alias or name for name, field in type(self).model_fields.items() if getattr(self, name) is not None)

    @property
    def adapter(self) -> bool:
        """True where the model stays frozen and what is saved is an adapter; False where it is a full model."""
        return self.full is None and self.freeze is None

    @property
    def low_rank(self) -> LoraOptions | None:
        """The options of ``lora`` or ``qlora``."""
        return self.lora or self.qlora

    @property
    def virtual(self) -> int:
        """Number of virtual tokens in front of each row; 0 for other strategies."""
        one = self.prompt_tuning or self.prefix_tuning
        return one.tokens if one else 0

    def rate(self, full: float, lora: float) -> float:
        """The learning rate for this strategy, from those that are usual for the whole model and for LoRA.

        A virtual token has to travel far from where it starts: a hundred times the rate of LoRA.
        """
        return full if not self.adapter else 100 * lora if self.virtual else lora
