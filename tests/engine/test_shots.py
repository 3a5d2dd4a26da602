"""Which examples are shown: the most similar last, never the prompt itself, as many as the context has room for."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentft.contracts import GenerationSettings, TrainJob
from agentft.engine import embedding
from agentft.engine.agent import LoadedAgent
from agentft.engine.retrieval import Index, best_method, terms
from agentft.engine.shots import Shots, write
from agentft.errors import TrainingError
from agentft.host import Host
from agentft.records import Example, Message


def talk(name, asked, answer="Yes.", **meta):
    return Example(name, (Message("system", "own"), Message("user", asked), Message("assistant", answer)), meta=meta)


ENGLISH = [
    talk("a", "How do I change the PIN of my card?", "In the app.", label="pin"),
    talk("b", "Where is my refund?", "On its way.", label="refund"),
    talk("c", "My card was stolen, please block it", "Blocked.", label="lost"),
    talk("d", "I lost my card on the train", "Blocked it.", label="lost"),
    talk("e", "When is the refund paid out?", "Tomorrow.", label="refund"),
]
CHINESE = [
    talk("a", "怎么修改银行卡密码？"),
    talk("b", "我的退款什么时候到账？"),
    talk("c", "银行卡丢了怎么挂失？"),
    talk("d", "如何开通网上银行？"),
]


def shots(tmp_path, examples, **options):
    chosen = {"count": 2, "by": "bm25", "per_label": False, "seed": 0} | options
    write(tmp_path / "fewshot", examples, **chosen)
    return Shots(tmp_path / "fewshot")


def ask(text, name="p"):
    return Example(name, (Message("user", text),))


def ids(found):
    return [one.id for one in found]


@pytest.mark.parametrize("by", ["bm25", "similarity"])
def test_the_most_similar_stand_last(tmp_path, monkeypatch, by):
    monkeypatch.setattr(embedding, "installed", lambda: False)
    assert ids(shots(tmp_path, ENGLISH, by=by).find(ask("where is the refund")))[-1] == "b"
    assert ids(shots(tmp_path / "zh", CHINESE, by=by).find(ask("退款到账了吗")))[-1] == "b"
    assert ids(shots(tmp_path / "zh2", CHINESE, by=by).find(ask("卡丢了")))[-1] == "c"


def test_chinese_is_never_looked_up_with_a_model_that_cannot_read_it(monkeypatch):
    monkeypatch.setattr(embedding, "installed", lambda: True)
    monkeypatch.setattr(embedding, "readable", str.isascii)
    assert best_method(["hello"] * 10) == "minilm" and best_method(["你好"] * 10) == "characters" == best_method([])


def test_embeddings_are_computed_once_and_kept(tmp_path, monkeypatch):
    import numpy as np

    asked = []

    def embed(texts, batch_size=32):
        asked.append(list(texts))
        return np.stack([np.array([float("refund" in text), float("card" in text)], dtype=np.float32) for text in texts])

    monkeypatch.setattr(embedding, "installed", lambda: True)
    monkeypatch.setattr(embedding, "readable", str.isascii)
    monkeypatch.setattr(embedding, "embed", embed)
    monkeypatch.setattr("agentft.engine.retrieval.need", lambda *_: None)
    found = shots(tmp_path, ENGLISH, by="similarity")
    assert set(ids(found.find(ask("refund!")))) == {"b", "e"}
    assert [len(texts) for texts in asked] == [5, 1], "the texts once, the prompt once"


def test_the_prompt_itself_and_what_asks_the_same_is_left_out(tmp_path):
    found = shots(tmp_path, ENGLISH, count=4)
    assert "b" not in ids(found.find(ask("where is  my REFUND?")))
    assert "c" not in ids(found.find(ask("anything", "c")))
    assert len(found.find(ask("where is my refund?"))) == 4


def test_random_ones_are_the_same_for_every_prompt_and_drawn_by_seed(tmp_path):
    one, other = (shots(tmp_path / str(seed), ENGLISH * 1, by="random", seed=seed) for seed in (0, 1))
    assert (
        ids(one.find(ask("x")))
        == ids(one.find(ask("where is the refund")))
        == ids(shots(tmp_path / "z", ENGLISH, by="random").find(ask("y")))
    )
    assert ids(one.find(ask("x"))) != ids(other.find(ask("x")))


def test_as_many_of_each_label(tmp_path):
    found = shots(tmp_path, ENGLISH, count=1, per_label=True).find(ask("my card is lost"))
    assert Counter(one.meta["label"] for one in found) == {"pin": 1, "refund": 1, "lost": 1} and found[-1].meta["label"] == "lost"


def test_examples_are_turns_behind_an_own_system_message_and_the_least_similar_give_way(tmp_path):
    found = shots(tmp_path, ENGLISH)
    prompt = Example("p", (Message("system", "be kind"), Message("user", "where is the refund")))
    whole = found.before(prompt, lambda _: True)
    assert [m.role for m in whole.messages] == ["system", "user", "assistant", "user", "assistant", "user"]
    assert [m.content for m in whole.messages if m.role == "system"] == ["be kind"]
    assert whole.messages[3].content == "Where is my refund?" and not any(m.supervised for m in whole.messages)
    tight = found.before(prompt, lambda one: len(one.messages) <= 4)
    assert [m.content for m in tight.messages][1] == "Where is my refund?"
    assert found.before(prompt, lambda one: len(one.messages) <= 2) == prompt
    assert found.account == {"prompts": 3, "examples": 3, "too long": 3}


def test_an_agent_shows_them_when_it_answers_scores_and_chooses(tmp_path, tiny_ref, cpu):
    write(tmp_path / "fewshot", ENGLISH, count=2, by="bm25", per_label=False, seed=0)
    plain = LoadedAgent.load(tiny_ref, system="Be brief.", profile=cpu)
    shown = LoadedAgent.load(tiny_ref, system="Be brief.", profile=cpu, examples=tmp_path / "fewshot")
    prompt = replace(ask("Where is the refund"), meta={"choices": ["yes", "no", "maybe"]})
    by_hand = shown.shots.before(prompt, lambda _: True)
    settings_ = GenerationSettings(max_new_tokens=8)
    for one in (prompt, replace(prompt, meta={})):
        assert shown.generate([one], settings_) == plain.generate([replace(by_hand, meta=one.meta)], settings_)
    assert shown.choice_scores([prompt])[0] == pytest.approx(plain.choice_scores([by_hand])[0])
    answer = Message("assistant", "Here.")
    scored, expected = (
        agent.logprobs([replace(one, messages=(*one.messages, answer))])[0] for agent, one in ((shown, prompt), (plain, by_hand))
    )
    assert scored == pytest.approx(expected) and scored != pytest.approx(
        plain.logprobs([replace(prompt, messages=(*prompt.messages, answer))])[0]
    )


def test_a_context_that_is_full_leaves_examples_out_instead_of_failing(tmp_path, tiny_ref, cpu):
    long = [talk(str(n), f"question {n} " + "x" * 150) for n in range(6)]
    write(tmp_path / "fewshot", long, count=6, by="random", per_label=False, seed=0)
    agent = LoadedAgent.load(tiny_ref, system="", profile=cpu, examples=tmp_path / "fewshot")
    (response,) = agent.generate([ask("hi")], GenerationSettings(max_new_tokens=8))
    assert response.finish != "error" and agent.shots.account == {"prompts": 1, "examples": 2, "too long": 4}


def test_the_trainer_needs_conversations_with_answers(tmp_path, tiny_ref):
    catalog = Host(allow=()).catalog
    entry = catalog.get("trainer", "few-shot")
    config = catalog.config_model(entry).model_validate({})
    job = TrainJob(model=tiny_ref, rows=tmp_path / "rows", out=tmp_path / "out", config=config, seed=0, pad_token_id=0)
    with pytest.raises(TrainingError, match="stage of `train:`"):
        catalog.target(entry)(job)
    (tmp_path / "train.jsonl").write_text('{"id": "a", "messages": [{"role": "user", "content": "hi"}]}\n', "utf-8")
    with pytest.raises(TrainingError, match="ends with an answer"):
        catalog.target(entry)(replace(job, examples=tmp_path / "train.jsonl"))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text(max_size=20), min_size=1, max_size=8), st.text(max_size=20), st.sampled_from(["bm25", "characters"]))
def test_any_texts_can_be_searched(texts, query, method):
    import numpy as np

    scores = Index(texts, method).scores(query)
    assert scores.shape == (len(texts),) and np.isfinite(scores).all()


def test_bm25_by_hand():
    import math

    texts = ["refund late", "card late late", "card"]
    rare, length = math.log(1 + 2.5 / 1.5), 2
    expected = rare * 1 * 2.5 / (1 + 1.5 * (0.25 + 0.75 * length / 2))
    assert Index(texts, "bm25").scores("Refund?").tolist() == pytest.approx([expected, 0, 0])
    assert terms("退款OK") == ["退", "款", "ok", "退款"]


def test_banking77_neighbours_have_the_same_label_far_more_often_than_chance(shared_data):
    import csv

    with (shared_data / "banking77" / "train.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))[::8]
    index = Index([row["text"] for row in rows[::2]], "characters")
    asked = rows[1::20]
    hits = sum(rows[::2][int(index.scores(row["text"]).argmax())]["category"] == row["category"] for row in asked)
    assert hits / len(asked) > 0.4, "chance is about 0.013"
