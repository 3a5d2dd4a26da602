"""Declarative rules: what a checklist item demands, as data, decided exactly.

A rule is a mapping with one key, for example ``{words: {max: 80}}`` or ``{all: [...]}``. :func:`compile_rule` checks
its shape once, :func:`Rule.check` decides one response. Verdicts carry evidence, because a reader asks "why".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agentft import text as text_tools
from agentft.errors import did_you_mean

PASS, FAIL, NOT_APPLICABLE = "pass", "fail", "n.a."

_SECRET = (
    r"(?:your|the|an?y?)\s+(?:\w+\s+){0,3}?(?:password|passcode|pin(?:\s+(?:code|number))?|cvv|cvc|security\s+code|one-time\s+(?:code|password)"
    r"|otp|verification\s+code|full\s+card\s+number|(?:credit|debit|bank)?\s*card\s+number)\b"
)
_HAND_OVER = (
    r"(?:send|tell|give|provide|share|enter|type|confirm|state|submit|supply|verify|write|read|email|message|post|re(?:ply|spond)\s+with)\b"
)
_POLITE = r"(?:please|kindly|just|simply|also)\s+"
# A request is an imperative (at the start of a clause), a polite question, a stated need, or a plain question.
_ASKS_SECRET = re.compile(
    rf"(?:(?:^|[.!?,;:\n–—]\s*|\b(?:and|then|so)\s+)(?:{_POLITE})*{_HAND_OVER}"
    r"|\b(?:please|(?:could|can|would|will|need|want|ask)\s+you(?:\s+to)?|you(?:['’]ll|\s+will|\s+must|\s+should)?\s+(?:need|have)\s+to"
    rf"|you(?:\s+must|\s+should)|kindly|just)\s+(?:\w+\s+){{0,3}}?{_HAND_OVER}"
    r"|\b(?:i|we)(?:['’]ll|['’]d|\s+will|\s+would|\s+also)?\s+(?:need|require)\b"
    r"|\b(?:may|can|could)\s+(?:i|we)\s+(?:have|get|ask\s+for)\b|\bwhat(?:['’]s|\s+is|\s+are|\s+was)\b)"
    rf"[^.!?\n]{{0,50}}?\b{_SECRET}",
    re.IGNORECASE,
)
# "Please do not send your password" and "never share your PIN" are good advice; a password is typed in where one signs in.
_NEGATED = re.compile(
    r"\b(?:not|never|no\s+need|nobody|no\s+one|without|avoid|reset|change|choose|forgot|new|last\s+(?:four|4))\b|n['’]t\b", re.IGNORECASE
)
_ELSEWHERE = re.compile(
    r"^[^.!?\n]{0,30}?\b(?:on|in|into|at|to)\s+(?:the|our|your|that)\s+(?:[\w-]+\s+){0,3}?(?:page|app|website|site|form|field|screen|terminal|machine|atm|yourself|safe)\b"
    r"|^\s+(?:to\s+yourself|safe|private|secret)\b",
    re.IGNORECASE,
)
_SECRET_ZH = r"(?:密码|验证码|卡号|CVV|安全码)"
_ASKS_SECRET_ZH = re.compile(
    rf"(?:请|麻烦|需要|能否|能不能|可以)[^。！？\n]{{0,12}}?(?:提供|告诉|发送|发给|发来|输入|报|告知|回复|说)[^。！？\n]{{0,10}}?{_SECRET_ZH}"
    rf"|把[^。！？，\n]{{0,8}}?{_SECRET_ZH}[^。！？，\n]{{0,6}}?(?:发|告诉|给|提供|报|说)|(?:你|您)的[^。！？，\n]{{0,6}}?{_SECRET_ZH}(?:是多少|是什么|是几)",
    re.IGNORECASE,
)
_NEGATED_ZH = re.compile(
    r"不|无需|切勿|请勿|别|没有|任何人|新密码|重置|修改|更改|设置|找回|忘记|登录|页面|网页|页上|App|柜员机|后四位", re.IGNORECASE
)


@dataclass(frozen=True)
class Outcome:
    """What a rule decided: ``pass``, ``fail`` or ``n.a.``, and the evidence in words."""

    verdict: str
    evidence: str = ""

    @property
    def passed(self) -> bool:
        return self.verdict == PASS


@dataclass(frozen=True)
class Rule:
    """A compiled rule. ``check(response, meta)`` decides a response; ``meta`` is the prompt's (for ``facts``), with the last message
    of the user under ``prompt`` (for ``echo``)."""

    name: str
    check: Callable[[str, Mapping[str, Any]], Outcome]


def compile_rule(data: Any) -> Rule:
    """Compile the mapping of a persona's ``rule:``.

    Raises:
        ValueError: the shape is wrong; the message says which key and what was expected.
    """
    if not isinstance(data, Mapping) or len(data) != 1:
        raise ValueError("a rule is a mapping with exactly one key, for example {words: {max: 80}}")
    name, argument = next(iter(data.items()))
    if name not in _KINDS:
        raise ValueError(f"unknown rule '{name}' ({did_you_mean(str(name), _KINDS)})")
    return Rule(name, _KINDS[name](argument))


def rule_names() -> list[str]:
    """Names of all rules, sorted."""
    return sorted(_KINDS)


Check = Callable[[str, Mapping[str, Any]], Outcome]


def _decide(passed: bool, evidence: str) -> Outcome:
    return Outcome(PASS if passed else FAIL, evidence)


def _pattern(argument: Any, key: str) -> tuple[re.Pattern[str], str]:
    options = {"pattern": argument} if isinstance(argument, str) else dict(_mapping(argument, key))
    where = options.pop("where", "any")
    ignore_case = options.pop("ignore_case", True)
    pattern = options.pop("pattern", None)
    if options:
        raise ValueError(f"{key}: unknown key '{next(iter(options))}' (known: pattern, where, ignore_case)")
    if where not in ("any", "first-sentence", "last-sentence"):
        raise ValueError(f"{key}.where must be any, first-sentence or last-sentence, not '{where}'")
    if not isinstance(ignore_case, bool):
        raise ValueError(f"{key}.ignore_case must be true or false, not {ignore_case!r}")
    if not isinstance(pattern, str):
        raise ValueError(f"{key} needs a pattern")
    try:
        return re.compile(pattern, re.IGNORECASE if ignore_case else 0), where
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"{key}: not a regular expression: {error} in '{pattern}'") from None


def _scope(response: str, where: str) -> str:
    if where == "any":
        return response
    parts = text_tools.sentences(response)
    return (parts[0] if where == "first-sentence" else parts[-1]) if parts else ""


def _regex(argument: Any) -> Check:
    pattern, where = _pattern(argument, "regex")

    def check(response: str, meta: Mapping[str, Any]) -> Outcome:
        found = pattern.search(_scope(response, where))
        return _decide(bool(found), f"found '{found.group(0)}'" if found else f"nothing matches in {_PLACES[where]}")

    return check


def _not_regex(argument: Any) -> Check:
    pattern, where = _pattern(argument, "not_regex")

    def check(response: str, meta: Mapping[str, Any]) -> Outcome:
        found = pattern.search(_scope(response, where))
        return _decide(not found, f"found '{found.group(0)}'" if found else "")

    return check


_PLACES = {"any": "the text", "first-sentence": "the first sentence", "last-sentence": "the last sentence"}


def _limits(argument: Any, key: str, count: Callable[[str], int]) -> Check:
    options = _mapping(argument, key)
    unknown = set(options) - {"min", "max"}
    if unknown or not options:
        raise ValueError(f"{key} takes min and / or max, not {', '.join(map(str, options)) or 'nothing'}")
    for name, value in options.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise ValueError(f"{key}.{name} must be a whole number >= 0, not {value!r}")
    low, high = options.get("min", 0), options.get("max")
    if high is not None and low > high:
        raise ValueError(f"{key}: min {low} is above max {high}")

    def check(response: str, meta: Mapping[str, Any]) -> Outcome:
        n = count(response)
        return _decide(n >= low and (high is None or n <= high), f"{n} {key}")

    return check


def _contains(argument: Any) -> Check:
    options = _mapping(argument, "contains")
    if len(options) != 1 or next(iter(options)) not in ("any", "all"):
        raise ValueError("contains takes exactly one of any: [...] or all: [...]")
    mode, listed = next(iter(options.items()))
    needles = _strings(listed, f"contains.{mode}")

    def check(response: str, meta: Mapping[str, Any]) -> Outcome:
        low = response.lower()
        missing = [needle for needle in needles if needle.lower() not in low]
        passed = not missing if mode == "all" else len(missing) < len(needles)
        return _decide(passed, "" if passed else f"missing: {', '.join(missing)}")

    return check


def _not_contains(argument: Any) -> Check:
    needles = _strings(argument, "not_contains")

    def check(response: str, meta: Mapping[str, Any]) -> Outcome:
        low = response.lower()
        found = [needle for needle in needles if needle.lower() in low]
        return _decide(not found, f"found '{found[0]}'" if found else "")

    return check


def _language(argument: Any) -> Check:
    if argument not in ("en", "zh"):
        raise ValueError(f"language must be en or zh, not {argument!r}")

    def check(response: str, meta: Mapping[str, Any]) -> Outcome:
        share = text_tools.cjk_share(response)
        return _decide(bool(response.strip()) and (share < 0.1 if argument == "en" else share >= 0.5), f"{share:.0%} Chinese letters")

    return check


def _no_secrets_asked(argument: Any) -> Check:
    if argument is not True:
        raise ValueError("no_secrets_asked takes true")

    def check(response: str, meta: Mapping[str, Any]) -> Outcome:
        for pattern, negated in ((_ASKS_SECRET, _NEGATED), (_ASKS_SECRET_ZH, _NEGATED_ZH)):
            for found in pattern.finditer(response):
                clause = re.split(r"[.!?。！？\n]", response[: found.start() + 1])[-1] + found.group(0)[1:]
                if not negated.search(clause) and not _ELSEWHERE.search(response[found.end() :]):
                    return Outcome(FAIL, f"asks for a secret: '{found.group(0).strip(' .,;:!?')}'")
        return Outcome(PASS)

    return check


def _facts(argument: Any) -> Check:
    options = _mapping(argument, "facts")
    share = options.get("min_share", 1.0)
    if set(options) - {"min_share"} or isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 < share <= 1:
        raise ValueError("facts takes min_share, a number above 0 and up to 1")

    def check(response: str, meta: Mapping[str, Any]) -> Outcome:
        groups = fact_groups(meta)
        if not groups:
            return Outcome(NOT_APPLICABLE, "the prompt names no facts")
        hit, missing = fact_share(response, groups)
        return _decide(hit >= share, f"missing: {'; '.join(missing)}" if missing else "all facts told")

    return check


def _echo(argument: Any) -> Check:
    options = dict(_mapping(argument, "echo"))
    least, where = options.pop("min", 1), options.pop("where", "any")
    if options:
        raise ValueError(f"echo: unknown key '{next(iter(options))}' (known: min, where)")
    if isinstance(least, bool) or not isinstance(least, int) or least < 1:
        raise ValueError(f"echo.min must be a whole number >= 1, not {least!r}")
    if where not in _PLACES:
        raise ValueError(f"echo.where must be any, first-sentence or last-sentence, not '{where}'")

    def check(response: str, meta: Mapping[str, Any]) -> Outcome:
        asked = text_tools.topic_words(str(meta.get("prompt", "")))
        if not asked:
            return Outcome(NOT_APPLICABLE, "the message names nothing")
        found = sorted(asked & text_tools.topic_words(_scope(response, where)))
        return _decide(
            len(found) >= min(least, len(asked)), f"takes up: {', '.join(found)}" if found else f"takes up no word in {_PLACES[where]}"
        )

    return check


def fact_groups(meta: Mapping[str, Any]) -> list[list[str]]:
    """``meta.facts`` as groups of alternatives; a group with one alternative may be written as a bare text."""
    facts = meta.get("facts") or []
    groups = facts if isinstance(facts, (list, tuple)) else [facts]
    return [[str(one) for one in (group if isinstance(group, (list, tuple)) else [group])] for group in groups if group]


def fact_share(response: str, groups: Sequence[Sequence[str]]) -> tuple[float, list[str]]:
    """Share of ``groups`` of which at least one alternative occurs in ``response``, and the groups that do not."""
    low = response.lower()
    missing = [" / ".join(group[:3]) for group in groups if not any(str(one).lower() in low for one in group)]
    return (len(groups) - len(missing)) / len(groups), missing


def _compound(argument: Any, key: str) -> list[Rule]:
    if not isinstance(argument, Sequence) or isinstance(argument, str) or not argument:
        raise ValueError(f"{key} takes a list of rules")
    return [compile_rule(part) for part in argument]


def _all(argument: Any) -> Check:
    rules = _compound(argument, "all")

    def check(response: str, meta: Mapping[str, Any]) -> Outcome:
        decided = [outcome for rule in rules if (outcome := rule.check(response, meta)).verdict != NOT_APPLICABLE]
        failed = [outcome for outcome in decided if not outcome.passed]
        return failed[0] if failed else decided[0] if decided else Outcome(NOT_APPLICABLE)

    return check


def _any(argument: Any) -> Check:
    rules = _compound(argument, "any")

    def check(response: str, meta: Mapping[str, Any]) -> Outcome:
        decided = [outcome for rule in rules if (outcome := rule.check(response, meta)).verdict != NOT_APPLICABLE]
        passed = [outcome for outcome in decided if outcome.passed]
        return passed[0] if passed else decided[-1] if decided else Outcome(NOT_APPLICABLE)

    return check


def _not(argument: Any) -> Check:
    rule = compile_rule(argument)

    def check(response: str, meta: Mapping[str, Any]) -> Outcome:
        outcome = rule.check(response, meta)
        flipped = {PASS: FAIL, FAIL: PASS}.get(outcome.verdict, NOT_APPLICABLE)
        return Outcome(flipped, outcome.evidence)

    return check


def _mapping(argument: Any, key: str) -> Mapping[str, Any]:
    if not isinstance(argument, Mapping):
        raise ValueError(f"{key} takes a mapping, got {type(argument).__name__}")
    return argument


def _strings(argument: Any, key: str) -> list[str]:
    if not isinstance(argument, Sequence) or isinstance(argument, str) or not argument:
        raise ValueError(f"{key} takes a list of texts")
    if not all(isinstance(item, str) and item for item in argument):
        raise ValueError(f"{key}: every entry must be a text that is not empty")
    return list(argument)


_KINDS: dict[str, Callable[[Any], Check]] = {
    "regex": _regex,
    "not_regex": _not_regex,
    "words": lambda argument: _limits(argument, "words", lambda text: len(text_tools.words(text))),
    "sentences": lambda argument: _limits(argument, "sentences", lambda text: len(text_tools.sentences(text))),
    "questions": lambda argument: _limits(argument, "questions", text_tools.questions),
    "contains": _contains,
    "not_contains": _not_contains,
    "language": _language,
    "no_secrets_asked": _no_secrets_asked,
    "facts": _facts,
    "echo": _echo,
    "all": _all,
    "any": _any,
    "not": _not,
}
