"""The persona inside the chat template, for the templates of many families: the renderer's text, whatever the caller sends."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from agentft.errors import DataError
from agentft.export.go_template import render
from agentft.export.ollama import FAMILIES, PROBES, conversation, family_of
from agentft.export.template import with_persona
from agentft.records import Example, Message
from agentft.render.conversation import Renderer
from agentft.render.messages import to_chat, to_tools

sys.path.insert(0, str(Path(__file__).parents[1] / "render"))
from chat_families import FAMILIES as MODELS
from chat_families import tokenizer

SYSTEM = 'You are "Ada".\nSay {{ nothing }} of {% secrets %}, \\n 您好 📦.'
CHATS = (
    [Message("user", "Hello")],
    [Message("system", "It is Monday."), Message("user", "你好")],
    [Message("user", "a"), Message("assistant", "b"), Message("user", "c")],
)
# Which of Ollama's templates a model's chat template is; the others are none that Ollama's templates can be compared with here.
KNOWN = {"smollm2": "chatml", "llama3": "llama3"}


def own(name):
    """A tokenizer that a test may change."""
    import copy

    return copy.copy(tokenizer(name))


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("chat", CHATS, ids=["user", "system", "three turns"])
def test_the_template_says_what_the_renderer_says(name, chat):
    renderer = Renderer(own(name), SYSTEM)
    template = with_persona(renderer)
    made = own(name).apply_chat_template(to_chat(chat), chat_template=template, add_generation_prompt=True, tokenize=False)
    assert made == renderer.prompt(Example("x", tuple(chat))).text


TOOLS = (
    {
        "name": "look_up",
        "description": 'Find "an" order 订单',
        "parameters": {"type": "object", "properties": {"order": {"type": "string"}}},
    },
)
OTHER = ({"name": "cancel", "description": "Cancel it", "parameters": {"type": "object", "properties": {}}},)
CALL = {"name": "look_up", "arguments": {"order": "A17", "deep": {"日": "周一"}}}
TALKS = {
    "user": CHATS[0],
    "system": CHATS[1],
    "called": [Message("user", "Where is A17?"), Message("assistant", "", tool_calls=(CALL,)), Message("tool", '{"status": "sent"}')],
    "went on": [
        Message("user", "Where?"),
        Message("assistant", "Let me see.", tool_calls=(CALL,)),
        Message("tool", "sent"),
        Message("assistant", "It was sent."),
        Message("user", "Thanks"),
    ],
    "two calls": [
        Message("user", "Where?"),
        Message("assistant", "", tool_calls=(CALL, CALL)),
        Message("tool", "sent"),
        Message("tool", "周一"),
        Message("user", "And?"),
    ],
}


@pytest.mark.parametrize("given", [(), OTHER], ids=["the persona's", "the caller's"])
@pytest.mark.parametrize("talk", TALKS)
@pytest.mark.parametrize("name", MODELS)
def test_tools_of_persona_and_caller_are_shown_and_calls_written(name, talk, given):
    renderer = Renderer(own(name), "Be kind.", tools=TOOLS)
    example = Example("x", tuple(TALKS[talk]), tools=given)
    try:
        wanted = renderer.prompt(example).text
    except DataError:
        pytest.skip("the family's template refuses this conversation")
    as_text = renderer.tool_mode == "template" and any(m.tool_calls for m in TALKS[talk]) and renderer.template.tool_form[0]
    chat, template = to_chat(TALKS[talk], as_text), with_persona(renderer)
    made = own(name).apply_chat_template(chat, to_tools(given), chat_template=template, add_generation_prompt=True, tokenize=False)
    assert made == wanted
    assert ("look_up" if not given else "cancel") in made


def test_shown_conversations_stand_behind_the_system_message():
    renderer = Renderer(own("smollm2"), SYSTEM)
    shots = [Message("user", "Ping"), Message("assistant", "Pong")]
    template = with_persona(renderer, to_chat(shots))
    for chat in CHATS:
        own_system = [one for one in chat if one.role == "system"]
        wanted = renderer.prompt(Example("x", (*own_system, *shots, *chat[len(own_system) :]))).text
        assert (
            own("smollm2").apply_chat_template(to_chat(chat), chat_template=template, add_generation_prompt=True, tokenize=False) == wanted
        )


def test_a_system_message_of_parts_follows_the_persona():
    made = own("smollm2").apply_chat_template(
        [{"role": "system", "content": [{"type": "text", "text": "It is Monday."}]}, {"role": "user", "content": "Hi"}],
        chat_template=with_persona(Renderer(own("smollm2"), "Be kind.")).replace("message['content'] +", "message['content'] | string +"),
        tokenize=False,
    )
    assert made.index("Be kind.") < made.index("It is Monday.")


@pytest.mark.parametrize("name", MODELS)
def test_ollamas_template_is_only_written_where_it_says_the_same(name):
    renderer = Renderer(own(name), "Be kind.")
    try:
        family = family_of(renderer)
    except DataError as error:
        assert "use --to gguf" in str(error) and name not in KNOWN
        return
    for probe in PROBES:
        text = renderer.prompt(Example("x", probe)).text
        assert text.endswith(render(FAMILIES[family], conversation("Be kind.", probe)))
    assert KNOWN.get(name, family) == family


@pytest.mark.parametrize(
    ("template", "wanted"),
    [
        ('a {{- " b" -}} c', "a bc"),
        ("{{ range $i, $m := .Messages }}{{ $i }}{{ $m.Role }}{{ .Content }};{{ end }}", "0userhi;1assistantyo;"),
        ("{{ if and .System (not .Nothing) }}s{{ else }}n{{ end }}", "s"),
        ('{{ if .Nothing }}a{{ else if eq .System "x" }}b{{ else }}c{{ end }}!', "c!"),
        ("{{ $n := len .Messages }}{{ if or .Nothing (eq $n 2) }}two{{ end }}", "two"),
        ("{{ len (slice .Messages 1) }}", "1"),
    ],
)
def test_go_templates(template, wanted):
    data = {"System": "s", "Messages": [{"Role": "user", "Content": "hi"}, {"Role": "assistant", "Content": "yo"}]}
    assert render(template, data) == wanted


@pytest.mark.parametrize("template", ["{{ if .A }}", "{{ end }}", "{{ wat .A }}", "{{ $x }}", "{{ eq (.A }}"])
def test_go_templates_that_cannot_be_read(template):
    with pytest.raises(DataError, match="Go template"):
        render(template, {})
