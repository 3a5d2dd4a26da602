"""A GGUF export read back with llama.cpp: its numbers, its tokenizer and its chat templates."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agentft.contracts import Probe
from agentft.errors import DataError
from agentft.render.messages import to_chat, to_tools

LIKELIEST = 64  # tokens whose probability is asked for at each position; the rest counts as one


class LlamaCppReading:
    """A GGUF file in llama.cpp, on the CPU. It is loaded with room for the first probe, and again where one is longer."""

    name = "llama.cpp"

    def __init__(self, file: Path):
        self._file, self._key = file, secrets.token_hex(16)
        self._server: Any = None
        self._room = self._plain = 0

    def _start(self, tokens: int) -> None:
        import xllamacpp

        if self._server is not None and tokens < self._room:
            return
        self._server = None  # two would not fit everywhere
        self._room = max(1024, 1 << tokens.bit_length())
        params = xllamacpp.CommonParams()
        params.model.path = str(self._file)
        params.n_parallel, params.n_ctx = 1, self._room
        params.verbosity = -1
        params.cache_ram_mib = 0
        params.n_gpu_layers = 0
        params.use_jinja = True  # the template is Jinja, and is to be run as such
        params.fit_params = params.warmup = params.ui = params.endpoint_slots = False
        params.api_keys = [self._key]  # it opens a port on this machine; nobody else is to use it
        try:
            self._server = xllamacpp.Server(params)
        except Exception as error:
            raise DataError(f"llama.cpp cannot load {self._file}: {error}") from error
        self._plain = int(self._post("tokenize", {"content": "a", "add_special": False})["tokens"][0])

    def outputs(self, probe: Probe) -> list[dict[int, float]]:
        """The likeliest tokens at each position; the prompt stays in llama.cpp's cache, so each one costs one token."""
        self._start(len(probe.ids))
        return [self._next(list(probe.ids[:end])) for end in range(probe.start, len(probe.ids))]

    def _next(self, ids: list[int]) -> dict[int, float]:
        # Nothing is told of a stop token, or of one that is a part of a character: a plain one is made to win. What is told of the
        # probabilities is before that choice.
        body = {"prompt": ids, "n_predict": 1, "temperature": 0.0, "logprobs": LIKELIEST, "cache_prompt": True}
        body["logit_bias"] = [[self._plain, 1e4]]
        reply = self._server.handle_completions(body)
        if "error" in reply:
            raise DataError(f"llama.cpp: {reply['error'].get('message', reply['error'])}")
        found = reply["choices"][0]["logprobs"]["content"][0]
        return {int(one["id"]): float(one["logprob"]) for one in found["top_logprobs"]}

    def prompt(self, probe: Probe) -> list[int] | None:
        """What `/v1/chat/completions` of llama.cpp would read."""
        if probe.example is None:
            return None
        self._start(len(probe.ids))
        body: dict[str, Any] = {"messages": to_chat(probe.example.messages, arguments_as_text=True)}
        if tools := to_tools(probe.example.tools):
            body["tools"] = tools
        text = self._post("apply-template", body)["prompt"]
        return [int(token) for token in self._post("tokenize", {"content": text, "add_special": True, "parse_special": True})["tokens"]]

    def _post(self, what: str, body: Any) -> Any:
        import httpx

        answer = httpx.post(
            f"{self._server.listening_address}/{what}", json=body, timeout=60, headers={"Authorization": f"Bearer {self._key}"}
        )
        data = answer.json()
        if answer.is_error:
            raise DataError(f"llama.cpp: {data.get('error', data)}")
        return data

    def close(self) -> None:
        self._server = None


def llamacpp_reading(name: str) -> Callable[[Path], LlamaCppReading]:
    """Opens the GGUF file ``name`` of a folder with llama.cpp."""
    return lambda folder: LlamaCppReading(folder / name)
