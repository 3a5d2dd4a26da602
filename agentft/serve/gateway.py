"""The gateway: agents behind OpenAI's interface. :func:`create_gateway` puts the routers together.

Further routers (the chat page, feedback) are given ``request.app.state.gateway``, a :class:`~agentft.serve.gateway_state.State`: its
``remembered.get(id)`` finds the prompt, the answer and the deployment of a completion that a caller names by its id. Everything below
``/v1``, and ``/metrics``, needs the key where there is one; all other paths are for pages and health checks, and are open.
"""

# No `from __future__ import annotations`: FastAPI reads the annotations of the functions below, whose types are imported inside.

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from agentft.errors import UserError
from agentft.serve.gateway_state import Deployment, Limits, Remembered, State

if TYPE_CHECKING:
    from agentft.serve.gateway_log import RequestLog


def create_gateway(
    deployments: Sequence[Deployment],
    *,
    key: str | None,
    settings: Limits,
    feedback: Any = None,
    chat_page: bool = True,
    log: "RequestLog | None" = None,
) -> Any:
    """The gateway as an ASGI application.

    Args:
        deployments: what it serves; the names must differ. The gateway closes their answerers when it stops.
        key: what callers send as ``Authorization: Bearer``; None: everybody who reaches the address may ask.
        settings: limits.
        feedback: store of ``/v1/feedback``; None: there is no such path.
        chat_page: there is a page to talk to the agents in a browser.
        log: who is told of every request; None: nobody.

    Raises:
        UserError: no deployment, or two of the same name.
    """
    from agentft.serve.gateway_app import assemble

    names = [one.name for one in deployments]
    if not names:
        raise UserError("serve needs at least one agent")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UserError(f"two agents are called '{twice[0]}'; give them names: --name {twice[0]}=ANOTHER")
    from agentft.serve.gateway_log import RequestLog
    from agentft.serve.gateway_metrics import Metrics

    state = State({one.name: one for one in deployments}, settings, Remembered(settings.remembered), Metrics(), log or RequestLog(None))
    app = assemble(state, key)
    if feedback is not None:
        from agentft.serve import feedback_api

        app.inner.include_router(feedback_api.router(feedback, deployments))
    if chat_page:
        from agentft.serve import chat_page as page

        app.inner.include_router(page.router(deployments, key=key is not None, feedback=feedback is not None))
    return app
