"""The models that transforms ask: what ``ctx.open_model`` of a data context opens, and what of it belongs into the stage's key."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from agentft.contracts import Backend
from agentft.recipe_parts import ModelUse
from agentft.runs import code_digest

if TYPE_CHECKING:
    from agentft.session import Part, Session


class DataModels:
    """Backends for the transforms of one recipe; a model is loaded once, whoever it plays."""

    def __init__(self, session: Session):
        self.session = session
        self._loaded: dict[str, Any] = {}

    def __call__(self, use: ModelUse | None = None, persona: bool = True) -> Backend:
        """The backend behind ``use`` (None: the recipe's own model), playing the persona or nobody."""
        from agentft.engine.agent import LoadedAgent
        from agentft.engine.generate import TransformersBackend
        from agentft.engine.profile import detect
        from agentft.feedback.prompts import open_model
        from agentft.render.conversation import Renderer

        session, system = self.session, self.session.system_prompt if persona else ""
        tools = session.tools if persona else ()
        if use is not None and (use.url is not None or use.backend is not None):
            host, device = session.host, session.recipe.device
            return open_model(use, resolve=host.resolve_model, device=device, system=system, catalog=session.catalog, tools=tools)
        model = session.host.resolve_model(use.model) if use is not None else session.model
        if model.digest not in self._loaded:
            self._loaded[model.digest] = LoadedAgent.load(model, profile=detect(session.recipe.device))
        agent = self._loaded[model.digest]
        return TransformersBackend(replace(agent, renderer=Renderer(agent.tokenizer, system, tools=tools)))

    def template(self, name: str) -> str:
        """Source of a template in the persona's language."""
        from agentft.feedback.prompts import template_source

        return template_source(self.session.catalog, name, self.session.persona.language, self.session.persona.templates)

    def identity(self, transforms: Sequence[Part]) -> dict[str, Any]:
        """What the rows depend on besides the options, where a transform asks a model; empty where none does."""
        asking = [part for part in transforms if getattr(part.entry.spec, "asks", False)]
        if not asking:
            return {}
        uses = [getattr(part.config, "model", None) for part in asking]
        return {
            "code": code_digest("engine", "render", "rules.py", "data_models.py"),
            "models": [self._digest(use) for use in uses],
            "persona": self.session.persona.digest,
            "system_prompt": self.session.system_prompt,
            "templates": [self.template(part.name) for part in asking if part.name in self.session.catalog.names("template")],
            "device": dict(self.session.recipe.device),
        }

    def _digest(self, use: ModelUse | None) -> str:
        if use is not None and use.url is not None:
            return f"{use.url} {use.model}"
        if use is not None and use.backend is not None:
            from agentft.engine.backends import Choice

            chosen = Choice(self.session.catalog, use.backend)
            return f"{use.backend.model_dump_json()} {chosen.model(use.model, self.session.host.resolve_model).digest}"
        return (self.session.host.resolve_model(use.model) if use is not None else self.session.model).digest

    def close(self) -> None:
        """Let go of the models: training needs the memory."""
        self._loaded.clear()
