"""Customers of the tasks: a short row becomes the script of a simulated user.

A row names what the customer wants in ``steps``, each with ``say`` (wordings) and ``until`` (what ends it):

* ``done``: the agent made the call ``done`` names (by default the step's write among ``actions``), with its order or customer;
* ``told``: the task's facts were told;
* ``refused``: the agent said no. Where it did not say why, the customer asks once;
* ``answered``: the agent said anything;
* a mapping: a condition as in a script.

After the last step the customer leaves. ``knows`` holds what the customer says when asked: ``email``, ``postcode``, ``order``, ``name``,
and ``yes`` (agrees when the agent asks whether to go ahead); other names are slots as in a script.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_ASKED = {
    "email": r"e-?mail|identi|verify|account (?:details|information|data)|邮箱|邮件|身份|验证|核实",
    "postcode": r"post ?-?code|postal|\bzip\b|identi|verify|account (?:details|information|data)|邮编|邮政编码|身份|验证|核实",
    "name": r"\b(?:your|full|account) name\b|姓名|名字|称呼",
    "order": r"order (?:number|id)|\bwhich (?:order|one)\b|number of (?:the|your) order|订单号|订单编号|哪个订单|哪一单|哪张订单",
    "yes": r"\bshall i\b|\bshould i\b|\bconfirm\b|would you like me|do you want me|go ahead|proceed|is (?:that|this) (?:right|correct|ok)"
    r"|确认|可以吗|对吗|是否",
}
_SAYS = {
    "en": {
        "email": ("It is {}.", "{}", "My email is {}."),
        "postcode": ("{}", "The postcode is {}.", "It's {}."),
        "name": ("{}", "My name is {}."),
        "order": ("It is {}.", "{}", "Order {}."),
        "yes": ("Yes, please go ahead.", "Yes, please.", "Yes, that is right."),
    },
    "zh": {
        "email": ("邮箱是{}。", "{}"),
        "postcode": ("邮编{}。", "邮编是{}。"),
        "name": ("我叫{}。",),
        "order": ("订单号是{}。", "{}"),
        "yes": ("对，请办理。", "是的，麻烦了。"),
    },
}
_BYE = {
    "en": ("Thanks, that is all.", "Great, thank you. Bye.", "Thank you, bye."),
    "zh": ("好的，谢谢，没有别的了。", "谢谢，再见。"),
}
_WHY = {"en": ("Why not?", "Why is that?"), "zh": ("为什么不行？",)}
_PITY = {"en": ("Okay, I see. Bye.", "Pity. Thanks anyway.", "All right, goodbye."), "zh": ("好吧，知道了，再见。",)}
_WAITS = {"en": ("Okay, I will wait for that.", "Thanks, I wait for the call."), "zh": ("好的，我等你们联系。",)}


def script(row: Mapping[str, Any]) -> dict[str, Any]:
    """The script of a row, as data for :class:`agentft.simulate.users.ScriptedUser`."""
    language, steps = row["language"], row["steps"]
    states: dict[str, Any] = {}
    for place, step in enumerate(steps):
        last = place + 1 == len(steps)
        following = "bye" if last else f"step-{place + 2}"
        states[f"step-{place + 1}"] = {"say": step["say"], "when": _ways(row, step, following, last)}
        if step["until"] == "refused":
            states[f"step-{place + 1}-why"] = {"say": list(_WHY[language]), "when": [{"go": following}]}
    refused = steps[-1]["until"] == "refused"
    states["bye"] = {"say": list((_PITY if refused else _BYE)[language]), "leave": True}
    return {
        "goal": row["goal"],
        "language": language,
        "start": "step-1",
        "states": states,
        "slots": {name: _slot(name, value, language) for name, value in row.get("knows", {}).items()},
        "leaves": [{"called": "escalate_to_human", "say": list(_WAITS[language])}],
    }


def _ways(row: Mapping[str, Any], step: Mapping[str, Any], following: str, last: bool) -> list[dict[str, Any]]:
    until = step["until"]
    told = [list(group) for group in row["facts"]]
    if isinstance(until, Mapping):
        return [{**until, "go": following}]
    if until == "answered":
        return [{"go": following}]
    if until == "told":
        return [{"told": told, "go": following}]
    if until == "done":
        return [{"called": _called(step.get("done") or _writes(row)[-1]), "go": following}]
    # The last refusal has to come with its reason, so the customer leaves at once only with both.
    if last:
        name = f"step-{len(row['steps'])}-why"
        return [{"refused": True, "told": told, "go": following}, {"refused": True, "go": name}]
    return [{"refused": True, "go": following}]


def _writes(row: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    from agentft_customer_service.shop.tools import BY_NAME

    return [action for action in row["actions"] if BY_NAME[action["name"]].writes]


def _called(action: Mapping[str, Any]) -> dict[str, Any]:
    """The same tool for the same order or customer: a wrong amount ends the conversation too."""
    keys = {key: value for key, value in action["arguments"].items() if key in ("order_id", "customer_id")}
    return {"name": action["name"], "arguments": keys}


def _slot(name: str, value: Any, language: str) -> dict[str, Any]:
    if isinstance(value, Mapping):
        return dict(value)
    wordings = [wording.format(value) for wording in _SAYS[language][name]]
    return {"say": wordings, "asked": _ASKED[name]}
