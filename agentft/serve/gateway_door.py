"""In front of every request: who may come in, from where, and with how much."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

from agentft.serve.answering import Refusal
from agentft.serve.gateway_state import State
from agentft.serve.openai_shapes import error_body

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


class Door:
    """An ASGI layer around the gateway.

    Paths below ``/v1``, and ``/metrics``, need the key where there is one. Without a key every page in a browser on this machine could
    talk to the gateway: then the request must name a loopback address (no name that somebody's DNS points here), and a page of another
    origin is refused. Preflights (CORS) are never answered.

    Args:
        inner: the application.
        key: what ``Authorization: Bearer`` must hold; None: nothing.
    """

    def __init__(self, inner: Any, state: State, key: str | None):
        self.inner, self.state = inner, state
        # Compared as digests: the time tells neither how much of the key is right nor how long it is.
        self._key = None if key is None else hashlib.sha256(key.encode()).digest()

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.inner(scope, receive, send)
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        try:
            self._check(scope, headers)
            receive = await self._body(scope, receive, headers)
        except Refusal as refusal:
            self.state.metrics.refusals.add(code=refusal.code or str(refusal.status))
            self.state.metrics.requests.add(path=_path(scope), agent="", status=str(refusal.status))
            self.state.log.write(path=_path(scope), status=refusal.status, error=refusal.message)
            await refuse(send, refusal)
            return
        await self.inner(scope, receive, send)

    def _check(self, scope: dict[str, Any], headers: dict[str, str]) -> None:
        path: str = scope["path"]
        if not (path.startswith("/v1/") or path in ("/v1", "/metrics")):
            return
        if self._key is not None:
            scheme, _, given = headers.get("authorization", "").partition(" ")
            digest = hashlib.sha256(given.strip().encode()).digest()
            if not hmac.compare_digest(digest, self._key) or scheme.lower() != "bearer":
                told = "Incorrect API key provided." if given else "You didn't provide an API key. Send it as 'Authorization: Bearer KEY'."
                raise Refusal(401, told, "invalid_api_key")
        else:
            host = urlsplit(f"//{headers.get('host', '')}").hostname or ""
            if host not in LOOPBACK:
                raise Refusal(403, "Without an API key this gateway answers this machine only, under a loopback address.", "wrong_host")
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != headers.get("host"):
            raise Refusal(403, "Pages of other sites may not use this gateway.", "cross_origin")
        if scope["method"] == "POST" and not headers.get("content-type", "").startswith("application/json"):
            raise Refusal(415, "Send JSON, with the header 'Content-Type: application/json'.", "unsupported_media_type")

    async def _body(self, scope: dict[str, Any], receive: Receive, headers: dict[str, str]) -> Receive:
        """The body, read up to the limit; then what the connection says next, that the caller is gone for example."""
        largest = self.state.limits.body_bytes
        too_large = Refusal(413, f"The request is larger than {largest:,} bytes.", "request_too_large")
        length = headers.get("content-length", "")
        if length.isdigit() and int(length) > largest:
            raise too_large
        body, more = bytearray(), scope["method"] not in ("GET", "HEAD")
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                break
            body += message.get("body", b"")
            if len(body) > largest:
                raise too_large
            more = bool(message.get("more_body"))
        waiting = [{"type": "http.request", "body": bytes(body), "more_body": False}]

        async def replay() -> dict[str, Any]:
            return waiting.pop() if waiting else await receive()

        return replay


def _path(scope: dict[str, Any]) -> str:
    """For counting: a path that exists, or a word."""
    return scope["path"] if scope["path"] in ("/v1/chat/completions", "/v1/models", "/v1/feedback", "/metrics") else "other"


def headers_of(refusal: Refusal) -> dict[str, str]:
    found = {} if refusal.retry_after is None else {"retry-after": str(refusal.retry_after)}
    return found | ({"www-authenticate": "Bearer"} if refusal.status == 401 else {})


async def refuse(send: Send, refusal: Refusal) -> None:
    body = json.dumps(error_body(refusal), ensure_ascii=False).encode()
    headers = {"content-type": "application/json", "content-length": str(len(body)), "connection": "close"} | headers_of(refusal)
    rows = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": refusal.status, "headers": rows})
    await send({"type": "http.response.body", "body": body})
