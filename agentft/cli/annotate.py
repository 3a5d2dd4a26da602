"""``agentft annotate``: people rate, edit and comment on answers in the browser."""

from __future__ import annotations

import secrets
from pathlib import Path

import click

from agentft.cli.address import listening, loopback
from agentft.cli.common import echo_json, json_option, make_store, runs_option


@click.command("annotate")
@click.argument("run")
@runs_option
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; another one than loopback needs a token.")
@click.option("--port", default=8600, show_default=True, type=click.IntRange(0, 65535), help="0 takes a free one.")
@click.option("--token", envvar="AGENTFT_ANNOTATE_TOKEN", help="Token for other machines; made up if left out.")
@click.option("--limit", type=click.IntRange(1), help="Ask the first tasks only.")
@click.option(
    "--export",
    "export",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write what people preferred as TRL's JSON lines, and leave.",
)
@click.option("--open", "open_it", is_flag=True, help="Open the page in a browser.")
@json_option
def command(
    run: str, runs: str, host: str, port: int, token: str | None, limit: int | None, export: Path | None, open_it: bool, as_json: bool
) -> None:
    """Let people judge answers of RUN (an id, a folder, or a recipe name): blind, in pairs, with a checklist, an edit and words.

    What is stored takes part in the next `agentft refine` by itself. With --json: progress and agreement, and leave.
    """
    from agentft.feedback.agreement import agreement
    from agentft.feedback.human import HumanStore
    from agentft.persona import Persona
    from agentft.serve.tasks import tasks_of_run

    found = make_store(runs)
    manifest = found.manifest(run)
    store = HumanStore(found.root / "feedback" / f"{manifest['name']}.jsonl")
    if export is not None:
        from agentft.data.jsonl import write_rows
        from agentft.data.pair_export import trl_row

        count = write_rows(export, (trl_row(one) for one in store.preferences() if one.paired))
        click.echo(f"{count} pairs in {export}")
        return
    tasks = tasks_of_run(manifest, found.stages)[:limit]
    if as_json:
        rows = [row for row in store.latest() if row.task in {task.id for task in tasks}]
        raters = sorted({row.rater for row in rows})
        echo_json(
            {
                "run": manifest["id"],
                "store": str(store.path),
                "tasks": len(tasks),
                "raters": {name: sum(row.rater == name for row in rows) for name in raters},
                "agreement": [vars(one) for one in agreement(row for row in rows if row.kind != "skip")],
            }
        )
        return
    import uvicorn

    from agentft.serve.annotate import create_app

    if not loopback(host):
        token = token or secrets.token_urlsafe(24)
    app = create_app(tasks, store, Persona.from_dict(manifest["persona"]), title=manifest["name"], token=token)
    listener, address = listening(host, port)
    address = f"{address}/" + (f"?token={token}" if token else "")
    click.echo(f"{len(tasks)} tasks; open {address}")
    click.echo(f"answers go to {store.path}; Ctrl+C stops, nothing is lost")
    if open_it:
        click.launch(address)
    uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False)).run(sockets=[listener])
