"""What the shop forbids. Each rule has an id, and says in a sentence what is wrong.

A rule is about what may be done, not about what can be: a refund of more than was paid is an error of the tool and no broken rule.
"""

from __future__ import annotations

from datetime import date

WINDOW = 30  # days after delivery for refunds, returns and exchanges
REFUND_LIMIT = 200  # more needs a human
CREDIT_LIMIT = 20
ATTEMPTS = 2  # tries of the identity check

RULES = {
    "identity-first": "The customer's identity must be checked first.",
    "guessing": f"Not more than {ATTEMPTS} tries of the identity check.",
    "own-orders": "Only orders and the account of the checked customer.",
    "frozen-account": "A frozen account may only be handed over to a human.",
    "cancel-before-shipping": "Only an order that has not shipped can be cancelled.",
    "address-before-shipping": "The address can only be changed before the order ships.",
    "delivered-first": "Refund, return and exchange only after delivery.",
    "window": f"Refund, return and exchange only within {WINDOW} days after delivery.",
    "refund-limit": f"More than ${REFUND_LIMIT} is refunded by a human only.",
    "not-returnable": "Hygiene items cannot be returned or exchanged.",
    "same-model": "An exchange is only for another variant of the same product.",
    "credit-limit": f"A credit is at most ${CREDIT_LIMIT}.",
    "one-credit": "Only one credit for an order.",
}

# What get_policy answers, by topic.
POLICIES = {
    "returns": f"Returns and exchanges: within {WINDOW} days after delivery, free. Not for hygiene items. An exchange is for another "
    "variant of the same product.",
    "refunds": f"Refunds for faulty, wrong or missing items: within {WINDOW} days after delivery, to the original payment method, within 5 "
    f"business days. Above ${REFUND_LIMIT} a human decides.",
    "cancellation": "Cancellation: free until the order ships. The money is back within 5 business days.",
    "shipping": "Shipping takes 3 to 5 business days and costs $4.90; it is free from $50. The address can be changed until the order "
    "ships.",
    "credit": f"Credit for a late order: up to ${CREDIT_LIMIT}, once for an order.",
    "account": "Changes need the email and the postcode of the account. A frozen account is handled by a human.",
}


def days_between(earlier: str, later: str) -> int:
    """Days from one ISO date to another."""
    return (date.fromisoformat(later) - date.fromisoformat(earlier)).days
