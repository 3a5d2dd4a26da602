"""The pieces of an answer make up the answer, wherever its tokens, stops and calls begin and end."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentft.records import Example, Message
from agentft.render.conversation import Renderer
from agentft.serve.speech import Speech

_held: list = []


def renderer():
    if not _held:
        from tiny import tiny_tokenizer

        _held.append(Renderer(tiny_tokenizer(), "You are a clerk."))
    return _held[0]


def tokens(data: bytes) -> list[int]:
    """Bytes are the tokens of the tiny model, so a character of three bytes is three tokens."""
    return renderer().tokenizer(data.decode(), add_special_tokens=False).input_ids


def pieces(speech: Speech, ids: list[int]) -> list[str]:
    found = []
    for token in ids:
        found.append(speech.push([token]))
        if speech.stopped or token in renderer().stop_token_ids:  # a row ends there
            break
    ended = bool(speech.ids) and speech.ids[-1] in renderer().stop_token_ids
    rest, response = speech.response("x", ended, 3)
    return [*found, rest, response]


PROMPT = Example("x", (Message("user", "hi"),))


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.integers(0, 258), max_size=40),
    st.lists(st.text(min_size=1, max_size=3).filter(lambda stop: stop == stop.rstrip()), max_size=2),
)
def test_any_tokens_any_stops(ids, stops):
    """Wrong bytes and special tokens too."""
    *said, response = pieces(Speech(renderer(), PROMPT, stops), ids)
    whole = renderer().answer(ids)
    cut = min((place for stop in stops if (place := whole.find(stop)) >= 0), default=None)
    if cut is None or "\ufffd" not in whole:
        assert "".join(said) == response.text == (whole if cut is None else whole[:cut])
    else:  # what half a character becomes may depend on what follows
        assert "".join(said) == response.text


@given(st.text(alphabet="ab 您好😀é\n", max_size=30), st.text(alphabet="ab 您", min_size=1, max_size=3))
def test_a_stop_is_found_wherever_its_tokens_begin(text, stop):
    ids = [*tokens(text.encode()), renderer().stop_token_ids[0]]
    *said, response = pieces(Speech(renderer(), PROMPT, [stop]), ids)
    whole = text.lstrip()
    place = whole.find(stop)
    # Nothing is heard behind the stop, and the end of what was heard loses its spaces, as every answer's end does.
    expected = text.strip() if place < 0 else whole[: place + len(stop)].rstrip()[:place]
    assert "".join(said) == response.text == expected
    assert response.finish == "stop"


def test_text_is_said_as_soon_as_it_is_certain():
    speech = Speech(renderer(), PROMPT, ["END"])
    heard = [speech.push([token]) for token in tokens("ab 您 E".encode())]
    assert heard == ["a", "b", "", "", "", " 您", "", ""], "not the half character, the last space, the beginning of a stop"


@pytest.mark.parametrize(
    ("text", "said"), [("Let me see. <tool_call>\n{}</tool_call>", "Let me see."), ('{"name": "f"}', ""), ("a < b", "a < b")]
)
def test_what_may_be_a_call_is_held_back(text, said):
    form = SimpleNamespace(opens="<tool_call>", marks=())
    speaker = SimpleNamespace(
        tokenizer=renderer().tokenizer,
        template=renderer().template,
        stop_token_ids=renderer().stop_token_ids,
        spoken=renderer().spoken,
        form=form,
    )
    speech = Speech(speaker, Example("x", PROMPT.messages, ({"name": "f"},)), [])
    assert "".join(speech.push([token]) for token in tokens(text.encode())).rstrip() == said


def test_a_thought_is_not_said():
    template = SimpleNamespace(scaffold="<think>\n\n</think>\n\n")
    base = renderer()
    speaker = SimpleNamespace(tokenizer=base.tokenizer, template=template, stop_token_ids=base.stop_token_ids, spoken=base.spoken)
    speech = Speech(speaker, PROMPT, [])
    heard = "".join(speech.push([token]) for token in tokens(b"<think>secret</think>\n\nHello"))
    assert heard == "Hello"
