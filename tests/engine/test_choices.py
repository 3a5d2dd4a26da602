"""Answers that have to be one of a few texts: brute force over whole rows says what they must be, and how likely each is."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import SYSTEM

from agentft.contracts import GenerationSettings
from agentft.engine.agent import LoadedAgent
from agentft.engine.choices import closest, trie
from agentft.engine.generate import TransformersBackend
from agentft.errors import DataError
from agentft.records import Example, Message

GREEDY = GenerationSettings(max_new_tokens=3, batch_size=4)  # shorter than any choice: a choice is never cut
LABELS = ("card", "card lost", "cash", "refund", "top up")
CHINESE = ("退款", "退货", "挂失", "转账", "余额查询")
TEXTS = ["hi", "my card is lost and I am far away", "why?", "卡丢了", "ok then", "where is my money", "我要退款", "no"]


def asked(choices, texts=TEXTS):
    return [Example(f"p{n}", (Message("user", text),), meta={"choices": list(choices)}) for n, text in enumerate(texts)]


@pytest.fixture(scope="module")
def agent(tiny_ref, cpu):
    return LoadedAgent.load(tiny_ref, system=SYSTEM, profile=cpu)


def backend(agent, own_loop):
    return TransformersBackend(replace(agent, profile=replace(agent.profile, share_prefix=own_loop)))


def answer_row(agent, prompt, choice):
    """Prompt and answer as training renders them; the prompt's length."""
    (row,) = agent.renderer.training(replace(prompt, messages=(*prompt.messages, Message("assistant", choice))))
    return row.input_ids, len(agent.renderer.prompt(prompt).input_ids)


def brute_greedy(agent, prompt, choices):
    """Token by token the likeliest among those that lead to a choice; every step is a forward pass over the whole row."""
    import torch

    rows = {choice: answer_row(agent, prompt, choice)[0] for choice in choices}
    ids = agent.renderer.prompt(prompt).input_ids
    while True:
        open_ = {choice: row for choice, row in rows.items() if row[: len(ids)] == ids}
        done = [choice for choice, row in open_.items() if row == ids]
        if done:
            return done[0]
        with torch.inference_mode():
            logits = agent.model(torch.tensor([ids])).logits[0, -1]
        ids = [*ids, max({row[len(ids)] for row in open_.values()}, key=lambda token: float(logits[token]))]


def brute_scores(agent, prompt, choices):
    """Probability of each choice from a row of its own."""
    import torch

    sums = []
    for choice in choices:
        ids, start = answer_row(agent, prompt, choice)
        with torch.inference_mode():
            logs = agent.model(torch.tensor([ids])).logits[0].log_softmax(-1)
        sums.append(sum(float(logs[place - 1, ids[place]]) for place in range(start, len(ids))))
    whole = sum(math.exp(one) for one in sums)
    return {choice: math.exp(one) / whole for choice, one in zip(choices, sums, strict=True)}


@pytest.mark.parametrize("own_loop", [True, False])
@pytest.mark.parametrize("choices", [LABELS, CHINESE], ids=["english", "chinese"])
def test_every_answer_is_the_choice_that_brute_force_finds(agent, choices, own_loop):
    prompts = asked(choices)
    found = backend(agent, own_loop).generate(prompts, GREEDY)
    assert [one.text for one in found] == [brute_greedy(agent, prompt, choices) for prompt in prompts]
    assert len({one.text for one in found}) > 1, "every prompt is answered alike: the test shows nothing"
    lengths = {choice: len(agent.renderer.answers(prompts[0], [choice])[0]) for choice in choices}
    assert all(one.finish == "stop" and one.tokens == lengths[one.text] for one in found)


@pytest.mark.parametrize("own_loop", [True, False])
def test_sampled_answers_are_choices_too_and_repeatable(agent, own_loop):
    hot = replace(GREEDY, temperature=2.0, top_p=0.9, seed=4)
    prompts = asked(LABELS, TEXTS * 3)
    prompts = [replace(prompt, id=f"q{n}") for n, prompt in enumerate(prompts)]
    first = backend(agent, own_loop).generate(prompts, hot)
    assert {one.text for one in first} <= set(LABELS) and len({one.text for one in first}) > 2
    assert first == backend(agent, own_loop).generate(prompts, hot)
    assert first != backend(agent, own_loop).generate(prompts, replace(hot, seed=5))


def test_free_prompts_beside_them_are_answered_as_alone(agent):
    free = [Example(f"f{n}", (Message("user", text),)) for n, text in enumerate(TEXTS[:3])]
    some = asked(LABELS, TEXTS[:5])
    together = backend(agent, True).generate([free[0], *some[:3], *free[1:], *some[3:]], GREEDY)
    alone = {one.id: one for one in (*backend(agent, True).generate(free, GREEDY), *backend(agent, True).generate(some, GREEDY))}
    assert {one.id: one for one in together} == alone
    assert all(alone[one.id].tokens <= GREEDY.max_new_tokens for one in free)


def test_what_is_certain_costs_no_forward_pass(agent):
    widths = []
    handle = agent.model.model.layers[0].register_forward_pre_hook(lambda _, args, kw: widths.append(args[0].shape[1]), with_kwargs=True)
    try:
        answers = backend(agent, True).generate(asked(["refund please", "top up please"]), GREEDY)
    finally:
        handle.remove()
    assert {one.text for one in answers} <= {"refund please", "top up please"}
    assert widths.count(1) == 2, "one step for each set of choices: after the first letter there is nothing to choose"


@pytest.mark.parametrize("choices", [LABELS, CHINESE], ids=["english", "chinese"])
def test_scores_are_those_of_rows_of_their_own(agent, choices):
    prompts = asked(choices)
    for prompt, found in zip(prompts, agent.choice_scores(prompts), strict=True):
        assert list(found) == list(choices) and math.isclose(sum(found.values()), 1, rel_tol=1e-9)
        assert found == pytest.approx(brute_scores(agent, prompt, choices), abs=1e-5)


def test_scores_do_not_depend_on_the_size_of_the_batch(agent):
    prompts = asked(LABELS, TEXTS[:2])
    small = replace(agent, profile=replace(agent.profile, score_batch=2))
    for one, other in zip(agent.choice_scores(prompts), small.choice_scores(prompts), strict=True):
        assert one == pytest.approx(other, abs=1e-5)


def test_a_conversation_with_earlier_answers_is_scored_on_the_last(agent):
    talk = (Message("user", "hi"), Message("assistant", "cash"), Message("user", "and now?"))
    prompt = Example("m", talk, meta={"choices": ["cash", "card"]})
    assert len(agent.renderer.answers(prompt, ["cash"])[0]) == len(agent.renderer.answers(asked(["cash"])[0], ["cash"])[0])
    assert backend(agent, True).generate([prompt], GREEDY)[0].text in ("cash", "card")
    assert set(agent.choice_scores([prompt])[0]) == {"cash", "card"}


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        (["a", "b", "a"], "'a' twice"),
        (["a", "a "], "'a' twice"),
        ("ab", "a list of texts"),
        ([], "a list of texts"),
        (["a", ""], "not empty"),
        (["a", 3], "not empty"),
    ],
)
def test_choices_that_are_none_fail_alone(agent, choices, message):
    good = asked(LABELS, ["hi"])[0]
    bad = Example("bad", (Message("user", "hi"),), meta={"choices": choices})
    fine, failed = backend(agent, True).generate([good, bad], GREEDY)
    assert fine.finish == "stop" and failed.finish == "error" and message in failed.error
    with pytest.raises(DataError, match=message):
        agent.choice_scores([bad])


def test_scores_need_choices(agent):
    with pytest.raises(DataError, match="needs meta.choices"):
        agent.choice_scores([Example("x", (Message("user", "hi"),))])


def test_a_longer_choice_counts_for_the_context_and_the_limit_does_not(agent):
    prompt = asked(["a", "b" * 500], ["hi"])[0]
    assert "exceeds the model's context" in backend(agent, True).generate([prompt], GREEDY)[0].error
    huge = replace(GREEDY, max_new_tokens=600)
    assert backend(agent, True).generate(asked(LABELS, ["hi"]), huge)[0].text in LABELS


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.integers(1, 4), min_size=1, max_size=4).map(tuple), min_size=1, max_size=8, unique=True))
def test_a_trie_holds_exactly_its_texts(rows):
    root = trie({str(row): [*row, 0] for row in rows})

    def texts(node, path=()):
        if node.text is not None:
            assert node.text == str(path[:-1])
            return [node.text]
        return [text for token, after in node.next.items() for text in texts(after, (*path, token))]

    assert sorted(texts(root)) == sorted(map(str, rows))


def test_a_trie_refuses_what_it_cannot_tell_apart():
    for rows in ({"x": [1, 2], "y": [1, 2]}, {"x": [1], "y": [1, 2]}, {"x": [1, 2], "y": [1]}):
        with pytest.raises(DataError, match="choice 'y'"):
            trie(rows)


def test_an_answer_of_a_server_is_taken_as_the_choice_that_it_is():
    assert closest("Card Lost.", LABELS) == "card lost" and closest(' "CARD" ', LABELS) == "card"
    assert closest("my card", LABELS) == "my card" and closest("退款。", CHINESE) == "退款" and closest("yes", ()) == "yes"
