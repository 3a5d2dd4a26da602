"""Which of several servers gets the next request: the least busy one; a dead one is left alone for a while and then tried again."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

LONGEST_PAUSE = 30.0


@dataclass(eq=False)
class Server:
    """One server, and how it has behaved. Times are of ``time.monotonic``.

    Attributes:
        busy: requests that it is working on.
        failed: requests in a row that failed for good.
        seen: it has answered once.
        out_until: gets no request before; ``pauses``: how often in a row that was set.
        down_since: when it was first found unreachable, None while it is not.
        lost: it is not worth waiting for. It is still tried while others work.
    """

    url: str
    busy: int = 0
    failed: int = 0
    seen: bool = False
    out_until: float = 0.0
    pauses: int = 0
    down_since: float | None = None
    lost: bool = False


class Servers:
    """Hands out servers to the threads that send requests.

    Args:
        urls: of the servers.
        give_up: after so many requests in a row that failed for good, a server is lost.
        tries: how often one that never answered is looked for.
        backoff: seconds that one is left alone after it was found dead, doubled each time.
        patience: seconds for which one that has answered before is waited for when it cannot be reached.

    Attributes:
        why: not empty when all servers are lost: the last reason. Nothing more is sent.
    """

    def __init__(self, urls: Sequence[str], give_up: int, tries: int, backoff: float, patience: float):
        self.all = [Server(url) for url in urls]
        self.give_up, self.tries, self.backoff, self.patience = give_up, tries, backoff, patience
        self.why = ""
        self._change = threading.Condition()

    def take(self, avoid: Server | None = None) -> Server | None:
        """The server for a request, rather another one than ``avoid``; waits while all are out. None: all are lost."""
        with self._change:
            while not self.why:
                now = time.monotonic()
                # One request at a time finds out whether a dead server is back.
                ready = [one for one in self.all if one.out_until <= now and not (one.pauses and one.busy)]
                if ready:
                    chosen = min(ready, key=lambda one: (one is avoid, one.busy, one.pauses))
                    chosen.busy += 1
                    return chosen
                left = min((one.out_until for one in self.all if one.out_until > now), default=now + 1.0) - now
                self._change.wait(left)
            return None

    def alive(self, server: Server) -> None:
        """It answered, be it with an error that is the request's own fault."""
        with self._change:
            server.busy -= 1
            server.failed = server.pauses = 0
            server.seen, server.down_since, server.lost = True, None, False
            self._change.notify_all()

    def release(self, server: Server) -> None:
        """The request will be tried again; that says nothing about the server yet."""
        with self._change:
            server.busy -= 1
            self._change.notify_all()

    def failed(self, server: Server, why: str) -> None:
        """A request failed for good."""
        with self._change:
            server.busy -= 1
            server.failed += 1
            if server.failed >= self.give_up:
                server.lost = True
                self._out(server, why)
            self._change.notify_all()

    def unreachable(self, server: Server, why: str) -> None:
        """Nobody is there."""
        with self._change:
            server.busy -= 1
            now = time.monotonic()
            if server.out_until <= now:  # requests that were on their way together count once
                server.down_since = server.down_since or now
                waited = server.pauses + 1 > self.tries if not server.seen else now - server.down_since > self.patience
                server.lost = server.lost or waited
                self._out(server, why)
            self._change.notify_all()

    def stop(self, why: str) -> None:
        """Nothing more is to be sent."""
        with self._change:
            self.why = self.why or why
            self._change.notify_all()

    def _out(self, server: Server, why: str) -> None:
        server.pauses += 1
        server.out_until = time.monotonic() + min(self.backoff * 2 ** (server.pauses - 1), LONGEST_PAUSE)
        if all(one.lost for one in self.all):
            self.why = why
