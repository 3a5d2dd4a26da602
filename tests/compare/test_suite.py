"""Suites as data: every mistake with its place, and the suites that are shipped."""

from __future__ import annotations

from pathlib import Path

import pytest

from agentft.errors import RecipeError, UserError
from agentft.host import Host
from agentft.suite import Suite, find_suite, suite_files


def problems(text: str, folder: Path) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        Suite.parse(text, str(folder / "s.yaml")).session(Host())
    return [str(problem).replace(f"{folder}/", "") for problem in caught.value.problems]


def test_mistakes_of_form_have_file_line_and_column(desk: Path) -> None:
    text = "name: a b\nprompts: []\nevalute: [length]\nevaluate: [length]\nmin: {length: many}\ngeneration: {max_new_tokens: 0}\n"
    found = problems(text, desk)
    assert found[0].startswith("s.yaml:1:7: 'name' may hold up to 64 letters")
    assert any(one.startswith("s.yaml:3:1: unknown key 'evalute' (did you mean 'evaluate'?)") for one in found)
    assert any(one.startswith("s.yaml:5:15: ") for one in found) and any(one.startswith("s.yaml:6:30: ") for one in found)


def test_mistakes_in_what_it_names_are_shown_where_the_suite_has_them(desk: Path) -> None:
    text = (
        "name: desk\npersona: {use: clerk.yaml, variables: {mood: sour}}\nprompts:\n  - {use: jsonl, path: prompts.jsonl, limt: 3}\n"
        "evaluate:\n  - lenght\n"
    )
    found = problems(text, desk)
    assert any(one.startswith("s.yaml:4:39: ") and "limt" in one for one in found), found
    assert any(one.startswith("s.yaml:6:5: ") and "did you mean 'length'" in one for one in found)
    assert any(one.startswith("s.yaml:2:") and "mood" in one for one in found)


def test_a_reference_needs_demonstrations(desk: Path) -> None:
    text = "name: desk\npersona: customer-service/support\nprompts: [customer-service/prompts]\nevaluate:\n  - rouge\n"
    (found,) = problems(text, desk)
    assert found.startswith("s.yaml:5:5: 'rouge' compares with held-out demonstrations") and "under prompts" in found


def test_a_suite_that_measures_weights_needs_more_than_prompts(desk: Path) -> None:
    found = problems("name: a\npersona: clerk.yaml\nprompts: [{use: jsonl, path: prompts.jsonl}]\nevaluate: [text-perplexity]\n", desk)
    assert len(found) == 1 and found[0].startswith("s.yaml:4:12: 'text-perplexity'")


def test_a_name_that_is_not_there_is_answered_with_the_closest() -> None:
    with pytest.raises(UserError, match=r"no suite 'asistant' \(did you mean 'assistant'\?\)"):
        find_suite("asistant")
    with pytest.raises(UserError, match="there is no such file"):
        find_suite("nowhere.yaml")


@pytest.mark.parametrize("name", sorted(suite_files()))
def test_every_suite_that_is_shipped_can_run(name: str) -> None:
    suite = find_suite(name)
    session = suite.session(Host())
    assert session.persona.policies and suite.summary
    for use in suite.prompts:  # its slices exist in its prompts
        part = session.parts("source", [use])[0]
        from agentft.contracts import DataContext

        rows = list(session.catalog.target(part.entry)(part.config, DataContext(session.persona, session.recipe.base)))
        assert len(rows) >= 16 and all(any(key in row.meta for row in rows) for key in suite.slices)


def test_what_is_only_shown_does_not_change_the_digest() -> None:
    text = "name: a\nprompts: [{use: jsonl, path: p.jsonl}]\nevaluate: [length]\n"
    plain = Suite.parse(text)
    assert Suite.parse(text + "slices: [kind]\nmin: {length: 3}\n").digest == plain.digest
    assert Suite.parse(text + "limit: 3\n").digest != plain.digest
