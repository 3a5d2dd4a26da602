"""The chat page in a real headless Chromium, in front of a gateway that answers as it is told."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, StreamingResponse

from agentft.feedback.served import ServedStore
from agentft.persona import Persona
from agentft.records import Example, Message
from agentft.serve import chat_page, feedback_api

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine (Debian: apt-get install chromium)"),
]
# For a person who wants to look: the pictures are kept where this points to.
PICTURES = os.environ.get("AGENTFT_SCREENSHOTS")
EVIL = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\"> & **bold** [x](javascript:alert(1))"
GOOD = "I'm sorry for the wait. A refund takes 5 business days after the parcel has reached us; My Orders shows where it is.\n\nMore?"
ZH = Persona.from_dict({"name": "kefu", "summary": "北风商城（网店）的中文客服。", "language": "zh", "role": "客服。"})


class Gateway:
    """Agents that answer what a test wants: ``answers`` are taken in turn; each is a text, or a function that makes a reply."""

    def __init__(self, folder: Path, persona: Persona, key: str | None = None, names: tuple[str, ...] = ("support",)):
        self.store = ServedStore(folder / "served.jsonl")
        self.answers: list = []
        self.asked: list[dict] = []
        self.remembered: dict[str, feedback_api.Recalled] = {}
        people = {"kefu": ZH}
        desks = [SimpleNamespace(name=name, persona=people.get(name, persona), system="", version="round-1") for name in names]
        self.app = FastAPI()

        @self.app.middleware("http")
        async def guard(request: Request, following):
            if request.url.path.startswith("/v1/") and key and request.headers.get("authorization") != f"Bearer {key}":
                return JSONResponse({"error": {"message": "wrong key", "type": "invalid_request_error", "param": None, "code": None}}, 401)
            return await following(request)

        @self.app.post("/v1/chat/completions")
        async def chat(request: Request):
            body = await request.json()
            self.asked.append(body)
            answer = self.answers.pop(0) if self.answers else GOOD
            return answer(self, body) if callable(answer) else self.stream(body, answer)

        self.app.include_router(feedback_api.router(self.store, desks, recall=lambda id: self.remembered.get(id)))
        self.app.include_router(chat_page.router(desks, key=key is not None))

    def stream(self, body, text, calls=(), finish="stop", pause=0.0, broken=False):
        name = f"chatcmpl-{len(self.asked)}"
        messages = tuple(Message.from_dict(one) for one in body["messages"])
        self.remembered[name] = feedback_api.Recalled(Example(name, messages), text, (), body["model"])

        def chunk(delta, finish=None):
            data = {"id": name, "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}
            return f"data: {json.dumps(data, ensure_ascii=False)}\n\n".encode()

        def pieces():
            yield chunk({"role": "assistant", "content": ""})
            whole = b"".join(chunk({"content": text[n : n + 7]}) for n in range(0, len(text), 7))
            for n in range(0, len(whole), 1001):  # cut anywhere, inside of characters too
                yield whole[n : n + 1001]
                time.sleep(pause)
            for index, call in enumerate(calls):
                yield chunk({"tool_calls": [{"index": index, "id": f"c{index}", "function": {"name": call[0], "arguments": ""}}]})
                yield chunk({"tool_calls": [{"index": index, "function": {"arguments": call[1]}}]})
            if not broken:
                yield chunk({}, finish) + b"data: [DONE]\n\n"

        return StreamingResponse(pieces(), media_type="text/event-stream")


def refused(status, message, **headers):
    error = {"message": message, "type": "server_error", "param": None, "code": None}
    return lambda gateway, body: JSONResponse({"error": error}, status, headers={k.replace("_", "-"): v for k, v in headers.items()})


@pytest.fixture
def serve(tmp_path, persona):
    import uvicorn

    servers = []

    def start(port=0, **options):
        gateway = Gateway(tmp_path, persona, **options)
        server = uvicorn.Server(uvicorn.Config(gateway.app, port=port, log_level="error"))
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.02)
        gateway.port = server.servers[0].sockets[0].getsockname()[1]
        gateway.address = f"http://127.0.0.1:{gateway.port}"
        servers.append((server, thread))

        def stop():
            server.should_exit = server.force_exit = True
            thread.join(timeout=5)

        gateway.stop = stop
        return gateway

    yield start
    for server, thread in servers:
        server.should_exit = server.force_exit = True
        thread.join(timeout=5)


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (pip install 'agentft[dev]')")
    flags = [
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        "--no-first-run",
        "--disable-component-update",
        "--disable-sync",
    ]
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield opened
        opened.close()


@pytest.fixture
def open_page(browser):
    contexts, complaints = [], []

    def opened(address, **options):
        context = browser.new_context(**({"viewport": {"width": 1100, "height": 800}} | options))
        context.set_default_timeout(8000)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda said: complaints.append(said.text) if "Content Security Policy" in said.text else None)
        page.goto(address)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert complaints == [], "no script fails, and nothing is kept out by the page's own policy"


def picture(page, tmp_path: Path, name: str) -> None:
    folder = Path(PICTURES) if PICTURES else tmp_path
    page.screenshot(path=str(folder / f"{name}.png"))
    assert (folder / f"{name}.png").stat().st_size > 5000


def say(page, text: str) -> None:
    page.locator("#say").fill(text)
    page.keyboard.press("Enter")


def answered(page, number: int = 1):
    answer = page.locator(".answer").nth(number - 1)
    page.wait_for_function("n => document.querySelectorAll('.answer')[n]?.getAttribute('aria-busy') === 'false'", arg=number - 1)
    return answer


def test_a_conversation_and_everything_one_can_say_about_it(serve, open_page, tmp_path):
    gateway = serve()
    page = open_page(gateway.address)
    page.get_by_text("A clerk").wait_for()
    picture(page, tmp_path, "empty")
    say(page, "Where is my refund?")
    answer = answered(page)
    assert answer.locator(".text").inner_text() == GOOD
    page.get_by_role("button", name="Good answer").click()
    answer.get_by_text("Stored. Thank you.").wait_for()
    assert page.get_by_role("button", name="Good answer").get_attribute("aria-pressed") == "true"
    picture(page, tmp_path, "answer")
    page.get_by_role("button", name="Bad answer").click()
    page.get_by_label("How should it have answered?").fill("A refund takes 5 days. Is there anything else?")
    page.get_by_label("What is wrong, in your words?").fill("Always ask whether there is anything else.")
    picture(page, tmp_path, "panel")
    page.get_by_role("button", name="Store", exact=True).click()
    page.locator(".panel").wait_for(state="hidden")
    (row,) = gateway.store.latest()
    assert (row.thumb, row.edit, row.words) == (
        "down",
        "A refund takes 5 days. Is there anything else?",
        "Always ask whether there is anything else.",
    )
    assert (row.completion, row.known, row.source, row.version, row.persona) == ("chatcmpl-1", True, "page", "round-1", "clerk")
    page.get_by_role("button", name="Bad answer").click()
    answer.get_by_text("Taken back.").wait_for()
    assert gateway.store.latest()[0].thumb == "none"

    gateway.answers = ["Yes, until Friday."]
    say(page, "Is that sure?")
    answered(page, 2)
    assert [m["role"] for m in gateway.asked[1]["messages"]] == ["user", "assistant", "user"] and gateway.asked[1]["model"] == "support"
    picture(page, tmp_path, "two-turns")
    page.get_by_role("button", name="New conversation").click()
    assert page.locator(".turn").count() == 0
    say(page, "Hello")
    answered(page)
    assert len(gateway.asked[2]["messages"]) == 1


def test_a_hostile_answer_is_text_and_nothing_else(serve, open_page, tmp_path):
    gateway = serve()
    gateway.answers = [lambda one, body: one.stream(body, EVIL, [(f"look{EVIL}", EVIL)])]
    page = open_page(gateway.address)
    loaded: list[str] = []
    page.on("request", lambda request: loaded.append(request.url))
    say(page, EVIL)
    answer = answered(page)
    assert answer.locator(".text").inner_text() == EVIL and page.locator(".user .text").inner_text() == EVIL
    assert page.locator("main script, main img, main a").count() == 0 and page.title() == "support"
    page.get_by_role("button", name="Suggest a better answer").click()
    page.get_by_label("How should it have answered?").fill(f"No. {EVIL}")
    page.get_by_role("button", name="Store", exact=True).click()
    page.locator(".panel").wait_for(state="hidden")
    assert gateway.store.latest()[0].edit == f"No. {EVIL}"
    assert page.title() == "support" and all(url.startswith(gateway.address) for url in loaded)
    policy = page.request.get(gateway.address).headers["content-security-policy"]
    assert "default-src 'none'" in policy and "script-src 'self';" in policy and "unsafe" not in policy
    picture(page, tmp_path, "hostile")


def test_tool_calls_are_shown(serve, open_page, tmp_path):
    gateway = serve()
    arguments = json.dumps({"order": "NW-10231", "reason": "too small"})
    gateway.answers = [lambda one, body: one.stream(body, "Let me look that up.", [("find_order", arguments)], "tool_calls")]
    page = open_page(gateway.address)
    say(page, "I want to send back order NW-10231.")
    answer = answered(page)
    assert answer.get_by_role("heading", name="Wants to use the tool find_order").is_visible()
    assert '"reason": "too small"' in answer.locator("pre").inner_text()
    picture(page, tmp_path, "tools")


def test_errors_are_said_and_can_be_tried_again(serve, open_page, tmp_path):
    gateway = serve()
    gateway.answers = [
        refused(429, "too many", retry_after="1"),
        refused(500, "the model stumbled"),
        lambda one, body: one.stream(body, "Half an ans", broken=True),
        "At last.",
    ]
    page = open_page(gateway.address)
    say(page, "Where is my refund?")
    answered(page)
    page.get_by_text("The server is busy. Try again in 1 s.").wait_for()
    again = page.get_by_role("button", name="Try again")
    assert again.is_disabled(), "not before the time that the server asked for"
    picture(page, tmp_path, "busy")
    again.click()  # waits until it is enabled
    page.get_by_text("the model stumbled").wait_for()
    again.click()
    page.get_by_text("The connection broke off").wait_for()
    assert page.locator(".answer .text").inner_text() == "Half an ans"
    gateway.stop()
    again.click()
    page.get_by_text("The server cannot be reached.").wait_for()
    later = serve(port=gateway.port)
    later.answers = ["At last."]
    again.click()
    page.get_by_text("At last.").wait_for()
    assert page.locator(".answer").count() == 1 and len(later.asked[0]["messages"]) == 1
    later.remembered.clear()  # as after a restart: the page tells what was said
    page.get_by_role("button", name="Bad answer").click()
    page.get_by_text("Stored. Thank you.").wait_for()
    (row,) = later.store.latest()
    assert (row.known, row.answer, row.model) == (False, "At last.", "support")
    later.stop()
    page.get_by_role("button", name="Good answer").click()
    page.get_by_text("Not stored: The server cannot be reached.").wait_for()
    assert page.get_by_role("button", name="Good answer").get_attribute("aria-pressed") == "false", "nothing is claimed that is not so"


def test_an_answer_can_be_stopped(serve, open_page):
    gateway = serve()
    gateway.answers = [lambda one, body: one.stream(body, GOOD * 40, pause=0.2)]
    page = open_page(gateway.address)
    say(page, "Tell me everything.")
    page.get_by_role("button", name="Stop").click()
    page.get_by_text("You stopped this answer.").wait_for()
    assert page.get_by_role("button", name="Send").is_visible()


def test_the_key_is_asked_for_once_and_a_wrong_one_is_said(serve, open_page, tmp_path):
    gateway = serve(key="secret-key")
    page = open_page(gateway.address)
    field = page.get_by_label("Key", exact=True)
    field.fill("wrong")
    page.keyboard.press("Enter")
    page.get_by_text("The server did not accept this key.").wait_for()
    picture(page, tmp_path, "key")
    field.fill("secret-key")
    page.keyboard.press("Enter")
    say(page, "Hello")
    answered(page)
    page.reload()
    page.locator("#say").wait_for()
    assert page.locator("#gate").is_hidden() and page.evaluate("localStorage.length") == 0
    assert "clerk" not in page.request.get(gateway.address).text(), "without a key nobody learns what is served"


def test_by_keyboard_alone(serve, open_page):
    gateway = serve()
    page = open_page(gateway.address)
    page.wait_for_function("() => document.activeElement.id == 'say'")
    page.keyboard.type("First line")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("second line")
    page.keyboard.press("Enter")
    answered(page)
    assert gateway.asked[0]["messages"][0]["content"] == "First line\nsecond line"
    page.wait_for_function("() => document.activeElement.id == 'say'")
    for _ in range(6):
        page.keyboard.press("Shift+Tab")
        if page.evaluate("document.activeElement.classList.contains('better')"):
            break
    page.keyboard.press("Enter")
    page.wait_for_function("() => document.activeElement.classList.contains('edit')")
    page.keyboard.press("ControlOrMeta+A")
    page.keyboard.type("Better.")
    page.keyboard.press("Control+Enter")
    page.wait_for_function("() => document.activeElement.classList.contains('better')")
    assert gateway.store.latest()[0].edit == "Better."


def test_composing_chinese_does_not_send(serve, open_page):
    gateway = serve()
    page = open_page(gateway.address)
    page.locator("#say").fill("ni")
    page.evaluate(
        "document.getElementById('say').dispatchEvent(new KeyboardEvent('keydown', {key: 'Enter', isComposing: true, bubbles: true}))"
    )
    page.wait_for_timeout(100)
    assert gateway.asked == [] and page.locator(".turn").count() == 0


def test_another_agent_speaks_another_language(serve, open_page, tmp_path):
    gateway = serve(names=("support", "kefu"))
    gateway.answers = ["签收后30天内可在“我的订单”免费退货，仓库收到后5个工作日退款。请问还有什么可以帮您？"]
    page = open_page(gateway.address)
    page.get_by_label("Agent").select_option("kefu")
    page.get_by_text("北风商城").wait_for()
    assert page.evaluate("document.documentElement.lang") == "zh" and page.locator("#say").get_attribute("placeholder") == "请输入消息"
    say(page, "裤子太长，怎么退货？")
    answer = answered(page)
    assert gateway.asked[0]["model"] == "kefu" and answer.locator(".text").get_attribute("lang") == "zh"
    page.get_by_role("button", name="回答得不好").click()
    page.get_by_label("应该怎样回答？").wait_for()
    picture(page, tmp_path, "chinese")
    assert gateway.store.latest()[0].persona == "kefu"


SMALL = """[...document.querySelectorAll('button, select, textarea')].filter(one => one.offsetParent)
  .filter(one => { const box = one.getBoundingClientRect(); return box.height < 44 || box.width < 44 }).map(one => one.outerHTML)"""
CONTRAST = """selector => {
  const part = v => (v /= 255) <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
  const light = c => { const [r, g, b] = c.match(/[\\d.]+/g).slice(0, 3).map(Number).map(part); return .2126 * r + .7152 * g + .0722 * b };
  const clear = one => /rgba\\(0, 0, 0, 0\\)|transparent/.test(getComputedStyle(one).backgroundColor);
  const one = [...document.querySelectorAll(selector)].find(each => each.offsetParent);
  let back = one;
  while (back.parentElement && clear(back)) back = back.parentElement;
  const ground = clear(back) ? document.body : back;
  const [a, b] = [light(getComputedStyle(one).color), light(getComputedStyle(ground).backgroundColor)].sort((x, y) => y - x);
  return (a + .05) / (b + .05);
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone_everything_fits_can_be_hit_and_read(serve, open_page, tmp_path, scheme):
    gateway = serve(names=("support", "kefu"))
    gateway.answers = [GOOD, refused(500, "the model stumbled")]
    page = open_page(gateway.address, viewport={"width": 360, "height": 740}, color_scheme=scheme, has_touch=True, is_mobile=True)
    say(page, "Where is my refund for order NW-1, " + "x" * 80 + "?")
    answered(page)
    page.get_by_role("button", name="Bad answer").tap()
    page.get_by_text("Stored. Thank you.").wait_for()
    picture(page, tmp_path, f"phone-{scheme}")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360, "no sideways scrolling"
    assert page.evaluate(SMALL) == [], "nothing to hit is smaller than a finger"
    say(page, "And then?")
    answered(page, 2)
    for selector in (
        ".answer .text",
        ".user .text",
        ".hint",
        ".said",
        ".version",
        ".panel .primary",
        ".text-button",
        ".answer > .problem span",
    ):
        assert page.evaluate(CONTRAST, selector) >= 4.5, selector
    picture(page, tmp_path, f"phone-error-{scheme}")


def test_every_control_has_a_name(serve, open_page):
    gateway = serve(names=("support", "kefu"))
    page = open_page(gateway.address)
    say(page, "Hello")
    answered(page)
    page.get_by_role("button", name="Suggest a better answer").click()
    nameless = """[...document.querySelectorAll('button, select, textarea, input')].filter(one => one.offsetParent)
      .filter(one => !(one.textContent.trim() || one.labels?.[0]?.textContent.trim())).map(one => one.outerHTML)"""
    assert page.evaluate(nameless) == []
    assert page.get_by_role("log").count() == 1 and page.locator("h1").inner_text() == "support"


def test_without_a_store_there_are_no_thumbs(persona, browser, open_page, serve, tmp_path):
    from fastapi.testclient import TestClient

    app = FastAPI()
    app.include_router(chat_page.router([SimpleNamespace(name="a", persona=persona, version="")], feedback=False))
    client = TestClient(app)
    assert 'data-feedback="no"' in client.get("/").text
    assert client.get("/chat/app.js").headers["content-type"].startswith("text/javascript")
    assert client.get("/chat/..%2fchat.html").status_code == 404 and client.get("/chat/chat.html").status_code == 404
    agents = client.get("/v1/agents").json()["data"]
    assert agents == [{"id": "a", "object": "agent", "persona": "clerk", "summary": "A clerk", "language": "en", "version": ""}]
