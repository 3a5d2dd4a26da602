"""Where an export comes from: the paths and facts behind an agent, without loading its model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentft.contracts import ExportJob, GenerationSettings
from agentft.errors import UserError

if TYPE_CHECKING:
    from agentft.host import Host
    from agentft.opened import OpenedRun

KINDS = {"model": "a chat model", "head": "a model with a head", "encoder": "an encoder", "seq2seq": "an encoder-decoder"}


@dataclass(frozen=True)
class Source:
    """An agent to export.

    Attributes:
        job: everything that an exporter needs to know but the folder and the options.
        data: folder with the held-out rows of its run, or None.
        template: digest of the renderer that it was trained with; empty where nobody knows.
        language: ``en`` or ``zh``.
    """

    job: ExportJob
    data: Path | None = None
    template: str = ""
    language: str = "en"
    trained_with: Mapping[str, Any] = field(default_factory=dict)


def source_of(
    reference: str,
    host: Host,
    *,
    runs: Path | str | None = None,
    version: str | None = None,
    base: bool = False,
    persona: str | None = None,
    device: Mapping[str, Any] | None = None,
) -> Source:
    """What is behind an agent: a run (id, folder or recipe name), or what a recipe may name under ``model``.

    Raises:
        UserError: there is no such agent, or it is on a server.
    """
    from agentft.agents import run_named
    from agentft.opened import open_run

    if reference.startswith(("http://", "https://")):
        raise UserError(f"{reference} is a server: its weights are not here, so it cannot be exported")
    if (run := run_named(reference, runs, base, version)) is not None:
        reference, base, version = run
        if persona is not None:
            raise UserError("a run keeps the persona that it was trained with; --persona goes with a model")
        return _of_run(open_run(reference, host, runs, base=base, version=version), host, version, base, device)
    if base or version is not None:
        raise UserError(f"'{reference}' is not a run; only a run has a base model and versions")
    return _of_model(reference, host, persona, device)


def _of_run(run: OpenedRun, host: Host, version: str | None, base: bool, device: Mapping[str, Any] | None) -> Source:
    from agentft.persona import Persona

    manifest, stages, recipe = run.manifest, run.stages, run.manifest["recipe"]
    kind = run.produces if run.last and run.trained else _kind(Path(run.model.path))
    kind = "model" if kind == "examples" else kind
    head = (run.adapter or Path(run.weights.path)) if kind == "head" else None
    generation = recipe["generation"]
    data = run.store.stages / stages["data"]["folder"] if "data" in stages else None
    said = Persona.from_dict(manifest["persona"]) if manifest.get("persona") and kind == "model" else None
    job = ExportJob(
        manifest["name"],
        kind,
        Path(),
        run.weights,
        adapter=run.adapter if kind != "head" else None,
        trained=head,
        system=manifest["system_prompt"] if kind == "model" else "",
        persona=said,
        examples=run.examples,
        options=_options(run, host) if kind == "seq2seq" and run.last else {},
        settings=GenerationSettings(temperature=generation["temperature"], top_p=generation["top_p"], seed=recipe.get("seed", 0)),
        facts=_facts(run, version, base),
        device=dict(device or recipe.get("device") or {}),
    )
    return Source(job, data, run.template if kind == "model" else "", said.language if said else "en")


def _options(run: OpenedRun, host: Host) -> dict[str, Any]:
    """How an encoder-decoder is asked."""
    config, names = run.options(host), ("prefix", "max_target", "num_beams")
    asked = {name: getattr(config, name) for name in names if hasattr(config, name)}
    return asked | {"max_length": run.manifest["recipe"]["data"]["max_length"]}


def _facts(run: OpenedRun, version: str | None, base: bool) -> dict[str, Any]:
    """What the model card says about a run."""
    from agentft.engine.models import find
    from agentft.lineage import Lineage

    manifest, stages, model = run.manifest, run.stages, run.model
    lineage = Lineage(run.store.root / manifest["id"])
    chosen = None
    if lineage.data["versions"] and not base:
        chosen = lineage.versions[version] if version else lineage.current
    arm = "base" if base else chosen.arm if chosen is not None and chosen.name != "start" else "tuned"
    recipe = manifest["recipe"]
    summary = stages["data"]["summary"] if "data" in stages else {}
    found = find(model.reference)
    return {
        "run": manifest["id"],
        "recipe": manifest["name"],
        "version": "base" if base else chosen.name if chosen is not None else "",
        "why": chosen.why if chosen is not None else "",
        "model": {"reference": model.reference, "digest": model.digest, "origin": model.origin, "licence": found.licence if found else ""},
        "train": [] if base else [use if isinstance(use, str) else use.get("use") for use in recipe.get("train") or ()],
        "data": {
            "sources": [{"name": one["name"], "rows": one["used"]} for one in summary.get("sources", ())],
            "splits": dict(summary.get("splits", {})),
        },
        "metrics": _metrics(stages, arm),
        "rounds": [{key: row.get(key) for key in ("round", "state", "sentence")} for row in lineage.rounds],
        "stages": [
            {"name": name, "key": stage["key"][:16]} for name, stage in stages.items() if name.startswith(("data", "train", "round"))
        ],
        "versions": dict(manifest.get("versions", {})),
    }


def _metrics(stages: Mapping[str, Any], arm: str) -> list[dict[str, Any]]:
    """Name, value of the base model and value of this agent, of every score without parts."""
    found: dict[str, dict[str, Any]] = {}
    for column, prefix in (("base", "scores-base-"), ("agent", f"scores-{arm}-")):
        for name, stage in stages.items():
            if name.startswith(prefix):
                for metric, value in stage["summary"].get("scores", {}).items():
                    found.setdefault(metric, {"name": metric})[column] = value
    return [row for row in found.values() if "agent" in row]


def _of_model(reference: str, host: Host, persona: str | None, device: Mapping[str, Any] | None) -> Source:
    from agentft.agents import _persona, _system
    from agentft.engine.exported import read
    from agentft.engine.models import find
    from agentft.persona import Persona

    model = host.resolve_model(reference)
    folder = Path(model.path)
    kind = _kind(folder)
    known, found = read(folder), find(reference)
    who = _persona(persona, {})
    system = _system(who)
    if who is None and known is not None:
        who, system = (Persona.from_dict(known.persona) if known.persona else None), known.system
    shown = folder / "examples"
    name = reference.rstrip("/").rsplit("/", 1)[-1].removesuffix(".gguf")
    facts = {"model": {"reference": reference, "digest": model.digest, "origin": model.origin, "licence": found.licence if found else ""}}
    job = ExportJob(
        name,
        kind,
        Path(),
        model,
        trained=folder if kind == "head" else None,
        system=system,
        persona=who,
        examples=shown if known is not None and shown.is_dir() else None,
        options=dict(known.options) if known is not None else {},
        facts=facts,
        device=dict(device or {}),
    )
    return Source(job, None, "", who.language if who else "en")


def _kind(folder: Path) -> str:
    """``head`` where there is a task, else by the kind of the model."""
    from agentft.engine.heads import family

    if (folder / "task.json").is_file():
        return "head"
    return {"causal": "model", "": "model"}.get(family(str(folder)), family(str(folder)))
