"""The reference pages are current, and what they show works."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from agentft import docs_reference
from agentft.check import check_recipe
from agentft.host import Host
from agentft.persona import Persona
from agentft.recipe import Recipe
from agentft.records import Example, Message
from agentft.rules import compile_rule, rule_names
from agentft.yamlio import parse_value

DOCS = Path(__file__).parents[1] / "docs"


def example(page: str) -> str:
    return re.search(r"```yaml\n(.*?)```", (DOCS / page).read_text("utf-8"), re.DOTALL)[1]


@pytest.mark.parametrize("name", ["recipe", "persona"])
def test_the_page_is_current(name):
    fresh = {"recipe": docs_reference.recipe_page, "persona": docs_reference.persona_page}[name]()
    assert (DOCS / f"{name}.md").read_text("utf-8") == fresh, "run: python -m agentft.docs_reference"


def test_the_example_recipe_passes_the_check(tmp_path):
    (tmp_path / "recipe.yaml").write_text(example("recipe.md"), encoding="utf-8")
    (tmp_path / "conversations.jsonl").write_text("{}\n", encoding="utf-8")
    recipe = Recipe.load(tmp_path / "recipe.yaml")
    assert check_recipe(recipe, Host(allow=()).catalog) == []


def test_the_overrides_of_the_page_can_be_used(tmp_path):
    overrides = re.findall(r"`--set ([^`]+)`", (DOCS / "recipe.md").read_text("utf-8"))
    overrides.remove("PATH=VALUE")
    recipe = Recipe.parse(example("recipe.md"), overrides=overrides)
    assert len(overrides) >= 3 and recipe.train[0].options["epochs"] == 1


def test_the_example_persona_decides_answers(tmp_path):
    (tmp_path / "p.yaml").write_text(example("persona.md"), encoding="utf-8")
    persona = Persona.load(tmp_path / "p.yaml", values={"max_words": 8})
    verdicts = persona.check("You may keep it for 21 days.", Example("1", (Message("user", "How long may I keep it?"),)))
    assert [v.verdict for v in verdicts] == ["pass", "pass", "unscored"]


def test_every_rule_is_explained_with_an_example_that_compiles():
    assert set(docs_reference.RULES) == set(rule_names())
    for name, (text, _) in docs_reference.RULES.items():
        rule = parse_value(text)
        assert next(iter(rule)) == name and compile_rule(rule)


def test_every_key_and_every_built_in_part_is_on_the_page():
    text = (DOCS / "recipe.md").read_text("utf-8")
    assert all(f"| `{key}` |" in text for key in Recipe.model_fields)
    catalog = Host(allow=()).catalog
    assert all(
        f"### {entry.name} ({kind})" in text
        for kind in ("source", "transform", "trainer", "loss", "evaluator")
        for entry in catalog.entries(kind)
    )
