"""A chat template that has the persona built in: what our renderer does in Python, as Jinja in front of the model's own template.

Whoever applies it sends plain messages; the persona stands in front of them even where there is no system message, and a system message
of the caller's follows it, as in :func:`agentft.render.messages.with_system`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from agentft.render.messages import Chat
from agentft.render.template import _PINNED_NOW

if TYPE_CHECKING:
    from agentft.render.conversation import Renderer
    from agentft.render.template import ChatTemplate

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


def with_persona(renderer: Renderer, shots: Chat | Sequence[dict[str, Any]] = ()) -> Any:
    """The renderer's chat template with its persona, its fixed variables and ``shots`` (messages shown before every conversation).

    Returns: Jinja source; a mapping of names to sources where the tokenizer has several templates.
    """
    template = renderer.template
    head = _head(template, renderer.system, list(shots), folded=not template.system_role)
    if not head:
        return template.source
    if isinstance(template.source, str):
        return head + template.source
    return {name: head + source for name, source in template.source.items()}


def _head(template: ChatTemplate, system: str, shots: list[dict[str, Any]], folded: bool) -> str:
    """What stands in front. It ends with a block and a line break, which Jinja takes away as transformers sets it up: the template's own
    first line stays the beginning of a line."""
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
    front = (_FOLDED if folded else _SYSTEM) if system else _SHOTS if shots else ""
    text += front if shots else front.replace("agentft_shots + ", "")
    return text


def _default(name: str, value: Any) -> str:
    return f"{{%- if {name} is not defined %}}\n{{%- set {name} = {_literal(value)} %}}\n{{%- endif %}}\n"


def _literal(value: Any) -> str:
    """Jinja writes texts, numbers, lists and mappings as JSON does, true and false too."""
    return "none" if value is None else json.dumps(value, ensure_ascii=False)
