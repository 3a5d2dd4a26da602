"""``agentft chat``: talk to an agent in the terminal."""

from __future__ import annotations

import sys

import click

from agentft.cli.common import runs_option
from agentft.errors import DataError

HELP = "/reset starts over, /undo takes the last exchange back, /system shows the system prompt, /quit leaves"


@click.command("chat")
@click.argument("run")
@runs_option
@click.option("--base", is_flag=True, help="The untrained model with the same persona, to hear the difference.")
@click.option("-m", "--message", "messages", multiple=True, help="Say this and leave; several make a conversation.")
@click.option("--temperature", default=0.0, show_default=True, type=click.FloatRange(0, 2))
@click.option("--max-new-tokens", default=200, show_default=True, type=click.IntRange(1))
def command(run: str, runs: str, base: bool, messages: tuple[str, ...], temperature: float, max_new_tokens: int) -> None:
    """Talk to the agent of RUN (an id, a folder, or a recipe name: its latest run)."""
    from agentft.api import load_agent

    agent = load_agent(run, base=base, runs=runs)
    history: list[dict[str, str]] = []

    def say(text: str) -> None:
        history.append({"role": "user", "content": text})
        while True:
            try:
                answer = agent.chat(history, temperature=temperature, max_new_tokens=max_new_tokens)
                break
            except DataError as error:
                if len(history) < 3:
                    raise
                del history[:2]
                click.echo(f"(the oldest exchange is forgotten: {error})", err=True)
        history.append({"role": "assistant", "content": answer})
        click.echo(f"{click.style(agent.name, fg='cyan', bold=True)}  {answer}")

    for message in messages:
        say(message)
    if messages:
        return
    interactive = sys.stdin.isatty()
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
            history.clear()
        elif text == "/undo":
            del history[-2:]
        elif text == "/system":
            click.echo(agent.loaded.renderer.system)
        elif text.startswith("/"):
            click.echo(HELP)
        elif text:
            say(text)
