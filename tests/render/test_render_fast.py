"""The short ways of the renderer give what the long ways give, for every family of chat templates."""

from __future__ import annotations

import json
from itertools import islice

import pytest
from chat_families import FAMILIES, talk, tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st

from agentft.contracts import DataContext
from agentft.errors import DataError
from agentft.render.conversation import Renderer
from agentft.render.rows import Numbers, read_rows, render_rows
from agentft.render.template import ChatTemplate

SYSTEM = "You are the support agent of a shop. 您好\n\nBe brief."
TEXTS = ["Where is it?", " 您的包裹在哪里？ ", "a\n\n\n- b\n", "<|im_end|> [INST] </s>", "{{ messages }}", "é\u200d  x\t", "1234567"]
NAMES = sorted(FAMILIES)


@pytest.fixture(scope="module", params=NAMES)
def renderer(request):
    return Renderer(tokenizer(request.param), SYSTEM)


def long_way(renderer: Renderer) -> Renderer:
    """The same renderer with every text through transformers' own calls and nothing tokenised ahead."""
    slow = Renderer(renderer.tokenizer, SYSTEM)
    slow.template.__dict__["_compiled"] = None
    slow._pieces._fast = None
    slow._pieces._prefix = ""
    return slow


def test_compiled_template_is_used(renderer):
    assert renderer.template._compiled is not None and renderer._pieces._fast is not None


def test_every_row_and_prompt_is_that_of_the_long_way(renderer):
    slow = long_way(renderer)
    for first, text in enumerate(TEXTS):
        other = TEXTS[(first + 3) % len(TEXTS)]
        for example in (talk(text, other), talk(text, other, other, text), talk(text), talk(text, text, text)):
            for way in ("training", "prompt"):
                answers = []
                for one in (renderer, slow):
                    try:
                        answers.append(getattr(one, way)(example))
                    except DataError as error:
                        answers.append(str(error))
                assert answers[0] == answers[1], (way, example)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.text(max_size=30), min_size=1, max_size=5), max_size=9), st.integers(1, 4))
def test_a_stream_is_the_same_as_one_by_one(talks, batch):
    renderer = Renderer(tokenizer("qwen2_5"), SYSTEM)
    examples = [talk(*texts, id=str(number)) for number, texts in enumerate(talks)]
    found = list(renderer.training_stream(examples, batch))
    assert [example for example, _ in found] == examples
    for example, rows in found:
        try:
            expected = renderer.training(example)
        except DataError as error:
            assert str(rows) == str(error)
        else:
            assert rows == expected


def test_stream_reads_two_batches_ahead_at_most():
    renderer, taken = Renderer(tokenizer("llama3"), SYSTEM), []

    def endless():
        while True:
            taken.append(1)
            yield talk("Hello", "Hi")

    stream = renderer.training_stream(endless(), 4)
    for _ in range(10):
        next(stream)
    stream.close()
    assert len(taken) <= 10 + 2 * 4


@given(st.lists(st.integers(-100, 200_000)), st.lists(st.integers(-100, 200_000), max_size=9))
def test_numbers_are_written_as_json_writes_them(numbers, start):
    for values in (numbers, start + numbers, start):
        assert Numbers(start)(values) == json.dumps(values, separators=(",", ":"))


def test_another_template_is_never_rendered_with_the_first_ones_variables():
    one = ChatTemplate(tokenizer("smollm2"))
    source = "{{ bos_token }}{% for m in messages %}{{ m.content }}<|im_end|>{% endfor %}{{ extra }}"
    other = ChatTemplate(tokenizer("smollm2"), source, {"extra": ""})
    chat = [{"role": "user", "content": "x"}]
    assert other.render(chat) == other.bos + other._by_transformers(chat, None, False) != one.render(chat)


def test_real_conversations_give_the_rows_of_the_long_way(shared_data, tmp_path):
    from agentft.data.chats import ChatsConfig, read_chats

    path = shared_data / "llamafactory_demo" / "glaive_toolcall_zh_demo.json"
    examples = list(islice(read_chats(ChatsConfig(path=str(path)), DataContext(base=path.parent)), 100))
    for name in ("qwen2_5", "llama3_1"):
        renderer = Renderer(tokenizer(name), SYSTEM)
        for file, one in (("fast", renderer), ("slow", long_way(renderer))):
            render_rows(one, examples, tmp_path / file, max_length=100_000, overflow="drop", ctx=DataContext(), max_dropped=1.0)
        assert list(read_rows(tmp_path / "fast")) == list(read_rows(tmp_path / "slow")) != []
