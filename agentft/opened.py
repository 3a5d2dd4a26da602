"""A finished run as those see it who use what it trained: its model, the weights of one version, and what they were made with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentft import arms
from agentft.components import ModelRef
from agentft.errors import UserError
from agentft.host import Host
from agentft.lineage import Lineage
from agentft.runs import StageResult, Store


@dataclass(frozen=True)
class OpenedRun:
    """A run and one of its versions; nothing is loaded.

    Attributes:
        stages: name -> what the manifest says about it.
        last: name of the last training stage, reward models aside.
        model: the base model.
        trained: the stage with the weights of the version; None for the base model, and where the recipe trains nothing.
    """

    store: Store
    manifest: Mapping[str, Any]
    stages: Mapping[str, Any]
    last: str | None
    model: ModelRef
    trained: StageResult | None

    @property
    def produces(self) -> str:
        """What its recipe makes of the model: ``model`` (one that talks), ``head``, ``encoder``, ``seq2seq`` ..."""
        return str(self.stages[self.last]["summary"].get("produces", "model")) if self.last else "model"

    @property
    def weights(self) -> ModelRef:
        return arms.trained_model(self.model, self.trained)

    @property
    def adapter(self) -> Path | None:
        return arms.adapter(self.trained)

    @property
    def examples(self) -> Path | None:
        return arms.examples(self.trained)

    @property
    def template(self) -> str:
        """Digest of the renderer that the rows were made with; empty where there are no rows."""
        return str(self.stages["rows"]["summary"].get("template", "")) if "rows" in self.stages else ""

    def options(self, host: Host) -> Any:
        """The options of the last trainer, with its defaults; None if it takes none."""
        from agentft.recipe import PartUse

        assert self.last is not None
        part = PartUse.model_validate(self.manifest["recipe"]["train"][int(self.last[6:])])
        kind = host.catalog.config_model(host.catalog.get("trainer", part.use))
        return kind.model_validate(dict(part.options)) if kind else None


def open_run(
    reference: Path | str, host: Host, runs: Path | str | None = None, *, base: bool = False, version: str | None = None
) -> OpenedRun:
    """The run behind an id, a folder (of any store) or the name of a recipe.

    Args:
        base: the untrained model.
        version: ``start`` or ``round-N``; default: the champion, that is the last promoted version.

    Raises:
        UserError: no such run or version, nothing trained yet, or the base model is not the one that the run was made with.
    """
    store = Store.holding(reference, runs)
    manifest = store.manifest(str(reference))
    stages = {stage["name"]: stage for stage in manifest["stages"]}
    trained = None if base else _trained(store, manifest, stages, version)
    model = host.resolve_model(manifest["model"]["reference"])
    if model.digest != manifest["model"]["digest"]:
        raise UserError(f"the model '{model.reference}' is not the one that run {manifest['id']} was made with; run the recipe again")
    return OpenedRun(store, manifest, stages, _last_training(stages), model, trained)


def _last_training(stages: Mapping[str, Any]) -> str | None:
    """Name of the last training stage, reward models aside."""
    named = [name for name in stages if name.startswith("train-") and stages[name]["summary"].get("produces") != "reward"]
    return max(named, key=lambda name: int(name[6:]), default=None)


def _trained(store: Store, manifest: Mapping[str, Any], stages: Mapping[str, Any], version: str | None) -> StageResult | None:
    """The stage with the weights of the champion, or of ``version``; None if the recipe trains nothing."""
    lineage = Lineage(store.root / manifest["id"])
    versions = lineage.versions
    if version is not None and version not in versions:
        raise UserError(f"run {manifest['id']} has no version '{version}' (versions: {', '.join(['base', *versions])})")
    if versions:
        chosen = versions[version] if version else lineage.current
        if not chosen.folder:
            return None
        name, key, folder, content, summary = chosen.name, chosen.key, chosen.folder, chosen.content, chosen.summary
    else:
        last = _last_training(stages)
        if last is None:
            if manifest["recipe"].get("train"):
                raise UserError(f"run {manifest['id']} has not trained yet (status: {manifest['status']}); continue it with `agentft run`")
            return None
        found = stages[last]
        name, key, folder, content, summary = last, found["key"], found["folder"], found["content"], found["summary"]
    path = store.stages / folder
    if not path.is_dir():
        raise UserError(f"run {manifest['id']}: the folder of {name} is gone ({path}); run the recipe again")
    return StageResult(name, key, path, content, True, 0.0, "", summary)
