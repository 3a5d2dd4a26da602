"""A gateway on a free port of this machine, in a thread of the test."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from agentft.serve.gateway import create_gateway
from agentft.serve.gateway_state import Deployment, Limits


@contextmanager
def gateway(deployments: Sequence[Deployment], key: str | None = None, log: Any = None, **limits: Any) -> Iterator[Any]:
    """Yields the application; ``.url`` is its address up to ``/v1``, ``.state`` what it knows."""

    app = create_gateway(deployments, key=key, settings=Limits(**limits), chat_page=False, log=log)
    with listening(app) as url:
        app.url = f"{url}/v1"
        yield app


@contextmanager
def listening(app: Any) -> Iterator[str]:
    import uvicorn

    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=2, lifespan="on"))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(20)
        listener.close()
        assert not thread.is_alive(), "the gateway does not stop"


def client(app: Any, key: str = "none", **options: Any) -> Any:
    """OpenAI's own."""
    import openai

    return openai.OpenAI(base_url=app.url, api_key=key, max_retries=0, timeout=30, **options)
