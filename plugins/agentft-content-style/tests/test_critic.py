"""The critic ``facts``: names and numbers kept, none invented."""

from __future__ import annotations

from agentft_content_style.critic import facts

from agentft.contracts import CriticContext
from agentft.records import Example, Message, Response

SOURCE = "We are thrilled that the museum in Wexley moves on 11 April, says Alma Reid!"


def judged(persona, answer: str, source: str = SOURCE):
    prompt = Example("p", (Message("user", f"Rewrite: {source}"),), meta={"source": source})
    (found,) = facts([prompt], [Response("p#1", answer)], None, CriticContext(persona, persona.language))
    return {verdict.item: (verdict.verdict, verdict.severity) for verdict in found.verdicts}, found.critique


def test_what_is_lost_and_what_is_added(personas):
    newsroom = personas["newsroom"]
    assert judged(newsroom, "The museum in Wexley moves on 11 April, Alma Reid said.")[0] == {
        "nothing-invented": ("pass", "hard"),
        "facts-kept": ("pass", "soft"),
    }
    verdicts, words = judged(newsroom, "The museum in Dunmore moves on 11 April with 300 guests.")
    assert verdicts["nothing-invented"][0] == verdicts["facts-kept"][0] == "fail"
    assert "Wexley" in words and "Dunmore" in words and "300" in words


def test_a_source_without_facts_has_nothing_to_keep(personas):
    assert "facts-kept" not in judged(personas["newsroom"], "It moves.", "it is moving soon, hooray")[0]


def test_chinese(personas):
    assert judged(personas["newsroom-zh"], "博物馆5月搬迁。", "博物馆4月11日搬迁，太棒了！")[0]["facts-kept"][0] == "fail"
