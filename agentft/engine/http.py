"""Generation over HTTP: any server that speaks OpenAI's chat completions (vLLM, SGLang, llama.cpp, a hosted one), or several."""

from __future__ import annotations

import json
import math
import os
import random
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple

from pydantic import Field

from agentft.contracts import AgentSource, GenerationSettings, settled
from agentft.engine.choices import choices_of, closest
from agentft.engine.openai_form import read_calls, to_openai
from agentft.engine.servers import Servers
from agentft.errors import DataError, MissingDependency, UserError
from agentft.records import Example, Response
from agentft.render.messages import to_tools
from agentft.render.tool_calls import HERMES, Reading
from agentft.validation import Listed, Model

OnBatch = Callable[[Sequence[Response]], None]
# Worth another try: too many requests, and what a proxy says while a server comes back.
_AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
# What is wrong is this one prompt: too long, or refused. It says nothing about the server.
_PROMPT = frozenset({400, 413, 422})
# No answer of a chat model is longer; what is, is a mistake that would fill the memory.
_LARGEST = 32 * 2**20
_LONGEST_WAIT = 60.0


class HttpConfig(Model):
    """Options of the backend ``http``."""

    url: str | Listed[str] = Field(description="of an OpenAI-compatible server, up to `/v1`; several: the requests are spread over them")
    model: str | None = Field(default=None, min_length=1, description="the server's name for the model; left out: as in the recipe")
    key_env: str | None = Field(default=None, description="environment variable that holds the server's key")
    timeout: float = Field(default=60.0, gt=0, description="seconds per request")
    concurrency: int = Field(default=4, ge=1, description="requests at a time, over all servers")
    retries: int = Field(default=3, ge=0, description="further tries of a request that failed in a way that may pass")
    patience: float = Field(default=60.0, ge=0, description="seconds to wait for a server that went away, or that says it is busy")


class _Outcome(NamedTuple):
    """How a request went. ``kind``: ``answer``, ``again`` (may pass), ``busy`` (asked to wait ``wait`` seconds, None: not said), ``gone``
    (nobody there), ``prompt`` (this prompt's fault) or ``no``."""

    kind: str
    text: str = ""
    response: Response | None = None
    wait: float | None = None


class HttpBackend:
    """Implements :class:`agentft.contracts.Backend` against ``POST {url}/chat/completions``.

    Args:
        url: of the server, up to and including ``/v1``; or of several that serve the same model. A request goes to the least busy
            one; one that is dead is left alone and tried again later.
        model: the server's name for the model.
        system: system prompt put in front of every conversation; none for a judge.
        tools: the persona's, offered with every conversation that has none of its own.
        key_env: environment variable with the key; its value is never logged or stored.
        timeout: seconds per request, from sending to the last byte.
        concurrency: requests at a time, over all servers.
        retries: further tries of a request that failed in a way that may pass; the waiting time doubles from ``backoff`` seconds,
            with jitter, and follows the server's Retry-After (seconds or a date).
        give_up: after so many requests in a row that failed for good, the server is lost; when all are, the rest is not sent.
        patience: seconds for which a server that answered before and went away is waited for, without costing a request its tries;
            and seconds that a request waits altogether where the server says that it is busy.
    """

    def __init__(
        self,
        url: str | Sequence[str],
        model: str,
        *,
        system: str = "",
        key_env: str | None = None,
        timeout: float = 60.0,
        concurrency: int = 4,
        retries: int = 3,
        backoff: float = 0.5,
        give_up: int = 8,
        patience: float = 60.0,
        tools: Sequence[Mapping[str, Any]] = (),
    ):
        urls = [url] if isinstance(url, str) else list(url)
        if not urls:
            raise UserError("url: name at least one server")
        for one in urls:
            if not one.startswith(("http://", "https://")):
                raise UserError(f"url: '{one}' is no web address; it looks like http://127.0.0.1:8000/v1")
        self.urls, self.model, self.system = list(dict.fromkeys(one.rstrip("/") for one in urls)), model, system
        self.timeout, self.concurrency, self.retries, self.backoff, self.give_up = timeout, concurrency, retries, backoff, give_up
        self.patience, self.tools = patience, tuple(tools)
        self._headers = {"Content-Type": "application/json"}
        if key_env is not None:
            if not os.environ.get(key_env):
                raise UserError(f"key_env: the environment variable {key_env} is not set")
            self._headers["Authorization"] = f"Bearer {os.environ[key_env]}"

    def generate(
        self,
        prompts: Sequence[Example],
        settings: GenerationSettings,
        on_batch: OnBatch | None = None,
        done: Mapping[str, Response] | None = None,
    ) -> list[Response]:
        """Answers in the order of ``prompts``. A request that fails is a response with ``error``; the others go on.

        ``on_batch`` is called with one response at a time, in the order in which they arrive, never from two threads at once.
        What ``done`` holds is not asked again, except for errors.
        """
        try:
            import httpx
        except ImportError:
            raise MissingDependency("a model behind a url needs the package 'httpx': pip install httpx") from None
        known = settled(done)
        answers: dict[int, Response] = {i: known[one.id] for i, one in enumerate(prompts) if one.id in known}
        waiting = [index for index in range(len(prompts)) if index not in answers]
        servers = Servers(self.urls, self.give_up, self.retries, self.backoff, self.patience)
        limits = httpx.Limits(max_connections=self.concurrency)
        with (
            httpx.Client(timeout=self.timeout, limits=limits, headers=self._headers) as client,
            ThreadPoolExecutor(self.concurrency) as pool,
        ):
            futures = {pool.submit(self._ask, client, prompts[index], settings, servers): index for index in waiting}
            try:
                for future in as_completed(futures):
                    response = answers[futures[future]] = future.result()
                    if on_batch is not None:
                        on_batch([response])
            except BaseException:  # an interruption: what was not sent is not sent any more
                servers.stop("interrupted")
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        return [answers[index] for index in range(len(prompts))]

    def _ask(self, client: Any, prompt: Example, settings: GenerationSettings, servers: Servers) -> Response:
        try:
            choices_of(prompt)
            content = json.dumps(self._body(prompt, settings))
        except (DataError, TypeError, ValueError) as error:
            return Response(prompt.id, "", "error", 0, str(error))
        attempt, waited, reason, last = 0, 0.0, "", None
        while (server := servers.take(last)) is not None:
            last = server
            try:
                outcome = self._try(client, server.url, prompt, content)
            except Exception as error:  # one prompt must not cost the others
                outcome = _Outcome("no", f"{server.url}: {type(error).__name__}: {error}")
            reason = outcome.text
            if outcome.response is not None:
                servers.alive(server)
                return outcome.response
            if outcome.kind == "gone":
                servers.unreachable(server, reason)
                continue
            if outcome.kind == "prompt":
                servers.alive(server)
                break
            if outcome.kind == "no" or (attempt >= self.retries and outcome.kind == "again"):
                servers.failed(server, reason)
                break
            # Jitter, so that requests that failed together do not come back together.
            pause = self.backoff * 2 ** min(attempt, 10) * random.uniform(0.7, 1.3) if outcome.wait is None else outcome.wait
            if outcome.kind == "busy" and waited + pause > self.patience and attempt >= self.retries:
                servers.failed(server, reason)
                break
            servers.release(server)
            attempt, waited = attempt + 1, waited + pause
            time.sleep(pause)
        return Response(prompt.id, "", "error", 0, reason or f"not sent: {servers.why}")

    def _try(self, client: Any, url: str, prompt: Example, content: str) -> _Outcome:
        import httpx

        began = time.monotonic()
        try:
            with client.stream("POST", f"{url}/chat/completions", content=content) as reply:
                received = bytearray()
                for chunk in reply.iter_bytes():
                    received += chunk
                    if len(received) > _LARGEST:
                        return _Outcome("no", f"{url} answers more than {_LARGEST >> 20} MiB, which is no chat completion")
                    # httpx limits the wait for each piece only; a server that drips would hold the request for ever.
                    if time.monotonic() - began > self.timeout:
                        raise httpx.ReadTimeout("")
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            return _Outcome("gone", f"{url} cannot be reached ({type(error).__name__}: {error})")
        except httpx.TimeoutException:
            return _Outcome("again", f"no answer from {url} within {self.timeout:g} s")
        except httpx.HTTPError as error:
            return _Outcome("again", f"{url} cannot be reached ({type(error).__name__}: {error})")
        text = received.decode("utf-8", "replace")
        if reply.status_code in _AGAIN:
            wait = _retry_after(reply.headers.get("Retry-After", ""))
            kind = "busy" if reply.status_code == 429 or wait is not None else "again"
            return _Outcome(kind, f"{url} answers {reply.status_code}: {_short(text)}".rstrip(": "), wait=wait)
        if reply.status_code != 200:
            kind = "prompt" if reply.status_code in _PROMPT else "no"
            return _Outcome(kind, f"{url} answers {reply.status_code}: {_short(text)}".rstrip(": "))
        try:
            data = json.loads(received)  # not the decoded text: wrong bytes are a mistake, and not question marks in an answer
            choice = data["choices"][0]
            answer, calls = choice["message"].get("content"), choice["message"].get("tool_calls") or []
            if answer is None and calls:
                answer = ""
            if not isinstance(answer, str) or not isinstance(calls, list):
                raise TypeError("the content is no text")
        except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
            # What is no JSON may be a proxy's page or half an answer; JSON of another form will stay so.
            kind = "again" if isinstance(error, ValueError) else "no"
            return _Outcome(kind, f"{url} answers what is no chat completion ({type(error).__name__}): {_short(text)}")
        finish = "length" if choice.get("finish_reason") == "length" else "stop"
        # The server is not told of the choices; an answer that is one of them but for upper and lower case is taken as that one.
        found = Reading(closest(answer.strip(), choices_of(prompt)))
        if calls:
            found = read_calls(answer, calls)
        elif prompt.tools or self.tools:
            # A server that does not read calls leaves them in the text.
            found = HERMES.read(answer, prompt.tools or self.tools)
        usage = data.get("usage")
        counts = _tokens(usage, "completion_tokens"), _tokens(usage, "prompt_tokens")
        return _Outcome("answer", "", Response(prompt.id, found.text, finish, counts[0], "", found.calls, found.malformed, counts[1]))

    def _body(self, prompt: Example, settings: GenerationSettings) -> dict[str, Any]:
        messages = to_openai(prompt.messages)
        if self.system:
            messages.insert(0, {"role": "system", "content": self.system})
        return {
            "model": self.model,
            "messages": messages,
            **({"tools": tools} if (tools := to_tools(prompt.tools or self.tools)) else {}),
            "max_tokens": settings.max_new_tokens,
            "temperature": settings.temperature,
            "top_p": settings.top_p,
            "seed": settings.seed,
        }


def open_http(source: AgentSource, config: HttpConfig) -> HttpBackend:
    """The backend ``http`` of a recipe: the server plays the persona.

    Raises:
        UserError: no web address, or the key's environment variable is not set.
    """
    options = config.model_dump(exclude={"url", "model"})
    return HttpBackend(config.url, config.model or source.model.reference, system=source.system, tools=source.tools, **options)


def _tokens(usage: Any, key: str) -> int:
    """A number of tokens, 0 where the server does not say or talks nonsense."""
    count = usage.get(key) if isinstance(usage, Mapping) else None
    return count if isinstance(count, int) and not isinstance(count, bool) and count >= 0 else 0


def _retry_after(value: str) -> float | None:
    """Seconds to wait: a number or an HTTP date (RFC 9110, 10.2.3), at most a minute; None where the header says neither."""
    try:
        seconds = float(value)
    except ValueError:
        try:
            when = parsedate_to_datetime(value)
        except ValueError:
            return None
        seconds = (when.replace(tzinfo=when.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
    return None if math.isnan(seconds) else min(max(seconds, 0.0), _LONGEST_WAIT)


def _short(text: str) -> str:
    flat = " ".join(text[:2000].split())
    return flat if len(flat) <= 160 else flat[:157] + "..."
