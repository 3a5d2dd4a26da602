"""The desk's tools as functions for a persona: ``agentft chat`` and ``agentft serve`` run them over a shop of the conversation.

Each conversation has a desk of its own: who was checked in one is nobody in another. Conversations are told apart by the context object
that the caller hands over, or by the variable ``session`` where a caller makes a context for each call. The desk is strict: what the
rules forbid is refused.
"""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

from agentft.environments import ToolContext
from agentft_customer_service.shop.database import seed
from agentft_customer_service.shop.desk import Desk
from agentft_customer_service.shop.tools import TOOLS

MOST = 256  # named sessions that are kept; the one that was used longest ago goes first

_lock = threading.Lock()
_named: OrderedDict[str, Desk] = OrderedDict()
_of_context: dict[int, Desk] = {}


class ToolFailed(Exception):
    """What the tool says when it refuses; the agent reads it."""


def desk_of(ctx: ToolContext) -> Desk:
    """The desk of the conversation that ``ctx`` belongs to."""
    name = str(ctx.variables.get("session", ""))
    with _lock:
        if not name:
            key = id(ctx)
            if key not in _of_context:
                _of_context[key] = Desk(seed(), strict=True)
                weakref.finalize(ctx, _of_context.pop, key, None)  # the next object may get the same id
            return _of_context[key]
        if name not in _named:
            _named[name] = Desk(seed(), strict=True)
            while len(_named) > MOST:
                _named.popitem(last=False)
        _named.move_to_end(name)
        return _named[name]


def _tool(name: str) -> Callable[[Mapping[str, Any], ToolContext], str]:
    def run(arguments: Mapping[str, Any], ctx: ToolContext) -> str:
        answer = desk_of(ctx).call(name, arguments)
        if answer.error:
            raise ToolFailed(answer.content)
        return answer.content

    run.__name__ = name
    run.__doc__ = f"The tool ``{name}``. Raises ToolFailed with what the agent should read."
    return run


find_customer, verify_identity, get_order, list_orders, get_product, search_products, get_policy = (_tool(one.name) for one in TOOLS[:7])
cancel_order, refund_order, return_items, exchange_item = (_tool(one.name) for one in TOOLS[7:11])
change_address, change_email, issue_credit, escalate_to_human = (_tool(one.name) for one in TOOLS[11:])
