"""As much of Go's text/template as Ollama's model files use, to see here what Ollama will make of a conversation there.

Known: text, trimming (``{{-`` and ``-}}``), ``.Name`` and ``$.Name`` of the data, variables, ``if`` / ``else if`` / ``else`` / ``end``,
``range $i, $_ := .List`` with ``.`` as the element, and the functions ``eq ne and or not len slice``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from agentft.errors import DataError

_ACTION = re.compile(r"\{\{(-\s)?(.*?)(\s-)?\}\}", re.DOTALL)
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[()]|:=|,|[^\s(),]+')


@dataclass
class _Block:
    """A branch of the template: texts, actions and blocks in order."""

    head: list[str] = field(default_factory=list)
    body: list[Any] = field(default_factory=list)
    otherwise: list[Any] | None = None
    chained: bool = False  # an "else if"


def render(template: str, data: Mapping[str, Any]) -> str:
    """The text of ``template`` for ``data``.

    Raises:
        DataError: the template uses what is not known here, or is not closed.
    """
    return _run(_parse(template), data, data, {})


def _parse(template: str) -> list[Any]:
    root = _Block()
    stack: list[_Block] = [root]
    place, strip = 0, False
    for found in _ACTION.finditer(template):
        text = template[place : found.start()]
        text = text.lstrip() if strip else text
        _into(stack[-1]).append(text.rstrip() if found.group(1) else text)
        place, strip = found.end(), bool(found.group(3))
        words = _TOKEN.findall(found.group(2).strip())
        if words[:1] in (["if"], ["range"]):
            stack.append(_Block(words))
            _into(stack[-2]).append(stack[-1])
        elif words == ["else"]:
            stack[-1].otherwise = []
        elif words[:2] == ["else", "if"]:  # one {{ end }} closes the whole chain
            stack[-1].otherwise = [_Block(words[1:], chained=True)]
            stack.append(stack[-1].otherwise[0])
        elif words == ["end"]:
            if len(stack) == 1:
                raise DataError("the Go template has an {{ end }} too many")
            while stack.pop().chained:
                pass
        else:
            _into(stack[-1]).append(words)
    if len(stack) > 1:
        raise DataError("the Go template has a block without {{ end }}")
    text = template[place:]
    root.body.append(text.lstrip() if strip else text)
    return root.body


def _into(block: _Block) -> list[Any]:
    return block.body if block.otherwise is None else block.otherwise


def _run(parts: Sequence[Any], root: Any, dot: Any, names: dict[str, Any]) -> str:
    made = []
    for part in parts:
        if isinstance(part, str):
            made.append(part)
        elif isinstance(part, _Block):
            made.append(_block(part, root, dot, names))
        elif part[1:2] == [":="]:
            names[part[0]] = _value(part[2:], root, dot, names)
        else:
            made.append(str(_value(part, root, dot, names)))
    return "".join(made)


def _block(block: _Block, root: Any, dot: Any, names: dict[str, Any]) -> str:
    if block.head[0] == "if":
        chosen = block.body if _value(block.head[1:], root, dot, names) else block.otherwise or []
        return _run(chosen, root, dot, dict(names))
    at = block.head.index(":=") if ":=" in block.head else 0
    keys = [name for name in block.head[1:at] if name != ","]
    rows = _value(block.head[at + 1 :], root, dot, names)
    made = []
    for number, row in enumerate(rows):
        # With one name Go gives the element, with two the index first.
        own = dict(zip(keys, (number, row) if len(keys) == 2 else (row,), strict=True)) if keys else {}
        made.append(_run(block.body, root, row, {**names, **own}))
    return "".join(made)


def _value(words: Sequence[str], root: Any, dot: Any, names: Mapping[str, Any]) -> Any:
    """A term, or a function with its arguments."""
    terms, rest = [], list(words)
    while rest:
        word = rest.pop(0)
        if word == "(":
            depth, inner = 1, []
            while depth:
                if not rest:
                    raise DataError("the Go template has a bracket that is not closed")
                word = rest.pop(0)
                depth += (word == "(") - (word == ")")
                inner.append(word)
            terms.append(_value(inner[:-1], root, dot, names))
        else:
            terms.append(_FUNCTIONS[word] if word in _FUNCTIONS and not terms else _term(word, root, dot, names))
    return terms[0](*terms[1:]) if callable(terms[0]) else terms[0]


def _term(word: str, root: Any, dot: Any, names: Mapping[str, Any]) -> Any:
    if word.startswith('"'):
        import json

        return json.loads(word)
    if re.fullmatch(r"-?\d+", word):
        return int(word)
    if word == ".":
        return dot
    if word.startswith("$."):
        return _member(root, word[2:])
    if word.startswith("$"):
        name, _, member = word.partition(".")
        if name not in names:
            raise DataError(f"the Go template uses {name}, which is not defined")
        return _member(names[name], member) if member else names[name]
    if word.startswith("."):
        return _member(dot, word[1:])
    raise DataError(f"the Go template uses '{word}', which is not known here")


def _member(value: Any, name: str) -> Any:
    return value.get(name, "") if isinstance(value, Mapping) else ""


_FUNCTIONS: dict[str, Any] = {
    "eq": lambda first, *others: any(first == one for one in others),
    "ne": lambda first, other: first != other,
    "and": lambda *values: next((value for value in values if not value), values[-1]),
    "or": lambda *values: next((value for value in values if value), values[-1]),
    "not": lambda value: not value,
    "len": len,
    "slice": lambda value, *bounds: value[slice(*bounds)] if len(bounds) > 1 else value[bounds[0] :],
}
