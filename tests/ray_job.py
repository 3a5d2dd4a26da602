"""What test_fanout runs in a process of its own, because Ray stays in the process that started it: ``ray_job.py MODEL_FOLDER OUT.json``."""

from __future__ import annotations

import json
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

from tiny import SYSTEM, tiny_model

from agentft.contracts import AgentSource, Backend, GenerationSettings
from agentft.engine import fanout
from agentft.engine.backends import Choice
from agentft.errors import DataError
from agentft.host import Host
from agentft.recipe_parts import PartUse
from agentft.records import Example, Message


def workers() -> list[int]:
    """Processes of this test's own pool."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            command, place = (Path(f"/proc/{name}/{file}").read_bytes() for file in ("cmdline", "environ"))
        except OSError:
            continue
        if command.startswith(b"ray::") and b"Worker" in command and sys.argv[1].encode() in place:
            found.append(int(name))
    return found


class Poisoned(fanout.Worker):
    """One prompt kills whoever takes it."""

    def __call__(self, batch):
        if '"p3"' in batch["prompts"][0]:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(batch)


def main() -> None:
    ref, catalog = tiny_model(Path(sys.argv[1])), Host().catalog
    os.environ["AGENTFT_TEST_MARK"] = sys.argv[1]  # the workers inherit it, see workers()
    source = AgentSource(ref, SYSTEM, device={"device": "cpu", "decode_dtype": "float32", "threads": 1})
    prompts = [Example(f"p{n}", (Message("user", f"Question {n * 7919}?"),)) for n in range(24)]
    prompts.append(Example("long", (Message("user", "x" * 2000),)))
    prompts.append(Example("pick", (Message("user", "Which?"),), meta={"choices": ["yes", "no"]}))
    settings = GenerationSettings(max_new_tokens=24, temperature=1.0, seed=5, batch_size=4)

    def opened(use, of: AgentSource = source) -> Backend:
        return Choice(catalog, PartUse.model_validate(use)).open(of)

    killed, batches, again = [], [], []

    def on_batch(responses):
        batches.append(len(responses))
        if not killed:  # the first piece is there, and both workers have another one or are about to
            killed.extend(workers()[:1])
            for one in killed:
                os.kill(one, signal.SIGKILL)

    alone = opened("transformers").generate(prompts, settings)
    fan = opened({"use": "ray", "workers": 2})
    spread = fan.generate(prompts, settings, on_batch)
    resumed = fan.generate(prompts, settings, again.extend, {one.id: one for one in spread})
    nobody = {"use": "http", "url": "http://127.0.0.1:9/v1", "retries": 0}
    failed = opened({"use": "ray", "workers": 1, "backend": nobody}).generate(prompts[:3], settings)
    fanout.Worker, whole = Poisoned, fanout.Worker
    poisoned = opened({"use": "ray", "workers": 2, "restarts": 1}).generate(prompts[:12], settings)
    fanout.Worker, fatal = whole, ""
    try:
        opened({"use": "ray", "workers": 1}, replace(source, model=replace(ref, path="/nowhere/at/all"))).generate(prompts[:1], settings)
    except DataError as error:
        fatal = str(error)
    answers = {"alone": alone, "spread": spread, "resumed": resumed, "again": again, "failed": failed, "poisoned": poisoned}
    found = {name: [one.to_dict() for one in some] for name, some in answers.items()}
    found |= {"killed": killed, "batches": batches, "fatal": fatal, "usage": os.environ["RAY_USAGE_STATS_ENABLED"]}
    Path(sys.argv[2]).write_text(json.dumps(found), encoding="utf-8")

    import ray

    ray.shutdown()


if __name__ == "__main__":
    main()
