"""Generation over HTTP: any server that speaks OpenAI's chat completions (vLLM, SGLang, llama.cpp, a hosted one)."""

from __future__ import annotations

import json
import os
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any

from agentft.contracts import GenerationSettings
from agentft.engine.choices import choices_of, closest
from agentft.errors import DataError, MissingDependency, UserError
from agentft.records import Example, Response

OnBatch = Callable[[Sequence[Response]], None]
# Worth another try: too many requests, and what a proxy says while a server comes back.
_AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504})


class HttpBackend:
    """Implements :class:`agentft.contracts.Backend` against ``POST {url}/chat/completions``.

    Args:
        url: of the server, up to and including ``/v1``.
        model: the server's name for the model.
        system: system prompt put in front of every conversation; none for a judge.
        key_env: environment variable with the key; its value is never logged or stored.
        timeout: seconds per request.
        concurrency: requests at a time.
        retries: further tries of a request that failed in a way that may pass; the waiting time doubles from ``backoff`` seconds,
            with jitter, and follows the server's Retry-After.
        give_up: after so many requests in a row that failed for good, the rest is not sent: the server is gone.
    """

    def __init__(
        self,
        url: str,
        model: str,
        *,
        system: str = "",
        key_env: str | None = None,
        timeout: float = 60.0,
        concurrency: int = 4,
        retries: int = 3,
        backoff: float = 0.5,
        give_up: int = 8,
    ):
        if not url.startswith(("http://", "https://")):
            raise UserError(f"url: '{url}' is no web address; it looks like http://127.0.0.1:8000/v1")
        self.url, self.model, self.system = url.rstrip("/"), model, system
        self.timeout, self.concurrency, self.retries, self.backoff, self.give_up = timeout, concurrency, retries, backoff, give_up
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
        known = {key: response for key, response in (done or {}).items() if response.finish != "error"}
        answers: dict[int, Response] = {i: known[one.id] for i, one in enumerate(prompts) if one.id in known}
        waiting = [index for index in range(len(prompts)) if index not in answers]
        lost = _Lost(self.give_up)
        limits = httpx.Limits(max_connections=self.concurrency)
        with (
            httpx.Client(timeout=self.timeout, limits=limits, headers=self._headers) as client,
            ThreadPoolExecutor(self.concurrency) as pool,
        ):
            futures = {pool.submit(self._ask, client, prompts[index], settings, lost): index for index in waiting}
            for future in as_completed(futures):
                response = answers[futures[future]] = future.result()
                if on_batch is not None:
                    on_batch([response])
        return [answers[index] for index in range(len(prompts))]

    def _ask(self, client: Any, prompt: Example, settings: GenerationSettings, lost: _Lost) -> Response:
        if lost.given_up:
            return Response(prompt.id, "", "error", 0, f"not sent: {lost.why}")
        try:
            choices_of(prompt)
        except DataError as error:
            return Response(prompt.id, "", "error", 0, str(error))
        reason = ""
        for attempt in range(self.retries + 1):
            if attempt:
                time.sleep(self._pause(attempt, reason))
            reason, response = self._try(client, prompt, settings)
            if response is not None:
                lost.reset()
                return response
            if not reason.startswith(("again:", "after:")):
                break
        text = reason.partition(": ")[2] if reason.startswith(("again:", "after:")) else reason
        lost.count(text)
        return Response(prompt.id, "", "error", 0, text)

    def _try(self, client: Any, prompt: Example, settings: GenerationSettings) -> tuple[str, Response | None]:
        """The response, or why there is none; the reason begins with ``again:`` where another try may help."""
        import httpx

        try:
            reply = client.post(f"{self.url}/chat/completions", content=json.dumps(self._body(prompt, settings)))
        except httpx.TimeoutException:
            return f"again: no answer from {self.url} within {self.timeout:g} s", None
        except httpx.HTTPError as error:
            return f"again: {self.url} cannot be reached ({type(error).__name__}: {error})", None
        if reply.status_code in _AGAIN:
            wait = reply.headers.get("Retry-After", "")
            mark = f"after:{wait}" if wait.isdigit() else "again"
            return f"{mark}: {self.url} answers {reply.status_code}", None
        if reply.status_code != 200:
            return f"{self.url} answers {reply.status_code}: {_short(reply.text)}", None
        try:
            choice = reply.json()["choices"][0]
            text = choice["message"]["content"]
            if not isinstance(text, str):
                raise TypeError("the content is no text")
        except (ValueError, KeyError, IndexError, TypeError) as error:
            return f"{self.url} answers what is no chat completion ({type(error).__name__}): {_short(reply.text)}", None
        usage = reply.json().get("usage") or {}
        finish = "length" if choice.get("finish_reason") == "length" else "stop"
        # The server is not told of the choices; an answer that is one of them but for upper and lower case is taken as that one.
        return "", Response(prompt.id, closest(text.strip(), choices_of(prompt)), finish, int(usage.get("completion_tokens") or 0))

    def _body(self, prompt: Example, settings: GenerationSettings) -> dict[str, Any]:
        messages = [{"role": message.role, "content": message.content} for message in prompt.messages]
        if self.system:
            messages.insert(0, {"role": "system", "content": self.system})
        return {
            "model": self.model,
            "messages": messages,
            "max_tokens": settings.max_new_tokens,
            "temperature": settings.temperature,
            "top_p": settings.top_p,
            "seed": settings.seed,
        }

    def _pause(self, attempt: int, reason: str) -> float:
        if reason.startswith("after:"):
            return min(float(reason[6:].partition(":")[0]), 60.0)
        # Jitter, so that requests that failed together do not come back together.
        return self.backoff * 2 ** (attempt - 1) * random.uniform(0.7, 1.3)


class _Lost:
    """Counts requests in a row that failed for good, over all threads."""

    def __init__(self, limit: int):
        self._limit, self._failed, self._lock, self.why = limit, 0, threading.Lock(), ""

    @property
    def given_up(self) -> bool:
        return self._failed >= self._limit

    def count(self, why: str) -> None:
        with self._lock:
            self._failed, self.why = self._failed + 1, why

    def reset(self) -> None:
        with self._lock:
            self._failed = 0


def _short(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= 160 else flat[:157] + "..."
