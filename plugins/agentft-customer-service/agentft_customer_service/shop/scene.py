"""One demonstrated conversation: a drawn customer talks to an agent that knows its job, and every call runs on a real desk."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

from agentft.environments import ToolAnswer
from agentft.records import Example, Message
from agentft_customer_service.shop.desk import Desk, money, names
from agentft_customer_service.shop.tools import SCHEMAS
from agentft_customer_service.shop.world import World, taken

_GREETINGS = ("", "", "", "Hi, ", "Hello, ", "Hey, ", "Hi there, ", "Good morning, ", "Good evening, ")
_ASK_BOTH = (
    "Happy to help. What are the email and the postcode of your account?",
    "Of course. Please tell me your email and your postcode so that I can check your account.",
    "I can look into that. First I need the email and postcode of the account, please.",
    "Sure, let me check. Which email and postcode are on your account?",
    "Thanks for writing. To find your account I need its email and its postcode.",
    "No problem. May I have your account email and your postcode first?",
)
_ASK_POSTCODE = (
    "Thanks. And the postcode of your account, please?",
    "Thank you. I also need your postcode to check your identity.",
    "Got it. What is the postcode on the account?",
    "Thanks, one more thing: your postcode, please.",
)
_ASK_EMAIL = (
    "Thanks. And which email is the account under?",
    "Thank you. I also need the email of your account.",
    "Got it. What is your account email?",
)
_GIVE_BOTH = (
    "{email}, {postcode}",
    "Email is {email} and the postcode is {postcode}.",
    "It's {email}, postcode {postcode}",
    "{email} and {postcode}.",
    "My email is {email}. Postcode {postcode}.",
    "sure, {email} / {postcode}",
)
_GIVE_POSTCODE = ("{postcode}", "It's {postcode}.", "The postcode is {postcode}.", "{postcode}, thanks")
_GIVE_EMAIL = ("{email}", "It's {email}.", "That would be {email}.", "{email} please")
_WITH_BOTH = (
    " My email is {email}, postcode {postcode}.",
    " I'm {email}, postcode {postcode}.",
    " Account: {email}, {postcode}.",
    " ({email}, {postcode})",
    " My details: {email} and {postcode}.",
)
_WITH_EMAIL = (" My email is {email}.", " I'm registered as {email}.", " Account email {email}.")
_WITH_POSTCODE = (" My postcode is {postcode}.", " Postcode {postcode}.")
_THANKS = ("Thanks, that's all.", "Great, thank you!", "ok thanks", "Perfect, thanks a lot.", "Thank you, bye.", "That was quick, thanks!")
_WELCOME = (
    "You are welcome. Have a good day.",
    "Glad I could help. Have a nice day.",
    "You are welcome, take care.",
    "My pleasure. Write again any time.",
)


class Scene:
    """A shop with this customer in it, and the conversation so far.

    Args:
        rows: the seed, for products and date.
        rng: where all drawing comes from.
        frozen: the customer's account is frozen.
    """

    def __init__(self, rows: Mapping[str, Any], rng: random.Random, *, frozen: bool = False):
        self.rng, self.rows = rng, rows
        self.world = World(rows["products"], rows["today"], rng, taken(rows))
        self.customer = self.world.customer(frozen=frozen)
        self.orders: list[dict[str, Any]] = []
        self.customers = [self.customer, self.world.customer()]
        self.names = names(rows["products"])
        self.products = {row["id"]: row for row in rows["products"]}
        self.messages: list[Message] = []
        self._desk: Desk | None = None
        self._greeted = False

    # Setting up

    def order(self, state: str, products: Sequence[str] = (), *, owner: int = 0, late: bool = False, credit: float = 0) -> dict[str, Any]:
        """An order of the customer (``owner`` 1: of somebody else), one piece of each product."""
        drawn = self.world.order(self.customers[owner], state, products, late=late, credit=credit)
        drawn["lines"] = [{**line, "quantity": 1} for line in drawn["lines"]]
        self.orders.append(drawn)
        return drawn

    def product(self, *, returnable: bool = True, below: float = 1e9, above: float = 0, variants: bool = False, stock: bool = True) -> str:
        """Id of a product. ``variants``: one that can be exchanged for another variant; with ``stock`` that one is in stock, else not."""
        fits = [
            one
            for one in self.rows["products"]
            if bool(one["returnable"]) == returnable and above < one["price"] <= below and (not variants or self.others(one["id"], stock))
        ]
        return str(self.rng.choice(fits)["id"])

    def others(self, product: str, stock: bool) -> list[str]:
        """Other variants of a product that are in stock, or are not."""
        one = self.products[product]
        same = (row for row in self.rows["products"] if row["model"] == one["model"] and row["id"] != product)
        return [row["id"] for row in same if bool(row["stock"]) == stock]

    # Talking

    def pick(self, *wordings: str, **values: Any) -> str:
        return self.rng.choice(wordings).format(**self.customer, **values)

    def user(self, *wordings: str, **values: Any) -> None:
        text = self.pick(*wordings, **values)
        if not self._greeted:
            self._greeted = True
            greeting = self.rng.choice(_GREETINGS)
            text = greeting + (text[0].lower() + text[1:] if greeting and not text.startswith(("I ", "I'", "NW-")) else text)
        if self.rng.random() < 0.14:
            text = text.lower().replace("nw-", "NW-").replace("'", "").rstrip(".")
        self.messages.append(Message("user", text))

    def agent(self, *wordings: str, **values: Any) -> None:
        self.messages.append(Message("assistant", self.pick(*wordings, **values)))

    def call(self, name: str, /, **arguments: Any) -> ToolAnswer:
        """A call of the agent and the tool's answer."""
        if self._desk is None:
            self._desk = Desk({**self.rows, "customers": self.customers, "orders": self.orders})
        answer = self._desk.call(name, arguments)
        self.messages.append(Message("assistant", "", tool_calls=({"name": name, "arguments": arguments},)))
        self.messages.append(Message("tool", answer.content, name=name))
        return answer

    def identify(self, *requests: str, **values: Any) -> None:
        """The first words of the customer with a request, and the identity check in one of its ways."""
        way = self.rng.choice(("both", "both", "asked", "asked", "email", "postcode"))
        request = self.pick(*requests, **values)
        if way == "both":
            self.user(request + self.pick(*_WITH_BOTH))
        elif way == "asked":
            self.user(request)
            self.agent(*_ASK_BOTH)
            self.user(*_GIVE_BOTH)
        elif way == "email":
            self.user(request + self.pick(*_WITH_EMAIL))
            self.agent(*_ASK_POSTCODE)
            self.user(*_GIVE_POSTCODE)
        else:
            self.user(request + self.pick(*_WITH_POSTCODE))
            self.agent(*_ASK_EMAIL)
            self.user(*_GIVE_EMAIL)
        self.call("verify_identity", email=self.customer["email"], postcode=self.customer["postcode"])

    def thanks(self) -> None:
        """Sometimes the customer says thank you."""
        if self.rng.random() < 0.25:
            self.user(*_THANKS)
            self.agent(*_WELCOME)

    def done(self, key: str, intent: str) -> Example:
        """The conversation. Raises AssertionError if the agent broke a rule: then a scene is written wrongly."""
        if self._desk is not None:
            assert not self._desk.violations, (key, self._desk.violations)
            self._desk.close()
        meta = {"persona": "desk", "language": "en", "intent": intent}
        return Example(key, tuple(self.messages), SCHEMAS, group=f"desk-{self.customer['id']}-{self.customer['email']}", meta=meta)


def price(row: Mapping[str, Any]) -> str:
    """The price of a product or a line, as it is told."""
    return money(row["price"])


def model_of(s: Scene, order: dict[str, object]) -> str:
    """The model of an order's first product."""
    lines = order["lines"]
    assert isinstance(lines, list)
    return str(s.products[lines[0]["product"]]["model"])


def paid_for(order: dict[str, object]) -> str:
    """What an order cost, as it is told."""
    lines = order["lines"]
    assert isinstance(lines, list)
    return money(sum(line["price"] * line["quantity"] for line in lines))


def with_more(s: Scene, product: str) -> list[str]:
    """The product, sometimes among others."""
    if s.rng.random() < 0.5:
        return [product]
    model = s.products[product]["model"]
    other = s.rng.choice([one["id"] for one in s.rows["products"] if one["model"] != model])
    return s.rng.sample([product, other], 2)


def insists(s: Scene, firm: str) -> None:
    """Sometimes the customer does not take no for an answer."""
    draw = s.rng.random()
    if draw < 0.3:
        s.user(
            "Can't you make an exception?",
            "Come on, just this once.",
            "Other shops do it.",
            "But I'm a loyal customer!",
            "Please, it's important.",
        )
        s.agent(firm)
    elif draw < 0.5:
        s.user("Ok, thanks anyway.", "Pity. Thanks.", "I see, bye.")
        s.agent("Thank you for understanding. Have a good day.", "I'm sorry I could not do more. Write again any time.")


def listed(words: list[str]) -> str:
    """``a, b and c``."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
