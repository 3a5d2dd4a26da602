"""The gateway's own routes: completions, models, health, metrics; and errors in OpenAI's shape."""

# No `from __future__ import annotations`: FastAPI reads the annotations of the functions below, whose types are imported inside.

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from agentft.serve.answering import Answerer, Refusal
from agentft.serve.gateway_door import Door, headers_of
from agentft.serve.gateway_metrics import CONTENT_TYPE, Gauge, Labels
from agentft.serve.gateway_state import State
from agentft.serve.openai_shapes import error_body, model_row


def assemble(state: State, key: str | None) -> Door:
    """The application, with ``.inner`` for further routers."""
    from fastapi import FastAPI, Request
    from fastapi.responses import JSONResponse, PlainTextResponse
    from starlette.exceptions import HTTPException
    from starlette.responses import Response

    from agentft.serve.gateway_chat import answer

    started = int(time.time())
    answerers: list[Answerer] = list({id(one.answerer): one.answerer for one in state.deployments.values()}.values())

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        state.closing = True
        for one in answerers:
            await one.close()

    app = FastAPI(title="agentft", docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)
    app.state.gateway = state

    def count(name: str) -> dict[Labels, float]:
        return {(): float(sum(getattr(one, name) for one in answerers))}

    state.metrics.gauges += [
        Gauge("agentft_running", "Answers that are being written", lambda: count("running")),
        Gauge("agentft_queue_depth", "Answers that wait for their turn", lambda: count("waiting")),
    ]

    def refused(refusal: Refusal) -> JSONResponse:
        return JSONResponse(error_body(refusal), refusal.status, headers_of(refusal))

    @app.exception_handler(Refusal)
    async def on_refusal(_: Request, refusal: Refusal) -> Response:
        return refused(refusal)

    @app.exception_handler(HTTPException)
    async def on_http(request: Request, error: HTTPException) -> Response:
        texts = {404: f"Unknown request URL: {request.method} {request.url.path}.", 405: f"{request.method} is not allowed here."}
        return refused(Refusal(error.status_code, texts.get(error.status_code, str(error.detail)), "unknown_url"))

    @app.exception_handler(Exception)
    async def on_bug(_: Request, error: Exception) -> Response:
        return refused(Refusal(500, f"The gateway failed ({type(error).__name__}).", "internal_error"))

    @app.post("/v1/chat/completions")
    async def completions(request: Request) -> Response:
        return await answer(request, state)

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [model_row(name, started, one.version) for name, one in state.deployments.items()]}

    @app.get("/v1/models/{name:path}")
    async def model(name: str) -> dict[str, Any]:
        if name not in state.deployments:
            raise Refusal(404, f"The model '{name}' does not exist.", "model_not_found", "model")
        return model_row(name, started, state.deployments[name].version)

    @app.get("/health/live")
    async def live() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/health")
    @app.get("/health/ready")
    async def ready() -> Response:
        reasons = [] if not state.closing else ["stopping"]
        reasons += [reason for one in answerers if (reason := await one.ready())]
        return JSONResponse(
            {"status": "unavailable" if reasons else "ok", **({"reason": reasons[0]} if reasons else {})}, 503 if reasons else 200
        )

    @app.get("/metrics")
    async def metrics() -> Response:
        return PlainTextResponse(state.metrics.text(), media_type=CONTENT_TYPE)

    return Door(app, state, key)
