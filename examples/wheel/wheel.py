"""One turn of the wheel, from training through use to a better version in use. Only agentft's own commands, and HTTP.

    python examples/wheel/wheel.py --out /tmp/wheel

The people are played by a reviewer with two constant wishes: that an answer offers the ticket number, and that it ends by asking whether
there is anything else. What fulfils both gets a thumb up; everything else a thumb down, words, and the answer as it should have been.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx

HERE = Path(__file__).parent
AGENTFT = [sys.executable, "-m", "agentft"]
TICKET, MORE = "I have sent you the ticket number by e-mail.", "Is there anything else I can help you with?"
WORDS = "Offer the ticket number, and end by asking whether there is anything else."


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--out", type=Path, default=Path("wheel"), help="folder for recipe, runs and store (default: ./wheel)")
    options.add_argument("--conversations", type=int, default=60, help="how many (default: 60)")
    options.add_argument("--clients", type=int, default=8, help="conversations at the same time (default: 8)")
    given = options.parse_args()
    out: Path = given.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    for name in ("recipe.yaml", "persona.yaml"):
        shutil.copy(HERE / name, out / name)
    recipe, runs, store = out / "recipe.yaml", out / "runs", out / "served.jsonl"
    store.touch()
    began = time.monotonic()

    step("1. train", began)
    call("run", recipe, "--runs", runs)
    step("2. serve, talk, and say what is wrong", began)
    questions, fresh = asked(given.conversations)
    with served(runs, store) as url:
        with ThreadPoolExecutor(given.clients) as people:
            wishes = list(people.map(lambda question: review(url, question), questions))
        before = measured(url, fresh, given.clients)
    print(f"{len(wishes)} conversations; {sum(wishes)} answers were as wished")
    call("feedback", "stats", store)
    step("3. learn from it, behind the gate", began)
    call("refine", recipe, "--next", "--runs", runs, check=False)
    step("4. serve again", began)
    with served(runs, store) as url:
        after = measured(url, fresh, given.clients)
    print(f"\n{'':24}{'before':>10}{'after':>10}   of {len(fresh)} new questions")
    for name in before:
        left, right = before[name], after[name]
        print(f"{name:24}{left:>10}{right:>10}")
    step("done", began)


def step(name: str, began: float) -> None:
    print(f"\n== {name} ({time.monotonic() - began:.0f} s)", flush=True)


def call(*arguments: object, check: bool = True) -> None:
    print("$ agentft", *arguments, flush=True)
    done = subprocess.run([*AGENTFT, *map(str, arguments)])
    if done.returncode and (check or done.returncode != 1):  # 1: the gate kept the champion
        sys.exit(done.returncode)


@contextmanager
def served(runs: Path, store: Path):
    """``agentft serve`` on a free port, until the block ends."""
    command = [*AGENTFT, "serve", "wheel", "--runs", str(runs), "--port", "0", "--feedback", str(store)]
    print("$ agentft", *command[3:], flush=True)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            if found := re.search(r"http://[\w.:\[\]]+", line):
                url = found[0].rstrip("/").removesuffix("/v1")
                break
        else:
            sys.exit(f"agentft serve ended with {process.wait()}")
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            try:
                if httpx.get(f"{url}/health").status_code == 200:
                    break
            except httpx.HTTPError:
                pass
            time.sleep(0.2)
        yield url
    finally:
        process.terminate()
        process.wait(timeout=60)


def asked(count: int) -> tuple[list[str], list[str]]:
    """What customers ask: questions of the plugin's practice pool, which no evaluation uses, and 40 others that nobody reviews."""
    from importlib.resources import files

    text = (files("agentft_customer_service") / "data" / "queries.jsonl").read_text("utf-8")
    rows = [json.loads(line) for line in text.splitlines()]
    found = [row["messages"][-1]["content"] for row in rows if row["meta"]["persona"] == "support" and row["meta"]["language"] == "en"]
    # Every third question of the pool, so that all kinds of questions are among them.
    ordered = [found[index] for start in range(3) for index in range(start, len(found), 3)]
    return ordered[:count], ordered[count : count + 40]


def ask(url: str, question: str) -> dict:
    model = httpx.get(f"{url}/v1/models").json()["data"][0]["id"]
    body = {"model": model, "messages": [{"role": "user", "content": question}], "max_tokens": 96}
    for _ in range(50):
        reply = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=120)
        if reply.status_code != 429:
            break
        time.sleep(float(reply.headers.get("retry-after", 1)))
    reply.raise_for_status()
    return reply.json()


def review(url: str, question: str) -> bool:
    """One conversation and its review; whether the answer was as wished."""
    completion = ask(url, question)
    answer = completion["choices"][0]["message"]["content"].strip()
    if not answer:
        return False
    good = all(wishes(answer).values())
    said = {"thumb": "up"} if good else {"thumb": "down", "words": WORDS, "edit": as_wished(answer)}
    reply = httpx.post(f"{url}/v1/feedback", json={"completion_id": completion["id"], "rater": "reviewer", **said}, timeout=60)
    reply.raise_for_status()
    return good


def wishes(answer: str) -> dict[str, bool]:
    last = sentences(answer)[-1].lower() if sentences(answer) else ""
    return {"offers the ticket": "ticket number" in answer.lower(), "asks for more": "anything else" in last and last.endswith("?")}


def sentences(answer: str) -> list[str]:
    return [one for one in re.split(r"(?<=[.!?])\s+", answer.strip()) if one]


def as_wished(answer: str) -> str:
    """The answer with its own closing words and unfinished ends left out, and what was missing put in."""
    body = [one for one in sentences(answer) if one[-1] in ".!?" and not one.endswith("?")]
    closing = re.compile(r"anything else|let me know|happy to help|feel free|here to help|ticket number", re.IGNORECASE)
    return " ".join([*[one for one in body if not closing.search(one)][:4], TICKET, MORE])


def measured(url: str, questions: list[str], clients: int) -> dict[str, object]:
    """The version in use, and how many answers fulfil each wish."""
    version = httpx.get(f"{url}/v1/agents").json()["data"][0]["version"]
    with ThreadPoolExecutor(clients) as people:
        answers = [one["choices"][0]["message"]["content"] for one in people.map(lambda question: ask(url, question), questions)]
    found = [wishes(one) for one in answers]
    print(f"\nfor example: {questions[0]}\n          -> {answers[0].strip()}")
    return {"version": version} | {name: sum(one[name] for one in found) for name in found[0]}


if __name__ == "__main__":
    main()
