"""One answer to one request; where the gateway runs tools, several turns of the model become one answer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import Any

from agentft.environments import ToolAnswer
from agentft.records import Message, Response
from agentft.serve.answering import Ask, Ticket
from agentft.serve.gateway_state import Deployment, State


class Choice:
    """One of the answers to a request.

    Attributes:
        prompt: what the last turn answered: the request, and the tools' answers if the gateway ran some.
        answer: there when the iteration has ended.
        text: what was said so far, over all turns.
        tokens, prompt_tokens, cached: generated over all turns; of the longest prompt; of it not computed anew.
    """

    def __init__(self, state: State, deployment: Deployment, ask: Ask, ticket: Ticket):
        self.state, self.deployment, self._ask, self._ticket = state, deployment, ask, ticket
        self.prompt = ask.prompt
        self.text, self.tokens, self.prompt_tokens, self.cached = "", 0, 0, 0
        self._answer: Response | None = None

    @property
    def answer(self) -> Response:
        assert self._answer is not None
        return self._answer

    def cancel(self) -> None:
        self._ticket.cancel()

    async def __aiter__(self) -> AsyncIterator[str]:
        """Pieces of the text."""
        for turn in range(self.state.limits.tool_rounds):
            if turn:
                self._ticket = (await self.deployment.answerer.ask([replace(self._ask, prompt=self.prompt)]))[0]
            apart = bool(self.text)
            async for piece in self._ticket:
                if apart:
                    apart, piece = False, f"\n\n{piece}"
                self.text += piece
                yield piece
            assert self._ticket.done is not None
            response, cached = self._ticket.done
            self.tokens += response.tokens
            if response.prompt_tokens >= self.prompt_tokens:
                self.prompt_tokens, self.cached = response.prompt_tokens, cached
            self._answer = replace(response, text=self.text)
            if not self._runs(response) or turn + 1 == self.state.limits.tool_rounds:
                return
            answers = [Message("tool", await self._call(call), call["name"]) for call in response.calls]
            self.prompt = replace(self.prompt, messages=(*self.prompt.messages, response.message, *answers))

    def _runs(self, response: Response) -> bool:
        """Only what the persona brings is run here; one call of the caller's own tools, and he has to go on."""
        return (
            bool(response.calls)
            and self.deployment.call_tool is not None
            and all(call["name"] in self.deployment.runs for call in response.calls)
        )

    async def _call(self, call: Mapping[str, Any]) -> str:
        name, run = str(call["name"]), self.deployment.call_tool
        assert run is not None
        left = max(0.01, self._ask.deadline - asyncio.get_running_loop().time())
        try:
            found = await asyncio.wait_for(asyncio.to_thread(run, name, call["arguments"], self._ask.variables), left)
        except TimeoutError:
            found = ToolAnswer(json.dumps({"error": f"{name} took too long"}), error=True)
        self.state.metrics.tools.add(agent=self.deployment.name, tool=name, outcome="error" if found.error else "ok")
        return found.content
