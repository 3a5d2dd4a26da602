"""Recipes: reading, overrides, positions, and the line that each mistake gets."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentft.errors import RecipeError
from agentft.recipe import Device, Recipe

RECIPE = """\
name: support-agent
model: smollm2-135m          # bundled
persona: customer-service/support
requires: ["agentft-customer-service>=0.1"]
data:
  sources:
    - customer-service/dialogues
    - {use: jsonl, path: tickets.jsonl, weight: 0.3}
  transforms: [normalize, {use: dedup, threshold: 0.8}]
  split: {validation: 0.1, test: 0.2, by: group, seed: 7}
train:
  - {use: sft, strategy: {lora: {r: 16}}, epochs: 3, learning_rate: 2e-4}
evaluate: [persona-adherence, {use: rouge}]
seed: 3
"""


def problems(text: str, *overrides: str) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        Recipe.parse(text, "r.yaml", overrides)
    return [str(problem) for problem in caught.value.problems]


def test_a_recipe_is_typed():
    recipe = Recipe.parse(RECIPE)
    assert recipe.persona.use == "customer-service/support"
    assert [use.use for use in recipe.data.sources] == ["customer-service/dialogues", "jsonl"]
    assert [use.weight for use in recipe.data.sources] == [1.0, 0.3]
    assert recipe.data.sources[1].options == {"path": "tickets.jsonl"}
    assert recipe.train[0].options == {"strategy": {"lora": {"r": 16}}, "epochs": 3, "learning_rate": 2e-4}
    assert recipe.data.split.test == 0.2 and recipe.data.split.by == "group"
    assert (recipe.data.on_overflow, recipe.data.max_length, recipe.data.max_prompts) == ("truncate_turns", 1024, None)
    assert (recipe.generation.backend.use, recipe.generation.max_new_tokens, recipe.seed) == ("transformers", 128, 3)


def test_the_smallest_recipe_evaluates_the_base_model():
    recipe = Recipe.parse("name: a\nmodel: m\npersona: assistant\n")
    assert recipe.train == () and recipe.data.sources == () and recipe.device == {}


def test_a_recipe_is_a_value(tmp_path):
    recipe = Recipe.parse(RECIPE)
    assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe
    assert hash(Recipe.from_dict(recipe.to_dict())) == hash(recipe)
    moved = tmp_path / "other.yaml"
    moved.write_text("# a comment\n" + RECIPE.replace("{use: rouge}", "rouge"), encoding="utf-8")
    assert Recipe.load(moved).digest == recipe.digest
    assert Recipe.parse(RECIPE.replace("seed: 3", "seed: 4")).digest != recipe.digest


def test_file_folder_and_text_are_kept(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE, encoding="utf-8")
    recipe = Recipe.load(path, overrides=["seed=4"])
    assert (recipe.path, recipe.base, recipe.overrides, recipe.source_text) == (path, tmp_path, ("seed=4",), RECIPE)
    made = Recipe.from_dict({"name": "a", "model": "m", "persona": "p"})
    assert (made.path, made.base, made.source_text) == (None, Path("."), "")


def test_a_relative_model_folder_starts_at_the_recipe(tmp_path):
    (tmp_path / "models" / "mine").mkdir(parents=True)
    path = tmp_path / "recipe.yaml"
    path.write_text("name: a\nmodel: models/mine\npersona: p\n", encoding="utf-8")
    assert Recipe.load(path).model_reference == str(tmp_path / "models" / "mine")
    assert Recipe.load(path, ["model=org/hub-name"]).model_reference == "org/hub-name"
    assert Recipe.load(path, ["model=smollm2-135m"]).model_reference == "smollm2-135m"


# What is wrong -> the line that the author gets. Each starts from a recipe that is right.
MALFORMED = {
    "unknown key": (
        "model:",
        "modle:",
        [
            "r.yaml:1:1: 'model' is missing (bundled name, hub id, local folder or `.gguf` file)",
            "r.yaml:2:1: unknown key 'modle' (did you mean 'model'?)",
        ],
    ),
    "unknown inner key": ("seed: 7}", "sed: 7}", ["r.yaml:10:50: unknown key 'sed' (did you mean 'seed'?)"]),
    "text for a number": ("test: 0.2", "test: some", ["r.yaml:10:34: 'test' must be a number of at least 0 and below 1, not 'some'"]),
    "number in quotes": (
        "seed: 3",
        "seed: '3'",
        ["r.yaml:14:7: 'seed' must be a whole number of at least 0 and below 4294967296, not '3'"],
    ),
    "out of range": ("test: 0.2", "test: 1.5", ["r.yaml:10:34: 'test' must be a number of at least 0 and below 1, not 1.5"]),
    "nothing left": (
        "test: 0.2",
        "test: 0.95",
        ["r.yaml:10:10: validation 0.1 and test 0.95 leave nothing to train on; their sum must be below 1"],
    ),
    "weight 0": ("weight: 0.3", "weight: 0", ["r.yaml:8:49: 'weight' must be a number above 0, not 0"]),
    "part without a name": (
        "{use: jsonl, ",
        "{",
        ["r.yaml:8:7: 'use' is missing (name of the part, such as `sft` or `customer-service/dialogues`)"],
    ),
    "part that is a number": (
        "[persona-adherence, {use: rouge}]",
        "[1]",
        ["r.yaml:13:12: entry 1 of 'evaluate' must be the name of a part, or a mapping with 'use', not 1"],
    ),
    "text for a list": (
        "[persona-adherence, {use: rouge}]",
        "rouge",
        ["r.yaml:13:11: 'evaluate' must be a list, not 'rouge' (start each entry with '- ', or write [ ... ])"],
    ),
    "list for text": ("model: smollm2-135m", "model: [a]", ["r.yaml:2:8: 'model' must be text that is not empty, not a list"]),
    "empty value": (
        "persona: customer-service/support",
        "persona:",
        [
            "r.yaml:3:1: 'persona' must be the name of a persona, a .yaml file, or a mapping with 'use' and "
            "'variables', not nothing (the value is empty)"
        ],
    ),
    "name with a blank": (
        "name: support-agent",
        "name: my agent",
        ["r.yaml:1:7: 'name' may hold up to 64 letters, digits, '.', '_' and '-' (it names folders), not 'my agent'"],
    ),
    "name with a slash": (
        "name: support-agent",
        "name: ../x",
        ["r.yaml:1:7: 'name' may hold up to 64 letters, digits, '.', '_' and '-' (it names folders), not '../x'"],
    ),
    "bad requirement": (
        ">=0.1",
        ">>0.1",
        ["r.yaml:4:12: 'agentft-customer-service>>0.1' is not a requirement such as agentft-customer-service>=0.1"],
    ),
    "unknown choice": (
        "  split:",
        "  on_overflow: truncate\n  split:",
        ["r.yaml:10:16: 'on_overflow' must be one of error, drop, truncate_turns, split, not 'truncate' (did you mean 'truncate_turns'?)"],
    ),
    "duplicate key": ("seed: 3", "seed: 3\nname: again", ["r.yaml:15:1: the key 'name' occurs twice (the first one is in line 1)"]),
    "tab": ("  sources:", "\tsources:", ["r.yaml:6:1: a tab is used here (indent with spaces)"]),
    "unknown device": ("seed: 3", "device: {device: gpu}", ["r.yaml:14:18: 'device' must be cpu, cuda, cuda:N or mps, not 'gpu'"]),
    "unknown device key": ("seed: 3", "device: {thread: 2}", ["r.yaml:14:10: unknown key 'thread' (did you mean 'threads'?)"]),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_each_mistake_gets_its_line(case):
    old, new, lines = MALFORMED[case]
    assert RECIPE.count(old) == 1
    assert problems(RECIPE.replace(old, new)) == lines


def test_all_problems_are_reported_at_once_and_in_order():
    text = RECIPE
    for old, new, _ in (MALFORMED[case] for case in ("name with a blank", "unknown inner key", "weight 0", "text for a list")):
        text = text.replace(old, new)
    assert [int(line.split(":")[1]) for line in problems(text)] == [1, 8, 10, 13]


@pytest.mark.parametrize("text", ["", "# nothing\n", "- a\n", "just text\n", "3\n"])
def test_what_is_no_mapping_is_no_recipe(text):
    assert len(problems(text)) == 1 and "name, model and persona" in problems(text)[0]


def test_a_recipe_from_a_dict_names_the_path():
    with pytest.raises(RecipeError) as caught:
        Recipe.from_dict(
            {"name": "a", "model": "m", "persona": "p", "data": {"split": {"test": 2}}, "train": [{"use": "sft", "weight": "x"}]}
        )
    assert [str(p) for p in caught.value.problems] == [
        "data.split.test: 'test' must be a number of at least 0 and below 1, not 2",
        "train.0.weight: 'weight' must be a number above 0, not 'x'",
    ]


# Overrides


def test_overrides_change_values_add_options_and_make_mappings():
    recipe = Recipe.parse(
        RECIPE,
        overrides=[
            "train.0.epochs=1",
            "train.0.strategy.lora.r=4",
            "evaluate.0.seeds=[1, 2]",
            "persona.variables.company=Contoso",
            "generation.max_new_tokens=32",
            "data.split.test=1e-1",
            "data.transforms=[]",
            "device.threads=2",
            "seed=5",
            "seed=6",
        ],
    )
    assert recipe.train[0].options["epochs"] == 1 and recipe.train[0].options["strategy"] == {"lora": {"r": 4}}
    assert recipe.evaluate[0].use == "persona-adherence" and recipe.evaluate[0].options == {"seeds": [1, 2]}
    assert recipe.persona.variables == {"company": "Contoso"} and recipe.persona.use == "customer-service/support"
    assert recipe.generation.max_new_tokens == 32 and recipe.data.split.test == 0.1
    assert recipe.data.transforms == () and recipe.device == {"threads": 2} and recipe.seed == 6


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("train.1.epochs=1", "--set train.1.epochs=1: 'train' is a list with one entry, number 0; there is no '1'"),
        ("data.sources.x=1", "--set data.sources.x=1: 'data.sources' is a list with entries 0 to 1; there is no 'x'"),
        ("trian.0.epochs=1", "--set trian.0.epochs=1: the recipe has no list 'trian' (did you mean 'train'?)"),
        ("data.splitt.test=0.2", "--set data.splitt.test=0.2: unknown key 'splitt' (did you mean 'split'?)"),
        ("name.x=1", "--set name.x=1: 'name' is 'support-agent', which has nothing inside"),
        ("seed=abc", "--set seed=abc: 'seed' must be a whole number of at least 0 and below 4294967296, not 'abc'"),
        ("seed=", "--set seed=: 'seed' must be a whole number of at least 0 and below 4294967296, not nothing (the value is empty)"),
        ("seed", "--set seed: is not of the form PATH=VALUE (for example --set train.0.epochs=1)"),
        ("data..split=1", "--set data..split=1: is not of the form PATH=VALUE (for example --set train.0.epochs=1)"),
        ("train=[", "--set train=[: the value: a bracket that opens here is never closed (add the closing bracket)"),
        (
            "data.split={test: 0.5, validation: 0.6}",
            "--set data.split={test: 0.5, validation: 0.6}: validation 0.6 and test 0.5 leave nothing to "
            "train on; their sum must be below 1",
        ),
    ],
)
def test_each_wrong_override_gets_its_line(override, line):
    assert problems(RECIPE, override) == [line]


def test_problems_of_overrides_come_with_those_of_the_file():
    found = problems(RECIPE.replace("weight: 0.3", "weight: 0"), "seed=x", "nope=1")
    assert found[0].startswith("r.yaml:8:49: ") and {line.split(":")[0] for line in found[1:]} == {"--set seed=x", "--set nope=1"}


def test_problems_found_later_have_a_place_too():
    recipe = Recipe.parse(RECIPE, "r.yaml", ["train.0.epochs=9", "generation.top_p=0.5"])
    assert str(recipe.problem(("train", 0, "learning_rate"), "too high", "use 1e-5")) == "r.yaml:12:69: too high (use 1e-5)"
    assert str(recipe.problem(("train", 0, "learning_rate"), "x", key=True)) == "r.yaml:12:54: x"
    assert str(recipe.problem(("train", 0, "epochs"), "x")) == "--set train.0.epochs=9: x"
    assert str(recipe.problem(("data", "sources", 0, "use"), "x")) == "r.yaml:7:7: x"
    assert str(recipe.problem(("generation",), "x")) == "--set generation.top_p=0.5: x"
    assert str(recipe.problem(("train",), "x")) == "r.yaml:12:3: x"


KEYS = st.text("abcxyz_", min_size=1, max_size=6)
LEAVES = st.booleans() | st.integers(-(10**6), 10**6) | st.floats(-1e6, 1e6, allow_nan=False) | st.text("abc 中:#'\"{}[]", max_size=8)
TREES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3), max_leaves=6)


@settings(max_examples=100, deadline=None)
@given(st.lists(KEYS, min_size=1, max_size=3), TREES)
def test_an_override_puts_exactly_its_value_there(path, value):
    recipe = Recipe.parse(RECIPE, overrides=[f"train.0.o.{'.'.join(path)}={json.dumps(value, ensure_ascii=False)}"])
    found = recipe.train[0].options["o"]
    for key in path:
        found = found[key]
    assert found == value
    assert Recipe.from_dict(recipe.to_dict()) == recipe


LINES = st.lists(st.sampled_from(RECIPE.splitlines()) | st.text(max_size=12), max_size=20).map("\n".join)


@settings(max_examples=200, deadline=None)
@given(LINES | st.text(max_size=60))
def test_any_text_is_a_recipe_or_a_list_of_problems(text):
    try:
        recipe = Recipe.parse(text, "r.yaml")
    except RecipeError as error:
        assert error.problems and all(problem.line >= 1 and problem.message for problem in error.problems)
    else:
        assert Recipe.from_dict(recipe.to_dict()) == recipe


PARTS = st.none() | st.booleans() | st.integers(-2, 9) | st.floats(-2, 2) | st.sampled_from(["sft", "group", "", "cpu"])
KNOWN = [
    "name",
    "model",
    "persona",
    "requires",
    "data",
    "train",
    "generation",
    "evaluate",
    "device",
    "seed",
    "use",
    "weight",
    "split",
    "sources",
    "test",
    "variables",
]
SHAPES = st.recursive(
    PARTS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KNOWN), inner, max_size=4), max_leaves=8
)


@settings(max_examples=200, deadline=None)
@given(
    st.fixed_dictionaries({}, optional={key: SHAPES for key in KNOWN[:10]}),
    st.lists(st.sampled_from(["train.0.x=1", "data.split=3", "persona.variables.a=b", "x.y.z=1", "seed=1"]), max_size=2),
)
def test_any_shape_is_a_recipe_or_a_list_of_problems(shape, overrides):
    text = json.dumps(shape)
    try:
        recipe = Recipe.parse(text, "r.yaml", overrides)
    except RecipeError as error:
        assert error.problems and all(str(problem) for problem in error.problems)
    else:
        assert Recipe.from_dict(recipe.to_dict()).digest == recipe.digest


def test_the_device_mapping_takes_what_the_device_profile_takes():
    from agentft.engine.profile import Profile

    assert set(Device.__annotations__) == {field.name for field in fields(Profile)} - {"notes"}
