"""Generation in process: batched, and the persona's prompt run once for all prompts."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from agentft.contracts import GenerationSettings, settled
from agentft.engine.choices import Node, Walk, choices_of, processor, said, trie
from agentft.engine.decode import unsupported
from agentft.engine.packed import Packed
from agentft.engine.prefix import WORTH_SHARING, common_prefix
from agentft.engine.virtual import base_of, virtual_tokens
from agentft.errors import DataError
from agentft.records import Example, Response
from agentft.render.tool_calls import Reading

if TYPE_CHECKING:
    from agentft.engine.agent import LoadedAgent
    from agentft.engine.decode import Decoding

# Calls for at least so many new tokens reorder the weights first (agentft.engine.packed): half a second for 135M parameters.
PACK_TOKENS = 2048

OnBatch = Callable[[Sequence[Response]], None]


@dataclass(frozen=True, eq=False)
class Row:
    """A prompt to answer: its place in the call, its id, its tokens, if its answers are given their trie, and the prompt itself."""

    index: int
    id: str
    tokens: list[int]
    root: Node | None = None
    prompt: Example | None = None


Answers = list[tuple[Row, Response]]


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
        self._packed = Packed(self._model)
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

        ``settings.batch_size`` prompts run at a time, those with most tokens first, so that a lack of memory shows at once; where one
        ends, the next prompt takes its place. ``on_batch`` gets the answers as they are ready, a few at a time. Prompts with the same
        tokens (candidates with ids of their own) are read once. If something fails, the prompts that were running are tried again one
        by one. What ``done`` holds is neither computed nor reported again, except for errors, which are never kept. An answer does
        not depend on the prompts that ran beside it, so an interrupted call goes on to the same result (as far as rounding decides
        nothing: two tokens that are equally likely to the last digits may change places).

        Models whose attention cannot be shared run batch by batch through transformers' ``generate``; their samples depend on the
        batch, so only whole batches are taken from ``done``.

        A prompt with ``meta.choices`` is answered with exactly one of these texts, greedily or drawn token by token among the
        tokens that lead to one of them, however long the choice is. Such prompts never run together with others.
        """
        done = settled(done)
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
        encoded.sort(key=lambda item: (-len(item[1]), item[1], prompts[item[0]].id, item[0]))
        rows = [Row(index, prompts[index].id, tokens, tries.get(index), prompts[index]) for index, tokens in encoded]
        for constrained in (False, True):  # rows with choices and rows without are never together
            some = [row for row in rows if (row.root is not None) is constrained]
            for found in (self._continuous if self._own_loop else self._in_batches)(some, settings, done):
                answers |= {row.index: response for row, response in found}
                fresh = [response for row, response in found if done.get(row.id) is not response]
                if fresh:
                    report(fresh)
        return [answers[index] for index in range(len(prompts))]

    def _continuous(self, rows: Sequence[Row], settings: GenerationSettings, done: Mapping[str, Response]) -> Iterator[Answers]:
        """Through our own loop: as many as ``settings.batch_size`` rows together, answers as they end."""
        # With the rows that are done, so that the rest of an interrupted call is rounded as the beginning was.
        worth = len(rows) * settings.max_new_tokens >= PACK_TOKENS
        for prefix, family in families(rows, settings.batch_size):
            yield [(row, done[row.id]) for row in family if row.id in done]
            waiting = [row for row in family if row.id not in done]
            while waiting:
                answered: set[int] = set()
                run = None
                try:
                    run = self._decoding(waiting, settings, prefix, worth)
                    while run.busy:
                        found = self._turn(run, waiting)
                        answered |= {row.index for row, _ in found}
                        yield found
                    break
                except Exception as error:  # a few prompts must not cost the others: they are tried again one by one
                    late = (
                        {waiting[number].index for number in run.waiting} if run else {row.index for row in waiting[settings.batch_size :]}
                    )
                    failed = [row for row in waiting if row.index not in late | answered]
                    waiting = [row for row in waiting if row.index in late]
                    run, cause = None, error.with_traceback(None)  # and with them the memory of its cache
                for row in failed:
                    yield [self._alone(row, settings, prefix)] if len(failed) > 1 else [(row, _failure(row, cause))]

    def _alone(self, row: Row, settings: GenerationSettings, prefix: list[int]) -> tuple[Row, Response]:
        try:
            run = self._decoding([row], settings, prefix)
            while run.busy:
                found = self._turn(run, [row])
            return found[0]
        except Exception as error:
            return row, _failure(row, error)

    def _decoding(self, rows: Sequence[Row], settings: GenerationSettings, prefix: list[int], worth: bool = False) -> Decoding:
        """``worth``: the weights may be reordered for it."""
        import torch

        from agentft.engine.decode import Decoding
        from agentft.engine.sampling import Sampler, greedy

        choose: Any = greedy
        if settings.temperature:
            choose = Sampler([seed_of(settings, row.id) for row in rows], settings.temperature, settings.top_p)
        roots = [row.root for row in rows if row.root is not None]
        walk = Walk(roots, choose) if roots else None
        with torch.inference_mode(), self._packed.used(worth=worth):
            return Decoding(
                self._model,
                self._shared_keys(prefix),
                [row.tokens[len(prefix) :] for row in rows],
                stops=self._stops,
                pad=self.agent.tokenizer.pad_token_id,
                new_tokens=max(root.longest for root in roots) if roots else settings.max_new_tokens,
                choose=walk or choose,
                forced=walk.forced if walk else None,
                slots=settings.batch_size,
            )

    def _turn(self, run: Decoding, rows: Sequence[Row]) -> Answers:
        import torch

        with torch.inference_mode(), self._packed.used(worth=False):  # with the copies that are there
            return [(rows[number], self._response(rows[number], run.produced[number])) for number in run.turn()]

    def _response(self, row: Row, new: Sequence[int]) -> Response:
        end = next((place for place, token in enumerate(new) if token in self._stops), None)
        found = (
            Reading(said(row.root, new)) if row.root is not None else self.agent.renderer.reading(new, row.prompt or Example(row.id, ()))
        )
        finish, count = ("length", len(new)) if end is None else ("stop", end + 1)
        return Response(row.id, found.text, finish, count, "", found.calls, found.malformed, len(row.tokens))

    def _in_batches(self, rows: Sequence[Row], settings: GenerationSettings, done: Mapping[str, Response]) -> Iterator[Answers]:
        """Through transformers' own generate: its samples depend on the batch, so a batch is taken from ``done`` as a whole or not."""
        for start in range(0, len(rows), settings.batch_size):
            batch = rows[start : start + settings.batch_size]
            if all(row.id in done for row in batch):
                yield [(row, done[row.id]) for row in batch]
            else:
                yield self._answer(batch, settings)

    def _answer(self, rows: Sequence[Row], settings: GenerationSettings) -> Answers:
        import torch

        try:
            with torch.inference_mode():
                produced = self._library(rows, settings)
        except Exception as error:  # as above
            if len(rows) == 1:
                return [(rows[0], _failure(rows[0], error))]
            return [self._answer([row], settings)[0] for row in rows]
        return [(row, self._response(row, new)) for row, new in zip(rows, produced, strict=True)]

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

    def _shared_keys(self, prefix: list[int]) -> list[tuple[Any, Any]]:
        """Computed once for as long as prompts begin alike, which a persona's do."""
        from agentft.engine.decode import shared_keys

        if self._keys is None or self._keys[0] != prefix:
            self._keys = (prefix, shared_keys(self.agent.model, prefix))
        return self._keys[1]

    def _library(self, rows: Sequence[Row], settings: GenerationSettings) -> list[list[int]]:
        """New token ids of each row, from its stop token on anything."""
        import torch
        from transformers import LogitsProcessorList

        lengths = sorted({len(row.tokens) for row in rows})
        if virtual_tokens(self.agent.model) and len(lengths) > 1:
            # Padding would come between the virtual tokens and the row, and PEFT counts it as positions: no two lengths in a batch.
            found: dict[int, list[int]] = {}
            for length in lengths:
                some = [row for row in rows if len(row.tokens) == length]
                found |= {row.index: new for row, new in zip(some, self._library(some, settings), strict=True)}
            return [found[row.index] for row in rows]
        roots = [row.root for row in rows if row.root is not None]
        if roots:
            settings = replace(settings, max_new_tokens=max(root.longest for root in roots))
        model, device = self.agent.model, self.agent.model.device
        width, pad = max(len(row.tokens) for row in rows), self.agent.tokenizer.pad_token_id
        gap = [width - len(row.tokens) for row in rows]
        tokens = torch.tensor([[pad] * n + row.tokens for row, n in zip(rows, gap, strict=True)], device=device)
        mask = torch.tensor([[0] * n + [1] * (width - n) for n in gap], device=device)
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed(seed_of(settings, *(row.id for row in rows)))
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


def families(rows: Sequence[Row], batch_size: int) -> list[tuple[list[int], list[Row]]]:
    """Rows with the tokens that they begin with, in the order of ``rows``.

    All in one where all begin alike. Else those that begin alike are together if they are enough to fill half a batch; what remains
    runs without a shared prefix.
    """
    shared = common_prefix([row.tokens for row in rows])
    if shared or not rows:
        return [(rows[0].tokens[:shared], list(rows))] if rows else []
    by_start: dict[tuple[int, ...], list[Row]] = {}
    for row in rows:
        by_start.setdefault(tuple(row.tokens[:WORTH_SHARING]), []).append(row)
    found, rest = [], []
    for family in by_start.values():
        length = common_prefix([row.tokens for row in family])
        if length and 2 * len(family) >= batch_size:
            found.append((family[0].tokens[:length], family))
        else:
            rest.extend(family)
    rest.sort(key=lambda row: -len(row.tokens))  # stable: equal ones stay together
    return [*found, ([], rest)] if rest else found


def _failure(row: Row, error: Exception) -> Response:
    return Response(row.id, "", "error", 0, f"{type(error).__name__}: {error}")


def seed_of(settings: GenerationSettings, *ids: str) -> int:
    """Drawn from the ids, so that the same prompt gives the same sample in whatever order and run it is computed."""
    return int.from_bytes(hashlib.sha256("\0".join([str(settings.seed), *ids]).encode()).digest()[:8], "big") >> 1
