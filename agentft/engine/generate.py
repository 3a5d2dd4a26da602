"""Generation in process, through transformers: batched, and the persona's prompt run once per batch."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from agentft.contracts import GenerationSettings
from agentft.engine.prefix import common_prefix, prefix_cache, why_not
from agentft.errors import DataError
from agentft.records import Example, Response

if TYPE_CHECKING:
    from agentft.engine.agent import LoadedAgent

# New tokens after which rows that have ended leave the batch.
PHASE = 24

OnBatch = Callable[[Sequence[Response]], None]


class TransformersBackend:
    """Implements :class:`agentft.contracts.Backend` for a model in memory.

    Args:
        agent: a :class:`~agentft.engine.agent.LoadedAgent`.
        config: none are needed.
    """

    def __init__(self, agent: LoadedAgent, config: Any = None):
        self.agent = agent
        self._share = agent.profile.share_prefix and not why_not(agent.model)
        self._stops = set(agent.renderer.stop_token_ids)

    def generate(
        self,
        prompts: Sequence[Example],
        settings: GenerationSettings,
        on_batch: OnBatch | None = None,
        done: Mapping[str, Response] | None = None,
    ) -> list[Response]:
        """Answers in the order of ``prompts``.

        Prompts are sorted by length and cut into batches of ``settings.batch_size``; the longest come first, so that a lack
        of memory shows at once. A batch that fails is tried again row by row. ``on_batch`` gets what was computed now;
        what ``done`` holds is neither computed nor reported again, except for errors, which are never kept.
        """
        done = {key: response for key, response in (done or {}).items() if response.finish != "error"}
        report = on_batch or (lambda _: None)
        encoded: list[tuple[int, list[int]]] = []
        answers: dict[int, Response] = {}
        for index, prompt in enumerate(prompts):
            try:
                encoded.append((index, self._encode(prompt, settings)))
            except DataError as error:
                answers[index] = Response(prompt.id, "", "error", 0, str(error))
        if answers:
            report(list(answers.values()))
        encoded.sort(key=lambda item: (-len(item[1]), prompts[item[0]].id, item[0]))
        for start in range(0, len(encoded), settings.batch_size):
            batch = encoded[start : start + settings.batch_size]
            ids = [prompts[index].id for index, _ in batch]
            if all(name in done for name in ids):
                answers |= {index: done[prompts[index].id] for index, _ in batch}
                continue
            found = self._answer(ids, [tokens for _, tokens in batch], settings)
            answers |= {index: response for (index, _), response in zip(batch, found, strict=True)}
            report(found)
        return [answers[index] for index in range(len(prompts))]

    def _encode(self, prompt: Example, settings: GenerationSettings) -> list[int]:
        tokens = self.agent.renderer.prompt(prompt).input_ids
        context = getattr(self.agent.model.config.get_text_config(), "max_position_embeddings", None)
        if context and len(tokens) + settings.max_new_tokens > context:
            new = settings.max_new_tokens
            raise DataError(f"the prompt has {len(tokens)} tokens, and with {new} new ones it exceeds the model's context of {context}")
        return tokens

    def _answer(self, ids: Sequence[str], rows: Sequence[list[int]], settings: GenerationSettings) -> list[Response]:
        try:
            produced = self._run(ids, rows, settings)
        except Exception as error:  # one prompt must not cost the others: it is recorded, and counted by who asked
            if len(rows) == 1:
                return [Response(ids[0], "", "error", 0, f"{type(error).__name__}: {error}")]
            return [self._answer([name], [row], settings)[0] for name, row in zip(ids, rows, strict=True)]
        responses = []
        for name, new in zip(ids, produced, strict=True):
            end = next((place for place, token in enumerate(new) if token in self._stops), None)
            text = self.agent.renderer.answer(new)
            responses.append(Response(name, text, "length" if end is None else "stop", len(new) if end is None else end + 1))
        return responses

    def _run(self, ids: Sequence[str], rows: Sequence[list[int]], settings: GenerationSettings) -> list[list[int]]:
        """New token ids of each row, padding after the stop token included."""
        import torch

        model, device = self.agent.model, self.agent.model.device
        shared = common_prefix(rows) if self._share else 0
        width = max(len(row) for row in rows)
        gap = [width - len(row) for row in rows]
        # [shared prefix | padding | rest of the row]: generate takes positions from the mask, padding counts for nothing.
        pad = self.agent.tokenizer.pad_token_id
        tokens = torch.tensor([row[:shared] + [pad] * n + row[shared:] for row, n in zip(rows, gap, strict=True)], device=device)
        mask = torch.tensor([[1] * shared + [0] * n + [1] * (width - shared - n) for n in gap], device=device)
        # Drawn from the ids, so that a batch gives the same samples in whatever order and run it is computed.
        seed = int.from_bytes(hashlib.sha256("\0".join([str(settings.seed), *ids]).encode()).digest()[:8], "big") >> 1
        devices = [device] if device.type == "cuda" else []
        produced: list[list[int]] = [[] for _ in rows]
        with torch.inference_mode(), torch.random.fork_rng(devices):
            torch.manual_seed(seed)
            cache: Any = prefix_cache(model, tokens[0, :shared], len(rows)) if shared else None
            waiting, left = list(range(len(rows))), settings.max_new_tokens
            while waiting:
                config = self._config(settings, min(PHASE, left) if self._share and len(waiting) > 1 else left)
                begun = {"past_key_values": cache} if cache is not None else {}
                output = model.generate(input_ids=tokens, attention_mask=mask, generation_config=config, **begun)
                new = output.sequences[:, tokens.shape[1] :]
                for index, fresh in zip(waiting, new.tolist(), strict=True):
                    produced[index] += fresh
                left -= new.shape[1]
                going = [place for place, index in enumerate(waiting) if not self._stops & set(produced[index])]
                if not going or left <= 0:
                    break
                # Rows that have ended leave the batch: an answer in it may be three times as long as the usual one.
                tokens, cache = output.sequences[going], output.past_key_values
                mask = torch.cat([mask[going], torch.ones((len(going), new.shape[1]), dtype=mask.dtype, device=device)], 1)
                cache.batch_select_indices(torch.tensor(going, device=device))
                waiting = [waiting[place] for place in going]
        return produced

    def _config(self, settings: GenerationSettings, new_tokens: int) -> Any:
        """Every knob that would else be filled from the model's own generation_config."""
        from transformers import GenerationConfig

        # top_k 0: the library's default is 50, and it is not what top_p alone means.
        sampling = {"temperature": settings.temperature, "top_p": settings.top_p, "top_k": 0} if settings.temperature > 0 else {}
        return GenerationConfig(
            max_new_tokens=new_tokens,
            do_sample=bool(sampling),
            **sampling,
            num_beams=1,
            repetition_penalty=1.0,
            eos_token_id=list(self.agent.renderer.stop_token_ids),
            pad_token_id=self.agent.tokenizer.pad_token_id,
            use_cache=True,
            return_dict_in_generate=True,
        )
