"""``POST /v1/chat/completions``: from a request to one or several answers, whole or piece by piece."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from agentft.records import Response as Answer
from agentft.serve.answering import Ask, Refusal, Ticket
from agentft.serve.gateway_door import headers_of
from agentft.serve.gateway_state import Deployment, State
from agentft.serve.gateway_turns import Choice
from agentft.serve.openai_shapes import DONE, ChatRequest, Chunks, completion, error_body, event, finish_of, parse, prompt_of, stops, usage
from agentft.serve.variables import values_of

if TYPE_CHECKING:
    from fastapi import Request
    from starlette.responses import Response


async def answer(request: Request, state: State) -> Response:
    """What the caller gets; refusals too, so that they are counted and logged in one place."""
    from fastapi.responses import JSONResponse

    call = Call(state, f"chatcmpl-{uuid.uuid4().hex}")
    try:
        return await call.run(request)
    except Refusal as refusal:
        call.finish(refusal.status, refusal)
        return JSONResponse(error_body(refusal), refusal.status, headers_of(refusal))
    except asyncio.CancelledError:
        call.finish(499)
        raise
    except Exception as error:
        call.finish(500, Refusal(500, type(error).__name__, "internal_error"))
        raise


class Call:
    """One request, from its arrival until its last byte is sent."""

    def __init__(self, state: State, id: str):
        self.state, self.id = state, id
        self.began = asyncio.get_running_loop().time()
        self.agent = ""
        self.choices: list[Choice] = []
        self._finished = False

    async def run(self, request: Request) -> Response:
        from fastapi.responses import JSONResponse, StreamingResponse

        if self.state.closing:
            raise Refusal(503, "The gateway is being stopped.", "stopping", retry_after=5)
        parsed = parse(await request.body(), self.state.limits)
        deployment = self.state.deployments.get(parsed.model)
        if deployment is None:
            raise Refusal(404, f"The model '{parsed.model}' does not exist.", "model_not_found", "model")
        self.agent = deployment.name
        gone = asyncio.ensure_future(_gone(request))
        try:
            work = asyncio.ensure_future(self._begin(parsed, deployment))
            if not await _first(work, gone):
                return self._left()
            lines: AsyncGenerator[Any, None] = self._lines(parsed, deployment) if parsed.stream else self._whole(deployment)
            step = asyncio.ensure_future(anext(lines))
            if not await _first(step, gone):
                await lines.aclose()
                return self._left()
        finally:
            gone.cancel()
        head = {"x-request-id": self.id}
        if not parsed.stream:
            return JSONResponse(step.result(), headers=head)
        # Proxies that collect an answer before they pass it on are asked not to.
        head |= {"cache-control": "no-cache", "x-accel-buffering": "no"}
        return StreamingResponse(_chained(step.result(), lines), media_type="text/event-stream", headers=head)

    async def _begin(self, parsed: ChatRequest, deployment: Deployment) -> None:
        limits = self.state.limits
        prompt, tool_choice = prompt_of(parsed, self.id, deployment.tools, limits)
        temperature = limits.temperature if parsed.temperature is None else parsed.temperature
        ask = Ask(
            prompt,
            parsed.max_completion_tokens or parsed.max_tokens,
            temperature,
            1.0 if parsed.top_p is None else parsed.top_p,
            self.began + limits.seconds,
            stops(parsed, limits),
            parsed.seed,
            variables=values_of(deployment.declared, parsed.variables, parsed.metadata),
            stream=bool(parsed.stream),
            tool_choice=tool_choice,
        )
        asks = [replace(ask, choice=index) for index in range(parsed.n or 1)]
        tickets: Sequence[Ticket] = await deployment.answerer.ask(asks)
        self.choices = [Choice(self.state, deployment, one, ticket) for one, ticket in zip(asks, tickets, strict=True)]

    async def _whole(self, deployment: Deployment) -> AsyncGenerator[Any, None]:
        """The completion, once."""
        try:
            async for _ in _merged(self.choices):
                pass
        finally:
            self._cancel()
        self._remember(deployment)
        data = completion(self.id, deployment.name, [choice.answer for choice in self.choices], self._usage())
        self.finish(200)
        yield data

    async def _lines(self, parsed: ChatRequest, deployment: Deployment) -> AsyncGenerator[bytes, None]:
        """The lines of an event stream. The first one is there when there is something to say, so that an error before has its status."""
        with_usage = parsed.stream_options is not None and parsed.stream_options.include_usage
        chunks, many, status = Chunks(self.id, deployment.name, with_usage), len(self.choices) > 1, 499
        refusal, opened = None, set[int]()
        try:
            async for index, piece in _merged(self.choices):
                if index not in opened:
                    opened.add(index)
                    if len(opened) == 1:
                        self.state.metrics.first.observe(self._seconds(), agent=self.agent)
                    yield chunks.first(index)
                if piece is not None:
                    yield chunks.delta(index, {"content": piece})
                    continue
                found = self.choices[index].answer
                for line in chunks.calls(index, found.calls, f"{self.id}_{index}" if many else self.id):
                    yield line
                yield chunks.delta(index, {}, finish_of(found))
            self._remember(deployment)
            if with_usage:
                yield chunks.usage(self._usage())
            status = 200
            yield DONE
        except Refusal as late:
            status, refusal = late.status, late
            if not opened:
                raise
            yield event(error_body(late))
        finally:
            self._cancel()
            if refusal is None or opened:
                self.finish(status, refusal)

    def _usage(self) -> dict[str, Any]:
        """The prompt counts once, however many answers there are to it."""
        prompt = max(choice.prompt_tokens for choice in self.choices)
        return usage(prompt, sum(choice.tokens for choice in self.choices), max(choice.cached for choice in self.choices))

    def _remember(self, deployment: Deployment) -> None:
        for index, choice in enumerate(self.choices):
            name = self.id if len(self.choices) == 1 else f"{self.id}#{index}"
            found: Answer = replace(choice.answer, id=name)
            self.state.remembered.add(name, replace(choice.prompt, id=self.id), found, deployment)
            if index == 0:
                self.state.remembered.add(self.id, replace(choice.prompt, id=self.id), replace(found, id=self.id), deployment)

    def _cancel(self) -> None:
        for choice in self.choices:
            choice.cancel()

    def _left(self) -> Response:
        from starlette.responses import Response

        self._cancel()
        self.finish(499)
        return Response(status_code=499)  # nobody reads it

    def _seconds(self) -> float:
        return asyncio.get_running_loop().time() - self.began

    def finish(self, status: int, refusal: Refusal | None = None) -> None:
        """Count and log, once."""
        if self._finished:
            return
        self._finished = True
        metrics, seconds = self.state.metrics, self._seconds()
        metrics.requests.add(path="/v1/chat/completions", agent=self.agent, status=str(status))
        if status == 499:
            metrics.cancelled.add(agent=self.agent)
        if refusal is not None:
            metrics.refusals.add(code=refusal.code or str(status))
        facts: dict[str, Any] = {}
        if self.agent and self.choices:
            metrics.seconds.observe(seconds, agent=self.agent)
            used = self._usage()
            facts = {"prompt_tokens": used["prompt_tokens"], "tokens": used["completion_tokens"]}
            facts |= {"asked": self.choices[0].prompt.last_user, "answered": self.choices[0].text}
            metrics.tokens.add(used["prompt_tokens"], agent=self.agent, kind="prompt")
            metrics.tokens.add(used["prompt_tokens_details"]["cached_tokens"], agent=self.agent, kind="cached")
            metrics.tokens.add(used["completion_tokens"], agent=self.agent, kind="completion")
        error = refusal.message if refusal else ""
        self.state.log.write(id=self.id, agent=self.agent, status=status, seconds=round(seconds, 3), error=error, **facts)


async def _gone(request: Request) -> None:
    """Returns when the caller has hung up."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _first(work: asyncio.Future[Any], gone: asyncio.Future[None]) -> bool:
    """Waits for ``work``; False if the caller went away before, which ends it."""
    await asyncio.wait((work, gone), return_when=asyncio.FIRST_COMPLETED)
    if work.done():
        work.result()
        return True
    work.cancel()
    await asyncio.wait((work,))
    return False


async def _chained(first: bytes, rest: AsyncGenerator[bytes, None]) -> AsyncIterator[bytes]:
    try:
        yield first
        async for line in rest:
            yield line
    finally:
        await rest.aclose()


async def _merged(choices: Sequence[Choice]) -> AsyncIterator[tuple[int, str | None]]:
    """Pieces of all choices as they come, with the number of the choice; None: this one is complete."""
    queue: asyncio.Queue[tuple[int, str | None] | BaseException] = asyncio.Queue()

    async def drain(index: int, choice: Choice) -> None:
        try:
            async for piece in choice:
                queue.put_nowait((index, piece))
            queue.put_nowait((index, None))
        except Exception as error:
            queue.put_nowait(error)

    tasks = [asyncio.ensure_future(drain(index, choice)) for index, choice in enumerate(choices)]
    try:
        open_ = len(tasks)
        while open_:
            found = await queue.get()
            if isinstance(found, BaseException):
                raise found
            open_ -= found[1] is None
            yield found
    finally:
        for task in tasks:
            task.cancel()
