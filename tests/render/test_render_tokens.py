"""Tokens at the place where a prompt ends: nothing that the model writes may merge with what it has read."""

from __future__ import annotations

from itertools import chain
from typing import Any

import pytest
from chat_families import FAMILIES, talk, tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st

from agentft.render import Renderer
from agentft.render.tokens import PieceTokenizer


def metaspace_tokenizer() -> Any:
    """A small sentencepiece-like tokenizer with Mistral's control tokens: it marks words with a space before them."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    family = FAMILIES["mistral"]
    backend = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    corpus = ["Where is my parcel? It is on its way. Hello, how are you today? one two three"] * 5
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    backend.train_from_iterator(corpus, trainers.BpeTrainer(vocab_size=400, special_tokens=bytes_, show_progress=False))
    backend.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in family.special.split()])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>", pad_token="</s>", chat_template=family.source
    )


def gpt2_like_tokenizer() -> Any:
    """Llama 3's template on GPT-2's pattern, which splits a double line break once a word follows it."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    family = FAMILIES["llama3"]
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    corpus = ["\n\n \n\n\n Where? Here.", "\n\n"] * 20
    backend.train_from_iterator(corpus, trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, show_progress=False))
    backend.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in family.special.split()])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token=family.bos, eos_token=family.eos, pad_token=family.eos, chat_template=family.source
    )


@pytest.mark.parametrize("answer", ["\nNo.", "\n\n- one", "No.", " No."])
def test_an_answer_that_begins_with_a_line_break(answer: str) -> None:
    renderer = Renderer(tokenizer("smollm2"))
    example = talk("Is it there?", answer, "Sure?", answer)
    row = renderer.training(example)[0]
    whole = renderer.tokenizer(row.text, add_special_tokens=False)["input_ids"]
    assert (row.input_ids == whole) == (not answer.startswith("\n"))  # the joint tokens would merge "\n" and "\n"
    for turns in (1, 3):
        prompt = renderer.prompt(talk(*[message.content for message in example.messages[:turns]]))
        assert row.input_ids[: len(prompt.input_ids)] == prompt.input_ids
    assert renderer.tokenizer.decode([label for label in row.labels if label != -100]) == f"{answer}<|im_end|>" * 2


def test_a_prompt_whose_last_tokens_depend_on_what_follows() -> None:
    tok = gpt2_like_tokenizer()
    renderer = Renderer(tok)
    example = talk("Where?", "Here.", "Where?", "Here.")
    row = renderer.training(example)[0]
    assert row.input_ids != tok(row.text, add_special_tokens=False)["input_ids"]
    for turns in (1, 3):
        prompt = renderer.prompt(talk(*[message.content for message in example.messages[:turns]]))
        assert prompt.input_ids == row.input_ids[: len(prompt.input_ids)]
    assert renderer.prompt(talk("Where?")).input_ids == tok(renderer.prompt(talk("Where?")).text, add_special_tokens=False)["input_ids"]
    assert any("in one piece" in fact for fact in renderer.check())


def test_a_tokenizer_that_marks_the_beginning_of_a_text() -> None:
    tok = metaspace_tokenizer()
    renderer = Renderer(tok, "You are Ada.")
    row = renderer.training(talk("Hello, how are you?", "It is on its way.", "Where?", "one two"))[0]
    assert row.input_ids == tok(row.text, add_special_tokens=False)["input_ids"]
    assert [row.text[start:end] for start, end in row.spans] == [" It is on its way.</s>", " one two</s>"]
    renderer.check()


@settings(max_examples=60, deadline=None)
@given(
    parts=st.lists(st.sampled_from(["<|im_start|>", "<|im_end|>", "\n", "\n\n", " ", "a", "ab ", "包", "user\n"]), max_size=14),
    data=st.data(),
)
def test_pieces_behind_an_anchor_are_the_tokens_of_the_whole(parts: list[str], data: st.DataObject) -> None:
    """Cut behind an added token, where nothing can merge, the pieces are those of the whole text."""
    tok, text = tokenizer("smollm2"), "".join(parts)
    ends = [sum(len(part) for part in parts[: place + 1]) for place, part in enumerate(parts) if part.startswith("<|")]
    cuts = sorted(data.draw(st.sets(st.sampled_from([end for end in ends if 0 < end < len(text)] or [None]), max_size=4)) - {None})
    prefix = data.draw(st.sampled_from(["", *[text[: end - len("<|im_start|>")] for end in ends if text[:end].endswith("<|im_start|>")]]))
    pieces = PieceTokenizer(tok, ["<|im_start|>", "<|im_end|>"], prefix).encode([(text, cuts)])[0]
    assert len(pieces) == len(cuts) + 1
    assert [*chain.from_iterable(pieces)] == tok(text, add_special_tokens=False)["input_ids"]
    for place, cut in enumerate(cuts):
        assert [*chain.from_iterable(pieces[: place + 1])] == tok(text[:cut], add_special_tokens=False)["input_ids"]


def test_a_cut_inside_the_shared_prefix() -> None:
    tok, text = tokenizer("smollm2"), "<|im_start|>a<|im_end|>b<|im_start|>c"
    pieces = PieceTokenizer(tok, ["<|im_start|>", "<|im_end|>"], "<|im_start|>a<|im_end|>b").encode(
        [(text, [13]), (text, [24]), (text, [])]
    )
    assert [[tok.decode(piece) for piece in found] for found in pieces] == [
        ["<|im_start|>a", "<|im_end|>b<|im_start|>c"],
        ["<|im_start|>a<|im_end|>b", "<|im_start|>c"],
        [text],
    ]


def test_the_persona_is_tokenised_once() -> None:
    calls: list[str] = []
    tok = tokenizer("smollm2")

    class Counting:
        def __getattr__(self, name: str) -> Any:
            return getattr(tok, name)

        def __call__(self, texts: str | list[str], **options: Any) -> Any:
            calls.extend([texts] if isinstance(texts, str) else texts)
            return tok(texts, **options)

    renderer = Renderer(Counting(), "You are Ada. " * 20)
    calls.clear()
    rows = renderer.training_many([talk(f"Question {number}?", "Answer.") for number in range(5)])
    assert not any("You are Ada." in text for text in calls)
    assert all(tok(row.text, add_special_tokens=False)["input_ids"] == row.input_ids for found in rows for row in found)  # type: ignore[union-attr]
