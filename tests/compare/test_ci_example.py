"""The GitHub Actions example: it can be read, and its commands exist with these options."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner
from ruamel.yaml import YAML

from agentft.cli.main import cli

FILE = Path(__file__).parents[2] / "examples" / "ci" / "github-actions.yml"


def steps() -> list[dict]:
    data = YAML(typ="safe").load(FILE.read_text("utf-8"))
    assert set(data) >= {"name", "on", "jobs"}
    return [step for job in data["jobs"].values() for step in job["steps"]]


def commands() -> list[list[str]]:
    found = []
    for step in steps():
        # What a shell would put in the place of $( ... ) is one word here.
        line = re.sub(
            r'"\$\((.*)\)"',
            lambda inner: "RUN" if found.append(shlex.split(inner[1].partition("|")[0])) is None else "",
            step.get("run", ""),
        )
        if line.startswith("agentft "):
            found.append(shlex.split(line))
    return found


def test_every_step_does_one_thing() -> None:
    assert all(("run" in step) != ("uses" in step) for step in steps())
    assert [line[1] for line in commands()] == ["check", "evaluate", "runs", "evaluate", "compare"]


@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_its_commands_exist_with_these_options(command: list[str]) -> None:
    words = command[1:]
    depth = 2 if words[0] in ("runs",) else 1
    shown = CliRunner().invoke(cli, [*words[:depth], "--help"])
    assert shown.exit_code == 0
    for word in words:
        assert not word.startswith("--") or re.search(rf"(?<!\S){re.escape(word)}\b", shown.output), f"{word} is no option of {words[0]}"
    # What click makes of the whole line; nothing is run.
    found: object = cli
    for name in words[:depth]:
        import click

        assert isinstance(found, click.Group)
        with click.Context(found) as context:
            found = found.get_command(context, name)
    assert isinstance(found, click.Command)
    found.make_context(words[0], [word if "*" not in word else "evaluations/candidate" for word in words[depth:]])
