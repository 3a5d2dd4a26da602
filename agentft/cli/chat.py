"""``agentft chat``: talk to an agent in the terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from agentft.cli.common import make_host, runs_option
from agentft.errors import DataError

if TYPE_CHECKING:
    from agentft.api import Agent
    from agentft.engine.toolbox import ToolBox
    from agentft.environments import ToolAnswer
    from agentft.records import Message, Response

HELP = "/reset starts over, /undo takes the last exchange back, /system shows the system prompt, /quit leaves"


@click.command("chat")
@click.argument("run")
@runs_option
@click.option("--key-env", metavar="VARIABLE", help="Environment variable with the key of a server.")
@click.option("--base", is_flag=True, help="The untrained model with the same persona, to hear the difference.")
@click.option("-m", "--message", "messages", multiple=True, help="Say this and leave; several make a conversation.")
@click.option("--temperature", default=0.0, show_default=True, type=click.FloatRange(0, 2))
@click.option("--max-new-tokens", default=200, show_default=True, type=click.IntRange(1))
def command(
    run: str, runs: str, key_env: str | None, base: bool, messages: tuple[str, ...], temperature: float, max_new_tokens: int
) -> None:
    """Talk to an agent: a RUN (an id, a folder, or a recipe name: its latest run), a model, an export, or a server (http://.../v1).

    What it calls is run and shown; where a persona only describes a tool, you are asked for the tool's answer.
    """
    agent = _opened(run, runs, key_env, base)
    interactive = not messages and sys.stdin.isatty()
    talk = _Talk(agent, {"temperature": temperature, "max_new_tokens": max_new_tokens}, interactive)
    for message in messages:
        talk.say(message)
    if messages:
        return
    if interactive:
        click.echo(f"{agent.name} ({'base model' if base else 'tuned'}). {HELP}")
    while True:
        try:
            text = (input("you  ") if interactive else sys.stdin.readline() or "/quit").strip()
        except (EOFError, KeyboardInterrupt):
            click.echo()
            return
        if text in ("/quit", "/exit"):
            return
        if text == "/reset":
            talk.turns.clear()
        elif text == "/undo":
            del talk.turns[-1:]
        elif text == "/system":
            renderer = getattr(agent.loaded, "renderer", None)
            click.echo(renderer.shown_system if renderer else "the server has it")
        elif text.startswith("/"):
            click.echo(HELP)
        elif text:
            talk.say(text)


def _opened(run: str, runs: str, key_env: str | None, base: bool) -> Any:
    """The agent of a run, encoder-decoders too, or any other: something with ``name``, ``persona`` and ``loaded.generate``."""
    from agentft.agents import open_agent, run_named
    from agentft.api import Agent, load_agent

    if key_env is None and (named := run_named(run, runs, base)) is not None:
        return load_agent(named[0], base=named[1], version=named[2], runs=runs)
    opened: Any = open_agent(run, key_env=key_env, base=base, runs=runs)
    return Agent(opened.name, opened, opened.persona)


class _Talk:
    """A conversation in the terminal; a turn begins with what the user says."""

    def __init__(self, agent: Agent, settings: Mapping[str, Any], interactive: bool):
        self.agent, self.settings = agent, settings
        self.turns: list[list[Message]] = []
        self.box = _toolbox(agent, interactive)

    def say(self, text: str) -> None:
        from agentft.engine.toolbox import respond
        from agentft.records import Message

        self.turns.append([Message("user", text)])
        said = respond(self._next, self.box, watch=_show)
        self.turns[-1] += said
        if said[-1].role == "assistant":
            click.echo(f"{click.style(self.agent.name, fg='cyan', bold=True)}  {said[-1].content}")
        else:
            click.echo("(no answer: the agent made as many calls as a turn may have)", err=True)

    def _next(self, turn: Sequence[Message]) -> Response:
        from agentft.contracts import GenerationSettings
        from agentft.records import Example

        while True:
            before = tuple(message for one in self.turns for message in one)
            response = self.agent.loaded.generate([Example("chat", (*before, *turn))], GenerationSettings(**self.settings))[0]
            if response.finish != "error":
                return response
            if len(self.turns) < 2:
                raise DataError(f"the model could not answer: {response.error}")
            del self.turns[0]
            click.echo(f"(the oldest exchange is forgotten: {response.error})", err=True)


def _toolbox(agent: Agent, interactive: bool) -> ToolBox:
    from agentft.engine.toolbox import ToolBox
    from agentft.environments import ToolContext

    persona = agent.persona
    if persona is None or not persona.tools:
        return ToolBox(())
    return ToolBox(persona.tools, make_host().catalog, ToolContext(persona.variables), _asked if interactive else None)


def _asked(call: Mapping[str, Any]) -> str | None:
    """What a person says in place of a tool without code."""
    click.secho(f"  {_written(call)}: no plugin runs this; type its answer", dim=True)
    return input("  tool  ")


def _show(call: Mapping[str, Any], answer: ToolAnswer) -> None:
    click.secho(f"  {_written(call) if 'name' in call else call['text']}", dim=True)
    click.secho(f"  -> {answer.content}", dim=True, fg="red" if answer.error else None)


def _written(call: Mapping[str, Any]) -> str:
    return f"{call['name']}({json.dumps(call['arguments'], ensure_ascii=False)})"
