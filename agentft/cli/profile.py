"""``agentft profile``: how models run on this machine, and what that was decided from."""

from __future__ import annotations

import click

from agentft.cli.common import echo_json, json_option


@click.command("profile")
@click.option("--measure", is_flag=True, help="Time this machine again, even if it was timed before.")
@json_option
def command(measure: bool, as_json: bool) -> None:
    """Show how models run here: device, precision, threads, memory.

    On first use short matrix products are timed (under 2 seconds) and the decision is kept in the cache, so that every run on
    this machine takes the same one. A recipe's `device:` overrides it.
    """
    from agentft.engine.memory import available
    from agentft.engine.profile import detect, measured

    profile = detect(again=measure)
    found, free = measured(profile.device), available(profile.device)
    if as_json:
        echo_json({"profile": profile.to_dict(), "available_bytes": free, "measured": found and vars(found)})
        return
    click.echo(str(profile))
    if found is not None:
        for title, rates, unit in (
            ("products", found.train, "GFLOP/s"),
            ("decoding", found.decode, "layers/s"),
            ("threads", found.scaling, "GFLOP/s"),
        ):
            click.echo(f"{title}: " + ", ".join(f"{name} {value:,.0f} {unit}" for name, value in rates.items()))
    click.echo(f"memory: {free / 1e9:.1f} GB available")
