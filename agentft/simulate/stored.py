"""Episodes on disk: one JSON line each as they end, and what they were made with, so that a simulation can go on."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentft.environments import Episode, Outcome, Violation
from agentft.errors import DataError
from agentft.records import Message

EPISODES, OPTIONS, PREVIOUS = "episodes.jsonl", "options.json", "episodes.previous.jsonl"


@dataclass(frozen=True)
class Ended:
    """An episode with its outcome."""

    episode: Episode
    outcome: Outcome

    @property
    def key(self) -> tuple[str, int]:
        return self.episode.task, self.episode.trial

    @property
    def kept(self) -> bool:
        """Whether a simulation that goes on takes it over: what failed for want of an answer is tried again."""
        return self.episode.end not in ("agent-error", "user-error")

    @property
    def result(self) -> str:
        """``success``, ``failure`` or ``fault`` (of the user simulator)."""
        return "fault" if self.episode.fault else "success" if self.outcome.success else "failure"

    def to_dict(self) -> dict[str, Any]:
        episode = self.episode
        data = {
            "task": episode.task,
            "trial": episode.trial,
            "result": self.result,
            "checks": dict(self.outcome.checks),
            "detail": self.outcome.detail,
            "end": episode.end,
            "messages": [message.to_dict() for message in episode.messages],
            "wrong": list(episode.wrong),
            "state": episode.state,
            "violations": [{"policy": one.policy, "detail": one.detail} for one in episode.violations],
        }
        return data | {key: getattr(episode, key) for key in ("calls", "malformed", "tool_errors", "tokens", "fault", "error")}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Ended:
        episode = Episode(
            task=data["task"],
            trial=data["trial"],
            messages=tuple(Message.from_dict(message) for message in data["messages"]),
            end=data["end"],
            state=data["state"],
            violations=tuple(Violation(**one) for one in data["violations"]),
            wrong=tuple(data["wrong"]),
            **{key: data[key] for key in ("calls", "malformed", "tool_errors", "tokens", "fault", "error")},
        )
        return cls(episode, Outcome(data["checks"], data["detail"]))


class EpisodeStore:
    """The folder of a simulation.

    Args:
        folder: made if it is not there.
        options: everything that an episode depends on besides task and trial, as JSON data. Where the folder was made with others, its
            episodes are put aside (``episodes.previous.jsonl``) and the simulation starts anew.

    Attributes:
        anew: why it does; empty where it does not.
        done: (task, trial) -> what is taken over.
    """

    def __init__(self, folder: Path, options: Mapping[str, Any]):
        self.folder, self.anew, self.done = folder, "", dict[tuple[str, int], Ended]()
        folder.mkdir(parents=True, exist_ok=True)
        path, given = folder / EPISODES, json.loads(json.dumps(options, ensure_ascii=False, default=str))
        if path.is_file() and path.stat().st_size:
            before = _read_json(folder / OPTIONS)
            if before == given:
                self.done = {one.key: one for one in read_episodes(path) if one.kept}
            else:
                self.anew = "; ".join(differences(before, given)) if before else "there are episodes, but not what they were made with"
                path.replace(folder / PREVIOUS)
        (folder / OPTIONS).write_text(json.dumps(given, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
        self._write(self.done.values())  # without a line that a kill has cut
        self._stream = path.open("a", encoding="utf-8")

    def add(self, one: Ended) -> None:
        """Keep an episode."""
        self._stream.write(json.dumps(one.to_dict(), ensure_ascii=False) + "\n")
        self._stream.flush()
        self.done[one.key] = one

    def finish(self, order: Iterable[tuple[str, int]]) -> list[Ended]:
        """Write the file anew, its episodes once each: those of ``order`` first, and give these."""
        self._stream.close()
        found = [self.done[key] for key in order]
        keys = {one.key for one in found}
        rest = [one for key, one in sorted(self.done.items()) if key not in keys]
        self._write([*found, *rest])
        return found

    def _write(self, ended: Iterable[Ended]) -> None:
        temporary = self.folder / f".{EPISODES}.tmp"
        temporary.write_text("".join(json.dumps(one.to_dict(), ensure_ascii=False) + "\n" for one in ended), encoding="utf-8")
        temporary.replace(self.folder / EPISODES)

    def close(self) -> None:
        self._stream.close()


def read_episodes(path: Path) -> Iterator[Ended]:
    """The episodes of a file, or of a simulation's folder; a last line that a kill has cut is left out.

    Raises:
        DataError: there is no such file, or a line in it is no episode.
    """
    file = path / EPISODES if path.is_dir() else path
    try:
        lines = file.read_text("utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: no episodes can be read ({getattr(error, 'strerror', None) or error})") from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            yield Ended.from_dict(json.loads(line))
        except (ValueError, KeyError, TypeError) as error:
            if any(line.strip() for line in lines[number:]):
                raise DataError(f"{file}:{number}: not an episode ({type(error).__name__}: {error})") from None
        except DataError as error:
            raise DataError(f"{file}:{number}: {error}") from None


def differences(before: Any, now: Any, path: str = "") -> list[str]:
    """What changed between two trees of JSON data: ``temperature: 0 -> 0.7``."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        keys = dict.fromkeys([*before, *now])
        return [line for key in keys for line in differences(before.get(key), now.get(key), f"{path}.{key}" if path else str(key))]
    return [] if before == now else [f"{path}: {_short(before)} -> {_short(now)}"]


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None
