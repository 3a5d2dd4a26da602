"""What the plugin contributes. Listing it imports none of its code."""

from __future__ import annotations

from agentft.components import CriticSpec, EnvironmentSpec, EvaluatorSpec, PersonaSpec, SourceSpec, ToolSpec
from agentft.hookspecs import hookimpl

_PACKAGE = "agentft_customer_service"
_PACKAGED = "agentft.data.packaged:PackagedConfig"

_PERSONAS = {
    "support": ("Support of an online shop", "en"),
    "support-zh": ("网店的中文客服", "zh"),
    "banking": ("Support of a retail bank: cards, transfers, accounts", "en"),
    "escalation-desk": ("Desk of an online shop that answers angry customers", "en"),
    "desk": ("Desk of the online shop with tools: orders, refunds, returns, accounts", "en"),
    "base": ("Rules that the English personas share; extend it for your own", "en"),
}


@hookimpl
def agentft_personas() -> list[PersonaSpec]:
    return [
        PersonaSpec(name, summary, f"{_PACKAGE}:personas/{name}.yaml", language=language) for name, (summary, language) in _PERSONAS.items()
    ]


@hookimpl
def agentft_sources() -> list[SourceSpec]:
    return [
        SourceSpec("dialogues", "Demonstrated conversations with customers", f"{_PACKAGE}.sources:dialogues", _PACKAGED),
        SourceSpec("prompts", "Messages of customers without an answer", f"{_PACKAGE}.sources:prompts", _PACKAGED, produces="prompt"),
        SourceSpec(
            "queries",
            "Messages of customers to practise on in refinement rounds",
            f"{_PACKAGE}.sources:queries",
            _PACKAGED,
            produces="prompt",
            practice=True,
        ),
        SourceSpec(
            "tool-dialogues",
            "Conversations at the shop's desk with tool calls, drawn from a seed",
            f"{_PACKAGE}.shop.dialogues:tool_dialogues",
            f"{_PACKAGE}.shop.dialogues:ToolDialoguesConfig",
        ),
    ]


@hookimpl
def agentft_critics() -> list[CriticSpec]:
    return [CriticSpec("policy", "Hand-over where it is due and only there, courtesy, no faults of tone", f"{_PACKAGE}.critic:policy")]


@hookimpl
def agentft_evaluators() -> list[EvaluatorSpec]:
    return [
        EvaluatorSpec("policy", "Substance and hard items of the checklist, beyond form", f"{_PACKAGE}.policy:policy"),
        EvaluatorSpec("resolution", "Facts told, next step named, nothing forbidden done", f"{_PACKAGE}.policy:resolution"),
        EvaluatorSpec("escalation", "Handed over to a human where it must be, and only there", f"{_PACKAGE}.escalation:escalation"),
        EvaluatorSpec("tone", "Courteous, without blame, curtness, shouting, hype or loops", f"{_PACKAGE}.tone:tone"),
    ]


@hookimpl
def agentft_environments() -> list[EnvironmentSpec]:
    return [
        EnvironmentSpec(
            "shop",
            "Customers at the desk of an online shop: orders, refunds, returns, accounts, and rules that forbid some writes",
            f"{_PACKAGE}.shop.suite:shop",
            f"{_PACKAGE}.shop.suite:ShopConfig",
        )
    ]


@hookimpl
def agentft_tools() -> list[ToolSpec]:
    from agentft_customer_service.shop.tools import TOOLS

    return [
        ToolSpec(
            tool.name.replace("_", "-"),
            tool.description,
            f"{_PACKAGE}.shop.session:{tool.name}",
            parameters=tool.parameters,
            function=tool.name,
            writes=tool.writes,
        )
        for tool in TOOLS
    ]
