"""The annotation page in a real headless Chromium: by mouse, by keyboard alone, without scripts, on a phone, in the dark."""

from __future__ import annotations

import os
import shutil
import threading
import time
from pathlib import Path

import pytest

from agentft.serve.annotate import create_app

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine (Debian: apt-get install chromium)"),
]
# For a person who wants to look: the pictures are kept where this points to.
PICTURES = os.environ.get("AGENTFT_SCREENSHOTS")


@pytest.fixture
def address(tasks, store, persona):
    import uvicorn

    server = uvicorn.Server(uvicorn.Config(create_app(tasks, store, persona), port=0, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
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


def picture(page, tmp_path: Path, name: str) -> None:
    folder = Path(PICTURES) if PICTURES else tmp_path
    page.screenshot(path=str(folder / f"{name}.png"), full_page=True)
    assert (folder / f"{name}.png").stat().st_size > 5000


def test_a_task_by_mouse_without_scripts(browser, address, store, tmp_path):
    context = browser.new_context(java_script_enabled=False, viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.goto(address)
    page.get_by_label("Your name").fill("Ann")
    page.get_by_role("button", name="Start").click()
    page.get_by_role("heading", name="Answer A").wait_for()
    picture(page, tmp_path, "desktop")
    page.locator(".choice label").nth(2).click()
    page.locator("summary").first.click()
    page.locator("summary").last.click()
    page.locator("textarea[name=edit0]").fill("It takes 5 business days.")
    page.locator("textarea[name=words]").fill("Say how long.")
    page.locator("label[title=holds]").first.click()
    picture(page, tmp_path, "desktop-open")
    page.get_by_role("button", name="Store and go on").click()
    page.get_by_text("1 of 4").first.wait_for()
    (row,) = store.latest()
    assert row.choice == "tie" and row.words == "Say how long." and list(row.edits.values()) == ["It takes 5 business days."]
    assert list(row.verdicts.values()) == [{"kind": "pass"}]
    assert page.title().startswith("1 of 4"), "the model's <script> did not run"
    page.get_by_role("button", name="Skip").click()
    page.get_by_text("2 of 4").first.wait_for()
    assert store.latest()[-1].kind == "skip"
    context.close()


def test_a_task_by_keyboard_alone(browser, address, store):
    page = browser.new_page()
    page.goto(address)
    page.wait_for_function("document.activeElement.name == 'name'")  # the field gets the focus by itself
    page.keyboard.type("Bo")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Answer A").wait_for()
    page.wait_for_function("document.activeElement.name == 'choice'")  # the first choice gets it as well
    page.keyboard.press("Space")
    page.keyboard.press("ArrowRight")
    assert page.locator("input[name=choice][value=b]").is_checked()
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.value") == "send":
            break
    page.keyboard.press("Enter")
    page.get_by_text("1 of 4").first.wait_for()
    (row,) = store.latest()
    assert row.choice == list(row.responses)[1] and row.rater == "Bo"
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone_nothing_is_cut_and_everything_can_be_hit(browser, address, tmp_path, scheme):
    context = browser.new_context(viewport={"width": 390, "height": 844}, color_scheme=scheme, has_touch=True, is_mobile=True)
    page = context.new_page()
    page.goto(address)
    page.get_by_label("Your name").fill("Cy")
    page.get_by_role("button", name="Start").tap()
    for number in range(3):
        page.get_by_text("Both bad", exact=True).wait_for()
        page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, "no sideways scrolling"
        assert page.evaluate(SMALL) == [], "nothing to hit is smaller than a finger"
        if number == 2:
            assert page.locator("p[lang=zh]").count() >= 2
        picture(page, tmp_path, f"phone-{scheme}-{number}")
        page.locator(".choice label").last.tap()
        page.get_by_role("button", name="Store and go on").tap()
        page.get_by_text(f"{number + 1} of 4").first.wait_for()
    context.close()


SMALL = """[...document.querySelectorAll('button, summary, .choice span, .ticks > label > span, textarea')]
  .filter(one => { const box = one.getBoundingClientRect(); return box.height < 44 || box.width < 44 })
  .map(one => one.outerHTML)"""
CONTRAST = """selector => {
  const part = v => (v /= 255) <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
  const light = c => { const [r, g, b] = c.match(/[\\d.]+/g).slice(0, 3).map(Number).map(part); return .2126 * r + .7152 * g + .0722 * b };
  const clear = one => /rgba\\(0, 0, 0, 0\\)|transparent/.test(getComputedStyle(one).backgroundColor);
  const one = document.querySelector(selector);
  let back = one;
  while (back.parentElement && clear(back)) back = back.parentElement;
  const ground = clear(back) ? document.body : back;
  const [a, b] = [light(getComputedStyle(one).color), light(getComputedStyle(ground).backgroundColor)].sort((x, y) => y - x);
  return (a + .05) / (b + .05);
}"""


def contrast(page, selector: str) -> float:
    """WCAG 2 contrast of text against the nearest background that is not transparent."""
    return page.evaluate(CONTRAST, selector)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read(browser, address, scheme):
    context = browser.new_context(color_scheme=scheme)
    page = context.new_page()
    page.goto(address)
    page.get_by_label("Your name").fill("Di")
    page.get_by_role("button", name="Start").click()
    page.get_by_role("heading", name="Answer A").wait_for()
    page.wait_for_load_state("load")  # the style sheet too
    for selector in (".answer .text", ".said b", ".primary", "summary", "small", ".keys", ".count", "td span[aria-hidden]"):
        assert contrast(page, selector) >= 4.5, selector
    context.close()
