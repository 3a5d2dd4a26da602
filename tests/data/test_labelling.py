"""The transform ``label``: conversations as labelled rows."""

from __future__ import annotations

import pytest

from agentft.contracts import DataContext
from agentft.data.labelling import LabelConfig, label
from agentft.labelled import Labelled
from agentft.records import Example, Message

TALK = Example(
    "a",
    (Message("user", "你好"), Message("assistant", "Hello."), Message("user", "My card is lost."), Message("assistant", "I block it.")),
    group="g",
    meta={"intent": "lost-card", "score": 0.5},
)


@pytest.mark.parametrize(
    ("which", "text"),
    [
        ("last_user", "My card is lost."),
        ("first_user", "你好"),
        ("user", "你好\nMy card is lost."),
        ("all", "你好\nHello.\nMy card is lost.\nI block it."),
    ],
)
def test_what_is_recognised_is_chosen(which, text):
    found = list(label([TALK], LabelConfig(by="intent", text=which), DataContext()))
    assert found == [Labelled("a", {"text": text}, "lost-card", "g", TALK.meta)]


def test_rows_without_the_key_or_text_are_counted_and_labelled_rows_pass():
    ctx = DataContext()
    bare = Example("b", (Message("user", "Hi"),))
    silent = Example("c", (Message("assistant", "Hi"),), meta={"intent": "x"})
    done = Labelled("d", {"text": "x"}, "y")
    assert list(label([bare, silent, done, TALK], LabelConfig(by="intent"), ctx)) == [
        done,
        Labelled("a", {"text": "My card is lost."}, "lost-card", "g", TALK.meta),
    ]
    assert ctx.drops == {"no meta 'intent'": 1, "no text to recognise anything in": 1}
    assert next(label([TALK], LabelConfig(by="score"), ctx)).label == 0.5
