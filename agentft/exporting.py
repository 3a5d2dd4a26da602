"""``agentft export``: write an agent in a form, read it back, compare, and only then call it an export.

Files appear under their name complete and checked. Until then they lie in ``NAME.partial``; what fails the check is left in
``NAME.refused`` with the reason and is not loaded by anything here.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentft.contracts import ExportJob, ExportResult, Tolerance
from agentft.engine.exported import REFUSED
from agentft.errors import MissingDependency, PluginError, UserError, did_you_mean
from agentft.export.check import Agreement, Reference, compare
from agentft.exporting_source import KINDS, Source, source_of
from agentft.progress import Progress

if TYPE_CHECKING:
    from agentft.catalog import Entry
    from agentft.host import Host

REPORT = "export.json"
PROBES = 16


@dataclass(frozen=True)
class Export:
    """What became of an export.

    Attributes:
        path: the folder; of a refused one ``NAME.refused``; of a plan the folder that would be written.
        agreements: one for each program that read it back; none for a plan.
        refused: why it is not to be used, a sentence each; empty: it is good.
        notes, warnings: of the exporter.
        bytes: size of all files; of a plan an estimate, None where nobody knows.
        missing: of a plan: what has to be installed first, as a command.
    """

    form: str
    name: str
    kind: str
    path: Path
    agreements: tuple[Agreement, ...] = ()
    tolerance: Tolerance | None = None
    refused: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    bytes: int | None = None
    seconds: float = 0.0
    missing: str = ""

    @property
    def good(self) -> bool:
        return not self.refused

    def to_dict(self) -> dict[str, Any]:
        lists = {name: list(getattr(self, name)) for name in ("refused", "notes", "warnings")}
        limits = vars(self.tolerance) if self.tolerance else None
        rows = [one.to_dict() for one in self.agreements]
        return {**vars(self), **lists, "path": str(self.path), "agreements": rows, "tolerance": limits}


def export_agent(
    agent: str,
    to: str,
    out: Path | str | None = None,
    *,
    options: Mapping[str, Any] | None = None,
    version: str | None = None,
    base: bool = False,
    persona: str | None = None,
    prompts: Path | str | None = None,
    probes: int = PROBES,
    tolerance: float | None = None,
    min_agreement: float | None = None,
    force: bool = False,
    dry_run: bool = False,
    runs: Path | str | None = None,
    device: Mapping[str, Any] | None = None,
    host: Host | None = None,
    progress: Progress | None = None,
) -> Export:
    """Write an agent in a form that other programs run, and check it.

    Args:
        agent: a run (id, folder or recipe name), a model folder, bundled name, hub id or ``.gguf`` file.
        to: ``merged``, ``adapter``, ``gguf``, ``ollama``, ``int8``, ``onnx``, or a form of a plugin.
        out: folder to write; default ``NAME-FORM`` here.
        options: of the form, such as ``{"dtype": "float32"}``.
        version, base: of a run, as for :func:`agentft.api.load_agent`.
        persona: name or file of a persona, for a model that is no run.
        prompts: JSON-lines file of rows to compare on; default: the held-out rows of the run, else a few general questions.
        probes: how many rows are compared on.
        tolerance: mean KL divergence in nats per position that is allowed (of numbers: the relative difference), instead of the form's own.
        min_agreement: share of positions with the same likeliest output that is needed, instead of the form's own.
        force: replace what is in ``out``, if it is an earlier export.
        dry_run: write nothing; the result says what would be written.
        runs: folder for runs; default ``AGENTFT_RUNS`` or ``./runs``.
        device: overrides of the device profile, for the agent's side of the comparison.
        host: where parts come from; a fresh one if None.
        progress: who is told how far it is.

    Returns: the export; look at :attr:`Export.good`. A refused one raises nothing.

    Raises:
        UserError: the agent cannot be had, or not in this form; a package is missing; the folder is taken or the disk is full.
    """
    from agentft.host import Host

    host, progress = host or Host(), progress or Progress()
    entry = host.catalog.get("exporter", to)
    source = source_of(agent, host, runs=runs, version=version, base=base, persona=persona, device=device)
    kinds: Sequence[str] = getattr(entry.spec, "kinds", ())
    if source.job.kind not in kinds:
        wanted = ", ".join(KINDS.get(kind, kind) for kind in kinds)
        others = ", ".join(one.name for one in host.catalog.entries("exporter") if source.job.kind in getattr(one.spec, "kinds", ()))
        raise UserError(f"--to {to} is for {wanted}; '{source.job.name}' is {KINDS[source.job.kind]}, for which there is: {others}")
    target = Path(out or f"{_file_name(source.job.name)}-{to.replace('/', '-')}").expanduser().absolute()
    job = replace(source.job, config=_config(host, entry, options or {}), out=target)
    plan = Export(to, job.name, job.kind, target, bytes=_estimate(host, entry, job), missing=_missing(entry))
    if dry_run:
        return plan
    if plan.missing:
        raise MissingDependency(f"--to {to} needs packages that are not installed: {plan.missing}")
    _check_target(target, force, plan.bytes)
    return _Exporting(host, entry, source, job, progress).run(
        Path(prompts) if prompts else None, probes, lambda limit: _limits(limit, tolerance, min_agreement)
    )


class _Exporting:
    """One export on its way."""

    def __init__(self, host: Host, entry: Entry, source: Source, job: ExportJob, progress: Progress):
        self.host, self.entry, self.source, self.progress = host, entry, source, progress
        self.target = job.out
        self.partial = job.out.with_name(job.out.name + ".partial")
        self.job = replace(job, out=self.partial, progress=progress.step, note=progress.note)

    def run(self, prompts: Path | None, probes: int, limits: Any) -> Export:
        began = time.monotonic()
        shutil.rmtree(self.partial, ignore_errors=True)  # of a try that was killed
        self.partial.mkdir(parents=True)
        try:
            with tempfile.TemporaryDirectory(prefix="agentft-export-") as folder:
                reference = self._reference(prompts, probes, Path(folder))
                result = self._write()
                limit = limits(result.tolerance)
                agreements = self._compare(result, reference, limit)
            refused = tuple(f"{one.reading}: {text}" for one in agreements for text in one.failures)
            done = Export(
                self.entry.name,
                self.job.name,
                self.job.kind,
                self.target,
                tuple(agreements),
                limit,
                refused,
                result.notes,
                result.warnings,
                sum(path.stat().st_size for path in self.partial.rglob("*") if path.is_file()),
                round(time.monotonic() - began, 1),
            )
            return self._finish(done)
        except BaseException:
            shutil.rmtree(self.partial, ignore_errors=True)
            raise

    def _reference(self, prompts: Path | None, probes: int, folder: Path) -> Reference:
        from agentft.export.probes import records, reference

        began = time.monotonic()
        self.progress.stage("agent", f"its own answers to {probes} held-out rows at most")
        rows = records(self.source.data, prompts, self.source.language, probes)
        found = reference(self.job, rows, folder, self.source.template, self.progress.step)
        self.progress.finished("agent", time.monotonic() - began)
        return found

    def _write(self) -> ExportResult:
        began = time.monotonic()
        self.progress.stage(self.entry.name, f"written to {self.target.name}")
        result = self.host.catalog.target(self.entry)(self.job)
        if not isinstance(result, ExportResult) or not result.readings:
            raise PluginError(
                f"exporter '{self.entry.name}' of {self.entry.distribution} returned no ExportResult with a reading for the check"
            )
        self.progress.finished(self.entry.name, time.monotonic() - began)
        return result

    def _compare(self, result: ExportResult, reference: Reference, limit: Tolerance) -> list[Agreement]:
        found = []
        for opens in result.readings:
            began = time.monotonic()
            self.progress.stage("check", "the files are read back")
            reading = opens(self.partial)
            try:
                found.append(compare(reference, reading, limit, self.progress.step))
            finally:
                reading.close()
            self.progress.finished("check", time.monotonic() - began)
        return found

    def _finish(self, done: Export) -> Export:
        """Card and report into the folder, and the folder to its place."""
        from agentft.export import card
        from agentft.session import versions

        place = self.target if done.good else self.target.with_name(self.target.name + ".refused")
        done = replace(done, path=place)
        facts = {**done.to_dict(), "path": place.name, "versions": dict(versions()), "source": dict(self.job.facts)}
        (self.partial / REPORT).write_text(json.dumps(facts, ensure_ascii=False, indent=1, default=str), "utf-8")
        if done.good:
            (self.partial / "README.md").write_text(card.write(self.job, self.entry.name, done.agreements, done.notes, versions()), "utf-8")
        else:
            (self.partial / REFUSED).write_text("\n".join(done.refused) + "\n", "utf-8")
            for path in list(self.partial.glob("*.gguf")):  # a single file would be copied without what lies beside it
                path.rename(path.with_name(path.name + ".refused"))
        _replace(self.partial, place)
        return done


def _replace(folder: Path, place: Path) -> None:
    """Rename ``folder`` to ``place``; what is there is gone only once the new one is in its place."""
    old = place.with_name(place.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if place.exists():
        place.rename(old)
    folder.rename(place)
    shutil.rmtree(old, ignore_errors=True)


def _check_target(target: Path, force: bool, size: int | None) -> None:
    if target.exists():
        ours = (target / REPORT).is_file() or (target.is_dir() and not any(target.iterdir()))
        if not ours:
            raise UserError(f"{target} exists and is no earlier export, so it is not replaced; choose another --out")
        if not force and any(target.iterdir()):
            raise UserError(f"{target} exists; replace it with --force, or choose another --out")
    parent = next(path for path in target.parents if path.is_dir())
    free = shutil.disk_usage(parent).free
    if size is not None and size * 1.05 > free:
        raise UserError(f"the export needs about {size / 1e9:.2f} GB and {parent} has {free / 1e9:.2f} GB left; choose another --out")


def _config(host: Host, entry: Entry, options: Mapping[str, Any]) -> Any:
    """The validated options of a form."""
    from pydantic import ValidationError

    model = host.catalog.config_model(entry)
    if model is None:
        if options:
            raise UserError(f"--to {entry.name} has no options, so not '{next(iter(options))}' either")
        return None
    unknown = next((name for name in options if name not in model.model_fields), None)
    if unknown is not None:
        raise UserError(f"--to {entry.name} has no option '{unknown}' ({did_you_mean(unknown, model.model_fields)})")
    try:
        return model.model_validate(dict(options))
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"--to {entry.name}: option '{'.'.join(map(str, first['loc']))}': {first['msg']}, not {first['input']!r}") from None


def _estimate(host: Host, entry: Entry, job: ExportJob) -> int | None:
    reference = getattr(entry.spec, "estimate", "")
    return int(host.catalog.resolve(entry, reference)(job)) if reference else None


def _missing(entry: Entry) -> str:
    """The command that installs what a form lacks, or an empty string."""
    from agentft.check import missing

    needed = [f"'{text}'" for text, _ in missing(entry)]
    return f"pip install {' '.join(needed)}" if needed else ""


def _limits(limit: Tolerance, kl: float | None, agreement: float | None) -> Tolerance:
    if kl is not None:
        limit = replace(limit, kl=kl, difference=kl)
    return replace(limit, agreement=agreement) if agreement is not None else limit


def _file_name(name: str) -> str:
    return "".join(sign if sign.isalnum() or sign in "-_." else "-" for sign in name).strip("-.") or "agent"
