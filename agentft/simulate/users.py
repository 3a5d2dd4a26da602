"""Who plays the user: a script, exact and offline, or a model that is given a goal."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from random import Random
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from agentft.contracts import Backend, GenerationSettings
from agentft.environments import UserTurn
from agentft.errors import RecipeError
from agentft.records import Example, Message, Response
from agentft.simulate.facts import missing
from agentft.simulate.outcome import from_tools, spoken
from agentft.text import sentences

if TYPE_CHECKING:
    from agentft.simulate.scripts import Condition, Leave, UserScript


@runtime_checkable
class AskedUser(Protocol):
    """A user that a model plays: :func:`~agentft.simulate.episodes.run_episodes` asks many of them in one batch.

    ``asks`` gives the prompt for what the user says next (an empty conversation: the first message), ``hears`` the turn that the
    model's answer to it makes.
    """

    backend: Backend
    settings: GenerationSettings

    def asks(self, conversation: Sequence[Message], name: str) -> Example: ...

    def hears(self, response: Response) -> UserTurn: ...


_ASKS = re.compile(
    r"[?？]|\b(?:please|provide|need|tell|give|share|enter|send|confirm|could you|can you|would you|may i|what|which)\b"
    r"|\b(?:let me know|require|without|verify|first)\b"
    r"|请|提供|告诉|告知|需要|麻烦|发给|多少|什么|哪|吗|呢|确认|核实|验证",
    re.IGNORECASE,
)
_REFUSES = re.compile(
    r"\b(?:can(?:'t|not| not)|unable to|not able to|not (?:possible|allowed|permitted|eligible)|won't be able|isn't possible|may not"
    r"|against (?:our|the) (?:policy|rules)|have to decline|must decline|refuse)\b"
    r"|无法|不能|不可以|不允许|没有办法|没法|不符合|抱歉，我们不|违反",
    re.IGNORECASE,
)
_DEFAULT = {
    "en": (
        "I am not sure what you mean. Can you help me with what I asked?",
        "Sorry, that does not answer my question.",
        "So what happens now?",
    ),
    "zh": ("我不太明白，能先帮我处理刚才说的问题吗？", "不好意思，这没有回答我的问题。", "那现在怎么办？"),
}
_GIVES_UP = {"en": "Never mind, I will try another way. Goodbye.", "zh": "算了，我再想别的办法吧。再见。"}


@dataclass(frozen=True)
class _Heard:
    """What the agent did so far. ``now``: its words since the user spoke last; ``words``: all of them; ``turns``: messages of the user."""

    now: str
    words: str
    calls: tuple[Mapping[str, Any], ...]
    turns: int

    @classmethod
    def of(cls, conversation: Sequence[Message]) -> _Heard:
        own = [place for place, message in enumerate(conversation) if message.role == "user" and not from_tools(message)]
        since = conversation[own[-1] + 1 :] if own else conversation
        calls = tuple(call for message in conversation for call in message.tool_calls)
        return cls("\n".join(spoken(since)), "\n".join(spoken(conversation)), calls, len(own))


class ScriptedUser:
    """A user that follows a script, see :class:`agentft.simulate.scripts.UserScript`; the same words for the same conversation.

    On an answer of the agent, in this order: the first of ``leaves`` that holds ends the conversation; the first of the state's
    ``when`` that holds leads to another state, whose words are said; slots that the agent asks for are said, all at once; else the
    next of ``default``. After ``patience`` answers in a row that led nowhere (nothing new was said) the user gives up.

    Args:
        script: the script, or its data. One that is not valid is a fault of every turn, not an exception.
        seed: chooses among wordings.
    """

    def __init__(self, script: UserScript | Mapping[str, Any], seed: int = 0):
        from agentft.simulate.scripts import UserScript, script_from

        self.seed, self._broken, self._script = seed, "", None
        self.state, self._misses, self._said, self._given = "", 0, 0, set[str]()
        try:
            self._script = script if isinstance(script, UserScript) else script_from(script)
            self.state = self._script.start
        except RecipeError as error:
            self._broken = f"broken script: {str(error).splitlines()[0]}"

    def opens(self) -> UserTurn:
        return self._turn(lambda script: self._enter(script, script.start))

    def answers(self, conversation: Sequence[Message]) -> UserTurn:
        return self._turn(lambda script: self._answer(script, _Heard.of(conversation)))

    def _turn(self, say: Any) -> UserTurn:
        if self._script is None:
            return UserTurn("", True, self._broken)
        try:
            return say(self._script)
        except (RecipeError, KeyError) as error:  # a variable or a state that is not there
            return UserTurn("", True, f"broken script: {str(error).splitlines()[0]}")

    def _answer(self, script: UserScript, heard: _Heard) -> UserTurn:
        asked = self._asked(script, heard.now)
        for leave in script.leaves:
            if _holds(leave, heard, asked):
                return UserTurn(self._wording(leave.say, f"leave {script.leaves.index(leave)}"), True)
        for move in script.states[self.state].when:
            if _holds(move, heard, asked):
                return self._enter(script, move.go)
        fresh = [name for name in asked if name not in self._given]
        self._misses = 0 if fresh else self._misses + 1
        if self._misses > script.patience:
            return UserTurn(self._wording(script.gives_up or _GIVES_UP[script.language], "gives up"), True)
        if asked:
            self._given.update(asked)
            between = "" if script.language == "zh" else " "
            return UserTurn(between.join(self._wording(script.slots[name].say, f"slot {name}") for name in asked))
        self._said += 1
        wordings = script.default or _DEFAULT[script.language]
        first = Random(f"{self.seed}:default").randrange(len(_several(wordings)))
        return UserTurn(self._filled(_several(wordings)[(first + self._said) % len(_several(wordings))]))

    def _enter(self, script: UserScript, name: str) -> UserTurn:
        # A state that is entered again leads nowhere new: a script that goes in circles ends by the user's patience or the limit.
        self._misses, self.state = 0, name
        state = script.states[name]
        return UserTurn(self._wording(state.say, f"state {name}"), state.leave)

    def _asked(self, script: UserScript, text: str) -> list[str]:
        """Slots that the agent asks for: named in a sentence that asks."""
        asking = [sentence for sentence in sentences(text) if _ASKS.search(sentence)]
        return [
            name
            for name, slot in script.slots.items()
            if any(re.search(slot.asked or re.escape(name).replace("_", r"[\s_-]?"), sentence, re.IGNORECASE) for sentence in asking)
        ]

    def _wording(self, wordings: str | Sequence[str], what: str) -> str:
        # Drawn by what is said, not one after the other: two agents hear the same words in the same state.
        return self._filled(Random(f"{self.seed}:{what}").choice(_several(wordings)))

    def _filled(self, text: str) -> str:
        from agentft.jinja import render_text

        assert self._script is not None
        return render_text(text, self._script.values, "a wording") if "{{" in text or "{%" in text else text


def _several(wordings: str | Sequence[str]) -> Sequence[str]:
    return (wordings,) if isinstance(wordings, str) else wordings


def _holds(condition: Condition | Leave, heard: _Heard, asked: Sequence[str]) -> bool:
    patterns = _several(condition.agent) if condition.agent is not None else ()
    if patterns and not any(re.search(pattern, heard.now, re.IGNORECASE) for pattern in patterns):
        return False
    if condition.called is not None and not any(_is_call(call, condition.called) for call in heard.calls):
        return False
    if condition.told and missing([_several(group) for group in condition.told], heard.words):
        return False
    if condition.refused and (asked or not _REFUSES.search(heard.now)):
        return False
    return heard.turns >= condition.after


def _is_call(call: Mapping[str, Any], wanted: Any) -> bool:
    if isinstance(wanted, str):
        return call["name"] == wanted
    arguments = call.get("arguments") or {}
    return call["name"] == wanted.name and all(key in arguments and arguments[key] == value for key, value in wanted.arguments.items())


# Ends the words of a model that plays the user.
STOP = "###STOP###"
_FIRST = {"en": "Hello, how can I help you?", "zh": "您好，请问有什么可以帮您？"}
_AS_AGENT = re.compile(
    r"^\W*(?:agent|assistant|support|客服|助手|助理)\s*[:：]|<tool_call>|\"arguments\"\s*:|\b(?:how (?:can|may) i (?:help|assist) you)\b"
    r"|(?:有什么可以|请问需要什么)帮(?:您|你|助)",
    re.IGNORECASE,
)
MOST_REPEATS = 3


class ModelUser:
    """A user that a model plays, from a goal in words.

    The model sees the conversation from the other side: its own words as the assistant's, the agent's as the user's, tools not at
    all. It writes ``###STOP###`` when it has what it wants or gives up. Its mistakes are faults of the simulator: no answer, an empty
    one, one cut at the length limit, words that an agent would say, or the same words three times instead of an end.

    Args:
        backend: what generates, without a persona.
        goal: what the user wants and knows; also how they behave, if that matters.
        seed: of the episode.
        language: ``en`` or ``zh``.
        template: Jinja source with the variables ``goal`` and ``stop``; default: the template ``simulated-user`` of agentft.
        settings: how to decode; default: up to 200 tokens, greedy.
    """

    def __init__(
        self,
        backend: Backend,
        goal: str,
        seed: int = 0,
        *,
        language: str = "en",
        template: str | None = None,
        settings: GenerationSettings | None = None,
    ):
        self.backend, self.goal, self.seed, self.language = backend, goal, seed, "zh" if language == "zh" else "en"
        self.settings = settings or GenerationSettings(max_new_tokens=200)
        self._template = template
        self._last, self._repeats = "", 0

    @cached_property
    def system(self) -> str:
        """What the model is told."""
        from agentft.builtins import shipped
        from agentft.jinja import render_text

        source = self._template
        if source is None:
            from pathlib import Path

            source = Path(shipped("templates", f"simulated_user{'-zh' if self.language == 'zh' else ''}.j2")).read_text("utf-8")
        return render_text(source, {"goal": self.goal, "stop": STOP}, "template 'simulated-user'").strip()

    def asks(self, conversation: Sequence[Message], name: str) -> Example:
        """The conversation from the user's side. ``name``: id of the prompt, from which the seed of its sample is made."""
        turned = [Message("user", _FIRST[self.language])]
        said: list[str] = []
        for place, message in enumerate(conversation):
            if message.role == "user" and not from_tools(message):
                if said:
                    turned.append(Message("user", "\n".join(said)))
                turned.append(Message("assistant", message.content))
                said = []
            elif message.role == "assistant":
                said += spoken(conversation[place : place + 2])[:1]
        if conversation:
            turned.append(Message("user", "\n".join(said) or "..."))
        return Example(f"user:{name}:{self.seed}", (Message("system", self.system), *turned))

    def hears(self, response: Response) -> UserTurn:
        """The turn that the model's answer makes."""
        if response.finish == "error":
            return UserTurn("", True, f"the model that plays the user did not answer: {response.error}")
        text, stop, _ = response.text.partition(STOP)
        text = text.strip()
        if not text and not stop:
            return UserTurn("", True, "the model that plays the user said nothing")
        if response.finish == "length" and not stop:
            return UserTurn(text, True, "the model that plays the user did not come to an end")
        if _AS_AGENT.search(text):
            return UserTurn(text, True, "the model that plays the user spoke as the agent")
        self._repeats = self._repeats + 1 if text == self._last else 1
        self._last = text
        if self._repeats >= MOST_REPEATS and not stop:
            return UserTurn(text, True, f"the model that plays the user said the same words {MOST_REPEATS} times and did not stop")
        return UserTurn(text, bool(stop))

    def opens(self) -> UserTurn:
        return self._alone(())

    def answers(self, conversation: Sequence[Message]) -> UserTurn:
        return self._alone(conversation)

    def _alone(self, conversation: Sequence[Message]) -> UserTurn:
        name = str(sum(message.role == "user" for message in conversation))
        return self.hears(self.backend.generate([self.asks(conversation, name)], self.settings)[0])
