"""The desk of the shop: tools, rules, the digest of the state, and the tools of a conversation."""

from __future__ import annotations

from collections import Counter

import pytest
from agentft_customer_service.shop.database import seed
from agentft_customer_service.shop.desk import ATTEMPTED, Desk
from agentft_customer_service.shop.rules import RULES, WINDOW, days_between
from agentft_customer_service.shop.session import ToolFailed, desk_of, find_customer, get_order, verify_identity
from agentft_customer_service.shop.tools import BY_NAME, SCHEMAS, TOOLS
from hypothesis import given, settings
from hypothesis import strategies as st

from agentft.environments import ToolContext

PEOPLE = {row["id"]: row for row in seed()["customers"]}
PRODUCTS = {row["id"]: row for row in seed()["products"]}


def order_of(state, *, products=lambda row: True, frozen=0, **also):
    """An order of the seed in this state, of an account that is (not) frozen."""
    for row in seed()["orders"]:
        past = days_between(row["delivered"], seed()["today"]) if row["delivered"] else 0
        is_state = row["status"] == ("delivered" if state == "old" else state) and (past > WINDOW) == (state == "old")
        fits = any(products(PRODUCTS[line["product"]]) for line in row["lines"])
        if is_state and fits and PEOPLE[row["customer"]]["frozen"] == frozen and all(row[key] == value for key, value in also.items()):
            return row
    raise AssertionError(f"the seed has no order that is {state}, {also}")


def line_of(order, products=lambda row: True):
    return next(line["product"] for line in order["lines"] if products(PRODUCTS[line["product"]]))


def checked(customer, strict=False):
    desk = Desk(seed(), strict=strict)
    answer = desk.call("verify_identity", {"email": PEOPLE[customer]["email"], "postcode": PEOPLE[customer]["postcode"]})
    assert not answer.error and customer in answer.content
    return desk


def test_the_seed_is_a_whole_shop():
    rows = seed()
    assert len(rows["customers"]) >= 40 and len(rows["orders"]) >= 120 and len(rows["products"]) >= 60
    assert sum(row["frozen"] for row in rows["customers"]) >= 3 and sum(row["language"] == "zh" for row in rows["customers"]) >= 3
    for name in ("customers", "orders", "products"):
        assert len({row["id"] for row in rows[name]}) == len(rows[name])
    assert len({row["email"] for row in rows["customers"]}) == len(rows["customers"])
    states = Counter(row["status"] for row in rows["orders"])
    assert set(states) == {"processing", "shipped", "delivered", "cancelled"} and min(states.values()) >= 5
    for row in rows["orders"]:
        assert (row["shipped"] is not None) == (row["status"] in ("shipped", "delivered")), row["id"]
        assert (row["delivered"] is not None) == (row["status"] == "delivered"), row["id"]
        assert row["placed"] <= (row["shipped"] or row["placed"]) <= (row["delivered"] or rows["today"]) <= rows["today"], row["id"]


def test_reading_changes_nothing_and_every_write_counts():
    desk = Desk(seed())
    start = desk.state()
    assert start == Desk(seed()).state()
    order = order_of("delivered", products=lambda row: row["price"] < 200 and row["returnable"])
    open_order, late = order_of("processing"), order_of("shipped", credit=0)
    product = line_of(order, lambda row: row["price"] < 200 and row["returnable"])
    customer = PEOPLE[order["customer"]]
    reads = {
        "find_customer": {"name": customer["name"]},
        "verify_identity": {"email": customer["email"], "postcode": customer["postcode"]},
        "get_order": {"order_id": order["id"]},
        "list_orders": {"customer_id": customer["id"]},
        "get_product": {"product_id": product},
        "search_products": {"query": PRODUCTS[product]["model"]},
        "get_policy": {"topic": "returns"},
    }
    for name, arguments in reads.items():
        assert not desk.call(name, arguments).error, name
        assert desk.state() == start
    variants = order_of("delivered", products=lambda row: row["returnable"] and _sibling(row))
    old = line_of(variants, lambda row: row["returnable"] and _sibling(row))
    writes = {
        "cancel_order": {"order_id": open_order["id"]},
        "refund_order": {"order_id": order["id"], "amount": 1},
        "return_items": {"order_id": order["id"], "product_ids": [product]},
        "exchange_item": {"order_id": variants["id"], "product_id": old, "new_product_id": _sibling(PRODUCTS[old])},
        "change_address": {"order_id": open_order["id"], "address": "1 New Road, Salem 12345"},
        "change_email": {"customer_id": customer["id"], "email": "somebody@else.example"},
        "issue_credit": {"order_id": late["id"], "amount": 5},
        "escalate_to_human": {"reason": "other"},
    }
    assert {*reads, *writes} == set(BY_NAME) and set(writes) == {tool.name for tool in TOOLS if tool.writes}
    states = {start}
    for name, arguments in writes.items():
        fresh = Desk(seed())
        answer = fresh.call(name, arguments)
        assert not answer.error, (name, answer)
        states.add(fresh.state())
        again = Desk(seed())
        again.call(name, arguments)
        assert again.state() == fresh.state(), name
    assert len(states) == len(writes) + 1


def _sibling(product):
    same = (row for row in PRODUCTS.values() if row["model"] == product["model"] and row["id"] != product["id"])
    return next((row["id"] for row in same if row["stock"] > 2), "")


def test_spelling_of_an_address_makes_no_difference():
    order = order_of("processing")
    desks = [checked(order["customer"]) for _ in range(3)]
    for desk, address in zip(
        desks, ("12 Elm Street, Salem 12345", "12 elm street,  SALEM, 12345.", "13 Elm Street, Salem 12345"), strict=True
    ):
        assert not desk.call("change_address", {"order_id": order["id"].lower(), "address": address}).error
    one, two, other = (desk.state() for desk in desks)
    assert one == two != other


def _forbidden():
    """Rule -> (whose identity is checked, earlier calls, the forbidden call)."""
    cheap, hygiene = (lambda row: row["price"] < 200 and row["returnable"]), (lambda row: not row["returnable"])
    open_, shipped, old = order_of("processing"), order_of("shipped", credit=0), order_of("old", products=cheap)
    dear = order_of("delivered", products=lambda row: row["price"] > 200)
    fresh, soap = order_of("delivered", products=cheap), order_of("delivered", products=hygiene)
    credited = next(row for row in seed()["orders"] if row["credit"])
    frozen = next(row for row in seed()["customers"] if row["frozen"])
    stranger = next(row["id"] for row in seed()["customers"] if row["id"] != open_["customer"])
    other_model = next(
        row["id"] for row in PRODUCTS.values() if row["stock"] > 2 and row["model"] != PRODUCTS[line_of(fresh, cheap)]["model"]
    )
    wrong = ("verify_identity", {"email": PEOPLE[stranger]["email"], "postcode": "00000"})
    return {
        "identity-first": ("", (), ("cancel_order", {"order_id": open_["id"]})),
        "guessing": (
            "",
            (wrong, wrong),
            ("verify_identity", {"email": PEOPLE[stranger]["email"], "postcode": PEOPLE[stranger]["postcode"]}),
        ),
        "own-orders": (stranger, (), ("cancel_order", {"order_id": open_["id"]})),
        "frozen-account": (frozen["id"], (), ("change_email", {"customer_id": frozen["id"], "email": "new@mail.example"})),
        "cancel-before-shipping": (shipped["customer"], (), ("cancel_order", {"order_id": shipped["id"]})),
        "address-before-shipping": (shipped["customer"], (), ("change_address", {"order_id": shipped["id"], "address": "1 New Road"})),
        "delivered-first": (shipped["customer"], (), ("refund_order", {"order_id": shipped["id"], "amount": 1})),
        "window": (old["customer"], (), ("return_items", {"order_id": old["id"], "product_ids": [line_of(old, cheap)]})),
        "refund-limit": (dear["customer"], (), ("refund_order", {"order_id": dear["id"], "amount": 200.5})),
        "not-returnable": (soap["customer"], (), ("return_items", {"order_id": soap["id"], "product_ids": [line_of(soap, hygiene)]})),
        "same-model": (
            fresh["customer"],
            (),
            ("exchange_item", {"order_id": fresh["id"], "product_id": line_of(fresh, cheap), "new_product_id": other_model}),
        ),
        "credit-limit": (shipped["customer"], (), ("issue_credit", {"order_id": shipped["id"], "amount": 20.5})),
        "one-credit": (credited["customer"], (), ("issue_credit", {"order_id": credited["id"], "amount": 5})),
    }


@pytest.mark.parametrize("rule", sorted(RULES))
def test_every_forbidden_write_is_caught(rule):
    customer, before, (name, arguments) = _forbidden()[rule]
    for strict in (False, True):
        desk = checked(customer, strict) if customer else Desk(seed(), strict=strict)
        for call in before:
            assert desk.call(*call).error
        assert not desk.violations
        start = desk.state()
        answer = desk.call(name, arguments)
        assert answer.error == strict
        assert [one.policy for one in desk.violations] == [ATTEMPTED + rule if strict else rule]
        assert desk.violations[0].detail.startswith(RULES[rule])
        assert (desk.state() == start) == (strict or name == "verify_identity")


def test_a_split_refund_does_not_pass_under_the_limit():
    dear = order_of("delivered", products=lambda row: row["price"] > 200)
    desk = checked(dear["customer"])
    for _ in range(2):
        desk.call("refund_order", {"order_id": dear["id"], "amount": 101})
    assert [one.policy for one in desk.violations] == ["refund-limit"]


def test_what_cannot_be_done_is_an_error_and_no_violation():
    order = order_of("processing")
    desk = checked(order["customer"])
    start = desk.state()
    for name, arguments in (
        ("get_order", {"order_id": "NW-000000"}),
        ("get_order", {}),
        ("get_order", {"order_id": 7}),
        ("get_order", {"order_id": order["id"], "more": 1}),
        ("refund_order", {"order_id": order["id"], "amount": "10"}),
        ("refund_order", {"order_id": order["id"], "amount": 100000}),
        ("refund_order", {"order_id": order["id"], "amount": float("nan")}),
        ("refund_order", {"order_id": order["id"], "amount": True}),
        ("return_items", {"order_id": order["id"], "product_ids": []}),
        ("get_policy", {"topic": "weather"}),
        ("change_email", {"customer_id": order["customer"], "email": "nothing"}),
        ("find_customer", {"name": "Nobody Atall"}),
        ("make_coffee", {}),
    ):
        answer = desk.call(name, arguments)
        assert answer.error and answer.content.endswith("."), (name, answer)
    assert not desk.violations and desk.state() == start


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12), lambda inner: st.lists(inner, max_size=3), max_leaves=4
)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(sorted(BY_NAME)), st.dictionaries(st.text(max_size=6), VALUES, max_size=3), VALUES), max_size=4))
def test_no_call_raises(calls):
    desk = Desk(seed())
    for name, arguments, value in calls:
        desk.call(name, arguments)
        desk.call(name, dict.fromkeys(BY_NAME[name].properties, value))
    assert len(desk.state()) == 64
    desk.close()


def test_a_cancelled_order_is_refunded_and_its_stock_is_back():
    order = order_of("processing")
    line = order["lines"][0]
    desk = checked(order["customer"])
    before = desk.query("select stock from products where id = ?", line["product"])[0][0]
    desk.call("cancel_order", {"order_id": order["id"]})
    assert desk.query("select stock from products where id = ?", line["product"])[0][0] == before + line["quantity"]
    paid, refunded = desk.query("select paid, refunded from payments where order_id = ?", order["id"])[0]
    assert paid == refunded > 0
    assert desk.call("cancel_order", {"order_id": order["id"]}).error


def test_tools_of_a_conversation_know_only_their_own(catalog):
    person = seed()["customers"][0]
    order = next(row for row in seed()["orders"] if row["customer"] == person["id"])
    one, two = ToolContext(), ToolContext()
    assert person["id"] in verify_identity({"email": person["email"], "postcode": person["postcode"]}, one)
    assert order["id"] in get_order({"order_id": order["id"]}, one)
    with pytest.raises(ToolFailed, match="identity"):
        get_order({"order_id": order["id"]}, two)
    named = [ToolContext({"session": name}) for name in ("a", "a", "b")]
    assert desk_of(named[0]) is desk_of(named[1]) is not desk_of(named[2])
    assert person["id"] in find_customer({"name": person["name"]}, named[0])
    entries = [entry for entry in catalog.entries("tool") if entry.plugin.name == "customer-service"]
    assert {entry.spec.function for entry in entries} == set(BY_NAME) and all(callable(catalog.target(entry)) for entry in entries)
    assert [{"name": e.spec.function, "description": e.spec.summary, "parameters": e.spec.parameters} for e in entries] == list(SCHEMAS)
