"""Recipes that train on raw texts or an encoder-decoder, through the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from tiny import tiny_encoder, tiny_seq2seq

import agentft
from agentft.cli.main import cli
from agentft.errors import RecipeError, UserError
from agentft.session import open_recipe

HEAD = "name: texts\nmodel: {model}\npersona: persona.yaml\ndevice: {{device: cpu, train_dtype: fp32, threads: 1}}\n"
DATA = "data: {{sources: [{sources}], split: {{validation: 0.1, test: 0.25, by: id}}, max_length: 480}}\n"
NOTES = "{use: csv, path: notes.csv, columns: {text: text}}"
LABELLED = "{use: csv, path: notes.csv, columns: {text: text, label: kind}}"
TALKS = "{use: jsonl, path: talks.jsonl}"
FAST = "epochs: 1, batch_size: 4, learning_rate: 1e-2"


@pytest.fixture(scope="module")
def models(tmp_path_factory, tiny_ref):
    folder = tmp_path_factory.mktemp("models")
    return {"chat": tiny_ref.path, "encoder": tiny_encoder(folder / "bert").path, "t5": tiny_seq2seq(folder / "t5").path}


def write(folder: Path, model: str, sources: str, train: str, evaluate: str) -> Path:
    (folder / "notes.csv").write_text(
        "text,kind\n" + "".join(f"note {n} is {'on' if n % 2 else 'off'},k{n % 2}\n" for n in range(24)), "utf-8"
    )
    talks = [
        {"id": f"t{n}", "messages": [{"role": "user", "content": f"say {n}"}, {"role": "assistant", "content": f"it is {n}"}]}
        for n in range(16)
    ]
    (folder / "talks.jsonl").write_text("\n".join(map(json.dumps, talks)), "utf-8")
    (folder / "persona.yaml").write_text("name: clerk\nsummary: A clerk\nlanguage: en\nrole: You are a clerk.\n", "utf-8")
    recipe = folder / "recipe.yaml"
    text = HEAD.format(model=model) + DATA.format(sources=sources) + f"train: [{train}]\nevaluate: [{evaluate}]\n"
    recipe.write_text(text + "generation: {max_new_tokens: 6, batch_size: 4}\n", "utf-8")
    return recipe


def run(recipe: Path) -> tuple[dict, dict]:
    """Manifest and report."""
    result = CliRunner().invoke(cli, ["run", str(recipe), "--runs", str(recipe.parent / "runs"), "--json"])
    if result.exception is not None:
        raise result.exception
    manifest = json.loads(result.stdout)
    return manifest, json.loads((recipe.parent / "runs" / manifest["id"] / "report.json").read_text("utf-8"))


def stages(manifest: dict) -> dict[str, dict]:
    return {stage["name"]: stage["summary"] for stage in manifest["stages"]}


@pytest.mark.slow
@pytest.mark.parametrize("strategies", [("full", "{lora: {r: 4}}"), ("{lora: {r: 4}}", "{lora: {r: 4}}")])
def test_texts_and_then_conversations(strategies, models, tmp_path):
    train = f"{{use: clm, {FAST}, block: 32, strategy: {strategies[0]}}}, {{use: sft, {FAST}, strategy: {strategies[1]}}}"
    manifest, report = run(write(tmp_path, models["chat"], f"{NOTES}, {TALKS}", train, "text-perplexity, perplexity"))
    done = stages(manifest)
    texts, talks = done["rows-0"]["train"]["rows_in"], done["rows"]["train"]["rows_in"]
    assert texts + talks == done["data"]["splits"]["train"] and texts and talks
    rows = {row["name"]: row for row in report["comparisons"]}
    assert rows["text-perplexity/nll"]["n"] + rows["perplexity/nll"]["n"] == done["data"]["splits"]["test"]
    assert rows["bits-per-byte"]["tuned"] < rows["bits-per-byte"]["base"]
    assert done["answers-base"]["answers"] == rows["perplexity/nll"]["n"], "only conversations are asked"
    # An adapter on a model that the first stage trained in full is put on that model, in the evaluation and in chat.
    on = done["train-1"].get("on", {}).get("path", "")
    assert on.endswith("/model") == (strategies[0] == "full")
    agent = agentft.load_agent(manifest["id"], runs=tmp_path / "runs")
    shown = {sample["id"]: sample for sample in report["samples"]}
    name, sample = next(iter(shown.items()))
    assert agent.generate([sample["prompt"][-1]["content"]], max_new_tokens=6) == [sample["tuned"]["text"]], name


def test_texts_alone_need_no_chat_template(models, tmp_path):
    import shutil

    bare = tmp_path / "bare"
    shutil.copytree(models["chat"], bare)
    (bare / "chat_template.jinja").unlink()
    recipe = write(tmp_path, str(bare), NOTES, f"{{use: clm, {FAST}, block: 32, strategy: full}}", "text-perplexity")
    _, report = run(recipe)
    assert {row["name"] for row in report["comparisons"]} == {"text-perplexity", "text-perplexity/nll", "bits-per-byte"}
    assert report["samples"] == [] and report["warnings"] == []
    page = CliRunner().invoke(cli, ["data", str(recipe), "--runs", str(tmp_path / "runs")], catch_exceptions=False).output
    assert "clm" in page and "⟦" in page


@pytest.mark.slow
def test_masked_words_alone_and_before_a_class(models, tmp_path):
    mlm = f"{{use: mlm, {FAST}, whole_words: true}}"
    manifest, report = run(write(tmp_path, models["encoder"], NOTES, mlm, "masked-perplexity"))
    row = next(row for row in report["comparisons"] if row["name"] == "masked-perplexity/nll")
    assert row["n"] == stages(manifest)["data"]["splits"]["test"] and row["tuned"] < row["base"]
    assert any("drawn anew" in warning for warning in report["warnings"])
    assert "[MASK]" in "".join(sample["prompt"][0]["content"] for sample in report["samples"]) and report["system_prompt"] == ""
    with pytest.raises(UserError, match="fills in masked words and does not talk"):
        agentft.load_agent(manifest["id"], runs=tmp_path / "runs")
    again, _ = run(tmp_path / "recipe.yaml")
    assert all(stage["reused"] for stage in again["stages"])
    for strategy in ("full", "{lora: {r: 4}}"):
        train = f"{mlm}, {{use: classify, {FAST}, strategy: {strategy}}}"
        manifest, report = run(write(tmp_path, models["encoder"], LABELLED, train, ""))
        assert stages(manifest)["answers-tuned"]["failed"] == 0 and stages(manifest)["answers-tuned"]["answers"] > 0
        trained = next(stage for stage in manifest["stages"] if stage["name"] == "train-1")
        assert "train-0" in trained["inputs"] and ("on" in trained["summary"]) == (strategy != "full")


def test_an_encoder_decoder_answers_is_measured_and_talks(models, tmp_path):
    train = f"{{use: seq2seq, {FAST}, prefix: 'do: ', num_beams: 2, strategy: {{lora: {{r: 4}}}}}}"
    manifest, report = run(write(tmp_path, models["t5"], TALKS, train, "rouge, bleu, chrf, perplexity, stop-rate"))
    assert {row["name"] for row in report["comparisons"]} >= {"rouge-l", "bleu", "chrf", "perplexity/nll", "stop-rate"}
    assert report["system_prompt"] == "" and stages(manifest)["answers-tuned"]["failed"] == 0
    result = CliRunner().invoke(cli, ["chat", manifest["id"], "--runs", str(tmp_path / "runs"), "-m", "say 3", "--max-new-tokens", "6"])
    assert result.exit_code == 0 and result.output.startswith("texts ")
    base = agentft.load_agent(manifest["id"], base=True, runs=tmp_path / "runs")
    sample = report["samples"][0]
    assert base.generate([sample["prompt"][0]["content"]], max_new_tokens=6) == [sample["base"]["text"]]


@pytest.mark.parametrize(
    ("sources", "train", "evaluate", "says"),
    [
        (TALKS, "{use: clm}", "", "'clm' takes text records, but gets example records"),
        (NOTES, "{use: mlm}", "length", "'length' looks at answers, and an encoder gives none"),
        (NOTES, "{use: mlm}", "text-perplexity", "'text-perplexity' cannot measure what the recipe trains, an encoder"),
        (NOTES, "{use: clm}", "masked-perplexity", "'masked-perplexity' cannot measure what the recipe trains, a chat model"),
        (TALKS, "{use: sft}", "text-perplexity", "'text-perplexity' needs held-out texts"),
        (f"{NOTES}, {TALKS}", "{use: mlm}, {use: sft}", "", "'sft' cannot go on from 'mlm', which leaves an encoder"),
        (NOTES, "{use: clm, blocks: 3}", "", "blocks"),
        (NOTES, "{use: mlm, mask: 2}", "", "mask"),
    ],
)
def test_what_does_not_fit_is_said_by_check(sources, train, evaluate, says, models, tmp_path):
    with pytest.raises(RecipeError) as error:
        open_recipe(write(tmp_path, models["chat"], sources, train, evaluate))
    assert says in str(error.value) and "recipe.yaml:" in str(error.value)


def test_the_recipes_of_the_page_pass_the_check(tmp_path):
    import re

    from agentft.check import check_recipe
    from agentft.host import Host
    from agentft.recipe import Recipe

    page = (Path(__file__).parents[2] / "docs" / "tasks.md").read_text("utf-8")
    recipes = [text for text in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL) if re.search(r"use: (clm|mlm|seq2seq)", text)]
    assert len(recipes) >= 4
    for name in ("notes.csv", "tickets.csv", "chats.jsonl", "pairs.jsonl"):
        (tmp_path / name).write_text("{}\n", "utf-8")
    for text in recipes:
        (tmp_path / "recipe.yaml").write_text(text, "utf-8")
        assert check_recipe(Recipe.load(tmp_path / "recipe.yaml"), Host(allow=()).catalog) == []
