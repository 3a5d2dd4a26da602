"""tau2-bench, domain airline: effects and error texts of its tools, on a small copy."""

from __future__ import annotations

import json

import pytest
from benchmark_copies import write_tau2

from agentft.environments import SuiteContext
from agentft.simulate.replay import idle, reference
from agentft.simulate.tau2 import Tau2Config, tau2

BO = {"first_name": "Bo", "last_name": "Ek", "dob": "1990-01-01"}
BOOK = {
    "user_id": "bo_1",
    "origin": "JFK",
    "destination": "SFO",
    "flight_type": "one_way",
    "cabin": "economy",
    "flights": [{"flight_number": "F1", "date": "2024-05-20"}, {"flight_number": "F2", "date": "2024-05-20"}],
    "passengers": [BO],
    "payment_methods": [
        {"payment_id": "certificate_1", "amount": 100},
        {"payment_id": "gift_card_1", "amount": 120},
        {"payment_id": "credit_card_1", "amount": 60},
    ],
    "total_baggages": 2,
    "nonfree_baggages": 1,
    "insurance": "yes",
}


@pytest.fixture(scope="module")
def suite(tmp_path_factory):
    return tau2(Tau2Config(path=str(write_tau2(tmp_path_factory.mktemp("tau2"))), domain="airline"), SuiteContext())


@pytest.fixture
def desk(suite):
    return suite.open(suite.tasks[0])


def answer(desk, name, **arguments):
    found = desk.call(name, arguments)
    assert not found.error, found.content
    return json.loads(found.content) if found.content[0] in "[{" else found.content


def refuses(desk, name, words, **arguments):
    before = desk.state()
    found = desk.call(name, arguments)
    assert (found.error, found.content) == (True, f"Error: {words}")
    assert desk.state() == before, "a refused call changes nothing"


def test_booking_takes_seats_and_money(desk):
    made = answer(desk, "book_reservation", **BOOK)
    assert (made["reservation_id"], made["created_at"]) == ("HATHAT", "2024-05-15T15:00:00")
    assert [flight["price"] for flight in made["flights"]] == [100, 100]
    user = answer(desk, "get_user_details", user_id="bo_1")
    assert user["reservations"] == ["R1", "HATHAT"]
    assert "certificate_1" not in user["payment_methods"], "a certificate is used up"
    assert user["payment_methods"]["gift_card_1"]["amount"] == 30
    seats = answer(desk, "search_direct_flight", origin="JFK", destination="ORD", date="2024-05-20")[0]["available_seats"]
    assert seats == {"business": 2, "economy": 1, "basic_economy": 2}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"user_id": "no"}, "User no not found"),
        ({"flights": [{"flight_number": "F9", "date": "2024-05-20"}]}, "Flight F9 not found"),
        ({"flights": [{"flight_number": "F1", "date": "2024-06-20"}]}, "Flight F1 not found on date 2024-06-20"),
        ({"flights": [{"flight_number": "F1", "date": "2024-05-03"}]}, "Flight F1 not available on date 2024-05-03"),
        ({"passengers": [BO] * 3}, "Not enough seats on flight F1"),
        ({"payment_methods": []}, "Payment amount does not add up, total price is 280, but paid 0"),
        ({"payment_methods": [{"payment_id": "x", "amount": 280}]}, "Payment method x not found"),
        ({"payment_methods": [{"payment_id": "gift_card_1", "amount": 280}]}, "Not enough balance in payment method gift_card_1"),
        ({"cabin": "first"}, "book_reservation: argument 'cabin' must be one of business, economy, basic_economy"),
        (
            {"passengers": [{"first_name": "Bo"}]},
            "book_reservation: argument 'passengers' must be a list of objects with first_name, last_name, dob",
        ),
        ({"total_baggages": "2"}, "book_reservation: argument 'total_baggages' must be a whole number"),
    ],
)
def test_booking_is_refused(desk, change, words):
    refuses(desk, "book_reservation", words, **BOOK | change)


def test_three_bookings_are_the_most(desk):
    one = BOOK | {"flights": [], "payment_methods": [], "nonfree_baggages": 0, "insurance": "no"}
    assert [answer(desk, "book_reservation", **one)["reservation_id"] for _ in range(3)] == ["HATHAT", "HATHAU", "HATHAV"]
    refuses(desk, "book_reservation", "Too many reservations", **one)


def test_cancelling_pays_back(desk):
    made = answer(desk, "cancel_reservation", reservation_id="R1")
    assert (made["status"], [payment["amount"] for payment in made["payment_history"]]) == ("cancelled", [90, -90])
    refuses(desk, "cancel_reservation", "Reservation R9 not found", reservation_id="R9")


def test_flights_that_stay_keep_their_price(desk):
    new = [{"flight_number": "F1", "date": "2024-05-20"}, {"flight_number": "F2", "date": "2024-05-20"}]
    change = {"reservation_id": "R1", "cabin": "economy", "flights": new, "payment_id": "gift_card_1"}
    made = answer(desk, "update_reservation_flights", **change)
    assert [flight["price"] for flight in made["flights"]] == [90, 100]
    assert made["payment_history"][-1] == {"payment_id": "gift_card_1", "amount": 100}
    assert answer(desk, "get_user_details", user_id="bo_1")["payment_methods"]["gift_card_1"]["amount"] == 50
    refuses(desk, "update_reservation_flights", "Gift card balance is not enough", **change | {"cabin": "business"})
    refuses(
        desk, "update_reservation_flights", "Certificate cannot be used to update reservation", **change | {"payment_id": "certificate_1"}
    )
    refuses(desk, "update_reservation_flights", "Payment method not found", **change | {"payment_id": "x"})


def test_bags_and_passengers(desk):
    bags = {"reservation_id": "R1", "total_baggages": 3, "nonfree_baggages": 2, "payment_id": "credit_card_1"}
    made = answer(desk, "update_reservation_baggages", **bags)
    assert (made["total_baggages"], made["payment_history"][-1]["amount"]) == (3, 100)
    made = answer(desk, "update_reservation_passengers", reservation_id="R1", passengers=[BO | {"first_name": "Bea"}])
    assert made["passengers"][0]["first_name"] == "Bea"
    refuses(desk, "update_reservation_passengers", "Number of passengers does not match", reservation_id="R1", passengers=[])


def test_certificates_have_names_of_their_own(desk):
    said = answer(desk, "send_certificate", user_id="bo_1", amount=50)
    assert said == "Certificate certificate_3221322 added to user bo_1 with amount 50."
    for _ in range(2):
        answer(desk, "send_certificate", user_id="bo_1", amount=50)
    refuses(desk, "send_certificate", "Too many certificates", user_id="bo_1", amount=50)


def test_looking_for_flights(desk):
    assert answer(desk, "get_flight_status", flight_number="F1", date="2024-05-03") == "cancelled"
    found = answer(desk, "search_direct_flight", origin="JFK", destination="ORD", date="2024-05-20")
    assert [flight["flight_number"] for flight in found] == ["F1", "F3"]
    assert "dates" not in found[0]
    pairs = answer(desk, "search_onestop_flight", origin="JFK", destination="SFO", date="2024-05-20")
    days = [[(flight["flight_number"], flight["date"]) for flight in pair] for pair in pairs]
    assert days == [[("F1", "2024-05-20"), ("F2", "2024-05-20")], [("F3", "2024-05-20"), ("F2", "2024-05-21")]]
    assert {"iata": "SFO", "city": "San Francisco"} in answer(desk, "list_all_airports")


def test_scores(suite):
    one = suite.tasks[0]
    assert suite.judge(one, reference(suite, one)).success
    assert not suite.judge(one, idle(suite, one)).success
