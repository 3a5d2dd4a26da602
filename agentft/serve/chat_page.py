"""The chat page: talk to the served agents in a browser, and say what was good or bad about an answer.

One page with its own script and style sheet, all of it from this package; it may load nothing from anywhere else. Whatever a model
writes is put into the page as text. The page itself is open; the agents' names come from ``/v1/agents``, which the gateway guards
with its key, as it does everything below ``/v1``.
"""

# No `from __future__ import annotations`: FastAPI reads the annotations of the functions below, whose types are imported inside.

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

_HERE = Path(__file__).parent / "templates"
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
    "form-action 'none'; frame-ancestors 'none'; base-uri 'none'; require-trusted-types-for 'script'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-cache",
}
_FILES = {"app.js": "text/javascript; charset=utf-8", "style.css": "text/css; charset=utf-8", "icon.svg": "image/svg+xml"}


def router(deployments: Sequence[Any], *, key: bool = False, feedback: bool = True) -> Any:
    """The page as a FastAPI router: ``/``, its files below ``/chat/``, and ``/v1/agents``.

    Args:
        deployments: with ``name``, ``persona`` and, if there is one, ``version``, as :class:`agentft.serve.gateway_state.Deployment`.
        key: the gateway wants a key, which the page asks for once.
        feedback: there is a ``/v1/feedback``; without it the page has no thumbs.
    """
    from fastapi import APIRouter
    from fastapi.responses import JSONResponse, Response

    routes = APIRouter()
    # Before there is a key nothing of what is served is told, but for the language in which the key is asked for.
    language = _language(deployments[0]) if deployments else "en"

    @routes.get("/", include_in_schema=False)
    def page() -> Response:
        return Response(_page(language, key, feedback), media_type="text/html; charset=utf-8", headers=HEADERS)

    @routes.get("/chat/{name}", include_in_schema=False)
    def file(name: str) -> Response:
        if name not in _FILES:
            return Response("there is no such file", 404, headers=HEADERS, media_type="text/plain; charset=utf-8")
        return Response(_file(name), media_type=_FILES[name], headers=HEADERS)

    @routes.get("/v1/agents")
    def agents() -> JSONResponse:
        return JSONResponse({"object": "list", "data": [_about(one) for one in deployments]}, headers={"cache-control": "no-store"})

    return routes


def _about(deployment: Any) -> dict[str, str]:
    persona = deployment.persona
    return {
        "id": str(deployment.name),
        "object": "agent",
        "persona": persona.name if persona is not None else "",
        "summary": persona.summary if persona is not None else "",
        "language": _language(deployment),
        "version": deployment.version,
    }


def _language(deployment: Any) -> str:
    persona = deployment.persona
    return str(persona.language) if persona is not None else "en"


@cache
def _page(language: str, key: bool, feedback: bool) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    pages = Environment(loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return pages.get_template("chat.html").render(language=language, key=key, feedback=feedback)


@cache
def _file(name: str) -> str:
    return (_HERE / f"chat-{name}").read_text("utf-8")
