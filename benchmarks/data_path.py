"""Conversations rendered, masked and tokenised per second: the stage `rows` beside the preparation of TRL's SFTTrainer.

    python benchmarks/data_path.py                      # 100,000 conversations, a persona of 256 tokens, 2 to 4 turns
    python benchmarks/data_path.py --rows 2000 --processes 1

Both get the same conversations, SmolLM2's tokenizer and chat template (for TRL with `{% generation %}` around the answer and the line
break that it cannot learn left outside), and write their rows to disk. Each way is a process of its own; then the ids and the supervised
tokens are compared row by row.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

TEXT = """where is my parcel the order has been late for ten days and nobody answers please help me with refund I am sorry about wait your
money will be back on account tomorrow anything else can do thank you card 包裹 明天 送达 请问 退款 多久 到账 。 ， password never share
branch number address changed arrived broken"""
WORDS = TEXT.split()


def say(draw: random.Random, words: int) -> str:
    return " ".join(draw.choices(WORDS, k=words))


def write(path: Path, rows: int, persona: str) -> None:
    """Two to four turns of 8 to 40 words, as the data stage writes them."""
    draw = random.Random(0)
    with path.open("w", encoding="utf-8") as stream:
        for number in range(rows):
            turns = 2 * draw.randint(1, 2)
            messages = [
                {"role": ("user", "assistant")[place % 2], "content": f"{say(draw, draw.randint(8, 40))} {number}"}
                for place in range(turns)
            ]
            stream.write(json.dumps({"id": f"c{number}", "messages": messages}, ensure_ascii=False) + "\n")
    path.with_suffix(".persona").write_text(persona, "utf-8")


def ours(data: Path, out: Path) -> None:
    from agentft.contracts import DataContext
    from agentft.data.jsonl import read_conversations
    from agentft.engine.models import load_tokenizer, resolve_builtin
    from agentft.render.conversation import Renderer
    from agentft.render.rows import render_rows

    renderer = Renderer(load_tokenizer(resolve_builtin("smollm2-135m")), data.with_suffix(".persona").read_text("utf-8"))
    began = start()
    render_rows(renderer, read_conversations(data), out, max_length=1024, overflow="error", ctx=DataContext())
    report(began)


def theirs(data: Path, out: Path, processes: int) -> None:
    from datasets import load_dataset
    from transformers import LlamaConfig, LlamaForCausalLM
    from trl import SFTConfig, SFTTrainer

    from agentft.engine.models import load_tokenizer, resolve_builtin

    tokenizer = load_tokenizer(resolve_builtin("smollm2-135m"))
    tokenizer.chat_template = (
        "{% for message in messages %}{% if message['role'] == 'assistant' %}{{ '<|im_start|>assistant\n' }}"
        "{% generation %}{{ message['content'] + '<|im_end|>' }}{% endgeneration %}{{ '\n' }}"
        "{% else %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    )
    model = LlamaForCausalLM(  # SFTTrainer wants one; preparation does not use it
        LlamaConfig(vocab_size=len(tokenizer), hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1)
    )
    system = {"role": "system", "content": data.with_suffix(".persona").read_text("utf-8")}
    dataset = load_dataset("json", data_files=str(data), split="train", cache_dir=str(out.parent / f"cache{processes}"))
    began = start()
    dataset = dataset.map(lambda row: {"messages": [system, *row["messages"]]}, num_proc=processes if processes > 1 else None)
    config = SFTConfig(
        output_dir=str(out.parent / "trl"),
        assistant_only_loss=True,
        max_length=1024,
        dataset_num_proc=processes if processes > 1 else None,
        use_cpu=True,
        bf16=False,
        report_to=[],
    )
    trainer = SFTTrainer(model, config, train_dataset=dataset, processing_class=tokenizer)
    report(began)
    trainer.train_dataset.to_parquet(str(out))


BEFORE = [0.0]  # CPU seconds when the clock was started


def start() -> float:
    BEFORE[0] = time.process_time()
    return time.perf_counter()


def report(began: float) -> None:
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    cpu = own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime - BEFORE[0]
    print(json.dumps({"seconds": time.perf_counter() - began, "cpu": cpu, "mb": max(own.ru_maxrss, children.ru_maxrss) / 1024}))


def rows_of(path: Path) -> Iterator[tuple[list[int], list[int]]]:
    """Ids, and labels with -100 where nothing is learned."""
    if path.suffix == ".jsonl":
        with path.open(encoding="utf-8") as stream:
            for line in stream:
                row = json.loads(line)
                yield row["input_ids"], row["labels"]
        return
    import pyarrow.parquet

    for batch in pyarrow.parquet.ParquetFile(path).iter_batches(4096):
        for row in batch.to_pylist():
            ids = row["input_ids"]
            yield ids, row.get("labels") or [t if m else -100 for t, m in zip(ids, row["assistant_masks"], strict=True)]


def different(left: Path, right: Path) -> tuple[int, int]:
    """Rows that are compared, and those whose ids or labels differ. Ours end with the last token that is learned."""
    count = wrong = 0
    for (a, labels_a), (b, labels_b) in zip(rows_of(left), rows_of(right), strict=True):
        count += 1
        rest = b[len(a) :]
        wrong += a != b[: len(a)] or labels_a != labels_b[: len(a)] or any(label != -100 for label in labels_b[len(a) :]) or len(rest) > 1
    return count, wrong


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rows", type=int, default=100_000)
    options.add_argument("--processes", type=int, nargs="*", default=[1, 2])
    options.add_argument("--json", action="store_true", help="at the end, all of it on one line")
    options.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.child:
        kind, data, out, processes = given.child
        ours(Path(data), Path(out)) if kind == "ours" else theirs(Path(data), Path(out), int(processes))
        return
    draw = random.Random(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = folder / "data.jsonl"
        write(data, given.rows, say(draw, 200))
        ways = [("ours", 1, "ours.jsonl"), *(("trl", n, f"trl{n}.parquet") for n in given.processes)]
        found = {}
        print(f"{'way':>14} {'rows/s':>8} {'seconds':>8} {'CPU s':>8} {'peak MB':>8}")
        for kind, processes, file in ways:
            command = [sys.executable, __file__, "--child", kind, str(data), str(folder / file), str(processes)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise RuntimeError(done.stderr[-3000:])
            found[file] = json.loads(done.stdout.splitlines()[-1])
            seconds = found[file]["seconds"]
            used, peak = found[file]["cpu"], found[file]["mb"]
            print(f"{kind:>8} x {processes:>3} {given.rows / seconds:>8.0f} {seconds:>8.1f} {used:>8.1f} {peak:>8.0f}", flush=True)
        compared = {}
        for _, processes, file in ways[1:]:
            count, wrong = different(folder / "ours.jsonl", folder / file)
            ratio = found[file]["seconds"] / found["ours.jsonl"]["seconds"]
            compared[f"TRL x {processes}"] = {"times_as_long": ratio, "rows": count, "rows_that_differ": wrong}
            print(f"TRL with {processes}: {ratio:.1f} times as long; {count} rows compared, {wrong} differ in ids or labels")
        if given.json:
            names = {file: f"{'agentft' if kind == 'ours' else 'TRL'} x {processes}" for kind, processes, file in ways}
            seen = {names[file]: one for file, one in found.items()}
            print(json.dumps({"rows": given.rows, "ways": seen, "compared": compared}))


if __name__ == "__main__":
    main()
