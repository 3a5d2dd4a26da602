"""Answers per second for prompts that share a persona: agentft against transformers' generate, with equal greedy tokens.

    python benchmarks/generation.py --rows 64 --new 64 --repeats 5 --memory
    python benchmarks/generation.py --prefix 0,128,512,2048          # how the cost grows with the persona's prompt
    python benchmarks/generation.py --candidates 1,4,16 --own 200    # candidates of one prompt, which has 200 words of its own
    python benchmarks/generation.py --rows 256 --slots 64 --uneven   # rows stop at different times, others take their places

Three ways, in one process, on the same model, prompts and precision, in turns:

* ``generate``: batched, every row with the persona's tokens of its own (padded on the left, as its documentation says);
* ``generate + copied prefix``: the persona's keys and values computed once and repeated for the rows of each batch;
* ``agentft``: one prefix for all rows, slots that are refilled, reordered weights (reordering included in its time).

``--rows`` prompts (candidates counted) run at most ``--slots`` at a time; the two peers run batch after batch, sorted by length. Without
``--uneven`` no row stops before ``--new`` tokens. With it, a row ends at the model's own stop tokens and at full stops, so that lengths
differ. The equality of the tokens is shown beside the times; a row that differs is reported with the gap of its two best logits where
the ways part: a tie, or a mistake. Where others use the machine, set OMP_NUM_THREADS=1 and compare ``cpu_seconds``.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

from common import compare, machine, peak_rss, ratios, rounded

TOPICS = ["parcel", "refund", "jacket", "kettle", "invoice", "voucher", "sofa", "lamp", "password", "courier"]


def numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--rows", type=int, default=64, help="prompts times candidates")
    parser.add_argument("--slots", type=int, default=64, help="rows that run together")
    parser.add_argument("--new", type=int, default=64)
    parser.add_argument(
        "--prefix", type=numbers, default=[256], help="words of the persona's prompt, about as many tokens; several with commas"
    )
    parser.add_argument("--candidates", type=numbers, default=[1], help="answers to each prompt; several with commas")
    parser.add_argument("--own", type=int, default=0, help="more words in each prompt")
    parser.add_argument("--uneven", action="store_true")
    parser.add_argument("--memory", action="store_true", help="also the rise of the resident memory, each way once more on one thread")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="on one line")
    args = parser.parse_args()

    from agentft.engine.agent import LoadedAgent
    from agentft.engine.models import pull

    agent = LoadedAgent.load(pull(args.model))
    found = [case(agent, args, prefix, candidates) for prefix in args.prefix for candidates in args.candidates]
    print(json.dumps({"machine": machine(), "cases": rounded(found)}, indent=None if args.json else 2))


def case(agent: Any, args: argparse.Namespace, prefix: int, candidates: int) -> dict[str, Any]:
    """All ways for one length of the prefix and one number of candidates."""
    import torch

    from agentft.engine.prefix import common_prefix

    rows = prompts(agent, args.rows // candidates, prefix, args.own)
    rows = sorted((row for row in rows for _ in range(candidates)), key=lambda row: (-len(row), row))
    stops = {*agent.renderer.stop_token_ids, *agent.tokenizer(".", add_special_tokens=False).input_ids} if args.uneven else set()
    shared = common_prefix(rows)
    arms, results = ways(agent, rows, shared, stops, args.slots, args.new)
    with torch.inference_mode():
        times = compare(arms, args.repeats, warm=args.repeats > 1)
        parted = [gap(agent.model, row, a, b) for row, a, b in zip(rows, results["generate"], results["agentft"], strict=True) if a != b]
        memory = {}
        if args.memory:
            memory = {name: peak_rss(arm, before=lambda: agent.model(torch.tensor([rows[0]]))) / 2**20 for name, arm in arms.items()}
    tokens = sum(map(len, results["agentft"]))
    cpu = {name: {"runs": times[name]["cpu"]["runs"]} for name in times}
    return {
        "rows": len(rows),
        "candidates": candidates,
        "slots": args.slots,
        "shared_tokens": shared,
        "own_tokens": sum(len(row) - shared for row in rows) / len(rows),
        "new_tokens": tokens / len(rows),
        "longest_answer": max(map(len, results["agentft"])),
        "dtype": agent.profile.decode_dtype,
        "seconds": {name: [one["median"], one["min"], one["max"]] for name, one in times.items()},
        "cpu_seconds": {name: [one["cpu"]["median"], one["cpu"]["min"], one["cpu"]["max"]] for name, one in times.items()},
        "tokens_per_second": {name: tokens / one["median"] for name, one in times.items()},
        "times_as_fast_as": {
            base: [one["agentft"][what] for what in ("median", "min", "max")] for base in list(arms)[:-1] for one in [ratios(times, base)]
        },
        "times_as_fast_as_by_cpu": {base: ratios(cpu, base)["agentft"]["median"] for base in list(arms)[:-1]},
        "memory_mib": memory,
        "rows_with_equal_tokens": len(rows) - len(parted),
        "gap_of_best_logits_where_rows_part": parted,
    }


def prompts(agent: Any, count: int, prefix: int, own: int) -> list[list[int]]:
    """Tokens of ``count`` different prompts behind a persona's prompt of about ``prefix`` words (0: none)."""
    from agentft.records import Example, Message
    from agentft.render.conversation import Renderer

    system = " ".join(f"Rule {i}: be brief, warm and exact about the {TOPICS[i % 10]}." for i in range(prefix // 13))
    renderer = Renderer(agent.tokenizer, system)
    story = [f"Then the {TOPICS[i * 7 % 10]} came {i} days late." for i in range(own // 7)]
    asked = [
        " ".join([f"My {TOPICS[i % 10]} number {i} has a problem since {i % 28 + 1} May.", *story, "What can I do about it?"])
        for i in range(count)
    ]
    return [renderer.prompt(Example(str(i), (Message("user", text),))).input_ids for i, text in enumerate(asked)]


def ways(agent: Any, rows: list[list[int]], shared: int, stops: set[int], slots: int, new: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """The three ways, and where each leaves its tokens, cut after the stop token."""
    import torch

    from agentft.engine.decode import decode, shared_keys
    from agentft.engine.packed import Packed
    from agentft.engine.sampling import greedy

    model, pad = agent.model, agent.tokenizer.pad_token_id
    fixed: dict[str, Any] = {"max_new_tokens": new, "do_sample": False, "pad_token_id": pad, "eos_token_id": sorted(stops) or None}
    results: dict[str, list[list[int]]] = {}

    def cut(answers: list[list[int]]) -> list[list[int]]:
        return [answer[: next((at + 1 for at, token in enumerate(answer) if token in stops), new)] for answer in answers]

    def batches() -> Any:
        for start in range(0, len(rows), slots):
            batch = rows[start : start + slots]
            yield batch, [len(batch[0]) - len(row) for row in batch]

    def plain() -> None:
        found = []
        for batch, gaps in batches():
            tokens = torch.tensor([[pad] * n + row for row, n in zip(batch, gaps, strict=True)])
            mask = torch.tensor([[0] * n + [1] * len(row) for row, n in zip(batch, gaps, strict=True)])
            found += model.generate(input_ids=tokens, attention_mask=mask, **fixed)[:, tokens.shape[1] :].tolist()
        results["generate"] = cut(found)

    def copied() -> None:
        found = []
        once = model(input_ids=torch.tensor([rows[0][:shared]]), use_cache=True).past_key_values
        for batch, gaps in batches():
            tokens = torch.tensor([row[:shared] + [pad] * n + row[shared:] for row, n in zip(batch, gaps, strict=True)])
            mask = torch.tensor([[1] * shared + [0] * n + [1] * (len(row) - shared) for row, n in zip(batch, gaps, strict=True)])
            cache = copy_of(once, len(batch))
            found += model.generate(input_ids=tokens, attention_mask=mask, past_key_values=cache, **fixed)[:, tokens.shape[1] :].tolist()
        results["generate + copied prefix"] = cut(found)

    def ours() -> None:
        with Packed(model).used():
            keys = shared_keys(model, rows[0][:shared])
            own = [row[shared:] for row in rows]
            results["agentft"] = decode(model, keys, own, stops=stops, pad=pad, new_tokens=new, choose=greedy, slots=slots)

    with_prefix = {"generate + copied prefix": copied} if shared else {}
    return {"generate": plain, **with_prefix, "agentft": ours}, results


def copy_of(cache: Any, rows: int) -> Any:
    """The keys and values of one row, repeated."""
    from transformers import DynamicCache

    new = DynamicCache()
    for number, layer in enumerate(cache.layers):
        new.update(layer.keys.expand(rows, -1, -1, -1).contiguous(), layer.values.expand(rows, -1, -1, -1).contiguous(), number)
    return new


def gap(model: Any, row: list[int], one: list[int], other: list[int]) -> float:
    """How far apart the two best logits are at the first token that differs."""
    import torch

    at = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    best = model(torch.tensor([row + one[:at]])).logits[0, -1].topk(2).values
    return float(best[0] - best[1])


if __name__ == "__main__":
    main()
