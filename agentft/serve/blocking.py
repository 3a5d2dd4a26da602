"""Any backend behind the gateway, one answer at a time and whole: what is not a model of transformers (a GGUF file, say)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from agentft.contracts import Backend, GenerationSettings
from agentft.records import Response
from agentft.serve.answering import Ask, Done, Refusal, Ticket, busy
from agentft.serve.gateway_state import Limits


class BlockingAnswerer:
    """Implements :class:`agentft.serve.answering.Answerer` for a backend that plays the persona.

    An answer that has begun runs to its end although its caller went away. Values of variables are refused: the backend has its
    system prompt.
    """

    def __init__(self, backend: Backend, limits: Limits):
        self.backend, self.limits = backend, limits
        self.running = self._open = 0
        self._pool = ThreadPoolExecutor(1, "agentft-backend")
        self._closed = False

    @property
    def waiting(self) -> int:
        return self._open - self.running

    async def ask(self, asks: Sequence[Ask]) -> list[Ticket]:
        """See :class:`agentft.serve.answering.Answerer`."""
        if self._closed:
            raise Refusal(503, "The gateway is being stopped.", "stopping", retry_after=5)
        if self._open + len(asks) > 1 + self.limits.waiting:
            raise busy(self.waiting, 1.0 + self.waiting)
        if asks[0].variables:
            raise Refusal(400, "This agent takes no variables.", "invalid_variable", "variables")
        return [self._start(ask) for ask in asks]

    def _start(self, ask: Ask) -> Ticket:
        ticket, gone = Ticket(), [False]
        self._open += 1
        loop = asyncio.get_running_loop()
        future = loop.run_in_executor(self._pool, self._answer, ask, gone, loop.time)
        ticket.on_cancel(lambda: gone.__setitem__(0, True))

        def ended(done: asyncio.Future[Response | Refusal]) -> None:
            self._open -= 1
            if done.cancelled():
                ticket.put(Refusal(503, "The gateway was stopped before the answer was complete.", "stopping", retry_after=5))
                return
            found = done.exception() or done.result()
            if isinstance(found, Response):
                if found.text:
                    ticket.put(found.text)
                ticket.put(Done(found))
            else:
                ticket.put(
                    found if isinstance(found, Refusal) else Refusal(500, f"The model failed ({type(found).__name__}).", "model_failed")
                )

        future.add_done_callback(ended)
        return ticket

    def _answer(self, ask: Ask, gone: Sequence[bool], now: object) -> Response | Refusal:
        assert callable(now)
        if gone[0] or now() > ask.deadline:
            return Refusal(503, "The answer waited too long for its turn.", "timeout", retry_after=5)
        self.running += 1
        try:
            new = ask.new_tokens or self.limits.default_new_tokens
            settings = GenerationSettings(new, ask.temperature, ask.top_p, 1, (ask.seed or 0) + ask.choice)
            found = self.backend.generate([ask.prompt], settings)[0]
        finally:
            self.running -= 1
        if found.finish == "error":
            return Refusal(400, f"The conversation cannot be answered: {found.error}.", "invalid_value", "messages")
        places = [place for stop in ask.stop if (place := found.text.find(stop)) >= 0]
        if places:
            found = Response(found.id, found.text[: min(places)], "stop", found.tokens, prompt_tokens=found.prompt_tokens)
        return found

    async def ready(self) -> str:
        return ""

    async def close(self) -> None:
        self._closed = True
        await asyncio.to_thread(self._pool.shutdown, cancel_futures=True)
