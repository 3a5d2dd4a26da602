"""What a long job tells while it works. The pipeline talks to :class:`Progress`; the command line shows it with rich."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any


class Progress:
    """Receives news of a run; this one stays silent (the Python API's default)."""

    def stage(self, name: str, why: str) -> None:
        """A stage starts to work (it was not found in the store); ``why`` says what changed."""

    def reused(self, name: str) -> None:
        """A stage was found in the store."""

    def note(self, text: str) -> None:
        """Something worth reading: the training signal, the device profile."""

    def step(self, done: int, total: int, info: Mapping[str, float] | None = None) -> None:
        """The current stage has done ``done`` of ``total``."""

    def finished(self, name: str, seconds: float) -> None:
        """The current stage is complete."""


class Lines(Progress):
    """Plain lines, for logs and pipes: at most one progress line every ``every`` seconds."""

    def __init__(self, every: float = 15.0):
        self._every, self._last, self._name = every, 0.0, ""

    def stage(self, name: str, why: str) -> None:
        self._name, self._last = name, time.monotonic()
        self._print(f"{name}: {why}")

    def reused(self, name: str) -> None:
        self._print(f"{name}: unchanged, reused")

    def note(self, text: str) -> None:
        self._print(text)

    def step(self, done: int, total: int, info: Mapping[str, float] | None = None) -> None:
        if time.monotonic() - self._last >= self._every:
            self._last = time.monotonic()
            self._print(f"{self._name}: {done}/{total} {_info(info)}".rstrip())

    def finished(self, name: str, seconds: float) -> None:
        if seconds >= 1:  # a stage that took no time needs no second line
            self._print(f"{name}: done in {seconds:.1f} s")

    @staticmethod
    def _print(text: str) -> None:
        print(text, file=sys.stderr, flush=True)


class Bars(Lines):
    """A rich progress bar with rate and time left, on a terminal."""

    def __init__(self) -> None:
        super().__init__()
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        self._columns = [
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[info]}"),
        ]
        self._make = RichProgress
        self._bar: RichProgress | None = None
        self._task: Any = None

    def step(self, done: int, total: int, info: Mapping[str, float] | None = None) -> None:
        if self._bar is None:
            from rich.console import Console

            self._bar = self._make(*self._columns, console=Console(stderr=True), transient=True)
            self._bar.start()
            self._task = self._bar.add_task(self._name, total=total, info="")
        assert self._task is not None
        self._bar.update(self._task, completed=done, total=total, info=_info(info))

    def finished(self, name: str, seconds: float) -> None:
        self.close()
        super().finished(name, seconds)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar, self._task = None, None


def _info(info: Mapping[str, float] | None) -> str:
    names = {"tokens_per_second": "{:.0f} tokens/s", "loss": "loss {:.3f}"}
    return " ".join(names.get(key, key + " {:.4g}").format(value) for key, value in (info or {}).items())


def for_terminal() -> Progress:
    """Bars on a terminal, lines otherwise."""
    return Bars() if sys.stderr.isatty() else Lines()
