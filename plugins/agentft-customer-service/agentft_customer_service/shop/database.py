"""The shop as a SQLite database in memory, built from plain rows; and a digest of what counts in it."""

from __future__ import annotations

import hashlib
import json
import re
import sqlite3
import threading
from collections.abc import Mapping
from functools import cache
from typing import Any

from agentft.catalog import resource

SEED = "agentft_customer_service:data/shop.json"
ORDER_STATES = ("processing", "shipped", "delivered", "cancelled")

_TABLES = """
create table shop (today text not null);
create table customers (
  id text primary key, name text not null, email text not null, postcode text not null, street text not null, city text not null,
  language text not null, frozen integer not null);
create table products (
  id text primary key, model text not null, variant text not null, price real not null, stock integer not null,
  returnable integer not null);
create table orders (
  id text primary key, customer text not null references customers, placed text not null, due text not null,
  status text not null check (status in ('processing', 'shipped', 'delivered', 'cancelled')),
  shipped text, delivered text, address text not null);
create table lines (
  id integer primary key, order_id text not null references orders, product text not null references products,
  quantity integer not null, price real not null, state text not null default 'kept', replacement text references products);
create table payments (order_id text primary key references orders, method text not null, paid real not null, refunded real not null);
create table credits (id integer primary key, order_id text not null references orders, amount real not null);
create table tickets (id integer primary key, customer text references customers, reason text not null);
"""

# What the end of a conversation is judged by. Of a hand-over only whether there was one: agents word its reason differently.
_COUNTS = {
    "customers": "select id, email, frozen from customers order by id",
    "products": "select id, stock from products order by id",
    "orders": "select id, status, address from orders order by id",
    "lines": "select order_id, product, quantity, state, replacement from lines order by id",
    "payments": "select order_id, refunded from payments order by order_id",
    "credits": "select order_id, amount from credits order by order_id, amount",
    "tickets": "select count(*) > 0 from tickets",
}


@cache
def seed() -> Mapping[str, Any]:
    """The rows that travel with the package: ``today``, ``customers``, ``products``, ``orders``. Read once; do not change them."""
    rows: Mapping[str, Any] = json.loads(resource(SEED).read_text("utf-8"))
    return rows


def build(rows: Mapping[str, Any]) -> sqlite3.Connection:
    """A new database with these rows: as :func:`seed` gives them. An order holds its lines, its payment and the credit given for it."""
    database = _empty()
    if rows is seed():
        with _copying:
            _built_seed().backup(database)
    else:
        _fill(database, rows)
    return database


_copying = threading.Lock()


@cache
def _built_seed() -> sqlite3.Connection:
    """The seed's database, of which every conversation gets a copy; building it takes some eighty times as long."""
    database = _empty()
    _fill(database, seed())
    return database


def _empty() -> sqlite3.Connection:
    database = sqlite3.connect(":memory:", check_same_thread=False)  # one conversation at a time, but not always in the same thread
    database.row_factory = sqlite3.Row
    database.execute("pragma foreign_keys = on")
    return database


def _fill(database: sqlite3.Connection, rows: Mapping[str, Any]) -> None:
    database.executescript(_TABLES)
    with database:
        database.execute("insert into shop values (?)", (rows["today"],))
        database.executemany(
            "insert into customers values (:id, :name, :email, :postcode, :street, :city, :language, :frozen)", rows["customers"]
        )
        database.executemany("insert into products values (:id, :model, :variant, :price, :stock, :returnable)", rows["products"])
        database.executemany(
            "insert into orders values (:id, :customer, :placed, :due, :status, :shipped, :delivered, :address)", rows["orders"]
        )
        for order in rows["orders"]:
            database.executemany(
                "insert into lines (order_id, product, quantity, price) values (?, ?, ?, ?)",
                [(order["id"], line["product"], line["quantity"], line["price"]) for line in order["lines"]],
            )
            paid = round(sum(line["quantity"] * line["price"] for line in order["lines"]), 2)
            refunded = paid if order["status"] == "cancelled" else 0.0
            database.execute("insert into payments values (?, ?, ?, ?)", (order["id"], order["payment"], paid, refunded))
            if order["credit"]:
                database.execute("insert into credits (order_id, amount) values (?, ?)", (order["id"], order["credit"]))


def digest(database: sqlite3.Connection) -> str:
    """sha256 over the tables that count. Case, spacing and punctuation of addresses and emails make no difference."""
    content = {name: [[_plain(value) for value in row] for row in database.execute(query)] for name, query in _COUNTS.items()}
    return hashlib.sha256(json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()).hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return re.sub(r"[\W_]+", " ", value.casefold()).strip()
    return round(value, 2) if isinstance(value, float) else value
