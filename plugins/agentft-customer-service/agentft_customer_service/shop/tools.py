"""The tools of the desk as an agent sees them: names, short descriptions, JSON schemas; and the check of arguments.

Descriptions are short because a small model reads all of them before each answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agentft_customer_service.shop.rules import POLICIES

REASONS = ("manager", "legal", "safety", "fraud", "frozen", "amount", "identity", "other")

_TEXT = {"type": "string"}
_NUMBER = {"type": "number"}


@dataclass(frozen=True)
class Tool:
    """A tool. ``personal``: it shows or changes what belongs to a customer; ``writes``: it changes something."""

    name: str
    description: str
    properties: Mapping[str, Any]
    writes: bool = False
    personal: bool = False

    @property
    def parameters(self) -> dict[str, Any]:
        """JSON schema of the arguments; all are required."""
        return {"type": "object", "properties": dict(self.properties), "required": list(self.properties)}

    @property
    def schema(self) -> dict[str, Any]:
        return {"name": self.name, "description": self.description, "parameters": self.parameters}


TOOLS = (
    Tool("find_customer", "Find an account by the customer's name.", {"name": _TEXT}),
    Tool("verify_identity", "Check the customer's identity.", {"email": _TEXT, "postcode": _TEXT}),
    Tool("get_order", "Show an order.", {"order_id": _TEXT}, personal=True),
    Tool("list_orders", "List a customer's orders.", {"customer_id": _TEXT}, personal=True),
    Tool("get_product", "Show a product.", {"product_id": _TEXT}),
    Tool("search_products", "Search the shop.", {"query": _TEXT}),
    Tool("get_policy", "Read a rule of the shop.", {"topic": {"type": "string", "enum": list(POLICIES)}}),
    Tool("cancel_order", "Cancel an order.", {"order_id": _TEXT}, True, True),
    Tool("refund_order", "Refund an amount for faulty, wrong or missing items.", {"order_id": _TEXT, "amount": _NUMBER}, True, True),
    Tool(
        "return_items",
        "Register a return.",
        {"order_id": _TEXT, "product_ids": {"type": "array", "items": _TEXT}},
        True,
        True,
    ),
    Tool(
        "exchange_item",
        "Exchange an item for another variant.",
        {"order_id": _TEXT, "product_id": _TEXT, "new_product_id": _TEXT},
        True,
        True,
    ),
    Tool("change_address", "Change an order's address.", {"order_id": _TEXT, "address": _TEXT}, True, True),
    Tool("change_email", "Change a customer's email.", {"customer_id": _TEXT, "email": _TEXT}, True, True),
    Tool("issue_credit", "Give credit for a late order.", {"order_id": _TEXT, "amount": _NUMBER}, True, True),
    Tool("escalate_to_human", "Hand over to a human.", {"reason": {"type": "string", "enum": list(REASONS)}}, True),
)
BY_NAME = {tool.name: tool for tool in TOOLS}
SCHEMAS = tuple(tool.schema for tool in TOOLS)


def argument_problem(tool: Tool, arguments: Any) -> str:
    """What is wrong with the arguments of a call, in a sentence that the agent can act on; empty if nothing is."""
    if not isinstance(arguments, Mapping):
        return f"The arguments of {tool.name} must be an object."
    for name, schema in tool.properties.items():
        if name not in arguments:
            return f"{tool.name} needs {name}."
        problem = _value_problem(schema, arguments[name])
        if problem:
            return f"{name} must be {problem}."
    unknown = [name for name in arguments if name not in tool.properties]
    return f"{tool.name} has no argument {unknown[0]}." if unknown else ""


def _value_problem(schema: Mapping[str, Any], value: Any) -> str:
    if schema["type"] == "number":
        good = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e9  # NaN compares false
        return "" if good else "a number"
    if schema["type"] == "array":
        good = isinstance(value, list | tuple) and bool(value) and all(isinstance(one, str) for one in value)
        return "" if good else "a list of texts"
    if not isinstance(value, str) or not value.strip():
        return "a text"
    return "" if value in schema.get("enum", (value,)) else f"one of {', '.join(schema['enum'])}"
