"""The script of a simulated user: a state machine as data, in a task or in a YAML file. See docs/simulate.md for the whole format."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, ValidationError

from agentft.errors import Problem, RecipeError, did_you_mean
from agentft.validation import Listed, Model, problems_of


def _pattern(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"'{text}' is not a regular expression: {error}") from None
    return text


Pattern = Annotated[str, AfterValidator(_pattern)]
Text = Annotated[str, Field(min_length=1)]
Wordings = Text | Annotated[Listed[Text], Field(min_length=1)]


class Called(Model):
    """A call of the agent."""

    name: str = Field(min_length=1, description="of the tool")
    arguments: dict[str, Any] = Field(default={}, description="that the call has, among others")


class Condition(Model):
    """What has to have happened; all that is given has to hold. Nothing given: it always holds."""

    agent: Pattern | Listed[Pattern] | None = Field(
        default=None, description="regular expressions, upper and lower case alike; one is found in what the agent just said"
    )
    called: str | Called | None = Field(default=None, description="the agent has called this tool in the conversation")
    told: Listed[Text | Listed[Text]] = Field(default=(), description="facts, as groups of alternatives: the agent has told one of each")
    refused: bool = Field(
        default=False, description="the agent just said that it cannot or may not, and asked for nothing that the user knows"
    )
    after: int = Field(default=0, ge=0, description="the user has spoken at least so often, the first message included")


class Move(Condition):
    """A condition and the state that follows."""

    go: str = Field(min_length=1, description="name of the next state; its words are said")


class Leave(Condition):
    """A condition on which the user leaves from any state."""

    say: Wordings = Field(description="last words, one of several wordings")


class Slot(Model):
    """Something that the user knows and says when asked for it."""

    say: Wordings = Field(description="what is said, one of several wordings")
    asked: Pattern | None = Field(
        default=None, description="regular expression of what it is called; default: the name of the slot, `_` for a space"
    )


class State(Model):
    """Where the user stands."""

    say: Wordings = Field(description="what is said on entering, one of several wordings")
    when: Listed[Move] = Field(default=(), description="ways on; the first that holds is taken")
    leave: bool = Field(default=False, description="the user says it and leaves")


class UserScript(Model):
    """A user as a state machine."""

    goal: str = Field(default="", description="what the user wants, in words: for readers, and for a model that plays the user")
    language: str = Field(default="en", pattern="^(en|zh)$", description="`en` or `zh`: the words of what is not written in the script")
    start: str = Field(default="start", description="name of the first state")
    states: dict[str, State] = Field(description="by name")
    slots: dict[str, Slot] = Field(default={}, description="what the user says when asked, by name")
    leaves: Listed[Leave] = Field(default=(), description="when the user leaves, from any state; looked at before anything else")
    default: Wordings | None = Field(default=None, description="what is said when nothing fits; several are said in turn")
    patience: int = Field(default=3, ge=0, description="answers in a row that lead nowhere before the user gives up")
    gives_up: Wordings | None = Field(default=None, description="last words of a user who gives up")
    values: dict[str, Any] = Field(default={}, description="variables for the wordings, as `{{ name }}`")


def mistakes(script: UserScript) -> Iterator[tuple[tuple[str | int, ...], str, str]]:
    """States that are named and not there: path, message, hint."""
    if script.start not in script.states:
        yield ("start",), f"there is no state '{script.start}' to start with", did_you_mean(script.start, script.states)
    for name, state in script.states.items():
        if state.leave and state.when:
            yield ("states", name, "when"), f"the user leaves in state '{name}' and goes nowhere from it", "delete 'when' or 'leave'"
        for place, move in enumerate(state.when):
            if move.go not in script.states:
                path = ("states", name, "when", place, "go")
                yield path, f"there is no state '{move.go}' to go to", did_you_mean(move.go, script.states)


def script_from(data: Any, where: str = "script") -> UserScript:
    """A script from a task's data.

    Raises:
        RecipeError: with every mistake; ``where`` stands in front of its path.
    """
    try:
        script = UserScript.model_validate(data)
    except ValidationError as error:
        raise RecipeError(problems_of(error, UserScript, lambda path, message, hint, key: _plain(where, path, message, hint))) from None
    if found := [_plain(where, path, message, hint) for path, message, hint in mistakes(script)]:
        raise RecipeError(found)
    return script


def _plain(where: str, path: Any, message: str, hint: str) -> Problem:
    return Problem(message, ".".join(map(str, (where, *path))), hint=hint)


def read_scripts(path: Path | str) -> dict[str, UserScript]:
    """Scripts of a YAML file: a mapping of names to scripts.

    Raises:
        RecipeError: with every mistake, as file:line:column.
    """
    from agentft import yamlio

    document = yamlio.load(path)
    data: Mapping[str, Any] = yamlio.mapping(document, "a file of scripts", "one script")
    found: dict[str, UserScript] = {}
    problems: list[Problem] = []
    for name, row in data.items():
        try:
            found[name] = UserScript.model_validate(row)
        except ValidationError as error:
            problems += problems_of(
                error, UserScript, lambda path, message, hint, key: document.problem(path, message, hint, key=key), (name,)
            )
            continue
        problems += [document.problem((name, *place), message, hint) for place, message, hint in mistakes(found[name])]
    if problems:
        raise RecipeError(problems)
    return found
