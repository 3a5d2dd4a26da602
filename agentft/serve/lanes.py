"""Models in memory, and the answers that run through one of them together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from agentft.engine.live import Live
from agentft.engine.packed import Packed
from agentft.engine.prefix import WORTH_SHARING
from agentft.engine.sampling import Draws

if TYPE_CHECKING:
    from agentft.engine.agent import LoadedAgent
    from agentft.serve.worker import Job

# Prompts that leave the persona's beginning somewhere in the middle (other variables, further instructions) share what comes before,
# in steps of so many tokens: customers whose names begin alike shall not have a lane each.
GRAIN = 16
News = tuple["Job", Sequence[int], bool]


class Body:
    """A model in memory with any number of adapters, of which one at a time is switched on.

    Args:
        model: a model of transformers, or of PEFT where there are adapters to switch.
        switches: there are; each agent on it then says which one it wants.
    """

    def __init__(self, model: Any, switches: bool = False):
        from agentft.engine.virtual import base_of

        self.model, self.switches = model, switches
        self.packed = Packed(base_of(model))
        self._on: str | None = None
        self._known = False

    @contextmanager
    def as_(self, adapter: str | None) -> Iterator[None]:
        """Within, the model runs with ``adapter`` (None: without any)."""
        import torch

        if self.switches and (not self._known or self._on != adapter):
            if adapter is None:
                self.model.base_model.disable_adapter_layers()
            else:
                self.model.base_model.enable_adapter_layers()
                self.model.set_adapter(adapter)
            self._on, self._known = adapter, True
        with torch.inference_mode(), self.packed.used(worth=True):
            yield


class Mind:
    """How one agent thinks: a body, the adapter to switch on, and what its prompts begin with.

    Args:
        agent: model, tokenizer and renderer.
        body: of its model; several minds may share one.
        adapter: name of the adapter within the body's model; None: none.
        prefixes: tokens that prompts of this agent begin with; their keys are computed once and kept.
    """

    def __init__(self, agent: LoadedAgent, body: Body, adapter: str | None = None, prefixes: Sequence[list[int]] = ()):
        from agentft.engine.decode import unsupported
        from agentft.engine.virtual import base_of, virtual_tokens

        self.agent, self.body, self.adapter = agent, body, adapter
        self.prefixes = [prefix for prefix in prefixes if len(prefix) >= WORTH_SHARING]
        self._base, self._virtual = base_of(agent.model), virtual_tokens(agent.model)
        self._keys: dict[int, list[tuple[Any, Any]]] = {}
        self.alone = "" if agent.profile.share_prefix and not unsupported(self._base) else "its attention cannot be shared"

    def lane_of(self, tokens: Sequence[int]) -> tuple[Any, int]:
        """Which lane a prompt belongs to, and how many of its tokens that lane has computed."""
        if self.alone:
            return (self, -1, 0), 0
        best, which = 0, -1
        for place, prefix in enumerate(self.prefixes):
            limit = min(len(prefix), len(tokens) - 1)
            same = next((i for i in range(limit) if prefix[i] != tokens[i]), limit)
            same = same if same == len(prefix) else same - same % GRAIN
            if same >= WORTH_SHARING and same > best:
                best, which = same, place
        return (self, which, best), best

    def open(self, slots: int) -> Any:
        """An empty lane."""
        if self.alone:
            from agentft.serve.library import LibraryLane

            return LibraryLane(self)
        return Lane(self, slots)

    def keys(self, prefix: Sequence[int], shared: int) -> list[tuple[Any, Any]]:
        """Keys and values of the first ``shared`` tokens of ``prefix``, and of virtual tokens in front of them."""
        from agentft.engine.decode import shared_keys

        which = next((place for place, one in enumerate(self.prefixes) if shared and one[:shared] == list(prefix[:shared])), -1)
        if which not in self._keys:
            self._keys[which] = shared_keys(self.agent.model, self.prefixes[which] if which >= 0 else [])
        end = self._virtual + shared
        return [(keys[:, :, :end], values[:, :, :end]) for keys, values in self._keys[which]]

    @contextmanager
    def awake(self) -> Iterator[None]:
        with self.body.as_(self.adapter):
            yield


class Lane:
    """Answers that begin with the same tokens, through our own loop."""

    def __init__(self, mind: Mind, slots: int):
        self.mind, self.slots = mind, slots
        self.jobs: dict[int, Job] = {}
        self._draws = Draws()
        self._live: Live | None = None

    def add(self, job: Job) -> None:
        if self._live is None:
            with self.mind.awake():
                self._live = Live(
                    self.mind._base,
                    self.mind.keys(job.tokens, job.cached),
                    stops=set(job.speech.renderer.stop_token_ids),
                    pad=self.mind.agent.tokenizer.pad_token_id,
                    choose=self._draws,
                    slots=self.slots,
                )
        # One that is tried again goes on behind what it has said.
        row = [*job.tokens[job.cached :], *job.speech.ids]
        self._draws.add(job.number, job.stream, job.temperature, job.top_p)
        self._live.add(job.number, row, job.new_tokens - len(job.speech.ids))
        self.jobs[job.number] = job

    def step(self) -> list[News]:
        """What each job has got, and whether it was its last."""
        assert self._live is not None
        with self.mind.awake():
            gone = set(self._live.step())
        found: list[News] = []
        for number, job in list(self.jobs.items()):
            new = self._live.produced[number]
            if len(new) > job.said or number in gone:
                tokens, job.said = new[job.said :], len(new)
                found.append((job, tokens, number in gone))
            if number in gone:
                self._live.forget(number)
                self._drop(job)
        return found

    def remove(self, job: Job) -> None:
        """It gets no more tokens."""
        if job.number in self.jobs:
            assert self._live is not None
            self._live.cancel(job.number)
            self._drop(job)

    def _drop(self, job: Job) -> None:
        del self.jobs[job.number]
        job.said = 0
        self._draws.forget(job.number)

    def close(self) -> None:
        self._live = None
