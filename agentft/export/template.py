"""A chat template that has the persona built in: what our renderer does in Python, as Jinja in front of the model's own template.

Whoever applies it sends plain messages; the persona stands in front of them even where there is no system message, and a system message
of the caller's follows it, as in :func:`agentft.render.messages.with_system`. A persona's tools are shown where the caller sends none, by
the template itself or, where it knows no tools, as :mod:`agentft.render.tool_fold` writes them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from agentft.render.messages import Chat, to_tools
from agentft.render.template import _PINNED_NOW
from agentft.render.tool_fold import described

if TYPE_CHECKING:
    from agentft.render.conversation import Renderer

_SYSTEM = """\
{%- if messages and messages[0]['role'] == 'system' %}
{%- if messages[0]['content'] is string %}
{%- set messages = [{'role': 'system', 'content': agentft_persona + '\\n\\n' + messages[0]['content']}] + agentft_shots + messages[1:] %}
{%- else %}
{%- set messages = [{'role': 'system', 'content': [{'type': 'text', 'text': agentft_persona + '\\n\\n'}] + messages[0]['content']}] \
+ agentft_shots + messages[1:] %}
{%- endif %}
{%- else %}
{%- set messages = [{'role': 'system', 'content': agentft_persona}] + agentft_shots + messages %}
{%- endif %}
"""
# The template knows no system role: the persona and a caller's system message stand above the first user message.
_FOLDED = """\
{%- set agentft_text = agentft_persona %}
{%- if messages and messages[0]['role'] == 'system' %}
{%- set agentft_text = agentft_persona + '\\n\\n' + messages[0]['content'] %}
{%- set messages = messages[1:] %}
{%- endif %}
{%- set messages = agentft_shots + messages %}
{%- if messages and messages[0]['role'] == 'user' %}
{%- set messages = [{'role': 'user', 'content': agentft_text + '\\n\\n' + messages[0]['content']}] + messages[1:] %}
{%- else %}
{%- set messages = [{'role': 'user', 'content': agentft_text}] + messages %}
{%- endif %}
"""
# Without a persona, shown conversations still have to stand behind a caller's system message.
_SHOTS = """\
{%- if messages and messages[0]['role'] == 'system' %}
{%- set messages = messages[:1] + agentft_shots + messages[1:] %}
{%- else %}
{%- set messages = agentft_shots + messages %}
{%- endif %}
"""
# A template that knows no tools: those of the caller in place of the persona's, described behind the persona.
_DESCRIBED = """\
{%- if tools %}
{%- set agentft_said = namespace(text=agentft_tools_head) %}
{%- for one in tools %}
{%- set function = one['function'] if 'function' in one else one %}
{%- set agentft_said.text = agentft_said.text + '{"name": ' + (function['name'] | tojson) %}
{%- if function['description'] is defined %}
{%- set agentft_said.text = agentft_said.text + ', "description": ' + (function['description'] | tojson) %}
{%- endif %}
{%- if function['parameters'] is defined %}
{%- set agentft_said.text = agentft_said.text + ', "parameters": ' + (function['parameters'] | tojson) %}
{%- endif %}
{%- set agentft_said.text = agentft_said.text + '}\\n' %}
{%- endfor %}
{%- set agentft_tools = agentft_said.text + agentft_tools_tail %}
{%- endif %}
{%- set tools = none %}
"""
# The same for calls and answers of tools, as in agentft.render.tool_fold.folded.
_CALLS = """\
{%- set agentft_fold = namespace(out=[], text='', previous='') %}
{%- for message in messages %}
{%- set agentft_fold.text = message['content'] if message['content'] else '' %}
{%- for call in message['tool_calls'] or [] %}
{%- set function = call['function'] if 'function' in call else call %}
{%- set given = function['arguments'] if function['arguments'] is string else function['arguments'] | tojson %}
{%- set agentft_fold.text = (agentft_fold.text + '\\n' if agentft_fold.text else '') + '<tool_call>\\n{"name": ' \
+ (function['name'] | tojson) + ', "arguments": ' + given + '}\\n</tool_call>' %}
{%- endfor %}
{%- if message['role'] == 'tool' %}
{%- set agentft_fold.text = '<tool_response>\\n' + agentft_fold.text + '\\n</tool_response>' %}
{%- endif %}
{%- if agentft_fold.previous == 'tool' and message['role'] in ['tool', 'user'] %}
{%- set agentft_fold.text = agentft_fold.out[-1]['content'] + '\\n' + agentft_fold.text %}
{%- set agentft_fold.out = agentft_fold.out[:-1] + [{'role': 'user', 'content': agentft_fold.text}] %}
{%- elif message['role'] == 'tool' %}
{%- set agentft_fold.out = agentft_fold.out + [{'role': 'user', 'content': agentft_fold.text}] %}
{%- else %}
{%- set agentft_fold.out = agentft_fold.out + [{'role': message['role'], 'content': agentft_fold.text}] %}
{%- endif %}
{%- set agentft_fold.previous = message['role'] %}
{%- endfor %}
{%- set messages = agentft_fold.out %}
"""


def with_persona(renderer: Renderer, shots: Chat | Sequence[dict[str, Any]] = ()) -> Any:
    """The renderer's chat template with its persona and tools, its fixed variables and ``shots``, messages shown before every conversation.

    Returns: Jinja source; a mapping of names to sources where the tokenizer has several templates.
    """
    template = renderer.template
    head = _head(renderer, list(shots))
    if not head:
        return template.source
    if isinstance(template.source, str):
        return head + template.source
    sources = dict(template.source)
    if renderer.tools and "tool_use" in sources:
        sources["default"] = sources["tool_use"]  # the caller sends no tools, and so the default one is asked
    return {name: head + source for name, source in sources.items()}


def _head(renderer: Renderer, shots: list[dict[str, Any]]) -> str:
    """What stands in front. It ends with a block and a line break, which Jinja takes away as transformers sets it up: the template's own
    first line stays the beginning of a line."""
    template, system, folded = renderer.template, renderer.system, not renderer.template.system_role
    text = ""
    if template.bos:  # our renderer writes a BOS token that the template leaves out
        text += "{{- " + _literal(template.bos) + " -}}\n{%- set agentft_begun = true %}\n"
    if "strftime_now" in template.text:
        text += _PINNED_NOW  # the date that it was trained with
    if "date_string" in template.text:
        text += _default("date_string", "26 Jul 2024")
    for name, value in sorted(template.kwargs.items()):
        text += _default(name, value)
    if shots:
        text += "{%- set agentft_shots = " + _literal(shots) + " %}\n"
    if system:
        text += "{%- set agentft_persona = " + _literal(system) + " %}\n"
    written = bool(renderer.tools) and renderer.tool_mode == "folded"
    if written:
        text += _described(renderer.tools, bool(system))
    elif renderer.tools:
        text += "{%- if not tools %}\n{%- set tools = " + _literal(to_tools(renderer.tools)) + " %}\n{%- endif %}\n"
    front = (_FOLDED if folded else _SYSTEM) if system or written else _SHOTS if shots else ""
    text += front if shots else front.replace("agentft_shots + ", "")
    return text + (_CALLS if written else "")


def _described(tools: Sequence[Mapping[str, Any]], persona: bool) -> str:
    """Sets ``agentft_persona`` to the persona with the description of the tools behind it."""
    probe = {"name": "agentft_probe"}
    before, _, after = described([probe]).partition(json.dumps(probe) + "\n")
    text = "{%- set agentft_tools = " + _literal(described(tools)) + " %}\n"
    text += (
        "{%- set agentft_tools_head = " + _literal(before) + " %}\n{%- set agentft_tools_tail = " + _literal(after) + " %}\n" + _DESCRIBED
    )
    joined = "agentft_persona + '\\n\\n' + agentft_tools" if persona else "agentft_tools"
    return text + "{%- set agentft_persona = " + joined + " %}\n"


def _default(name: str, value: Any) -> str:
    return f"{{%- if {name} is not defined %}}\n{{%- set {name} = {_literal(value)} %}}\n{{%- endif %}}\n"


def _literal(value: Any) -> str:
    """Jinja writes texts, numbers, lists and mappings as JSON does, true and false too."""
    return "none" if value is None else json.dumps(value, ensure_ascii=False)
