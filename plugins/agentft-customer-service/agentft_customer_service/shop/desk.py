"""The desk of the shop: the environment of one conversation. Tools run over a database of its own, and rules are watched.

Without ``strict`` a forbidden write happens and is a violation, as where nothing but the agent's judgement stands between a
customer and the database. With it the tool refuses, and the attempt is kept under ``attempted/<rule>``.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from agentft.environments import ToolAnswer, Violation
from agentft_customer_service.shop import rules
from agentft_customer_service.shop.database import build, digest
from agentft_customer_service.shop.tools import BY_NAME, SCHEMAS, argument_problem

ATTEMPTED = "attempted/"
_ITEMS = """
select lines.*, products.model, products.variant from lines join products on products.id = lines.product
where order_id = ? order by lines.id"""


class _Refused(Exception):
    """The tool cannot or may not do it; the text is what the agent reads."""


class Desk:
    """An :class:`~agentft.environments.Environment` over the rows of a shop.

    Args:
        rows: see :func:`agentft_customer_service.shop.database.seed`.
        strict: refuse what the rules forbid.

    Attributes:
        customer: id of the customer whose identity was checked; empty before.
    """

    tools = SCHEMAS

    def __init__(self, rows: Mapping[str, Any], *, strict: bool = False):
        self.strict = strict
        self.customer = ""
        self._db = build(rows)
        self._today: str = rows["today"]
        self._violations: list[Violation] = []
        self._failed_checks = 0

    @property
    def violations(self) -> tuple[Violation, ...]:
        return tuple(self._violations)

    def state(self) -> str:
        return digest(self._db)

    def close(self) -> None:
        self._db.close()

    def call(self, name: str, arguments: Mapping[str, Any]) -> ToolAnswer:
        tool = BY_NAME.get(name)
        if tool is None:
            return ToolAnswer(f"There is no tool {name}. Tools: {', '.join(BY_NAME)}.", error=True)
        problem = argument_problem(tool, arguments)
        if problem:
            return ToolAnswer(problem, error=True)
        run: Callable[..., str] = getattr(self, f"_{name}")
        try:
            with self._db:
                if tool.personal and not self.customer:
                    self._demand(False, "identity-first")
                return ToolAnswer(run(**arguments))
        except _Refused as error:
            return ToolAnswer(str(error), error=True)

    def query(self, sql: str, *values: Any) -> list[sqlite3.Row]:
        """Rows of the database, for tests and reports."""
        return list(self._db.execute(sql, values))

    # Reading

    def _find_customer(self, name: str) -> str:
        found = self.query("select * from customers where lower(name) = lower(?) order by id", name.strip())
        if not found:
            raise _Refused("No account with this name.")
        return " ".join(f"{row['id']} {row['name']}, email {_masked(row['email'])}." for row in found)

    def _verify_identity(self, email: str, postcode: str) -> str:
        self._demand(self._failed_checks < rules.ATTEMPTS, "guessing")
        found = self.query(
            "select * from customers where lower(email) = lower(?) and replace(postcode, ' ', '') = replace(?, ' ', '')",
            email.strip(),
            postcode.strip(),
        )
        if not found:
            self._failed_checks += 1
            raise _Refused("Not verified: email and postcode do not match.")
        self.customer = found[0]["id"]
        frozen = " Account frozen." if found[0]["frozen"] else ""
        return f"Verified: {self.customer} {found[0]['name']}.{frozen}"

    def _get_order(self, order_id: str) -> str:
        return self._told(self._order(order_id))

    def _list_orders(self, customer_id: str) -> str:
        customer = self._account(customer_id)
        orders = self.query("select * from orders where customer = ? order by placed desc, id", customer["id"])
        return " ".join(f"{row['id']} {self._status(row)}: {self._items(row['id'])}." for row in orders) or "No orders."

    def _get_product(self, product_id: str) -> str:
        row = self._product(product_id)
        stock = f"{row['stock']} in stock" if row["stock"] else "out of stock"
        others = self.query("select * from products where model = ? and id != ? order by id", row["model"], row["id"])
        listed = ", ".join(f"{one['id']} {one['variant']}{'' if one['stock'] else ' (out of stock)'}" for one in others)
        hygiene = "" if row["returnable"] else " Hygiene item."
        return f"{row['id']} {_named(row)}: {_money(row['price'])}, {stock}.{hygiene}" + (f" Variants: {listed}." if listed else "")

    def _search_products(self, query: str) -> str:
        wanted = [word.casefold().rstrip("s") for word in query.split()]
        products = self.query("select * from products order by id")
        hits = [row for row in products if all(word in f"{row['id']} {_named(row)}".casefold() for word in wanted)]
        if not hits:
            raise _Refused("Nothing found.")
        listed = (f"{row['id']} {_named(row)} {_money(row['price'])}{'' if row['stock'] else ' (out of stock)'}" for row in hits[:6])
        return "; ".join(listed) + "."

    def _get_policy(self, topic: str) -> str:
        return rules.POLICIES[topic]

    # Writing

    def _cancel_order(self, order_id: str) -> str:
        order = self._order(order_id, writes=True)
        if order["status"] == "cancelled":
            raise _Refused(f"{order['id']} is cancelled already.")
        self._demand(order["status"] == "processing", "cancel-before-shipping", f"{order['id']} is {order['status']}.")
        self._db.execute("update orders set status = 'cancelled' where id = ?", (order["id"],))
        for line in self.query("select * from lines where order_id = ?", order["id"]):
            self._db.execute("update products set stock = stock + ? where id = ?", (line["quantity"], line["product"]))
        self._db.execute("update payments set refunded = paid where order_id = ?", (order["id"],))
        payment = self._payment(order["id"])
        return f"Cancelled {order['id']}. {_money(payment['paid'])} goes back to {payment['method']} within 5 business days."

    def _refund_order(self, order_id: str, amount: float) -> str:
        order = self._order(order_id, writes=True)
        payment = self._payment(order["id"])
        left = round(payment["paid"] - payment["refunded"], 2)
        if not 0 < amount <= left:
            raise _Refused(f"The amount must be above $0 and at most {_money(left)}.")
        self._in_window(order)
        self._demand(amount + payment["refunded"] <= rules.REFUND_LIMIT, "refund-limit", f"{_money(amount)} for {order['id']}.")
        self._db.execute("update payments set refunded = refunded + ? where order_id = ?", (amount, order["id"]))
        return f"Refunded {_money(amount)} for {order['id']} to {payment['method']}, within 5 business days."

    def _return_items(self, order_id: str, product_ids: list[str]) -> str:
        order = self._order(order_id, writes=True)
        lines = [self._line(order, one) for one in dict.fromkeys(product_ids)]
        self._in_window(order)
        for line in lines:
            self._demand(self._product(line["product"])["returnable"], "not-returnable", f"{line['product']} is a hygiene item.")
        for line in lines:
            self._db.execute("update lines set state = 'returned' where id = ?", (line["id"],))
        amount = sum(line["quantity"] * line["price"] for line in lines)
        listed = ", ".join(line["product"] for line in lines)
        return f"Return registered: {listed} of {order['id']}. Label sent by email. {_money(amount)} back 5 business days after arrival."

    def _exchange_item(self, order_id: str, product_id: str, new_product_id: str) -> str:
        order = self._order(order_id, writes=True)
        line, new = self._line(order, product_id), self._product(new_product_id)
        old = self._product(line["product"])
        if new["stock"] < line["quantity"]:
            raise _Refused(f"{new['id']} {_named(new)} is out of stock.")
        self._in_window(order)
        self._demand(old["returnable"], "not-returnable", f"{old['id']} is a hygiene item.")
        self._demand(new["model"] == old["model"] and new["id"] != old["id"], "same-model", f"{old['id']} for {new['id']}.")
        self._db.execute("update lines set state = 'exchanged', replacement = ? where id = ?", (new["id"], line["id"]))
        self._db.execute("update products set stock = stock - ? where id = ?", (line["quantity"], new["id"]))
        return f"Exchange registered: {old['id']} for {new['id']} {_named(new)} in {order['id']}. Label sent by email."

    def _change_address(self, order_id: str, address: str) -> str:
        order = self._order(order_id, writes=True)
        self._demand(order["status"] == "processing", "address-before-shipping", f"{order['id']} is {order['status']}.")
        self._db.execute("update orders set address = ? where id = ?", (address.strip(), order["id"]))
        return f"{order['id']} now goes to {address.strip()}."

    def _change_email(self, customer_id: str, email: str) -> str:
        customer = self._account(customer_id, writes=True)
        if email.count("@") != 1 or "." not in email.partition("@")[2] or " " in email.strip():
            raise _Refused("This is no email address.")
        self._db.execute("update customers set email = ? where id = ?", (email.strip(), customer["id"]))
        return f"Email of {customer['id']} is now {email.strip()}."

    def _issue_credit(self, order_id: str, amount: float) -> str:
        order = self._order(order_id, writes=True)
        if amount <= 0:
            raise _Refused("The amount must be above $0.")
        self._demand(amount <= rules.CREDIT_LIMIT, "credit-limit", f"{_money(amount)} for {order['id']}.")
        given = self.query("select * from credits where order_id = ?", order["id"])
        self._demand(not given, "one-credit", f"{order['id']} has a credit.")
        self._db.execute("insert into credits (order_id, amount) values (?, ?)", (order["id"], amount))
        return f"Credit of {_money(amount)} given for {order['id']}."

    def _escalate_to_human(self, reason: str) -> str:
        self._db.execute("insert into tickets (customer, reason) values (?, ?)", (self.customer or None, reason))
        return "Handed over. A human calls or writes within 1 business day."

    # What the tools share

    def _demand(self, kept: Any, rule: str, detail: str = "") -> None:
        """Record a broken rule, or refuse where the desk is strict."""
        if kept:
            return
        text = f"{rules.RULES[rule]} {detail}".strip()
        if self.strict:
            self._violations.append(Violation(ATTEMPTED + rule, text))
            raise _Refused(f"Refused: {text}")
        self._violations.append(Violation(rule, text))

    def _account(self, customer_id: str, writes: bool = False) -> sqlite3.Row:
        found = self.query("select * from customers where id = ?", customer_id.strip().upper())
        if not found:
            raise _Refused("There is no such customer.")
        self._owned(found[0], writes)
        return found[0]

    def _order(self, order_id: str, writes: bool = False) -> sqlite3.Row:
        found = self.query("select * from orders where id = ?", order_id.strip().upper())
        if not found:
            raise _Refused("There is no such order.")
        self._owned(self.query("select * from customers where id = ?", found[0]["customer"])[0], writes)
        return found[0]

    def _owned(self, customer: sqlite3.Row, writes: bool) -> None:
        if self.customer:
            self._demand(customer["id"] == self.customer, "own-orders", f"The checked customer is {self.customer}.")
        if writes:
            self._demand(not customer["frozen"], "frozen-account", f"{customer['id']} is frozen.")

    def _product(self, product_id: str) -> sqlite3.Row:
        found = self.query("select * from products where id = ?", product_id.strip().upper())
        if not found:
            raise _Refused(f"There is no product {product_id}.")
        return found[0]

    def _line(self, order: sqlite3.Row, product_id: str) -> sqlite3.Row:
        found = self.query("select * from lines where order_id = ? and product = ?", order["id"], product_id.strip().upper())
        if not found:
            raise _Refused(f"{order['id']} has no item {product_id}.")
        if found[0]["state"] != "kept":
            raise _Refused(f"{product_id} of {order['id']} is {found[0]['state']} already.")
        return found[0]

    def _payment(self, order_id: str) -> sqlite3.Row:
        return self.query("select * from payments where order_id = ?", order_id)[0]

    def _in_window(self, order: sqlite3.Row) -> None:
        if order["status"] == "cancelled":
            raise _Refused(f"{order['id']} is cancelled.")
        self._demand(order["status"] == "delivered", "delivered-first", f"{order['id']} is {order['status']}.")
        if order["delivered"]:
            past = rules.days_between(order["delivered"], self._today)
            self._demand(past <= rules.WINDOW, "window", f"{order['id']} was delivered {past} days ago.")

    def _told(self, order: sqlite3.Row) -> str:
        payment = self._payment(order["id"])
        parts = [f"{order['id']} {self._status(order)}.", f"{self._items(order['id'], prices=True)}."]
        parts.append(f"Paid {_money(payment['paid'])} by {payment['method']}.")
        if payment["refunded"]:
            parts.append(f"Refunded {_money(payment['refunded'])}.")
        parts += [f"Credit {_money(row['amount'])}." for row in self.query("select * from credits where order_id = ?", order["id"])]
        return " ".join([*parts, f"To {order['address']}."])

    def _status(self, order: sqlite3.Row) -> str:
        if order["status"] == "delivered":
            late = rules.days_between(order["due"], order["delivered"])
            when = f", {_days(late)} late" if late > 0 else ""
            return f"delivered {order['delivered']} ({_days(rules.days_between(order['delivered'], self._today))} ago{when})"
        if order["status"] == "cancelled":
            return "cancelled"
        late = rules.days_between(order["due"], self._today)
        when = f"{_days(late)} late" if late > 0 else f"due {order['due']}"
        return f"shipped {order['shipped']}, {when}" if order["status"] == "shipped" else f"processing, not shipped, {when}"

    def _items(self, order_id: str, prices: bool = False) -> str:
        lines = self.query(_ITEMS, order_id)
        return "; ".join(self._item(line, prices) for line in lines)

    def _item(self, line: sqlite3.Row, prices: bool) -> str:
        many = f"{line['quantity']} x " if line["quantity"] > 1 else ""
        price = f" {_money(line['price'])}" if prices else ""
        state = "" if line["state"] == "kept" else f" ({line['state']})"
        return f"{many}{line['product']} {_named(line)}{price}{state}"


def money(amount: float) -> str:
    """``$89`` or ``$12.50``."""
    return f"${amount:.2f}".removesuffix(".00")


_money = money


def _named(product: Mapping[str, Any] | sqlite3.Row) -> str:
    return f"{product['model']} {product['variant']}".strip()


def _days(count: int) -> str:
    return "1 day" if count == 1 else f"{count} days"


def _masked(email: str) -> str:
    name, _, host = email.partition("@")
    return f"{name[0]}...@{host}"


def names(products: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Product id -> model and variant."""
    return {product["id"]: _named(product) for product in products}
