"""An encoder-decoder in memory: its losses, its answers by beam search, and how likely it finds demonstrated answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from agentft.components import ModelRef
from agentft.contracts import GenerationSettings, settled
from agentft.engine.profile import Profile
from agentft.errors import DataError
from agentft.records import Example, Message, Response
from agentft.render.texts import PairEncoder

KIND = "AutoModelForSeq2SeqLM"
# What generation needs to know about a model; sampling, lengths and penalties of its makers are left out.
_TOKENS = ("decoder_start_token_id", "bos_token_id", "eos_token_id", "pad_token_id", "forced_bos_token_id", "forced_eos_token_id")


def target_losses(model: Any, input_ids: Any, attention_mask: Any, labels: Any, smoothing: float = 0.0) -> tuple[Any, Any]:
    """Negative log-likelihood (natural logarithm) of each target token under teacher forcing, with label smoothing if so wished.

    Args:
        input_ids, attention_mask: (B, S), the sources.
        labels: (B, T), the targets, padded with -100.

    Returns: losses (N,) float32 of all target tokens, row by row, and the row of each (N,).
    """
    import torch.nn.functional as F

    from agentft.engine.score import bare

    shifted = bare(model).prepare_decoder_input_ids_from_labels(labels)
    logits = model(input_ids=input_ids, attention_mask=attention_mask, decoder_input_ids=shifted, use_cache=False).logits
    kept = labels != -100
    losses = F.cross_entropy(logits[kept].float(), labels[kept], reduction="none", label_smoothing=smoothing)
    return losses, kept.nonzero()[:, 0]


@dataclass
class Seq2SeqAgent:
    """Implements :class:`agentft.contracts.Backend`; it has no persona.

    Attributes:
        model: in evaluation mode, on the profile's device.
        encoder: makes sources and targets, as for training.
        beams: of the search.
    """

    model: Any
    tokenizer: Any
    profile: Profile
    encoder: PairEncoder
    beams: int = 1

    @classmethod
    def load(cls, ref: ModelRef, adapter: Path | None, profile: Profile, options: Any, max_length: int) -> Seq2SeqAgent:
        """Load a model, asked as a trainer's ``options`` say (``prefix``, ``max_target``, ``num_beams``, each where it has them)."""
        from agentft.engine.heads import readable_length
        from agentft.engine.models import load_model, load_tokenizer

        profile.apply()
        tokenizer = load_tokenizer(ref)
        size = readable_length(ref.path, tokenizer, max_length, options)
        model = load_model(ref, profile, adapter, kind=KIND)
        encoder = PairEncoder(tokenizer, getattr(options, "prefix", ""), size, min(getattr(options, "max_target", 128), size))
        return cls(model, tokenizer, profile, encoder, getattr(options, "num_beams", 1))

    @property
    def renderer(self) -> Any:
        """For `agentft chat`: there is no system prompt."""
        return SimpleNamespace(system="(an encoder-decoder has no system prompt)")

    def generate(
        self,
        prompts: Sequence[Example | str],
        settings: GenerationSettings | None = None,
        on_batch: Callable[[Sequence[Response]], None] | None = None,
        done: Mapping[str, Response] | None = None,
    ) -> list[Response]:
        """Answers in the order of ``prompts``, the longest prompts first; batches as for :class:`~agentft.contracts.Backend`.

        Raises:
            DataError: sampling is asked for; answers come from a search.
        """
        settings = settings or GenerationSettings()
        if settings.temperature:
            raise DataError("an encoder-decoder answers by beam search; set temperature to 0")
        known = settled(done)
        asked = [Example(str(i), (Message("user", one),)) if isinstance(one, str) else one for i, one in enumerate(prompts)]
        sources = [self.encoder.source(example.messages)[0] for example in asked]
        order = sorted(range(len(asked)), key=lambda index: (-len(sources[index]), asked[index].id, index))
        found: dict[int, Response] = {}
        for start in range(0, len(order), settings.batch_size):
            batch = order[start : start + settings.batch_size]
            if all(asked[index].id in known for index in batch):
                found |= {index: known[asked[index].id] for index in batch}
                continue
            fresh = self._answer([asked[index].id for index in batch], [sources[index] for index in batch], settings)
            found |= dict(zip(batch, fresh, strict=True))
            if on_batch:
                on_batch(fresh)
        return [found[index] for index in range(len(asked))]

    def _answer(self, ids: Sequence[str], rows: Sequence[list[int]], settings: GenerationSettings) -> list[Response]:
        try:
            produced = self._run(rows, settings)
        except Exception as error:  # one prompt must not cost the others: it is recorded, and counted by who asked
            if len(rows) == 1:
                return [Response(ids[0], "", "error", 0, f"{type(error).__name__}: {error}")]
            return [self._answer([name], [row], settings)[0] for name, row in zip(ids, rows, strict=True)]
        ends, forced = self._token("eos_token_id"), self._token("forced_eos_token_id") is not None
        stops = set(ends if isinstance(ends, list) else [ends])
        answers = []
        for name, new in zip(ids, produced, strict=True):
            end = next((place for place, token in enumerate(new) if token in stops), None)
            kept = new[:end]
            text = self.tokenizer.decode(kept, skip_special_tokens=True, clean_up_tokenization_spaces=False).strip()
            # An end token that was forced at the limit is no end of the model's own.
            stopped = end is not None and not (forced and end + 1 >= settings.max_new_tokens)
            answers.append(Response(name, text, "stop" if stopped else "length", len(kept) + (end is not None)))
        return answers

    def _token(self, name: str) -> Any:
        """A token that the model's generation configuration names, or else its configuration."""
        theirs, own = (getattr(source, name, None) for source in (getattr(self.model, "generation_config", None), self.model.config))
        return own if theirs is None else theirs

    def _run(self, rows: Sequence[list[int]], settings: GenerationSettings) -> list[list[int]]:
        import torch
        from transformers import GenerationConfig

        from agentft.engine.score import pad

        theirs = getattr(self.model, "generation_config", None)
        chosen = GenerationConfig(
            num_beams=self.beams,
            do_sample=False,
            max_new_tokens=settings.max_new_tokens,
            bad_words_ids=getattr(theirs, "bad_words_ids", None),  # Marian must not write its padding token
            **{name: value for name in _TOKENS if (value := self._token(name)) is not None},
        )
        ids = pad(rows, self.tokenizer.pad_token_id).to(self.model.device)
        mask = pad([[1] * len(row) for row in rows], 0).to(self.model.device)
        with torch.inference_mode():
            found = self.model.generate(input_ids=ids, attention_mask=mask, generation_config=chosen)
        # The first token is what the decoder starts with.
        return [row[1:] for row in found.tolist()]

    def chat(self, messages: Sequence[Message | Mapping[str, Any]], settings: GenerationSettings | None = None) -> str:
        """The answer to a conversation that ends with the user.

        Raises:
            DataError: the conversation cannot be answered.
        """
        from agentft.engine.agent import answered

        return answered(self.generate, messages, settings)

    def logprobs(self, examples: Sequence[Example]) -> list[tuple[float, int]]:
        """Sum of the log-probabilities (natural logarithm) of the last answer's tokens, the end token included, and their number."""
        import torch

        from agentft.engine.score import pad

        rows = []
        for index, example in enumerate(examples):
            prompt, answer = example.as_prompt()
            if answer and answer.strip():
                rows.append((index, self.encoder.source(prompt.messages)[0], self.encoder.target(answer)[0]))
        rows.sort(key=lambda row: len(row[1]) + len(row[2]))
        found = [(0.0, 0)] * len(examples)
        size = min(16, self.profile.score_batch)  # logits of every position, not of the labels alone
        for start in range(0, len(rows), size):
            batch = rows[start : start + size]
            sources, targets = [row[1] for row in batch], [row[2] for row in batch]
            tensors = (pad(sources, self.tokenizer.pad_token_id), pad([[1] * len(one) for one in sources], 0), pad(targets, -100))
            with torch.inference_mode():
                losses, owner = target_losses(self.model, *(one.to(self.model.device) for one in tensors))
            for place, (index, _, target) in enumerate(batch):
                found[index] = -float(losses[owner == place].double().sum()), len(target)
        return found
