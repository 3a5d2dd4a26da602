"""tau2-bench: its tools, its start states and its scores, on a small copy and on the real data."""

from __future__ import annotations

import json

import pytest
from benchmark_copies import write_tau2
from pydantic import ValidationError

from agentft.environments import Episode, SuiteContext
from agentft.errors import DataError, UserError
from agentft.records import Message, Response
from agentft.simulate.replay import idle, reference, replay
from agentft.simulate.tables import Tables
from agentft.simulate.tau2 import Tau2Config, tau2
from agentft.simulate.tau2_users import Caller, in_first_person, scenario


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    return write_tau2(tmp_path_factory.mktemp("tau2"))


@pytest.fixture
def suite(copy):
    def make(domain="retail", open_model=None, **options):
        return tau2(Tau2Config(path=str(copy), domain=domain, **options), SuiteContext(open_model=open_model))

    return make


def task(suite, name):
    return next(one for one in suite.tasks if one.id == name)


def outcome(suite, name, *steps):
    return suite.judge(task(suite, name), replay(suite, task(suite, name), steps))


CANCEL = {"name": "cancel_pending_order", "arguments": {"order_id": "#W1", "reason": "no longer needed"}}


class TestTools:
    """Effects and error texts of retail."""

    @pytest.fixture
    def shop(self, suite):
        made = suite()
        return made.open(made.tasks[0])

    def refuses(self, shop, name, words, **arguments):
        before = shop.state()
        answer = shop.call(name, arguments)
        assert answer.error
        assert answer.content == f"Error: {words}"
        assert shop.state() == before, "a refused call changes nothing"

    def test_every_tool_has_a_schema_that_says_what_it_takes(self, shop):
        by_name = {tool["name"]: tool for tool in shop.tools}
        assert len(by_name) == 16
        exchange = by_name["exchange_delivered_order_items"]["parameters"]
        assert exchange["required"] == ["order_id", "item_ids", "new_item_ids", "payment_method_id"]
        assert exchange["properties"]["item_ids"]["type"] == "array"
        assert all(one["description"] for tool in shop.tools for one in tool["parameters"]["properties"].values())

    def test_a_cancelled_order_is_paid_back_to_the_gift_card(self, shop):
        order = json.loads(shop.call(**CANCEL).content)
        assert (order["status"], order["cancel_reason"]) == ("cancelled", "no longer needed")
        assert order["payment_history"][1] == {"transaction_type": "refund", "amount": 20.0, "payment_method_id": "gift_card_1"}
        user = json.loads(shop.call("get_user_details", {"user_id": "ann_1"}).content)
        assert user["payment_methods"]["gift_card_1"]["balance"] == 30

    def test_cancelling_is_refused(self, shop):
        self.refuses(shop, "cancel_pending_order", "Order not found", order_id="W1", reason="no longer needed")
        self.refuses(shop, "cancel_pending_order", "Non-pending order cannot be cancelled", order_id="#W2", reason="no longer needed")
        self.refuses(shop, "cancel_pending_order", "Invalid reason", order_id="#W1", reason="too dear")

    def test_items_of_a_pending_order_are_changed_once(self, shop):
        given = {"order_id": "#W3", "item_ids": ["101"], "new_item_ids": ["102"], "payment_method_id": "credit_card_1"}
        order = json.loads(shop.call("modify_pending_order_items", given).content)
        assert order["status"] == "pending (item modified)"
        assert order["items"][0] | {"price": 25.5, "item_id": "102", "options": {"color": "blue"}} == order["items"][0]
        assert order["payment_history"][-1] == {"transaction_type": "payment", "amount": 5.5, "payment_method_id": "credit_card_1"}
        self.refuses(shop, "modify_pending_order_items", "Non-pending order cannot be modified", **given)
        address = {"address1": "2", "address2": "", "city": "c", "state": "s", "country": "USA", "zip": "1"}
        assert not shop.call("modify_pending_order_address", {"order_id": "#W3", **address}).error

    def test_changing_items_is_refused(self, shop):
        given = {"order_id": "#W3", "item_ids": ["101"], "new_item_ids": ["102"], "payment_method_id": "gift_card_1"}
        refuse = "modify_pending_order_items"
        self.refuses(shop, refuse, "101 not found", **given | {"item_ids": ["101", "101"], "new_item_ids": ["102", "102"]})
        self.refuses(shop, refuse, "The number of items to be exchanged should match", **given | {"new_item_ids": []})
        self.refuses(shop, refuse, "The new item id should be different from the old item id", **given | {"new_item_ids": ["101"]})
        self.refuses(shop, refuse, "Variant not found", **given | {"new_item_ids": ["201"]})
        self.refuses(shop, refuse, "New item 103 not found or available", **given | {"new_item_ids": ["103"]})
        self.refuses(shop, refuse, "Payment method not found", **given | {"payment_method_id": "paypal"})

    def test_another_payment(self, shop):
        name = "modify_pending_order_payment"
        self.refuses(
            shop, name, "The new payment method should be different from the current one", order_id="#W1", payment_method_id="gift_card_1"
        )
        self.refuses(shop, name, "Insufficient gift card balance to pay for the order", order_id="#W3", payment_method_id="gift_card_1")
        shop.call(name, {"order_id": "#W1", "payment_method_id": "credit_card_1"})
        self.refuses(shop, name, "There should be exactly one payment for a pending order", order_id="#W1", payment_method_id="gift_card_1")
        assert shop.agent.get("users", "ann_1")["payment_methods"]["gift_card_1"]["balance"] == 30

    def test_delivered_orders(self, shop):
        given = {"order_id": "#W2", "item_ids": ["101"], "payment_method_id": "credit_card_1"}
        swap = given | {"new_item_ids": ["102"]}
        name = "exchange_delivered_order_items"
        self.refuses(shop, name, "Non-delivered order cannot be exchanged", **swap | {"order_id": "#W1"})
        self.refuses(shop, name, "Number of 102 not found.", **swap | {"item_ids": ["102"]})
        self.refuses(shop, name, "The number of items to be exchanged should match.", **swap | {"new_item_ids": []})
        order = json.loads(shop.call(name, swap).content)
        assert (order["status"], order["exchange_price_difference"]) == ("exchange requested", 5.5)
        self.refuses(shop, "return_delivered_order_items", "Non-delivered order cannot be returned", **given)

    def test_a_return_goes_to_the_card_that_paid_or_a_gift_card(self, shop):
        name = "return_delivered_order_items"
        self.refuses(shop, name, "Some item not found", order_id="#W2", item_ids=["102"], payment_method_id="credit_card_1")
        order = json.loads(shop.call(name, {"order_id": "#W2", "item_ids": ["101"], "payment_method_id": "gift_card_1"}).content)
        assert (order["return_items"], order["return_payment_method_id"]) == (["101"], "gift_card_1")

    def test_users_are_found_in_any_case_of_letters(self, shop):
        assert shop.call("find_user_id_by_email", {"email": "ANN.lee@example.com"}).content == "ann_1"
        found = shop.call("find_user_id_by_name_zip", {"first_name": "ann", "last_name": "LEE", "zip": "13440"})
        assert found.content == "ann_1"
        self.refuses(shop, "find_user_id_by_name_zip", "User not found", first_name="Ann", last_name="Lee", zip="13441")

    @pytest.mark.parametrize(
        ("expression", "content", "error"),
        [
            ("(2 + 3) * 4 / 3", "6.67", False),
            ("-(1.5)", "-1.5", False),
            ("__import__('os')", "Error: Invalid characters in expression", True),
            ("9**9**9", "Error: not an expression of numbers, + - * / and parentheses", True),
            ("2 +", "Error: invalid syntax", True),
            ("1/0", "Error: division by zero", True),
        ],
    )
    def test_calculate(self, shop, expression, content, error):
        answer = shop.call("calculate", {"expression": expression})
        assert answer.error is error
        assert answer.content.startswith(content)

    @pytest.mark.parametrize(
        ("name", "arguments", "words"),
        [
            ("refund", {}, "Tool 'refund' not found."),
            ("get_order_details", {}, "missing argument 'order_id'"),
            ("get_order_details", {"order_id": 7}, "argument 'order_id' must be a text"),
            ("get_order_details", {"order_id": "#W1", "x": "y"}, "unexpected argument 'x'"),
            ("get_order_details", [], "the arguments are not an object"),
            (
                "return_delivered_order_items",
                {"order_id": "#W2", "item_ids": "101", "payment_method_id": "credit_card_1"},
                "argument 'item_ids' must be a list of texts",
            ),
        ],
    )
    def test_calls_that_do_not_fit_are_errors_to_read(self, shop, name, arguments, words):
        answer = shop.call(name, arguments)
        assert answer.error
        assert words in answer.content


class TestTables:
    def test_a_way_there_and_back_leaves_no_trace(self):
        tables = Tables({"t": {"a": {"n": 5}}})
        assert tables.digest() == ""
        tables.change("t", "a")["n"] = 6
        changed = tables.digest()
        tables.change("t", "a")["n"] = 5.0
        assert (changed != "", tables.digest()) == (True, "")

    def test_the_base_is_never_written(self):
        base = {"t": {"a": {"n": [1]}}}
        tables = Tables(base)
        tables.change("t", "a")["n"].append(2)
        tables.put("t", "b", {})
        assert base == {"t": {"a": {"n": [1]}}}
        assert [key for key, _ in tables.items("t")] == ["a", "b"]


class TestScores:
    def test_the_database_decides(self, suite):
        assert outcome(suite(), "cancel", ([CANCEL], "Done.")).checks == {"ended": True, "db": True}
        failed = outcome(suite(), "cancel")
        assert failed.checks == {"ended": True, "db": False}
        assert failed.detail == "the database is not as the reference actions leave it"
        given = {"order_id": "#W2", "item_ids": ["101"], "payment_method_id": "gift_card_1"}
        too_much = {"name": "return_delivered_order_items", "arguments": given}
        assert not outcome(suite(), "cancel", ([CANCEL, too_much], "Done.")).success

    def test_information_is_looked_for_letter_by_letter(self, suite):
        assert outcome(suite(), "look", ((), "It was $1,299.50.")).success
        assert not outcome(suite(), "look", ((), "It was about 1300.")).success

    def test_words_without_a_judge_are_left_out_and_it_is_said(self, suite):
        found = outcome(suite(), "words", ([CANCEL], "Go away."))
        assert found.success
        assert "nl_assertion" not in found.checks
        assert found.detail == "not judged: 1 assertion(s) in words, for want of a judge"
        assert task(suite(), "words").slices["words"] == "left out"
        assert task(suite(judge="m"), "words").slices["words"] == "judged"

    @pytest.mark.parametrize(("answer", "met"), [("Yes.", True), ("No", False), ("Perhaps", False)])
    def test_a_judge_decides_words(self, suite, answer, met):
        asked = []

        class Judge:
            def generate(self, prompts, settings, on_batch=None, done=None):
                asked.extend(prompts)
                return [Response(prompt.id, answer) for prompt in prompts]

        made = suite(judge="judge", open_model=lambda reference: Judge())
        assert outcome(made, "words", ([CANCEL], "Go away.")).checks["nl_assertion"] is met
        assert "The agent is polite." in asked[0].messages[-1].content
        assert "Agent: Go away." in asked[0].messages[-1].content

    def test_a_judge_that_cannot_be_opened_is_an_error(self, suite):
        with pytest.raises(UserError, match="judge"):
            outcome(suite(judge="judge"), "words", ([CANCEL], ""))

    def test_all_parts_on_demand(self, suite):
        found = outcome(suite(basis="all"), "cancel", ([CANCEL], "Done."))
        assert (found.checks["db"], found.checks["action"]) == (True, False)
        assert found.detail == "not called: get_order_details"

    def test_an_episode_that_was_cut_fails_and_a_fault_of_the_user_says_nothing(self, suite):
        made = suite()
        cut = Episode("cancel", 0, (), "turns", reference(made, task(made, "cancel")).state)
        assert made.judge(task(made, "cancel"), cut).checks == {"ended": False, "db": True}
        faulty = Episode("cancel", 0, (), "user-error", fault="broke down")
        assert made.judge(task(made, "cancel"), faulty).checks == {}

    def test_a_call_is_compared_in_the_arguments_that_it_is_to_be_compared_in(self, suite):
        made = suite("mock")
        other = {"name": "update_task_status", "arguments": {"task_id": "task_2", "status": "pending"}}
        right = {"name": "update_task_status", "arguments": {"task_id": "task_2", "status": "completed"}}
        found = outcome(made, "inbox", ([other], "Done."))
        assert found.checks == {"ended": True, "db": False, "env_assertion": False, "action": True}
        assert "not met: assert_task_status" in found.detail
        assert outcome(made, "inbox", ([right], "Done.")).success


class TestStartStates:
    def test_a_history_is_said_before_and_has_happened(self, suite):
        made = suite("mock")
        one = task(made, "history")
        assert [message.role for message in one.history] == ["user", "assistant", "tool", "assistant"]
        assert one.history[2].name == "create_task"
        environment = made.open(one)
        assert environment.agent.get("tasks", "task_2")["title"] == "Call"
        episode = reference(made, one)
        assert episode.messages[:4] == one.history
        assert episode.messages[4] == Message("user", "I want to mark my task as completed.")
        assert made.judge(one, episode).success
        assert not made.judge(one, idle(made, one)).success

    def test_data_are_laid_over_the_database_of_this_task_only(self, suite):
        made = suite("mock")
        assert made.open(task(made, "data")).agent.get("tasks", "t2")["title"] == "x"
        assert made.open(task(made, "data")).agent.get("tasks", "task_1")["title"] == "Old"
        assert made.open(task(made, "history")).agent.get("tasks", "t2") is None
        assert made.judge(task(made, "data"), reference(made, task(made, "data"))).success

    def test_actions_set_both_sides_up(self, suite):
        made = suite("mock")
        environment = made.open(task(made, "inbox"))
        assert environment.side.get("notifications", "n1")["status"] == "unread"
        assert "Look." in environment.call_as_user("check_notifications", {}).content

    def test_a_function_that_is_not_known_is_said(self, suite):
        made = suite("mock")
        with pytest.raises(DataError, match="has no function 'fly'"):
            made.open(task(made, "inbox")).helper({"env_type": "assistant", "func_name": "fly", "arguments": {}})

    def test_a_task_that_asks_nothing_is_passed(self, suite):
        made = suite("mock")
        assert made.judge(task(made, "free"), idle(made, task(made, "free"))).checks == {"ended": True, "db": True, "communicate": True}


class TestUsers:
    def test_the_script(self, suite):
        made = suite()
        steps = [((), "Who are you?"), ((), "Shall I cancel it?"), ((), "It is cancelled.")]
        episode = replay(made, task(made, "cancel"), steps)
        assert [message.content for message in episode.messages if message.role == "user"] == [
            "I want to cancel my order #W1.",
            "I am Ann Lee in zip code 13440. I do not remember my email address.",
            "Yes, please go ahead.",
            "Thank you, that is all. Goodbye.",
        ]

    def test_a_user_loses_patience(self, suite):
        made = suite(patience=2)
        episode = replay(made, task(made, "cancel"), [((), "Really?")] * 9)
        assert sum(message.role == "user" for message in episode.messages) == 4
        assert episode.end == "user"

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("You want your money back.", "I want my money back."),
            ("You are Mia. Your zip is 1; send it to you.", "I am Mia. My zip is 1; send it to me."),
            ("If you're angry, help yourself.", "If I'm angry, help myself."),
            ("退货", "退货"),
        ],
    )
    def test_the_first_person(self, text, said):
        assert in_first_person(text) == said

    def test_a_model_is_told_the_whole_scenario(self, suite):
        text = task(suite(), "cancel").data["goal"]
        assert "Be brief." in text
        assert "You do not remember your email address." in text
        assert scenario({"user_scenario": {"persona": "Terse", "instructions": "Do it."}}) == "Who you are: Terse\nDo it."

    def test_no_scenario_at_all(self):
        assert Caller({}, 3).opens().text == ""


class TestFolders:
    def test_splits(self, suite):
        assert [one.id for one in suite(split="train").tasks] == ["cancel"]
        assert len(suite("mock").tasks) == 4, "without a file of splits, base is everything"
        with pytest.raises(UserError, match="did you mean 'train'"):
            suite(split="trian")

    def test_the_policy_is_the_domain_s(self, suite):
        assert suite().policy.startswith("# Policy")

    @pytest.mark.parametrize("domain", ["telecom", "banking_knowledge"])
    def test_domains_that_are_not_built_in_say_what_is_missing(self, suite, domain):
        with pytest.raises(UserError, match=f"'{domain}' is not built in .* missing"):
            suite(domain)

    def test_a_copy_that_is_not_there_or_not_whole(self, tmp_path):
        with pytest.raises(UserError, match="no domain 'retail'"):
            tau2(Tau2Config(path=str(tmp_path)), SuiteContext())
        (tmp_path / "retail").mkdir()
        with pytest.raises(UserError, match=r"tasks\.json is missing"):
            tau2(Tau2Config(path="."), SuiteContext(base=tmp_path))
        for name in ("tasks", "db"):
            (tmp_path / "retail" / f"{name}.json").write_text("{", encoding="utf-8")
        with pytest.raises(DataError, match="cannot be read as JSON"):
            tau2(Tau2Config(path=str(tmp_path)), SuiteContext())
        with pytest.raises(ValidationError):
            Tau2Config(path="x", domain="hotel")


# Tasks of the real mock domain that no list of reference actions makes true.
COMPLETE = {"name": "update_task_status", "arguments": {"task_id": "task_2", "status": "completed"}}
BY_HAND = {"update_task_with_history_and_env_assertions": [COMPLETE]}


@pytest.mark.parametrize(("domain", "count", "idle_right"), [("retail", 114, 11), ("mock", 10, 1)])
def test_the_real_tasks(shared_data, domain, count, idle_right):
    made = tau2(Tau2Config(path=str(shared_data / "tau2_bench"), domain=domain), SuiteContext())
    assert len(made.tasks) == count
    played = {one.id: made.judge(one, reference(made, one, BY_HAND.get(one.id, ()))) for one in made.tasks}
    assert {key: found.detail for key, found in played.items() if not found.success} == {}
    still = [one for one in made.tasks if made.judge(one, idle(made, one)).success]
    assert len(still) == idle_right
    # Only where the reference changes nothing either.
    assert all(reference(made, one).state == made.open(one).state() for one in still)
