"""Which version of an agent is in charge, where it came from, and why: the rounds of a run, and one pointer.

``rounds.json`` in the run's folder is written whole and renamed into place, so a reader or a kill never sees half of it. Rolling back
moves the pointer; versions stay.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from agentft.errors import UserError, did_you_mean
from agentft.runs import Store, write_atomic

FILE = "rounds.json"
START = "start"


@dataclass(frozen=True)
class Version:
    """One version of the agent.

    Attributes:
        name: ``start`` (before any round) or ``round-N``.
        folder: stage folder with the weights, empty for the untrained model; ``summary``: of that stage.
        arm: which arm of the round it was.
        why: the gate's sentence.
        feedback: digest of the pairs that it was trained on.
    """

    name: str
    folder: str
    key: str
    content: str
    summary: Mapping[str, Any]
    arm: str = ""
    why: str = ""
    feedback: str = ""
    created: str = ""


class Lineage:
    """The rounds of one run.

    Args:
        run: folder of the run.
    """

    def __init__(self, run: Path):
        self.path = run / FILE
        self.data: dict[str, Any] = {"current": START, "versions": [], "rounds": [], "moves": []}
        if self.path.is_file():
            self.data = json.loads(self.path.read_text("utf-8"))

    @property
    def versions(self) -> dict[str, Version]:
        return {row["name"]: Version(**row) for row in self.data["versions"]}

    @property
    def current(self) -> Version:
        """The champion."""
        return self.versions[self.data["current"]]

    @property
    def rounds(self) -> list[dict[str, Any]]:
        """Decided rounds: ``round``, ``state``, ``start``, ``sentence``, ``decisions``, ``stages``, ``options`` ..."""
        return self.data["rounds"]

    def begin(self, version: Version) -> None:
        """Note the version before any round. Another one (the training was changed) begins a new lineage."""
        known = self.versions.get(START)
        if known is None or known.content != version.content:
            self.data = {"current": START, "versions": [_plain(version)], "rounds": [], "moves": []}
            self._save()

    def decide(self, record: Mapping[str, Any], promoted: Version | None) -> None:
        """Note the outcome of a round, and move the pointer if a version is promoted. One write: both or neither."""
        self.data["rounds"].append({**record, "decided": now()})
        if promoted is not None:
            self.data["versions"] = [row for row in self.data["versions"] if row["name"] != promoted.name] + [_plain(promoted)]
            self._move(promoted.name, promoted.why)
        self._save()

    def move(self, name: str, why: str) -> Version:
        """Point at another version.

        Raises:
            UserError: there is no such version.
        """
        versions = self.versions
        if name not in versions:
            raise UserError(f"no version '{name}' (versions: {', '.join(versions)}; {did_you_mean(name, versions)})")
        self._move(name, why)
        self._save()
        return versions[name]

    def _move(self, name: str, why: str) -> None:
        self.data["moves"].append({"time": now(), "from": self.data["current"], "to": name, "why": why})
        self.data["current"] = name

    def _save(self) -> None:
        write_atomic(self.path, json.dumps(self.data, ensure_ascii=False, indent=1))


def _plain(version: Version) -> dict[str, Any]:
    return {**vars(version), "summary": dict(version.summary)}


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def lineage_of(store: Store, reference: str) -> tuple[dict[str, Any], Lineage]:
    """Manifest and lineage of a run, by id, folder or recipe name.

    Raises:
        UserError: there is no such run, or it has no rounds.
    """
    manifest = store.manifest(reference)
    found = Lineage(store.root / manifest["id"])
    if not found.data["versions"]:
        raise UserError(f"run {manifest['id']} has no rounds yet; start one with `agentft refine`")
    return manifest, found
