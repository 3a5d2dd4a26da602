"""An OpenAI-compatible server in a thread, that can be told to misbehave."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

# Given the request's number (from 1) and body: (status, headers, body as text or JSON data).
Answer = Callable[[int, dict[str, Any]], tuple[int, dict[str, str], Any]]


def completion(text: str, finish: str = "stop") -> tuple[int, dict[str, str], Any]:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}
    return 200, {}, {"choices": [choice], "usage": {"completion_tokens": len(text.split())}}


@contextmanager
def serving(answer: Answer) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Yields the URL up to ``/v1`` and the list of request bodies that came in. An answer of status 0 hangs up."""
    seen: list[dict[str, Any]] = []
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                seen.append(body | {"_authorization": self.headers.get("Authorization"), "_path": self.path})
                number = len(seen)
            status, headers, data = answer(number, body)
            if status == 0:
                self.connection.close()
                return
            payload = (data if isinstance(data, str) else json.dumps(data)).encode()
            self.send_response(status)
            for name, value in {"Content-Length": str(len(payload)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(payload)

        def log_message(self, *_: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1", seen
    finally:
        server.shutdown()
        server.server_close()
