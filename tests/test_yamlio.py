"""YAML with positions: values as YAML 1.2 says, and every mistake with its line in words a newcomer understands."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentft import yamlio
from agentft.errors import RecipeError

PIECES = [
    "key: ",
    "- ",
    ": ",
    "  ",
    "\n",
    "\t",
    "&a ",
    "*a ",
    "!!int ",
    "!!bool ",
    "!x ",
    "<<: ",
    "---\n",
    "%YAML 1.1\n",
    "%YAML 9.9\n",
    '"',
    "'",
    "{",
    "}",
    "[",
    "]",
    ",",
]
YAML_LIKE = st.lists(st.sampled_from([*PIECES, *"ab01.e-+_~|>#%@`?中é\x00\\"]), max_size=25).map("".join)


def data(text: str):
    return yamlio.parse(text).data


def problems(text: str) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        yamlio.parse(text, "f.yaml")
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("-2.5", -2.5),
        ("no", "no"),
        ("yes", "yes"),
        ("on", "on"),
        ("true", True),
        ("null", None),
        ("", None),
        ("0x1F", 31),
        ("0o17", 15),
        ("-12", -12),
        ("012", 12),
        ("1_000", 1000),
        ("2024-01-01", "2024-01-01"),
        ("'5'", "5"),
        ("!!str 5", "5"),
        ("{a: [1, x]}", {"a": [1, "x"]}),
        ("a: |\n  x\n  y\n", {"a": "x\ny\n"}),
        ("x: &n {a: 1}\ny: *n", {"x": {"a": 1}, "y": {"a": 1}}),
        ("\ufeffa: 1", {"a": 1}),
        ("a: 1\r\nb: 2\r\n", {"a": 1, "b": 2}),
        ('"\\ud83d\\ude00"', "😀"),
    ],
)
def test_values_are_those_of_yaml_1_2(text, value):
    assert data(text) == value
    assert type(data(text)) is type(value)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a:\n\tb: 1", "f.yaml:2:1: a tab is used here (indent with spaces)"),
        ("a: 1\nb: 2\na: 3", "f.yaml:3:1: the key 'a' occurs twice (the first one is in line 1)"),
        (
            "text: it's: fine",
            "f.yaml:1:11: a ':' is not expected here (put the text in quotes if it contains ': ', or check the indentation)",
        ),
        ("a: 1\nb\nc: 2", "f.yaml:2:1: a key without a value (write 'key: value')"),
        ("a: 'x\nb: 1", "f.yaml:1:4: a quote that opens here is never closed (add the closing quote)"),
        ("a: [1, 2\nb: 3", "f.yaml:2:2: a ',' or a closing bracket is missing: the bracket of line 1 is still open"),
        ("a: @x", "f.yaml:1:4: a text cannot start with '@' (put the text in quotes)"),
        ("a: *x", "f.yaml:1:4: undefined alias 'x' (put the text in quotes if it starts with '*')"),
        ("role: {{ company }}", 'f.yaml:1:8: a key must be text (a text that starts with "{{" needs quotes: "{{ name }} ...")'),
        ("role: {{ a }} b", 'f.yaml:1:15: this is not valid YAML (a text that starts with "{{" needs quotes: "{{ name }} ...")'),
        ("a: 1\n---\nb: 2", "f.yaml:2:1: a second document starts here (delete the line '---'; one file is one document)"),
        ("a:\n  - b\n - c", "f.yaml:3:2: this does not fit to the lines above (check the indentation and the quotes)"),
        ("1: a", 'f.yaml:1:1: a key must be text, not 1 (write "1")'),
        ("a: .nan", "f.yaml:1:4: .nan is not a finite number"),
        (
            "a: !python/name:os.system x",
            "f.yaml:1:4: tags such as !python/name:os.system are not supported (delete it, or put the text in quotes)",
        ),
        ("<<: {a: 1}", "f.yaml:1:1: merge keys (<<) are not supported (write the keys out)"),
        ("&a [*a]", "f.yaml:1:1: an alias may not contain itself"),
        ("a: x\n\n  y: \x07", "f.yaml:3:6: the character #x0007 is not allowed (delete it)"),
        ("[" * 500, "f.yaml:1:1: is nested too deeply"),
        (
            'a: "\\q"',
            "f.yaml:1:6: unknown escape character 'q' in a text in double quotes (use single quotes, or write \\\\ for a backslash)",
        ),
    ],
)
def test_each_mistake_gets_its_line(text, line):
    assert problems(text) == [line]


def test_all_duplicate_keys_are_reported_at_once():
    assert [line.split(":")[1] for line in problems("a: 1\na: 2\nb:\n  c: 1\n  c: 2\n")] == ["2", "5"]


def test_aliases_cannot_grow_a_small_file_without_limit():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"] + [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 9)]
    assert any("too large" in line for line in problems("\n".join(lines)))


def test_places_of_values_and_keys():
    document = yamlio.parse("name: x\ntrain:\n  - use: sft\n    epochs: 3\n  - dpo\n", "r.yaml")
    assert document.place(("train", 0, "epochs")) == (4, 13)
    assert document.place(("train", 0, "epochs"), key=True) == (4, 5)
    assert document.place(("train", 1)) == (5, 5)
    assert document.place(()) == (1, 1)
    # What is not there is reported at the closest thing that is.
    assert document.place(("train", 0, "rate", "x")) == (3, 5)
    assert document.place(("train", 7)) == (3, 3)
    assert document.has(("train", 0, "epochs")) and not document.has(("train", 0, "rate"))


def test_find_points_inside_a_block_of_text():
    document = yamlio.parse("role: |\n  You are x.\n  Ask {{ nobody }}.\nlast: nobody\n")
    assert document.find(("role",), r"\bnobody\b") == (3, 10)
    assert document.find(("role",), "absent") == (1, 7)


def test_files_that_cannot_be_read(tmp_path):
    def message(path):
        with pytest.raises(RecipeError) as caught:
            yamlio.load(path)
        return str(caught.value)

    assert message(tmp_path / "absent.yaml") == f"{tmp_path / 'absent.yaml'}: there is no such file"
    assert message(tmp_path) == f"{tmp_path}: this is a folder, not a YAML file"
    latin = tmp_path / "latin.yaml"
    latin.write_bytes("a: 1\nb: é\n".encode("latin-1"))
    assert message(latin) == f"{latin}:2:4: is not UTF-8 text (save the file with the encoding UTF-8)"


def test_an_empty_file_says_what_is_needed():
    with pytest.raises(RecipeError, match=r"e\.yaml:1:1: the file is empty \(a recipe needs at least name\)"):
        yamlio.mapping(yamlio.parse("# only a comment\n", "e.yaml"), "a recipe", "name")
    with pytest.raises(RecipeError, match="a recipe is a mapping of keys and values, not a list"):
        yamlio.mapping(yamlio.parse("- a\n", "e.yaml"), "a recipe", "name")


@settings(max_examples=400, deadline=None)
@given(YAML_LIKE | st.text(max_size=60))
def test_any_text_gives_json_data_or_problems_with_a_place(text):
    try:
        document = yamlio.parse(text, "f.yaml")
    except RecipeError as error:
        assert error.problems
        for problem in error.problems:
            assert problem.line >= 1 and problem.column >= 1 and problem.message
    else:
        assert json.loads(json.dumps(document.data, allow_nan=False)) == document.data


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**9), 10**9)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=10).filter(str.isprintable),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", min_size=1, max_size=3), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=100, deadline=None)
@given(VALUES)
def test_json_is_yaml(value):
    # JSON is a subset of YAML 1.2, so that every value has a text.
    assert data(json.dumps(value)) == value
