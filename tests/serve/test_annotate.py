"""The annotation page without a browser: what is stored, what is refused, and what a kill cannot take away."""

from __future__ import annotations

import html
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from agentft.serve.annotate import create_app

EVIL = "<script>document.title='owned'</script>"


@pytest.fixture
def client(tasks, store, persona):
    with TestClient(create_app(tasks, store, persona), base_url="http://127.0.0.1") as made:
        yield made


def enter(client, name: str = "Ann") -> str:
    page = client.post("/name", data={"name": name})
    assert page.status_code == 200
    return page.text


def send(client, task: str, **form):
    page = client.get(f"/task/{task}").text
    secret = re.search(r'name="secret" value="(\w+)"', page)[1]
    return client.post(f"/task/{task}", data={"secret": secret, "action": "send"} | form)


def place_of(client, task: str, text: str) -> str:
    """a or b: where an answer stands for this rater."""
    shown = [html.unescape(found) for found in re.findall(r'<p class="text"[^>]*>(.*?)</p>', client.get(f"/task/{task}").text, re.DOTALL)]
    return "ab"[shown.index(text)]


def test_a_whole_task_is_stored_and_the_next_one_comes(client, store, tasks):
    first = enter(client)
    assert "Where is my refund" in first and "0 of 4" in first and "Name the refund period." in first
    good = tasks[0].responses["t1#0"]
    place = place_of(client, "t1", good)
    other = "1" if place == "a" else "0"
    page = send(client, "t1", **{"choice": place, f"item{other}:kind": "fail", "words": "Too short.", f"edit{other}": "It takes 5 days."})
    assert "1 of 4" in page.text and page.url.path == "/task/t2"
    (row,) = store.latest()
    assert row.choice == "t1#0" and row.verdicts == {"t1#1": {"kind": "fail"}} and row.edits == {"t1#1": "It takes 5 days."}
    assert row.words == "Too short." and row.rater == "Ann" and row.created
    assert list(row.responses)["ab".index(place)] == "t1#0", "stored in the order in which they were shown"


def test_the_order_is_blind_seeded_and_differs_between_raters(tasks, store, persona):
    orders = {rater: [name for name, _ in tasks[0].shown(rater, 0)] for rater in map(str, range(20))}
    assert len({tuple(order) for order in orders.values()}) == 2
    assert orders == {rater: [name for name, _ in tasks[0].shown(rater, 0)] for rater in orders}
    with TestClient(create_app(tasks, store, persona)) as client:
        page = enter(client)
    assert "t1#0" not in page and "t1#1" not in page, "an id would tell which model it is"


def test_text_of_models_and_people_is_escaped(client):
    enter(client, EVIL)
    page = client.get("/task/t2").text
    assert EVIL not in page and html.escape(EVIL, quote=False) in page.replace("&#39;", "'")
    assert "default-src 'none'" in client.get("/task/t2").headers["content-security-policy"]
    send(client, "t2", choice="a", words=EVIL)
    assert EVIL not in client.get("/done").text and EVIL not in client.get("/agreement").text


def test_nothing_chosen_is_asked_again_and_a_skip_is_stored(client, store):
    enter(client)
    assert "Choose A, B, tie or both bad, or skip." in send(client, "t1").text and not list(store.rows())
    assert send(client, "t1", action="skip").url.path == "/task/t2" and store.latest()[0].kind == "skip"
    assert "Tick an item, edit the answer or say what is wrong" in send(client, "t4").text
    assert send(client, "t4", words="Nice.").status_code == 200 and store.latest()[-1].kind == "rating"
    assert send(client, "t3/odd id", choice="tie").status_code == 200 and store.latest()[-1].task == "t3/odd id"
    assert send(client, "t2", choice="both-bad").url.path == "/done" and "that was all" in client.get("/done").text


def test_raters_are_kept_apart_and_their_agreement_is_shown(client, store, tasks):
    for name in ("Ann", "Bo"):
        enter(client, name)
        for task, answer in (("t1", tasks[0].responses["t1#0"]), ("t2", "No.")):
            send(client, task, choice=place_of(client, task, answer), **{"item0:kind": "pass"})
        client.get("/leave")
    assert {row.rater for row in store.latest()} == {"Ann", "Bo"} and len(store.latest()) == 4
    page = client.get("/agreement").text
    assert "2 raters: Ann, Bo" in page and "1.00" in page


def test_forms_from_elsewhere_too_large_or_too_long_are_refused(client, store):
    enter(client)
    assert client.post("/task/t1", data={"choice": "a", "secret": "guessed"}).status_code == 403
    assert client.post("/name", data={"name": "x"}, headers={"origin": "http://evil.example"}).status_code == 403
    assert client.post("/name", data={"name": "x"}, headers={"sec-fetch-site": "cross-site"}).status_code == 403
    assert client.post("/task/t1", content=b"a" * 300_000, headers={"content-type": "text/plain"}).status_code == 413
    assert client.post("/task/t1", content=(b"a" * 50_000 for _ in range(10))).status_code == 413, (
        "a body without a length is counted while it comes"
    )
    assert "20,000 are allowed" in send(client, "t1", choice="a", words="x" * 20_001).text
    assert client.post("/name", data={"name": "n" * 61}).status_code == 400 and client.post("/name", data={"name": "  "}).status_code == 400
    assert client.get("/task/none").status_code == 404 and not list(store.rows())


def test_away_from_loopback_a_token_is_needed(tasks, store, persona):
    with TestClient(create_app(tasks, store, persona, token="s3cret"), follow_redirects=False) as client:
        assert client.get("/").status_code == 403 and client.get("/?token=wrong").status_code == 403
        first = client.get("/?token=s3cret")
        assert first.status_code == 200 and "HttpOnly; SameSite=Strict" in first.headers["set-cookie"]
        assert client.get("/").status_code == 200, "the cookie is enough from then on"
        client.cookies.clear()
        assert client.post("/name", data={"name": "x"}).status_code == 403


def run_folder(tmp_path: Path, tasks) -> Path:
    """A run as `agentft annotate` finds it."""
    runs = tmp_path / "runs"
    stage = runs / "stages" / "round-1-pairs-abc"
    stage.mkdir(parents=True)
    rows = [{"id": t.id, "prompt": t.prompt.to_dict(), "responses": [{"id": k, "text": v} for k, v in t.responses.items()]} for t in tasks]
    (stage / "annotate.jsonl").write_text("\n".join(map(json.dumps, rows)), "utf-8")
    persona = {"name": "clerk", "summary": "A clerk", "language": "en", "role": "A clerk."}
    manifest = {
        "id": "clerk-1",
        "name": "clerk",
        "updated": "2026",
        "persona": persona,
        "stages": [{"name": "round-1-pairs", "folder": stage.name}],
    }
    (runs / "clerk-1").mkdir()
    (runs / "clerk-1" / "run.json").write_text(json.dumps(manifest), "utf-8")
    return runs


def start(runs: Path) -> tuple[subprocess.Popen, str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "agentft", "annotate", "clerk", "--runs", str(runs), "--port", "0"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    line = process.stdout.readline()
    address = re.search(r"http://\S+", line)
    assert address, line
    return process, address[0].rstrip("/")


def test_killed_between_two_clicks_nothing_is_lost(tmp_path, tasks):
    import httpx

    runs = run_folder(tmp_path, tasks)
    for round_, task in enumerate(("t1", "t2")):
        process, address = start(runs)
        try:
            with httpx.Client(base_url=address, follow_redirects=True) as client:
                for _ in range(50):
                    try:
                        client.get("/")
                        break
                    except httpx.ConnectError:
                        time.sleep(0.1)
                page = client.post("/name", data={"name": "Ann"})
                assert f"{round_} of 4" in page.text, "goes on where it stopped"
                secret = re.search(r'name="secret" value="(\w+)"', page.text)[1]
                assert client.post(f"/task/{task}", data={"secret": secret, "choice": "a"}).status_code == 200
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
    lines = (runs / "feedback" / "clerk.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line)["task"] for line in lines] == ["t1", "t2"]


def test_progress_and_export_from_the_command_line(tmp_path, tasks):
    from click.testing import CliRunner

    from agentft.cli.main import cli
    from agentft.feedback.human import HumanStore, Judged

    runs = run_folder(tmp_path, tasks)
    store = HumanStore(runs / "feedback" / "clerk.jsonl")
    store.append(Judged("t1", tasks[0].prompt.to_dict(), tasks[0].responses, "choice", "t1#0", rater="Ann"))
    data = json.loads(CliRunner().invoke(cli, ["annotate", "clerk", "--runs", str(runs), "--json"], catch_exceptions=False).stdout)
    assert data["tasks"] == 4 and data["raters"] == {"Ann": 1}
    out = tmp_path / "pairs.jsonl"
    CliRunner().invoke(cli, ["annotate", "clerk", "--runs", str(runs), "--export", str(out)], catch_exceptions=False)
    (row,) = map(json.loads, out.read_text("utf-8").splitlines())
    assert row["chosen"] == [{"role": "assistant", "content": tasks[0].responses["t1#0"]}] and row["prompt"][0]["role"] == "user"
