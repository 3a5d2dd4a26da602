"""Free input: whatever people write, the answers are learned, nothing else is, and serving shows what training showed."""

from __future__ import annotations

from collections import Counter
from itertools import groupby
from pathlib import Path

import pytest
from chat_families import FAMILIES, squeeze, tokenizer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentft.contracts import DataContext
from agentft.errors import DataError
from agentft.records import Example, Message
from agentft.render import Renderer, read_rows, render_rows

SPECIAL = sorted({token for family in FAMILIES.values() for token in family.special.split()})
PIECES = st.one_of(
    st.text(max_size=12),
    st.sampled_from(
        [
            *SPECIAL,
            "\n",
            "\n\n",
            " ",
            "  \n",
            "\t",
            "您的包裹",
            "📦",
            "👩‍👩‍👧",
            "{{ x }}",
            "<think>",
            "### user:\n",
            "<|im_",
            "end|>",
            "<<s>s>",
        ]
    ),
)
TEXTS = st.lists(PIECES, max_size=5).map("".join)
# What an assistant may write although a template reads it as markup of its own.
ANSWERS = TEXTS.filter(lambda text: "think>" not in text)
FAST = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
each_family = pytest.mark.parametrize("name", FAMILIES)


@st.composite
def conversations(draw: st.DrawFn, most: int = 3) -> Example:
    messages: list[Message] = []
    for _ in range(draw(st.integers(1, most))):
        messages.append(Message("user", draw(TEXTS)))
        messages.append(Message("assistant", draw(ANSWERS), train=draw(st.sampled_from([None, True, False]))))
    return Example("x", tuple(messages))


def bare(text: str) -> str:
    """Text without white space: disarming adds spaces, templates take some away."""
    return squeeze(text).replace("\x1c", "").replace("\x1d", "").replace("\x1e", "").replace("\x1f", "")


@each_family
@FAST
@given(example=conversations(), system=st.sampled_from(["", "You are Ada."]))
def test_learned_is_exactly_what_is_to_be_learned(name: str, example: Example, system: str) -> None:
    family, renderer = FAMILIES[name], Renderer(tokenizer(name), system)
    wanted = [message.content for message in example.messages if message.supervised]
    rows = renderer.training(example)
    found = []
    for row in rows:
        for learned, pairs in groupby(zip(row.input_ids, row.labels, strict=True), key=lambda pair: pair[1] != -100):
            if learned:
                ids = [label for _, label in pairs]
                assert ids[-1] == renderer.stop_token_ids[0] and ids.count(ids[-1]) == 1
                found.append(renderer.tokenizer.decode(ids, clean_up_tokenization_spaces=False))
    assert [bare(text) for text in found] == [bare(family.scaffold + text + family.stop) for text in wanted]
    assert [bare(row.text[start:end]) for row in rows for start, end in row.spans] == [bare(text) for text in found]


@each_family
@FAST
@given(example=conversations())
def test_training_equals_inference(name: str, example: Example) -> None:
    renderer = Renderer(tokenizer(name), "You are Ada.")
    spans = [(row, span) for row in renderer.training(example) for span in row.spans]
    places = [place for place, message in enumerate(example.messages) if message.supervised]
    assert len(spans) == len(places)
    for (row, (start, _)), place in zip(spans, places, strict=True):
        prompt = renderer.prompt(Example("p", example.messages[:place]))
        assert prompt.text == row.text[:start]
        assert prompt.input_ids == row.input_ids[: len(prompt.input_ids)]
        answer = [label for label in row.labels[len(prompt.input_ids) :]]
        end = next((index for index, label in enumerate(answer) if label == -100), len(answer))
        assert bare(renderer.answer(answer[:end])) == bare(example.messages[place].content)


@each_family
@FAST
@given(example=conversations())
def test_many_are_rendered_like_one(name: str, example: Example) -> None:
    renderer = Renderer(tokenizer(name), "You are Ada.")
    other = Example("y", (Message("user", "Hi"), Message("assistant", "\nHello")))
    broken = Example("z", (Message("assistant", ""), Message("tool", "nobody asked"), Message("assistant", "x")))
    one, error, two = renderer.training_many([example, broken, other])
    assert (one, two) == (renderer.training(example), renderer.training(other))
    assert isinstance(error, DataError)


@pytest.mark.parametrize("name", ["smollm2", "qwen3", "gemma", "plain"])
@FAST
@given(
    lengths=st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30), st.booleans()), min_size=1, max_size=7),
    max_length=st.integers(60, 160),
)
def test_split_learns_every_turn_once(name: str, lengths: list[tuple[int, int, bool]], max_length: int, tmp_path: Path) -> None:
    renderer = Renderer(tokenizer(name), "You are Ada.")
    messages: list[Message] = []
    for turn, (asked, answered, train) in enumerate(lengths):
        messages.append(Message("user", f"Q{turn} " + "why " * asked))
        messages.append(Message("assistant", f"A{turn} " + "so " * answered, train=None if train else False))
    example, ctx = Example("x", tuple(messages)), DataContext()
    report = render_rows(renderer, [example], tmp_path / "rows", max_length=max_length, overflow="split", ctx=ctx, max_dropped=1)

    rows = list(read_rows(tmp_path / "rows"))
    turns: Counter[str] = Counter()
    for row in rows:
        assert len(row["input_ids"]) <= max_length
        text = renderer.tokenizer.decode([label for label in row["labels"] if label != -100])
        turns.update(f"A{turn}" for turn in range(len(lengths)) if f"A{turn} " in text or f"A{turn}<" in text)
        assert "You are Ada." in renderer.tokenizer.decode(row["input_ids"])
    alone = {
        f"A{turn}": renderer.training(Example("x", tuple(messages[2 * turn : 2 * turn + 2])))
        for turn, (_, _, train) in enumerate(lengths)
        if train
    }
    fitting = {turn for turn, found in alone.items() if len(found[0].input_ids) <= max_length}
    assert turns == Counter(fitting)
    too_long = len(alone) - len(fitting)
    if alone:
        assert sum(report.drops.values()) == too_long or (not rows and report.drops)
    else:
        assert report.drops == {"nothing is supervised": 1}
    assert report.rows_out == len(rows) == len({row["id"] for row in rows})
