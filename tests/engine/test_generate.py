"""Generation: the same tokens as transformers gives row by row, whatever the batches; failures cost only themselves."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tiny import SYSTEM

from agentft.contracts import GenerationSettings
from agentft.engine.agent import LoadedAgent
from agentft.engine.generate import TransformersBackend
from agentft.errors import DataError
from agentft.records import Example, Message, Response

SETTINGS = GenerationSettings(max_new_tokens=12, batch_size=4)
TEXTS = [
    "hi",
    "my card is lost and I am far away",
    "why?",
    "where is my money, it has been two weeks",
    "卡丢了",
    "ok then",
    "a",
    "no no no",
]


@pytest.fixture(scope="module")
def agent(tiny_ref, cpu):
    return LoadedAgent.load(tiny_ref, system=SYSTEM, profile=cpu)


def test_rows_that_have_ended_leave_the_batch_and_nobody_else_notices(agent, monkeypatch):
    """Each row has its own stop token here, so that rows leave at different steps; the tokens are those of single rows."""
    plain = {prompt.id: one_by_one(agent, prompt, 30) for prompt in PROMPTS}
    stops = {ids[n * 3 % len(ids)] for n, ids in enumerate(plain.values())}
    monkeypatch.setattr(agent.renderer, "stop_token_ids", tuple(stops))
    widths = []
    handle = agent.model.model.layers[0].register_forward_pre_hook(lambda _, args, kwargs: widths.append(len(args[0])), with_kwargs=True)
    try:
        found = TransformersBackend(agent).generate(PROMPTS, replace(SETTINGS, max_new_tokens=30, batch_size=8))
        alone, different = sum(widths), len(set(widths))
        widths.clear()
        few = TransformersBackend(agent).generate(PROMPTS, replace(SETTINGS, max_new_tokens=30, batch_size=3))
    finally:
        handle.remove()
    assert few == found
    assert sum(widths) == alone, "with three slots, each row-step is still one of a row that goes on"
    expected = [one_by_one(agent, prompt, 30) for prompt in PROMPTS]
    assert [one.text for one in found] == [agent.renderer.answer(ids) for ids in expected]
    assert [one.tokens for one in found] == [len(ids) for ids in expected]
    assert different > 3, "the batch became smaller more than once"


@pytest.fixture
def backend(agent):
    return TransformersBackend(agent)


def ask(texts):
    return [Example(f"p{i}", (Message("user", text),)) for i, text in enumerate(texts)]


PROMPTS = ask(TEXTS)


def one_by_one(agent, prompt, new=12):
    """The plainest greedy decoding there is: no cache, no batch, no generate()."""
    import torch

    ids = agent.renderer.prompt(prompt).input_ids
    found = []
    with torch.inference_mode():
        while len(found) < new and (not found or found[-1] not in agent.renderer.stop_token_ids):
            found.append(int(agent.model(torch.tensor([ids + found])).logits[0, -1].argmax()))
    return found


def test_batches_with_a_shared_prefix_give_the_tokens_of_single_rows(agent, backend):
    seen = []
    handle = agent.model.model.layers[0].register_forward_pre_hook(lambda _, args, kwargs: seen.append(args[0].shape), with_kwargs=True)
    shared = backend.generate(PROMPTS, SETTINGS)
    handle.remove()
    assert any(shape[0] == 1 and shape[1] > 32 for shape in seen), "the prefix was not shared"
    whole = TransformersBackend(replace(agent, profile=replace(agent.profile, share_prefix=False))).generate(PROMPTS, SETTINGS)
    assert shared == whole
    for prompt, response in zip(PROMPTS, shared, strict=True):
        tokens = one_by_one(agent, prompt)
        assert response.text == agent.renderer.answer(tokens)
        assert response.tokens == len(tokens)
    assert len({response.text for response in shared}) > 2, "the model answers everything alike: the test shows nothing"


@pytest.fixture
def stopping(agent, monkeypatch):
    """Makes the model say 'a', 'b' and then the stop token, to every prompt."""
    import torch

    script = [*agent.tokenizer("ab").input_ids, 2]
    forward, step = agent.model.forward, {"at": 0}

    def scripted(*args, **kwargs):
        output = forward(*args, **kwargs)
        output.logits = torch.full_like(output.logits, -10.0)
        output.logits[..., script[step["at"] % 3]] = 10.0
        step["at"] += 1
        return output

    agent.model.forward = scripted
    yield agent
    agent.model.forward = forward


def test_stop_token_ends_the_answer_and_is_counted_but_not_shown(stopping):
    backend = TransformersBackend(replace(stopping, profile=replace(stopping.profile, share_prefix=False)))
    assert backend.generate(PROMPTS[:2], SETTINGS) == [Response("p0", "ab", "stop", 3), Response("p1", "ab", "stop", 3)]


def test_limit_is_reported_as_length(backend):
    responses = backend.generate(PROMPTS[:3], replace(SETTINGS, max_new_tokens=2))
    assert [(r.finish, r.tokens) for r in responses if r.finish == "length"] == [("length", 2)] * len(responses)


def test_answers_come_in_the_order_of_the_prompts(backend):
    forwards = backend.generate(PROMPTS, SETTINGS)
    backwards = backend.generate(PROMPTS[::-1], SETTINGS)
    assert [r.id for r in forwards] == [p.id for p in PROMPTS]
    assert backwards[::-1] == forwards


def test_answers_are_reported_as_they_finish(backend):
    seen = []
    responses = backend.generate(PROMPTS, SETTINGS, on_batch=lambda batch: seen.append(list(batch)))
    assert len(seen) >= 2
    assert {r.id: r for batch in seen for r in batch} == {r.id: r for r in responses}
    assert sum(map(len, seen)) == len(PROMPTS)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("kept", [0, 3, 4, 7, 8])
def test_interrupted_call_continues_to_the_same_result(backend, kept, temperature):
    settings = replace(SETTINGS, temperature=temperature, seed=5)
    finished = []
    whole = backend.generate(PROMPTS, settings, on_batch=finished.extend)
    done = {r.id: r for r in finished[:kept]}
    computed = []
    assert backend.generate(PROMPTS, settings, on_batch=computed.extend, done=done) == whole
    assert len(computed) == 8 - kept


def test_failures_are_never_kept(backend):
    done = {prompt.id: Response(prompt.id, "", "error", 0, "out of memory") for prompt in PROMPTS}
    assert all(r.finish != "error" for r in backend.generate(PROMPTS, SETTINGS, done=done))


def test_sampling_is_repeatable_by_seed_and_leaves_the_global_state_alone(backend):
    import torch

    settings = replace(SETTINGS, temperature=1.0, seed=1)
    state = torch.random.get_rng_state()
    first = backend.generate(PROMPTS, settings)
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(12345)
    assert backend.generate(PROMPTS, settings) == first
    assert backend.generate(PROMPTS, replace(settings, seed=2)) != first
    # What is drawn for a prompt does not depend on the batch that it is in.
    assert backend.generate(PROMPTS[2:5], replace(settings, batch_size=2)) == first[2:5]


def test_settings_of_the_models_makers_do_not_leak_in(tiny_ref, cpu, tmp_path):
    """A repetition penalty or top_k in generation_config.json would change what is measured."""
    import json
    import shutil
    from pathlib import Path

    folder = Path(shutil.copytree(tiny_ref.path, tmp_path / "m"))
    noisy = {"repetition_penalty": 50.0, "do_sample": True, "top_k": 1, "no_repeat_ngram_size": 1, "eos_token_id": 9, "min_length": 400}
    (folder / "generation_config.json").write_text(json.dumps(noisy))
    plain = LoadedAgent.load(tiny_ref, system=SYSTEM, profile=cpu)
    loud = LoadedAgent.load(replace(tiny_ref, path=str(folder)), system=SYSTEM, profile=cpu)
    for settings in (SETTINGS, replace(SETTINGS, temperature=1.5)):
        assert loud.generate(PROMPTS, settings) == plain.generate(PROMPTS, settings)


def test_prompt_that_cannot_be_rendered_or_is_too_long_fails_alone(backend):
    prompts = [*ask(["hi", "x" * 600]), Example("answered", (Message("user", "hi"), Message("assistant", "there")))]
    seen = []
    first, second, third = backend.generate(prompts, SETTINGS, on_batch=seen.extend)
    assert first.finish != "error"
    assert second.finish == "error" and "exceeds the model's context of 512" in second.error
    assert third.finish == "error" and "end with a message to answer" in third.error
    assert len(seen) == 3


@pytest.fixture
def fragile(monkeypatch):
    """No turn ends well in which prompt p3 runs; how many rows each failed turn had is in the list."""
    from agentft.engine.decode import Decoding

    real, failed = Decoding.turn, []

    def turn(self):
        gone = real(self)
        if any(self.rows[number][-len(self.poison) :] == self.poison for number in (*self.alive, *gone)):
            failed.append(len(self.alive) + len(gone))
            raise RuntimeError("no memory left")
        return gone

    monkeypatch.setattr(Decoding, "turn", turn)
    monkeypatch.setattr(Decoding, "poison", None, raising=False)
    return failed


def test_prompts_that_ran_when_something_failed_are_tried_one_by_one(agent, backend, fragile, monkeypatch):
    from agentft.engine.decode import Decoding

    monkeypatch.setattr(Decoding, "poison", [-1])
    whole = backend.generate(PROMPTS, SETTINGS)
    monkeypatch.setattr(Decoding, "poison", agent.renderer.prompt(PROMPTS[3]).input_ids[-30:])
    reported = []
    found = backend.generate(PROMPTS, SETTINGS, on_batch=reported.extend)
    assert found[3] == Response("p3", "", "error", 0, "RuntimeError: no memory left")
    assert [r for r in found if r.id != "p3"] == [r for r in whole if r.id != "p3"]
    assert sorted(r.id for r in reported) == [p.id for p in PROMPTS]
    assert fragile == [4, 1], "the batch with p3 fails once, then p3 alone; the others never again"


def test_prompts_that_begin_differently_share_what_some_have_in_common(agent):
    """Two personas in one call: each prefix is run once, and the answers are those of two calls."""
    from agentft.engine.generate import Row, families

    first, second, third = [1] * 40, [2] * 50, [3] * 4
    rows = [Row(n, str(n), [*start, n]) for n, start in enumerate([second, first, second, first, third, second])]
    assert [(prefix, [row.index for row in some]) for prefix, some in families(rows, 4)] == [
        (second, [0, 2, 5]),
        (first, [1, 3]),
        ([], [4]),
    ]
    assert [(len(prefix), len(some)) for prefix, some in families(rows, 16)] == [(0, 6)]
    assert families([], 4) == []


def test_candidates_of_one_prompt_are_read_once(agent):
    asked, seen = [replace(prompt, id=f"{prompt.id}#{n}") for prompt in PROMPTS[:3] for n in range(4)], []
    settings = replace(SETTINGS, temperature=1.2, batch_size=6)
    handle = agent.model.model.layers[0].register_forward_pre_hook(lambda _, args, kw: seen.append(args[0].shape[:2]), with_kwargs=True)
    try:
        found = agent.generate(asked, settings)
    finally:
        handle.remove()
    read = sum(rows for rows, width in seen if width > 1)
    assert read == 1 + 3, "the persona, then each prompt"
    assert {one.text for one in found[:4]} != {found[0].text}, "each candidate has a stream of its own"
    assert found == agent.generate(asked, replace(settings, batch_size=1))


def test_weights_are_reordered_where_there_is_much_to_say(agent, monkeypatch):
    """Decided by all prompts, those that are done included: the rest of an interrupted call is rounded like its beginning."""
    from agentft.engine import generate
    from agentft.engine.packed import Packed

    plain = TransformersBackend(agent).generate(PROMPTS, SETTINGS)
    real, asked = Packed.used, []

    monkeypatch.setattr(Packed, "used", lambda self, worth: asked.append(worth) or real(self, worth))
    monkeypatch.setattr(generate, "PACK_TOKENS", len(PROMPTS) * SETTINGS.max_new_tokens)
    finished = []
    assert TransformersBackend(agent).generate(PROMPTS, SETTINGS, on_batch=finished.extend) == plain
    assert TransformersBackend(agent).generate(PROMPTS, SETTINGS, done={one.id: one for one in finished[:5]}) == plain
    assert asked.count(True) == 2
    assert TransformersBackend(agent).generate(PROMPTS[:7], SETTINGS) == plain[:7]
    assert asked.count(True) == 2


@pytest.mark.slow
def test_questions_of_a_bank_get_the_tokens_of_generate(shared_data):
    """Real questions, the real model, real stop tokens: the answers are those of transformers' generate, row by row."""
    import csv

    import torch

    from agentft.engine.models import pull

    file = next(path for path in sorted((shared_data / "banking77").rglob("*.csv")))
    with file.open(encoding="utf-8", newline="") as stream:
        texts = [row["text"] for row, _ in zip(csv.DictReader(stream), range(10), strict=False)]
    loaded = LoadedAgent.load(
        pull("smollm2-135m"), system="You are the assistant of a bank. Answer in one short sentence, and stay polite."
    )
    prompts, settings = ask(texts), GenerationSettings(max_new_tokens=24, batch_size=4)
    produced = {}
    answer = loaded.renderer.answer
    loaded.renderer.answer = lambda ids: produced.setdefault(answer(ids), list(ids)) and answer(ids)
    found = loaded.generate(prompts, settings)
    for prompt, response in zip(prompts, found, strict=True):
        ids = loaded.renderer.prompt(prompt).input_ids
        with torch.inference_mode():
            output = loaded.model.generate(
                input_ids=torch.tensor([ids]),
                attention_mask=torch.ones(1, len(ids), dtype=torch.long),
                max_new_tokens=24,
                do_sample=False,
                eos_token_id=list(loaded.renderer.stop_token_ids),
                pad_token_id=loaded.tokenizer.pad_token_id,
            )
            expected, new = output[0, len(ids) :].tolist(), produced[response.text]
            if new != expected:  # only where two tokens are equally likely, to rounding
                at = next(i for i, (a, b) in enumerate(zip(new, expected, strict=False)) if a != b)
                best = loaded.model(torch.tensor([ids + expected[:at]])).logits[0, -1].topk(2).values
                assert float(best[0] - best[1]) < 1e-3
        assert response.tokens == len(new)


def test_interrupt_by_the_user_is_not_swallowed(backend, monkeypatch):
    from agentft.engine.decode import Decoding

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Decoding, "turn", interrupt)
    with pytest.raises(KeyboardInterrupt):
        backend.generate(PROMPTS, SETTINGS)


def test_chat_answers_a_conversation(agent):
    text = agent.chat([{"role": "user", "content": "hi"}], SETTINGS)
    assert text == agent.generate(["hi"], SETTINGS)[0].text
    with pytest.raises(DataError, match="could not answer"):
        agent.chat([Message("user", "x" * 600)])
