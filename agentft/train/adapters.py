"""PEFT's configuration of a fresh adapter, from the options of a recipe."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from agentft.errors import TrainingError
from agentft.train.strategies import LoraOptions, PrefixOptions, Strategy
from agentft.train.structure import causal


def adapter_config(model: Any, strategy: Strategy, task_type: str, heads: Sequence[str] = ()) -> Any:
    """The configuration for ``get_peft_model``.

    Args:
        model: of transformers, without an adapter.
        strategy: one with ``strategy.adapter``.
        task_type: of PEFT: ``CAUSAL_LM``, ``SEQ_CLS``, ``TOKEN_CLS`` ...
        heads: modules that are trained in full and saved with the adapter.

    Raises:
        TrainingError: the model cannot have such an adapter.
    """
    from peft import PrefixTuningConfig, PromptTuningConfig

    if strategy.low_rank is not None:
        return _low_rank(strategy.low_rank, task_type, heads)
    if strategy.prompt_tuning is not None:
        options = strategy.prompt_tuning
        start = {"prompt_tuning_init_text": options.text, "tokenizer_name_or_path": model.name_or_path} if options.init == "text" else {}
        return PromptTuningConfig(
            task_type=task_type,
            num_virtual_tokens=options.tokens,
            # They stand before the source; PEFT would make as many for the decoder, and never use them.
            num_transformer_submodules=1,
            # PEFT's RANDOM draws from a normal distribution of width 1, far from any embedding.
            prompt_tuning_init="TEXT" if start else "SAMPLE_VOCAB",
            **start,
        )
    assert strategy.prefix_tuning is not None
    if not causal(model):
        raise TrainingError(
            f"strategy: prefix-tuning needs a model that reads from left to right, and {type(model).__name__} reads in both directions; "
            "use prompt-tuning or lora"
        )
    # Zeros mark a prefix that has not started yet, see start_prefix().
    return PrefixTuningConfig(task_type=task_type, num_virtual_tokens=strategy.prefix_tuning.tokens, init_weights="zero")


def start_prefix(model: Any, options: PrefixOptions, tokenizer: Any, seed: int) -> None:
    """Give a fresh prefix the keys and values that the model computes for real tokens; one that was trained before stays as it is.

    Numbers drawn from a normal distribution, which PEFT starts from, lie so far from any key or value that a model says nothing
    sensible any more: SmolLM2-135M went from a loss of 2.5 to 9.4.
    """
    import torch
    from peft.tuners.cartridge.utils import initialize_kv_prefix_from_past_key_values

    if any(bool(parameter.any()) for parameter in model.prompt_encoder.parameters()):
        return
    base = model.get_base_model()
    if options.text is not None:
        ids = tokenizer(options.text, add_special_tokens=False).input_ids
        tokens = torch.tensor([(ids * options.tokens)[: options.tokens]])
    else:
        count = base.get_input_embeddings().num_embeddings
        tokens = torch.randint(0, count, (1, options.tokens), generator=torch.Generator().manual_seed(seed))
    training = base.training
    with torch.no_grad():
        cache = getattr(base.eval(), base.base_model_prefix)(input_ids=tokens.to(base.device), use_cache=True).past_key_values
    base.train(training)
    initialize_kv_prefix_from_past_key_values(model, past_key_values=[(layer.keys, layer.values) for layer in cache.layers])


def _low_rank(options: LoraOptions, task_type: str, heads: Sequence[str]) -> Any:
    from peft import LoraConfig

    return LoraConfig(
        r=options.r,
        lora_alpha=options.alpha,  # type: ignore[arg-type]
        lora_dropout=options.dropout,
        target_modules=options.target_modules if isinstance(options.target_modules, str) else list(options.target_modules),
        use_rslora=options.rslora,
        use_dora=options.dora,
        rank_pattern=dict(options.rank_pattern),
        alpha_pattern=dict(options.alpha_pattern),
        bias="none",
        task_type=task_type,
        modules_to_save=list(dict.fromkeys([*heads, *options.modules_to_save])) or None,
    )


def why_not_continued(had: Any, strategy: Strategy) -> str:
    """What keeps a stage from continuing the adapter with the configuration ``had``, or an empty string."""
    kind = {"LORA": "lora", "PROMPT_TUNING": "prompt-tuning", "PREFIX_TUNING": "prefix-tuning"}.get(str(had.peft_type.value), "another")
    lora = strategy.low_rank
    if kind != ("lora" if lora else strategy.name):
        return f"is one of {kind}, not of {strategy.name}; use the same strategy in both"
    if lora is None:
        same = had.num_virtual_tokens == strategy.virtual
        return "" if same else f"has {had.num_virtual_tokens} virtual tokens, not {strategy.virtual}; use the same number in both"
    if (had.r, had.lora_alpha) != (lora.r, lora.alpha):
        return f"has r={had.r} and alpha={had.lora_alpha:g}, not r={lora.r} and alpha={lora.alpha:g}; use the same values in both"
    shapes = {
        "rslora": (had.use_rslora, lora.rslora),
        "dora": (had.use_dora, lora.dora),
        "rank_pattern": (had.rank_pattern or {}, lora.rank_pattern),
        "alpha_pattern": (had.alpha_pattern or {}, lora.alpha_pattern),
    }
    name = next((key for key, (old, new) in shapes.items() if old != new), "")
    return f"has {name} {shapes[name][0]}, not {shapes[name][1]}; use the same values in both" if name else ""
