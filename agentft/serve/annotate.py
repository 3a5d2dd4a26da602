"""The annotation page: answers side by side and blind, a checklist, an edit, words. Plain forms; no script is needed, or sent."""

# No `from __future__ import annotations`: FastAPI reads the annotations of the functions below, whose types are imported inside.

import hmac
import secrets
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from agentft.errors import DataError
from agentft.feedback.agreement import agreement
from agentft.feedback.human import HumanStore, Judged
from agentft.persona import Persona
from agentft.serve.guard import LARGEST_BODY, Guard
from agentft.serve.tasks import Task
from agentft.text import is_chinese

_HERE = Path(__file__).parent
_NAME = "agentft_rater"
LONGEST_TEXT = 20_000
LONGEST_NAME = 60


def create_app(
    tasks: Sequence[Task],
    store: HumanStore,
    persona: Persona,
    *,
    title: str = "",
    token: str | None = None,
    seed: int = 0,
    largest: int = LARGEST_BODY,
) -> Any:
    """The page as an ASGI application.

    Args:
        tasks: what is asked, in this order.
        store: where every answer goes at once.
        persona: its checklist is shown.
        token: see :class:`agentft.serve.guard.Guard`.
        seed: of the blind order.
    """
    from fastapi import FastAPI, Form, Request
    from fastapi.responses import HTMLResponse, RedirectResponse
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from starlette.responses import Response

    pages = Environment(
        loader=FileSystemLoader(_HERE / "templates"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    pages.filters["lang"] = lambda text: "zh" if is_chinese(text) else "en"
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    by_id = {task.id: task for task in tasks}
    # A form of an earlier start of the server is welcome (its answers are real); one of another site is not.
    secret = hmac.new(b"agentft", str(store.path).encode(), "sha256").hexdigest()[:16] if token is None else secrets.token_hex(8)

    def page(template: str, status: int = 200, **values: Any) -> HTMLResponse:
        shared = {"title": title or persona.name, "language": persona.language, "total": len(tasks)}
        return HTMLResponse(pages.get_template(template).render(**shared | values), status)

    def rater(request: Request) -> str:
        return unquote(request.cookies.get(_NAME, ""))[:LONGEST_NAME]

    def back(path: str) -> RedirectResponse:
        return RedirectResponse(path, 303)

    @app.get("/style.css")
    def style() -> Response:
        return Response((_HERE / "templates" / "style.css").read_text("utf-8"), media_type="text/css")

    @app.get("/")
    def start(request: Request) -> Response:
        name = rater(request)
        return back("/next") if name else page("start.html", name="", problem="")

    @app.post("/name")
    def name(request: Request, name: str = Form("")) -> Response:
        chosen = " ".join(name.split())
        if not chosen or len(chosen) > LONGEST_NAME:
            return page("start.html", 400, name=chosen[:LONGEST_NAME], problem=f"A name of 1 to {LONGEST_NAME} characters, please.")
        answer = back("/next")
        answer.set_cookie(_NAME, quote(chosen), max_age=365 * 86400, httponly=True, samesite="lax")
        return answer

    @app.get("/leave")
    def leave() -> Response:
        answer = back("/")
        answer.delete_cookie(_NAME)
        return answer

    @app.get("/next")
    def following(request: Request) -> Response:
        who = rater(request)
        if not who:
            return back("/")
        answered = store.answered(who)
        waiting = next((task for task in tasks if task.id not in answered), None)
        return back(f"/task/{quote(waiting.id, safe='')}") if waiting else back("/done")

    @app.get("/task/{task_id:path}")
    def show(request: Request, task_id: str, problem: str = "") -> Response:
        who, task = rater(request), by_id.get(task_id)
        if not who:
            return back("/")
        if task is None:
            return page("message.html", 404, heading="There is no such task", text="It may belong to another run.", link="/next")
        answered = store.answered(who)
        return page(
            "task.html",
            task=task,
            shown=list(zip("AB", task.shown(who, seed), strict=False)),
            policies=[policy for policy in persona.policies if policy.when is None or policy.when.applies(task.prompt)],
            done=len(answered & by_id.keys()),
            again=task.id in answered,
            rater=who,
            secret=secret,
            longest=LONGEST_TEXT,
            problem=problem,
        )

    @app.post("/task/{task_id:path}")
    async def answer(request: Request, task_id: str) -> Response:
        who, task = rater(request), by_id.get(task_id)
        if not who:
            return back("/")
        if task is None:
            return page("message.html", 404, heading="There is no such task", text="It may belong to another run.", link="/next")
        form = {key: str(value) for key, value in (await request.form()).items()}
        if not hmac.compare_digest(form.get("secret", "").encode(), secret.encode()):
            return page(
                "message.html", 403, heading="Not stored", text="This form is not from this page. Open the task again.", link="/next"
            )
        try:
            store.append(_judged(task, form, who, task.shown(who, seed)))
        except DataError as error:
            return show(request, task_id, problem=str(error))
        return back("/next")

    @app.get("/done")
    def done(request: Request) -> Response:
        who = rater(request)
        if not who:
            return back("/")
        mine = [row for row in store.latest() if row.rater == who and row.task in by_id]
        return page("done.html", rater=who, rows=mine, prompts={task.id: task.prompt.last_user for task in tasks})

    @app.get("/agreement")
    def agreed(request: Request) -> Response:
        rows = [row for row in store.latest() if row.task in by_id and row.kind != "skip"]
        texts = {policy.id: policy.text for policy in persona.policies} | {"choice": "which answer is better"}
        return page("agreement.html", found=agreement(rows), texts=texts, raters=sorted({row.rater for row in rows}), rater=rater(request))

    return Guard(app, token, largest)


def _judged(task: Task, form: Mapping[str, str], rater: str, order: Sequence[tuple[str, str]]) -> Judged:
    """A row from a form.

    Raises:
        DataError: nothing was chosen, or a text is too long.
    """
    for key, value in form.items():
        if len(value) > LONGEST_TEXT:
            raise DataError(
                f"{'The edit' if key.startswith('edit') else 'The text'} has {len(value):,} characters; {LONGEST_TEXT:,} are allowed."
            )
    created = datetime.now(UTC).isoformat(timespec="seconds")
    # In the order in which they were shown, so that a later look can tell whether place mattered. The page itself knows
    # places only: an id would tell which model an answer is from.
    names, shown = [name for name, _ in order], dict(order)
    if form.get("action") == "skip":
        return Judged(task.id, task.prompt.to_dict(), shown, "skip", rater=rater, created=created)
    verdicts: dict[str, dict[str, str]] = {}
    edits: dict[str, str] = {}
    for place, response in enumerate(names):
        marks = {
            key.partition(":")[2]: value for key, value in form.items() if key.startswith(f"item{place}:") and value in ("pass", "fail")
        }
        if marks:
            verdicts[response] = marks
        edit = form.get(f"edit{place}", "").replace("\r\n", "\n").strip()
        if edit and edit != task.responses[response].strip():
            edits[response] = edit
    words = form.get("words", "").replace("\r\n", "\n").strip()
    choice = form.get("choice", "")
    if len(task.responses) == 2:
        # The values are places, so that the page does not tell which model is which.
        chosen = {"a": names[0], "b": names[1], "tie": "tie", "both-bad": "both-bad"}.get(choice)
        if chosen is None:
            raise DataError("Choose A, B, tie or both bad, or skip.")
        return Judged(task.id, task.prompt.to_dict(), shown, "choice", chosen, verdicts, edits, words, rater, created)
    if not (verdicts or edits or words):
        raise DataError("Tick an item, edit the answer or say what is wrong, or skip.")
    return Judged(task.id, task.prompt.to_dict(), shown, "rating", "", verdicts, edits, words, rater, created)
