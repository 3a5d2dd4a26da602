"""An OpenAI-compatible server in a thread, that can be told to misbehave."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

# Given the request's number (from 1) and body: (status, headers, body as text or JSON data).
Answer = Callable[[int, dict[str, Any]], tuple[int, dict[str, str], Any]]


def completion(text: str, finish: str = "stop") -> tuple[int, dict[str, str], Any]:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}
    return 200, {}, {"choices": [choice], "usage": {"completion_tokens": len(text.split())}}


def _encoded(data: Any) -> bytes:
    return (data if isinstance(data, str) else json.dumps(data)).encode()


@contextmanager
def serving(answer: Answer, port: int = 0) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Yields the URL up to ``/v1`` and the list of request bodies that came in. An answer of status 0 hangs up; a header
    ``Content-Length`` that promises more than there is makes half an answer; ``data`` may be bytes, or pieces with pauses of 50 ms."""
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
            pieces = [*data] if isinstance(data, tuple) else [data if isinstance(data, bytes) else _encoded(data)]
            payload = b"".join(pieces)
            self.send_response(status)
            for name, value in {"Content-Length": str(len(payload)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            with suppress(OSError):  # the client may have had enough
                for place, piece in enumerate(pieces):
                    time.sleep(0.05 * (place > 0))
                    self.wfile.write(piece)
                    self.wfile.flush()

        def log_message(self, *_: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1", seen
    finally:
        server.shutdown()
        server.server_close()
