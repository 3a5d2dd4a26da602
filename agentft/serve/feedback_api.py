"""``POST /v1/feedback``: what a caller, or the chat page, says about an answer. 200 means that it is on the disk."""

# No `from __future__ import annotations`: FastAPI reads the annotations of the functions below, whose types are imported inside.

import json
import logging
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field, ValidationError

from agentft.errors import DataError, Problem
from agentft.feedback.served import LONGEST_NAME, LONGEST_TEXT, Served, ServedStore
from agentft.records import Example, Message
from agentft.validation import Listed, Model, problems_of

LARGEST_BODY = 256 * 1024
LONGEST_CONVERSATION = 256
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Recalled:
    """An answer that the server remembers: what was asked, what was answered, and by which deployment."""

    prompt: Example
    answer: str
    calls: tuple[Mapping[str, Any], ...] = ()
    model: str = ""


Recall = Callable[[str], Recalled | None]


class FeedbackRequest(Model):
    """The body of a request. Either ``completion_id``, or ``messages`` and ``answer``; and at least one of thumb, edit and words."""

    completion_id: str | None = Field(None, min_length=1, max_length=200, description="id of the answer, `chatcmpl-...`")
    messages: Listed[dict[str, Any]] = Field((), max_length=LONGEST_CONVERSATION, description="the conversation up to the answer")
    answer: str | None = Field(None, max_length=LONGEST_TEXT, description="the answer, where no id is known")
    model: str | None = Field(None, max_length=200, description="which deployment answered; needed beside `messages` if there are several")
    thumb: Literal["up", "down", "none"] | None = Field(None, description="`none` takes an earlier thumb back")
    edit: str | None = Field(None, max_length=LONGEST_TEXT, description="how it should have answered; an empty text takes an edit back")
    words: str | None = Field(None, max_length=LONGEST_TEXT, description="what is wrong or right, in words")
    rater: str = Field("", max_length=LONGEST_NAME, description="who judges")
    client: str = Field("", max_length=LONGEST_NAME, description="a name of the program or browser, by which later words are told apart")
    source: Literal["page", "api"] = Field("api", description="where it comes from")


class _Refused(Exception):
    def __init__(self, status: int, message: str, param: str | None = None, code: str | None = None):
        self.status, self.message, self.param, self.code = status, message, param, code


def router(store: ServedStore, deployments: Sequence[Any] = (), *, recall: Recall | None = None, largest: int = LARGEST_BODY) -> Any:
    """The path as a FastAPI router. Who may call it is the application's business.

    Args:
        store: where every judgement goes at once.
        deployments: with ``name``, ``persona``, ``system`` and, if there is one, ``version``, as
            :class:`agentft.serve.gateway_state.Deployment`.
        recall: id of an answer -> what is remembered of it; None: asks the gateway that the router belongs to.
        largest: bytes of a body; more is refused with 413 while it is read.
    """
    from fastapi import APIRouter, Request
    from fastapi.concurrency import run_in_threadpool
    from fastapi.responses import JSONResponse

    routes = APIRouter()
    by_name = {one.name: one for one in deployments}

    @routes.post("/v1/feedback")
    async def feedback(request: Request) -> JSONResponse:
        try:
            asked = _parsed(await _body(request, largest))
            row = _row(asked, recall or _gateways(request), by_name)
            deployment = by_name.get(row.model)
            stored = await run_in_threadpool(store.append, row, deployment.system if deployment is not None else "")
        except _Refused as refusal:
            return JSONResponse(_error(refusal.message, refusal.param, refusal.code, refusal.status), refusal.status)
        except DataError as error:
            return JSONResponse(_error(str(error), None, "invalid_feedback", 400), 400)
        except OSError as error:
            _logger.error("feedback could not be stored in %s: %s", store.path, error)
            return JSONResponse(_error("the feedback could not be stored; send it again later", None, "not_stored", 503), 503)
        return JSONResponse(
            {
                "id": f"feedback-{secrets.token_hex(12)}",
                "object": "feedback",
                "completion_id": asked.completion_id,
                "model": stored.model,
                "created": stored.created,
                "stored": True,
                "scrubbed": dict(stored.scrubbed),
            }
        )

    return routes


async def _body(request: Any, largest: int) -> bytes:
    # A form of another site cannot send this type without asking, so no page elsewhere can judge in a visitor's name.
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise _Refused(415, "send JSON, with content-type: application/json", code="invalid_content_type")
    length = request.headers.get("content-length", "")
    body = b""
    if not (length.isdigit() and int(length) > largest):
        async for piece in request.stream():
            body += piece
            if len(body) > largest:
                break
        else:
            return body
    raise _Refused(413, f"the feedback is larger than {largest // 1024} kB; nothing was stored", code="too_large")


def _parsed(body: bytes) -> FeedbackRequest:
    try:
        data = json.loads(body, parse_constant=_no_number)
        json.dumps(data, ensure_ascii=False).encode()  # half of a surrogate pair is JSON, but no text that a file takes
    except (ValueError, RecursionError):
        raise _Refused(400, "the body is not JSON in UTF-8", code="invalid_json") from None
    if not isinstance(data, dict):
        raise _Refused(400, "the body must be a JSON object", code="invalid_json")
    try:
        asked = FeedbackRequest.model_validate(data)
    except ValidationError as error:
        first = problems_of(error, FeedbackRequest, lambda path, message, hint, key: Problem(message, ".".join(map(str, path)), hint=hint))[
            0
        ]
        message = f"{first.message} ({first.hint})" if first.hint else first.message
        raise _Refused(400, message, first.file or None, "invalid_value") from None
    if asked.thumb is None and asked.edit is None and asked.words is None:
        raise _Refused(400, "nothing is said: give thumb, edit or words", "thumb", "missing_value")
    if asked.completion_id is None and not (asked.messages and asked.answer is not None):
        raise _Refused(400, "say which answer is meant: completion_id, or messages and answer", "completion_id", "missing_value")
    return asked


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _row(asked: FeedbackRequest, recall: Recall, deployments: Mapping[str, Any]) -> Served:
    found = recall(asked.completion_id) if asked.completion_id else None
    known = found is not None
    if found is None:
        if not asked.messages or asked.answer is None:
            message = f"no answer '{asked.completion_id}' is remembered (any more); send messages and answer along"
            raise _Refused(404, message, "completion_id", "completion_not_found")
        found = _told(asked, deployments)
    deployment = deployments.get(found.model)
    persona = deployment.persona if deployment is not None else None
    return Served(
        prompt=found.prompt,
        answer=found.answer.strip(),
        calls=found.calls,
        thumb=asked.thumb,
        edit=_stripped(asked.edit),
        words=_stripped(asked.words),
        rater=" ".join(asked.rater.split()),
        client=asked.client.strip(),
        completion=asked.completion_id or "",
        known=known,
        model=found.model,
        version=deployment.version if deployment is not None else "",
        persona=persona.name if persona is not None else "",
        source=asked.source,
    )


def _told(asked: FeedbackRequest, deployments: Mapping[str, Any]) -> Recalled:
    """The answer as the caller tells it."""
    name = asked.model
    if name is None and len(deployments) == 1:
        name = next(iter(deployments))
    if deployments and name not in deployments:
        names = ", ".join(deployments)
        if name is None:
            raise _Refused(400, f"several agents are served: say which one answered with model ({names})", "model", "missing_value")
        raise _Refused(404, f"no model '{name}' is served (models: {names})", "model", "model_not_found")
    try:
        messages = tuple(Message.from_dict(_ours(message)) for message in asked.messages)
    except DataError as error:
        raise _Refused(400, str(error), "messages", "invalid_value") from None
    return Recalled(Example("", messages), asked.answer or "", (), name or "")


def _ours(message: Mapping[str, Any]) -> dict[str, Any]:
    """A message of OpenAI's shape without what is of no use here (ids of tool calls, refusals), and with parts joined."""
    data = {key: message[key] for key in ("role", "content", "name", "tool_calls") if message.get(key) is not None}
    if data.get("role") == "developer":
        data["role"] = "system"
    content = data.get("content", "")
    if isinstance(content, list) and all(isinstance(part, Mapping) and part.get("type") == "text" for part in content):
        content = "".join(str(part.get("text", "")) for part in content)
    return {**data, "content": content}


def _stripped(text: str | None) -> str | None:
    return text if text is None else text.strip()


def _gateways(request: Any) -> Recall:
    """The gateway's own memory."""
    state = getattr(request.app.state, "gateway", None)

    def recall(id: str) -> Recalled | None:
        found = state.remembered.get(id) if state is not None else None
        if found is None:
            return None
        return Recalled(found.prompt, found.response.text, tuple(found.response.calls), found.deployment.name)

    return recall


def _error(message: str, param: str | None, code: str | None, status: int) -> dict[str, Any]:
    kind = "server_error" if status >= 500 else "invalid_request_error"
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}
