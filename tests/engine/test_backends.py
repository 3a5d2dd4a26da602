"""Backends as a recipe names them, and llama.cpp as one of them."""

from __future__ import annotations

import pytest

from agentft.components import ModelRef
from agentft.contracts import AgentSource, GenerationSettings
from agentft.engine.backends import Choice
from agentft.engine.models import resolve_gguf
from agentft.engine.optional import available
from agentft.errors import DataError, MissingDependency, RecipeError
from agentft.host import Host
from agentft.recipe import Recipe
from agentft.recipe_parts import ModelUse, PartUse
from agentft.records import Example, Message, Response

RECIPE = (
    "name: a\nmodel: smollm2-135m\ndata: {prompts: [{use: jsonl, path: p.jsonl}]}\nevaluate: [length]\ngeneration: {backend: BACKEND}\n"
)
SYSTEM = "You are a careful support agent of a small bank. Be brief."


def problems(tmp_path, backend: str, more: str = "") -> list[str]:
    from agentft.check import check_recipe

    (tmp_path / "p.jsonl").write_text('{"id": "a", "messages": [{"role": "user", "content": "Hi"}]}\n')
    (tmp_path / "r.yaml").write_text(RECIPE.replace("BACKEND", backend) + more)
    return [str(one) for one in check_recipe(Recipe.load(tmp_path / "r.yaml"), Host().catalog)]


def choice(use) -> Choice:
    return Choice(Host().catalog, PartUse.model_validate(use))


def test_a_backend_without_options_is_written_as_its_name():
    plain = Recipe.parse(RECIPE.replace("BACKEND", "transformers"))
    assert plain.to_dict()["generation"]["backend"] == "transformers" and Recipe.from_dict(plain.to_dict()) == plain
    optioned = Recipe.parse(RECIPE.replace("BACKEND", "{use: llamacpp, slots: 2}"))
    assert optioned.to_dict()["generation"]["backend"] == {"use": "llamacpp", "slots": 2}


def test_mistakes_are_found_before_anything_is_loaded(tmp_path):
    (unknown,) = problems(tmp_path, "lamacpp")
    assert "no backend 'lamacpp'" in unknown and "llamacpp" in unknown and "r.yaml:5:" in unknown
    (option,) = [one for one in problems(tmp_path, "{use: llamacpp, slot: 2}") if "pip install" not in one]
    assert "unknown key 'slot'" in option and "slots" in option
    assert any("takes no options" in one for one in problems(tmp_path, "{use: transformers, slots: 2}"))
    with pytest.raises(RecipeError, match="'slots' must be"):
        if not available("xllamacpp"):
            pytest.skip("xllamacpp is not installed")
        choice({"use": "llamacpp", "slots": 0})


def test_a_file_that_is_run_as_it_is_cannot_be_what_was_trained(tmp_path):
    found = problems(tmp_path, "llamacpp", "train: [{use: sft}]\n")
    assert any("cannot run what this recipe trains" in one and "r.yaml:5:" in one for one in found)


def test_one_way_to_run_a_model():
    assert ModelUse.model_validate({"model": "m", "backend": "llamacpp"}).backend.use == "llamacpp"
    assert "backend" not in ModelUse.model_validate("m").model_dump()
    for other in ({"model": "m", "url": "http://x/v1"}, {"model": "champion"}):
        with pytest.raises(ValueError, match="leave out 'backend'"):
            ModelUse.model_validate(other | {"backend": "llamacpp"})


def test_a_missing_package_is_named_with_the_command(monkeypatch):
    import agentft.engine.optional as optional
    from agentft.engine.llamacpp import LlamaCppBackend

    monkeypatch.setattr(optional, "available", lambda module: False)
    with pytest.raises(MissingDependency, match=r"pip install 'agentft\[llamacpp\]'"):
        LlamaCppBackend(AgentSource(ModelRef("x", "x.gguf", "0", "gguf")))


def test_what_is_no_gguf_file_is_named(tmp_path):
    from tiny import tiny_model

    tiny_model(tmp_path / "m")
    with pytest.raises(DataError, match="no GGUF file, which llama.cpp needs"):
        resolve_gguf(str(tmp_path / "m"))
    with pytest.raises(DataError, match="there is no file .*none.gguf"):
        resolve_gguf(str(tmp_path / "none.gguf"))


@pytest.fixture(scope="module")
def llama():
    pytest.importorskip("xllamacpp", reason="needs agentft[llamacpp]")
    chosen = choice({"use": "llamacpp", "slots": 3, "threads": 2})
    return chosen.open(AgentSource(chosen.model("smollm2-135m", Host().resolve_model), SYSTEM))


def asked(*texts: str) -> list[Example]:
    return [Example(f"q{n}", (Message("user", text),)) for n, text in enumerate(texts)]


@pytest.mark.slow
def test_llamacpp_reads_the_tokens_that_transformers_reads_and_says_the_same(llama):
    prompts = asked("My card is lost.", "What is the capital of France?", "退款多久到账？", "How do I reset my password?")
    chosen = choice("transformers")
    other = chosen.open(AgentSource(chosen.model("smollm2-135m", Host().resolve_model), SYSTEM))
    assert [llama.renderer.prompt(one).input_ids for one in prompts] == [other.agent.renderer.prompt(one).input_ids for one in prompts]
    settings = GenerationSettings(max_new_tokens=12)
    ours, theirs = llama.generate(prompts, settings), other.generate(prompts, settings)
    assert [one.id for one in ours] == [one.id for one in theirs]
    # 4-bit products against float32 ones: where two words are all but equally likely, the texts may part.
    same = [a.text.split()[:3] == b.text.split()[:3] for a, b in zip(ours, theirs, strict=True)]
    assert sum(same) >= 3, [(a.text, b.text) for a, b in zip(ours, theirs, strict=True)]
    assert {one.finish for one in ours} <= {"stop", "length"} and all(0 < one.tokens <= 12 for one in ours)


@pytest.mark.slow
def test_llamacpp_keeps_the_contract_of_a_backend(llama):
    prompts = [
        *asked("Say hello.", "Name a fruit.", "word " * 9000),
        Example("c", (Message("user", "My card is gone."),), meta={"choices": ["card lost", "card", 'cash "now"']}),
    ]
    settings, saved = GenerationSettings(max_new_tokens=8, temperature=1.0, top_p=0.9, seed=3), []
    found = llama.generate(prompts, settings, saved.extend)
    assert [one.id for one in found] == [one.id for one in prompts] and sorted(map(str, saved)) == sorted(map(str, found))
    assert found[2].finish == "error" and "exceeds the model's context of 8192" in found[2].error
    assert found[3].text in prompts[3].meta["choices"] and found[3].finish == "stop"
    assert all(one.tokens <= 8 for one in found[:2])
    again = llama.generate(prompts[:2], settings)
    assert [one.text for one in again] == [one.text for one in found[:2]], "the seed decides"
    other = llama.generate(prompts[:2], GenerationSettings(max_new_tokens=8, temperature=1.0, top_p=0.9, seed=4))
    assert [one.text for one in other] != [one.text for one in again]
    kept = {"q0": Response("q0", "kept"), "q1": Response("q1", "", "error", 0, "lost")}
    new: list[Response] = []
    resumed = llama.generate(prompts[:2], settings, new.extend, kept)
    assert resumed[0].text == "kept" and resumed[1] == again[1] and [one.id for one in new] == ["q1"]


@pytest.mark.slow
def test_a_recipe_and_a_judge_run_on_llamacpp(tmp_path):
    pytest.importorskip("xllamacpp", reason="needs agentft[llamacpp]")
    from agentft.api import run
    from agentft.feedback.prompts import open_model
    from agentft.runs import Store

    assert problems(tmp_path, "{use: llamacpp, slots: 2}", "persona: assistant\n") == []
    done = run(tmp_path / "r.yaml", overrides=["generation.max_new_tokens=8"], runs=tmp_path / "runs", until="answers")
    stages = {one["name"]: one for one in Store(tmp_path / "runs").manifest(done.id)["stages"]}
    assert stages["answers-base"]["summary"]["answers"] == 1 and stages["answers-base"]["summary"]["failed"] == 0
    use = ModelUse.model_validate({"model": "smollm2-135m", "backend": {"use": "llamacpp", "slots": 2}})
    (reply,) = open_model(use, resolve=Host().resolve_model, device={}).generate(asked("Say yes."), GenerationSettings(max_new_tokens=4))
    assert reply.finish != "error" and reply.text


def test_a_backend_inside_of_another_one_is_checked_too(tmp_path):
    found = problems(tmp_path, "{use: ray, workers: 2, backend: {use: http, url: 'http://a/v1', tries: 2}}", "train: [{use: sft}]\n")
    assert any("unknown key 'tries'" in one for one in found)
    assert any("'http' runs the model of a server, and cannot run what this recipe trains" in one for one in found)
    assert not any("'ray' runs" in one for one in found)
    assert any("no backend 'htp'" in one for one in problems(tmp_path, "{use: ray, backend: htp}"))
