"""Generation spread over processes, or machines, with Ray Data: each worker opens another backend once and answers piece after piece.

A worker that dies is started again and its piece is done again. The pieces are cut from the prompts alone, and the seed of a
sample comes from its prompt, so the answers are those of one process, whichever worker gives them.
"""

from __future__ import annotations

import json
import logging
import math
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import replace
from io import StringIO
from typing import Any

from pydantic import Field

from agentft.contracts import AgentSource, GenerationSettings, settled
from agentft.engine.optional import need
from agentft.errors import AgentftError, DataError
from agentft.recipe_parts import PartUse
from agentft.records import Example, Response
from agentft.validation import Model

OnBatch = Callable[[Sequence[Response]], None]


class RayConfig(Model):
    """Options of the backend ``ray``."""

    backend: PartUse = Field(default=PartUse.model_validate("transformers"), description="what each worker answers with")
    workers: int = Field(default=2, ge=1, description="processes; each loads the model")
    cpus: float = Field(default=1, ge=0, description="CPUs that a worker takes of the cluster")
    gpus: float = Field(default=0, ge=0, description="GPUs that a worker takes of the cluster")
    restarts: int = Field(
        default=3, ge=0, description="how often a worker that died is started again, and a piece that was lost done again"
    )
    address: str | None = Field(default=None, min_length=1, description="of a running cluster, or `auto`; left out: this machine")


class RayBackend:
    """Implements :class:`agentft.contracts.Backend` by handing pieces of the prompts to workers that run another backend.

    Args:
        source: the agent; sent to each worker. On a cluster its paths have to be the same on every machine.
        config: the options.

    Raises:
        MissingDependency: Ray is not installed.
    """

    def __init__(self, source: AgentSource, config: RayConfig | None = None):
        need("ray", "ray", "the backend 'ray'")
        self.config = config or RayConfig()
        device = dict(source.device)
        if self.config.address is None:
            # Else every worker would take all cores.
            device.setdefault("threads", max(1, (os.cpu_count() or 1) // self.config.workers))
        self.source = replace(source, device=device)

    def generate(
        self,
        prompts: Sequence[Example],
        settings: GenerationSettings,
        on_batch: OnBatch | None = None,
        done: Mapping[str, Response] | None = None,
    ) -> list[Response]:
        """Answers in the order of ``prompts``; ``on_batch`` is called with a piece of ``settings.batch_size`` or less as it arrives.

        Pieces that are complete in ``done`` are not computed again. A piece whose worker died more often than ``restarts`` allows
        is responses with ``error``; the others go on.

        Raises:
            DataError: the workers cannot open the backend.
        """
        kept = settled(done)
        answers: dict[int, Response] = {}
        open_: dict[int, list[int]] = {}
        for number, piece in enumerate(pieces(prompts, settings.batch_size, self.config.workers)):
            if all(prompts[index].id in kept for index in piece):
                answers |= {index: kept[prompts[index].id] for index in piece}
            else:
                open_[number] = piece
        report = on_batch or (lambda _: None)

        def arrived(piece: list[int], responses: Sequence[Response]) -> None:
            answers.update(zip(piece, responses, strict=True))
            report(responses)

        lost = f"its worker died more than {self.config.restarts} times, or could not be started"
        if open_:
            import ray

            try:
                for number, responses in self._run(prompts, settings, open_):
                    arrived(open_.pop(number), responses)
            except ray.exceptions.RayError as error:
                lost = f"ray: {' '.join(str(error).split())[:300]}"
        for piece in open_.values():
            arrived(piece, [Response(prompts[index].id, "", "error", 0, lost) for index in piece])
        return [answers[index] for index in range(len(prompts))]

    def _run(self, prompts: Sequence[Example], settings: GenerationSettings, open_: Mapping[int, list[int]]) -> Any:
        """Yields number and responses of each piece, as they arrive."""
        ray = started(self.config)
        # JSON with escapes: Arrow takes no lone surrogates, and fills the missing keys of a mapping with nulls.
        rows = [{"piece": number, "prompts": json.dumps([prompts[index].to_dict() for index in piece])} for number, piece in open_.items()]
        # One piece at a time: a worker that dies for good takes no other piece with it.
        pool = ray.data.ActorPoolStrategy(size=min(self.config.workers, len(rows)), max_tasks_in_flight_per_actor=1)
        with warnings.catch_warnings():
            # Ray Data has no named parameters for these two yet, and restarts without end otherwise.
            warnings.filterwarnings("ignore", message=".*ray_remote_args.* is deprecated")
            found = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
                Worker,
                fn_constructor_args=(self.config.backend.model_dump(mode="json"), self.source, settings),
                batch_size=1,
                compute=pool,
                num_cpus=self.config.cpus,
                num_gpus=self.config.gpus,
                max_restarts=self.config.restarts,
                max_task_retries=self.config.restarts,
            )
        for row in found.iter_rows():
            if row["fatal"]:
                raise DataError(row["fatal"])
            yield int(row["piece"]), [Response.from_dict(one) for one in json.loads(row["responses"])]


class Worker:
    """What runs in each process of the pool: opens the backend when it starts, and answers pieces."""

    def __init__(self, use: Mapping[str, Any], source: AgentSource, settings: GenerationSettings):
        from agentft.engine.backends import Choice
        from agentft.host import Host

        self.settings, self.fatal = settings, ""
        try:
            self.backend = Choice(Host().catalog, PartUse.model_validate(dict(use))).open(source)
        except AgentftError as error:  # for the user, who sees it in the first piece's row; starting again would not help
            self.fatal = str(error)

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, list[Any]]:
        prompts = [Example.from_dict(one) for one in json.loads(batch["prompts"][0])]
        responses: list[Response] = []
        if not self.fatal:
            try:
                responses = self.backend.generate(prompts, self.settings)
            except Exception as error:  # one piece must not cost the others
                responses = [Response(one.id, "", "error", 0, f"{type(error).__name__}: {error}") for one in prompts]
        text = json.dumps([one.to_dict() for one in responses])
        return {"piece": [int(batch["piece"][0])], "responses": [text], "fatal": [self.fatal]}


def pieces(prompts: Sequence[Example], size: int, workers: int) -> list[list[int]]:
    """Places of the prompts, those of like length together, cut into pieces of at most ``size`` so that every worker gets one."""
    order = sorted(range(len(prompts)), key=lambda index: (-len(prompts[index].text), prompts[index].id, index))
    step = max(1, min(size, math.ceil(len(order) / workers)))
    return [order[start : start + step] for start in range(0, len(order), step)]


def started(config: RayConfig) -> Any:
    """The module ``ray``, connected: to ``config.address``, else to a cluster of its own on this machine.

    No usage statistics are sent, and its banner, bars and logs are kept from the terminal.
    """
    for name, value in {"RAY_USAGE_STATS_ENABLED": "0", "RAY_BACKEND_LOG_LEVEL": "fatal", "RAY_TQDM_PATCH_PRINT": "0"}.items():
        os.environ[name] = value
    import ray
    import ray.data

    if not ray.is_initialized():
        place: dict[str, Any] = {"address": config.address}
        if config.address is None:
            # CPUs are a promise, not a limit: so many workers were asked for, and so many are to start.
            cpus = max(os.cpu_count() or 1, math.ceil(config.workers * max(config.cpus, 1)))
            place = {"num_cpus": cpus, "include_dashboard": False}
        with _silent():
            ray.init(**place, logging_level=logging.ERROR, log_to_driver=False)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.max_errored_blocks = -1  # pieces that are lost for good are counted by us, and cost the others nothing
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    _notices_to_stderr(ray._private.worker)
    return ray


@contextmanager
def _silent() -> Iterator[None]:
    """Nothing that is written to the terminal inside the block, by whatever language, gets there."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = {number: os.dup(number) for number in (1, 2)}
    nothing = os.open(os.devnull, os.O_WRONLY)
    try:
        with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            for number in kept:
                os.dup2(nothing, number)
            yield
    finally:
        os.close(nothing)
        for number, place in kept.items():
            os.dup2(place, number)
            os.close(place)


def _notices_to_stderr(worker: Any) -> None:
    """Ray prints that a worker died, which is worth knowing, to stdout, where ``--json`` writes. There is no switch."""
    plain = getattr(worker, "print_to_stdstream", None)
    if plain is not None and not hasattr(plain, "agentft"):

        def to_stderr(data: Any, *args: Any, **options: Any) -> None:
            plain({**data, "is_err": True}, *args, **options)

        to_stderr.agentft = True  # type: ignore[attr-defined]
        worker.print_to_stdstream = to_stderr
