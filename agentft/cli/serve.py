"""``agentft serve``: agents behind OpenAI's interface."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agentft.cli.address import listening, loopback
from agentft.cli.common import echo_json, json_option, make_host, runs_option

if TYPE_CHECKING:
    from agentft.serve.gateway_state import Deployment, Limits
    from agentft.serving import Wanted


@click.command("serve")
@click.argument("agents", nargs=-1, metavar="[NAME=]AGENT...")
@runs_option
@click.option("--persona", "personas", multiple=True, metavar="[NAME=]PERSONA", help="Persona (name or file) of all agents, or of NAME.")
@click.option("--var", "variables", multiple=True, metavar="NAME=VALUE", help="Value of a persona's variable; requests may set others.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; another one than loopback needs a key.")
@click.option("--port", default=8080, show_default=True, type=click.IntRange(0, 65535), help="0 takes a free one.")
@click.option("--key-env", metavar="VARIABLE", help="Environment variable with the key that callers send.")
@click.option("--key-file", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="File with that key.")
@click.option("--limit", "limits", multiple=True, metavar="NAME=VALUE", help="A limit, for example waiting=16; --limits shows them.")
@click.option("--limits", "show_limits", is_flag=True, help="Show the limits with their values, and leave.")
@click.option("--run-tools", is_flag=True, help="Run the persona's tools here; else callers get the calls.")
@click.option("--model", help="A server's name for its model; left out: the first that it lists.")
@click.option("--behind-key-env", metavar="VARIABLE", help="Environment variable with the key of a server behind the gateway.")
@click.option(
    "--feedback", type=click.Path(dir_okay=False, path_type=Path), help="Store of /v1/feedback; left out: RUNS/feedback/served.jsonl."
)
@click.option("--no-feedback", is_flag=True, help="No /v1/feedback.")
@click.option("--no-page", is_flag=True, help="No chat page.")
@click.option("--log", "log", type=click.Choice(["text", "json", "off"]), default="text", show_default=True, help="A line per request.")
@click.option("--log-texts", is_flag=True, help="The last message and the answer too, personal data replaced.")
@click.option("--check", "check", is_flag=True, help="Load everything, say what would be served, and leave.")
@json_option
def command(
    agents: tuple[str, ...],
    runs: str,
    personas: tuple[str, ...],
    variables: tuple[str, ...],
    host: str,
    port: int,
    key_env: str | None,
    key_file: Path | None,
    limits: tuple[str, ...],
    show_limits: bool,
    run_tools: bool,
    model: str | None,
    behind_key_env: str | None,
    feedback: Path | None,
    no_feedback: bool,
    no_page: bool,
    log: str,
    log_texts: bool,
    check: bool,
    as_json: bool,
) -> None:
    """Serve AGENTs through OpenAI's interface: runs (NAME@VERSION, NAME@base), models, or the address of a server (http://.../v1).

    Each is reached by the name in front of it, or that of its run or persona. Agents on the same base model share it.
    """
    settings = limits_from(limits)
    if show_limits:
        _show_limits(settings, as_json)
        return
    if not agents:
        raise click.UsageError("name what to serve: a run, a model, or the address of a server")
    key = key_from(key_env, key_file)
    if key is None and not loopback(host):
        from agentft.errors import UserError

        raise UserError(f"{host} can be reached from other machines: set a key with --key-env or --key-file, or listen on 127.0.0.1")
    from agentft.serving import deploy

    wanted = wanted_from(agents, personas, variables)
    deployments = deploy(wanted, settings, run_tools=run_tools, model=model, key_env=behind_key_env, runs=runs, host=make_host())
    if check:
        _show(deployments, as_json)
        return
    from agentft.feedback.served import ServedStore

    store = None if no_feedback else ServedStore(feedback or Path(runs) / "feedback" / "served.jsonl")
    listen(deployments, settings, key, host, port, store=store, page=not no_page, log=log, log_texts=log_texts)


def wanted_from(agents: Sequence[str], personas: Sequence[str], variables: Sequence[str]) -> list[Wanted]:
    """The agents of the command line. Raises click.UsageError."""
    from agentft.serving import Wanted
    from agentft.yamlio import parse_value

    pairs = [_named(agent) for agent in agents]
    names = {name for name, _ in pairs if name}
    own: dict[str, str] = {}
    for text in personas:
        name, persona = _named(text)
        if name and name not in names:
            raise click.UsageError(f"--persona {text}: there is no agent called '{name}'; write {name}=AGENT")
        own[name] = persona
    if wrong := [pair for pair in variables if "=" not in pair]:
        raise click.UsageError(f"--var takes NAME=VALUE, not '{wrong[0]}'")
    values: dict[str, Any] = {key: parse_value(value) for key, _, value in (pair.partition("=") for pair in variables)}
    return [Wanted(reference, name, own.get(name) or own.get(""), values) for name, reference in pairs]


def _named(text: str) -> tuple[str, str]:
    """``NAME=REST``; an address may hold a = further on."""
    name, found, rest = text.partition("=")
    return (name, rest) if found and rest and "/" not in name and ":" not in name else ("", text)


def limits_from(pairs: Sequence[str]) -> Limits:
    """The limits, some of them changed.

    Raises:
        UserError: no such limit, or a value that it does not take.
    """
    from pydantic import ValidationError

    from agentft.errors import Problem, RecipeError
    from agentft.serve.gateway_state import Limits
    from agentft.validation import problems_of
    from agentft.yamlio import parse_value

    if wrong := [pair for pair in pairs if "=" not in pair]:
        raise click.UsageError(f"--limit takes NAME=VALUE, not '{wrong[0]}'")
    try:
        return Limits.model_validate({key: parse_value(value) for key, _, value in (pair.partition("=") for pair in pairs)})
    except ValidationError as error:
        raise RecipeError(problems_of(error, Limits, lambda path, message, hint, key: Problem(f"--limit: {message}", hint=hint))) from None


def key_from(variable: str | None, file: Path | None) -> str | None:
    """The key that callers send.

    Raises:
        UserError: it is asked for and not there, or too short.
    """
    from agentft.errors import UserError

    if variable is None and file is None:
        return None
    if variable is not None and file is not None:
        raise click.UsageError("--key-env and --key-file: give one of them")
    key = os.environ.get(variable or "", "").strip() if variable else file.read_text("utf-8").strip() if file else ""
    place = f"the environment variable {variable}" if variable else str(file)
    if not key:
        raise UserError(f"{place} holds no key; make one with: python -c 'import secrets; print(secrets.token_urlsafe(32))'")
    if len(key) < 16 or not key.isascii() or not key.isprintable() or " " in key:
        raise UserError(f"the key in {place} needs at least 16 letters, digits and signs of ASCII, without spaces")
    return key


def listen(
    deployments: Sequence[Deployment],
    settings: Limits,
    key: str | None,
    host: str,
    port: int,
    *,
    store: Any = None,
    page: bool = True,
    log: str = "text",
    log_texts: bool = False,
) -> None:
    """Serve until the process is told to stop (SIGINT, SIGTERM); running answers get ``settings.grace`` seconds to end.

    Raises:
        UserError: the address cannot be used.
    """
    import signal

    import uvicorn

    from agentft.serve.gateway import create_gateway
    from agentft.serve.gateway_log import RequestLog

    lines = RequestLog(None if log == "off" else sys.stderr, as_json=log == "json", texts=log_texts)
    app = create_gateway(deployments, key=key, settings=settings, feedback=store, chat_page=page, log=lines)
    listener, address = listening(host, port)
    for one in deployments:
        click.echo(f"{one.name}: {one.persona.summary if one.persona else 'no persona'}")
    click.echo(f"serving {address}/v1 ({'with a key' if key else 'without a key, this machine only'}); Ctrl+C stops")
    sys.stdout.flush()
    grace = max(1, round(settings.grace))
    config = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=grace, server_header=False, lifespan="on")
    # uvicorn raises what it was stopped with once more when all is done; to be told to stop is no failure.
    before = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        uvicorn.Server(config).run(sockets=[listener])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _show_limits(settings: Limits, as_json: bool) -> None:
    from agentft.cli.common import table

    values: Mapping[str, Any] = settings.model_dump()
    if as_json:
        echo_json(values)
        return
    table(["limit", "value", "what"], [[name, values[name], field.description] for name, field in type(settings).model_fields.items()])


def _show(deployments: Sequence[Deployment], as_json: bool) -> None:
    from agentft.cli.common import table

    rows = [
        {
            "name": one.name,
            "version": one.version,
            "persona": one.persona.name if one.persona else "",
            "tools": [str(tool["name"]) for tool in one.tools],
            "variables": {name: variable.kind for name, variable in one.declared.items()},
        }
        for one in deployments
    ]
    if as_json:
        echo_json(rows)
        return
    table(
        ["name", "version", "persona", "tools", "variables"],
        [[row["name"], row["version"], row["persona"], ", ".join(row["tools"]), ", ".join(row["variables"])] for row in rows],
    )
