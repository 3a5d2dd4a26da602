"""Simulated users: scripts in two languages, their mistakes, and users that a model plays."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentft.errors import RecipeError
from agentft.records import Message, Response
from agentft.simulate.scripts import read_scripts, script_from
from agentft.simulate.users import MOST_REPEATS, STOP, ModelUser, ScriptedUser

REFUND = {
    "goal": "Get order W7 refunded.",
    "states": {
        "start": {"say": ["I want my money back.", "A refund, please."], "when": [{"agent": "which reason|why", "go": "reason"}]},
        "reason": {"say": "It is broken.", "when": [{"called": {"name": "refund", "arguments": {"order": "W7"}}, "go": "wait"}]},
        "wait": {"say": "How long does it take?", "when": [{"after": 6, "go": "reason"}]},
    },
    "slots": {"order_number": {"say": "{{ order }}"}, "email": {"say": "a@b.example", "asked": "e-?mail"}},
    "leaves": [{"told": [["5 days", "a week"]], "say": "Thanks!"}, {"refused": True, "say": "Pity."}],
    "default": ["Sorry?", "Hm?"],
    "patience": 2,
    "gives_up": "I give up.",
    "values": {"order": "W7"},
}
CHINESE = {
    "language": "zh",
    "states": {"start": {"say": "我要退款。", "when": [{"agent": "原因", "go": "why"}]}, "why": {"say": "坏了。"}},
    "slots": {"order": {"say": "订单号是W7。", "asked": "订单号"}, "phone": {"say": "13800000000", "asked": "手机号|电话"}},
    "leaves": [{"told": ["三天"], "say": "谢谢。"}, {"refused": True, "say": "好吧。"}],
}


class Talk:
    """A conversation with a scripted user, as the simulation holds it."""

    def __init__(self, script, seed=0):
        self.user = ScriptedUser(script, seed)
        self.turn = self.user.opens()
        self.messages = [Message("user", self.turn.text)]

    def __call__(self, text, *calls):
        if calls:
            self.messages.append(Message("assistant", "", tool_calls=calls))
            self.messages += [Message("tool", "ok", name=call["name"]) for call in calls]
        self.messages.append(Message("assistant", text))
        self.turn = self.user.answers(tuple(self.messages))
        self.messages.append(Message("user", self.turn.text))
        return self.turn.text


def test_moves_slots_calls_and_facts():
    talk = Talk(REFUND)
    assert talk.turn.text in REFUND["states"]["start"]["say"]
    assert talk("Your order number and your e-mail address, please?") == "W7 a@b.example"
    assert talk("For which reason?") == "It is broken." and talk.user.state == "reason"
    wrong = {"name": "refund", "arguments": {"order": "W8"}}
    assert talk("Done.", wrong) in REFUND["default"]
    assert talk("Now it is.", {"name": "refund", "arguments": {"order": "W7", "note": "x"}}) == "How long does it take?"
    assert talk("Five days.") == "Thanks!" and talk.turn.done and not talk.turn.fault


def test_a_slot_is_said_when_it_is_asked_for_and_not_when_it_is_named():
    talk = Talk(REFUND)
    assert talk("Thank you. I found your order number.") in REFUND["default"]
    assert talk("I found it. Could you tell me the order-number again?") == "W7"


def test_a_refusal_makes_the_user_leave_but_not_one_that_asks_for_what_they_know():
    talk = Talk(REFUND)
    assert talk("I cannot do that without your order number. What is it?") == "W7" and not talk.turn.done
    assert talk("I am sorry, we are not able to refund this. Anything else?") == "Pity." and talk.turn.done


def test_patience_ends_and_begins_again_with_something_new():
    talk = Talk(REFUND)
    assert [talk("Nice weather."), talk("Nice weather.")] != [talk.messages[2].content] * 2
    assert talk("Your email, please?") == "a@b.example"
    said = [talk("Your email, please?") for _ in range(3)]
    assert said == ["a@b.example", "a@b.example", "I give up."] and talk.turn.done


def test_chinese():
    talk = Talk(CHINESE)
    assert talk("请提供您的订单号和手机号。") == "订单号是W7。13800000000"
    assert talk("好的，已收到订单号。") != "订单号是W7。"
    assert talk("请问原因是什么？") == "坏了。"
    assert talk("3天内到账。") == "谢谢。" and talk.turn.done
    assert Talk(CHINESE)("抱歉，这个订单无法退款。") == "好吧。"


def test_unreadable_calls_and_messages_of_the_tools_are_not_the_agents_words():
    user = ScriptedUser(REFUND)
    user.opens()
    talk = (
        Message("user", "A refund"),
        Message("assistant", "5 days {"),
        Message("user", "could not be read: 5 days", name="tools"),
        Message("assistant", "Your email?"),
    )
    assert user.answers(talk).text == "a@b.example"


def test_wordings_are_drawn_by_the_seed_and_the_same_in_the_same_state():
    said = {Talk(REFUND, seed).turn.text for seed in range(20)}
    assert said == set(REFUND["states"]["start"]["say"]) and Talk(REFUND, 3).turn == Talk(REFUND, 3).turn


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.one_of(st.text(max_size=60), st.sampled_from(["why?", "order number?", "I cannot.", "ok"])), max_size=12),
    st.integers(0, 99),
)
def test_a_script_always_has_an_answer_and_always_the_same(texts, seed):
    talks = [Talk(REFUND, seed), Talk(REFUND, seed)]
    for text in texts:
        said = [talk(text) for talk in talks]
        assert said[0] == said[1] != "" and not talks[0].turn.fault
        if talks[0].turn.done:
            break
    else:
        # Nobody stays longer than patience allows for what leads nowhere.
        assert len(texts) <= 12


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 5), st.text(alphabet="xyz .", max_size=20))
def test_who_hears_nothing_useful_leaves_after_as_many_answers_as_patience_says(patience, text):
    talk = Talk({"states": {"start": {"say": "Hello"}}, "patience": patience})
    for _ in range(patience):
        talk(text)
        assert not talk.turn.done
    talk(text)
    assert talk.turn.done and not talk.turn.fault


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({}, "'states' is missing"),
        ({"states": {}}, "there is no state 'start'"),
        ({"states": {"start": {"say": "a", "when": [{"go": "strat"}]}}}, "no state 'strat' to go to (did you mean 'start'?)"),
        ({"states": {"start": {"say": "a", "when": [{"agent": "(", "go": "start"}]}}}, "not a regular expression"),
        ({"states": {"start": {"say": "a {{ b }}"}}}, "'b' is not defined"),
        ({"states": {"start": {"say": []}}}, "must be"),
        ({"states": {"start": {"say": "a", "leave": True, "when": [{"go": "start"}]}}}, "goes nowhere"),
    ],
)
def test_a_broken_script_is_a_fault(data, words):
    turn = ScriptedUser(data).opens()
    assert turn.done and words in turn.fault
    if "{{" not in str(data):
        with pytest.raises(RecipeError):
            script_from(data)


def test_scripts_of_a_file_with_places(tmp_path):
    path = tmp_path / "users.yaml"
    path.write_text(
        "one:\n  states:\n    start:\n      say: Hello\n      when:\n      - {agent: hi, go: strt}\n  patence: 3\ntwo:\n  states: 3\n",
        "utf-8",
    )
    with pytest.raises(RecipeError) as caught:
        read_scripts(path)
    lines = str(caught.value).splitlines()
    assert f"{path}:7:3: unknown key 'patence' (did you mean 'patience'?)" in lines and any(f"{path}:9:" in line for line in lines)
    path.write_text("one:\n  states:\n    start:\n      say: Hello\n      when:\n      - {agent: hi, go: strt}\n", "utf-8")
    with pytest.raises(RecipeError, match=r"users.yaml:6:25: there is no state 'strt' to go to \(did you mean 'start'\?\)"):
        read_scripts(path)
    path.write_text("一:\n  language: zh\n  states: {start: {say: 你好}}\n", "utf-8")
    assert ScriptedUser(read_scripts(path)["一"]).opens().text == "你好"


class Says:
    """A backend that says what it is told to."""

    def __init__(self, *answers):
        self.answers, self.seen = list(answers), []

    def generate(self, prompts, settings, on_batch=None, done=None):
        self.seen += prompts
        found = [self.answers.pop(0) for _ in prompts]
        return [one if isinstance(one, Response) else Response(prompt.id, one) for prompt, one in zip(prompts, found, strict=True)]


def test_a_model_sees_the_conversation_from_the_other_side_and_stops():
    backend = Says("My order is late.", f"Great, bye. {STOP} never said")
    user = ModelUser(backend, "Find order W7.")
    assert user.opens().text == "My order is late."
    talk = (
        Message("user", "My order is late."),
        Message("assistant", "One moment.", tool_calls=({"name": "find", "arguments": {}},)),
        Message("tool", "{secret}", name="find"),
        Message("assistant", "It comes tomorrow."),
    )
    turn = user.answers(talk)
    assert turn.text == "Great, bye." and turn.done and not turn.fault
    system, *rest = backend.seen[1].messages
    assert "Find order W7." in system.content and STOP in system.content
    assert [m.role for m in rest] == ["user", "assistant", "user"] and rest[-1].content == "One moment.\nIt comes tomorrow."
    assert "secret" not in str(backend.seen[1].to_dict())
    assert ModelUser(backend, "x", language="zh").asks((), "0").messages[1].content.startswith("您好")


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        (["  "], "said nothing"),
        ([Response("x", "", "error", 0, "no connection")], "did not answer: no connection"),
        ([Response("x", "and so on and on", "length")], "did not come to an end"),
        (["Hello! How can I help you today?"], "spoke as the agent"),
        (["客服：请提供订单号"], "spoke as the agent"),
        (["Where is it?"] * MOST_REPEATS, "did not stop"),
    ],
)
def test_what_a_model_does_wrong_is_a_fault(answers, words):
    user = ModelUser(Says(*answers), "x")
    turns = [user.opens() for _ in answers]
    assert turns[-1].done and words in turns[-1].fault and not any(turn.fault for turn in turns[:-1])


def test_users_played_by_one_model_are_asked_in_one_batch(tmp_path, monkeypatch):
    from pathlib import Path

    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "fakes" / "switches"))
    import fake_switches

    from agentft.simulate.episodes import run_episodes
    from agentft.simulate.suites import played_by

    suite = fake_switches.Suite(fake_switches.SwitchConfig())
    backend = Says(*["Please switch it."] * 4, *[f"Bye {STOP}"] * 4)
    sizes, plain = [], backend.generate
    backend.generate = lambda prompts, settings, *rest: sizes.append(len(prompts)) or plain(prompts, settings)
    plan = [(task, 0) for task in suite.tasks]
    found = list(run_episodes(suite, lambda ps: [Response(p.id, "ok") for p in ps], plan, user=played_by(suite, backend, "en")))
    assert sizes == [4, 4] and {one.end for one in found} == {"user"} and found[0].messages[-1].content == "Bye"
    assert "Have lamp-0 switched on." in backend.seen[0].messages[0].content
