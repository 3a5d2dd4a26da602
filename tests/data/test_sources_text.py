"""The source ``text``: folders of documents in pieces that lose nothing, with file and heading."""

from __future__ import annotations

import gzip

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sources import opened, read

from agentft.data.pieces import cut
from agentft.errors import DataError
from agentft.text import words

GUIDE = """---
title: 安装指南
date: 2024-05-01
tags: [a, b]
---
Before any heading.

# Install #

First paragraph,
two lines.

```sh
# no heading

pip install x
```

On Linux
--------
- item
---
Last.
"""


@pytest.fixture
def docs(tmp_path):
    (tmp_path / "docs" / "zh").mkdir(parents=True)
    (tmp_path / "docs" / "guide.md").write_text(GUIDE, "utf-8")
    (tmp_path / "docs" / "zh" / "guide.md").write_text("第一句。第二句很长。第三句。\n", "utf-8")
    with gzip.open(tmp_path / "docs" / "notes.txt.gz", "wt", encoding="utf-8") as stream:
        stream.write("# not a heading in plain text\r\n\r\nA note.\r\n")
    (tmp_path / "docs" / "picture.png").write_bytes(b"\xff\xfe")
    return tmp_path


def test_a_folder_gives_its_text_files_with_groups_that_keep_them_apart(docs):
    rows, ctx = read("text", docs, path="docs")
    assert [row.id for row in rows] == ["docs/guide.md#1", "docs/notes.txt.gz#1", "docs/zh/guide.md#1"]
    assert [row.group for row in rows] == ["docs/guide.md", "docs/notes.txt.gz", "docs/zh/guide.md"] and len(ctx.files) == 3
    assert rows[0].label is None and rows[0].text.startswith("Before any heading.") and rows[0].text.endswith("Last.")
    assert rows[0].meta == {"file": "docs/guide.md", "front_matter": {"title": "安装指南", "date": "2024-05-01", "tags": ["a", "b"]}}
    assert rows[1].text == "# not a heading in plain text\n\nA note."
    assert [row.id for row in read("text", docs, path="docs/**/*.md")[0]] == ["docs/guide.md#1", "docs/zh/guide.md#1"]


def test_sections_begin_with_their_headings_and_code_is_none(docs):
    rows, _ = read("text", docs, path="docs/guide.md", by="heading")
    assert [(row.meta.get("heading"), row.text.splitlines()[0]) for row in rows] == [
        (None, "Before any heading."),
        ("Install", "# Install #"),
        ("On Linux", "On Linux"),
    ]
    assert rows[1].text.endswith("pip install x\n```") and rows[2].text == "On Linux\n--------\n- item\n---\nLast."


def test_paragraphs_and_lines(docs):
    rows, _ = read("text", docs, path="docs/guide.md", by="paragraph")
    assert [(row.meta.get("heading"), row.text) for row in rows] == [
        (None, "Before any heading."),
        ("Install", "# Install #"),
        ("Install", "First paragraph,\ntwo lines."),
        ("Install", "```sh\n# no heading\n\npip install x\n```"),
        ("On Linux", "On Linux\n--------"),
        ("On Linux", "- item\n---\nLast."),
    ]
    rows, ctx = read("text", docs, path="docs/guide.md", by="paragraph", min_words=3)
    assert len(rows) == 3 and ctx.drops == {"fewer than 3 words": 3} and ctx.dropped[0]["where"].endswith("guide.md:8")
    lines, ctx = read("text", docs, path="docs/notes.txt.gz", by="line")
    assert [row.text for row in lines] == ["# not a heading in plain text", "A note."]


def test_long_texts_are_cut_between_sentences_in_chinese_too(docs):
    rows, ctx = read("text", docs, path="docs/zh/guide.md", max_words=8)
    assert [row.text for row in rows] == ["第一句。第二句很长。", "第三句。"] and ctx.changes == {"piece cut from a longer text": 2}
    assert {row.group for row in rows} == {"docs/zh/guide.md"}


@given(st.text(alphabet="ab 中文。.!?\n#”-", max_size=60), st.integers(1, 7))
def test_pieces_lose_nothing_but_white_space_and_keep_to_the_length(text, most):
    pieces = list(cut(text, most))
    assert "".join("".join(piece for _, piece in pieces).split()) == "".join(text.split())
    assert all(text[at : at + len(piece)] == piece and len(words(piece)) <= most for at, piece in pieces)


@given(st.lists(st.sampled_from(["# a", "b c", "", "```", "~~~", "---", "===", "- d", "    e", "中。文"]), max_size=10))
@settings(max_examples=60, deadline=None)
def test_every_line_of_a_document_is_in_exactly_one_piece(tmp_path_factory, lines):
    folder = tmp_path_factory.mktemp("docs")
    text = "\n".join(lines)
    (folder / "a.md").write_text(text, "utf-8")
    for by in ("file", "heading", "paragraph", "line"):
        rows, _ = read("text", folder, path="a.md", by=by, front_matter=False)
        assert sum(len(words(row.text)) for row in rows) == len(words(text))
        assert len({row.id for row in rows}) == len(rows) and all(words(row.text) for row in rows)


def test_front_matter_can_stay_and_a_rule_is_none(docs, tmp_path):
    assert read("text", docs, path="docs/guide.md", front_matter=False)[0][0].text.startswith("---\ntitle")
    (tmp_path / "rule.md").write_text("---\nJust text.\n---\nMore.\n", "utf-8")
    (tmp_path / "open.md").write_text("---\ntitle: never closed\n", "utf-8")
    (tmp_path / "bad.md").write_text("---\na: 1\nb: [\n---\nText.\n", "utf-8")
    assert read("text", tmp_path, path="rule.md")[0][0].text == "---\nJust text.\n---\nMore."
    assert "never closed" in read("text", tmp_path, path="open.md")[0][0].text
    with pytest.raises(DataError, match=r"bad.md:[34]: the front matter is not YAML: .*set front_matter: false"):
        read("text", tmp_path, path="bad.md")
    rows, ctx = read("text", tmp_path, path=["bad.md", "rule.md"], on_bad="skip")
    assert len(rows) == 1 and ctx.drops == {"file cannot be read to its end": 1}


@pytest.mark.parametrize("encoding", ["gb18030", "utf-16", "utf-16-le", "big5", "utf-8"])
def test_other_encodings(tmp_path, encoding):
    (tmp_path / "a.txt").write_bytes("第一行。\n第二行。".encode(encoding))
    rows, _ = read("text", tmp_path, path="a.txt", by="line", encoding=encoding)
    assert [row.text for row in rows] == ["第一行。", "第二行。"]


@pytest.mark.parametrize(
    ("encoding", "hint"), [("gb18030", "it looks like gb18030"), ("utf-16", "it looks like utf-16"), ("cp1252", "it may be cp1252")]
)
def test_a_foreign_encoding_is_named_with_line_and_a_guess(tmp_path, encoding, hint):
    text = "café crème" if encoding == "cp1252" else "退款多久到账"
    (tmp_path / "a.txt").write_bytes((text if encoding == "utf-16" else f"plain\n{text}").encode(encoding))
    with pytest.raises(DataError, match=rf"a.txt:[12]: not UTF-8 at byte \d+ \(save the file as UTF-8, or set encoding:; {hint}\)"):
        read("text", tmp_path, path="a.txt")
    (tmp_path / "b.txt").write_text("好", "utf-8")
    with pytest.raises(DataError, match="b.txt:1: not ascii at byte 0"):
        read("text", tmp_path, path="b.txt", encoding="ascii")


def test_a_folder_without_texts_and_a_reading_that_stops_early(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no .txt or .md or .markdown file in the folder"):
        read("text", tmp_path, path="empty")
    (tmp_path / "a.txt").write_bytes(b"one\ntwo\nthree\n" + b"\xff\xff")
    rows, _ = opened("text", tmp_path, path="a.txt", by="line")
    assert next(rows).text == "one"


def test_real_policies(shared_data):
    rows, _ = read("text", shared_data, path="tau2_bench", by="heading", max_words=100)
    assert len(rows) > 100 and max(len(words(row.text)) for row in rows) <= 100
    assert any(row.meta.get("heading") == "Airline Agent Policy" for row in rows)
