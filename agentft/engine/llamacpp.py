"""Generation with llama.cpp, in this process, from a GGUF file: quantised weights, parallel slots, cached prompts.

The prompt goes to llama.cpp as our renderer's tokens, and the answer comes back as tokens: neither its chat template nor its tokenizer
takes part, so the model is asked in exactly the way in which it was taught.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from pydantic import Field

from agentft.contracts import AgentSource, GenerationSettings, settled
from agentft.engine.choices import choices_of, closest
from agentft.engine.generate import seed_of
from agentft.engine.optional import need
from agentft.errors import DataError
from agentft.records import Example, Response
from agentft.render.tool_calls import Reading
from agentft.validation import Model

OnBatch = Callable[[Sequence[Response]], None]
# The smallest context that is set up for a prompt with its answer: most calls after the first one then fit.
_ROOM = 1024


class LlamaCppConfig(Model):
    """Options of the backend ``llamacpp``."""

    slots: int = Field(default=8, ge=1, le=256, description="prompts that are answered at the same time")
    context: int | None = Field(
        default=None, ge=64, description="tokens of prompt and answer that a slot has room for; left out: what the prompts need"
    )
    threads: int | None = Field(default=None, ge=1, description="CPU threads; left out: `device.threads`, else one per core")
    gpu_layers: int | None = Field(
        default=None, ge=0, description="layers on the GPU, for builds of llama.cpp with one; left out: as many as fit"
    )


class LlamaCppBackend:
    """Implements :class:`agentft.contracts.Backend` for a GGUF file.

    A prompt's answer does not depend on when it is asked but for rounding: rows that are computed together are summed in another
    order, so where two tokens are all but equally likely, another number of slots can decide otherwise.

    Args:
        source: the agent; its model's ``path`` is a ``.gguf`` file.
        config: the options.

    Raises:
        MissingDependency: the package xllamacpp is not installed.
        DataError: the file is no GGUF that can be read.
    """

    def __init__(self, source: AgentSource, config: LlamaCppConfig | None = None):
        from agentft.engine.gguf import context_of
        from agentft.engine.models import load_tokenizer
        from agentft.render.conversation import Renderer

        need("xllamacpp", "llamacpp", "the backend 'llamacpp'")
        if source.adapter is not None or source.examples is not None:
            raise DataError("the backend 'llamacpp' runs a GGUF file as it is: it takes neither an adapter nor examples")
        self.config, self._threads = config or LlamaCppConfig(), source.device.get("threads")
        self._file = Path(source.model.path)
        self.renderer = Renderer(load_tokenizer(source.model), source.system, tools=source.tools)
        self.context = context_of(self._file)
        self._stops = set(self.renderer.stop_token_ids)
        self._server: Any = None
        self._room = 0

    def generate(
        self,
        prompts: Sequence[Example],
        settings: GenerationSettings,
        on_batch: OnBatch | None = None,
        done: Mapping[str, Response] | None = None,
    ) -> list[Response]:
        """Answers in the order of ``prompts``; ``on_batch`` is called with one response at a time, as they arrive.

        What ``done`` holds is not computed again, except for errors. ``settings.batch_size`` plays no part: the slots do. A prompt
        with ``meta.choices`` is answered with exactly one of these texts, through a grammar.
        """
        known = settled(done)
        answers: dict[int, Response] = {}
        rows: list[tuple[int, list[int]]] = []
        report = on_batch or (lambda _: None)
        for index, prompt in enumerate(prompts):
            if prompt.id in known:
                answers[index] = known[prompt.id]
                continue
            try:
                rows.append((index, self._encode(prompt, settings)))
            except DataError as error:
                answers[index] = Response(prompt.id, "", "error", 0, str(error))
                report([answers[index]])
        if rows:
            self._start(max(len(row) for _, row in rows) + max(_length(prompts[index], settings) for index, _ in rows))
        with ThreadPoolExecutor(self.config.slots) as pool:
            futures = {pool.submit(self._ask, prompts[index], row, settings): index for index, row in rows}
            try:
                for future in as_completed(futures):
                    response = answers[futures[future]] = future.result()
                    report([response])
            except BaseException:  # an interruption: what has not begun is left
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        return [answers[index] for index in range(len(prompts))]

    def prepare(self, prompts: Sequence[Example], settings: GenerationSettings) -> None:
        """Load the model with room for these prompts, as :meth:`generate` does by itself."""
        self._start(max(len(self._encode(one, settings)) + _length(one, settings) for one in prompts))

    def _encode(self, prompt: Example, settings: GenerationSettings) -> list[int]:
        new = _length(prompt, settings)
        tokens = self.renderer.prompt(prompt).input_ids
        context = self.config.context or self.context
        if context and len(tokens) + new > context:
            raise DataError(f"the prompt has {len(tokens)} tokens, and with {new} new ones it exceeds the model's context of {context}")
        return tokens

    def _ask(self, prompt: Example, row: list[int], settings: GenerationSettings) -> Response:
        body: dict[str, Any] = {
            "prompt": row,
            "n_predict": _length(prompt, settings),
            "temperature": settings.temperature,
            # llama.cpp has further samplers on by default (top-k 40, min-p 0.05); these two, in this order, are what the settings mean.
            "samplers": ["temperature", "top_p"],
            "top_p": settings.top_p,
            # 2**32 - 1 would mean: any seed.
            "seed": seed_of(settings, prompt.id) % (2**32 - 1),
            "cache_prompt": True,
            "return_tokens": True,
            "verbose": True,  # the tokens are in here
        }
        choices = choices_of(prompt)
        if choices:
            body["grammar"] = "root ::= " + " | ".join(json.dumps(text.strip(), ensure_ascii=False) for text in choices)
        try:
            reply = self._server.handle_completions(body)
            if "error" in reply:
                return Response(prompt.id, "", "error", 0, f"llama.cpp: {reply['error'].get('message', reply['error'])}")
            new = [int(token) for token in reply["__verbose"]["tokens"]]
        except Exception as error:  # one prompt must not cost the others: it is recorded, and counted by who asked
            return Response(prompt.id, "", "error", 0, f"llama.cpp: {type(error).__name__}: {error}")
        end = next((place for place, token in enumerate(new) if token in self._stops), None)
        # A stop token of the file that is none of the renderer's ends an answer too.
        stopped = end is not None or reply["choices"][0]["finish_reason"] == "stop"
        found = Reading(closest(self.renderer.answer(new), choices)) if choices else self.renderer.reading(new, prompt)
        finish, count = "stop" if stopped else "length", len(new) if end is None else end + 1
        return Response(prompt.id, found.text, finish, count, "", found.calls, found.malformed, len(row))

    def _start(self, tokens: int) -> None:
        """Load the model with room for ``tokens`` in each slot, unless it is there already."""
        import xllamacpp

        if self._server is not None and tokens <= self._room:
            return
        self._server = None  # two would not fit everywhere
        room = self.config.context or max(_ROOM, 1 << (tokens - 1).bit_length())
        self._room = min(room, self.context) if self.context else room
        params = xllamacpp.CommonParams()
        params.model.path = str(self._file)
        params.n_parallel, params.n_ctx = self.config.slots, self._room * self.config.slots
        params.verbosity = -1
        # The cache of prompts beside the slots: up to 8 GB by default, for a persona that every slot holds already.
        params.cache_ram_mib = 0
        params.fit_params = params.warmup = params.ui = params.endpoint_slots = False
        # xllamacpp opens a port on this machine whether one wants it or not; nobody else is to use it.
        params.api_keys = [secrets.token_hex(16)]
        if threads := self.config.threads or self._threads:
            params.cpuparams.n_threads = params.cpuparams_batch.n_threads = int(threads)
        if self.config.gpu_layers is not None:
            params.n_gpu_layers = self.config.gpu_layers
        try:
            self._server = xllamacpp.Server(params)
        except Exception as error:
            raise DataError(f"llama.cpp cannot load {self._file}: {error}") from error


def _length(prompt: Example, settings: GenerationSettings) -> int:
    """Tokens that the answer may have. A token of a choice is a byte at least, and a stop token follows."""
    choices = choices_of(prompt)
    return max(len(text.encode()) for text in choices) + 1 if choices else settings.max_new_tokens
