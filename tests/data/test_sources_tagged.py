"""The sources ``conll``, ``spans`` and ``tmx``: what is in their files, and what is said about what does not fit."""

from __future__ import annotations

import gzip
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sources import opened, read

from agentft.data.conll import bio2
from agentft.data.tmx import matches
from agentft.errors import DataError

# conll

CONLL = """-DOCSTART- -X- -X- O

# a comment
EU NNP B-NP B-ORG
rejects VBZ B-VP O

#win NN B-NP O
北京 NN B-NP B-LOC

-DOCSTART- -X- -X- O

Peter NNP B-NP B-PER
"""


def test_conll_sentences_documents_and_comments(tmp_path):
    (tmp_path / "a.conll").write_text(CONLL, "utf-8")
    rows, ctx = read("conll", tmp_path, path="*.conll")
    assert [row.inputs["tokens"] for row in rows] == [["EU", "rejects"], ["#win", "北京"], ["Peter"]]
    assert [row.label for row in rows] == [["B-ORG", "O"], ["O", "B-LOC"], ["B-PER"]]
    assert [row.id for row in rows] == ["a-4", "a-7", "a-12"] and [row.group for row in rows] == ["a#1", "a#1", "a#2"]
    assert not ctx.changes
    rows, _ = read("conll", tmp_path, path="a.conll", tag=1, scheme="plain", limit=1)
    assert rows[0].label == ["NNP", "VBZ"]


@pytest.mark.parametrize(
    ("given_", "wanted"),
    [
        ("I-PER I-PER O I-LOC B-LOC", "B-PER I-PER O B-LOC B-LOC"),  # IOB1
        ("B-PER I-PER L-PER U-LOC O", "B-PER I-PER I-PER B-LOC O"),  # BILOU
        ("B-PER E-PER S-LOC S-LOC", "B-PER I-PER B-LOC B-LOC"),  # BIOES
        ("B M E S", "B I I B"),  # BMES: Chinese words
        ("B-PER I-LOC L-PER I-PER", "B-PER B-LOC B-PER B-PER"),  # broken
    ],
)
def test_schemes_become_bio2(given_, wanted):
    assert bio2(given_.split()) == wanted.split()


TAGS = st.lists(st.builds("".join, st.tuples(st.sampled_from("BILUSEM"), st.sampled_from(["-x", "-y", ""]))) | st.just("O"), max_size=8)


@given(TAGS)
def test_bio2_is_valid_stays_as_it_is_and_counts_every_repair(tags):
    counted = []
    result = bio2(tags, lambda what, times: counted.append(times))
    assert len(result) == len(tags) and bio2(result) == result
    for before, after in zip(["O", *result], result, strict=False):
        assert after[0] != "I" or before[1:] == after[1:]
    assert (sum(counted) > 0) == (result != tags)


def test_conll_mistakes_are_named_with_their_line(tmp_path):
    (tmp_path / "a.txt").write_text("a O\nb O\n\nc\nd O\n\ne NN\n\nf B-x\n", "utf-8")
    with pytest.raises(
        DataError, match=r"(?s)a.txt:4: 1 columns, the lines before it have 2.*a.txt:7: the tag 'NN' is none of BIO.*2 rows"
    ):
        read("conll", tmp_path, path="a.txt")
    rows, ctx = read("conll", tmp_path, path="a.txt", on_bad="skip")
    assert [row.inputs["tokens"] for row in rows] == [["a", "b"], ["f"]] and ctx.drops == {"row cannot be used": 2}
    with pytest.raises(DataError, match="a.txt:1: no column 3, the line has 2"):
        read("conll", tmp_path, path="a.txt", tag=3)


def test_conll_separator_and_repairs_are_counted(tmp_path):
    with gzip.open(tmp_path / "a.tsv.gz", "wt", encoding="utf-8") as stream:
        stream.write("New York\tI-loc\nis\tO\n#\tO\n")
    (row,), ctx = read("conll", tmp_path, path="a.tsv.gz", separator="\t")
    assert row.inputs["tokens"] == ["New York", "is", "#"] and row.label[0] == "B-loc"
    assert ctx.changes == {"I- at the beginning of an entity made B-": 1}


@pytest.mark.parametrize(("name", "sentences", "tokens"), [("train", 3394, 62730), ("dev", 1009, 15733), ("test", 1287, 23394)])
def test_wnut17(shared_data, name, sentences, tokens):
    rows, ctx = read("conll", shared_data, path=f"wnut17/{name}.conll")
    assert len(rows) == sentences and sum(len(row.label) for row in rows) == tokens and not ctx.changes and not ctx.drops


# spans

CONTEXT = "北京是首都。Paris is one too."
SQUAD = {
    "version": "v2.0",
    "data": [
        {
            "title": "Capitals",
            "paragraphs": [
                {
                    "context": CONTEXT,
                    "qas": [
                        {
                            "id": "q1",
                            "question": "哪个城市？",
                            "answers": [{"text": "北京", "answer_start": 0}, {"text": "北京", "answer_start": 0}],
                        },
                        {
                            "id": "q2",
                            "question": "And?",
                            "is_impossible": True,
                            "answers": [],
                            "plausible_answers": [{"text": "Paris", "answer_start": 6}],
                        },
                        {
                            "id": "q3",
                            "question": "Which?",
                            "answers": [{"text": "Paris ", "answer_start": 6}, {"text": "one", "answer_start": 15}],
                        },
                    ],
                }
            ],
        }
    ],
}


def test_squad_and_its_flat_form_give_the_same_spans(tmp_path):
    (tmp_path / "squad.json").write_text(json.dumps(SQUAD), "utf-8")
    asked = SQUAD["data"][0]["paragraphs"][0]["qas"]
    answers = [
        {"text": [one["text"] for one in qa["answers"]], "answer_start": [one["answer_start"] for one in qa["answers"]]} for qa in asked
    ]
    flat = [{"id": qa["id"], "question": qa["question"], "context": CONTEXT, "answers": a} for qa, a in zip(asked, answers, strict=True)]
    (tmp_path / "flat.json").write_text(json.dumps(flat), "utf-8")
    with gzip.open(tmp_path / "flat.jsonl.gz", "wt", encoding="utf-8") as stream:
        stream.write("\n".join(json.dumps(row) for row in flat))
    rows, ctx = read("spans", tmp_path, path="squad.json")
    assert [row.label for row in rows] == [
        [{"text": "北京", "start": 0}],
        [],
        [{"text": "Paris", "start": 6}, {"text": "one", "start": 15}],
    ]
    assert {row.group for row in rows} == {"Capitals"} and ctx.changes == {"blanks around a span left out": 1}
    for name in ("flat.json", "flat.jsonl.gz"):
        others, _ = read("spans", tmp_path, path=name)
        assert [(row.id, row.inputs, row.label) for row in others] == [(row.id, row.inputs, row.label) for row in rows]
        assert len({row.group for row in others}) == 1


TALK = [
    {"userInput": {"text": "7pm for two"}, "context": {"requestedSlots": ["people", "date"]}, "labels": [
        {"slot": "time", "valueSpan": {"endIndex": 3}}, {"slot": "people", "valueSpan": {"startIndex": 8, "endIndex": 11}}]},
    {"userInput": {"text": "Hello"}},
]  # fmt: skip


@pytest.mark.parametrize(
    ("negatives", "wanted", "dropped"),
    [
        ("none", [("time", "7pm"), ("people", "two")], 1),
        ("requested", [("time", "7pm"), ("people", "two"), ("date", "")], 1),
        (
            "all",
            [("time", "7pm"), ("people", "two"), ("date", ""), ("name", ""), ("date", ""), ("name", ""), ("people", ""), ("time", "")],
            0,
        ),
    ],
)
def test_slots_are_questions(tmp_path, negatives, wanted, dropped):
    (tmp_path / "talk.json").write_text(json.dumps(TALK), "utf-8")
    rows, ctx = read("spans", tmp_path, path="talk.json", negatives=negatives, questions={"people": "How many?", "name": "Who?"})
    assert [(row.meta["slot"], row.label[0]["text"] if row.label else "") for row in rows] == wanted
    assert [row.inputs["question"] for row in rows if row.meta["slot"] in ("people", "time")][:2] == ["time", "How many?"]
    assert rows[0].id == "talk-1.time" and {row.group for row in rows} <= {"talk-1", "talk-2"} and ctx.drops.total() == dropped
    assert [row.meta["requested"] for row in rows[:2]] == [False, True]


BAD = [
    (
        {"question": "q", "context": "abc", "answers": {"text": ["b"], "answer_start": [0]}},
        "a.jsonl:2: the span 'b' does not stand at character 0",
    ),
    ({"question": "q", "context": "abc", "answers": {"text": ["b"], "answer_start": []}}, "a.jsonl:2: 'answers' has 1 texts and 0 starts"),
    ({"question": "q", "context": "abc"}, "a.jsonl:2: 'answers' is missing"),
    (
        {"userInput": {"text": "ab"}, "labels": [{"slot": "x", "valueSpan": {"endIndex": 9}}]},
        "a.jsonl:2: the span of 'x' (0 to 9) does not lie",
    ),
    ({"userInput": {"text": "ab"}, "labels": [{"slot": "x", "valueSpan": {}}]}, "a.jsonl:2: 'endIndex' is missing"),
    ({"paragraphs": [{"context": "c", "qas": [{"question": "q"}]}]}, "a.jsonl:2.1.1: 'answers' is missing"),
    ({"paragraphs": [{"qas": []}]}, "a.jsonl:2.1: 'context' is missing"),
    ({"text": "x"}, "a.jsonl:2: neither SQuAD, nor question with context, nor slots in the keys text"),
    ([1], "a.jsonl:2: a row must be an object, not list"),
]


@pytest.mark.parametrize(("row", "problem"), BAD)
def test_spans_that_do_not_fit_are_named_or_counted(tmp_path, row, problem):
    good = {"question": "q", "context": "abc", "answers": {"text": ["b"], "answer_start": [1]}}
    (tmp_path / "a.jsonl").write_text(f"{json.dumps(good)}\n{json.dumps(row)}\n", "utf-8")
    with pytest.raises(DataError) as error:
        read("spans", tmp_path, path="a.jsonl")
    assert problem in str(error.value)
    rows, ctx = read("spans", tmp_path, path="a.jsonl", on_bad="skip")
    assert len(rows) == 1 and ctx.drops == {"row cannot be used": 1}


KEYS = ["text", "answer_start", "slot", "valueSpan", "endIndex", "startIndex", "context", "qas", "question", "answers"]
ANY = st.recursive(
    st.none() | st.integers(-3, 9) | st.text("ab", max_size=3),
    lambda one: st.lists(one, max_size=2) | st.dictionaries(st.sampled_from(KEYS), one, max_size=4),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["question", "context", "answers", "userInput", "labels", "paragraphs", "title", "id"]), ANY))
def test_any_row_gives_spans_that_stand_in_their_context_or_a_counted_problem(tmp_path_factory, row):
    folder = tmp_path_factory.getbasetemp()
    (folder / "any.jsonl").write_text(json.dumps(row), "utf-8")
    for negatives in ("all", "requested"):
        rows, _ = read("spans", folder, path="any.jsonl", on_bad="skip", negatives=negatives)
        for one in rows:
            assert all(one.inputs["context"].startswith(span["text"], span["start"]) for span in one.label)


def test_restaurants(shared_data):
    for name, utterances, spans in (("train_0", 8198, 7635), ("test", 3731, 3477)):
        rows, ctx = read("spans", shared_data, path=f"restaurant8k/{name}.json")
        assert len({row.group for row in rows}) + ctx.drops["no slot is asked for or filled"] == utterances
        assert sum(bool(row.label) for row in rows) == spans and set(ctx.drops) == {"no slot is asked for or filled"}


# tmx

TMX = """<?xml version="1.0" encoding="{encoding}"?>
<!DOCTYPE tmx SYSTEM "tmx14.dtd">
<tmx version="1.4"><header/><body>
<tu tuid="1"><prop type="note">doc a</prop><tuv xml:lang="en-US"><prop type="note">no</prop>
<seg>Press <bpt i="1">&lt;b&gt;</bpt>OK<ept i="1">&lt;/b&gt;</ept> &amp; <hi>wait</hi>.</seg></tuv>
<tuv xml:lang="ZH_cn"><seg>请按“确定”，然后等待。</seg></tuv></tu>
<tu><tuv lang="EN"><seg>Empty</seg></tuv><tuv lang="zh"><seg> </seg></tuv></tu>
<tu><tuv xml:lang="en"><seg>German</seg></tuv><tuv xml:lang="de"><seg>Deutsch</seg></tuv></tu>
<tu><note>doc b</note><tuv xml:lang="en"><seg>Hello</seg></tuv><tuv xml:lang="zh-TW"><seg>你好</seg></tuv></tu>
</body></tmx>
"""


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_tmx_pairs_codes_and_counts(tmp_path, encoding):
    (tmp_path / "a.tmx").write_bytes(TMX.format(encoding=encoding).encode(encoding))
    rows, ctx = read("tmx", tmp_path, path=".", instruction="Translate into Chinese:")
    assert [row.messages[0].content for row in rows] == ["Translate into Chinese:\nPress OK & wait.", "Translate into Chinese:\nHello"]
    assert [row.messages[1].content for row in rows] == ["请按“确定”，然后等待。", "你好"]
    assert [row.id for row in rows] == ["1", "a-9"] and [row.group for row in rows] == ["doc a", "doc b"]
    assert rows[0].meta == {"source_language": "en-US", "target_language": "ZH_cn", "tuid": "1", "document": "doc a"}
    assert ctx.drops == {"empty side": 1, "no zh text": 1} and ctx.changes == {"inline code left out of a segment": 2}
    (back,), _ = read("tmx", tmp_path, path="a.tmx", source="de", target="en")
    assert back.as_prompt()[1] == "German"


BOMB = '<!DOCTYPE tmx [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]>'
OUTSIDE = '<!DOCTYPE tmx [<!ENTITY a SYSTEM "file:///etc/passwd">]>'


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (f"{BOMB}<tmx><tu><tuv><seg>&b;</seg></tuv></tu></tmx>", "a.tmx:1: the file declares the entity 'a'"),
        (f"{OUTSIDE}<tmx><tu><tuv><seg>&a;</seg></tuv></tu></tmx>", "a.tmx:1: the file declares the entity 'a'"),
        (
            '<!DOCTYPE tmx SYSTEM "tmx14.dtd">\n<tmx><tu><tuv><seg>&nbsp;</seg></tuv></tu></tmx>',
            "a.tmx:2: the entity '&nbsp;' is not known",
        ),
        ("<tmx>\n<tu>\n</tmx>", "a.tmx:3: not XML: mismatched tag"),
        ("<html></html>", "the outermost element is <html>, not <tmx>"),
        ("", "not XML: no element found"),
        (
            TMX.format(encoding="utf-8").replace("zh", "fr").replace("ZH", "fr"),
            "no unit has both en and zh (languages: EN, de, en, en-US, fr, fr-TW, fr_cn)",
        ),
    ],
)
def test_tmx_that_cannot_be_read_or_must_not(tmp_path, text, problem):
    (tmp_path / "a.tmx").write_text(text, "utf-8")
    with pytest.raises(DataError) as error:
        read("tmx", tmp_path, path="a.tmx")
    assert problem in str(error.value)


def test_languages_match_by_their_beginning():
    assert matches("zh-CN", "zh") and matches("ZH", "zh") and matches("en_GB", "EN") and matches("zh-Hant-TW", "zh-hant")
    assert not matches("zho", "zh") and not matches("zh", "zh-CN") and not matches("", "zh")


def test_tmx_is_read_unit_by_unit(tmp_path):
    unit = '<tu><tuv xml:lang="en"><seg>one</seg></tuv><tuv xml:lang="zh"><seg>一</seg></tuv></tu>\n'
    (tmp_path / "a.tmx").write_text(f"<tmx>{unit * 5000}<broken", "utf-8")
    rows, _ = opened("tmx", tmp_path, path="a.tmx")
    assert next(rows).last_user == "one"
    assert len(read("tmx", tmp_path, path="a.tmx", limit=100)[0]) == 100


def test_tico19(shared_data):
    rows, ctx = read("tmx", shared_data, path="tico19_en_zh/*.tmx")
    assert len(rows) == len({row.id for row in rows}) == 3071 and len({row.group for row in rows}) == 31 and not ctx.drops
