"""tau2-bench, domain airline: the tools over users, flights and reservations. Written anew after the published behaviour."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from agentft.simulate.tables import Tables
from agentft.simulate.tau2_general import add_general
from agentft.simulate.toolbox import Refused, Tool, tool

TOOLS: dict[str, Tool] = {}

# The ids and the time that tau2-bench gives to what is made in a conversation; its reference states have them.
_NEW_RESERVATIONS = ("HATHAT", "HATHAU", "HATHAV")
_NEW_CERTIFICATES = ("certificate_3221322", "certificate_3221323", "certificate_3221324")
_NOW = "2024-05-15T15:00:00"
_AIRPORTS = {
    "SFO": "San Francisco",
    "JFK": "New York",
    "LAX": "Los Angeles",
    "ORD": "Chicago",
    "DFW": "Dallas",
    "DEN": "Denver",
    "SEA": "Seattle",
    "ATL": "Atlanta",
    "MIA": "Miami",
    "BOS": "Boston",
    "PHX": "Phoenix",
    "IAH": "Houston",
    "LAS": "Las Vegas",
    "MCO": "Orlando",
    "EWR": "Newark",
    "CLT": "Charlotte",
    "MSP": "Minneapolis",
    "DTW": "Detroit",
    "PHL": "Philadelphia",
    "LGA": "LaGuardia",
}


def _objects(description: str, **properties: str) -> dict[str, Any]:
    kinds = {"amount": "integer"}
    fields = {key: {"type": kinds.get(key, "string"), "description": words} for key, words in properties.items()}
    return {"type": "array", "description": description, "items": {"type": "object", "properties": fields, "required": list(fields)}}


_USER = "User id, such as 'sara_doe_496'."
_RESERVATION = "Reservation id, such as 'ZFA04Y'."
_PAYMENT = "Id of a payment method in the user's profile, such as 'credit_card_7815826' or 'gift_card_7815826'."
_CABIN = {"type": "string", "enum": ["business", "economy", "basic_economy"], "description": "Cabin of the whole reservation."}
_DATE = "Day, such as '2024-05-01'."
_FLIGHTS = _objects("The flights, in order.", flight_number="Flight number, such as 'HAT001'.", date=_DATE)
_PASSENGERS = _objects("All passengers.", first_name="First name.", last_name="Last name.", dob="Date of birth, such as '1990-04-05'.")
_PAYMENTS = _objects("How the total is paid.", payment_id=_PAYMENT, amount="Dollars.")


# Looking things up


def _found(db: Tables, table: str, key: str, what: str) -> Any:
    record = db.get(table, key)
    if record is None:
        raise Refused(f"{what} {key} not found")
    return record


def _flight_on(db: Tables, number: str, date: str) -> Any:
    days = _found(db, "flights", number, "Flight")["dates"]
    if date not in days:
        raise Refused(f"Flight {number} not found on date {date}")
    return days[date]


def _seats_for(db: Tables, number: str, date: str, cabin: str, people: int) -> Any:
    """A flight's day with enough free seats."""
    day = _flight_on(db, number, date)
    if day["status"] != "available":
        raise Refused(f"Flight {number} not available on date {date}")
    if day["available_seats"][cabin] < people:
        raise Refused(f"Not enough seats on flight {number}")
    return day


@tool(TOOLS, "Details of a user: profile, payment methods, reservations.", user_id=_USER)
def get_user_details(db: Tables, user_id: str) -> Any:
    return _found(db, "users", user_id, "User")


@tool(TOOLS, "Details of a reservation.", reservation_id=_RESERVATION)
def get_reservation_details(db: Tables, reservation_id: str) -> Any:
    return _found(db, "reservations", reservation_id, "Reservation")


@tool(TOOLS, "Status of a flight on a day.", flight_number="Flight number, such as 'HAT001'.", date=_DATE)
def get_flight_status(db: Tables, flight_number: str, date: str) -> str:
    return str(_flight_on(db, flight_number, date)["status"])


@tool(TOOLS, "All airports with their cities.")
def list_all_airports(db: Tables) -> Any:
    return [{"iata": code, "city": city} for code, city in _AIRPORTS.items()]


def _direct(db: Tables, date: str, origin: str | None, destination: str | None, leave_after: str = "") -> Iterator[dict[str, Any]]:
    for _, flight in db.items("flights"):
        day = flight["dates"].get(date)
        if day is None or day["status"] != "available" or flight["scheduled_departure_time_est"] < leave_after:
            continue
        if origin in (None, flight["origin"]) and destination in (None, flight["destination"]):
            yield {key: value for key, value in flight.items() if key != "dates"} | day


_ENDS = {"origin": "Airport of departure, such as 'JFK'.", "destination": "Airport of arrival, such as 'LAX'.", "date": _DATE}


@tool(TOOLS, "Flights between two airports on a day that can be booked.", writes=False, **_ENDS)
def search_direct_flight(db: Tables, origin: str, destination: str, date: str) -> Any:
    return list(_direct(db, date, origin, destination))


@tool(TOOLS, "Pairs of flights with one stop between two airports on a day that can be booked.", writes=False, **_ENDS)
def search_onestop_flight(db: Tables, origin: str, destination: str, date: str) -> Any:
    pairs = []
    for first in _direct(db, date, origin, None):
        later = date
        if "+1" in first["scheduled_arrival_time_est"]:
            if not date[-2:].isdigit():
                raise Refused(f"'{date}' is no date")
            later = f"2024-05-{int(date[-2:]) + 1}"
        for second in _direct(db, later, first["destination"], destination, first["scheduled_arrival_time_est"]):
            pairs.append([first | {"date": date}, second | {"date": later}])
    return pairs


# Reservations


@tool(
    TOOLS,
    "Book a reservation. Tell the user all details and get an explicit yes before you call it.",
    writes=True,
    user_id=_USER,
    origin=_ENDS["origin"],
    destination=_ENDS["destination"],
    flight_type={"type": "string", "enum": ["round_trip", "one_way"], "description": "There and back, or there only."},
    cabin=_CABIN,
    flights=_FLIGHTS,
    passengers=_PASSENGERS,
    payment_methods=_PAYMENTS,
    total_baggages="Bags in all.",
    nonfree_baggages="Bags that are paid for.",
    insurance={"type": "string", "enum": ["yes", "no"], "description": "Whether a travel insurance is bought."},
)
def book_reservation(
    db: Tables,
    user_id: str,
    origin: str,
    destination: str,
    flight_type: str,
    cabin: str,
    flights: Sequence[Mapping[str, Any]],
    passengers: Sequence[Mapping[str, Any]],
    payment_methods: Sequence[Mapping[str, Any]],
    total_baggages: int,
    nonfree_baggages: int,
    insurance: str,
) -> Any:
    methods = _found(db, "users", user_id, "User")["payment_methods"]
    key = next((key for key in _NEW_RESERVATIONS if db.get("reservations", key) is None), None)
    if key is None:
        raise Refused("Too many reservations")
    people = len(passengers)
    booked = [
        _booked(db, flight, _seats_for(db, flight["flight_number"], flight["date"], cabin, people)["prices"][cabin]) for flight in flights
    ]
    price = people * (sum(flight["price"] for flight in booked) + (30 if insurance == "yes" else 0)) + 50 * nonfree_baggages
    for payment in payment_methods:
        method = methods.get(payment["payment_id"])
        if method is None:
            raise Refused(f"Payment method {payment['payment_id']} not found")
        if method["source"] in ("gift_card", "certificate") and method["amount"] < payment["amount"]:
            raise Refused(f"Not enough balance in payment method {payment['payment_id']}")
    paid = sum(payment["amount"] for payment in payment_methods)
    if paid != price:
        raise Refused(f"Payment amount does not add up, total price is {price}, but paid {paid}")
    user = db.change("users", user_id)
    for payment in payment_methods:
        method = user["payment_methods"][payment["payment_id"]]
        if method["source"] == "gift_card":
            method["amount"] -= payment["amount"]
        elif method["source"] == "certificate":
            del user["payment_methods"][payment["payment_id"]]
    for flight in flights:
        db.change("flights", flight["flight_number"])["dates"][flight["date"]]["available_seats"][cabin] -= people
    user["reservations"].append(key)
    reservation = {
        "reservation_id": key,
        "user_id": user_id,
        "origin": origin,
        "destination": destination,
        "flight_type": flight_type,
        "cabin": cabin,
        "flights": booked,
        "passengers": copy.deepcopy(list(passengers)),
        "payment_history": copy.deepcopy(list(payment_methods)),
        "created_at": _NOW,
        "total_baggages": total_baggages,
        "nonfree_baggages": nonfree_baggages,
        "insurance": insurance,
    }
    db.put("reservations", key, reservation)
    return reservation


def _booked(db: Tables, flight: Mapping[str, Any], price: int) -> dict[str, Any]:
    known = db.get("flights", flight["flight_number"])
    ends = {"origin": known["origin"], "destination": known["destination"]}
    return ends | {"flight_number": flight["flight_number"], "date": flight["date"], "price": price}


@tool(TOOLS, "Cancel a whole reservation and pay it back.", writes=True, reservation_id=_RESERVATION)
def cancel_reservation(db: Tables, reservation_id: str) -> Any:
    _found(db, "reservations", reservation_id, "Reservation")
    # As in tau2-bench: seats stay taken, and gift cards are not filled up again.
    reservation = db.change("reservations", reservation_id)
    reservation["payment_history"] += [{**payment, "amount": -payment["amount"]} for payment in reservation["payment_history"]]
    reservation["status"] = "cancelled"
    return reservation


def _pay(db: Tables, reservation: Mapping[str, Any], payment_id: str, price: int) -> None:
    """Pay (or get back, below 0) the difference of a change; raises before anything is changed."""
    user_id = reservation["user_id"]
    method = _found(db, "users", user_id, "User")["payment_methods"].get(payment_id)
    if method is None:
        raise Refused("Payment method not found")
    if method["source"] == "certificate":
        raise Refused("Certificate cannot be used to update reservation")
    if method["source"] == "gift_card":
        if method["amount"] < price:
            raise Refused("Gift card balance is not enough")
        db.change("users", user_id)["payment_methods"][payment_id]["amount"] -= price
    if price:
        history = db.change("reservations", reservation["reservation_id"])["payment_history"]
        history.append({"payment_id": payment_id, "amount": price})


@tool(
    TOOLS,
    "Change the number of bags of a reservation.",
    writes=True,
    reservation_id=_RESERVATION,
    total_baggages="Bags in all, from now on.",
    nonfree_baggages="Bags that are paid for, from now on.",
    payment_id=_PAYMENT,
)
def update_reservation_baggages(db: Tables, reservation_id: str, total_baggages: int, nonfree_baggages: int, payment_id: str) -> Any:
    before = _found(db, "reservations", reservation_id, "Reservation")
    _pay(db, before, payment_id, 50 * max(0, nonfree_baggages - before["nonfree_baggages"]))
    reservation = db.change("reservations", reservation_id)
    reservation |= {"total_baggages": total_baggages, "nonfree_baggages": nonfree_baggages}
    return reservation


@tool(
    TOOLS,
    "Change flights or cabin of a reservation. Name all flights, those that stay too.",
    writes=True,
    reservation_id=_RESERVATION,
    cabin=_CABIN,
    flights=_FLIGHTS,
    payment_id=_PAYMENT,
)
def update_reservation_flights(db: Tables, reservation_id: str, cabin: str, flights: Sequence[Mapping[str, Any]], payment_id: str) -> Any:
    before = _found(db, "reservations", reservation_id, "Reservation")
    people, chosen = len(before["passengers"]), []
    for flight in flights:
        kept = [
            one
            for one in before["flights"]
            if cabin == before["cabin"] and all(one[key] == flight[key] for key in ("flight_number", "date"))
        ]
        if kept:
            chosen.append(copy.deepcopy(kept[0]))
        else:
            _found(db, "flights", flight["flight_number"], "Flight")
            day = _seats_for(db, flight["flight_number"], flight["date"], cabin, people)
            chosen.append(_booked(db, flight, day["prices"][cabin]))
    _pay(db, before, payment_id, people * (sum(one["price"] for one in chosen) - sum(one["price"] for one in before["flights"])))
    reservation = db.change("reservations", reservation_id)
    reservation |= {"flights": chosen, "cabin": cabin}  # the seats of the flights stay as they are, as in tau2-bench
    return reservation


@tool(TOOLS, "Change who travels; as many passengers as before.", writes=True, reservation_id=_RESERVATION, passengers=_PASSENGERS)
def update_reservation_passengers(db: Tables, reservation_id: str, passengers: Sequence[Mapping[str, Any]]) -> Any:
    before = _found(db, "reservations", reservation_id, "Reservation")
    if len(passengers) != len(before["passengers"]):
        raise Refused("Number of passengers does not match")
    reservation = db.change("reservations", reservation_id)
    reservation["passengers"] = copy.deepcopy(list(passengers))
    return reservation


@tool(TOOLS, "Give a user a certificate. Be sure that the policy allows it.", writes=True, user_id=_USER, amount="Dollars.")
def send_certificate(db: Tables, user_id: str, amount: int) -> str:
    methods = _found(db, "users", user_id, "User")["payment_methods"]
    key = next((key for key in _NEW_CERTIFICATES if key not in methods), None)
    if key is None:
        raise Refused("Too many certificates")
    db.change("users", user_id)["payment_methods"][key] = {"source": "certificate", "id": key, "amount": amount}
    return f"Certificate {key} added to user {user_id} with amount {amount}."


add_general(TOOLS)
