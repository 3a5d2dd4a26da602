"""Templates and models that give and use feedback: what a recipe names, found."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentft.components import ModelRef
from agentft.contracts import AgentSource, Backend
from agentft.errors import DataError, RecipeError
from agentft.recipe_parts import ModelUse as ModelUse
from agentft.recipe_parts import PartUse

if TYPE_CHECKING:
    from agentft.catalog import Catalog


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
    system: str = "",
    catalog: Catalog | None = None,
    tools: Sequence[Mapping[str, Any]] = (),
) -> Backend:
    """The backend behind a reference, with the system prompt ``system``; without a persona where it is empty.

    Args:
        catalog: where ``use.backend`` is looked up; the built-in parts if None.
        tools: the persona's.

    Raises:
        RecipeError: ``champion`` where there is none.
    """
    if use.model == "champion" and use.url is None:
        if champion is None:
            raise RecipeError("'champion' can only be named inside a round; name a model")
        return champion()
    if use.url is not None:
        from agentft.engine.http import HttpBackend

        return HttpBackend(
            use.url, use.model, system=system, key_env=use.key_env, timeout=use.timeout, concurrency=use.concurrency, tools=tools
        )
    from agentft.engine.backends import Choice

    if catalog is None:
        from agentft.host import Host

        catalog = Host().catalog
    chosen = Choice(catalog, use.backend or PartUse.model_validate("transformers"))
    return chosen.open(AgentSource(chosen.model(use.model, resolve), system, device=device, tools=tools))
