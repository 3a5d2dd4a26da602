"""The persona's system prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agentft.persona import Persona


def system_prompt(persona: Persona, template_text: str) -> str:
    """The exact text that stands in front of every conversation, without white space at its ends.

    Args:
        template_text: source of a Jinja template; see ``Persona.context`` for the names that it can use.

    Raises:
        RecipeError: the template is not valid or uses a name that is not defined.
    """
    from agentft.jinja import render_text

    return render_text(template_text, persona.context(), f"template '{persona.template}'").strip()
