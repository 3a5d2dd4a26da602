"""Demonstrations about orders: where they are, cancelling, refunds, returns, exchanges. A scene is a function of its name."""

from __future__ import annotations

from agentft_customer_service.shop.rules import days_between
from agentft_customer_service.shop.scene import Scene, insists, model_of, paid_for, price, with_more


def status(s: Scene) -> None:
    state = s.rng.choice(("processing", "shipped", "shipped", "delivered"))
    order = s.order(state, late=state == "shipped" and s.rng.random() < 0.5)
    s.identify(
        "Where is my order {id_}?",
        "Can you tell me the status of {id_}?",
        "I'd like to know when {id_} arrives.",
        "Any news on order {id_}? I have been waiting.",
        "What's happening with {id_}?",
        "Has {id_} been sent yet?",
        id_=order["id"],
    )
    s.call("get_order", order_id=order["id"])
    late = days_between(order["due"], s.rows["today"])
    if state == "delivered":
        s.agent(
            "Thanks. Order {id_} was delivered on {day}. If you cannot find it, please look with your neighbours and tell me.",
            "{id_} arrived on {day}, according to the carrier. Is it not with you?",
            id_=order["id"],
            day=order["delivered"],
        )
    elif late > 0:
        s.agent(
            "I'm sorry, {id_} is {late} days late. It shipped on {day} and is still on its way. Would you like a credit for the delay?",
            "Sorry for the wait. {id_} was shipped on {day} and is {late} days late. I can give you a credit for that if you like.",
            id_=order["id"],
            late=late,
            day=order["shipped"],
        )
    elif state == "shipped":
        s.agent(
            "Good news, {id_} shipped on {day} and should be with you by {due}.",
            "{id_} is on its way: it shipped on {day} and is due on {due}.",
            id_=order["id"],
            day=order["shipped"],
            due=order["due"],
        )
    else:
        s.agent(
            "{id_} is being prepared and has not shipped yet. It should reach you by {due}.",
            "We are still packing {id_}. It is due on {due}.",
            id_=order["id"],
            due=order["due"],
        )
    s.thanks()


def orders(s: Scene) -> None:
    for state in s.rng.sample(("processing", "shipped", "delivered", "old"), s.rng.choice((1, 2, 2, 3))):
        s.order(state)
    s.identify(
        "I lost my order number. Which orders do I have?",
        "Can you list my orders?",
        "What did I order lately? I can't find the mails.",
        "I need the number of my last order.",
        "Which of my orders are still open?",
    )
    s.call("list_orders", customer_id=s.customer["id"])
    newest = sorted(s.orders, key=lambda one: (one["placed"], one["id"]), reverse=True)
    told = [f"{one['id']} ({s.names[one['lines'][0]['product']]}), {one['status']}" for one in newest]
    s.agent(
        "Here is what I found: {told}. Which one is it about?",
        "I see these orders: {told}. How can I help with them?",
        told="; ".join(told),
    )
    s.thanks()


CANCEL = (
    "Please cancel my order {id_}.",
    "I want to cancel {id_}.",
    "Can you stop order {id_}? I don't need the {item} any more.",
    "I ordered the {item} by mistake, please cancel {id_}.",
    "Cancel {id_} please, I found it cheaper elsewhere.",
    "I changed my mind about the {item}. Cancel order {id_}.",
)


def cancel(s: Scene) -> None:
    order = s.order("processing")
    if s.rng.random() < 0.4:
        s.order(s.rng.choice(("delivered", "shipped")))
    s.identify(*CANCEL, id_=order["id"], item=model_of(s, order))
    s.call("get_order", order_id=order["id"])
    s.call("cancel_order", order_id=order["id"])
    s.agent(
        "Done, {id_} is cancelled. {paid} goes back to your {method} within 5 business days.",
        "I have cancelled {id_}. You get {paid} back to your {method} within 5 business days.",
        "Order {id_} had not shipped, so it is cancelled now. The {paid} will be back on your {method} within 5 business days.",
        id_=order["id"],
        paid=paid_for(order),
        method=order["payment"],
    )
    s.thanks()


def cancel_shipped(s: Scene) -> None:
    order = s.order(s.rng.choice(("shipped", "shipped", "delivered")))
    s.identify(*CANCEL, id_=order["id"], item=model_of(s, order))
    s.call("get_order", order_id=order["id"])
    s.agent(
        "I'm sorry, I can't cancel {id_}: it was shipped on {day}. You can return it within 30 days after delivery instead.",
        "Sorry, {id_} shipped on {day} and can't be cancelled any more. You can send it back free of charge within 30 days of delivery.",
        "I understand, but {id_} has shipped already ({day}), so I cannot cancel it. A return is free for 30 days after delivery.",
        id_=order["id"],
        day=order["shipped"],
    )
    insists(s, "Sorry, I can't make an exception once an order has shipped. The free return is still open to you.")


_FAULTY = (
    "The {item} from order {id_} arrived broken. I want my money back.",
    "Something is wrong with the {item} in {id_}, please refund it.",
    "I got the wrong {item} with {id_} and would like a refund.",
    "You forgot the {item} in {id_}. Can you refund it?",
    "{id_}: defective {item}. Refund please.",
    "I'd like a refund for the {item} of order {id_}, it has a defect.",
)


def refund(s: Scene) -> None:
    product = s.product(below=200)
    order = s.order("delivered", with_more(s, product))
    s.identify(*_FAULTY, id_=order["id"], item=s.products[product]["model"])
    s.call("get_order", order_id=order["id"])
    s.call("refund_order", order_id=order["id"], amount=s.products[product]["price"])
    s.agent(
        "I'm sorry about the {item}. I have refunded {price} to your {method}; it arrives within 5 business days.",
        "Sorry for the trouble. {price} for the {item} goes back to your {method} within 5 business days.",
        "That should not happen, sorry. I refunded the {item}: {price} to your {method}, within 5 business days.",
        item=s.products[product]["model"],
        price=price(s.products[product]),
        method=order["payment"],
    )
    s.thanks()


def refund_old(s: Scene) -> None:
    product = s.product(below=200)
    order = s.order("old", [product])
    s.identify(*_FAULTY, id_=order["id"], item=s.products[product]["model"])
    s.call("get_order", order_id=order["id"])
    s.agent(
        "I'm sorry, I can't refund {id_}: it was delivered {days} days ago, and refunds end 30 days after delivery.",
        "Sorry about the {item}. It was delivered {days} days ago, and I cannot refund after 30 days.",
        id_=order["id"],
        item=s.products[product]["model"],
        days=days_between(order["delivered"], s.rows["today"]),
    )
    insists(s, "I understand, but I can't go beyond the 30 days. I'm sorry.")


def refund_high(s: Scene) -> None:
    product = s.product(above=200)
    order = s.order("delivered", [product])
    s.identify(*_FAULTY, id_=order["id"], item=s.products[product]["model"])
    s.call("get_order", order_id=order["id"])
    s.call("escalate_to_human", reason="amount")
    s.agent(
        "I'm sorry about the {item}. A refund of {price} needs a specialist, so I handed you over. You hear from us within 1 business day.",
        "Sorry for the trouble. Refunds above $200 are decided by a specialist, who will contact you within 1 business day.",
        item=s.products[product]["model"],
        price=price(s.products[product]),
    )
    s.thanks()


RETURN = (
    "I want to return the {item} from {id_}.",
    "How can I send back the {item}? Order {id_}.",
    "I'm not happy with the {item} and want to return it, order {id_}.",
    "Please arrange a return for the {item} in {id_}.",
    "I don't like the {item} I got with {id_}, can I give it back?",
)


def return_(s: Scene) -> None:
    product = s.product()
    order = s.order("delivered", with_more(s, product))
    s.identify(*RETURN, id_=order["id"], item=s.products[product]["model"])
    s.call("get_order", order_id=order["id"])
    s.call("return_items", order_id=order["id"], product_ids=[product])
    s.agent(
        "Done. The return of the {item} is registered, the label is in your email. You get {price} back 5 business days after it arrives.",
        "I have registered the return of your {item}. Use the label in your email; {price} is back 5 business days after we receive it.",
        item=s.products[product]["model"],
        price=price(s.products[product]),
    )
    s.thanks()


def return_old(s: Scene) -> None:
    product = s.product()
    order = s.order("old", [product])
    s.identify(*RETURN, id_=order["id"], item=s.products[product]["model"])
    s.call("get_order", order_id=order["id"])
    s.agent(
        "I'm sorry, {id_} was delivered {days} days ago. Returns are possible within 30 days after delivery, so I can't take it back.",
        "Sorry, I can't register this return: 30 days after delivery are over, {id_} arrived {days} days ago.",
        id_=order["id"],
        days=days_between(order["delivered"], s.rows["today"]),
    )
    insists(s, "I'm sorry, I cannot extend the 30 days.")


def return_hygiene(s: Scene) -> None:
    product = s.product(returnable=False)
    order = s.order("delivered", [product])
    s.identify(*RETURN, id_=order["id"], item=s.products[product]["model"])
    s.call("get_order", order_id=order["id"])
    s.call("get_product", product_id=product)
    s.agent(
        "I'm sorry, the {item} is a hygiene item and can't be returned. If it is faulty, I can refund it.",
        "Sorry, hygiene items like the {item} cannot be sent back. Should it be faulty, tell me and I will refund it.",
        item=s.products[product]["model"],
    )
    insists(s, "I'm sorry, I can't take back hygiene items.")


_EXCHANGE = (
    "I need the {item} from {id_} in {wanted} instead of {had}.",
    "Can I swap the {item} in {id_}, {had} for {wanted}?",
    "Please exchange my {item} ({had}) of order {id_} for {wanted}.",
    "I picked the wrong {item}, {had}. I'd like {wanted}. Order {id_}.",
)


def exchange(s: Scene) -> None:
    _exchange(s, True)


def exchange_out(s: Scene) -> None:
    _exchange(s, False)


def _exchange(s: Scene, stock: bool) -> None:
    product = s.product(variants=True, stock=stock)
    new = s.rng.choice(s.others(product, stock))
    order = s.order("delivered", [product])
    model, had, wanted = s.products[product]["model"], s.products[product]["variant"], s.products[new]["variant"]
    s.identify(*_EXCHANGE, id_=order["id"], item=model, had=had, wanted=wanted)
    s.call("get_order", order_id=order["id"])
    s.call("get_product", product_id=product)
    if stock:
        s.call("exchange_item", order_id=order["id"], product_id=product, new_product_id=new)
        s.agent(
            "Done, your {item} will be exchanged for {wanted}. The return label is in your email.",
            "I have registered the exchange: {item} in {wanted}. Please send the old one back with the label in your email.",
            item=model,
            wanted=wanted,
        )
    else:
        s.agent(
            "I'm sorry, {wanted} is out of stock for the {item}. I can register a return instead if you like.",
            "Sorry, {wanted} is out of stock for the {item}, so I can't exchange it now. Would you rather return it?",
            item=model,
            wanted=wanted,
        )
    s.thanks()
