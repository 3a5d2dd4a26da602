"""Generation in process: batched, and the persona's prompt run once for all prompts."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from agentft.contracts import GenerationSettings
from agentft.engine.choices import Node, Walk, choices_of, processor, said, trie
from agentft.engine.decode import unsupported
from agentft.engine.prefix import common_prefix
from agentft.engine.virtual import base_of, virtual_tokens
from agentft.errors import DataError
from agentft.records import Example, Response

if TYPE_CHECKING:
    from agentft.engine.agent import LoadedAgent

OnBatch = Callable[[Sequence[Response]], None]


class TransformersBackend:
    """Implements :class:`agentft.contracts.Backend` for a model in memory.

    Args:
        agent: a :class:`~agentft.engine.agent.LoadedAgent`.
        config: none are needed.
    """

    def __init__(self, agent: LoadedAgent, config: Any = None):
        self.agent = agent
        # Virtual tokens stand in front of every row: for the own loop they are the beginning of the shared prefix.
        self._model = base_of(agent.model)
        self._own_loop = agent.profile.share_prefix and not unsupported(self._model)
        self._prefix: list[int] = []
        self._keys: tuple[list[int], list[tuple[Any, Any]]] | None = None
        self._stops = set(agent.renderer.stop_token_ids)
        self._trie_of: tuple[Any, Node] | None = None

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

        A prompt with ``meta.choices`` is answered with exactly one of these texts, greedily or drawn token by token among the
        tokens that lead to one of them, however long the choice is. Such prompts are in batches of their own.
        """
        done = {key: response for key, response in (done or {}).items() if response.finish != "error"}
        report = on_batch or (lambda _: None)
        encoded: list[tuple[int, list[int]]] = []
        tries: dict[int, Node] = {}
        answers: dict[int, Response] = {}
        for index, prompt in enumerate(prompts):
            try:
                root = self._trie(prompt)
                encoded.append((index, self._encode(prompt, settings, root)))
                if root is not None:
                    tries[index] = root
            except DataError as error:
                answers[index] = Response(prompt.id, "", "error", 0, str(error))
        if answers:
            report(list(answers.values()))
        encoded.sort(key=lambda item: (-len(item[1]), prompts[item[0]].id, item[0]))
        self._prefix = encoded[0][1][: common_prefix([tokens for _, tokens in encoded])] if encoded else []
        for batch in _batches(encoded, set(tries), settings.batch_size):
            ids = [prompts[index].id for index, _ in batch]
            if all(name in done for name in ids):
                answers |= {index: done[prompts[index].id] for index, _ in batch}
                continue
            roots = [tries[index] for index, _ in batch if index in tries]
            found = self._answer(ids, [tokens for _, tokens in batch], settings, roots)
            answers |= {index: response for (index, _), response in zip(batch, found, strict=True)}
            report(found)
        return [answers[index] for index in range(len(prompts))]

    def _trie(self, prompt: Example) -> Node | None:
        choices = choices_of(prompt)
        if not choices:
            return None
        answers = self.agent.renderer.answers(prompt, choices)
        key = tuple(map(tuple, answers))
        if self._trie_of is None or self._trie_of[0] != (choices, key):
            self._trie_of = ((choices, key), trie(dict(zip(choices, answers, strict=True))))
        return self._trie_of[1]

    def _encode(self, prompt: Example, settings: GenerationSettings, root: Node | None) -> list[int]:
        new = settings.max_new_tokens if root is None else root.longest
        tokens = self.agent.renderer.prompt(self.agent.shown(prompt, new)).input_ids
        context = self.agent.context
        if context and len(tokens) + new > context:
            raise DataError(f"the prompt has {len(tokens)} tokens, and with {new} new ones it exceeds the model's context of {context}")
        return tokens

    def _answer(
        self, ids: Sequence[str], rows: Sequence[list[int]], settings: GenerationSettings, roots: Sequence[Node] = ()
    ) -> list[Response]:
        try:
            produced = self._run(ids, rows, settings, roots)
        except Exception as error:  # one prompt must not cost the others: it is recorded, and counted by who asked
            if len(rows) == 1:
                return [Response(ids[0], "", "error", 0, f"{type(error).__name__}: {error}")]
            return [self._answer([ids[n]], [rows[n]], settings, roots[n : n + 1])[0] for n in range(len(rows))]
        responses = []
        for number, (name, new) in enumerate(zip(ids, produced, strict=True)):
            end = next((place for place, token in enumerate(new) if token in self._stops), None)
            text = said(roots[number], new) if roots else self.agent.renderer.answer(new)
            responses.append(Response(name, text, "length" if end is None else "stop", len(new) if end is None else end + 1))
        return responses

    def _run(
        self, ids: Sequence[str], rows: Sequence[list[int]], settings: GenerationSettings, roots: Sequence[Node] = ()
    ) -> list[list[int]]:
        """New token ids of each row, from its stop token on anything."""
        import torch

        from agentft.engine.decode import Sampler, decode, greedy

        if roots:
            settings = replace(settings, max_new_tokens=max(root.longest for root in roots))
        with torch.inference_mode():
            if not self._own_loop:
                return self._library(ids, rows, settings, roots)
            # Where one prompt of many begins otherwise, a batch may still have a beginning of its own.
            prefix = self._prefix or rows[0][: common_prefix(rows)]
            seeds = [seed_of(settings, name) for name in ids]
            choose: Any = Sampler(seeds, settings.temperature, settings.top_p) if settings.temperature else greedy
            walk = Walk(roots, choose) if roots else None
            return decode(
                self._model,
                self._shared_keys(prefix),
                [row[len(prefix) :] for row in rows],
                stops=self._stops,
                pad=self.agent.tokenizer.pad_token_id,
                new_tokens=settings.max_new_tokens,
                choose=walk or choose,
                forced=walk.forced if walk else None,
            )

    def _shared_keys(self, prefix: list[int]) -> list[tuple[Any, Any]]:
        """Computed once for as long as prompts begin alike, which a persona's do."""
        from agentft.engine.decode import shared_keys

        if self._keys is None or self._keys[0] != prefix:
            self._keys = (prefix, shared_keys(self.agent.model, prefix))
        return self._keys[1]

    def _library(
        self, ids: Sequence[str], rows: Sequence[list[int]], settings: GenerationSettings, roots: Sequence[Node] = ()
    ) -> list[list[int]]:
        """Through transformers' own generate: for models whose attention cannot be shared."""
        import torch
        from transformers import LogitsProcessorList

        lengths = sorted({len(row) for row in rows})
        if virtual_tokens(self.agent.model) and len(lengths) > 1:
            # Padding would come between the virtual tokens and the row, and PEFT counts it as positions: no two lengths in a batch.
            found: dict[int, list[int]] = {}
            for length in lengths:
                places = [place for place, row in enumerate(rows) if len(row) == length]
                some = [roots[place] for place in places] if roots else ()
                new = self._library([ids[place] for place in places], [rows[place] for place in places], settings, some)
                found |= dict(zip(places, new, strict=True))
            return [found[place] for place in range(len(rows))]
        model, device = self.agent.model, self.agent.model.device
        width, pad = max(len(row) for row in rows), self.agent.tokenizer.pad_token_id
        gap = [width - len(row) for row in rows]
        tokens = torch.tensor([[pad] * n + row for row, n in zip(rows, gap, strict=True)], device=device)
        mask = torch.tensor([[0] * n + [1] * (width - n) for n in gap], device=device)
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed(seed_of(settings, *ids))
            only = [processor(roots, width)] if roots else []
            output = model.generate(
                input_ids=tokens, attention_mask=mask, generation_config=self._config(settings), logits_processor=LogitsProcessorList(only)
            )
        return output[:, width:].tolist()

    def _config(self, settings: GenerationSettings) -> Any:
        """Every knob that would else be filled from the model's own generation_config."""
        from transformers import GenerationConfig

        # top_k 0: the library's default is 50, and it is not what top_p alone means.
        sampling = {"temperature": settings.temperature, "top_p": settings.top_p, "top_k": 0} if settings.temperature > 0 else {}
        return GenerationConfig(
            max_new_tokens=settings.max_new_tokens,
            do_sample=bool(sampling),
            **sampling,
            num_beams=1,
            repetition_penalty=1.0,
            eos_token_id=list(self.agent.renderer.stop_token_ids),
            pad_token_id=self.agent.tokenizer.pad_token_id,
            use_cache=True,
        )


def _batches(encoded: Sequence[tuple[int, list[int]]], constrained: set[int], size: int) -> Iterator[Sequence[tuple[int, list[int]]]]:
    """Batches in the order given; rows with choices and rows without are never in one batch."""
    for wanted in (False, True):
        rows = [row for row in encoded if (row[0] in constrained) is wanted]
        yield from (rows[start : start + size] for start in range(0, len(rows), size))


def seed_of(settings: GenerationSettings, *ids: str) -> int:
    """Drawn from the ids, so that the same prompt gives the same sample in whatever order and run it is computed."""
    return int.from_bytes(hashlib.sha256("\0".join([str(settings.seed), *ids]).encode()).digest()[:8], "big") >> 1
