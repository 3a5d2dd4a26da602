"""Agents in this process: from a question to tokens, and into the queue of the thread that runs the models."""

from __future__ import annotations

import asyncio
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from agentft.contracts import GenerationSettings
from agentft.engine.generate import seed_of
from agentft.errors import DataError, RecipeError
from agentft.records import Example, Message
from agentft.serve.answering import Ask, Refusal, Ticket, too_long
from agentft.serve.gateway_state import Limits
from agentft.serve.lanes import Body, Mind
from agentft.serve.speech import Speech
from agentft.serve.worker import Job, Worker

if TYPE_CHECKING:
    from agentft.engine.agent import LoadedAgent

# A system prompt for given values of the persona's variables.
SystemOf = Callable[[Mapping[str, Any]], str]
_PROBES = ("A", "Why?")


class LocalAnswerer:
    """Implements :class:`agentft.serve.answering.Answerer` for one agent in memory.

    Args:
        agent: model, tokenizer and renderer.
        worker: the thread; shared by all agents of the process.
        limits: of the gateway.
        body: the model where several agents share it, with ``adapter``, the name of this agent's adapter (None: none).
        tools: of the persona; they are part of what prompts begin with.
        system_of: the system prompt for other values of variables; None: there are no variables.
    """

    def __init__(
        self,
        agent: LoadedAgent,
        worker: Worker,
        limits: Limits,
        *,
        body: Body | None = None,
        adapter: str | None = None,
        tools: Sequence[Mapping[str, Any]] = (),
        system_of: SystemOf | None = None,
    ):
        from agentft.render.conversation import Renderer

        self.agent, self.worker, self.limits = agent, worker, limits
        self._lock = threading.Lock()  # tokenizers do not like two threads at a time
        template = agent.renderer.template
        # For what the agent's own renderer does not do: other variables, or a persona with tools asked without them.
        self._neutral = replace(agent, renderer=Renderer(agent.tokenizer, "", template.source, agent.renderer.given_kwargs))
        self._system_of = lru_cache(maxsize=256)(lambda key: system_of(dict(key))) if system_of else None
        shapes = [tuple(tools), ()] if tools else [()]
        self.mind = Mind(agent, body or Body(agent.model), adapter, [self._beginning(shape) for shape in shapes])
        self._context = min(limits.context_tokens, agent.context or limits.context_tokens)

    async def ask(self, asks: Sequence[Ask]) -> list[Ticket]:
        """See :class:`agentft.serve.answering.Answerer`."""
        self.worker.check(len(asks))  # before the work of rendering
        first = asks[0]
        # All asks of a request have the same prompt.
        tokens, speaker = await asyncio.to_thread(self._encoded, first)
        new = first.new_tokens or min(self.limits.default_new_tokens, self._context - len(tokens))
        if len(tokens) + max(new, 1) > self._context:
            raise too_long(len(tokens), max(new, 1), self._context)
        now = asyncio.get_running_loop().time()
        jobs = [self._job(ask, tokens, speaker, new, time.monotonic() + ask.deadline - now) for ask in asks]
        self.worker.submit(jobs)
        return [job.ticket for job in jobs]

    def _job(self, ask: Ask, tokens: list[int], speaker: LoadedAgent, new: int, deadline: float) -> Job:
        import torch

        stream = None
        if ask.temperature:
            seed = secrets.randbits(62) if ask.seed is None else seed_of(GenerationSettings(seed=ask.seed), str(ask.choice))
            stream = torch.Generator().manual_seed(seed)
        speech = Speech(speaker.renderer, ask.prompt, ask.stop)
        return Job(
            self.mind,
            tokens,
            new,
            ask.temperature,
            ask.top_p,
            stream,
            speech,
            Ticket(),
            deadline,
            ask.stream,
            f"{ask.prompt.id}#{ask.choice}",
        )

    def _encoded(self, ask: Ask) -> tuple[list[int], LoadedAgent]:
        """Tokens of the prompt, and who renders it. Runs in a thread of its own.

        Raises:
            Refusal: 400: the template refuses the conversation, or it is too long.
        """
        agent, prompt = self.agent, ask.prompt
        if ask.variables or (agent.renderer.tools and not prompt.tools):
            agent, prompt = self._neutral, self._with_system(prompt, ask.variables)
        new = ask.new_tokens or 1
        try:
            with self._lock:
                return agent.renderer.prompt(agent.shown(prompt, new)).input_ids, agent
        except DataError as error:
            raise Refusal(400, f"The conversation cannot be answered: {error}.", "invalid_value", "messages") from None

    def _with_system(self, prompt: Example, variables: Mapping[str, Any]) -> Example:
        system = self.agent.renderer.given_system
        if variables and self._system_of is not None:
            try:
                with self._lock:
                    system = self._system_of(tuple(sorted(variables.items())))
            except RecipeError as error:
                raise Refusal(400, str(error.problems[0].message), "invalid_variable", "variables") from None
        own = [message.content for message in prompt.messages[:1] if message.role == "system"]
        text = "\n\n".join(part for part in (system, *own) if part)
        rest = prompt.messages[len(own) :]
        return replace(prompt, messages=(Message("system", text), *rest) if text else rest)

    def _beginning(self, tools: Sequence[Mapping[str, Any]]) -> list[int]:
        """What all prompts with these tools begin with: the persona, and examples that are shown before."""
        try:
            asks = [Ask(Example("probe", (Message("user", text),), tuple(tools)), 1, 0.0, 1.0, 0.0) for text in _PROBES]
            one, other = (self._encoded(ask)[0] for ask in asks)
        except Refusal:  # a template that does not show tools: it will say so to whoever asks
            return []
        same = next((place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), 0)
        return one[:same]

    @property
    def running(self) -> int:
        return self.worker.running

    @property
    def waiting(self) -> int:
        return self.worker.waiting

    async def ready(self) -> str:
        return "" if self.worker.alive else "the thread that runs the models has ended"

    async def close(self) -> None:
        await asyncio.to_thread(self.worker.close)
