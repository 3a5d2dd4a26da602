"""What every page of ours is guarded with: a limit on bodies, a token away from loopback, same origin, headers."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import parse_qs, urlsplit

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

LARGEST_BODY = 256 * 1024
COOKIE = "agentft_token"
HEADERS = (
    (b"content-security-policy", b"default-src 'none'; style-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)


class Guard:
    """An ASGI layer around an application.

    Args:
        token: needed by every request, in ``?token=`` once and in a cookie from then on; None: everybody on this machine may.
        largest: bytes of a request's body; more is refused while it is read, before anything is stored.
    """

    def __init__(self, app: Any, token: str | None = None, largest: int = LARGEST_BODY):
        self.app, self.token, self.largest = app, token, largest

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        refusal, cookie = self._refusal(scope, headers)
        if refusal:
            await _plain(send, *refusal)
            return
        try:
            body = await self._body(receive, headers)
        except OverflowError:
            await _plain(send, 413, f"This is more than {self.largest // 1024} kB. Go back and shorten it; nothing was stored.")
            return

        async def replay() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def with_headers(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                extra = [(b"set-cookie", cookie.encode())] if cookie else []
                message = {**message, "headers": [*message["headers"], *HEADERS, *extra]}
            await send(message)

        await self.app(scope, replay, with_headers)

    def _refusal(self, scope: dict[str, Any], headers: dict[str, str]) -> tuple[tuple[int, str] | None, str]:
        cookie = ""
        if self.token is not None:
            asked = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
            jar = SimpleCookie(headers.get("cookie", ""))
            kept = jar[COOKIE].value if COOKIE in jar else ""
            # Compared in constant time: the time must not tell how much of the token is right.
            fresh = hmac.compare_digest(asked.encode(), self.token.encode())
            if not fresh and not hmac.compare_digest(kept.encode(), self.token.encode()):
                return (403, "This page needs its token: open the address that `agentft annotate` printed."), ""
            cookie = f"{COOKIE}={self.token}; HttpOnly; SameSite=Strict; Path=/" if fresh else ""
        if scope["method"] == "POST" and not _same_origin(headers):
            return (403, "This form was sent from another site and was not stored."), ""
        return None, cookie

    async def _body(self, receive: Receive, headers: dict[str, str]) -> bytes:
        length = headers.get("content-length", "")
        if length.isdigit() and int(length) > self.largest:
            raise OverflowError
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if len(body) > self.largest:
                raise OverflowError
            if not message.get("more_body"):
                return body


def _same_origin(headers: dict[str, str]) -> bool:
    """Browsers say where a form comes from; another site must not be able to rate in somebody's name."""
    origin = headers.get("origin")
    if origin is not None and origin != "null":
        return urlsplit(origin).netloc == headers.get("host")
    return headers.get("sec-fetch-site", "same-origin") in ("same-origin", "none")


async def _plain(send: Send, status: int, text: str) -> None:
    body = text.encode()
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode()), *HEADERS]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
