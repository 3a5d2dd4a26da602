"""What the gateway knows while it runs: what it serves, within which limits, and its latest answers."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import Field

from agentft.records import Example, Response
from agentft.validation import Model

if TYPE_CHECKING:
    from agentft.environments import ToolAnswer
    from agentft.persona import Persona
    from agentft.serve.answering import Answerer
    from agentft.serve.gateway_log import RequestLog
    from agentft.serve.gateway_metrics import Metrics


class Limits(Model):
    """What a caller may ask for, and how much of it at a time."""

    body_bytes: int = Field(default=256 * 1024, ge=1024, description="size of a request; more is refused with 413")
    messages: int = Field(default=256, ge=1, description="messages of a conversation")
    new_tokens: int = Field(default=1024, ge=1, description="tokens that an answer may have at most (`max_tokens`)")
    default_new_tokens: int = Field(default=256, ge=1, description="tokens of an answer where the caller says nothing")
    context_tokens: int = Field(default=4096, ge=16, description="tokens of prompt and answer; the model's own limit where that is less")
    choices: int = Field(default=8, ge=1, description="answers to one request (`n`)")
    stops: int = Field(default=4, ge=0, description="texts under `stop`")
    running: int = Field(default=8, ge=1, description="answers that are written at the same time")
    waiting: int = Field(default=64, ge=0, description="answers that wait for their turn; more are refused with 429")
    seconds: float = Field(default=120.0, gt=0, description="from a request's arrival to its last token")
    grace: float = Field(default=30.0, ge=0, description="seconds that running answers may take to end when the gateway is stopped")
    patience: float = Field(default=10.0, ge=0, description="seconds to wait for a server behind the gateway that is away")
    remembered: int = Field(default=2000, ge=1, description="latest answers that feedback may name by their id")
    tool_rounds: int = Field(default=4, ge=1, description="turns with tool calls that the gateway runs for one request")
    temperature: float = Field(default=0.0, ge=0, le=2, description="where the caller says nothing; agents are measured at 0")
    caller_system: bool = Field(default=True, description="system messages of the caller are added behind the persona; `false`: refused")
    caller_tools: bool = Field(default=True, description="tools of the caller are offered beside the persona's; `false`: refused")


@dataclass(frozen=True)
class Deployment:
    """One agent under one name.

    Attributes:
        name: what a caller writes under ``model``.
        answerer: who answers: the engine in this process, or a server behind it.
        persona: whom it plays; None: nobody.
        system: the system prompt that every conversation gets, with the persona's default variables.
        tools: of the persona, offered with every request: ``{"name", "description", "parameters"}``.
        call_tool: runs one of them, ``(name, arguments, variables) -> ToolAnswer``; None: the caller runs them.
        runs: names of the tools that it runs.
        declared: variables that a request may set, see :mod:`agentft.serve.variables`.
        version: of the agent, for a run: ``start``, ``round-1`` ...
    """

    name: str
    answerer: Answerer
    persona: Persona | None = None
    system: str = ""
    tools: Sequence[Mapping[str, Any]] = ()
    call_tool: Callable[[str, Mapping[str, Any], Mapping[str, Any]], ToolAnswer] | None = None
    runs: frozenset[str] = frozenset()
    declared: Mapping[str, Any] = field(default_factory=dict)
    version: str = ""

    @property
    def language(self) -> str:
        return self.persona.language if self.persona else "en"


class Answered(NamedTuple):
    """An answer that was given: the conversation that it answers, the answer, and who gave it."""

    prompt: Example
    response: Response
    deployment: Deployment


class Remembered:
    """The latest answers by the id that the caller got (``chatcmpl-...``); of several choices all, as ``chatcmpl-...#1`` and so on."""

    def __init__(self, size: int):
        self.size = size
        self._held: OrderedDict[str, Answered] = OrderedDict()

    def add(self, id: str, prompt: Example, response: Response, deployment: Deployment) -> None:
        self._held[id] = Answered(prompt, response, deployment)
        self._held.move_to_end(id)
        while len(self._held) > self.size:
            self._held.popitem(last=False)

    def get(self, id: str) -> Answered | None:
        """None: never given, or too long ago."""
        return self._held.get(id)

    def __len__(self) -> int:
        return len(self._held)


@dataclass
class State:
    """``app.state.gateway``: what every router of the gateway shares."""

    deployments: Mapping[str, Deployment]
    limits: Limits
    remembered: Remembered
    metrics: Metrics
    log: RequestLog
    closing: bool = False
