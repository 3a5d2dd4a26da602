"""Merged folders: what plain transformers makes of them, and what agentft does, is what the agent does."""

from __future__ import annotations

import json

import pytest
from tiny import tiny_model, tiny_tokenizer

from agentft import export_agent
from agentft.agents import open_agent
from agentft.contracts import GenerationSettings
from agentft.engine.exported import read
from agentft.errors import DataError
from agentft.records import Example, Message

CHATS = (
    (Message("user", "Where is the book?"),),
    (Message("system", "It is Monday."), Message("user", "您好，书在哪里？")),
    (Message("user", "One"), Message("assistant", "Two"), Message("user", "Three")),
)


@pytest.fixture
def merged(folder, options):
    done = export_agent(str(folder), "merged", options={"dtype": "float32"}, **options)
    assert done.good, done.refused
    return done


def test_plain_transformers_reads_the_tokens_of_the_agent(folder, merged, options):
    from transformers import AutoTokenizer

    agent, tokenizer = open_agent(str(folder), persona=options["persona"]), AutoTokenizer.from_pretrained(merged.path)
    for chat in CHATS:
        rows = [{"role": one.role, "content": one.content} for one in chat]
        made = tokenizer.apply_chat_template(rows, add_generation_prompt=True, tokenize=False)
        assert made == agent.loaded.renderer.prompt(Example("x", chat)).text
        assert made.count("a small library") == 1


def test_agentft_reads_it_as_the_agent_and_does_not_double_the_persona(folder, merged, options):
    agent, again = open_agent(str(folder), persona=options["persona"]), open_agent(str(merged.path))
    assert again.loaded.renderer.digest == agent.loaded.renderer.digest
    assert again.persona == agent.persona and again.system == agent.system
    prompts = [Example(str(n), chat) for n, chat in enumerate(CHATS)]
    for prompt in prompts:
        assert again.loaded.renderer.prompt(prompt).input_ids == agent.loaded.renderer.prompt(prompt).input_ids
    settings = GenerationSettings(max_new_tokens=12)
    assert [r.text for r in again.generate(prompts, settings)] == [r.text for r in agent.generate(prompts, settings)]


def test_an_export_can_be_exported_again(merged, tmp_path):
    again = export_agent(str(merged.path), "merged", tmp_path / "again", probes=2)
    assert again.good and read(again.path).digest == read(merged.path).digest
    assert read(again.path).system == read(merged.path).system


def test_another_persona_takes_the_place_of_the_one_that_is_built_in(merged, tmp_path):
    other = tmp_path / "other.yaml"
    other.write_text("name: other\nsummary: s\nlanguage: en\nrole: You sell shoes.\n", "utf-8")
    text = open_agent(str(merged.path), persona=str(other)).loaded.renderer.prompt(Example("x", CHATS[0])).text
    assert "You sell shoes." in text and "library" not in text


def test_a_changed_chat_template_is_refused(merged):
    file = merged.path / "chat_template.jinja"
    file.write_text(file.read_text("utf-8").replace("library", "bakery"), "utf-8")
    with pytest.raises(DataError, match="chat template was changed"):
        open_agent(str(merged.path))


def test_card_report_and_settings_lie_beside_the_weights(merged):
    report = json.loads((merged.path / "export.json").read_text("utf-8"))
    found = report["agreements"][0]
    assert found["kl"] < 1e-6 and found["agreement"] == found["prompts"] == 1.0 and found["positions"] > 4
    card = (merged.path / "README.md").read_text("utf-8")
    assert "small library" in card and "| transformers | 4 |" in card and "licence is not known" in card
    assert json.loads((merged.path / "generation_config.json").read_text("utf-8"))["eos_token_id"] == [2]


def test_dtype_halves_the_file(folder, merged, options, tmp_path):
    half = export_agent(str(folder), "merged", **{**options, "out": tmp_path / "half"}, options={"dtype": "float16"})
    sizes = [(place / "model.safetensors").stat().st_size for place in (merged.path, half.path)]
    assert half.good and sizes[1] < 0.6 * sizes[0]


def test_a_persona_with_tools_keeps_them(options, tmp_path):
    folder = tmp_path / "model"
    tiny_model(folder, tokenizer=tiny_tokenizer((("t", "h"),)), max_position_embeddings=2048)
    tooled = tmp_path / "tooled.yaml"
    tool = "{name: look_up, description: Find a book, parameters: {type: object, properties: {title: {type: string}}, required: [title]}}"
    tooled.write_text(f"name: tooled\nsummary: s\nlanguage: en\nrole: You are a clerk.\ntools: [{tool}]\n", "utf-8")
    done = export_agent(str(folder), "gguf", **{**options, "persona": str(tooled), "min_agreement": 0.95}, options={"quantise": "f32"})
    assert done.good and all(one.prompts in (1.0, None) for one in done.agreements), done.refused
    done = export_agent(str(folder), "merged", **{**options, "persona": str(tooled), "out": tmp_path / "m"}, options={"dtype": "float32"})
    assert done.good, done.refused
    assert json.loads((done.path / "tools.json").read_text("utf-8"))[0]["function"]["name"] == "look_up"
    agent, again = open_agent(str(folder), persona=str(tooled)), open_agent(str(done.path))
    assert again.loaded.renderer.digest == agent.loaded.renderer.digest == read(done.path).digest
    assert "look_up" in again.loaded.renderer.prompt(Example("x", CHATS[0])).text
