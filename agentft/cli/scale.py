"""``agentft scale``: memory and time of a training on many GPUs, by arithmetic."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agentft.cli.common import echo_json, json_option, make_host

if TYPE_CHECKING:
    from agentft.engine.capacity import Shape

# Name and width of each column: 100 signs in all, so that the table can be pasted anywhere.
COLUMNS = {"GPUs": 4, "strategy": 8, "held as": 7, "recompute": 9, "weights": 7, "gradients": 9, "Adam": 5, "activations": 11, "other": 5}
LAST = {"GB": 6, "fits": 4, "hours": 6}


@click.command("scale")
@click.argument("model", required=False)
@click.option("--gpus", default="1,8,64", show_default=True, help="Numbers of GPUs, with commas.")
@click.option("--memory", default=80.0, show_default=True, help="GB (1e9 bytes) of each GPU.")
@click.option(
    "--strategy", type=click.Choice(["full", "lora", "qlora", "all"]), default="all", show_default=True, help="Which parameters move."
)
@click.option("--rank", "r", default=16, show_default=True, help="Rank of LoRA on all linear layers.")
@click.option("--rows", default=1, show_default=True, help="Rows per forward pass on a GPU.")
@click.option("--length", default=2048, show_default=True, help="Tokens in a row.")
@click.option("--supervised", default=0.25, show_default=True, help="Share of the tokens that are learned from.")
@click.option("--tokens", default=1e8, show_default=True, help="Tokens to train on, all epochs together, for the hours.")
@click.option("--tflops", default=989.0, show_default=True, help="Peak TFLOP/s of a GPU, dense bf16 (989: H100 SXM).")
@click.option("--reached", default=0.4, show_default=True, help="Share of the peak that training reaches: an assumption.")
@click.option("--layers", type=int, help="By hand: number of layers.")
@click.option("--hidden", type=int, help="By hand: width of the hidden states.")
@click.option("--intermediate", type=int, help="By hand: width of the feed-forward layer.")
@click.option("--heads", type=int, help="By hand: attention heads.")
@click.option("--kv-heads", type=int, help="By hand: heads of keys and values; default: as many.")
@click.option("--vocabulary", type=int, help="By hand: size of the vocabulary.")
@json_option
def command(
    model: str | None,
    gpus: str,
    memory: float,
    strategy: str,
    r: int,
    rows: int,
    length: int,
    supervised: float,
    tokens: float,
    tflops: float,
    reached: float,
    as_json: bool,
    **numbers: int | None,
) -> None:
    """What training MODEL takes on each GPU, and how long.

    MODEL is 7b, 8b, 70b (published architectures) or whatever can stand under model: in a recipe; without it, give the
    architecture by hand. Everything is arithmetic, nothing is measured: see docs/scaling.md.
    """
    from agentft.engine.capacity import Load, hours, smallest, with_numbers

    shape = with_numbers(_shape(model), numbers)
    counts = _counts(gpus)
    if not 0 < reached <= 1 or not 0 <= supervised <= 1:
        raise click.UsageError("--reached and --supervised are shares between 0 and 1")
    found: list[dict[str, Any]] = []
    for count in counts:
        for kind in ("full", "lora", "qlora") if strategy == "all" else (strategy,):
            # 4-bit weights are not sharded: neither FSDP2 nor ZeRO-3 was tried with them.
            for sharded in (False, True) if count > 1 and kind != "qlora" else (False,):
                one = smallest(shape, kind, count, memory * 1e9, sharded=sharded, load=Load(rows, length, supervised), r=r)
                found.append(
                    {
                        "gpus": count,
                        "strategy": kind,
                        "sharded": sharded,
                        **one.to_dict(),
                        "fits": one.fits(memory * 1e9),
                        "hours": hours(one, tokens, count, tflops * 1e12, reached),
                    }
                )
    if as_json:
        echo_json({"measured": False, "parameters": shape.parameters, "shape": vars(shape), "rows": found})
        return
    click.echo(f"{shape.parameters / 1e9:.2f} billion parameters; {rows} x {length} tokens per pass and GPU; {tokens:.3g} tokens in all")
    for cells in [list(COLUMNS | LAST), *map(_cells, found)]:
        click.echo("  ".join(f"{cell:>{width}}" for cell, width in zip(cells, (COLUMNS | LAST).values(), strict=True)))
    click.echo(f"GB per GPU (1e9 bytes), hours at {reached:.0%} of {tflops:g} TFLOP/s, by arithmetic; nothing here was measured")


def _cells(row: dict[str, Any]) -> list[str]:
    parts = [f"{row[key] / 1e9:.1f}" for key in ("weights", "gradients", "optimiser", "activations")]
    other = f"{(row['gathered'] + row['logits']) / 1e9:.1f}"
    held = "shards" if row["sharded"] else "copies" if row["gpus"] > 1 else "whole"
    return [
        str(row["gpus"]),
        row["strategy"],
        held,
        "yes" if row["checkpointing"] else "no",
        *parts,
        other,
        f"{row['total'] / 1e9:.1f}",
        "yes" if row["fits"] else "no",
        f"{row['hours']:.2g}" if row["fits"] else "",
    ]


def _counts(text: str) -> list[int]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdigit() and int(part) for part in parts):
        raise click.UsageError(f"--gpus takes numbers such as 1,8,64, not '{text}'")
    return [int(part) for part in parts]


def _shape(model: str | None) -> Shape | None:
    from agentft.engine.capacity import SHAPES, shape_of

    if model is None or model.lower() in SHAPES:
        return SHAPES[model.lower()] if model else None
    return shape_of(json.loads((Path(make_host().resolve_model(model).path) / "config.json").read_text("utf-8")))
