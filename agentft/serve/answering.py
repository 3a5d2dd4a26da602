"""What the gateway asks and what it hears back, whoever answers: a model in this process, or a server behind it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from agentft.errors import AgentftError
from agentft.records import Example, Response


class Refusal(AgentftError):
    """A request that is not answered, as OpenAI's interface says it.

    Attributes:
        status: of HTTP.
        code, param: for programs: what is wrong, and with which field.
        retry_after: seconds after which another try is worth it; None: it says nothing.
    """

    def __init__(self, status: int, message: str, code: str | None = None, param: str | None = None, retry_after: int | None = None):
        super().__init__(message)
        self.status, self.message, self.code, self.param, self.retry_after = status, message, code, param, retry_after

    @property
    def type(self) -> str:
        """OpenAI's word for this kind of error."""
        if self.status == 429:
            return "rate_limit_error"
        return "server_error" if self.status >= 500 else "invalid_request_error"


@dataclass(frozen=True)
class Ask:
    """One answer to write.

    Attributes:
        prompt: the conversation behind the persona, with the tools that are offered.
        new_tokens: limit; None: the default, as far as the context has room for it.
        stop: texts that end the answer and are not part of it.
        seed: with ``choice`` it decides what is drawn; None: drawn anew each time.
        choice: which of several answers to the same prompt.
        variables: of the persona, as far as they are not the default.
        stream: the caller hears every piece; else the whole answer at the end is enough.
        tool_choice: ``auto``, ``none``, ``required`` or the name of a tool, for a server that can do it.
        deadline: on the event loop's clock.
    """

    prompt: Example
    new_tokens: int | None
    temperature: float
    top_p: float
    deadline: float
    stop: tuple[str, ...] = ()
    seed: int | None = None
    choice: int = 0
    variables: Mapping[str, Any] = field(default_factory=dict)
    stream: bool = False
    tool_choice: str = "auto"


class Done(NamedTuple):
    """The end of an answer. ``cached``: tokens of the prompt that were not computed anew."""

    response: Response
    cached: int = 0


class Ticket:
    """One answer on its way: pieces of text, then :class:`Done`. Belongs to the event loop; :meth:`put` may be called from any thread."""

    def __init__(self, cancel: Callable[[], None] = lambda: None):
        self._loop, self._queue, self._cancel = asyncio.get_running_loop(), asyncio.Queue[Any](), cancel
        self.done: Done | None = None

    def put(self, event: str | Done | Refusal) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody listens any more
            self._loop.call_soon_threadsafe(self._queue.put_nowait, event)

    def on_cancel(self, cancel: Callable[[], None]) -> None:
        self._cancel = cancel

    def cancel(self) -> None:
        """Nobody wants the rest. Nothing happens where it has ended."""
        self._cancel()

    async def __aiter__(self) -> AsyncIterator[str]:
        """Pieces of the text, as they come; :attr:`done` is there when it ends.

        Raises:
            Refusal: there is no answer, or no more of it.
        """
        while True:
            event = await self._queue.get()
            if isinstance(event, Refusal):
                raise event
            if isinstance(event, Done):
                self.done = event
                return
            yield event


class Answerer(Protocol):
    """Who answers."""

    async def ask(self, asks: Sequence[Ask]) -> list[Ticket]:
        """A ticket for each; all of them or none.

        Raises:
            Refusal: busy (429), too long (400), nobody there (503).
        """
        ...

    @property
    def running(self) -> int:
        """Answers that are being written."""
        ...

    @property
    def waiting(self) -> int:
        """Answers that wait for their turn."""
        ...

    async def ready(self) -> str:
        """Why it cannot answer now; empty: it can."""
        ...

    async def close(self) -> None:
        """No answers any more; memory, threads and connections are given back."""
        ...


def busy(waiting: int, seconds: float) -> Refusal:
    """The refusal of a full queue."""
    wait = max(1, min(60, round(seconds)))
    return Refusal(429, f"{waiting} answers are waiting already; try again in {wait} s", "rate_limit_exceeded", retry_after=wait)


def too_long(tokens: int, new: int, limit: int) -> Refusal:
    """The refusal of a prompt that does not fit, in OpenAI's words, which programs look for."""
    return Refusal(
        400,
        f"This model's maximum context length is {limit} tokens. However, your messages resulted in {tokens} tokens "
        f"and the answer may take {new}. Please reduce the length of the messages or max_tokens.",
        "context_length_exceeded",
        "messages",
    )
