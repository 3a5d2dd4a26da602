"""Small benchmarks in the formats of tau2-bench and BFCL, written for the tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

SHOP = {
    "products": {
        "100": {
            "name": "Lamp",
            "product_id": "100",
            "variants": {
                "101": {"item_id": "101", "options": {"color": "red"}, "available": True, "price": 20.0},
                "102": {"item_id": "102", "options": {"color": "blue"}, "available": True, "price": 25.5},
                "103": {"item_id": "103", "options": {"color": "green"}, "available": False, "price": 1.0},
            },
        },
        "200": {
            "name": "Chair",
            "product_id": "200",
            "variants": {"201": {"item_id": "201", "options": {"size": "S"}, "available": True, "price": 50}},
        },
    },
    "users": {
        "ann_1": {
            "user_id": "ann_1",
            "name": {"first_name": "Ann", "last_name": "Lee"},
            "address": {"address1": "1 Main St", "address2": "", "city": "Rome", "state": "NY", "country": "USA", "zip": "13440"},
            "email": "Ann.Lee@example.com",
            "payment_methods": {
                "gift_card_1": {"source": "gift_card", "id": "gift_card_1", "balance": 10},
                "credit_card_1": {"source": "credit_card", "id": "credit_card_1", "brand": "visa", "last_four": "1234"},
            },
            "orders": ["#W1", "#W2", "#W3"],
        }
    },
    "orders": {
        key: {
            "order_id": key,
            "user_id": "ann_1",
            "address": {"address1": "1 Main St", "address2": "", "city": "Rome", "state": "NY", "country": "USA", "zip": "13440"},
            "items": [{"name": "Lamp", "product_id": "100", "item_id": "101", "price": 20.0, "options": {"color": "red"}}],
            "status": status,
            "payment_history": [{"transaction_type": "payment", "amount": 20.0, "payment_method_id": paid}],
        }
        for key, status, paid in (
            ("#W1", "pending", "gift_card_1"),
            ("#W2", "delivered", "credit_card_1"),
            ("#W3", "pending", "credit_card_1"),
        )
    },
}


def shop_task(name: str, actions: list[tuple[str, dict[str, Any]]], **criteria: Any) -> dict[str, Any]:
    """A task of the domain retail."""
    return {
        "id": name,
        "user_scenario": {
            "persona": None,
            "instructions": {
                "domain": "retail",
                "reason_for_call": "You want to cancel your order #W1.",
                "known_info": "You are Ann Lee in zip code 13440.",
                "unknown_info": "You do not remember your email address.",
                "task_instructions": "Be brief.",
            },
        },
        "evaluation_criteria": {
            "actions": [{"action_id": f"{name}_{n}", "name": tool, "arguments": given} for n, (tool, given) in enumerate(actions)],
            "reward_basis": ["DB"],
            **criteria,
        },
    }


CANCEL = ("cancel_pending_order", {"order_id": "#W1", "reason": "no longer needed"})
LOOK = ("get_order_details", {"order_id": "#W1"})


LEAVE = {"action_id": "1", "name": "cancel_reservation", "arguments": {"reservation_id": "R1"}}
SEATS = {"status": "available", "available_seats": dict.fromkeys(("business", "economy", "basic_economy"), 2)}
PRICES = {"prices": {"business": 300, "economy": 100, "basic_economy": 50}}
FLIGHTS = {
    "flights": {
        number: {
            "flight_number": number,
            "origin": origin,
            "destination": destination,
            "scheduled_departure_time_est": leaves,
            "scheduled_arrival_time_est": arrives,
            "dates": {"2024-05-20": SEATS | PRICES, "2024-05-21": SEATS | PRICES, "2024-05-03": {"status": "cancelled"}},
        }
        for number, origin, destination, leaves, arrives in (
            ("F1", "JFK", "ORD", "06:00:00", "08:00:00"),
            ("F2", "ORD", "SFO", "09:00:00", "12:00:00"),
            ("F3", "JFK", "ORD", "23:00:00", "01:00:00+1"),
        )
    },
    "users": {
        "bo_1": {
            "user_id": "bo_1",
            "payment_methods": {
                "gift_card_1": {"source": "gift_card", "id": "gift_card_1", "amount": 150.0},
                "certificate_1": {"source": "certificate", "id": "certificate_1", "amount": 100},
                "credit_card_1": {"source": "credit_card", "id": "credit_card_1", "brand": "visa", "last_four": "1"},
            },
            "reservations": ["R1"],
        }
    },
    "reservations": {
        "R1": {
            "reservation_id": "R1",
            "user_id": "bo_1",
            "origin": "JFK",
            "destination": "ORD",
            "flight_type": "one_way",
            "cabin": "economy",
            "flights": [{"origin": "JFK", "destination": "ORD", "flight_number": "F1", "date": "2024-05-20", "price": 90}],
            "passengers": [{"first_name": "Bo", "last_name": "Ek", "dob": "1990-01-01"}],
            "payment_history": [{"payment_id": "credit_card_1", "amount": 90}],
            "created_at": "2024-05-01T00:00:00",
            "total_baggages": 1,
            "nonfree_baggages": 0,
            "insurance": "no",
        }
    },
}


def write_tau2(root: Path) -> Path:
    """A copy of tau2-bench with three tasks of retail and four of mock."""
    retail, mock = root / "data" / "tau2" / "domains" / "retail", root / "data" / "tau2" / "domains" / "mock"
    tasks = [
        shop_task("cancel", [LOOK, CANCEL]),
        shop_task("look", [LOOK], communicate_info=["1299.50"], reward_basis=["DB", "COMMUNICATE"]),
        shop_task("words", [CANCEL], nl_assertions=["The agent is polite."], reward_basis=["DB", "NL_ASSERTION"]),
    ]
    _write(retail, {"tasks": tasks, "db": SHOP, "split_tasks": {"train": ["cancel"], "base": ["cancel", "look", "words"]}})
    (retail / "policy.md").write_text("# Policy\n\nOne user at a time.\n", encoding="utf-8")
    create = {"name": "create_task", "arguments": {"user_id": "u1", "title": "Call"}}
    done = {"action_id": "a", "name": "update_task_status", "arguments": {"task_id": "t2", "status": "completed"}}
    history = [
        {"role": "user", "content": "I need a task."},
        {"role": "assistant", "tool_calls": [{"id": "c1", **create}]},
        {"role": "tool", "id": "c1", "content": "{}"},
        {"role": "assistant", "content": "It is there."},
    ]
    scenario = {"instructions": "You want to mark your task as completed."}
    t2 = {"task_id": "t2", "title": "x", "status": "pending"}
    arguments = {"task_id": "task_2", "expected_status": "completed"}
    completed = {"env_type": "assistant", "func_name": "assert_task_status", "arguments": arguments}
    arguments = {"notification_id": "n1", "expected_status": "read"}
    notes = {"env_type": "user", "func_name": "assert_notification_status", "arguments": arguments}
    _write(
        mock,
        {
            "tasks": [
                {
                    "id": "history",
                    "user_scenario": scenario,
                    "initial_state": {"message_history": history},
                    "evaluation_criteria": {"actions": [done | {"arguments": {"task_id": "task_2", "status": "completed"}}]},
                },
                {
                    "id": "data",
                    "user_scenario": scenario,
                    "initial_state": {"initialization_data": {"agent_data": {"tasks": {"t2": t2}}}},
                    "evaluation_criteria": {"actions": [done], "communicate_info": ["done it"]},
                },
                {
                    "id": "inbox",
                    "user_scenario": scenario,
                    "initial_state": {
                        "initialization_actions": [
                            {
                                "env_type": "user",
                                "func_name": "add_notification",
                                "arguments": {"notification_id": "n1", "message": "Look."},
                            },
                            {"env_type": "assistant", "func_name": "create_task", "arguments": {"user_id": "u1", "title": "Call"}},
                        ]
                    },
                    "evaluation_criteria": {
                        "actions": [done | {"arguments": {"task_id": "task_2", "status": "completed"}, "compare_args": ["task_id"]}],
                        "env_assertions": [
                            notes,
                            completed,
                        ],
                        "reward_basis": ["DB", "ACTION", "ENV_ASSERTION"],
                    },
                },
                {"id": "free", "user_scenario": scenario, "evaluation_criteria": {"nl_assertions": ["The agent is polite."]}},
            ],
            "db": {
                "tasks": {"task_1": {"task_id": "task_1", "title": "Old", "description": None, "status": "pending"}},
                "users": {"u1": {"user_id": "u1", "name": "U", "tasks": ["task_1"]}},
            },
            "user_db": {"notifications": {}},
        },
    )
    _write(
        root / "data" / "tau2" / "domains" / "airline",
        {"tasks": [{"id": "cancel", "evaluation_criteria": {"actions": [LEAVE]}}], "db": FLIGHTS},
    )
    return root


def _write(folder: Path, files: dict[str, Any]) -> None:
    folder.mkdir(parents=True)
    for name, data in files.items():
        (folder / f"{name}.json").write_text(json.dumps(data), encoding="utf-8")


WEATHER = {
    "name": "weather.get",
    "description": "The weather of a city.",
    "parameters": {
        "type": "dict",
        "properties": {
            "city": {"type": "string", "description": "Which city."},
            "days": {"type": "integer", "description": "How many days.", "default": 1, "optional": True},
            "limits": {"type": "array", "items": {"type": "float"}, "description": "From and to."},
            "where": {"type": "dict", "properties": {"country": {"type": "string"}}},
        },
        "required": ["city"],
    },
}


def write_bfcl(root: Path) -> Path:
    """A copy of BFCL with few tasks of three categories."""
    folder = root / "bfcl_eval" / "data"
    (folder / "possible_answer").mkdir(parents=True)
    (folder / "multi_turn_func_doc").mkdir()
    ask = [[{"role": "system", "content": "Answer in calls."}, {"role": "user", "content": "How is the weather in Rome?"}]]
    accepted = {"city": ["Rome", "Rome, Italy"], "days": ["", 1], "limits": ["", [1.0, 2.0]], "where": [{"country": ["Italy", ""]}, ""]}
    answer = {"weather.get": accepted}
    other = {"weather.get": {"city": ["Bonn"], "days": [""], "limits": [""], "where": [""]}}
    number = {"number": "integer"}
    rows: dict[str, list[Any]] = {
        "BFCL_v4_simple_python.json": [{"id": "simple_python_0", "question": ask, "function": [WEATHER]}],
        "possible_answer/BFCL_v4_simple_python.json": [{"id": "simple_python_0", "ground_truth": [answer]}],
        "BFCL_v4_parallel.jsonl": [{"id": "parallel_0", "question": ask, "function": [WEATHER]}],
        "possible_answer/BFCL_v4_parallel.jsonl": [{"id": "parallel_0", "ground_truth": [answer, other]}],
        "BFCL_v4_irrelevance.json": [{"id": "irrelevance_0", "question": ask, "function": [WEATHER]}],
        "BFCL_v4_multi_turn_base.json": [
            {
                "id": "multi_turn_base_0",
                "question": [[{"role": "user", "content": "Open a ticket."}], [{"role": "user", "content": "Show it, and close it."}]],
                "initial_config": {"TicketAPI": {"counter": 7}},
                "involved_classes": ["TicketAPI"],
                "excluded_function": ["secret"],
            }
        ],
        "possible_answer/BFCL_v4_multi_turn_base.json": [
            {"id": "multi_turn_base_0", "ground_truth": [["create('broken')"], ["show(number=7)", "close(7)"]]}
        ],
        "multi_turn_func_doc/ticket_api.json": [
            {
                "name": name,
                "description": f"{name} a ticket",
                "parameters": {"type": "dict", "properties": {key: {"type": kind} for key, kind in given.items()}, "required": list(given)},
            }
            for name, given in (("create", {"title": "string"}), ("show", number), ("close", number), ("secret", {}))
        ],
    }
    for name, found in rows.items():
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in found), encoding="utf-8")
    return root


TICKETS = """
class TicketAPI:
    def _load_scenario(self, scenario, long_context=False):
        self.counter = scenario.get("counter", 1)
        self.tickets = {}
        self._secret = 0

    def create(self, title):
        if isinstance(title, list):
            title.append("seen")
        self.tickets[self.counter] = {"title": title, "open": True}
        self.counter += 1
        return {"number": self.counter - 1}

    def show(self, number):
        self._secret += 1
        return self.tickets[number]

    def close(self, number):
        self.tickets[number]["open"] = False

    def secret(self):
        return "hidden"
"""
