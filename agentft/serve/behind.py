"""A server behind the gateway: any that speaks OpenAI's chat completions. What it streams is passed on as it comes."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from agentft.engine.openai_form import to_openai
from agentft.errors import RecipeError
from agentft.records import Message, Response
from agentft.serve.answering import Ask, Done, Refusal, Ticket, busy
from agentft.serve.gateway_state import Limits

# The caller's own mistakes, which the server finds out; its words help him.
_CALLERS = frozenset({400, 413, 422})
_PASSING = frozenset({429, 502, 503, 504})
_LARGEST_LINE = 4 * 2**20


class Away(Exception):
    """The server cannot be reached, or hung up; another try may go well."""


class ServerAnswerer:
    """Implements :class:`agentft.serve.answering.Answerer` against ``POST {url}/chat/completions``.

    A request that finds nobody, or whose connection breaks before the first piece of the answer was passed on, is sent again until
    ``limits.patience`` is over; then the caller gets 503. One that breaks later ends with an error: what was said cannot be taken back.

    Args:
        url: up to and including ``/v1``.
        model: the server's name for the model.
        system: the persona.
        key: of the server.
        system_of: the system prompt for other values of the persona's variables.
    """

    def __init__(
        self,
        url: str,
        model: str,
        limits: Limits,
        *,
        system: str = "",
        key: str | None = None,
        system_of: Callable[[Mapping[str, Any]], str] | None = None,
    ):
        self.url, self.model, self.limits, self.system, self._system_of = url.rstrip("/"), model, limits, system, system_of
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._client: Any = None
        self._slots: asyncio.Semaphore | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.running = self._open = 0
        self._mean, self._closed = 1.0, False

    @property
    def waiting(self) -> int:
        return self._open - self.running

    async def ask(self, asks: Sequence[Ask]) -> list[Ticket]:
        """See :class:`agentft.serve.answering.Answerer`."""
        if self._closed:
            raise Refusal(503, "The gateway is being stopped.", "stopping", retry_after=5)
        if self._open + len(asks) > self.limits.running + self.limits.waiting:
            raise busy(self.waiting, self._mean * (self.waiting + 1) / self.limits.running)
        bodies = [self._body(ask) for ask in asks]
        return [self._start(ask, body) for ask, body in zip(asks, bodies, strict=True)]

    def _start(self, ask: Ask, body: dict[str, Any]) -> Ticket:
        ticket = Ticket()
        self._open += 1
        task = asyncio.create_task(self._run(ask, body, ticket))
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        ticket.on_cancel(lambda: (task.cancel(), None)[1])
        return ticket

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._open -= 1

    async def _run(self, ask: Ask, body: dict[str, Any], ticket: Ticket) -> None:
        loop = asyncio.get_running_loop()
        if self._slots is None:
            self._slots = asyncio.Semaphore(self.limits.running)
        try:
            async with asyncio.timeout_at(ask.deadline), self._slots:
                began = loop.time()
                self.running += 1
                try:
                    await self._until_answered(body, ticket, ask, began + self.limits.patience)
                finally:
                    self.running -= 1
                self._mean += 0.1 * (loop.time() - began - self._mean)
        except TimeoutError:
            ticket.put(Refusal(504, "The answer took too long.", "timeout"))
        except Refusal as refusal:
            ticket.put(refusal)
        except asyncio.CancelledError:
            ticket.put(Refusal(503, "The gateway was stopped before the answer was complete.", "stopping", retry_after=5))
            raise
        except Exception as error:
            kind = type(error).__name__
            ticket.put(Refusal(502, f"The server behind this gateway answers what is no chat completion ({kind}).", "bad_gateway"))

    async def _until_answered(self, body: dict[str, Any], ticket: Ticket, ask: Ask, patience: float) -> None:
        loop, pause = asyncio.get_running_loop(), 0.1
        while True:
            said = _Said(ticket, ask)
            try:
                await self._once(body, said)
                return
            except Away as away:
                if said.text:
                    raise Refusal(502, "The server behind this gateway went away in the middle of the answer.", "bad_gateway") from None
                if loop.time() + pause > patience:
                    wait = max(1, round(self.limits.patience))
                    raise Refusal(503, f"The server behind this gateway is away ({away}).", "unavailable", retry_after=wait) from None
            except Refusal as refusal:
                wait = refusal.retry_after or 0
                if said.text or refusal.status != 429 or loop.time() + max(pause, wait) > patience:
                    raise
                pause = max(pause, wait)
            # Jitter, so that those who were cut off together do not come back together.
            await asyncio.sleep(pause * random.uniform(0.7, 1.3))
            pause = min(2 * pause, 2.0)

    async def _once(self, body: dict[str, Any], said: _Said) -> None:
        import httpx

        try:
            async with self._http.stream("POST", f"{self.url}/chat/completions", json=body) as reply:
                if reply.status_code != 200:
                    raise _refusal(reply.status_code, (await reply.aread())[:20_000], reply.headers.get("retry-after", ""))
                if body["stream"]:
                    async for line in reply.aiter_lines():
                        if len(line) > _LARGEST_LINE:
                            raise ValueError("a line without end")
                        if line.startswith("data:") and said.hear(line[5:].strip()):
                            break
                    else:
                        if not said.finish:
                            raise Away("it hung up before the end of the answer")
                else:
                    said.whole(json.loads(await reply.aread()))
        except httpx.HTTPError as error:
            raise Away(type(error).__name__) from None
        said.end()

    @property
    def _http(self) -> Any:
        if self._client is None:
            import httpx

            limits = httpx.Limits(max_connections=self.limits.running + 2, max_keepalive_connections=self.limits.running)
            # The deadline of each request is kept by the caller of this.
            self._client = httpx.AsyncClient(timeout=httpx.Timeout(None, connect=5.0), limits=limits, headers=self._headers)
        return self._client

    def _body(self, ask: Ask) -> dict[str, Any]:
        system = self.system
        if ask.variables and self._system_of is not None:
            try:
                system = self._system_of(ask.variables)
            except RecipeError as error:
                raise Refusal(400, str(error.problems[0].message), "invalid_variable", "variables") from None
        own = [message.content for message in ask.prompt.messages[:1] if message.role == "system"]
        text = "\n\n".join(part for part in (system, *own) if part)
        front = [Message("system", text)] if text else []
        body: dict[str, Any] = {
            "model": self.model,
            "messages": to_openai([*front, *ask.prompt.messages[len(own) :]]),
            "max_tokens": ask.new_tokens or self.limits.default_new_tokens,
            "temperature": ask.temperature,
            "top_p": ask.top_p,
            "stream": ask.stream,
        }
        if ask.stream:
            body["stream_options"] = {"include_usage": True}
        if ask.seed is not None:
            body["seed"] = ask.seed + ask.choice
        if ask.stop:
            body["stop"] = list(ask.stop)
        if ask.prompt.tools:
            body["tools"] = [{"type": "function", "function": dict(tool)} for tool in ask.prompt.tools]
            named = ask.tool_choice not in ("auto", "none", "required")
            if ask.tool_choice != "auto":
                body["tool_choice"] = {"type": "function", "function": {"name": ask.tool_choice}} if named else ask.tool_choice
        return body

    async def ready(self) -> str:
        import httpx

        try:
            reply = await self._http.get(f"{self.url}/models", timeout=5.0)
        except httpx.HTTPError as error:
            return f"the server behind is away ({type(error).__name__})"
        return f"the server behind answers {reply.status_code}" if reply.status_code in _PASSING else ""

    async def close(self) -> None:
        self._closed = True
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._client is not None:
            await self._client.aclose()
            self._client = None


class _Said:
    """What one answer of the server has said so far."""

    def __init__(self, ticket: Ticket, ask: Ask):
        self.ticket, self.ask = ticket, ask
        self.text, self.finish = "", ""
        self._calls: dict[int, dict[str, str]] = {}
        self._usage: Mapping[str, Any] = {}

    def hear(self, data: str) -> bool:
        """A line of the event stream; true at its end. Raises ValueError, TypeError or KeyError for what is none."""
        if data == "[DONE]":
            return True
        chunk = json.loads(data)
        if "error" in chunk:
            raise _refusal(502, data.encode(), "")
        self._usage = chunk.get("usage") or self._usage
        for choice in chunk.get("choices") or ():
            delta = choice.get("delta") or {}
            self._say(delta.get("content"))
            for call in delta.get("tool_calls") or ():
                held = self._calls.setdefault(int(call.get("index", 0)), {"name": "", "arguments": ""})
                function = call.get("function") or {}
                held["name"] += function.get("name") or ""
                held["arguments"] += function.get("arguments") or ""
            self.finish = choice.get("finish_reason") or self.finish
        return False

    def whole(self, data: Mapping[str, Any]) -> None:
        choice = data["choices"][0]
        message = choice["message"]
        self._say(message.get("content"))
        for place, call in enumerate(message.get("tool_calls") or ()):
            self._calls[place] = {"name": call["function"]["name"], "arguments": call["function"]["arguments"] or ""}
        self.finish, self._usage = choice.get("finish_reason") or "stop", data.get("usage") or {}

    def _say(self, piece: Any) -> None:
        if piece is None or piece == "":
            return
        if not isinstance(piece, str):
            raise TypeError("the content is no text")
        self.text += piece
        self.ticket.put(piece)

    def end(self) -> None:
        calls, malformed = [], ""
        for _, call in sorted(self._calls.items()):
            try:
                arguments = json.loads(call["arguments"] or "{}")
                if not isinstance(arguments, dict):
                    raise TypeError
                calls.append({"name": call["name"], "arguments": arguments})
            except (ValueError, TypeError):
                malformed = f"the arguments of '{call['name']}' are not JSON"
        if malformed:
            calls = []
        count, prompt = (_count(self._usage.get(name)) for name in ("completion_tokens", "prompt_tokens"))
        cached = _count((self._usage.get("prompt_tokens_details") or {}).get("cached_tokens"))
        finish = "length" if self.finish == "length" else "stop"
        name = f"{self.ask.prompt.id}#{self.ask.choice}"
        response = Response(name, self.text, finish, count, calls=tuple(calls), malformed=malformed, prompt_tokens=prompt)
        self.ticket.put(Done(response, cached))


def _count(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def _refusal(status: int, body: bytes, retry_after: str) -> Exception:
    """What the caller is told where the server refuses."""
    try:
        error = json.loads(body)["error"]
        message, code, param = str(error["message"]), error.get("code"), error.get("param")
    except (ValueError, KeyError, TypeError):
        message, code, param = "", None, None
    if status in _CALLERS:
        code, param = (value if isinstance(value, str) else None for value in (code, param))
        return Refusal(400, message or "The server behind this gateway refuses the request.", code or "invalid_value", param)
    if status == 429:
        wait = int(retry_after) if retry_after.isdigit() else 1
        return Refusal(429, "The server behind this gateway is busy.", "rate_limit_exceeded", retry_after=min(wait, 60))
    if status in _PASSING:
        return Away(f"it answers {status}")
    # Wrong keys and unknown models are the gateway's mistakes: its caller can do nothing about them.
    return Refusal(502, f"The server behind this gateway answers {status}.", "bad_gateway")
