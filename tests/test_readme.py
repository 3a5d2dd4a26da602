"""What README says of the code is what the code is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from agentft.docs_readme import PAGES, ROOT, filled


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_tables_are_current(page):
    assert page.read_text("utf-8") == filled(page), "run: python -m agentft.docs_readme"


@pytest.mark.parametrize("page", [*PAGES, *sorted((ROOT / "docs").glob("*.md"))], ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text("utf-8")):
        if not target.startswith(("http://", "https://")):
            assert (page.parent / target).exists(), target


def test_ci_runs_the_test_command_of_the_readme():
    readme, ci = (ROOT / "README.md").read_text("utf-8"), (ROOT / ".ci" / "run").read_text("utf-8")
    assert "make test " in readme and "make test\n" in ci
    assert Path(ROOT / "Makefile").read_text("utf-8").count("\ntest:") == 1
