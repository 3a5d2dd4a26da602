"""From what a recipe says under ``backend:`` to something that answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from agentft.components import BackendSpec, ModelRef
from agentft.contracts import AgentSource, Backend
from agentft.errors import MissingDependency, Problem, RecipeError
from agentft.recipe_parts import PartUse
from agentft.validation import problems_of

if TYPE_CHECKING:
    from agentft.catalog import Catalog
    from agentft.engine.agent import LoadedAgent


class Choice:
    """A backend as a recipe names it, with validated options.

    Args:
        catalog: where the part is looked up.
        use: the part and its options.

    Attributes:
        loads: it wants the model loaded in this process.
        reads: what its model has to be, see :class:`~agentft.components.BackendSpec`; a backend that hands the work on to another one
            (its option ``backend``) reads what that one reads.

    Raises:
        PluginError: no such part.
        RecipeError: wrong options.
        MissingDependency: the part needs a distribution that is not installed.
    """

    def __init__(self, catalog: Catalog, use: PartUse):
        from agentft.check import missing

        self.catalog, self.entry = catalog, catalog.get("backend", use.use)
        for text, reason in missing(self.entry):
            raise MissingDependency(f"backend '{use.use}': {reason}: pip install '{text}'")
        kind = catalog.config_model(self.entry)
        self.config: Any = None
        if kind is not None:
            try:
                self.config = kind.model_validate(dict(use.options))
            except ValidationError as error:
                raise RecipeError(problems_of(error, kind, _problem, ("backend",))) from None
        elif use.options:
            raise RecipeError(f"backend '{use.use}' takes no options, but got '{next(iter(use.options))}'")
        spec = self.entry.spec
        assert isinstance(spec, BackendSpec)
        inner = getattr(self.config, "backend", None)
        self.loads = spec.loads
        self.reads: str = Choice(catalog, inner).reads if isinstance(inner, PartUse) else spec.reads

    def model(self, reference: str, resolve: Callable[[str], ModelRef]) -> ModelRef:
        """What this backend needs of the model ``reference``; ``resolve`` finds its safetensors."""
        if self.reads == "safetensors":
            return resolve(reference)
        if self.reads == "gguf":
            from agentft.engine.models import resolve_gguf

            return resolve_gguf(reference)
        return ModelRef(reference, "", reference, "server")

    def of(self, agent: LoadedAgent) -> Backend:
        """The backend of a loaded agent, for one that ``loads``."""
        return self.catalog.target(self.entry)(agent, self.config)

    def open(self, source: AgentSource) -> Backend:
        """The backend; the model is loaded if that is what it wants."""
        if not self.loads:
            return self.catalog.target(self.entry)(source, self.config)
        from agentft.engine.agent import LoadedAgent
        from agentft.engine.profile import detect

        profile = detect(source.device)
        return self.of(LoadedAgent.load(source.model, source.adapter, source.system, profile, examples=source.examples, tools=source.tools))


def _problem(path: Any, message: str, hint: str, key: bool) -> Problem:
    return Problem(message, ".".join(map(str, path)), hint=hint)
