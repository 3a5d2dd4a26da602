"""Reading YAML as data with positions: plain Python values, and line and column of every key and value.

YAML 1.2: ``1e-4`` is a number, ``no`` is text, a key may occur once. A file is data, so tags, merge keys and keys that
are not text are refused. Every mistake is a :class:`~agentft.errors.Problem` with its place.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from agentft.errors import Problem, RecipeError

Path_: TypeAlias = Sequence[str | int]

# Aliases (*name) repeat a node without repeating its text; the limit keeps a small file from growing into gigabytes.
MAX_NODES = 20_000
MAX_DEPTH = 60
_TAG = "tag:yaml.org,2002:"
_TEMPLATE_HINT = 'a text that starts with "{{" needs quotes: "{{ name }} ..."'


class Document:
    """A parsed YAML file.

    Attributes:
        file: as the user named it; shown in problems.
        text: as it was read.
        data: dicts, lists, texts, numbers, booleans and None.
    """

    def __init__(self, file: str, text: str, data: Any = None, root: Any = None):
        self.file = file
        self.text = text
        self.data = data
        self._lines = text.splitlines()
        self._root = root

    def place(self, path: Path_, *, key: bool = False) -> tuple[int, int]:
        """Line and column, from 1, of the value at ``path`` (of its key with ``key=True``).

        A path that is not in the file gives the place of the closest part that is.
        """
        mark, _ = self._marks(path, key)
        return mark

    def has(self, path: Path_) -> bool:
        """Whether the file itself has a value at ``path``."""
        node = self._root
        for step in path:
            child = _child(node, step) if node is not None else None
            if child is None:
                return False
            node = child[1]
        return node is not None

    def find(self, path: Path_, pattern: str) -> tuple[int, int]:
        """Line and column of the first match of ``pattern`` (of its last group) inside the value at ``path``, else of the value."""
        (first, start), (last, end) = self._marks(path, False)
        for number in range(first, min(last, len(self._lines)) + 1):
            line = self._lines[number - 1]
            found = re.compile(pattern).search(line, start - 1 if number == first else 0)
            if found and (number < last or found.start() < end):
                return number, found.start(found.re.groups) + 1
        return first, start

    def problem(self, path: Path_, message: str, hint: str = "", *, key: bool = False) -> Problem:
        """A problem at ``path``."""
        line, column = self.place(path, key=key)
        return Problem(message, self.file, line, column, hint)

    def _marks(self, path: Path_, key: bool) -> tuple[tuple[int, int], tuple[int, int]]:
        node = self._root
        if node is None:
            return (1, 1), (1, 1)
        shown = node
        for depth, step in enumerate(path):
            child = _child(node, step)
            if child is None:
                break
            key_node, node = child
            # The mark of an empty value is wherever the parser found that there is none: in a later line.
            empty = node.value == "" and node.start_mark.index == node.end_mark.index
            shown = key_node if empty or (key and depth == len(path) - 1) else node
        return _position(shown.start_mark), _position(shown.end_mark)


def load(path: Path | str) -> Document:
    """Read a YAML file.

    Raises:
        RecipeError: the file is missing, not UTF-8 or not YAML; carries every problem that was found.
    """
    file = str(path)
    try:
        raw = Path(path).read_bytes()
    except FileNotFoundError:
        raise RecipeError([Problem("there is no such file", file)]) from None
    except IsADirectoryError:
        raise RecipeError([Problem("this is a folder, not a YAML file", file)]) from None
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        raise RecipeError([Problem(f"cannot be read: {getattr(error, 'strerror', None) or error}", file)]) from None
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = raw[: error.start].decode("utf-8", "replace")
        line, column = before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1
        raise RecipeError([Problem("is not UTF-8 text", file, line, column, "save the file with the encoding UTF-8")]) from None
    return parse(text, file)


def parse(text: str, file: str = "") -> Document:
    """Parse YAML text; ``file`` is only for problems. Raises RecipeError as :func:`load` does."""
    try:
        root = _compose(text, file)
        document = Document(file, text, root=root)
        if root is not None:
            reader = _Reader(document)
            document.data = reader.value(root)
            if reader.problems:
                raise RecipeError(reader.problems)
    except RecursionError:
        raise RecipeError([Problem("is nested too deeply", file, 1, 1)]) from None
    return document


def parse_value(text: str) -> Any:
    """The value of a piece of YAML such as ``1e-4``, ``[a, b]`` or ``{r: 16}``. Raises RecipeError."""
    return parse(text).data


def mapping(document: Document, what: str, needs: str) -> dict[str, Any]:
    """The document's data as a mapping.

    Raises:
        RecipeError: it is empty or something else. ``what`` ("a recipe") and ``needs`` ("name, model") go into the message.
    """
    if document.data is None:
        raise RecipeError([Problem("the file is empty", document.file, 1, 1, f"{what} needs at least {needs}")])
    if not isinstance(document.data, dict):
        message = f"{what} is a mapping of keys and values, not {show(document.data)}"
        raise RecipeError([document.problem((), message, f"it needs at least {needs}, each as 'key: value'")])
    return document.data


def show(value: Any) -> str:
    """A value in the words of a message: ``'abc'``, ``3``, ``a list``, ``nothing``."""
    if value is None:
        return "nothing (the value is empty)"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f"'{value}'" if len(value) <= 60 else f"'{value[:57]}...'"
    if isinstance(value, (int, float)):
        return str(value) if not isinstance(value, int) or abs(value) < 10**18 else "a very large number"
    if isinstance(value, (Mapping, Sequence)):
        return f"{'a' if value else 'an empty'} {'mapping' if isinstance(value, Mapping) else 'list'}"
    return type(value).__name__


def _compose(text: str, file: str) -> Any:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError
    from ruamel.yaml.reader import ReaderError

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a reused anchor is legal; the last one counts
        try:
            return YAML(typ="safe", pure=True).compose(text)
        except MarkedYAMLError as error:
            raise RecipeError([_syntax(error, text, file)]) from None
        except ReaderError as error:
            before = text[: error.position]
            message = f"the character #x{ord(error.character) if isinstance(error.character, str) else error.character:04x} is not allowed"
            line, column = before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1
            raise RecipeError([Problem(message, file, line, column, "delete it")]) from None
        except (YAMLError, ValueError, AttributeError, TypeError, LookupError, NotImplementedError) as error:
            # ruamel.yaml lets some of its own slips through on input such as "%YAML 9".
            raise RecipeError(
                [Problem(f"is not valid YAML: {str(error).splitlines()[0] if str(error) else error!r}", file, 1, 1)]
            ) from None


def _syntax(error: Any, text: str, file: str) -> Problem:
    """ruamel's words, which talk about tokens and blocks, in words about what the reader typed."""
    problem, mark, context = error.problem or "", error.problem_mark, error.context_mark
    position = _position(mark or context)
    lines = text.splitlines()
    line = lines[position[0] - 1] if position[0] <= len(lines) else ""
    opened = f"line {context.line + 1}" if context else "above"
    message, hint = f"is not valid YAML: {problem}", ""
    if "'\\t'" in problem:
        message, hint = "a tab is used here", "indent with spaces"
    elif "{{" in line and "block" in f"{problem}{error.context}":
        message, hint = "this is not valid YAML", _TEMPLATE_HINT
    elif "mapping values are not allowed" in problem:
        message, hint = "a ':' is not expected here", "put the text in quotes if it contains ': ', or check the indentation"
    elif "could not find expected ':'" in problem:
        position = _position(context or mark)
        message, hint = "a key without a value", "write 'key: value'"
    elif "end of stream" in problem or "<stream end>" in problem:
        position = _position(context or mark)
        what = "quote" if "scalar" in str(error.context) else "bracket"
        message, hint = f"a {what} that opens here is never closed", f"add the closing {what}"
    elif "expected ','" in problem:
        message, hint = f"a ',' or a closing bracket is missing: the bracket of {opened} is still open", ""
    elif "cannot start any token" in problem:
        message, hint = f"a text cannot start with {problem.split('character ')[1].split(' ')[0]}", "put the text in quotes"
    elif "undefined alias" in problem:
        message, hint = f"{problem.removeprefix('found ')}", "put the text in quotes if it starts with '*'"
    elif "another document" in problem:
        message, hint = "a second document starts here", "delete the line '---'; one file is one document"
    elif "unknown escape" in problem:
        message, hint = f"{problem.removeprefix('found ')} in a text in double quotes", "use single quotes, or write \\\\ for a backslash"
    elif "expected <block end>" in problem:
        message, hint = "this does not fit to the lines above", "check the indentation and the quotes"
    elif "sequence entries" in problem:
        message, hint = "a list entry '- ' is not expected here", "start the list on a new line"
    return Problem(message, file, *position, hint)


class _Reader:
    """Nodes to plain values; collects problems."""

    def __init__(self, document: Document):
        self.document = document
        self.problems: list[Problem] = []
        self.nodes = 0
        self.open: list[int] = []

    def report(self, node: Any, message: str, hint: str = "") -> None:
        line, column = _position(node.start_mark)
        self.problems.append(Problem(message, self.document.file, line, column, hint))

    def value(self, node: Any) -> Any:
        self.nodes += 1
        if self.nodes > MAX_NODES or len(self.open) > MAX_DEPTH:
            if not any("too" in p.message for p in self.problems):
                self.report(node, "is too large" if self.nodes > MAX_NODES else "is nested too deeply")
            return None
        if id(node) in self.open:
            self.report(node, "an alias may not contain itself")
            return None
        kind = str(node.tag).removeprefix(_TAG)
        if isinstance(node.value, str):
            return self.scalar(node, kind)
        if kind not in ("map", "seq"):
            self.report(node, f"tags such as {node.tag} are not supported", "delete it")
            return None
        self.open.append(id(node))
        result: Any = dict(self.pairs(node)) if kind == "map" else [self.value(child) for child in node.value]
        self.open.pop()
        return result

    def pairs(self, node: Any) -> Iterator[tuple[str, Any]]:
        seen: dict[str, int] = {}
        for key, value in node.value:
            kind = str(key.tag).removeprefix(_TAG)
            name = key.value
            if kind == "merge":
                self.report(key, "merge keys (<<) are not supported", "write the keys out")
            elif not isinstance(name, str):
                braces = node.flow_style and isinstance(name, list)
                self.report(key, "a key must be text", _TEMPLATE_HINT if braces else "")
            elif kind not in ("str", "timestamp"):
                self.report(key, f"a key must be text, not {name or 'empty'}", f'write "{name}"' if name else "")
            elif name in seen:
                self.report(key, f"the key '{name}' occurs twice", f"the first one is in line {seen[name]}")
            else:
                seen[name] = key.start_mark.line + 1
                yield name, self.value(value)

    def scalar(self, node: Any, kind: str) -> Any:
        text = node.value
        try:
            if kind == "null":
                return None
            if kind == "bool":
                return {"true": True, "false": False, "yes": True, "no": False, "on": True, "off": False}[text.lower()]
            if kind == "int":
                return _whole(text)
            if kind == "float":
                number = float(text.lower().replace("_", "").replace(".inf", "inf").replace(".nan", "nan"))
                if not math.isfinite(number):
                    self.report(node, f"{text} is not a finite number")
                return number
        except (ValueError, KeyError):
            self.report(node, f"{show(text)} is not a value of type {kind}")
            return None
        if any("\ud800" <= character <= "\udfff" for character in text):
            try:  # JSON writes an emoji as two escapes
                text = text.encode("utf-16", "surrogatepass").decode("utf-16")
            except UnicodeDecodeError:
                self.report(node, "half of a surrogate pair is not text", "write the character itself")
        if kind not in ("str", "timestamp", "value"):
            self.report(node, f"tags such as {node.tag} are not supported", "delete it, or put the text in quotes")
        return text


def _whole(text: str) -> int:
    sign, digits = (-1, text[1:]) if text[:1] == "-" else (1, text.removeprefix("+"))
    digits = digits.replace("_", "").lower()
    # int(x, 0) would refuse leading zeros, which YAML reads as decimal.
    base = {"0x": 16, "0o": 8, "0b": 2}.get(digits[:2], 10)
    return sign * int(digits if base == 10 else digits[2:], base)


def _child(node: Any, step: str | int) -> tuple[Any, Any] | None:
    if not isinstance(node.value, list):
        return None
    if isinstance(step, int):
        inside = 0 <= step < len(node.value) and not isinstance(node.value[step], tuple)
        return (node.value[step], node.value[step]) if inside else None
    return next(((pair[0], pair[1]) for pair in node.value if isinstance(pair, tuple) and pair[0].value == step), None)


def _position(mark: Any) -> tuple[int, int]:
    return mark.line + 1, mark.column + 1
