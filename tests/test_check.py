"""Checking what a recipe names: parts, options, chain, installed versions, persona and model, all at once and without torch."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Literal

import pytest
from packaging.requirements import Requirement
from pydantic import BaseModel, ConfigDict, Field

from agentft.check import check_recipe, part_uses, unmet
from agentft.components import EvaluatorSpec, PersonaSpec, SourceSpec, TrainerSpec, TransformSpec
from agentft.errors import RecipeError
from agentft.hookspecs import hookimpl
from agentft.host import Host
from agentft.recipe import Recipe

RECIPE = """\
name: demo
model: smollm2-135m
persona: {use: demo/clerk, variables: {shop: Elm}}
data:
  sources: [demo/talks]
  transforms: [normalize, {use: demo/cut, most: 3}]
  prompts: [demo/questions]
train:
  - {use: demo/fit, rate: 1e-4}
evaluate:
  - demo/score
  - demo/likeness
"""

PERSONA = """\
name: clerk
summary: A clerk.
language: en
variables: {shop: {type: string}}
role: You work for {{ shop }}.
policies:
  - {id: brief, text: Be brief., rule: {words: {max: 30}}}
"""


class CutConfig(BaseModel):
    model_config = ConfigDict(extra="forbid")
    most: int = Field(5, ge=1)


class Lora(BaseModel):
    model_config = ConfigDict(extra="forbid")
    r: int = Field(8, ge=1)


class FitConfig(BaseModel):
    model_config = ConfigDict(extra="forbid")
    rate: float = Field(1e-4, gt=0)
    strategy: Literal["full"] | Lora = "full"
    language: Literal["en", "zh"] | None = None


class Fragile(BaseModel):
    limit: int = 3

    def model_post_init(self, context: object) -> None:
        raise RuntimeError("the plugin is not well")


@pytest.fixture
def catalog(tmp_path):
    """The built-in parts and a plugin ``demo`` with one of each kind."""
    (tmp_path / "clerk.yaml").write_text(PERSONA, encoding="utf-8")
    here = f"{__name__}:"
    demo = ModuleType("demo")
    specs = {
        "agentft_personas": [PersonaSpec("clerk", "A clerk", str(tmp_path / "clerk.yaml"))],
        "agentft_sources": [
            SourceSpec("talks", "Demonstrations", f"{here}run"),
            SourceSpec("questions", "Prompts", f"{here}run", produces="prompt"),
            SourceSpec("votes", "Preferences", f"{here}run", produces="preference"),
            SourceSpec("tags", "Labels", f"{here}run", produces="label"),
            SourceSpec("fragile", "Options that fail", f"{here}run", f"{here}Fragile"),
            SourceSpec("nowhere", "Options that are not there", f"{here}run", f"{here}NoSuchModel"),
        ],
        "agentft_transforms": [
            TransformSpec("cut", "Cuts", f"{here}run", f"{here}CutConfig"),
            TransformSpec("rank", "Needs preferences", f"{here}run", consumes="preference", produces="preference"),
        ],
        "agentft_trainers": [
            TrainerSpec("fit", "Trains", f"{here}run", f"{here}FitConfig"),
            TrainerSpec("prefer", "Learns preferences", f"{here}run", consumes="preference"),
        ],
        "agentft_evaluators": [
            EvaluatorSpec("score", "Scores", f"{here}run"),
            EvaluatorSpec("likeness", "Compares", f"{here}run", consumes="reference"),
            EvaluatorSpec("heavy", "Needs what is not here", f"{here}run", requires=("agentft-heavy-model>=2",)),
        ],
    }
    for hook, returned in specs.items():
        setattr(demo, hook, hookimpl(lambda returned=returned: returned))
        getattr(demo, hook).__name__ = hook
    return Host(allow=(), extra=[("demo", demo)]).catalog


def run(*_):
    raise AssertionError("checking a recipe runs no part")


def found(catalog, text: str, *overrides: str) -> list[str]:
    return [str(problem) for problem in check_recipe(Recipe.parse(text, "r.yaml", overrides), catalog)]


def test_a_recipe_that_is_right_has_no_problems(catalog):
    assert found(catalog, RECIPE) == []


def test_every_part_is_listed_with_its_place():
    assert [(kind, path) for kind, path, _ in part_uses(Recipe.parse(RECIPE))] == [
        ("source", ("data", "sources", 0)),
        ("transform", ("data", "transforms", 0)),
        ("transform", ("data", "transforms", 1)),
        ("source", ("data", "prompts", 0)),
        ("trainer", ("train", 0)),
        ("evaluator", ("evaluate", 0)),
        ("evaluator", ("evaluate", 1)),
    ]


WRONG = {
    "misspelt part": ("demo/score", "demo/scroe", "r.yaml:11:5: no evaluator 'demo/scroe' (did you mean 'demo/score'?)"),
    "bare name": ("demo/fit", "fit", "r.yaml:9:11: no trainer 'fit' (did you mean 'sft'?)"),
    "plugin that is not installed": (
        "demo/talks",
        "weather/talks",
        "r.yaml:5:13: source 'weather/talks': no plugin 'weather' is installed (try: pip install agentft-weather)",
    ),
    "part of another kind": ("normalize", "demo/talks", "r.yaml:6:16: no transform 'demo/talks'"),
    "unknown option": ("most: 3", "moist: 3", "r.yaml:6:43: unknown key 'moist' (did you mean 'most'?)"),
    "wrong option": ("most: 3", "most: many", "r.yaml:6:49: 'most' must be a whole number of at least 1, not 'many'"),
    "wrong number": ("rate: 1e-4", "rate: -1", "r.yaml:9:27: 'rate' must be a number above 0, not -1"),
    "wrong inner option": ("rate: 1e-4", "strategy: {r: 0}", "r.yaml:9:35: 'r' must be a whole number of at least 1, not 0"),
    "unknown strategy": (
        "rate: 1e-4",
        "strategy: ful",
        "r.yaml:9:31: 'strategy' must be one of full or a mapping with the keys r, not 'ful' (did you mean 'full'?)",
    ),
    "options for a part without any": (
        "[demo/talks]",
        "[{use: demo/talks, limit: 3}]",
        "r.yaml:5:31: 'demo/talks' takes no options, so 'limit' is not known",
    ),
    "prompts to learn from": (
        "[demo/talks]",
        "[demo/questions, demo/talks]",
        "r.yaml:5:13: 'demo/questions' has prompts without answers; there is nothing to learn from (name it under data.prompts)",
    ),
    "two kinds of records": (
        "[demo/talks]",
        "[demo/talks, demo/tags]",
        "r.yaml:5:25: 'demo/tags' gives label records, the source before it example records",
    ),
    "transform of other records": ("normalize", "demo/rank", "r.yaml:6:16: 'demo/rank' takes preference records, but gets example records"),
    "trainer of other records": (
        "{use: demo/fit, rate: 1e-4}",
        "demo/prefer",
        "r.yaml:9:5: 'demo/prefer' takes preference records, but gets example records",
    ),
    "nothing held out": (
        "  prompts:",
        "  split: {test: 0}\n  prompts:",
        "r.yaml:13:5: 'demo/likeness' compares with held-out demonstrations, and there are none (set data.split.test above 0)",
    ),
    "asked what was trained on": (
        "[demo/questions]",
        "[demo/questions, demo/talks]",
        "r.yaml:7:29: 'demo/talks' is also under data.sources: the agent would be asked what it was trained "
        "on (leave it out here; data.split.test holds rows back for the evaluation)",
    ),
    "evaluator named twice": ("demo/likeness", "demo/score", "r.yaml:12:5: 'demo/score' is named twice (it is entry 1 already)"),
    "weight of a transform": ("most: 3", "most: 3, weight: 2", "r.yaml:6:52: 'weight' is for sources, 'demo/cut' is a transform"),
    "missing distribution": (
        "demo/score",
        "demo/heavy",
        "r.yaml:11:5: evaluator 'demo/heavy': 'agentft-heavy-model' is not installed (pip install 'agentft-heavy-model>=2')",
    ),
    "missing file": (
        "[demo/talks]",
        "[{use: jsonl, path: gone.jsonl}]",
        "r.yaml:5:32: there is no file 'gone.jsonl' (paths start at the recipe's folder)",
    ),
    "missing model": (
        "smollm2-135m",
        "./models/none",
        "r.yaml:2:8: there is no file or folder './models/none' (paths start at the recipe's folder)",
    ),
    "missing persona": ("demo/clerk", "demo/clark", "r.yaml:3:16: no persona 'demo/clark' (did you mean 'demo/clerk'?)"),
    "missing persona file": ("demo/clerk", "clerk.yaml", "r.yaml:3:16: there is no file 'clerk.yaml' (paths start at the recipe's folder)"),
    "unknown variable": ("shop: Elm", "shoop: Elm, shop: Elm", "r.yaml:3:40: the persona has no variable 'shoop' (did you mean 'shop'?)"),
    "value of another type": ("shop: Elm", "shop: 5", "r.yaml:3:46: variable 'shop' must be text, not 5"),
    "variable without a value": (
        ", variables: {shop: Elm}",
        "",
        "r.yaml:3:10: variable 'shop' has no value (give one in the recipe under persona.variables)",
    ),
    "other language": ("rate: 1e-4", "language: zh", "r.yaml:9:31: 'demo/fit' is set to zh, but the persona 'clerk' speaks en"),
    "requirement that is not met": (
        "data:",
        "requires: [pluggy>=99]\ndata:",
        f"r.yaml:4:12: pluggy {metadata.version('pluggy')} is installed, which is not >=99 (pip install --upgrade 'pluggy>=99')",
    ),
    "requirement that is not installed": (
        "data:",
        "requires: [agentft-nowhere]\ndata:",
        "r.yaml:4:12: 'agentft-nowhere' is not installed (pip install --upgrade 'agentft-nowhere')",
    ),
    "plugin whose options fail": (
        "[demo/talks]",
        "[demo/fragile]",
        "r.yaml:5:13: source 'demo/fragile' of demo 0 failed while its options were checked: RuntimeError: the plugin is not well",
    ),
    "unknown environment": (
        "demo/likeness",
        "{use: simulation, env: tau3}",
        "r.yaml:12:28: no environment 'tau3' (did you mean 'tau2'?)",
    ),
    "option of an environment": (
        "demo/likeness",
        "{use: simulation, env: tau2, options: {path: ., domian: retail}}",
        "r.yaml:12:53: unknown key 'domian' (did you mean 'domain'?)",
    ),
    "unknown backend": (
        "evaluate:",
        "generation: {backend: transformer}\nevaluate:",
        "r.yaml:10:23: no backend 'transformer' (did you mean 'transformers'?)",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_each_mistake_gets_its_line(catalog, case):
    old, new, line = WRONG[case]
    assert RECIPE.count(old) >= 1
    lines = found(catalog, RECIPE.replace(old, new, 1))
    assert [one[: len(line)] for one in lines] == [line]


def test_all_problems_are_reported_at_once_and_in_order(catalog):
    text = RECIPE
    for old, new, _ in (
        WRONG[case] for case in ("misspelt part", "unknown option", "missing model", "value of another type", "wrong number")
    ):
        text = text.replace(old, new, 1)
    assert [int(line.split(":")[1]) for line in found(catalog, text)] == [2, 3, 6, 9, 11]


def test_problems_of_overrides_name_the_override_and_come_last(catalog):
    lines = found(catalog, RECIPE.replace("smollm2-135m", "./none"), "train.0.rate=fast", "evaluate.0=demo/scroe")
    assert lines[0].startswith("r.yaml:2:8: ")
    assert lines[1:] == [
        "--set evaluate.0=demo/scroe: no evaluator 'demo/scroe' (did you mean 'demo/score'?)",
        "--set train.0.rate=fast: 'rate' must be a number above 0, not 'fast'",
    ]


def test_problems_inside_the_persona_are_shown_with_its_own_place(catalog, tmp_path):
    (tmp_path / "clerk.yaml").write_text(PERSONA.replace("{words: {max: 30}}", "{wrods: {max: 30}}"), encoding="utf-8")
    assert found(catalog, RECIPE) == [f"{tmp_path / 'clerk.yaml'}:7:40: rule: unknown rule 'wrods' (did you mean 'words'?)"]


def test_problems_of_the_template(catalog, tmp_path):
    (tmp_path / "clerk.yaml").write_text(PERSONA + "template: own.j2\n", encoding="utf-8")
    assert "cannot be read" in found(catalog, RECIPE)[0]
    (tmp_path / "own.j2").write_text("{{ role }}\n{{ rules }}\n", encoding="utf-8")
    assert found(catalog, RECIPE) == [f"{tmp_path / 'own.j2'}:2:1: the variable 'rules' is not defined (did you mean 'role'?)"]
    (tmp_path / "clerk.yaml").write_text(PERSONA + "template: sistem\n", encoding="utf-8")
    assert found(catalog, RECIPE) == ["r.yaml:3:16: persona 'clerk': no template 'sistem' (did you mean 'system'?)"]


def test_a_part_whose_options_cannot_be_imported_is_named_with_the_cause(catalog):
    (line,) = found(catalog, RECIPE.replace("demo/talks", "demo/nowhere"))
    assert line.startswith("r.yaml:5:13: source 'demo/nowhere' of demo 0: cannot import") and "NoSuchModel" in line


def test_a_broken_plugin_is_named_with_its_cause(install):
    install("broken")
    catalog = Host(allow=["broken"]).catalog
    (line,) = found(catalog, "name: a\nmodel: m\npersona: assistant\ndata: {sources: [broken/rows]}\ntrain: [sft]\n")
    assert line.startswith("r.yaml:4:18: source 'broken/rows' needs the plugin 'broken'") and "a_module_that_does_not_exist" in line


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            "name: a\nmodel: m\npersona: assistant\n",
            "r.yaml:1:1: the recipe does nothing: it neither trains nor evaluates (add train: or evaluate:)",
        ),
        (
            "name: a\nmodel: m\npersona: assistant\ntrain: [sft]\n",
            "r.yaml:4:8: there is nothing to train on (name a source under data.sources)",
        ),
        (
            "name: a\nmodel: m\npersona: assistant\nevaluate: [length]\n",
            "r.yaml:4:12: there are no prompts for 'length' (name a source under data.prompts, or set data.split.test above 0)",
        ),
    ],
)
def test_a_recipe_must_do_something_with_something(text, line):
    assert found(Host(allow=()).catalog, text) == [line]


TALKS = "(name a source of demonstrations)"
VOTES = "(name a source of preferences, such as `{use: preferences, path: pairs.jsonl}`)"


@pytest.mark.parametrize(
    ("sources", "transforms", "train", "lines"),
    [
        ("demo/votes", "", "demo/prefer", []),
        ("demo/talks, demo/votes", "normalize", "{use: demo/fit, rate: 1e-4}, demo/prefer", []),
        ("demo/votes, demo/talks", "normalize", "{use: demo/fit, rate: 1e-4}, demo/prefer", []),
        ("demo/votes", "normalize", "demo/fit", [f"6:9: 'demo/fit' takes example records, but gets preference records {TALKS}"]),
        ("demo/talks", "", "demo/fit, demo/prefer", [f"6:19: 'demo/prefer' takes preference records, but gets example records {VOTES}"]),
        (
            "demo/votes",
            "demo/rank",
            "demo/prefer",
            ["5:16: 'demo/rank' takes preference records, but transforms are for demonstrations only"],
        ),
    ],
)
def test_demonstrations_and_preferences_go_to_the_trainers_that_take_them(catalog, sources, transforms, train, lines):
    data = f"data: {{sources: [{sources}],\n  transforms: [{transforms}]}}"
    text = f"name: a\nmodel: smollm2-135m\npersona: assistant\n{data}\ntrain: [{train}]\n"
    assert found(catalog, text) == [f"r.yaml:{line}" for line in lines]


def test_files_of_built_in_sources_may_have_wildcards(tmp_path):
    (tmp_path / "a1.jsonl").write_text("{}\n", encoding="utf-8")
    path = tmp_path / "r.yaml"
    path.write_text(
        "name: a\nmodel: m\npersona: assistant\ndata: {sources: [{use: jsonl, path: ['a*.jsonl', 'b*.jsonl']}]}\ntrain: [sft]\n",
        encoding="utf-8",
    )
    (problem,) = check_recipe(Recipe.load(path), Host(allow=()).catalog)
    assert (problem.line, problem.column) == (4, 50) and "b*.jsonl" in problem.message


def test_unmet_requirements():
    assert unmet(Requirement("pluggy")) == ""
    assert unmet(Requirement("pluggy>=99; python_version < '3'")) == ""
    assert unmet(Requirement("agentft-nowhere")) == "'agentft-nowhere' is not installed"
    # An extra is met only if what it brings is there.
    extras = metadata.metadata("pydantic").get_all("Provides-Extra") or []
    assert "email" in extras
    missing = unmet(Requirement("pydantic[email]"))
    try:
        metadata.version("email-validator")
    except metadata.PackageNotFoundError:
        assert missing == "'email-validator' is not installed"
    else:
        assert missing == ""


def test_checking_a_recipe_imports_no_model_code(tmp_path):
    (tmp_path / "rows.jsonl").write_text("{}\n", encoding="utf-8")
    (tmp_path / "r.yaml").write_text(
        "name: a\nmodel: smollm2-135m\npersona: assistant\ndata: {sources: [{use: jsonl, path: rows.jsonl}], "
        "transforms: [normalize, dedup]}\n"
        "train: [{use: sft, epochs: 1, strategy: {lora: {r: 8}}}]\nevaluate: [persona-adherence, rouge, perplexity]\n",
        encoding="utf-8",
    )
    code = (
        "import sys; from agentft.check import check_recipe; from agentft.host import Host; from agentft.recipe import Recipe\n"
        "problems = check_recipe(Recipe.load(sys.argv[1]), Host(allow=()).catalog)\n"
        "heavy = {'torch', 'transformers', 'trl', 'datasets', 'evaluate', 'peft', 'accelerate', 'sklearn', "
        "'scipy', 'numpy'} & set(sys.modules)\n"
        "print([str(p) for p in problems], sorted(heavy))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "r.yaml")], capture_output=True, text=True, cwd=Path(__file__).parents[1], check=False
    )
    assert result.stdout.strip() == "[] []", result.stderr


def test_the_error_of_a_recipe_lists_every_problem():
    error = RecipeError(check_recipe(Recipe.parse(RECIPE, "r.yaml"), Host(allow=()).catalog))
    assert len(str(error).splitlines()) == len(error.problems) >= 6
