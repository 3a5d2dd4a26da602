"""The one thread that runs models: it takes answers from a bounded queue, lets them share forward passes, and passes on what they say.

Answers that may share a pass form a lane: they use the same model with the same adapter, and begin with the same tokens. The lanes take
turns, a token for each of their answers at a time.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from agentft.serve.answering import Done, Refusal, Ticket, busy
from agentft.serve.lanes import Mind
from agentft.serve.speech import Speech

_numbers = itertools.count()


@dataclass(eq=False)
class Job:
    """One answer on its way.

    Attributes:
        mind: the model that writes it.
        tokens: all of the prompt.
        new_tokens: limit.
        stream: generator of torch for its draws; None: the likeliest token is taken.
        deadline: on the clock of ``time.monotonic``.
        pieces: whether the ticket wants them, or the end only.
        cached: tokens of the prompt that it found computed.
        alone: it was running when something failed, and is tried again by itself.
    """

    mind: Mind
    tokens: list[int]
    new_tokens: int
    temperature: float
    top_p: float
    stream: Any
    speech: Speech
    ticket: Ticket
    deadline: float
    pieces: bool
    id: str = ""
    number: int = field(default_factory=lambda: next(_numbers))
    began: float = field(default_factory=time.monotonic)
    cached: int = 0
    said: int = 0
    alone: bool = False
    cancelled: bool = False


class Worker:
    """Runs jobs until it is closed.

    Args:
        running: jobs that share the passes at most, over all lanes.
        waiting: jobs beyond these that may wait.
    """

    def __init__(self, running: int, waiting: int):
        self.limit, self.room = running, waiting
        self._queue: deque[Job] = deque()
        self._lanes: dict[Any, Any] = {}  # Lane or LibraryLane
        self._wake = threading.Condition()
        self._closed = False
        self._open = 0  # jobs that have not ended
        self._mean = 1.0  # seconds of a job, of late
        self._thread = threading.Thread(target=self._loop, name="agentft-models", daemon=True)
        self._thread.start()

    @property
    def running(self) -> int:
        return sum(len(lane.jobs) for lane in list(self._lanes.values()))

    @property
    def waiting(self) -> int:
        return len(self._queue)

    @property
    def alive(self) -> bool:
        return self._thread.is_alive() and not self._closed

    def submit(self, jobs: Sequence[Job]) -> None:
        """All of them or none.

        Raises:
            Refusal: 429 where there is no room, 503 where the worker is closed.
        """
        with self._wake:
            self.check(len(jobs))
            for job in jobs:
                job.ticket.on_cancel(partial(self._cancel, job))
            self._queue.extend(jobs)
            self._open += len(jobs)
            self._wake.notify()

    def check(self, count: int) -> None:
        """Raises a refusal where ``count`` jobs would not be taken."""
        if not self.alive:
            raise Refusal(503, "The gateway is being stopped.", "stopping", retry_after=5)
        if self._open + count > self.limit + self.room:
            raise busy(len(self._queue), self._mean * (len(self._queue) + 1) / self.limit)

    def close(self, timeout: float = 10.0) -> None:
        """Jobs that have not ended get a refusal."""
        with self._wake:
            self._closed = True
            self._wake.notify()
        self._thread.join(timeout)

    def _cancel(self, job: Job) -> None:
        job.cancelled = True
        with self._wake:
            self._wake.notify()

    def _loop(self) -> None:
        try:
            while self._wait():
                self._admit()
                for key, lane in list(self._lanes.items()):
                    if lane.jobs:
                        self._step(lane)
                    if not lane.jobs:
                        del self._lanes[key]  # and its cache; what the agent's prompts begin with is kept by the mind
        finally:
            self._closed = True
            stopped = Refusal(503, "The gateway was stopped before the answer was complete.", "stopping", retry_after=5)
            for job in [*self._queue, *(job for lane in self._lanes.values() for job in lane.jobs.values())]:
                job.ticket.put(stopped)
            self._queue.clear()
            self._lanes.clear()

    def _wait(self) -> bool:
        with self._wake:
            while not (self._queue or self._lanes or self._closed):
                self._wake.wait()
            return not self._closed

    def _admit(self) -> None:
        """Jobs into lanes, in the order in which they came, as long as there is room."""
        now = time.monotonic()
        while True:
            with self._wake:
                if not self._queue:
                    return
                stale = [job for job in self._queue if job.cancelled or now > job.deadline]
                for job in stale:
                    self._queue.remove(job)
                next_ = self._queue.popleft() if self._queue and self.running < self.limit else None
            for old in stale:
                self._end(
                    old, None if old.cancelled else Refusal(503, "The answer waited too long for its turn.", "timeout", retry_after=5)
                )
            if next_ is None:
                return
            job = next_
            try:
                key, job.cached = job.mind.lane_of(job.tokens)
                if job.alone:
                    key = (key, job.number)
                if key not in self._lanes:
                    self._lanes[key] = job.mind.open(self.limit)
                self._lanes[key].add(job)
            except Exception as error:
                self._end(job, _failure(error))

    def _step(self, lane: Any) -> None:
        now = time.monotonic()
        for job in list(lane.jobs.values()):
            if job.cancelled or now > job.deadline:
                lane.remove(job)
                self._end(job, None if job.cancelled else Refusal(504, "The answer took too long.", "timeout"))
        if not lane.jobs:
            return
        try:
            news = lane.step()
        except Exception as error:
            self._broken(lane, error)
            return
        for job, tokens, over in news:
            try:
                self._hear(lane, job, tokens, over)
            except Exception as error:  # a text that cannot be read must not cost the others
                lane.remove(job)
                self._end(job, _failure(error))

    def _hear(self, lane: Any, job: Job, tokens: Sequence[int], over: bool) -> None:
        speech = job.speech
        if job.pieces or speech.stop:
            if piece := speech.push(tokens):
                job.ticket.put(piece)
        else:
            speech.ids.extend(tokens)
        if not over and not speech.stopped:
            return
        if not over:
            lane.remove(job)
        ended = bool(speech.ids) and speech.ids[-1] in speech.renderer.stop_token_ids
        rest, response = speech.response(job.id, ended, len(job.tokens))
        if rest:
            job.ticket.put(rest)
        self._end(job, Done(response, job.cached))

    def _broken(self, lane: Any, error: Exception) -> None:
        """Whose fault it was is found out by running each job of the lane alone, from where it was; one that fails alone has failed."""
        jobs = list(lane.jobs.values())
        for job in jobs:
            lane.remove(job)
        lane.close()
        again = [job for job in jobs if not job.alone]
        for job in jobs:
            if job.alone:
                self._end(job, _failure(error))
            job.alone = True
        with self._wake:
            self._queue.extendleft(reversed(again))

    def _end(self, job: Job, event: Done | Refusal | None) -> None:
        with self._wake:
            self._open -= 1
        if isinstance(event, Done):
            self._mean += 0.1 * (time.monotonic() - job.began - self._mean)
        if event is not None:
            job.ticket.put(event)


def _failure(error: Exception) -> Refusal:
    # Its text may hold addresses in memory or a path; the log of the process has it.
    return Refusal(500, f"The model failed ({type(error).__name__}).", "model_failed")
