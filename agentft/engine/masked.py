"""An encoder that fills in masked tokens: how it is loaded, its losses, and what it guesses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from agentft.components import ModelRef
from agentft.engine.profile import Profile
from agentft.errors import DataError
from agentft.labelled import Labelled
from agentft.render.masking import masked
from agentft.render.texts import Report, TextEncoder, masked_rows, need_mask

BATCH_TOKENS = 8192


def load_masked(ref: ModelRef, profile: Profile, dtype: str, seed: int) -> tuple[Any, list[str]]:
    """The model with its masked-language-model head, and the names of weights that the folder lacks and that were drawn by ``seed``.

    Raises:
        DataError: transformers has no such head for this kind of model, or cannot load it.
    """
    from agentft.engine.models import pretrained
    from agentft.engine.quiet import quiet_libraries

    with quiet_libraries():
        from transformers import set_seed

        set_seed(seed)
        try:
            model, found = pretrained(
                "AutoModelForMaskedLM", ref.path, dtype, attn_implementation=profile.attention, output_loading_info=True
            )
        except (ValueError, OSError, ImportError) as error:
            reason = str(error).splitlines()[0]
            raise DataError(f"model {ref.reference} has no masked-language-model head, which 'mlm' needs: {reason}") from error
    return model, sorted(found["missing_keys"])


def drawn_note(drawn: Sequence[str]) -> str:
    """What a reader must know about a head that was drawn."""
    return (
        f"the model has no weights for its masked-language-model head: {len(drawn)} tensors were drawn anew ({', '.join(drawn[:3])} ...), "
        "so that the base model guesses at random and most of the difference is the new head"
    )


def vocabulary(tokenizer: Any) -> list[int]:
    """Tokens that a random one is drawn from: all but the special ones."""
    return sorted(set(tokenizer.get_vocab().values()) - set(tokenizer.all_special_ids))


def masked_losses(model: Any, input_ids: Any, attention_mask: Any, labels: Any) -> tuple[Any, Any, Any]:
    """Negative log-likelihood (natural logarithm) of each masked token; the output layer is applied only there.

    Args:
        input_ids, attention_mask, labels: (B, T); labels are -100 where nothing was masked.

    Returns:
        losses (N,) float32; the row of each (N,); the likeliest token of each (N,).
    """
    import torch.nn.functional as F

    from agentft.engine.score import only_where

    chosen = labels != -100
    with only_where(model, chosen):
        logits = model(input_ids=input_ids, attention_mask=attention_mask).logits
    # (1, N, V), or (B, T, V) for a model whose output layer could not be found
    logits = logits[0] if logits.shape[0] == 1 and logits.shape[1] == int(chosen.sum()) else logits[chosen]
    losses = F.cross_entropy(logits.float(), labels[chosen].to(logits.device), reduction="none")
    return losses, chosen.nonzero()[:, 0], logits.argmax(-1)


@dataclass(frozen=True)
class Guess:
    """What became of one text: log-probability (natural logarithm) of its masked tokens, their number, and for people the masked text,
    what stood there and what the model would have put there."""

    id: str
    logprob: float
    tokens: int
    masked: str
    truth: str
    said: str


@dataclass
class MaskedModel:
    """An encoder with its head, in evaluation mode.

    Attributes:
        drawn: weights of the head that the folder lacks.
        size, share, whole: tokens of a row, share that is masked, whole words; as in training.
    """

    model: Any
    tokenizer: Any
    profile: Profile
    drawn: list[str]
    size: int
    share: float
    whole: bool
    seed: int

    @classmethod
    def load(cls, ref: ModelRef, profile: Profile, *, size: int, share: float, whole: bool, seed: int) -> MaskedModel:
        from agentft.engine.models import load_tokenizer

        profile.apply()
        tokenizer = load_tokenizer(ref)
        need_mask(tokenizer)
        model, drawn = load_masked(ref, profile, profile.decode_dtype, seed)
        return cls(model.eval().to(profile.device), tokenizer, profile, drawn, size, share, whole, seed)

    def guess(self, texts: Sequence[Labelled], on_batch: Callable[[int], None] | None = None) -> list[Guess]:
        """A guess per text, in their order; the masks depend on seed, id and tokens alone. A text with nothing to mask has 0 tokens."""
        import torch

        from agentft.engine.score import pad

        random_ones = vocabulary(self.tokenizer)
        rows = []
        for row in masked_rows(TextEncoder(self.tokenizer), texts, self.size, self.whole, Report()):
            draw = Random(f"{self.seed}/held out/{row['id']}")
            covered, wanted = masked(
                row["input_ids"], row["words"], draw, share=self.share, mask_id=self.tokenizer.mask_token_id, vocabulary=random_ones
            )
            rows.append((row["of"], row["input_ids"], covered, wanted))
        order = sorted(range(len(rows)), key=lambda index: len(rows[index][1]))
        found: dict[int, tuple[float, list[int]]] = {}
        while order:
            batch, order = self._take(order, rows)
            hidden, labels = [rows[index][2] for index in batch], [rows[index][3] for index in batch]
            tensors = (pad(hidden, self.tokenizer.pad_token_id), pad([[1] * len(one) for one in hidden], 0), pad(labels, -100))
            with torch.inference_mode():
                losses, owner, best = masked_losses(self.model, *(one.to(self.profile.device) for one in tensors))
            for place, index in enumerate(batch):
                mine = owner == place
                found[index] = -float(losses[mine].double().sum()), best[mine].tolist()
            if on_batch:
                on_batch(len(batch))
        return self._collected(texts, rows, found)

    def _take(self, order: list[int], rows: list[Any]) -> tuple[list[int], list[int]]:
        """Rows for the next pass, shortest first, up to ``BATCH_TOKENS`` with padding."""
        size = 1
        while size < len(order) and (size + 1) * len(rows[order[size]][1]) <= BATCH_TOKENS:
            size += 1
        return order[:size], order[size:]

    def _collected(self, texts: Sequence[Labelled], rows: list[Any], found: dict[int, tuple[float, list[int]]]) -> list[Guess]:
        decode = self.tokenizer.decode
        of: dict[str, list[int]] = {}
        for index, row in enumerate(rows):
            of.setdefault(row[0], []).append(index)
        guesses = []
        for text in texts:
            mine = of.get(text.id, [])
            truth = [one for index in mine for one in rows[index][3] if one != -100]
            said = [one for index in mine for one in found[index][1]]
            shown = " ".join(decode(rows[index][2]) for index in mine)
            words = (", ".join(decode([one]).strip() for one in some) for some in (truth, said))
            guesses.append(Guess(text.id, sum(found[index][0] for index in mine), len(truth), shown, *words))
        return guesses


def encoder_folder(ref: ModelRef, trained: Any, folder: Path, tokenizer: Any) -> None:
    """Save an adapted encoder with its head; weights of the base that masking does not use (a pooler) are kept for later stages."""
    from transformers import AutoModel

    from agentft.engine.quiet import quiet_libraries

    with quiet_libraries():
        base, found = AutoModel.from_pretrained(ref.path, output_loading_info=True, use_safetensors=True, local_files_only=True)
    prefix, state = trained.base_model_prefix, trained.state_dict()
    mine = {name.removeprefix(f"{prefix}.") for name in state}
    kept = {
        f"{prefix}.{name}": tensor.to(trained.dtype)
        for name, tensor in base.state_dict().items()
        if name not in mine and name not in found["missing_keys"]
    }
    trained.save_pretrained(folder, state_dict={**state, **kept} if kept else None)
    tokenizer.save_pretrained(folder)
