"""Answers per second for prompts that share a persona: agentft against transformers' generate, with equal greedy tokens.

    python benchmarks/generation.py --rows 64 --new 64 --repeats 3

Three ways, in one process, on the same model, prompts and precision:

* ``generate``: batched, every row with the persona's tokens of its own (padded on the left, as its documentation says);
* ``generate + copied prefix``: the persona's keys and values computed once and repeated for the rows of the batch;
* ``agentft``: one prefix for all rows (``agentft.engine.decode``).

No row may stop before ``--new`` tokens, so that all three do the same work. The equality of the tokens is shown beside the times; a row
that differs is reported with the gap of its two best logits where the ways part: a tie, or a mistake.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from typing import Any

TOPICS = ["parcel", "refund", "jacket", "kettle", "invoice", "voucher", "sofa", "lamp", "password", "courier"]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--new", type=int, default=64)
    parser.add_argument("--prefix", type=int, default=256, help="words of the persona's prompt, about as many tokens")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()

    import torch

    from agentft.engine.agent import LoadedAgent
    from agentft.engine.decode import decode, greedy, shared_keys
    from agentft.engine.models import pull
    from agentft.engine.prefix import common_prefix, prefix_cache
    from agentft.records import Example, Message

    system = " ".join(f"Rule {i}: be brief, warm and exact about the {TOPICS[i % 10]}." for i in range(args.prefix // 13))
    agent = LoadedAgent.load(pull(args.model), system=system)
    asked = [f"My {TOPICS[i % 10]} number {i} has a problem since {i % 28 + 1} May, what can I do about it?" for i in range(args.rows)]
    rows = [agent.renderer.prompt(Example(str(i), (Message("user", text),))).input_ids for i, text in enumerate(asked)]
    shared, model, pad = common_prefix(rows), agent.model, agent.tokenizer.pad_token_id
    width = max(map(len, rows))
    gaps = [width - len(row) for row in rows]
    fixed: dict[str, Any] = {"max_new_tokens": args.new, "min_new_tokens": args.new, "do_sample": False, "pad_token_id": pad}

    def plain() -> list[list[int]]:
        tokens = torch.tensor([[pad] * gap + row for row, gap in zip(rows, gaps, strict=True)])
        mask = torch.tensor([[0] * gap + [1] * len(row) for row, gap in zip(rows, gaps, strict=True)])
        return model.generate(input_ids=tokens, attention_mask=mask, **fixed)[:, width:].tolist()

    def copied() -> list[list[int]]:
        tokens = torch.tensor([row[:shared] + [pad] * gap + row[shared:] for row, gap in zip(rows, gaps, strict=True)])
        mask = torch.tensor([[1] * shared + [0] * gap + [1] * (len(row) - shared) for row, gap in zip(rows, gaps, strict=True)])
        cache = prefix_cache(model, tokens[0, :shared], len(rows))
        return model.generate(input_ids=tokens, attention_mask=mask, past_key_values=cache, **fixed)[:, width:].tolist()

    def ours() -> list[list[int]]:
        keys = shared_keys(model, rows[0][:shared])
        return decode(model, keys, [row[shared:] for row in rows], stops=set(), pad=pad, new_tokens=args.new, choose=greedy)

    ways = {"generate": plain, "generate + copied prefix": copied, "agentft": ours}
    times: dict[str, list[float]] = {name: [] for name in ways}
    found: dict[str, list[list[int]]] = {}
    with torch.inference_mode():
        for _ in range(args.repeats):  # interleaved, so that a busy moment of the machine hits all alike
            for name, way in ways.items():
                start = time.perf_counter()
                found[name] = way()
                times[name].append(time.perf_counter() - start)
        gap_of = [_gap(model, row, a, b) for row, a, b in zip(rows, found["generate"], found["agentft"], strict=True) if a != b]
    seconds = {name: statistics.median(values) for name, values in times.items()}
    result = {
        "rows": args.rows,
        "new_tokens": args.new,
        "shared_tokens": shared,
        "dtype": agent.profile.decode_dtype,
        "seconds": {name: round(value, 2) for name, value in seconds.items()},
        "spread": {name: [round(min(values), 2), round(max(values), 2)] for name, values in times.items()},
        "tokens_per_second": {name: round(args.rows * args.new / value, 1) for name, value in seconds.items()},
        "speedup": {name: round(seconds[name] / seconds["agentft"], 2) for name in seconds},
        "rows_with_equal_tokens": args.rows - len(gap_of),
        "gap_of_best_logits_where_rows_part": [round(value, 6) for value in gap_of],
    }
    print(json.dumps(result, indent=None if args.json else 2))


def _gap(model: Any, row: list[int], one: list[int], other: list[int]) -> float:
    """How far apart the two best logits are at the first token that differs."""
    import torch

    at = next(i for i, (a, b) in enumerate(zip(one, other, strict=True)) if a != b)
    best = model(torch.tensor([row + one[:at]])).logits[0, -1].topk(2).values
    return float(best[0] - best[1])


if __name__ == "__main__":
    main()
