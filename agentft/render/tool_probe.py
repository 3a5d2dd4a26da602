"""How a chat template writes tool calls, found by rendering a few; nothing is known about any model by its name."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from agentft.errors import DataError
from agentft.records import Message
from agentft.render.messages import to_chat, to_tools
from agentft.render.tool_calls import Form, HarmonyForm, JsonForm, NameForm, TagForm, same_calls

if TYPE_CHECKING:
    from agentft.render.template import ChatTemplate

_QUESTION, _WORDS, _ANSWER = "Askprobe", "Wordprobe", "Toolprobe"
_NAMES = ("look_up_probe", "hand_in_probe")
_ARGUMENTS = {"alphakey": "Argone", "betakey": "Argtwo"}
_CALL = {"name": _NAMES[0], "arguments": _ARGUMENTS}
_MARK = re.compile(r"</?[\w▁]+>|\[/?[A-Z_]{3,}\]")
# What has to come back as it was: a text with quotes, a line break and Chinese, numbers, nesting, no arguments at all.
_PROOF: tuple[dict[str, Any], ...] = (
    {
        "name": "book_table",
        "arguments": {"place": '北京 "A"\n<b>', "seats": 3, "price": 1.5, "deep": {"list": [1, None, True, "x"], "of": {}}},
    },
    {"name": "list_all", "arguments": {}},
)
_SCHEMAS = (
    {
        "name": "book_table",
        "description": "Describeprobe",
        "parameters": {
            "type": "object",
            "properties": {
                "place": {"type": "string"},
                "seats": {"type": "integer"},
                "price": {"type": "number"},
                "deep": {"type": "object"},
            },
        },
    },
    {"name": "list_all", "description": "Describeprobe", "parameters": {"type": "object", "properties": {}}},
)


def find_form(template: ChatTemplate) -> Form | None:
    """How ``template`` writes calls. None where it does not show tools, or writes calls so that they do not come back as they were, or a
    conversation does not go on after them."""
    try:
        alone = _written(template, [Message("assistant", "", tool_calls=(_CALL,))])
        answered = _answer(template)
        form = _of_json(alone) or _of_name(alone, template) or _of_tags(alone)
        if form is None or not _shows_tools(template):
            return None
        lead, gap = _around_words(template, alone)
        marks = tuple(dict.fromkeys(_MARK.findall(alone.replace(_NAMES[0], "")) + _MARK.findall(answered)))
        form = replace(form, lead=lead, gap=gap, marks=tuple(mark for mark in marks if "think" not in mark))
        return form if _proved(template, form) else None
    except DataError:
        return None


def _proved(template: ChatTemplate, form: Form) -> bool:
    """Whether each call comes back, also in the second round of a conversation, and words can follow a tool's answer."""
    talk: list[Message] = []
    for call in _PROOF:
        talk += [Message("user", _QUESTION), Message("assistant", "", tool_calls=(call,))]
        if not same_calls(form.read(unthought(_written(template, talk[1:]), template.scaffold), _SCHEMAS).calls, [call]):
            return False
        talk += [Message("tool", _ANSWER), Message("assistant", _WORDS)]
        if _WORDS not in _written(template, talk[1:]):
            return False
    return True


def _shows_tools(template: ChatTemplate) -> bool:
    """Whether the template tells the model which tools there are."""
    return "Describeprobe" in template.render([{"role": "user", "content": _QUESTION}], to_tools(_SCHEMAS), generate=True)


def unthought(text: str, scaffold: str) -> str:
    """``text`` without the thought that it begins with."""
    if text.lstrip().startswith("<think>") or scaffold.lstrip().startswith("</think>"):
        before, found, after = text.partition("</think>")
        return after if found else before
    return text


def _written(template: ChatTemplate, rest: Sequence[Message]) -> str:
    """What the model has to write to add the last message of a question and ``rest``, without the stop token."""
    as_text, stop = template.tool_form
    chat = to_chat([Message("user", _QUESTION), *rest], as_text)
    text = template.completion(template.render(chat[:-1], generate=True), chat)
    return text.removesuffix(stop.text if rest[-1].tool_calls else template.stop.text)


def _answer(template: ChatTemplate) -> str:
    """What the template writes around a tool's answer."""
    talk = (Message("user", _QUESTION), Message("assistant", "", tool_calls=(_CALL,)), Message("tool", _ANSWER))
    chat = to_chat(talk, template.tool_form[0])
    before, text = template.render(chat[:-1]), template.render(chat, generate=True)
    if _ANSWER not in text:
        raise DataError("the chat template leaves out what tools answer")
    return text[len(_common_start(before, text)) :]


def _around_words(template: ChatTemplate, alone: str) -> tuple[str, str]:
    """What the template writes before and behind words that come with a call; nothing where it leaves the words out."""
    try:
        text = unthought(_written(template, [Message("assistant", _WORDS, tool_calls=(_CALL,))]), template.scaffold)
    except DataError:
        return "", ""
    lead, found, rest = text.partition(_WORDS)
    call = unthought(alone, template.scaffold).strip()
    rest = rest.rstrip()
    return (lead, rest.removesuffix(call)) if found and rest.endswith(call) else ("", "")


def _of_json(alone: str) -> Form | None:
    """A JSON object, or a list of one, that holds name and arguments."""
    for place in re.finditer(r"[\[{]", alone[: alone.find("Argone")]):
        try:
            value, end = json.JSONDecoder().raw_decode(alone, place.start())
        except ValueError:
            continue
        inner = value[0] if isinstance(value, list) and value else value
        inner = inner.get("function", inner) if isinstance(inner, Mapping) and isinstance(inner.get("function"), Mapping) else inner
        if not isinstance(inner, Mapping) or _NAMES[0] not in inner.values():
            return None
        keys = [key for key, given in inner.items() if given == _ARGUMENTS or given == json.dumps(_ARGUMENTS, ensure_ascii=False)]
        if not keys:
            return None
        name = next(key for key, given in inner.items() if given == _NAMES[0])
        opens = alone[: place.start()].rpartition("</think>")[2].strip()
        return JsonForm(opens=opens, closes=alone[end:].strip(), name_key=name, arguments_key=keys[0])
    return None


def _of_name(alone: str, template: ChatTemplate) -> Form | None:
    """The arguments as JSON behind the name."""
    before, found, rest = alone.partition(_NAMES[0])
    middle, brace, _ = rest.partition("{")
    if not found or not brace:
        return None
    try:
        value, end = json.JSONDecoder().raw_decode(rest, len(middle))
    except ValueError:
        return None
    if value != _ARGUMENTS:
        return None
    head = before.rpartition("</think>")[2]
    if "to=functions." in head:
        return HarmonyForm(head=head, middle=middle, tail=rest[end:])
    second = _between(template)
    if second is None:
        return NameForm(head=head.strip(), middle=middle, tail=rest[end:])
    again = _common_end(head, second)  # what stands before every name; the rest of the first head stands there once
    again = again[max(again.find("<"), 0) :]
    tail = second[: len(second) - len(again)].rstrip()
    return NameForm(
        first=head[: len(head) - len(again)],
        head=again.strip(),
        middle=middle,
        tail=tail,
        last=rest[end:].strip().removeprefix(tail.strip()),
    )


def _between(template: ChatTemplate) -> str | None:
    """What stands between the arguments of one call and the name of the next; None where a message holds one call only."""
    try:
        calls = tuple({"name": name, "arguments": _ARGUMENTS} for name in _NAMES)
        text = _written(template, [Message("assistant", "", tool_calls=calls)])
    except DataError:
        return None
    before, found, _ = text.partition(_NAMES[1])
    end = before.rfind("}")
    return before[end + 1 :] if found and _NAMES[0] in before and end >= 0 else None


def _of_tags(alone: str) -> Form | None:
    """Each argument between tags of its own."""
    found = re.fullmatch("(.*)look_up_probe(.*?)alphakey(.*?)Argone(.*?)betakey(.*?)Argtwo(.*)", alone, re.DOTALL)
    if found is None:
        return None
    head, to_key, to_value, to_next, again, end = found.groups()
    opens = _common_end(to_key, to_next)
    opens = opens[max(opens.rfind("<"), 0) :]
    closes = to_next[: len(to_next) - len(opens)].rstrip()
    if not opens.strip() or not closes.strip() or to_value != again or not end.startswith(closes):
        return None
    return TagForm(
        head=head.rpartition("</think>")[2].strip(),
        name_close=to_key[: len(to_key) - len(opens)].strip(),
        key_open=opens,
        key_close=to_value,
        value_close=closes,
        tail=end[len(closes) :].strip(),
    )


def _common_start(one: str, other: str) -> str:
    return "".join(a for a, _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def _common_end(one: str, other: str) -> str:
    return _common_start(one[::-1], other[::-1])[::-1]
