"""Tool calls in generated text: where they begin, what they say, and why a text that meant to call a tool is no call.

Chat templates write calls in three shapes: a JSON object that holds name and arguments (Hermes, Qwen, Llama, Mistral, Granite), a name
with the arguments as JSON behind it (DeepSeek, gpt-oss), and a name with each argument between tags of its own (GLM, Qwen 3.5, Nemotron).
Which marks a template puts around them is found by probing it (:mod:`agentft.render.tool_probe`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from agentft.errors import DataError
from agentft.tool_schema import fits, function_of, type_of

Call = dict[str, Any]
Tools = Sequence[Mapping[str, Any]]
_NAMES, _ARGUMENTS = ("name", "tool_name", "function"), ("arguments", "parameters", "args")
_SPACE = re.compile(r"\s*")


class CallError(DataError):
    """A text that means to call a tool and cannot be read. The message can be told to the model.

    Attributes:
        kind: ``not-json``, ``no-name``, ``unclosed`` or ``outside`` (a call without the marks that belong around it), for counting.
    """

    def __init__(self, kind: str, reason: str):
        self.kind = kind
        super().__init__(reason)


@dataclass(frozen=True)
class Reading:
    """What a generated text says and calls.

    Attributes:
        text: what is said besides the calls; all of the text where it is ``malformed``.
        calls: ``{"name": str, "arguments": dict}`` each, in order. Nobody has looked yet whether there is such a tool.
        malformed: why a text that meant to call a tool is no call.
        kind: of the mistake, see :class:`CallError`.
    """

    text: str
    calls: tuple[Call, ...] = ()
    malformed: str = ""
    kind: str = ""


@dataclass(frozen=True)
class Form:
    """How calls are written.

    Attributes:
        lead, gap: what a template writes before and behind the words that come with a call.
        marks: texts that nobody but the agent and the template may write, where they are no added tokens.
    """

    lead: str = ""
    gap: str = ""
    marks: tuple[str, ...] = ()

    def read(self, text: str, tools: Tools = ()) -> Reading:
        """``text`` is an answer up to its stop token, thoughts taken away. ``tools`` decide what a text without quotes stands for."""
        try:
            said, calls = self.split(text, tools)
        except CallError as error:
            return Reading(text.strip(), (), str(error), error.kind)
        return Reading(self._words(said) if calls else said.strip(), tuple(calls))

    def split(self, text: str, tools: Tools) -> tuple[str, list[Call]]:
        """What is said, and the calls. Raises CallError."""
        raise NotImplementedError

    def _words(self, said: str) -> str:
        lead, gap = self.lead.strip(), self.gap.strip()
        said = said.strip().removeprefix(lead) if lead else said
        return (said.partition(gap)[0] if gap else said).strip()


@dataclass(frozen=True)
class JsonForm(Form):
    """``opens {"name": ..., "arguments": ...} closes``, one or a list of them; without marks it is all of the answer."""

    opens: str = "<tool_call>"
    closes: str = "</tool_call>"
    name_key: str = "name"
    arguments_key: str = "arguments"

    def split(self, text: str, tools: Tools) -> tuple[str, list[Call]]:
        if not self.opens:
            return self._bare(text)
        if self.opens not in text:
            self._check_outside(text)
            return text, []
        at = text.index(self.opens)
        said, calls = [text[:at]], list[Call]()
        while (start := text.find(self.opens, at)) >= 0:
            said.append(text[at:start])
            value, end = decoded(text, start + len(self.opens))
            calls += self._calls(value)
            at = _closed(text, end, self.closes)
        said.append(text[at:])
        return "\n".join(part.strip() for part in said if part.strip()), calls

    def example(self) -> str:
        """A call as a model is shown it, with placeholders."""
        inner = f'{{"{self.name_key}": <function-name>, "{self.arguments_key}": <args-json-object>}}'
        return "\n".join(part for part in (self.opens, inner, self.closes) if part)

    def write(self, call: Mapping[str, Any]) -> str:
        """A call as text."""
        data = {self.name_key: call["name"], self.arguments_key: call["arguments"]}
        return f"{self.opens}\n{json.dumps(data, ensure_ascii=False)}\n{self.closes}"

    def _bare(self, text: str) -> tuple[str, list[Call]]:
        """Llama's way: an answer that is JSON and nothing else."""
        body = re.sub(r"^\s*(<\|python_tag\|>)?\s*", "", text)
        if not body.startswith("{") or f'"{self.name_key}"' not in body:
            return text, []
        at, calls = 0, list[Call]()
        while body[at : at + 1] == "{":
            value, end = decoded(body, at)
            if isinstance(value, Mapping) and not set(value) & set(_NAMES):
                return text, []
            calls += self._calls(value)
            at = re.compile(r"[\s;]*").match(body, end).end()  # type: ignore[union-attr]
        return body[at:], calls

    def _check_outside(self, text: str) -> None:
        if self.closes and self.closes in text:
            raise CallError("outside", f"'{self.closes}' stands there without '{self.opens}' before it")
        try:
            value = json.loads(text)
        except ValueError:
            return
        if isinstance(value, Mapping) and isinstance(value.get(self.name_key), str) and self.arguments_key in value:
            raise CallError("outside", f"a call has to stand behind {self.opens}{' and before ' + self.closes if self.closes else ''}")

    def _calls(self, value: Any) -> list[Call]:
        return [self._call(one) for one in (value if isinstance(value, list) else [value])]

    def _call(self, value: Any) -> Call:
        if not isinstance(value, Mapping):
            raise CallError("not-json", f"a call must be an object with {self.name_key} and {self.arguments_key}")
        if isinstance(value.get("function"), Mapping):
            value = value["function"]
        name = next((value[key] for key in (self.name_key, *_NAMES) if key in value), None)
        arguments: Any = next((value[key] for key in (self.arguments_key, *_ARGUMENTS) if key in value), {})
        return called(name, arguments)


@dataclass(frozen=True)
class NameForm(Form):
    """``first (head NAME middle {...} tail)+ last``: the arguments are JSON behind the name."""

    first: str = ""
    head: str = ""
    middle: str = ""
    tail: str = ""
    last: str = ""

    def split(self, text: str, tools: Tools) -> tuple[str, list[Call]]:
        found = list(self._heads(text))
        if not found:
            return text, []
        said, calls, at = [_without_end(text[: found[0][0]], self.first)], list[Call](), 0
        for start, name, body in found:
            if start < at:  # inside the arguments of the call before
                continue
            said.append(text[at:start] if calls else "")
            if body < 0:
                raise CallError("unclosed", f"the call of '{name}' has no arguments: the text ends before them")
            value, end = decoded(text, body, "arguments are")
            calls.append(called(name, value))
            at = _closed(text, end, self.tail)
        said.append(text[at:].strip().removeprefix(self.last.strip()))
        return "\n".join(part.strip() for part in said if part.strip()), calls

    def _heads(self, text: str) -> Iterator[tuple[int, str, int]]:
        """Of each call: where it begins, its name, and where its arguments do (-1: nowhere)."""
        at = 0
        while (start := text.find(self.head, at)) >= 0:
            begin = start + len(self.head)
            mark = self.middle.strip()
            end = text.find(mark, begin) if mark else begin + len(text[begin:].split("{")[0])
            yield start, (text[begin:end] if end >= 0 else text[begin:]).strip(), end + len(mark) if end >= 0 else -1
            at = begin


_HARMONY = re.compile(r"(?:<\|channel\|>\w+)?\s*to=functions\.([^\s<{]*)[^{]*?<\|message\|>")


@dataclass(frozen=True)
class HarmonyForm(NameForm):
    """gpt-oss. Its template names the receiver before the channel, its models behind it; both are read."""

    def _heads(self, text: str) -> Iterator[tuple[int, str, int]]:
        for found in _HARMONY.finditer(text):
            yield found.start(), found[1], found.end()


@dataclass(frozen=True)
class TagForm(Form):
    """``head NAME name_close (key_open KEY key_close VALUE value_close)* tail``. Texts have no quotes, other values are JSON."""

    head: str = ""
    name_close: str = ""
    key_open: str = ""
    key_close: str = ""
    value_close: str = ""
    tail: str = ""

    def split(self, text: str, tools: Tools) -> tuple[str, list[Call]]:
        at = text.find(self.head)
        if at < 0:
            return text, []
        said, calls = [text[:at]], list[Call]()
        while (start := text.find(self.head, at)) >= 0:
            said.append(text[at:start])
            name, at = self._name(text, start + len(self.head))
            types = _types(name, tools)
            arguments: dict[str, Any] = {}
            while (key := _SPACE.match(text, at).end()) == text.find(self.key_open, key):  # type: ignore[union-attr]
                word, at = self._until(text, key + len(self.key_open), self.key_close, name)
                value, at = self._until(text, at, self.value_close, name)
                arguments[word.strip()] = valued(value, types.get(word.strip()))
            calls.append(called(name, arguments))
            at = _closed(text, at, self.tail)
        said.append(text[at:])
        return "\n".join(part.strip() for part in said if part.strip()), calls

    def _name(self, text: str, at: int) -> tuple[str, int]:
        if self.name_close:
            end = text.find(self.name_close, at)
            if end < 0:
                raise CallError("unclosed", "the call is not closed: the text ends in the function's name")
            return text[at:end].strip(), end + len(self.name_close)
        found = re.compile(r"\s*([^\s<]*)").match(text, at)
        assert found is not None
        return found[1], found.end()

    @staticmethod
    def _until(text: str, at: int, mark: str, name: str) -> tuple[str, int]:
        """The text up to ``mark``. The white space that belongs to a mark may be left out."""
        for wanted in (mark, mark.strip()):
            if (end := text.find(wanted, at)) >= 0:
                return text[at:end], end + len(wanted)
        raise CallError("unclosed", f"the call of '{name}' is not closed: '{mark.strip()}' is missing")


HERMES = JsonForm(marks=("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<tools>", "</tools>"))


def decoded(text: str, at: int, what: str = "call is") -> tuple[Any, int]:
    """The JSON value at ``at``, and where it ends. Raises CallError."""
    start = _SPACE.match(text, at).end()  # type: ignore[union-attr]
    try:
        return _DECODER.raw_decode(text, start)
    except (ValueError, RecursionError) as error:
        position = getattr(error, "pos", start)
        if position >= len(text.rstrip()) or str(error).startswith("Unterminated string"):
            raise CallError("unclosed", "the call is not closed: the text ends inside of it") from None
        what = "arguments are" if re.search(r'"(arguments|parameters)"\s*:', text[start:position]) else what
        near = text[max(start, position - 15) : position + 15]
        raise CallError("not-json", f"the {what} not JSON: {getattr(error, 'msg', error)} near {near!r}") from None


def called(name: Any, arguments: Any) -> Call:
    """A call of what stands there. Raises CallError."""
    if not isinstance(name, str) or not name.strip():
        raise CallError("no-name", "the call has no name")
    if isinstance(arguments, str):
        try:
            arguments = _DECODER.decode(arguments or "{}")
        except ValueError as error:
            raise CallError("not-json", f"the arguments are not JSON: {error}") from None
    if arguments is None:
        arguments = {}
    if not isinstance(arguments, Mapping):
        raise CallError("not-json", f"the arguments of '{name}' must be an object, not {json.dumps(arguments, ensure_ascii=False)[:60]}")
    return {"name": name.strip(), "arguments": dict(arguments)}


def valued(text: str, schema: Any) -> Any:
    """The value that a text without quotes stands for: what the schema says, else JSON where it is JSON, else the text."""
    if type_of(schema) == ("string",):
        return text
    word = {"True": "true", "False": "false", "None": "null"}.get(text.strip(), text)  # as some templates write them
    try:
        value = _DECODER.decode(word)
    except (ValueError, RecursionError):
        return text
    return text if schema and not fits(value, schema) and fits(text, schema) else value


def same_calls(one: Iterable[Mapping[str, Any]], other: Iterable[Mapping[str, Any]]) -> bool:
    """Whether two lists of calls are equal; ``1`` and ``true`` are not."""

    def plain(calls: Iterable[Mapping[str, Any]]) -> list[str]:
        return [json.dumps([call["name"], call["arguments"]], sort_keys=True, ensure_ascii=False) for call in calls]

    return plain(one) == plain(other)


def _no_number(word: str) -> NoReturn:
    raise ValueError(f"{word} is no JSON")


_DECODER = json.JSONDecoder(strict=False, parse_constant=_no_number)  # models break lines inside of texts


def _types(name: str, tools: Tools) -> Mapping[str, Any]:
    for function in map(function_of, tools):
        if function.get("name") == name:
            return (function.get("parameters") or {}).get("properties") or {}
    return {}


def _closed(text: str, at: int, mark: str) -> int:
    """The place behind ``mark``. It may be missing at the end of the text: the call is complete without it."""
    start, mark = _SPACE.match(text, at).end(), mark.strip()  # type: ignore[union-attr]
    if text.startswith(mark, start):
        return start + len(mark)
    if mark and start < len(text):
        raise CallError("unclosed", f"the call is not closed: '{mark}' is missing behind {text[max(0, at - 20) : at]!r}")
    return start


def _without_end(text: str, mark: str) -> str:
    text, mark = text.rstrip(), mark.strip()
    return text.removesuffix(mark) if mark else text
