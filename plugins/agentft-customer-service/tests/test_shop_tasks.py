"""The tasks of the shop: what the reference does is right, doing nothing is not, and every customer can be served."""

from __future__ import annotations

from collections import Counter

import pytest
from agentft_customer_service.shop.database import seed
from agentft_customer_service.shop.suite import ShopConfig, rows, shop
from agentft_customer_service.shop.tools import BY_NAME

from agentft.environments import Episode, SuiteContext
from agentft.errors import UserError
from agentft.records import Message, Response
from agentft.simulate.episodes import run_episodes
from agentft.simulate.scripts import script_from

REFUSALS = {row["id"] for row in rows() if row["steps"][-1]["until"] == "refused"}


def suite(**options):
    return shop(ShopConfig(**options), SuiteContext())


def writes(task):
    return [action for action in task.actions if BY_NAME[action["name"]].writes]


def reference(of, task):
    """The episode of an agent that makes the reference calls and tells the facts."""
    desk = of.open(task)
    for action in task.actions:
        answer = desk.call(action["name"], action["arguments"])
        assert not answer.error or action["name"] == "verify_identity", (task.id, action, answer)
    told = " ".join(group[0] for group in task.facts)
    messages = (Message("user", "Hello"), Message("assistant", told or "Done."))
    return Episode(task.id, 0, messages, "user", desk.state(), tuple(desk.violations))


@pytest.mark.parametrize("strict", [False, True])
def test_the_reference_is_right_on_all_tasks(strict):
    of = suite(strict=strict)
    for task in of.tasks:
        episode = reference(of, task)
        outcome = of.judge(task, episode)
        assert outcome.success and not episode.violations, (task.id, outcome)


def test_doing_nothing_is_right_on_none():
    of = suite()
    for task in of.tasks:
        desk = of.open(task)
        episode = Episode(task.id, 0, (Message("user", "Hi"), Message("assistant", "Hello.")), "user", desk.state())
        outcome = of.judge(task, episode)
        assert not outcome.success, task.id
        assert outcome.checks["state"] == (not writes(task)), task.id


def test_there_are_tasks_of_every_kind():
    of = suite()
    assert len(of.tasks) >= 60 and len({task.id for task in of.tasks}) == len(of.tasks)
    count = {name: Counter(task.slices[name] for task in of.tasks) for name in of.tasks[0].slices}
    assert min(count["writes"][one] for one in ("none", "one", "several")) >= 6, count
    assert min(count["difficulty"][one] for one in ("easy", "medium", "hard")) >= 12, count
    assert count["language"]["zh"] >= 5 and len(count["intent"]) >= 15 and len(REFUSALS) >= 15, count
    assert {call["name"] for task in of.tasks for call in task.actions} == set(BY_NAME)


def test_what_customers_say_is_true():
    """Who gives email and postcode has them right, but for those of whom the task says otherwise."""
    known = {(row["email"], row["postcode"]) for row in seed()["customers"]}
    for row in rows():
        knows = row.get("knows", {})
        if row["intent"] != "identity" and "email" in knows and "postcode" in knows:
            assert (knows["email"], knows["postcode"]) in known, row["id"]
        for action in row["actions"]:
            if action["name"] == "verify_identity" and row["intent"] != "identity":
                assert (action["arguments"]["email"], action["arguments"]["postcode"]) in known, row["id"]


def test_scripts_are_valid_and_words_of_a_seed_are_the_same():
    of = suite()
    for task in of.tasks:
        script_from(task.data["script"], task.id)
        assert of.user(task, 3).opens() == of.user(task, 3).opens()
        assert not of.user(task, 3).opens().fault


class Oracle:
    """An agent that knows the reference: asks who the customer is, then makes the calls one by one, then says what there is to say."""

    def __init__(self, of):
        self.tasks = {task.id: task for task in of.tasks}

    def __call__(self, prompts):
        return [self.answer(prompt) for prompt in prompts]

    def answer(self, prompt):
        task = self.tasks[prompt.meta["task"]]
        done = sum(len(message.tool_calls) for message in prompt.messages)
        spoken = sum(message.role == "assistant" and bool(message.content) for message in prompt.messages)
        text = "May I have your email and postcode, please?"
        if spoken:
            if done < len(task.actions):
                return Response(prompt.id, "", calls=(task.actions[done],))
            told = ", ".join(group[0] for group in task.facts)
            text = f"I'm sorry, I can't do that: {told}." if task.id in REFUSALS else f"That is done. {told}"
        return Response(prompt.id, text)


@pytest.mark.parametrize("trial", [0, 1])
def test_every_customer_can_be_served(trial):
    of = suite()
    for episode in run_episodes(of, Oracle(of), [(task, trial) for task in of.tasks], name="shop"):
        task = next(task for task in of.tasks if task.id == episode.task)
        outcome = of.judge(task, episode)
        assert outcome.success and episode.end == "user", (task.id, outcome, [message.to_dict() for message in episode.messages])


def test_a_customer_who_is_not_understood_leaves():
    of = suite()

    def deaf(prompts):
        return [Response(prompt.id, "The weather is nice today.") for prompt in prompts]

    for episode in run_episodes(of, deaf, [(task, 0) for task in of.tasks], name="shop"):
        task = next(task for task in of.tasks if task.id == episode.task)
        assert episode.end == "user" and not episode.fault and not of.judge(task, episode).success, task.id


def test_an_attempt_that_a_strict_desk_refused_is_seen_and_forgiven():
    task = next(task for task in suite().tasks if task.slices["intent"] == "cancel" and task.id in REFUSALS)
    order = next(action for action in task.actions if action["name"] == "get_order")
    for strict in (False, True):
        of = suite(strict=strict)
        good, desk = reference(of, task), of.open(task)
        for action in (*task.actions, {"name": "cancel_order", "arguments": order["arguments"]}):
            desk.call(action["name"], action["arguments"])
        episode = Episode(task.id, 0, good.messages, "user", desk.state(), tuple(desk.violations))
        assert len(episode.violations) == 1 and of.judge(task, episode).success == strict


def test_options():
    assert {task.slices["language"] for task in suite(language="zh").tasks} == {"zh"}
    assert {task.slices["intent"] for task in suite(intents=["refund"]).tasks} == {"refund"}
    assert suite().policy == "" and "30 days" in suite(tell_rules=True).policy
    with pytest.raises(UserError, match="refund"):
        suite(intents=["refunds"])
