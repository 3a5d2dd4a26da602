"""Load on the gateway: many clients on loopback, every answer compared with the one computed alone.

    python benchmarks/load.py --seconds 60 --clients 32                    # a model in this process
    python benchmarks/load.py --seconds 60 --clients 32 --behind           # against a server that is killed and comes back

Each client asks for something that tells its answer from all others (its own number in the question), at temperature 0, streamed every
other time. What is checked: no answer is lost, and each is the one that the same question gets when nobody else asks; what is refused
is a 429 with Retry-After, which the client heeds; and the gateway's memory is flat (resident size, the last third beside the first).
With ``--behind`` the gateway stands in front of a second gateway with the model, which is killed (SIGKILL) after a third of the time and is
back a few seconds later: then answers whose stream had begun may end with an error, which is counted, and nothing else.

Ends by itself: every request has a limit, and so has the whole. Prints JSON and a line; leaves with 1 where something is wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
LONGEST = 110.0  # seconds of one request


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="smollm2-135m", help="what to serve: a model, a run; `tiny`: a random one of the tests")
    parser.add_argument("--persona", default="", help="persona of the model")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--questions", type=int, default=64, help="different questions, spread over the clients")
    parser.add_argument("--new-tokens", type=int, default=24)
    parser.add_argument("--running", type=int, default=8, help="answers that the gateway writes at the same time")
    parser.add_argument("--waiting", type=int, default=16, help="answers that may wait; with many clients some are refused")
    parser.add_argument("--behind", action="store_true", help="put a gateway in front of a server that is killed and comes back")
    parser.add_argument("--out", type=Path, help="write the JSON here too")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the servers end with it
    with tempfile.TemporaryDirectory() as folder:
        result = Load(args, Path(folder)).run()
    text = json.dumps(result, indent=2)
    print(text)
    if args.out:
        args.out.write_text(text + "\n", "utf-8")
    print(line(result))
    return 0 if result["ok"] else 1


class Load:
    """One run: start the servers, learn the right answers, load, look."""

    def __init__(self, args: argparse.Namespace, folder: Path):
        self.args, self.folder = args, folder
        self.seconds: list[float] = []
        self.first: list[float] = []
        self.counts: Counter[str] = Counter()
        self.wrong: list[dict[str, str]] = []
        self.rss: list[tuple[float, int]] = []
        self.processes: list[subprocess.Popen[bytes]] = []
        self.expected: dict[str, str] = {}

    def run(self) -> dict[str, Any]:
        args = self.args
        try:
            inner_port, port = free_port(), free_port()
            inner = self.serve(inner_port, [self.model(), *(["--persona", args.persona] if args.persona else [])])
            gateway, url = inner, f"http://127.0.0.1:{inner_port}/v1"
            if args.behind:
                # The inner one takes what the outer one lets through; the outer one decides who is refused.
                gateway = self.serve(port, [f"http://127.0.0.1:{inner_port}/v1", "--limit", "patience=90"])
                url = f"http://127.0.0.1:{port}/v1"
            say("learning the answers")
            asyncio.run(self.learn(url))
            say(f"{args.clients} clients for {args.seconds:g} s")
            watch = threading.Thread(target=self.sample, args=(gateway,), daemon=True)
            watch.start()
            killer = threading.Thread(target=self.kill_and_return, args=(inner, inner_port), daemon=True) if args.behind else None
            if killer:
                killer.start()
            began = time.monotonic()
            asyncio.run(self.load(url))
            took = time.monotonic() - began
            if killer:
                killer.join(60)
            metrics = fetch(url.replace("/v1", "/metrics"))
        finally:
            for process in self.processes:
                process.kill()
                process.wait()
        return self.summary(took, metrics)

    def model(self) -> str:
        if self.args.model != "tiny":
            return str(self.args.model)
        sys.path.insert(0, str(ROOT / "tests"))
        from tiny import tiny_model

        return tiny_model(self.folder / "tiny", max_position_embeddings=2048).path

    def serve(self, port: int, options: list[str]) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "agentft", "serve", *options, "--port", str(port), "--log", "off", "--no-feedback", "--no-page"]
        command += ["--limit", f"running={self.args.running}", "--limit", f"waiting={self.args.waiting}"]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment)
        self.processes.append(process)
        until = time.monotonic() + 120
        while time.monotonic() < until and process.poll() is None:
            try:
                fetch(f"http://127.0.0.1:{port}/health/live")
                return process
            except OSError:
                time.sleep(0.1)
        raise SystemExit(f"the gateway did not start: {' '.join(command)}")

    def question(self, number: int) -> str:
        return f"My name is Client {number} and my order number is NW-{1000 + 37 * number}. Repeat my name and my order number."

    async def learn(self, url: str) -> None:
        """The answer to each question when nobody else asks."""
        import httpx

        async with httpx.AsyncClient(timeout=LONGEST) as client:
            self.name = (await client.get(f"{url}/models")).json()["data"][0]["id"]
            for number in range(self.args.questions):
                kind, text, _ = await self.once(client, url, self.question(number), stream=False)
                if kind != "ok":
                    raise SystemExit(f"question {number} got no answer: {kind} {text}")
                self.expected[self.question(number)] = text

    async def load(self, url: str) -> None:
        import httpx

        limits = httpx.Limits(max_connections=self.args.clients)
        stop = time.monotonic() + self.args.seconds
        async with httpx.AsyncClient(timeout=LONGEST, limits=limits) as client:
            await asyncio.wait_for(
                asyncio.gather(*(self.client(client, url, number, stop) for number in range(self.args.clients))),
                self.args.seconds + 2 * LONGEST,
            )

    async def client(self, client: Any, url: str, number: int, stop: float) -> None:
        """Asks its questions in turn until the time is over; what is refused is asked again later."""
        place = number
        while time.monotonic() < stop:
            text, stream = self.question(place % self.args.questions), bool(place % 2)
            began = time.monotonic()
            kind, said, wait = await self.once(client, url, text, stream)
            self.counts[kind] += 1
            if kind == "ok":
                self.seconds.append(time.monotonic() - began)
                if said != self.expected[text]:
                    self.wrong.append({"asked": text, "expected": self.expected[text], "said": said})
                place += self.args.clients
            elif kind == "refused":
                # As long as it was told, at most what is left; with jitter, so that all do not come back together.
                await asyncio.sleep(min(wait * random.uniform(0.5, 1.0), max(0.0, stop - time.monotonic())))
            else:
                await asyncio.sleep(0.2)

    async def once(self, client: Any, url: str, text: str, stream: bool) -> tuple[str, str, float]:
        """How a request went: ``ok`` and the text; ``refused`` and how long to wait; ``cut`` (it ended in the middle); or what is wrong."""
        import httpx

        body = {"model": self.name, "messages": [{"role": "user", "content": text}], "max_tokens": self.args.new_tokens, "temperature": 0}
        began = time.monotonic()
        try:
            if not stream:
                reply = await client.post(f"{url}/chat/completions", json=body)
                return self.told(reply, reply.json()["choices"][0]["message"]["content"] if reply.status_code == 200 else "")
            async with client.stream("POST", f"{url}/chat/completions", json=body | {"stream": True}) as reply:
                if reply.status_code != 200:
                    await reply.aread()
                    return self.told(reply, "")
                said, ended = "", False
                async for row in reply.aiter_lines():
                    if row == "data: [DONE]":
                        ended = True
                    elif row.startswith("data: "):
                        chunk = json.loads(row[6:])
                        if "error" in chunk:
                            return "cut", str(chunk["error"]["message"]), 0.0
                        if not said:
                            self.first.append(time.monotonic() - began)
                        said += "".join(choice["delta"].get("content") or "" for choice in chunk["choices"])
                return ("ok" if ended else "lost"), said, 0.0
        except httpx.TimeoutException:
            return "hung", "", 0.0
        except httpx.HTTPError as error:
            return "lost", repr(error), 0.0

    def told(self, reply: Any, text: str) -> tuple[str, str, float]:
        if reply.status_code == 200:
            return "ok", text, 0.0
        if reply.status_code == 429:
            wait = reply.headers.get("retry-after", "")
            proper = wait.isdigit() and reply.json()["error"]["code"] == "rate_limit_exceeded"
            return ("refused" if proper else "improper-429"), reply.text, float(wait) if proper else 0.0
        return f"status-{reply.status_code}", reply.text, 0.0

    def sample(self, process: subprocess.Popen[bytes]) -> None:
        import psutil

        try:
            watched = psutil.Process(process.pid)
            while process.poll() is None:
                self.rss.append((time.monotonic(), watched.memory_info().rss))
                time.sleep(0.2)
        except psutil.Error:
            pass

    def kill_and_return(self, process: subprocess.Popen[bytes], port: int) -> None:
        time.sleep(self.args.seconds / 3)
        say("the server behind is killed")
        process.send_signal(signal.SIGKILL)
        process.wait()
        self.killed = time.monotonic()
        self.counts["killed"] += 1
        self.serve(port, [self.model(), *(["--persona", self.args.persona] if self.args.persona else [])])
        self.away = time.monotonic() - self.killed
        say(f"it is back after {self.away:.1f} s")

    def summary(self, took: float, metrics: str) -> dict[str, Any]:
        third = max(1, len(self.rss) // 3)
        first, last = (statistics.median(size for _, size in part) for part in (self.rss[:third], self.rss[-third:]))
        counts = dict(self.counts)
        # Behind a server that dies, what had begun to be said may break off; all else must still be well.
        allowed = {"ok", "refused"} | ({"cut", "killed"} if self.args.behind else set())
        grown = (last - first) / 2**20
        flat = grown <= max(0.05 * first / 2**20, 10.0)
        bad = {kind: count for kind, count in counts.items() if kind not in allowed}
        return {
            "what": vars(self.args) | {"out": None},
            "ok": not self.wrong and not bad and flat and bool(self.seconds),
            "seconds": round(took, 2),
            "answers": counts.get("ok", 0),
            "refused_429": counts.get("refused", 0),
            "cut_off": counts.get("cut", 0),
            "bad": bad,
            "mixed_or_wrong": len(self.wrong),
            "wrong": self.wrong[:3],
            "answers_per_second": round(counts.get("ok", 0) / took, 2),
            "p50_s": quantile(self.seconds, 0.5),
            "p95_s": quantile(self.seconds, 0.95),
            "max_s": quantile(self.seconds, 1.0),
            "first_piece_p50_s": quantile(self.first, 0.5),
            "rss_first_third_mib": round(first / 2**20, 1),
            "rss_last_third_mib": round(last / 2**20, 1),
            "memory_flat": flat,
            "server_away_s": round(getattr(self, "away", 0.0), 1),
            "gateways_count": [row for row in metrics.splitlines() if row.startswith(("agentft_requests_total", "agentft_refusals_total"))],
        }


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def line(result: dict[str, Any]) -> str:
    what = result["what"]
    return (
        f"{'ok' if result['ok'] else 'FAILED'}: {what['clients']} clients, {result['seconds']:g} s: {result['answers']} answers "
        f"({result['answers_per_second']:g}/s), {result['mixed_or_wrong']} wrong, {result['refused_429']} refused with 429, "
        f"{result['cut_off']} cut off, other {result['bad'] or 'none'}; p50 {result['p50_s']} s, p95 {result['p95_s']} s; "
        f"memory {result['rss_first_third_mib']} -> {result['rss_last_third_mib']} MiB"
    )


def quantile(values: list[float], share: float) -> float | None:
    ordered = sorted(values)
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 3) if ordered else None


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def fetch(url: str) -> str:
    import urllib.request

    with urllib.request.urlopen(url, timeout=5) as reply:
        return str(reply.read().decode())


if __name__ == "__main__":
    sys.exit(main())
