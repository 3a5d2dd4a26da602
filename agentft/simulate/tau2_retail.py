"""tau2-bench, domain retail: the tools over users, orders and products.

Written anew after the published behaviour: the effects on the database and the words of an error are those of tau2-bench, quirks
included, because its reference states depend on them; descriptions are our own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from agentft.simulate.tables import Tables
from agentft.simulate.tau2_general import add_general
from agentft.simulate.toolbox import Refused, Tool, tool

TOOLS: dict[str, Tool] = {}

_ORDER = "Order id; starts with '#', such as '#W0000000'."
_PAYMENT = "Id of a payment method of the user, such as 'gift_card_0000000' or 'credit_card_0000000'."
_ITEMS = "Item ids, such as '1008292230'; an item may stand in it more than once."
_NEW = "Ids of the new items, one for each old item in the same order, each of the same product."
_CONFIRM = "Tell the user all details and get an explicit yes before you call it."
_ADDRESS = {
    "address1": "First line of the address, such as '123 Main St'.",
    "address2": "Second line of the address, such as 'Apt 1', or ''.",
    "city": "City, such as 'San Francisco'.",
    "state": "State, such as 'CA'.",
    "country": "Country, such as 'USA'.",
    "zip": "Zip code, such as '12345'.",
}


# Looking things up


def _found(db: Tables, table: str, key: str, what: str) -> Any:
    record = db.get(table, key)
    if record is None:
        raise Refused(f"{what} not found")
    return record


def _order(db: Tables, order_id: str) -> Any:
    return _found(db, "orders", order_id, "Order")


def _method(db: Tables, user_id: str, payment_id: str) -> Any:
    methods = _found(db, "users", user_id, "User")["payment_methods"]
    if payment_id not in methods:
        raise Refused("Payment method not found")
    return methods[payment_id]


def _is_gift_card(method: Mapping[str, Any]) -> bool:
    return method["source"] == "gift_card"


def _add_to_card(db: Tables, user_id: str, payment_id: str, amount: float) -> None:
    """Gift cards are settled at once; other methods are somebody else's business."""
    if _is_gift_card(_method(db, user_id, payment_id)):
        card = db.change("users", user_id)["payment_methods"][payment_id]
        card["balance"] = round(card["balance"] + amount, 2)


def _too_many(wanted: Sequence[str], order: Mapping[str, Any]) -> str:
    """The first item that is wanted more often than the order has it; empty where there is none."""
    there = [item["item_id"] for item in order["items"]]
    return next((item for item in wanted if list(wanted).count(item) > there.count(item)), "")


def _item(order: Mapping[str, Any], item_id: str) -> Any:
    item = next((item for item in order["items"] if item["item_id"] == item_id), None)
    if item is None:
        raise Refused(f"Item {item_id} not found")
    return item


def _replacement(db: Tables, item: Mapping[str, Any], new_id: str) -> Any:
    variants = _found(db, "products", item["product_id"], "Product")["variants"]
    if new_id not in variants:
        raise Refused("Variant not found")
    if not variants[new_id]["available"]:
        raise Refused(f"New item {new_id} not found or available")
    return variants[new_id]


@tool(TOOLS, "Find the id of a user by e-mail address. Try this before the name.", email="E-mail address, such as 'name@example.com'.")
def find_user_id_by_email(db: Tables, email: str) -> str:
    for key, user in db.items("users"):
        if user["email"].lower() == email.lower():
            return key
    raise Refused("User not found")


@tool(
    TOOLS,
    "Find the id of a user by first name, last name and zip code, for users who are not found by e-mail or do not remember it.",
    first_name="First name, such as 'John'.",
    last_name="Last name, such as 'Doe'.",
    zip="Zip code, such as '12345'.",
)
def find_user_id_by_name_zip(db: Tables, first_name: str, last_name: str, zip: str) -> str:
    wanted = (first_name.lower(), last_name.lower(), zip)
    for key, user in db.items("users"):
        if (user["name"]["first_name"].lower(), user["name"]["last_name"].lower(), user["address"]["zip"]) == wanted:
            return key
    raise Refused("User not found")


@tool(TOOLS, "Status and details of an order.", order_id=_ORDER)
def get_order_details(db: Tables, order_id: str) -> Any:
    return _order(db, order_id)


@tool(TOOLS, "All items of a product and whether they are available.", product_id="Product id, such as '6086499569'; not an item id.")
def get_product_details(db: Tables, product_id: str) -> Any:
    return _found(db, "products", product_id, "Product")


@tool(TOOLS, "Details of one item and whether it is available.", item_id="Item id, such as '6086499569'; not a product id.")
def get_item_details(db: Tables, item_id: str) -> Any:
    for _, product in db.items("products"):
        if item_id in product["variants"]:
            return product["variants"][item_id]
    raise Refused("Item not found")


@tool(TOOLS, "Details of a user: address, payment methods, orders.", user_id="User id, such as 'sara_doe_496'.")
def get_user_details(db: Tables, user_id: str) -> Any:
    return _found(db, "users", user_id, "User")


@tool(TOOLS, "Names and product ids of all products of the shop.")
def list_all_product_types(db: Tables) -> str:
    return json.dumps({product["name"]: product["product_id"] for _, product in db.items("products")}, sort_keys=True)


# Pending orders


@tool(
    TOOLS,
    "Cancel a pending order and pay back what was paid: at once to a gift card, within 5 to 7 business days to anything else. " + _CONFIRM,
    writes=True,
    order_id=_ORDER,
    reason="'no longer needed' or 'ordered by mistake'.",
)
def cancel_pending_order(db: Tables, order_id: str, reason: str) -> Any:
    order = _order(db, order_id)
    if order["status"] != "pending":
        raise Refused("Non-pending order cannot be cancelled")
    if reason not in ("no longer needed", "ordered by mistake"):
        raise Refused("Invalid reason")
    payments = list(order["payment_history"])
    for payment in payments:
        _add_to_card(db, order["user_id"], payment["payment_method_id"], payment["amount"])
    order = db.change("orders", order_id)
    order["status"], order["cancel_reason"] = "cancelled", reason
    order["payment_history"] += [_payment("refund", payment["amount"], payment["payment_method_id"]) for payment in payments]
    return order


def _payment(kind: str, amount: float, method: str) -> dict[str, Any]:
    return {"transaction_type": kind, "amount": amount, "payment_method_id": method}


@tool(TOOLS, "Change the delivery address of a pending order. " + _CONFIRM, writes=True, order_id=_ORDER, **_ADDRESS)
def modify_pending_order_address(
    db: Tables, order_id: str, address1: str, address2: str, city: str, state: str, country: str, zip: str
) -> Any:
    _changeable(db, order_id)
    order = db.change("orders", order_id)
    order["address"] = {"address1": address1, "address2": address2, "city": city, "state": state, "country": country, "zip": zip}
    return order


def _changeable(db: Tables, order_id: str) -> Any:
    """An order whose address and payment may change; one with changed items still may."""
    order = _order(db, order_id)
    if "pending" not in order["status"]:
        raise Refused("Non-pending order cannot be modified")
    return order


@tool(
    TOOLS,
    "Replace items of a pending order by other items of the same products. Works once for an order. " + _CONFIRM,
    writes=True,
    order_id=_ORDER,
    item_ids=_ITEMS,
    new_item_ids=_NEW,
    payment_method_id=_PAYMENT,
)
def modify_pending_order_items(db: Tables, order_id: str, item_ids: list[str], new_item_ids: list[str], payment_method_id: str) -> Any:
    order = _order(db, order_id)
    if order["status"] != "pending":
        raise Refused("Non-pending order cannot be modified")
    if item := _too_many(item_ids, order):
        raise Refused(f"{item} not found")
    if len(item_ids) != len(new_item_ids):
        raise Refused("The number of items to be exchanged should match")
    difference = 0.0
    variant: Any = None
    for old, new in zip(item_ids, new_item_ids, strict=True):
        if old == new:
            raise Refused("The new item id should be different from the old item id")
        item = _item(order, old)
        variant = _replacement(db, item, new)
        difference += variant["price"] - item["price"]
    method = _method(db, order["user_id"], payment_method_id)
    if _is_gift_card(method) and method["balance"] < difference:
        raise Refused("Insufficient gift card balance to pay for the new item")
    order = db.change("orders", order_id)
    order["payment_history"].append(_payment("payment" if difference > 0 else "refund", abs(difference), payment_method_id))
    _add_to_card(db, order["user_id"], payment_method_id, -difference)
    for old, new in zip(item_ids, new_item_ids, strict=True):
        item = _item(order, old)
        # In tau2-bench every changed item gets the price and the options of the last one. Kept: its reference states have it so.
        item |= {"item_id": new, "price": variant["price"], "options": variant["options"]}
    order["status"] = "pending (item modified)"
    return order


@tool(TOOLS, "Pay a pending order in another way. " + _CONFIRM, writes=True, order_id=_ORDER, payment_method_id=_PAYMENT)
def modify_pending_order_payment(db: Tables, order_id: str, payment_method_id: str) -> Any:
    order = _changeable(db, order_id)
    method, history, user_id = _method(db, order["user_id"], payment_method_id), order["payment_history"], order["user_id"]
    if len(history) != 1 or history[0]["transaction_type"] != "payment":
        raise Refused("There should be exactly one payment for a pending order")
    before, amount = history[0]["payment_method_id"], history[0]["amount"]
    if before == payment_method_id:
        raise Refused("The new payment method should be different from the current one")
    if _is_gift_card(method) and method["balance"] < amount:
        raise Refused("Insufficient gift card balance to pay for the order")
    order = db.change("orders", order_id)
    order["payment_history"] += [_payment("payment", amount, payment_method_id), _payment("refund", amount, before)]
    _add_to_card(db, user_id, payment_method_id, -amount)
    _add_to_card(db, user_id, before, amount)
    return order


# Delivered orders


@tool(
    TOOLS,
    "Exchange items of a delivered order for other items of the same products. Return or exchange works once for an order. " + _CONFIRM,
    writes=True,
    order_id=_ORDER,
    item_ids=_ITEMS,
    new_item_ids=_NEW,
    payment_method_id=_PAYMENT + " It pays, or gets back, the difference in price.",
)
def exchange_delivered_order_items(db: Tables, order_id: str, item_ids: list[str], new_item_ids: list[str], payment_method_id: str) -> Any:
    order = _order(db, order_id)
    if order["status"] != "delivered":
        raise Refused("Non-delivered order cannot be exchanged")
    if item := _too_many(item_ids, order):
        raise Refused(f"Number of {item} not found.")
    if len(item_ids) != len(new_item_ids):
        raise Refused("The number of items to be exchanged should match.")
    difference = 0.0
    for old, new in zip(item_ids, new_item_ids, strict=True):
        item = _item(order, old)
        difference += _replacement(db, item, new)["price"] - item["price"]
    difference = round(difference, 2)
    method = _method(db, order["user_id"], payment_method_id)
    if _is_gift_card(method) and method["balance"] < difference:
        raise Refused("Insufficient gift card balance to pay for the price difference")
    order = db.change("orders", order_id)
    order |= {
        "status": "exchange requested",
        "exchange_items": sorted(item_ids),
        "exchange_new_items": sorted(new_item_ids),
        "exchange_payment_method_id": payment_method_id,
        "exchange_price_difference": difference,
    }
    return order


@tool(
    TOOLS,
    "Return items of a delivered order; the user is told by e-mail how. " + _CONFIRM,
    writes=True,
    order_id=_ORDER,
    item_ids=_ITEMS,
    payment_method_id=_PAYMENT + " It gets the money back; the one that paid, or a gift card.",
)
def return_delivered_order_items(db: Tables, order_id: str, item_ids: list[str], payment_method_id: str) -> Any:
    order = _order(db, order_id)
    if order["status"] != "delivered":
        raise Refused("Non-delivered order cannot be returned")
    method = _method(db, order["user_id"], payment_method_id)
    if not _is_gift_card(method) and payment_method_id != order["payment_history"][0]["payment_method_id"]:
        raise Refused("Payment method should be the original payment method")
    if _too_many(item_ids, order):
        raise Refused("Some item not found")
    order = db.change("orders", order_id)
    order |= {"status": "return requested", "return_items": sorted(item_ids), "return_payment_method_id": payment_method_id}
    return order


# The rest


@tool(TOOLS, "Change the default address of a user. " + _CONFIRM, writes=True, user_id="User id, such as 'sara_doe_496'.", **_ADDRESS)
def modify_user_address(db: Tables, user_id: str, address1: str, address2: str, city: str, state: str, country: str, zip: str) -> Any:
    _found(db, "users", user_id, "User")
    user = db.change("users", user_id)
    user["address"] = {"address1": address1, "address2": address2, "city": city, "state": state, "country": country, "zip": zip}
    return user


add_general(TOOLS)
