"""Demonstrations about addresses, accounts, credit, identity, hand-overs and questions. A scene is a function of its name."""

from __future__ import annotations

from agentft_customer_service.shop.desk import money
from agentft_customer_service.shop.rules import POLICIES
from agentft_customer_service.shop.scene import Scene, insists, listed, model_of, paid_for, price
from agentft_customer_service.shop.scenes_orders import CANCEL, RETURN

_MOVE = (
    "Please send {id_} to {address} instead.",
    "I'm moving. Can {id_} go to {address}?",
    "Wrong address on {id_}, it should be {address}.",
    "Change the delivery address of order {id_} to {address}, please.",
)


def address(s: Scene) -> None:
    order, new = s.order("processing"), s.world.address()
    s.identify(*_MOVE, id_=order["id"], address=new)
    s.call("get_order", order_id=order["id"])
    s.call("change_address", order_id=order["id"], address=new)
    s.agent(
        "Done, {id_} will go to {address}.",
        "I have changed it: {id_} now goes to {address}.",
        "No problem, the new address of {id_} is {address}.",
        id_=order["id"],
        address=new,
    )
    s.thanks()


def address_shipped(s: Scene) -> None:
    order, new = s.order("shipped"), s.world.address()
    s.identify(*_MOVE, id_=order["id"], address=new)
    s.call("get_order", order_id=order["id"])
    s.agent(
        "I'm sorry, {id_} shipped on {day}, so I can't change the address any more.",
        "Sorry, the address can only be changed before shipping, and {id_} shipped on {day}.",
        id_=order["id"],
        day=order["shipped"],
    )
    insists(s, "I understand, but I can't change the address after shipping.")


def email(s: Scene) -> None:
    new = s.pick("{first}{n}@{host}", first=s.customer["name"].split()[0].lower(), n=s.rng.randint(1, 99), host="newmail.example")
    s.identify(
        "I have a new email: {new}. Please change it.",
        "Please update my email to {new}.",
        "Can you change the email of my account to {new}?",
        "From now on use {new} for my account.",
        new=new,
    )
    s.call("change_email", customer_id=s.customer["id"], email=new)
    s.agent("Done, your email is now {new}.", "I have changed it. Your account uses {new} from now on.", new=new)
    s.thanks()


_LATE = (
    "My order {id_} is days late. I'd like a credit of {wish}.",
    "Order {id_} should have been here long ago. Can I have {wish} credit?",
    "I'm still waiting for {id_}. I want a {wish} credit for the delay.",
)


def credit(s: Scene) -> None:
    order, amount = s.order("shipped", late=True), s.rng.choice((5, 10, 15, 20))
    s.identify(*_LATE, id_=order["id"], wish=money(amount))
    s.call("get_order", order_id=order["id"])
    s.call("issue_credit", order_id=order["id"], amount=amount)
    s.agent(
        "I'm sorry that {id_} is late. I have given you a credit of {wish}.",
        "Sorry for the delay. A credit of {wish} for {id_} is on your account now.",
        id_=order["id"],
        wish=money(amount),
    )
    s.thanks()


def credit_again(s: Scene) -> None:
    order, amount = s.order("shipped", late=True, credit=10), s.rng.choice((5, 10, 15))
    s.identify(*_LATE, id_=order["id"], wish=money(amount))
    s.call("get_order", order_id=order["id"])
    s.agent(
        "I'm sorry for the delay. You already have a credit of $10 for {id_}, and I can't give a second one.",
        "Sorry, there is a credit of $10 for {id_} already, and only one is possible.",
        id_=order["id"],
    )
    insists(s, "I'm sorry, I can't give more than one credit for an order.")


def credit_high(s: Scene) -> None:
    order, amount = s.order("shipped", late=True), s.rng.choice((30, 40, 50, 80))
    s.identify(*_LATE, id_=order["id"], wish=money(amount))
    s.call("get_order", order_id=order["id"])
    s.agent(
        "I'm sorry for the delay. I can't give {wish}; the most for a late order is $20. Shall I do that?",
        "Sorry about the wait. {wish} is not possible, but I can give you up to $20. Would you like that?",
        wish=money(amount),
    )
    if s.rng.random() < 0.6:
        s.user("Yes please.", "ok, $20 then", "Fine, do that.", "Yes, go ahead.")
        s.call("issue_credit", order_id=order["id"], amount=20)
        s.agent("Done, a credit of $20 for {id_} is on your account.", "You have a credit of $20 for {id_} now.", id_=order["id"])
    else:
        s.user("No, that's not enough.", "No thanks, forget it.")
        s.agent("I understand. The offer of $20 stays open; write to me any time.", "I see. Let me know if you change your mind.")


def mistyped(s: Scene) -> None:
    order, right = s.order("shipped"), s.customer["postcode"]
    wrong = str(int(right) + s.rng.choice((1, 10, 90, -1)))
    s.user("Where is {id_}? {email}, {wrong}", "Status of {id_} please. I'm {email}, postcode {wrong}.", id_=order["id"], wrong=wrong)
    s.call("verify_identity", email=s.customer["email"], postcode=wrong)
    s.agent(
        "Sorry, email and postcode do not match our records. Could you check them?",
        "I could not verify you with these details. Is the postcode right?",
    )
    s.user("Oh, it's {postcode}.", "Sorry, I mistyped: {postcode}.", "my mistake, the postcode is {postcode}")
    s.call("verify_identity", email=s.customer["email"], postcode=right)
    s.call("get_order", order_id=order["id"])
    s.agent("Thanks, that worked. {id_} shipped on {day} and is due on {due}.", id_=order["id"], day=order["shipped"], due=order["due"])
    s.thanks()


def unverified(s: Scene) -> None:
    order = s.order(s.rng.choice(("processing", "delivered")))
    first, second = (str(s.rng.randint(10000, 99950)) for _ in range(2))
    s.user("Cancel {id_}. {email}, {wrong}", "Please cancel {id_}, my email is {email} and postcode {wrong}.", id_=order["id"], wrong=first)
    s.call("verify_identity", email=s.customer["email"], postcode=first)
    s.agent("Sorry, email and postcode do not match. Please check them.", "I could not verify you. Could you check the postcode?")
    s.user("Try {wrong}.", "Maybe {wrong}?", "then it's {wrong}", wrong=second)
    s.call("verify_identity", email=s.customer["email"], postcode=second)
    s.call("escalate_to_human", reason="identity")
    s.agent(
        "I'm sorry, I can't verify you, so I cannot change anything. A specialist will contact you within 1 business day.",
        "Sorry, these details do not match either. I have handed you over to a specialist, who writes within 1 business day.",
    )


def stranger(s: Scene) -> None:
    other = s.order(s.rng.choice(("processing", "shipped")), owner=1)
    s.order("delivered")
    s.identify(
        "Please cancel {id_}, it is my sister's order.",
        "Can you tell me what is in order {id_}? It belongs to my husband.",
        "I'd like to know where {id_} goes. A friend ordered it.",
        "Change the address of {id_} for my neighbour, please.",
        id_=other["id"],
    )
    s.agent(
        "I'm sorry, I can only help with orders of your own account. Please ask the person who ordered {id_} to write to us.",
        "Sorry, {id_} belongs to somebody else, so I can't show or change it. Its owner can contact us.",
        id_=other["id"],
    )
    insists(s, "I understand, but I can't show or change orders of others.")


def frozen(s: Scene) -> None:
    order = s.order(s.rng.choice(("processing", "delivered")))
    s.identify(*(CANCEL if order["status"] == "processing" else RETURN), id_=order["id"], item=model_of(s, order))
    s.call("escalate_to_human", reason="frozen")
    s.agent(
        "I'm sorry, your account is frozen, so I can't change anything. A specialist will contact you within 1 business day.",
        "Your account is frozen at the moment, sorry. I have handed you over to a specialist, who contacts you within 1 business day.",
    )


def human(s: Scene) -> None:
    reason, wordings = s.rng.choice(
        (
            ("manager", ("I want to talk to a manager.", "Get me a supervisor, now.", "This is useless, give me a real person.")),
            ("legal", ("I will sue you if this goes on.", "My lawyer will be in touch about this.", "I'm taking you to court over this.")),
            (
                "safety",
                (
                    "The {item} caught fire in my kitchen!",
                    "Your {item} gave me an electric shock.",
                    "The {item} is dangerous, I got burned.",
                ),
            ),
            ("fraud", ("Somebody ordered a {item} with my card. That is fraud.", "There is a scam order for a {item} on my account!")),
        )
    )
    s.user(*wordings, item=s.rng.choice(("electric kettle", "desk lamp", "USB charger", "espresso machine")))
    s.call("escalate_to_human", reason=reason)
    sorry = {"safety": "I'm sorry, I hope you are well. Please do not use it any more.", "fraud": "I'm sorry, that is alarming."}
    first = sorry.get(reason, "I understand, and I'm sorry.")
    s.agent(
        "{first} I have handed you over to a specialist, who contacts you within 1 business day.",
        "{first} A specialist will contact you within 1 business day.",
        first=first,
    )


def product(s: Scene) -> None:
    one = s.products[s.product(returnable=True)]
    s.user(
        "How much is the {item}?",
        "Do you have the {item} in stock?",
        "Can I get the {item} at the moment, and at what price?",
        "I'm looking for the {item}. What do you have?",
        item=one["model"],
    )
    s.call("search_products", query=one["model"])
    same = [row for row in s.rows["products"] if row["model"] == one["model"]]
    there = [row["variant"] for row in same if row["stock"]]
    gone = [row["variant"] for row in same if not row["stock"]]
    have = f" We have {listed(there)} in stock" if any(there) else " That is in stock" if there else " That is out of stock at the moment"
    s.agent(
        "The price of the {item} is {price}.{have}{gone}.",
        "Happy to help: for the {item} we ask {price}.{have}{gone}.",
        item=one["model"],
        price=price(one),
        have=have,
        gone=f"; {listed(gone)} is out of stock" if any(gone) and there else "",
    )
    s.thanks()


_TOPICS = {
    "returns": ("How long can I return something?", "What are your rules for returns?", "Can I send things back?"),
    "refunds": ("How do refunds work?", "When do I get my money after a refund?", "Can I get money back for a broken item?"),
    "cancellation": ("Can I cancel an order?", "Until when can I cancel?", "Does cancelling cost anything?"),
    "shipping": ("How long does shipping take?", "What does delivery cost?", "From what amount is shipping free?"),
    "credit": ("What do I get when an order is late?", "Do you give credit for late orders?"),
    "account": ("What do I need to change my account?", "How do I change my email with you?"),
}
_TOLD = {
    "returns": "You can return or exchange items free of charge within 30 days after delivery, except hygiene items.",
    "refunds": "For faulty, wrong or missing items we refund within 30 days after delivery, and the money is there within 5 business days.",
    "cancellation": "You can cancel free of charge until the order ships. The money is back within 5 business days.",
    "shipping": "Shipping takes 3 to 5 business days and costs $4.90. From $50 it is free.",
    "credit": "For a late order there is a credit of up to $20, once for each order.",
    "account": "I need the email and the postcode of your account, then I can change it for you.",
}


def policy(s: Scene) -> None:
    topic = s.rng.choice(list(POLICIES))
    s.user(*_TOPICS[topic])
    s.call("get_policy", topic=topic)
    s.agent("{told}", "Happy to explain. {told}", "{told} Is there an order that you need help with?", told=_TOLD[topic])
    s.thanks()


def two_things(s: Scene) -> None:
    product = s.product(below=200)
    first = s.order("processing", [s.product()])
    second = s.order("delivered", [product])
    s.identify(*CANCEL, id_=first["id"], item=model_of(s, first))
    s.call("get_order", order_id=first["id"])
    s.call("cancel_order", order_id=first["id"])
    s.agent("{id_} is cancelled, {paid} comes back within 5 business days. What else can I do?", id_=first["id"], paid=paid_for(first))
    item = s.products[product]["model"]
    if s.rng.random() < 0.5:
        s.user("And I want to return the {item} from {id_}.", "Also, please take back the {item} of {id_}.", item=item, id_=second["id"])
        s.call("get_order", order_id=second["id"])
        s.call("return_items", order_id=second["id"], product_ids=[product])
        s.agent("The return of the {item} is registered too. The label is in your email.", item=item)
    else:
        s.user(
            "And the {item} from {id_} came broken, refund please.",
            "Also {id_}: refund the {item}, it came damaged.",
            item=item,
            id_=second["id"],
        )
        s.call("get_order", order_id=second["id"])
        s.call("refund_order", order_id=second["id"], amount=s.products[product]["price"])
        s.agent("Sorry about the {item}. {price} is refunded, within 5 business days.", item=item, price=price(s.products[product]))


def changed_mind(s: Scene) -> None:
    first, second = s.order("processing"), s.order("processing")
    s.user("Please cancel {id_}.", "I want to cancel order {id_}.", id_=first["id"])
    s.agent("Of course. Which email and postcode are on your account?", "Sure. Please tell me your email and postcode first.")
    s.user(
        "{email}, {postcode}. Wait, not {one}, I mean {two}.",
        "Sorry, I meant {two}, keep {one}. {email}, {postcode}",
        one=first["id"],
        two=second["id"],
    )
    s.call("verify_identity", email=s.customer["email"], postcode=s.customer["postcode"])
    s.call("get_order", order_id=second["id"])
    s.call("cancel_order", order_id=second["id"])
    s.agent(
        "No problem, I cancelled {two} and left {one} as it is.",
        "Done: {two} is cancelled, {one} stays.",
        one=first["id"],
        two=second["id"],
    )
    s.thanks()


def kept_after_all(s: Scene) -> None:
    order = s.order("processing")
    s.user("Cancel {id_} please.", "I'd like to cancel order {id_}.", id_=order["id"])
    s.agent("Sure. What are your email and postcode?", "Of course. Please tell me the email and postcode of the account.")
    s.user("Actually, leave it. I want to keep it.", "On second thought I keep it, thanks.", "Never mind, do not cancel it.")
    s.agent("All right, nothing was changed. {id_} stays as it is.", "No problem, I leave {id_} as it is.", id_=order["id"])


def forgot_email(s: Scene) -> None:
    order = s.order("shipped")
    s.user(
        "I forgot which email I used. I'm {name} and want to know where {id_} is.",
        "This is {name}. Where is {id_}? I don't know my email.",
        id_=order["id"],
    )
    s.call("find_customer", name=s.customer["name"])
    masked = f"{s.customer['email'][0]}...@{s.customer['email'].partition('@')[2]}"
    s.agent("I found an account with {masked}. Please tell me the full email and your postcode.", masked=masked)
    s.user(*("Ah, {email}. Postcode {postcode}.", "{email}, {postcode}"))
    s.call("verify_identity", email=s.customer["email"], postcode=s.customer["postcode"])
    s.call("get_order", order_id=order["id"])
    s.agent("Thanks. {id_} shipped on {day} and is due on {due}.", id_=order["id"], day=order["shipped"], due=order["due"])
