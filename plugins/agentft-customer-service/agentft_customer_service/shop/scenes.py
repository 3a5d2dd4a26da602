"""What customers want in the demonstrations, and how often."""

from __future__ import annotations

from collections.abc import Callable

from agentft_customer_service.shop import scenes_orders as orders
from agentft_customer_service.shop import scenes_service as service
from agentft_customer_service.shop.scene import Scene

# Scene -> its share in the demonstrations.
SCENES: dict[Callable[[Scene], None], int] = {
    orders.status: 40,
    orders.orders: 16,
    orders.cancel: 36,
    orders.cancel_shipped: 22,
    orders.refund: 34,
    orders.refund_old: 16,
    orders.refund_high: 16,
    orders.return_: 34,
    orders.return_old: 14,
    orders.return_hygiene: 16,
    orders.exchange: 30,
    orders.exchange_out: 14,
    service.address: 30,
    service.address_shipped: 16,
    service.email: 26,
    service.credit: 22,
    service.credit_again: 12,
    service.credit_high: 14,
    service.mistyped: 14,
    service.unverified: 14,
    service.stranger: 18,
    service.frozen: 16,
    service.human: 24,
    service.product: 22,
    service.policy: 24,
    service.two_things: 26,
    service.changed_mind: 14,
    service.kept_after_all: 8,
    service.forgot_email: 10,
}
