"""Sources that read files: what they accept and what they say about bad input."""

from __future__ import annotations

import gzip
import json

import pytest

from agentft.contracts import DataContext
from agentft.data.files import CsvConfig, JsonlConfig, read_csv, read_json, read_jsonl
from agentft.errors import DataError

GOOD = {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]}


def read(reader, config, tmp_path):
    ctx = DataContext(base=tmp_path)
    return list(reader(config, ctx)), ctx


def test_jsonl_reads_rows_and_names_those_without_id(tmp_path):
    (tmp_path / "a.jsonl").write_text(json.dumps(GOOD) + "\n\n" + json.dumps({**GOOD, "id": "x", "group": 7}) + "\n", "utf-8")
    rows, ctx = read(read_jsonl, JsonlConfig(path="a.jsonl"), tmp_path)
    assert [row.id for row in rows] == ["a-1", "x"]
    assert rows[1].group == "7"
    assert ctx.files == [tmp_path / "a.jsonl"]


def test_files_whose_names_begin_alike_give_different_ids(tmp_path):
    for name in ("a.2024.jsonl", "a.2025.jsonl", "b.jsonl.gz"):
        open_ = gzip.open if name.endswith(".gz") else open
        with open_(tmp_path / name, "wt", encoding="utf-8") as stream:
            stream.write(json.dumps(GOOD) + "\n")
    rows, _ = read(read_jsonl, JsonlConfig(path=["a.*.jsonl", "b.jsonl.gz"]), tmp_path)
    assert [row.id for row in rows] == ["a.2024-1", "a.2025-1", "b-1"]


def test_byte_order_mark_and_chinese(tmp_path):
    row = {"messages": [{"role": "user", "content": "退款多久到账？"}, {"role": "assistant", "content": "五个工作日。"}]}
    (tmp_path / "a.jsonl").write_bytes(b"\xef\xbb\xbf" + json.dumps(row, ensure_ascii=False).encode())
    assert read(read_jsonl, JsonlConfig(path="a.jsonl"), tmp_path)[0][0].messages[1].content == "五个工作日。"


BAD_ROWS = [
    ("{nope", "a.jsonl:2: not JSON: Expecting property name"),
    ("[1]", "a.jsonl:2: a row must be an object, not list"),
    ('{"messages": []}', "a.jsonl:2: 'messages' must be a list that is not empty"),
    ('{"messages": [{"role": "bot", "content": "x"}]}', "a.jsonl:2: message role must be one of system, user, assistant, tool, not 'bot'"),
    ('{"messages": [{"role": "user", "content": 3}]}', "a.jsonl:2: message content must be text, not int"),
    ('{"messages": [{"role": "user", "content": "x", "weight": 1}]}', "a.jsonl:2: unknown message key 'weight'"),
    (
        '{"messages": [{"role": "assistant", "content": "x", "train": -0.5}]}',
        "a.jsonl:2: message key 'train' must be true, false or a weight from 0 to 10, not -0.5",
    ),
]


@pytest.mark.parametrize(("line", "message"), BAD_ROWS)
def test_bad_rows_are_named_with_file_and_line(tmp_path, line, message):
    (tmp_path / "a.jsonl").write_text(json.dumps(GOOD) + "\n" + line + "\n", "utf-8")
    with pytest.raises(DataError) as caught:
        read(read_jsonl, JsonlConfig(path="a.jsonl"), tmp_path)
    assert message in str(caught.value)
    assert "1 rows cannot be used; correct them, or set on_bad: skip" in str(caught.value)


def test_all_bad_rows_are_shown_at_once_and_can_be_skipped_with_a_count(tmp_path):
    (tmp_path / "a.jsonl").write_text("\n".join([json.dumps(GOOD), "x", "y"]), "utf-8")
    with pytest.raises(DataError, match=r"(?s)a.jsonl:2: .*a.jsonl:3: .*2 rows cannot be used"):
        read(read_jsonl, JsonlConfig(path="a.jsonl"), tmp_path)
    rows, ctx = read(read_jsonl, JsonlConfig(path="a.jsonl", on_bad="skip"), tmp_path)
    assert len(rows) == 1 and ctx.drops == {"row cannot be used": 2}


def test_missing_folder_and_foreign_encoding(tmp_path):
    with pytest.raises(DataError, match="cannot read .*nothing.jsonl: No such file"):
        read(read_jsonl, JsonlConfig(path="nothing.jsonl"), tmp_path)
    with pytest.raises(DataError, match="no file matches"):
        read(read_jsonl, JsonlConfig(path="*.jsonl"), tmp_path)
    (tmp_path / "latin.jsonl").write_bytes('{"a": "é"}'.encode("latin-1"))
    with pytest.raises(DataError, match=r"latin.jsonl:1: not UTF-8 at byte 7"):
        read(read_jsonl, JsonlConfig(path="latin.jsonl"), tmp_path)


def test_wildcards_are_sorted_and_limit_holds(tmp_path):
    for name in ("b", "a"):
        (tmp_path / f"{name}.jsonl").write_text((json.dumps(GOOD) + "\n") * 2, "utf-8")
    rows, _ = read(read_jsonl, JsonlConfig(path="*.jsonl", limit=3), tmp_path)
    assert [row.id for row in rows] == ["a-1", "a-2", "b-1"]


def test_json_list_with_columns(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps([{"q": "2+2?", "a": "Count on.", "topic": "sums"}]), "utf-8")
    config = JsonlConfig(path="a.json", columns={"user": "q", "assistant": "a", "meta": ["topic"]})
    (row,), _ = read(read_json, config, tmp_path)
    assert row.messages[1].content == "Count on." and row.meta == {"topic": "sums"}
    (tmp_path / "b.json").write_text("{}", "utf-8")
    with pytest.raises(DataError, match="expected a list of rows, found dict"):
        read(read_json, JsonlConfig(path="b.json"), tmp_path)


def test_csv_and_tsv(tmp_path):
    (tmp_path / "a.csv").write_text('text,category\n"line one\nline two",refund\nhello,greeting\n', "utf-8")
    rows, _ = read(read_csv, CsvConfig(path="a.csv", columns={"user": "text", "meta": ["category"]}), tmp_path)
    assert rows[0].last_user == "line one\nline two" and rows[1].meta == {"category": "greeting"}
    (tmp_path / "a.tsv").write_text("q\ta\nx\ty\n", "utf-8")
    rows, _ = read(read_csv, CsvConfig(path="a.tsv", columns={"user": "q", "assistant": "a"}), tmp_path)
    assert rows[0].as_prompt()[1] == "y"


def test_csv_mistakes(tmp_path):
    (tmp_path / "a.csv").write_text("text,category\nhello,greeting,extra\n,empty\n", "utf-8")
    with pytest.raises(DataError, match=r"a.csv:1: no column 'txt' \(columns: text, category\)"):
        read(read_csv, CsvConfig(path="a.csv", columns={"user": "txt"}), tmp_path)
    with pytest.raises(DataError, match=r"(?s)a.csv:2: more than 2 columns.*a.csv:3: column 'text' is empty"):
        read(read_csv, CsvConfig(path="a.csv", columns={"user": "text"}), tmp_path)


def test_real_bank_queries(shared_data):
    config = CsvConfig(path=str(shared_data / "banking77" / "test.csv"), columns={"user": "text", "meta": ["category"]})
    rows, _ = read(read_csv, config, shared_data)
    assert len(rows) == 3080 and len({row.meta["category"] for row in rows}) == 77
