"""Tokens per second of llama.cpp and of agentft's own generation, on the same prompts, in one run.

    python benchmarks/llamacpp.py --rows 64 --new 64 --slots 8 32 --repeats 3

Every prompt begins with one persona. *Cold*: nothing is cached. *Warm*: the same prompts have been answered once, so that llama.cpp's slots
hold the persona (and agentft its keys and values). A row may stop early, so rates are of the tokens that were generated. The model is
the bundled GGUF: llama.cpp computes with its 4-bit weights, agentft with what they stand for; how many answers begin alike is
shown beside the times.
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
    parser.add_argument("--model", default="smollm2-135m", help="bundled GGUF, or a .gguf file")
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--new", type=int, default=64)
    parser.add_argument("--prefix", type=int, default=256, help="words of the persona's prompt, about as many tokens")
    parser.add_argument("--slots", type=int, nargs="+", default=[8, 32])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="on one line")
    args = parser.parse_args()

    from agentft.contracts import AgentSource, GenerationSettings
    from agentft.engine.backends import Choice
    from agentft.host import Host
    from agentft.recipe_parts import PartUse
    from agentft.records import Example, Message, Response

    host = Host()
    system = " ".join(f"Rule {i}: be brief, warm and exact about the {TOPICS[i % 10]}." for i in range(args.prefix // 13))
    texts = [f"My {TOPICS[i % 10]} number {i} has a problem since {i % 28 + 1} May, what can I do about it?" for i in range(args.rows)]
    prompts = [Example(str(i), (Message("user", text),)) for i, text in enumerate(texts)]
    settings = GenerationSettings(max_new_tokens=args.new, batch_size=args.rows)
    uses: dict[str, Any] = {"agentft": "transformers"}
    uses |= {f"llama.cpp, {n} slots": {"use": "llamacpp", "slots": n, "threads": args.threads} for n in args.slots}
    rates: dict[str, list[float]] = {}
    answers: dict[str, list[Response]] = {}
    for _ in range(args.repeats):  # interleaved, so that a busy moment of the machine hits all alike
        for name, use in uses.items():
            chosen = Choice(host.catalog, PartUse.model_validate(use))
            source = AgentSource(chosen.model(args.model, host.resolve_model), system, device={"threads": args.threads})
            backend: Any = chosen.open(source)
            if start := getattr(backend, "prepare", None):
                start(prompts, settings)  # loading is not generating
            for state in ("cold", "warm"):
                began = time.perf_counter()
                answers[name] = backend.generate(prompts, settings)
                seconds = time.perf_counter() - began
                rates.setdefault(f"{name}, {state}", []).append(sum(one.tokens for one in answers[name]) / seconds)
            del backend
    first = answers["agentft"]
    result = {
        "rows": args.rows,
        "new_tokens": args.new,
        "tokens_per_second": {name: round(statistics.median(values), 1) for name, values in rates.items()},
        "spread": {name: [round(min(values), 1), round(max(values), 1)] for name, values in rates.items()},
        "runs": {name: [round(value, 1) for value in values] for name, values in rates.items()},  # by round
        "failed": {name: sum(one.finish == "error" for one in found) for name, found in answers.items()},
        "answers_with_the_first_8_words_of_agentft": {
            name: sum(a.text.split()[:8] == b.text.split()[:8] for a, b in zip(first, found, strict=True))
            for name, found in answers.items()
        },
    }
    print(json.dumps(result, indent=None if args.json else 2))


if __name__ == "__main__":
    main()
