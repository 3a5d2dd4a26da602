"""Templates and models that give and use feedback: what a recipe names, found."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, model_validator

from agentft.components import ModelRef
from agentft.contracts import Backend
from agentft.errors import DataError, RecipeError
from agentft.validation import Model

if TYPE_CHECKING:
    from agentft.catalog import Catalog


class ModelUse(Model):
    """A model that judges or revises: in this process, or behind an OpenAI-compatible server."""

    expects: ClassVar[str] = "champion, or a mapping such as {model: NAME} or {url: ..., model: NAME}"

    model: str = Field(min_length=1, description="bundled name, folder, hub id; with `url`: the server's name for it; or `champion`")
    url: str | None = Field(default=None, description="of an OpenAI-compatible server, up to `/v1`")
    key_env: str | None = Field(default=None, description="environment variable that holds the server's key")
    timeout: float = Field(default=60.0, gt=0, description="seconds per request")
    concurrency: int = Field(default=4, ge=1, description="requests at a time")

    @model_validator(mode="before")
    @classmethod
    def _bare_name(cls, data: Any) -> Any:
        return {"model": data} if isinstance(data, str) else data


def template_source(catalog: Catalog, name: str, language: str, chosen: Mapping[str, str] | None = None) -> str:
    """Jinja source of a feedback template (``critique``, ``refine``, ``judge_pair``) in a language.

    The ``-zh`` variant for Chinese; a plugin puts its own in their place with ``replaces``.

    Args:
        chosen: a persona's ``templates``: name -> a template of the catalog, or a ``.j2`` file.

    Raises:
        PluginError: no such template.
        DataError: the file cannot be read.
    """
    if chosen and name in chosen:
        if not chosen[name].endswith(".j2"):
            return catalog.path(catalog.get("template", chosen[name])).read_text("utf-8")
        try:
            return Path(chosen[name]).read_text("utf-8")
        except OSError as error:
            raise DataError(f"template '{name}' of the persona: cannot read {chosen[name]}: {error.strerror or error}") from None
    name = name.replace("_", "-")
    wanted = f"{name}-zh" if language == "zh" and f"{name}-zh" in catalog.names("template") else name
    return catalog.path(catalog.get("template", wanted)).read_text("utf-8")


def open_model(
    use: ModelUse,
    *,
    resolve: Callable[[str], ModelRef],
    device: Mapping[str, Any],
    champion: Callable[[], Backend] | None = None,
) -> Backend:
    """The backend behind a reference, without a persona.

    Raises:
        RecipeError: ``champion`` where there is none.
    """
    if use.model == "champion" and use.url is None:
        if champion is None:
            raise RecipeError("'champion' can only be named inside a round; name a model")
        return champion()
    if use.url is not None:
        from agentft.engine.http import HttpBackend

        return HttpBackend(use.url, use.model, key_env=use.key_env, timeout=use.timeout, concurrency=use.concurrency)
    from agentft.engine.agent import LoadedAgent
    from agentft.engine.generate import TransformersBackend
    from agentft.engine.profile import detect

    return TransformersBackend(LoadedAgent.load(resolve(use.model), profile=detect(device)))
