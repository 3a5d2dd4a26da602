"""An agent is anything that answers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from servers import completion, serving
from tiny import tiny_model

import agentft
from agentft.agents import is_run, open_agent
from agentft.contracts import GenerationSettings
from agentft.engine.http import HttpBackend
from agentft.errors import UserError
from agentft.records import Example, Message

SETTINGS = GenerationSettings(max_new_tokens=5)
HELLO = [Example("h", (Message("user", "May I borrow a book?"),))]
DEVICE = {"device": "cpu", "decode_dtype": "float32", "threads": 1}


def test_a_folder_plays_whom_it_is_told_to(desk: Path, tiny_ref) -> None:
    nobody = open_agent(tiny_ref.path, device=DEVICE)
    clerk = open_agent(tiny_ref.path, persona="clerk.yaml", policy="Never lend atlases.", device=DEVICE)
    assert (nobody.kind, nobody.system, nobody.persona) == ("model", "", None)
    assert "small library" in clerk.system and clerk.system.endswith("\n\nNever lend atlases.")
    assert clerk.persona and clerk.persona.name == "clerk" and clerk.identity == nobody.identity
    assert clerk.generate(HELLO, SETTINGS) != nobody.generate(HELLO, SETTINGS)
    assert open_agent(tiny_ref.path, persona=clerk.persona, device=DEVICE).generate(HELLO, SETTINGS) == open_agent(
        tiny_ref.path, persona="clerk.yaml", device=DEVICE
    ).generate(HELLO, SETTINGS)


def test_other_weights_are_another_identity(tmp_path: Path, tiny_ref) -> None:
    other = open_agent(tiny_model(tmp_path / "other", seed=5).path, device=DEVICE)
    assert other.identity != open_agent(tiny_ref.path, device=DEVICE).identity


def test_a_run_and_its_versions(run: str, desk: Path, monkeypatch) -> None:
    tuned, base = open_agent("clerk"), open_agent(f"{run}@base")
    assert (tuned.kind, tuned.name, base.name) == ("run", "clerk", "clerk@base")
    assert tuned.system == base.system != "" and tuned.persona and tuned.persona.name == "clerk"
    assert tuned.identity != base.identity and is_run("clerk@base", None) and not is_run("clark@base", None)
    assert tuned.loaded and base.loaded and tuned.loaded.logprobs(talk()) != base.loaded.logprobs(talk())
    folder = (desk / "runs" / run).absolute()
    monkeypatch.setenv("AGENTFT_RUNS", str(desk / "elsewhere"))
    again = open_agent(str(folder))  # its own store, not the one that the environment names
    assert again.identity == tuned.identity and again.generate(HELLO, SETTINGS) == tuned.generate(HELLO, SETTINGS)
    (desk / "clerk.yaml").unlink()
    assert open_agent(str(folder)).persona == tuned.persona  # as it was when the run was made
    with pytest.raises(UserError, match="has no version 'round-9'|round-9"):
        open_agent(f"{folder}@round-9")


def talk() -> list[Example]:
    return [Example("t", (Message("user", "Where is shelf 3?"), Message("assistant", "Please, at 3.")))]


def test_an_adapter_is_put_on_the_model_that_it_names(run: str, desk: Path, tiny_ref) -> None:
    (adapter,) = {path.parent for path in (desk / "runs" / "stages").rglob("adapter_config.json") if "checkpoint" not in str(path)}
    config = json.loads((adapter / "adapter_config.json").read_text("utf-8"))
    (adapter / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": tiny_ref.path}), "utf-8")
    found, bare, tuned = open_agent(str(adapter), device=DEVICE), open_agent(tiny_ref.path, device=DEVICE), open_agent(run)
    assert found.loaded and bare.loaded and tuned.loaded and found.identity.startswith(bare.identity) and found.identity != bare.identity
    assert found.loaded.logprobs(talk()) != bare.loaded.logprobs(talk())
    (adapter / "adapter_config.json").write_text("{}", "utf-8")
    with pytest.raises(UserError, match="does not name the adapter's model"):
        open_agent(str(adapter))


def test_a_server_by_address_and_model(desk: Path, monkeypatch) -> None:
    with serving(lambda _n, body: completion(f"I am {body['model']}.")) as (url, seen):
        agent = open_agent(f"{url}#small", persona="clerk.yaml")
        assert (agent.kind, agent.name, agent.loaded) == ("server", "small", None) and isinstance(agent.backend, HttpBackend)
        assert agent.generate(HELLO, SETTINGS)[0].text == "I am small."
        assert seen[0]["messages"][0]["role"] == "system" and "small library" in seen[0]["messages"][0]["content"]
        assert open_agent(url, model="large").identity != agent.identity
        with pytest.raises(UserError, match="does not list its models"):
            open_agent(url)
        with pytest.raises(UserError, match="NO_SUCH_KEY is not set"):
            open_agent(f"{url}#small", key_env="NO_SUCH_KEY")


def test_a_gguf_file_is_run_by_llama_cpp_where_it_is(desk: Path, monkeypatch) -> None:
    from agentft.engine import llamacpp, models

    file = desk / "small.gguf"
    file.write_bytes(b"GGUF")
    taken = {}

    class Backend:
        def __init__(self, source, config):
            taken["source"] = source

    monkeypatch.setattr(llamacpp, "LlamaCppBackend", Backend)
    monkeypatch.setattr("agentft.agents._llamacpp", lambda: True)
    agent = open_agent(str(file), persona="clerk.yaml")
    assert (agent.kind, agent.name) == ("gguf", "small") and taken["source"].model.path == str(file.resolve())
    assert "small library" in taken["source"].system and agent.identity == models.resolve_gguf(str(file)).digest


@pytest.mark.parametrize(
    ("reference", "options", "message"),
    [
        ("clark", {}, "nor is it a run in .*runs, or a server"),
        ("clark", {"base": True}, "is not a run; only a run has a base model"),
        ("clark", {"model": "m"}, "is no server"),
        ("clark", {"variables": {"a": 1}}, "variables belong to a persona"),
        ("./clark", {}, "there is no folder"),
    ],
)
def test_what_is_not_there_is_told_with_what_was_tried(desk: Path, reference, options, message) -> None:
    with pytest.raises(UserError, match=message):
        open_agent(reference, **options)


def test_it_is_a_public_name() -> None:
    assert agentft.open_agent is open_agent and "open_agent" in dir(agentft)
