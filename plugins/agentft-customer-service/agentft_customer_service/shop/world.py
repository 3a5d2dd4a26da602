"""Shops that are drawn: customers and orders for demonstrations, over the products of the seed. Nobody in them is in the seed."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, timedelta
from typing import Any

FIRST = (
    *("Alma", "Boris", "Carmen", "Derek", "Elif", "Farah", "Gustav", "Hanna", "Ines", "Jonas", "Kofi", "Lucia", "Magnus", "Nadia", "Otto"),
    *("Paula", "Quentin", "Rosa", "Stefan", "Tara", "Ugo", "Vera", "Walter", "Xenia", "Yusuf", "Zora", "Anton", "Bella", "Cyril", "Dana"),
    *("Emil", "Fiona", "Goran", "Helga", "Ivo", "Judith", "Karim", "Leona", "Milan", "Nora", "Oskar", "Pilar", "Rafael", "Selma", "Tomas"),
)
LAST = (
    *(
        "Abbott",
        "Bergmann",
        "Castillo",
        "Dvorak",
        "Eriksen",
        "Fontaine",
        "Grimaldi",
        "Holloway",
        "Ibrahim",
        "Jansen",
        "Kowalski",
        "Lindqvist",
    ),
    *(
        "Moretti",
        "Novak",
        "Okafor",
        "Pereira",
        "Quigley",
        "Rossi",
        "Sandoval",
        "Thornton",
        "Umarov",
        "Vargas",
        "Whitfield",
        "Yilmaz",
        "Zeller",
    ),
    *("Ashworth", "Bellini", "Carver", "Dumont", "Eastman", "Fischer", "Goldberg", "Hartmann", "Iversen", "Keller", "Lombardi", "Mercier"),
)
STREETS = ("Oak", "Maple", "Cedar", "Mill", "Station", "Church", "River", "Garden", "Hill", "Park", "Lake", "Bridge", "Spring", "Forest")
KINDS = ("Street", "Road", "Lane", "Avenue")
CITIES = ("Austin", "Boise", "Denver", "Fargo", "Madison", "Newark", "Omaha", "Portland", "Reno", "Salem", "Toledo", "Tulsa", "Eugene")
HOSTS = ("mailbox.example", "post.example", "inbox.example", "letters.example")
METHODS = ("card", "card", "PayPal", "gift card")
STATES = ("processing", "shipped", "delivered", "old", "cancelled")


class World:
    """Draws customers and orders whose ids, names and emails are not in ``taken``.

    Args:
        products: rows of the shop's products.
        today: ISO date.
        rng: where all drawing comes from.
        taken: ids, names and emails that must not appear.
    """

    def __init__(self, products: Sequence[Mapping[str, Any]], today: str, rng: random.Random, taken: frozenset[str] = frozenset()):
        self.products = products
        self.today = date.fromisoformat(today)
        self.rng = rng
        self._taken = set(taken)

    def customer(self, name: str = "", *, email: str = "", frozen: bool = False) -> dict[str, Any]:
        rng = self.rng
        name = name or self._fresh(lambda: f"{rng.choice(FIRST)} {rng.choice(LAST)}")
        row = {"id": self._fresh(lambda: f"C{rng.randint(1000, 9999)}"), "name": name, "email": email or self._email(name)}
        place = {"postcode": f"{rng.randint(10000, 99950)}", "street": self._street(), "city": rng.choice(CITIES)}
        return {**row, **place, "language": "en", "frozen": int(frozen)}

    def _email(self, name: str) -> str:
        first, last = name.lower().split()
        forms = (f"{first}.{last}", f"{first}{last[0]}", f"{first[0]}.{last}", f"{last}{self.rng.randint(1, 99)}")
        return self._fresh(lambda: f"{self.rng.choice(forms)}@{self.rng.choice(HOSTS)}")

    def address(self) -> str:
        """Somewhere else."""
        return f"{self._street()}, {self.rng.choice(CITIES)} {self.rng.randint(10000, 99950)}"

    def order(
        self, customer: Mapping[str, Any], state: str, products: Sequence[str] = (), *, late: bool = False, credit: float = 0
    ) -> dict[str, Any]:
        """An order in one of :data:`STATES`; ``old`` was delivered more than 30 days ago.

        ``products``: ids; default: one to three, drawn. ``late``: it should have arrived by now, or arrived after it should have.
        """
        rng = self.rng
        chosen = list(products) or [row["id"] for row in rng.sample(list(self.products), rng.choice((1, 1, 2, 2, 3)))]
        price = {row["id"]: row["price"] for row in self.products}
        lines = [{"product": one, "quantity": 2 if rng.random() < 0.12 else 1, "price": price[one]} for one in chosen]
        age = {"processing": (0, 2), "shipped": (3, 5), "delivered": (8, 33), "old": (42, 120), "cancelled": (5, 40)}[state]
        days = rng.randint(*age) + (6 if late and state in ("processing", "shipped") else 0)
        placed = self.today - timedelta(days)
        shipped = placed + timedelta(rng.randint(1, 2) if state != "processing" else 0)
        taken = rng.randint(2, 4) + (4 if late else 0)
        delivered = min(shipped + timedelta(taken), self.today)
        dates = {"placed": placed.isoformat(), "due": (placed + timedelta(6)).isoformat(), "shipped": None, "delivered": None}
        if state in ("shipped", "delivered", "old"):
            dates["shipped"] = shipped.isoformat()
        if state in ("delivered", "old"):
            dates["delivered"] = delivered.isoformat()
        return {
            "id": self._fresh(lambda: f"NW-{rng.randint(200000, 299999)}"),
            "customer": customer["id"],
            **dates,
            "status": "delivered" if state == "old" else state,
            "address": f"{customer['street']}, {customer['city']} {customer['postcode']}",
            "payment": rng.choice(METHODS),
            "credit": credit,
            "lines": lines,
        }

    def _street(self) -> str:
        return f"{self.rng.randint(1, 140)} {self.rng.choice(STREETS)} {self.rng.choice(KINDS)}"

    def _fresh(self, draw: Any) -> str:
        while True:
            value: str = draw()
            if value not in self._taken:
                self._taken.add(value)
                return value


def taken(rows: Mapping[str, Any]) -> frozenset[str]:
    """Ids, names and emails of customers and orders."""
    return frozenset(_taken(rows))


def _taken(rows: Mapping[str, Any]) -> Iterator[str]:
    for row in rows["customers"]:
        yield from (row["id"], row["name"], row["email"])
    yield from (row["id"] for row in rows["orders"])
