"""Raw texts as rows: nothing is lost, every token is learned once, masks are drawn as they are meant to be."""

from __future__ import annotations

import json
from collections import Counter
from random import Random
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import tiny_encoder, tiny_seq2seq, tiny_tokenizer

from agentft.contracts import RowsJob
from agentft.engine.models import load_tokenizer
from agentft.engine.texts import windows
from agentft.errors import DataError
from agentft.labelled import Labelled
from agentft.records import Example, Message
from agentft.render.masking import masked
from agentft.render.texts import Report, TextEncoder, clm_rows, masked_rows, mlm_rows, seq2seq_rows

TOKENIZER = tiny_tokenizer()
END = TOKENIZER.eos_token_id
TEXTS = st.lists(st.text(alphabet="ab 退款。<|im_end|>\n", min_size=1, max_size=60).filter(str.strip), min_size=1, max_size=6)


def rows_for(tmp_path, render, records, tokenizer=TOKENIZER, family="causal", size=64, **options):
    source = tmp_path / "in.jsonl"
    source.write_text("".join(json.dumps(row.to_dict()) + "\n" for row in records), "utf-8")
    job = RowsJob(source, source, tmp_path, tokenizer, SimpleNamespace(**options), size, family == "causal", family=family)
    summary = render(job)
    return [json.loads(line) for line in (tmp_path / "train.jsonl").read_text("utf-8").splitlines()], summary


@given(texts=TEXTS, block=st.integers(8, 40), pack=st.booleans())
@settings(max_examples=60, deadline=None)
def test_every_token_of_every_document_is_learned_once(texts, block, pack, tmp_path_factory):
    records = [Labelled(f"d{n}", {"text": text}) for n, text in enumerate(texts)]
    rows, summary = rows_for(tmp_path_factory.mktemp("rows"), clm_rows, records, block=block, pack=pack)
    encoder = TextEncoder(TOKENIZER)
    documents = [encoder.ids(text) for text in texts]
    learned = [label for row in rows for label in row["labels"] if label != -100]
    assert learned == [token for one in documents for token in [*one, END]]
    assert all(1 < len(row["input_ids"]) <= block for row in rows) and all(END not in one for one in documents)
    assert all(label in (-100, token) for row in rows for token, label in zip(row["input_ids"], row["labels"], strict=True))
    assert summary["train"]["supervised_tokens"] == len(learned) and summary["train"]["rows_in"] == len(texts)
    assert len({row["id"] for row in rows}) == len(rows)
    if not pack:  # no row knows two documents
        assert all(END not in row["input_ids"][1:-1] for row in rows)


@given(length=st.integers(1, 200), size=st.integers(2, 50))
def test_windows_score_every_token_once_behind_half_a_window(length, size):
    ids = list(range(length))
    found = windows(ids, size)
    assert [label for _, labels in found for label in labels if label != -100] == ids[1:]
    for number, (piece, labels) in enumerate(found):
        assert len(piece) <= size and labels[0] == -100
        assert number == 0 or labels[: size - size // 2].count(-100) == min(size - size // 2, len(labels))


def test_a_mix_of_records_gives_texts_here_and_conversations_there(tmp_path):
    talk = Example(
        "c",
        (
            Message("system", "be kind"),
            Message("user", "hi"),
            Message("assistant", "yes"),
            Message("user", "why"),
            Message("assistant", "so"),
        ),
    )
    records = [Labelled("t", {"text": "a note"}), talk, Labelled("l", {"text": "b"}, "class")]
    rows, _ = rows_for(tmp_path, clm_rows, records, block=64, pack=False)
    assert [row["id"] for row in rows] == ["t", "l"]
    tokenizer = load_tokenizer(tiny_seq2seq(tmp_path / "t5"))
    rows, summary = rows_for(tmp_path, seq2seq_rows, records, tokenizer, "seq2seq", prefix="do: ", max_target=8)
    said = [[tokenizer.decode(row[side]) for side in ("input_ids", "labels")] for row in rows]
    assert said == [["do: be kind\nhi</s>", "yes</s>"], ["do: be kind\nhi\nyes\nwhy</s>", "so</s>"]]
    rows, summary = rows_for(tmp_path, seq2seq_rows, records, tokenizer, "seq2seq", size=12, prefix="do: ", max_target=4)
    assert tokenizer.decode(rows[1]["input_ids"]) == "do: yes\nwhy</s>", "the oldest part is cut, the prefix and the question stay"
    assert tokenizer.decode(rows[0]["labels"]) == "yes</s>" and summary["train"]["truncated"] == 2
    with pytest.raises(DataError, match="there is no text for 'clm'"):
        rows_for(tmp_path, clm_rows, [talk], block=64, pack=True)
    with pytest.raises(DataError, match="there is no answer for 'seq2seq'"):
        rows_for(tmp_path, seq2seq_rows, records[:1], tokenizer, "seq2seq", prefix="", max_target=8)
    heavy = Example("heavy", (Message("user", "hi"), Message("assistant", "yes", train=0.5)))
    with pytest.raises(DataError, match="heavy: a message has a weight .* 'seq2seq' does not know"):
        rows_for(tmp_path, seq2seq_rows, [heavy], tokenizer, "seq2seq", prefix="", max_target=8)


def test_masked_rows_keep_words_and_leave_out_what_is_unknown(tmp_path):
    tokenizer = load_tokenizer(tiny_encoder(tmp_path / "bert"))
    texts = [Labelled("a", {"text": "my card [MASK] is 退款"}), Labelled("b", {"text": "漢漢"}), Labelled("c", {"text": "cards " * 20})]
    rows, summary = rows_for(tmp_path, mlm_rows, texts, tokenizer, "encoder", size=32, max_length=None, whole_words=True)
    first = rows[0]
    assert first["input_ids"].count(tokenizer.mask_token_id) == 0, "a typed mask is text"
    words = [first["words"][place] for place in range(len(first["words"]))]
    assert words[0] == words[-1] == -1
    assert Counter(words)[0] == 2 and Counter(words)[1] == 4, "my, card"
    assert len({first["words"][-2], first["words"][-3]}) == 2, "a Chinese character is a word"
    assert summary["train"]["drops"] == {"nothing that can be masked": 1}
    assert {row["of"] for row in rows} == {"a", "c"} and all(len(row["input_ids"]) <= 32 for row in rows)
    apart = next(masked_rows(TextEncoder(tokenizer), texts[:1], 32, False, Report()))["words"]
    known = [word for word in apart if word >= 0]
    assert len(set(known)) == len(known)
    with pytest.raises(DataError, match="no mask token"):
        rows_for(tmp_path, mlm_rows, texts, TOKENIZER, "", max_length=None, whole_words=False)


@given(words=st.lists(st.integers(-1, 8), min_size=1, max_size=40), share=st.floats(0.05, 0.9), seed=st.integers(0, 99))
def test_masking_chooses_the_share_whole_words_together(words, share, seed):
    ids = list(range(100, 100 + len(words)))
    if max(words) < 0:
        with pytest.raises(DataError):
            masked(ids, words, Random(seed), share=share, mask_id=4, vocabulary=[7])
        return
    hidden, labels = masked(ids, words, Random(seed), share=share, mask_id=4, vocabulary=[7])
    assert (hidden, labels) == masked(ids, words, Random(seed), share=share, mask_id=4, vocabulary=[7])
    chosen = [place for place, label in enumerate(labels) if label != -100]
    maskable = sum(word >= 0 for word in words)
    assert 1 <= len(chosen) <= max(1, round(share * maskable)) and all(words[place] >= 0 for place in chosen)
    for place, token in enumerate(ids):
        assert hidden[place] in ((token, 4, 7) if place in chosen else (token,)) and labels[place] in (-100, token)
    if len(chosen) > 1:
        assert all((labels[place] != -100) == (word in {words[one] for one in chosen}) for place, word in enumerate(words))


def test_of_the_chosen_tokens_80_10_10():
    ids, draw = list(range(100, 1100)), Random(1)
    kinds: Counter[str] = Counter()
    for _ in range(20):
        hidden, labels = masked(ids, range(1000), draw, share=0.15, mask_id=4, vocabulary=[7])
        chosen = [place for place, label in enumerate(labels) if label != -100]
        assert len(chosen) == 150
        kinds.update({4: "mask", 7: "random"}.get(hidden[place], "kept") for place in chosen)
    assert abs(kinds["mask"] / 3000 - 0.8) < 0.03 and abs(kinds["random"] / 3000 - 0.1) < 0.02 and abs(kinds["kept"] / 3000 - 0.1) < 0.02
