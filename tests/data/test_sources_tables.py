"""Tables: paths into nested rows, csv with odd quotes and encodings, parquet, hub folders, long JSON lists."""

from __future__ import annotations

import csv
import datetime
import gzip
import json
import re
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from ruamel.yaml import YAML
from sources import catalog, opened, part, read

from agentft.data.columns import Columns, record
from agentft.data.json_items import iter_items
from agentft.errors import DataError

PAIR = {"text": "t", "label": "y"}


@pytest.mark.parametrize(
    ("columns", "text", "label"),
    [
        ({"text": "input.text", "label": "tags.1"}, "好的", "b"),
        ({"text": "a.b", "label": "tags"}, "literal", ["a", "b"]),
        ({"text": "parts", "label": "deep.0.kind"}, "One. Two.", "x"),
    ],
)
def test_columns_may_be_paths_and_a_literal_name_goes_first(columns, text, label):
    row = {
        "input": {"text": "好的"},
        "tags": ["a", "b"],
        "a.b": "literal",
        "a": {"b": "nested"},
        "parts": ["One.", "Two."],
        "deep": [{"kind": "x"}],
    }
    made = record(row, Columns(**columns, meta=["input.text"]), "r")
    assert (made.text, made.label, made.meta) == (text, label, {"input.text": "好的"})


def test_joined_sentences_have_blanks_in_english_and_none_in_chinese():
    made = record({"user": ["你好。", "在吗？", "Yes", "ok"], "answer": ["a", "b"]}, Columns(user="user", assistant="answer.1"), "r")
    assert [message.content for message in made.messages] == ["你好。在吗？Yes ok", "b"]


@pytest.mark.parametrize("column", ["input.txt", "tags.7", "tags.x", "input.text.0.0", "none.at.all", "tags.-1"])
def test_a_path_that_leads_nowhere_is_named(column):
    with pytest.raises(DataError, match=r"no column '.*' \(columns: input, tags\)"):
        record({"input": {"text": "x"}, "tags": ["a"]}, Columns(text=column), "r")


@given(
    st.recursive(
        st.text(max_size=3) | st.none() | st.integers(),
        lambda one: st.lists(one, max_size=3) | st.dictionaries(st.sampled_from("ab01"), one),
    )
)
def test_any_nested_value_is_a_record_or_a_data_error(value):
    for column in ("a", "a.b", "a.0", "a.0.b"):
        try:
            assert record({"a": value}, Columns(text=column), "r").text.strip()
        except DataError as error:
            assert "column" in str(error)


# csv


def test_csv_without_quoting_keeps_every_row_and_with_it_counts_what_looks_swallowed(tmp_path):
    (tmp_path / "a.tsv").write_text('t\ty\n"open\tx\nnext" one\ty\nlast\tz\n', "utf-8")
    rows, _ = read("csv", tmp_path, path="a.tsv", columns=PAIR, quoting="none")
    assert [row.text for row in rows] == ['"open', 'next" one', "last"]
    with pytest.raises(DataError, match=r"a.tsv:3: .*set quoting: none"):
        read("csv", tmp_path, path="a.tsv", columns=PAIR)
    (tmp_path / "b.csv").write_text('t,y\n"one\n\nparagraph",x\n,\n', "utf-8")
    (row,), ctx = read("csv", tmp_path, path="b.csv", columns=PAIR)
    assert (
        row.text == "one\n\nparagraph"
        and row.id == "b-4"
        and ctx.changes == {"row of several lines (if its quotes are text: quoting: none)": 1}
    )


@pytest.mark.parametrize("encoding", ["gb18030", "utf-16", "utf-8-sig", "big5"])
def test_csv_in_other_encodings(tmp_path, encoding):
    (tmp_path / "a.csv").write_bytes("t,y\n中文,是\n".encode(encoding))
    (row,), _ = read("csv", tmp_path, path="a.csv", columns=PAIR, encoding=encoding)
    assert (row.text, row.label) == ("中文", "是")


def test_csv_says_which_encoding_or_delimiter_it_may_be(tmp_path):
    (tmp_path / "a.csv").write_bytes("t,y\n退款多久到账,是\n".encode("gb18030"))
    with pytest.raises(DataError, match=r"a.csv:2: not UTF-8 at byte 0 .*set encoding:; it looks like gb18030"):
        read("csv", tmp_path, path="a.csv", columns=PAIR)
    for mark, shown in ((";", ";"), ("\t", r"\\t"), ("|", r"\|")):
        (tmp_path / "b.csv").write_text(f"t{mark}y\na{mark}b\n", "utf-8")
        with pytest.raises(DataError, match=f'b.csv:1: no column .* looks divided by "{shown}": set delimiter: "{shown}"'):
            read("csv", tmp_path, path="b.csv", columns=PAIR)
    with pytest.raises(ValidationError, match="there is no text encoding 'klingon'"):
        part("csv")[1](path="a.csv", columns=PAIR, encoding="klingon")
    with pytest.raises(ValidationError, match="'delimiter' must be one character, not ';;'"):
        part("csv")[1](path="a.csv", columns=PAIR, delimiter=";;")


@given(st.lists(st.tuples(st.text(max_size=8), st.text(max_size=8)), max_size=6))
@settings(max_examples=60, deadline=None)
def test_what_python_writes_as_csv_comes_back(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("csv")
    kept = [(a, b) for a, b in rows if a.strip() and b and not set(a + b) & {"\r", "\0"} and (a + b).isprintable()]
    with (folder / "a.csv").open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([("t", "y"), *kept])
    found, _ = read("csv", folder, path="a.csv", columns=PAIR)
    assert [(row.text, row.label) for row in found] == kept


def test_real_rows_with_quotes_in_the_text(shared_data):
    columns = {"user": "toxic", "assistant": "neutral1"}
    rows, ctx = read("csv", shared_data, path="paradetox/paradetox.tsv", columns=columns, quoting="none", on_bad="skip")
    assert len(rows) == 11929 and ctx.drops == {"row cannot be used": 5}
    quoted, ctx = read("csv", shared_data, path="paradetox/paradetox.tsv", columns=columns)
    assert len(quoted) < len(rows) and sum(ctx.changes.values()) > 0  # quotes as csv has them swallow rows, and that is counted


def test_real_nested_rows(shared_data):
    rows, _ = read("jsonl", shared_data, path="scitldr/train.jsonl", columns={"user": "source", "assistant": "target.0"})
    assert len(rows) == 1992 and ". " in rows[0].last_user
    rows, _ = read("json", shared_data, path="restaurant8k/test.json", columns={"text": "userInput.text"})
    assert len(rows) == 3731


# JSON lists


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda one: st.lists(one, max_size=4) | st.dictionaries(st.text(max_size=4), one, max_size=4),
)


@given(st.lists(VALUES, max_size=8), st.sampled_from([None, 0, 2]), st.booleans(), st.integers(1, 40))
@settings(max_examples=60, deadline=None)
def test_items_are_what_json_loads_gives_wherever_the_chunks_end(tmp_path_factory, items, indent, ascii_, chunk):
    from agentft.data import json_items

    path = tmp_path_factory.mktemp("items") / "a.json"
    before, json_items._CHUNK = json_items._CHUNK, chunk
    try:
        path.write_bytes(json.dumps(items, indent=indent, ensure_ascii=ascii_).encode("utf-8", "surrogatepass"))
        assert list(iter_items(path)) == items
        path.write_bytes(
            json.dumps({"v": [1], "x": {"data": 2}, "data": items}, indent=indent, ensure_ascii=ascii_).encode("utf-8", "surrogatepass")
        )
        assert list(iter_items(path, "data")) == items
    finally:
        json_items._CHUNK = before


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('[{"a": 1},\n {"a" 2}]', "a.json: not JSON: Expecting ':' delimiter: line 2 column 7"),
        ("[1, 2", "a.json: not JSON: Expecting ','"),
        ('["never closed', "a.json: not JSON: Unterminated string starting at: line 1 column 2"),
        ("[1] [2]", "a.json: not JSON: Extra data: line 1 column 5"),
        ("", "a.json: not JSON: Expecting value: line 1 column 1"),
        ("{}", "a.json: expected a list of rows, found dict"),
        ("[" * 100_000, "a.json: not JSON: nested too deeply"),
    ],
)
def test_broken_lists_are_named_with_line_and_column(tmp_path, text, problem):
    (tmp_path / "a.json").write_text(text, "utf-8")
    with pytest.raises(DataError) as error:
        read("json", tmp_path, path="a.json", columns={"text": "a"})
    assert problem in str(error.value)


# parquet


@pytest.fixture
def table(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [
        {
            "q": {"text": f"问题 {i}"},
            "turns": ["One.", "Two."],
            "a": [{"text": "ja"}],
            "when": datetime.date(2024, 1, 2),
            "price": Decimal("1.50"),
            "raw": b"hi",
        }
        for i in range(600)
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet", row_group_size=250)
    return tmp_path


def test_parquet_rows_are_plain_python_over_all_row_groups(table):
    columns = {"user": "q.text", "assistant": "a.0.text", "system": "turns", "meta": ["when", "price", "raw", "turns"]}
    rows, ctx = read("parquet", table, path=".", columns=columns)
    assert (
        [rows[i].last_user for i in (0, 599)] == ["问题 0", "问题 599"]
        and rows[599].id == "a-600"
        and rows[0].messages[0].content == "One. Two."
    )
    assert json.loads(json.dumps(rows[0].to_dict()))["meta"] == {"when": "2024-01-02", "price": 1.5, "raw": "hi", "turns": ["One.", "Two."]}
    assert [path.name for path in ctx.files] == ["a.parquet"]
    assert len(read("parquet", table, path="*.parquet", columns=columns, limit=251)[0]) == 251


def test_parquet_mistakes_name_file_row_and_column(table):
    with pytest.raises(DataError, match=r"a.parquet: no column 'qq.text' \(columns: q, turns, a, when, price, raw\)"):
        read("parquet", table, path="a.parquet", columns={"text": "qq.text"})
    with pytest.raises(DataError, match=r"(?s)a.parquet:1: no column 'q.words'.*600 rows cannot be used"):
        read("parquet", table, path="a.parquet", columns={"text": "q.words"})
    (table / "b.parquet").write_text("no")
    with pytest.raises(DataError, match="cannot read .*b.parquet as Parquet"):
        read("parquet", table, path="b.parquet", columns={"text": "q"})
    with pytest.raises(DataError, match="cannot read .*c.parquet as Parquet: .*[Nn]o such file"):
        read("parquet", table, path="c.parquet", columns={"text": "q"})


def test_parquet_with_conversations_needs_no_columns(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(
        pa.Table.from_pylist([{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}]}]),
        tmp_path / "a.parquet",
    )
    (row,), _ = read("parquet", tmp_path, path="a.parquet")
    assert row.as_prompt()[1] == "yo"


# hub


@pytest.fixture
def saved(tmp_path):
    from datasets import ClassLabel, Dataset, DatasetDict, Features, List, Value

    features = Features({"text": Value("string"), "y": ClassLabel(names=["no", "yes"]), "tags": List(ClassLabel(names=["O", "B-x"]))})
    data = Dataset.from_dict(
        {"text": ["a b", "c d", "好"], "y": [0, 1, -1], "tags": [[0, 1], [1, 1], [0]]}, features=features, split="train"
    )
    data.save_to_disk(tmp_path / "one")
    DatasetDict({"train": data, "test": data.select([1])}).save_to_disk(tmp_path / "both")
    data.to_parquet(tmp_path / "t.parquet")
    return tmp_path


@pytest.mark.parametrize(("use", "options"), [("hub", {"name": "one"}), ("hub", {"name": "both"}), ("parquet", {"path": "t.parquet"})])
def test_numbers_of_classes_become_names(saved, use, options):
    rows, ctx = read(use, saved, **options, columns={"text": "text", "label": "y"}, on_bad="skip")
    assert [row.label for row in rows] == ["no", "yes"] and ctx.drops == {"row cannot be used": 1} and ctx.files
    rows, _ = read(use, saved, **options, columns={"tokens": "text", "label": "tags"}, limit=2)
    assert [row.label for row in rows] == [["O", "B-x"], ["B-x", "B-x"]]


def test_hub_splits_rows_and_columns_are_named(saved):
    assert [row.text for row in read("hub", saved, name="both", split="test", columns={"text": "text"})[0]] == ["c d"]
    for options, problem in [
        ({"name": "one"}, r"one\[train\]:3: column 'y' is empty"),
        ({"name": "both", "split": "dev"}, r"no split 'dev' \(splits: train, test\)"),
        ({"name": "one", "split": "test"}, "this is the split 'train', not 'test'"),
        ({"name": "./nowhere"}, "there is no folder"),
    ]:
        with pytest.raises(DataError, match=problem):
            read("hub", saved, **options, columns={"text": "text", "label": "y"})
    with pytest.raises(DataError, match=r"one\[train\]: no column 'z' \(columns: text, y, tags\)"):
        read("hub", saved, name="one", columns={"text": "text", "label": "z"})


def test_a_folder_of_data_files_is_streamed_and_leaves_no_copy(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "train.jsonl").write_text('{"text": "a", "y": 1}\n{"text": "b", "y": 2}\n', "utf-8")
    rows, _ = read("hub", tmp_path, name="files", columns={"text": "text", "label": "y"})
    assert [(row.text, row.label) for row in rows] == [("a", 1), ("b", 2)]
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.suffix == ".arrow"]


def test_an_unknown_id_is_one_line_with_advice(tmp_path):
    with pytest.raises(DataError) as error:
        read("hub", tmp_path, name="nobody/nothing-of-the-kind")
    assert "cannot open the data set 'nobody/nothing-of-the-kind' of the hub" in str(error.value) and "\n" not in str(error.value)


# all


def test_a_source_reads_no_further_than_it_is_asked(tmp_path):
    row = '{"t": "x", "y": "z"}'
    (tmp_path / "a.jsonl").write_text(f"{row}\n{row}\nbroken\n", "utf-8")
    with gzip.open(tmp_path / "b.jsonl.gz", "wt") as stream:
        stream.write("broken too")
    rows, _ = opened("jsonl", tmp_path, path=["a.jsonl", "b.jsonl.gz", "missing.jsonl"], columns=PAIR)
    assert next(rows).text == "x"
    assert len(read("jsonl", tmp_path, path=["a.jsonl", "b.jsonl.gz", "missing.jsonl"], columns=PAIR, limit=2)[0]) == 2


def test_skipped_rows_are_counted_as_they_are_found(tmp_path):
    (tmp_path / "a.jsonl").write_text('broken\n{"t": "x", "y": "z"}\n' + "broken\n" * 3000, "utf-8")
    rows, ctx = opened("jsonl", tmp_path, path="a.jsonl", columns=PAIR, on_bad="skip")
    next(rows)
    assert ctx.drops == {"row cannot be used": 1} and list(rows) == [] and ctx.drops.total() == 3001 and len(ctx.dropped) == 1000
    with pytest.raises(DataError, match=r"(?s)a.jsonl:1:.*\.\.\. and 2981 more\n3001 rows cannot be used"):
        read("jsonl", tmp_path, path="a.jsonl", columns=PAIR)


def test_wildcards_go_through_folders_and_brackets_may_be_part_of_a_name(tmp_path):
    for name in ("x/a.jsonl", "x/y/b.jsonl", "[1].jsonl"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text('{"t": "x", "y": "z"}\n', "utf-8")
    assert [row.id for row in read("jsonl", tmp_path, path="x/**/*.jsonl", columns=PAIR)[0]] == ["a-1", "b-1"]
    assert [row.id for row in read("jsonl", tmp_path, path="[1].jsonl", columns=PAIR)[0]] == ["[1]-1"]


def test_what_a_source_produces_is_known_before_it_runs():
    for use, options, kind in [
        ("parquet", {"path": "x", "columns": {"text": "a"}}, "text"),
        ("hub", {"name": "x", "columns": {"tokens": "a", "label": "b"}}, "labelled"),
        ("hub", {"name": "x"}, "example"),
        ("csv", {"path": "x", "columns": {"user": "a"}}, "prompt"),
    ]:
        assert part(use)[1].model_validate(options).produces == kind
    fixed = {name: catalog().get("source", name).spec.produces for name in ("text", "conll", "spans", "tmx")}
    assert fixed == {"text": "text", "conll": "labelled", "spans": "labelled", "tmx": "example"}


def test_option_models_import_nothing_heavy():
    names = ("jsonl", "csv", "parquet", "hub", "text", "conll", "spans", "tmx")
    code = (
        "import sys\nfrom agentft.host import Host\nc = Host(allow=()).catalog\n"
        f"for n in {names!r}: e = c.get('source', n); c.config_model(e); c.target(e)\n"
        "print([m for m in ('pyarrow', 'datasets', 'torch', 'pandas', 'ruamel.yaml') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_every_example_of_the_page_is_a_valid_use():
    page = (Path(__file__).parents[2] / "docs" / "data.md").read_text("utf-8")
    section = page.partition("## Sources")[2].partition("\n## ")[0]
    uses = [use for block in re.findall(r"```yaml\n(.*?)```", section, re.DOTALL) for use in YAML(typ="safe").load(block)]
    for use in uses:
        part(use["use"])[1].model_validate({key: value for key, value in use.items() if key != "use"})
    assert {use["use"] for use in uses} >= {"csv", "jsonl", "parquet", "hub", "text", "conll", "spans", "tmx"}
