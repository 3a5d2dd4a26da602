"""Models whose attention cannot be shared run through transformers' own ``generate``, one answer at a time, piece by piece all the same."""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agentft.serve.lanes import Mind, News
    from agentft.serve.worker import Job


class LibraryLane:
    """The lane of such a model. Each answer has a thread that runs ``generate``; only one thread goes on at a time, a token per step."""

    def __init__(self, mind: Mind):
        self.mind = mind
        self.jobs: dict[int, Job] = {}
        self._runs: dict[int, _Run] = {}

    def add(self, job: Job) -> None:
        self.jobs[job.number] = job

    def step(self) -> list[News]:
        """A token for the first of the jobs; the others wait for it, since each has a cache of its own."""
        number, job = next(iter(self.jobs.items()))
        run = self._runs.get(number)
        if run is None:
            run = self._runs[number] = _Run(self.mind, job)
        tokens, over = run.step()
        if over:
            self._drop(job)
        return [(job, tokens, over)]

    def remove(self, job: Job) -> None:
        if job.number in self.jobs:
            self._drop(job)

    def _drop(self, job: Job) -> None:
        del self.jobs[job.number]
        if (run := self._runs.pop(job.number, None)) is not None:
            run.stop()

    def close(self) -> None:
        for run in self._runs.values():
            run.stop()
        self._runs.clear()


class _Run:
    """A call of ``generate`` that stands still between its tokens."""

    def __init__(self, mind: Mind, job: Job):
        self.mind, self.job = mind, job
        self._go, self._news = threading.Semaphore(0), queue.SimpleQueue[Any]()
        self._stopped = False
        self._thread = threading.Thread(target=self._generate, name="agentft-generate", daemon=True)
        self._thread.start()

    def step(self) -> tuple[list[int], bool]:
        self._go.release()
        found = self._news.get()
        if isinstance(found, BaseException):
            raise found
        return found

    def stop(self) -> None:
        self._stopped = True
        self._go.release()
        self._thread.join(30)

    def _heard(self, ids: Any, *_: Any, **__: Any) -> Any:
        """Called by transformers after each token; true ends the answer."""
        import torch

        self._news.put(([int(ids[0, -1])], False))
        self._go.acquire()
        return torch.full((ids.shape[0],), self._stopped, dtype=torch.bool, device=ids.device)

    def _generate(self) -> None:
        self._go.acquire()
        try:
            if not self._stopped:
                with self.mind.awake():
                    self._run()
            self._news.put(([], True))
        except BaseException as error:
            self._news.put(error)

    def _run(self) -> None:
        import torch
        from transformers import GenerationConfig, StoppingCriteriaList

        job, agent = self.job, self.mind.agent
        drawing = (
            {"do_sample": True, "temperature": job.temperature, "top_p": job.top_p, "top_k": 0} if job.temperature else {"do_sample": False}
        )
        config = GenerationConfig(
            max_new_tokens=job.new_tokens - len(job.speech.ids),
            eos_token_id=list(agent.renderer.stop_token_ids),
            pad_token_id=agent.tokenizer.pad_token_id,
            num_beams=1,
            use_cache=True,
            **drawing,
        )
        ids = torch.tensor([[*job.tokens, *job.speech.ids]], device=agent.model.device)
        criteria = StoppingCriteriaList([self._heard])
        # The draws of one answer run to their end before those of the next begin, as only the first job of the lane goes on.
        with torch.random.fork_rng([agent.model.device] if agent.model.device.type == "cuda" else []):
            torch.manual_seed(job.stream.initial_seed() if job.stream is not None else 0)
            agent.model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), generation_config=config, stopping_criteria=criteria)
