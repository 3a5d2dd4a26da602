"""Runs and their stages: content-addressed, atomic, resumable.

A stage's key is the sha256 of {stage, code, config, digests of its inputs, plugin versions}. Its folder
``stages/NAME-KEY`` appears by a rename when it is complete; until then the work lies in ``NAME-KEY.partial``, where
the next try finds it. Files that a stage discovers only while it runs (data files) are recorded with their digests
and looked at again before a hit counts.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from agentft.errors import UserError, did_you_mean

STAGE_FILE = "stage.json"
ABSENT = "(absent)"


def canonical(data: Any) -> str:
    """JSON with sorted keys and no spaces: equal data gives equal text."""
    return json.dumps(data, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def digest(data: Any) -> str:
    return hashlib.sha256(canonical(data).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """sha256 of a file's content; ``missing`` if it is not there."""
    if not path.is_file():
        return "missing"
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@cache
def code_digest(*packages: str) -> str:
    """Digest of the sources of agentft's ``packages`` (``render``, ``train/sft.py`` ...): another code, another key.

    Computed once per process: every evaluator of every arm asks for the same.
    """
    root = Path(__file__).parent
    found: list[Path] = []
    for name in packages:
        place = root / name
        found += sorted(p for p in place.rglob("*") if p.suffix in (".py", ".html", ".css", ".j2", ".jsonl")) if place.is_dir() else [place]
    return digest([[str(path.relative_to(root)), file_digest(path)] for path in found])[:16]


@dataclass(frozen=True)
class StageResult:
    """A completed stage. ``content`` is the digest of its files, which is what later stages depend on."""

    name: str
    key: str
    path: Path
    content: str
    reused: bool
    seconds: float
    why: str
    summary: Mapping[str, Any] = field(default_factory=dict)

    def file(self, name: str) -> StageFile:
        """One file of this stage as an input: a later stage then does not depend on the others."""
        return StageFile(self.name, self.path / name, file_digest(self.path / name))


@dataclass(frozen=True)
class StageFile:
    """One file of a completed stage, with the digest that later keys contain."""

    name: str
    path: Path
    content: str


@dataclass
class Outcome:
    """What a stage's function returns.

    Attributes:
        summary: for the manifest.
        files: what it read on the way; looked at again before a later hit counts.
        retry: part of it failed. This run goes on with it, the next one starts from it and tries the failures again.
    """

    summary: Mapping[str, Any] = field(default_factory=dict)
    files: Sequence[Path] = ()
    retry: bool = False


class Store:
    """All runs below one folder (``--runs``, ``AGENTFT_RUNS`` or ``./runs``)."""

    def __init__(self, root: Path | str | None = None):
        self.root = Path(root or os.environ.get("AGENTFT_RUNS") or "runs").expanduser().absolute()
        self.stages = self.root / "stages"

    @classmethod
    def holding(cls, reference: Path | str, root: Path | str | None = None) -> Store:
        """The store of the run ``reference``: that around it where it is the folder of a run, else the one at ``root``."""
        folder = Path(reference)
        return cls(folder.resolve().parent if (folder / "run.json").is_file() else root)

    def open(self, run_id: str, name: str) -> Run:
        """Create or continue the run ``run_id`` of the recipe ``name``."""
        return Run(self, run_id, name)

    def runs(self) -> list[dict[str, Any]]:
        """Manifests of all runs, the latest first."""
        found = [json.loads(path.read_text("utf-8")) for path in self.root.glob("*/run.json")]
        return sorted(found, key=lambda manifest: manifest["updated"], reverse=True)

    def manifest(self, reference: str) -> dict[str, Any]:
        """The manifest of a run, by id, folder, or recipe name (then the latest).

        Raises:
            UserError: there is none.
        """
        path = Path(reference)
        if (path / "run.json").is_file():
            return json.loads((path / "run.json").read_text("utf-8"))
        runs = self.runs()
        for manifest in runs:
            if reference in (manifest["id"], manifest["name"]):
                return manifest
        names = [manifest["id"] for manifest in runs]
        hint = did_you_mean(reference, names) if names else f"no runs in {self.root} yet: start one with `agentft run RECIPE`"
        raise UserError(f"no run '{reference}' ({hint})")

    def stage_folders(self) -> Iterator[tuple[Path, dict[str, Any]]]:
        for path in sorted(self.stages.glob(f"*/{STAGE_FILE}")):
            yield path.parent, json.loads(path.read_text("utf-8"))

    def unused(self) -> list[Path]:
        """Stage folders that no run refers to, the abandoned partial ones included."""
        used = {stage["folder"] for manifest in self.runs() for stage in manifest["stages"]} | self._of_rounds()
        return [path for path in sorted(self.stages.glob("*")) if path.is_dir() and path.name not in used]

    def _of_rounds(self) -> set[str]:
        """Stage folders that rounds and promoted versions refer to; a roll-back must find them."""
        found: set[str] = set()
        for path in self.root.glob("*/rounds.json"):
            data = json.loads(path.read_text("utf-8"))
            found |= {version["folder"] for version in data["versions"]}
            found |= {folder for row in data["rounds"] for folder in row["stages"].values()}
        return found


class Run:
    """One run: a folder with manifest, recipe and report, and the stages that it used."""

    def __init__(self, store: Store, run_id: str, name: str):
        self.store, self.id, self.name = store, run_id, name
        self.path = store.root / run_id
        self.manifest: dict[str, Any] = {
            "id": run_id,
            "name": name,
            "status": "running",
            "started": _now(),
            "updated": _now(),
            "stages": [],
        }
        self._previous = self._latest_stages()

    def start(self, facts: Mapping[str, Any]) -> None:
        """Create the folder and write what is known before any stage."""
        self.path.mkdir(parents=True, exist_ok=True)
        self.store.stages.mkdir(exist_ok=True)
        self.manifest.update(facts)
        self.save()

    def save(self, status: str | None = None) -> None:
        self.manifest["status"] = status or self.manifest["status"]
        self.manifest["updated"] = _now()
        write_atomic(self.path / "run.json", json.dumps(self.manifest, ensure_ascii=False, indent=1))

    def event(self, event: Any) -> None:
        """Append to ``events.jsonl``."""
        from dataclasses import asdict

        with (self.path / "events.jsonl").open("a", encoding="utf-8") as stream:
            stream.write(json.dumps({"time": _now(), "event": type(event).__name__, **asdict(event)}, ensure_ascii=False) + "\n")

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Only one process works on a store's stages at a time; a second one waits, and says so."""
        from filelock import FileLock, Timeout

        self.store.root.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.store.root / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            print(f"another agentft process works in {self.store.root}; waiting for it to finish", file=sys.stderr, flush=True)
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def stage(
        self,
        name: str,
        parts: Mapping[str, Any],
        inputs: Mapping[str, StageResult | StageFile | str],
        build: Callable[[Path], Outcome],
        announce: Callable[[str, str], None] | None = None,
    ) -> StageResult:
        """The stage's result: found in the store, or built.

        Args:
            name: for example ``data`` or ``train-0``.
            parts: what determines the result besides the inputs (config, code, plugin versions); plain data.
            inputs: earlier stages, or digests of things outside the store (the model).
            build: called with a folder, which may hold the work of an interrupted try. Not called on a hit.
            announce: called with name and reason before ``build``.
        """
        components = {
            "stage": name,
            **parts,
            "inputs": {k: v if isinstance(v, str) else v.content for k, v in inputs.items()},
        }
        base = digest(components)
        uses = list(dict.fromkeys(v.name for v in inputs.values() if not isinstance(v, str)))
        changed: list[str] = []
        again: Path | None = None
        partial = self.store.stages / f"{name}-{base[:16]}.partial"
        for folder, record in self._candidates(name, base):
            changed = [path for path, known in record["files"].items() if file_digest(Path(path)) != known]
            if not changed and not record["retry"]:
                return self._book(folder, record, uses, reused=True, why="unchanged")
            if not changed:
                again = folder
        if again:
            why = "tries again what failed the last time"
        elif partial.exists():
            why = "continued after an interruption"
        else:
            why = self._why(name, components, changed)
        if announce:
            announce(name, why)
        if again and not partial.exists():
            again.rename(partial)
        partial.mkdir(parents=True, exist_ok=True)
        (partial / STAGE_FILE).unlink(missing_ok=True)
        began = time.monotonic()
        outcome = build(partial)
        files = {str(path): file_digest(path) for path in outcome.files}
        record = {
            "name": name,
            "base": base,
            "key": digest([base, files]),
            "components": components,
            "files": files,
            "retry": outcome.retry,
            "uses": uses,
            "content": _folder_digest(partial),
            "summary": dict(outcome.summary),
            "seconds": round(time.monotonic() - began, 3),
            "peak_memory_mb": _peak_memory_mb(),
            "created": _now(),
        }
        write_atomic(partial / STAGE_FILE, json.dumps(record, ensure_ascii=False, indent=1))
        folder = self.store.stages / f"{name}-{record['key'][:16]}"
        if folder.exists():  # the same files again after a change back and forth
            shutil.rmtree(folder)
        partial.rename(folder)
        return self._book(folder, record, uses, reused=False, why=why)

    def adopt(self, folder: str) -> StageResult:
        """Book a stage folder as it is: part of a round that is decided, and so no longer depends on anything.

        Raises:
            UserError: it is gone.
        """
        path = self.store.stages / folder
        if not (path / STAGE_FILE).is_file():
            raise UserError(
                f"the folder {path} of a decided round is gone; restore it, or delete {self.path / 'rounds.json'} to begin anew"
            )
        record = json.loads((path / STAGE_FILE).read_text("utf-8"))
        return self._book(path, record, record.get("uses", []), reused=True, why="part of a decided round")

    def _candidates(self, name: str, base: str) -> Iterator[tuple[Path, dict[str, Any]]]:
        for path in self.store.stages.glob(f"{name}-*/{STAGE_FILE}"):
            record = json.loads(path.read_text("utf-8"))
            if record["base"] == base and not path.parent.name.endswith(".partial"):
                yield path.parent, record

    def _book(self, folder: Path, record: Mapping[str, Any], uses: list[str], *, reused: bool, why: str) -> StageResult:
        stages = [stage for stage in self.manifest["stages"] if stage["name"] != record["name"]]
        stages.append(
            {
                "name": record["name"],
                "folder": folder.name,
                "key": record["key"],
                "content": record["content"],
                "inputs": uses,
                "reused": reused,
                "why": why,
                "seconds": record["seconds"],
                "peak_memory_mb": record.get("peak_memory_mb"),
                "summary": record["summary"],
            }
        )
        self.manifest["stages"] = stages
        if self.path.exists():
            self.save()
        return StageResult(record["name"], record["key"], folder, record["content"], reused, record["seconds"], why, record["summary"])

    def _latest_stages(self) -> dict[str, Path]:
        """Stage name -> folder of the latest run of this recipe name, to say what changed since."""
        for manifest in self.store.runs() if self.store.root.exists() else []:
            if manifest["name"] == self.name:
                return {stage["name"]: self.store.stages / stage["folder"] for stage in manifest["stages"]}
        return {}

    def _why(self, name: str, components: Mapping[str, Any], changed: Sequence[str]) -> str:
        if changed:
            return f"{', '.join(Path(path).name for path in changed[:3])} changed"
        record = self._previous.get(name, Path("?")) / STAGE_FILE
        if not record.is_file():
            return "new"
        before = json.loads(record.read_text("utf-8"))["components"]
        differences = list(explain(before, json.loads(canonical(components))))
        more = f" and {len(differences) - 3} more" if len(differences) > 3 else ""
        return "; ".join(differences[:3]) + more if differences else "its result is no longer stored"


def explain(before: Any, after: Any, path: str = "") -> Iterator[str]:
    """What differs between two JSON values, as ``path: old -> new``, the deepest place each."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in sorted(before.keys() | after.keys()):
            yield from explain(before.get(key, ABSENT), after.get(key, ABSENT), f"{path}.{key}" if path else key)
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for index, (old, new) in enumerate(zip(before, after, strict=True)):
            label = new.get("id", index) if isinstance(new, dict) else index
            yield from explain(old, new, f"{path}.{label}")
    elif before != after:
        if path.startswith("inputs."):
            yield f"{path.removeprefix('inputs.')} changed"
        else:
            yield f"{path}: {_short(before)} -> {_short(after)}"


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else canonical(value)
    return text if len(text) <= 60 else text[:57] + "..."


def write_atomic(path: Path, text: str) -> None:
    """Write so that a reader, or a kill, never sees half a file."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with temporary.open("w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)


def _folder_digest(folder: Path) -> str:
    """Digest of the content of a stage's folder; what differs from run to run (times in ``metrics.jsonl``) does not count."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name not in (STAGE_FILE, "metrics.jsonl"))
    return digest([[str(path.relative_to(folder)), file_digest(path)] for path in files])


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _peak_memory_mb() -> int | None:
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak / (1 << 20 if sys.platform == "darwin" else 1 << 10))
