"""A reward model: a language model with one output, that scores a finished conversation."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from agentft.components import ModelRef
from agentft.engine.heads import at_every_token, at_last_token
from agentft.engine.score import on_tree, pad, tree_inputs, unwrapped
from agentft.engine.tree_attention import no_longer
from agentft.errors import DataError
from agentft.records import Example

CARD = "reward.json"  # beside the weights: which model they were trained on


class RewardModel:
    """A trained reward model, ready to score.

    Args:
        model: with one output per conversation, in evaluation mode.
        renderer: puts the persona in front, as in training.
    """

    def __init__(self, model: Any, tokenizer: Any, renderer: Any, profile: Any):
        self.model, self.tokenizer, self.renderer, self.profile = model, tokenizer, renderer, profile

    @classmethod
    def load(
        cls,
        path: Path | str,
        *,
        resolve: Callable[[str], ModelRef],
        system: str = "",
        device: Mapping[str, Any] | None = None,
        tools: Sequence[Mapping[str, Any]] = (),
    ) -> RewardModel:
        """Load what ``use: reward`` left behind.

        Args:
            path: folder of the training stage, or of the adapter or model inside of it.
            resolve: model reference -> folder, for an adapter.
            tools: the persona's.

        Raises:
            DataError: there is no reward model, or the model that it was trained on is another one now.
        """
        from agentft.engine.models import load_tokenizer, pretrained
        from agentft.engine.profile import detect
        from agentft.engine.quiet import quiet_libraries
        from agentft.render.conversation import Renderer

        folder = next((one for one in (Path(path), Path(path) / "adapter", Path(path) / "model") if (one / CARD).is_file()), None)
        if folder is None:
            raise DataError(f"reward model: {path} has no {CARD}; train one with `use: reward`")
        card = json.loads((folder / CARD).read_text("utf-8"))
        base = resolve(card["model"])
        if base.digest != card["digest"]:
            raise DataError(f"reward model: it was trained on another '{card['model']}' than the one on this machine; train it again")
        adapter = (folder / "adapter_config.json").is_file()
        profile = detect(device)
        profile.apply()
        with quiet_libraries():
            model = pretrained("AutoModelForSequenceClassification", base.path if adapter else folder, profile.decode_dtype, num_labels=1)
            if adapter:
                from peft import PeftModel

                model = PeftModel.from_pretrained(model, str(folder))
        tokenizer = load_tokenizer(base)
        model.config.get_text_config().pad_token_id = tokenizer.pad_token_id
        return cls(model.eval().to(profile.device), tokenizer, Renderer(tokenizer, system, tools=tools), profile)

    def score(self, examples: Sequence[Example], on_batch: Callable[[int], None] | None = None) -> list[float]:
        """One number per finished conversation (it ends with the assistant), in the order given; higher is better.

        Raises:
            DataError: a conversation cannot be rendered.
        """
        import torch

        rows = [self.renderer.training(example)[-1].input_ids for example in examples]
        order = sorted(range(len(rows)), key=lambda index: len(rows[index]))
        found = [0.0] * len(rows)
        for start in range(0, len(order), self.profile.score_batch):
            batch = order[start : start + self.profile.score_batch]
            ids = pad([rows[index] for index in batch], self.tokenizer.pad_token_id).to(self.model.device)
            mask = pad([[1] * len(rows[index]) for index in batch], 0).to(self.model.device)
            with torch.inference_mode():
                scores = last_scores(self.model, ids, mask)
            for index, value in zip(batch, scores.tolist(), strict=True):
                found[index] = float(value)
            if on_batch is not None:
                on_batch(len(batch))
        return found


def last_scores(model: Any, input_ids: Any, attention_mask: Any, *, share_prefix: bool = True) -> Any:
    """The output at the last real token of each row, (B,). Not left to the model: with pad == eos it looks for the wrong end.

    What rows have in common is run once, as in :func:`agentft.engine.score.token_losses`.
    """
    import torch

    def run(tree: Any) -> Any:
        ends = torch.stack([place[-1] for place in tree.places])
        return at_every_token(model, **tree_inputs(tree))[0, ends].squeeze(-1)

    scores = on_tree(model, input_ids, attention_mask, run) if share_prefix else None
    if scores is not None:
        return scores
    no_longer(unwrapped(model))
    return at_last_token(model, input_ids, attention_mask).squeeze(-1)
