"""One tokenizer's chat template as text: where a turn begins, what ends it, and what the template cannot do.

Everything is found out by rendering probe conversations, never by knowing the name of a model.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from jinja2 import TemplateError

from agentft.errors import DataError, RecipeError
from agentft.render.messages import Chat

# Templates that print the date get Llama's own fallback, so that a row is the same on any day. Jinja variables cannot be
# functions in recent versions of transformers, hence a macro; trim_blocks takes away the line break at its end.
_DATE = ("%Y=2024", "%y=24", "%m=07", "%B=July", "%b=Jul", "%d=26", "%A=Friday", "%a=Fri", "%H=12", "%M=00", "%S=00")
_REPLACE = "".join("|replace('{}', '{}')".format(*pair.split("=")) for pair in _DATE)
_PINNED_NOW = f"{{% macro strftime_now(format) %}}{{{{ format{_REPLACE} }}}}{{% endmacro %}}\n"
SYSTEM, QUESTION, ANSWER = "Sysprobe", "Askprobe", "Answerprobe"
_PLAIN = {"role", "content", "name"}  # keys of a message whose values are text
_DEFAULTS = {"date_string": "26 Jul 2024"}
_OURS = {"conversation", "messages", "tools", "tokenize", "add_generation_prompt", "continue_final_message", "chat_template", "return_dict"}


@dataclass(frozen=True)
class Stop:
    """What ends an assistant turn: the token's text, and the text that the template writes after it."""

    text: str
    rest: str = ""
    written: bool = True  # False: the template writes none and the renderer adds it


class ChatTemplate:
    """The chat template of ``tokenizer``, or ``source`` in its place, with fixed ``kwargs``.

    Attributes:
        stop: what ends an ordinary turn.
        scaffold: what the template puts between the generation prompt and the answer, for example an empty
            ``<think>`` block; it is part of what the model learns to write.
        kwargs: as given; ``enable_thinking`` is added, as False, where the template cannot be trained on without.
        system_role: False where a system message is refused, lost, or not at its place in training.
        keeps_history: False where the template renders an earlier assistant turn differently from the last one.

    Raises:
        RecipeError: there is no template, or it cannot be used for training.
    """

    def __init__(self, tokenizer: Any, source: str | None = None, kwargs: Mapping[str, Any] | None = None):
        if not (source or tokenizer.chat_template):
            raise RecipeError("the tokenizer has no chat template: choose an instruction-tuned model or give a chat_template")
        if taken := _OURS & set(kwargs or {}):
            raise RecipeError(f"template_kwargs cannot set '{sorted(taken)[0]}'")
        self.tokenizer = tokenizer
        self.source = source or tokenizer.chat_template
        self.kwargs = dict(kwargs or {})
        self._given = source
        self.added = {index: token.content for index, token in tokenizer.added_tokens_decoder.items()}
        self.bos = ""
        try:
            self.bos = self._missing_bos()
            prompt, completion = self._probe()
        except DataError as error:
            raise RecipeError(f"the chat template cannot be used: {error}") from error
        self.scaffold, found, tail = completion.partition(ANSWER)
        if not found:
            raise RecipeError("the chat template leaves out the assistant's answer")
        self.stop = self._find_stop(tail)
        self.header = (self.added_in(prompt) or [""])[-1]
        self.system_role = self._has_system_role()
        self.keeps_history = self._keeps_history()

    def _probe(self) -> tuple[str, str]:
        """A prompt and what follows it. Switches thinking off where the template cannot be trained on with it."""
        prompt = self.render([_user(QUESTION)], generate=True)
        try:
            return prompt, self._difference(prompt, self.render([_user(QUESTION), _assistant(ANSWER)]))
        except DataError:
            if "enable_thinking" in self.kwargs or "enable_thinking" not in self.text:
                raise
        self.kwargs["enable_thinking"] = False
        return self._probe()

    @property
    def text(self) -> str:
        """The source; several named templates as JSON."""
        return self.source if isinstance(self.source, str) else json.dumps(self.source, sort_keys=True)

    def render(self, chat: Chat, tools: list[dict[str, Any]] | None = None, generate: bool = False) -> str:
        """The text of ``chat``, with the generation prompt at its end if ``generate``."""
        if not chat:
            raise DataError("the conversation begins with the assistant and there is no system prompt: nothing to answer")
        try:
            if tools is None and self._compiled is not None and all(map(_PLAIN.issuperset, chat)):
                text = self._compiled.render(messages=chat, tools=None, documents=None, add_generation_prompt=generate, **self._variables)
            else:
                text = self._by_transformers(chat, tools, generate)
        except (TemplateError, TypeError, ValueError, KeyError) as error:
            raise DataError(f"the chat template refuses the conversation: {error}") from error
        if any(tool["function"]["name"] not in text for tool in tools or ()):
            raise DataError("the chat template does not show tools to the model")
        return self.bos + text

    def _source(self, tools: list[dict[str, Any]] | None) -> str:
        source = self.tokenizer.get_chat_template(self._given, tools)
        return _PINNED_NOW + source if "strftime_now" in source else source

    def _by_transformers(self, chat: Chat, tools: list[dict[str, Any]] | None, generate: bool) -> str:
        return self.tokenizer.apply_chat_template(
            chat, tools=tools, tokenize=False, chat_template=self._source(tools), add_generation_prompt=generate, **_DEFAULTS | self.kwargs
        )

    @property
    def _variables(self) -> dict[str, Any]:
        return {**self._tokens, **_DEFAULTS, **self.kwargs}

    @cached_property
    def _tokens(self) -> dict[str, Any]:
        return dict(self.tokenizer.special_tokens_map)

    @cached_property
    def _compiled(self) -> Any:
        """The template as transformers compiles it, in its sandbox; None where it gives another text than transformers' own call.

        For every message that call copies what the template may see, in case it is no plain text. Our messages are, where they have
        no tool calls, and the copying takes twice as long as the rendering.
        """
        try:
            from transformers.utils.chat_template_utils import _compile_jinja_template

            compiled = _compile_jinja_template(self._source(None))
            for chat, generate in (([_user(QUESTION)], True), ([_user(QUESTION), _assistant(ANSWER)], False)):
                text = compiled.render(messages=chat, tools=None, documents=None, add_generation_prompt=generate, **self._variables)
                if text != self._by_transformers(chat, None, generate):
                    return None
        except (ImportError, TemplateError, TypeError, ValueError, KeyError, AttributeError):
            return None  # a private function of transformers, or a template that refuses the probe
        return compiled

    def completion(self, prompt: str, chat: Chat, tools: list[dict[str, Any]] | None = None) -> str:
        """What the model has to write after ``prompt`` so that it becomes ``chat``: scaffold, answer and stop token."""
        completion = self._difference(prompt, self.render(chat, tools))
        stop = self.tool_form[1] if chat[-1].get("tool_calls") else self.stop
        tail = stop.text + stop.rest if stop.written else stop.rest
        if not completion.endswith(tail):
            raise DataError(f"the chat template does not end the assistant's turn with {tail!r}, as it usually does")
        return completion[: len(completion) - len(tail)] + stop.text

    def _difference(self, prompt: str, whole: str) -> str:
        if whole.startswith(prompt):
            return whole[len(prompt) :]
        # A template whose generation prompt opens a thought (DeepSeek): the answer closes it without having thought.
        before, opened, after = prompt.rpartition("<think>")
        if opened and not after.strip() and whole.startswith(before) and not whole[len(before) :].lstrip().startswith("<think>"):
            return f"\n</think>\n\n{whole[len(before) :]}"
        raise DataError("the chat template renders a conversation with an answer differently from the same conversation waiting for it")

    def added_in(self, text: str) -> list[str]:
        """The added tokens that occur in ``text``, in order."""
        ids = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return [self.added[index] for index in ids if index in self.added]

    def _missing_bos(self) -> str:
        """The text of a BOS token that the model expects and the template does not write."""
        bos = self.tokenizer.bos_token
        if not bos or self.tokenizer("x")["input_ids"][:1] != [self.tokenizer.bos_token_id]:
            return ""
        return "" if self.render([_user(QUESTION)]).startswith(bos) else bos

    def _find_stop(self, tail: str, known: tuple[str, ...] = ()) -> Stop:
        """The token after an answer, by the text that the template writes there.

        The first added token; after a tool call, which has tokens of its own, the first ``known`` one, else the last. If
        there is none, the renderer adds the tokenizer's EOS.
        """
        candidates = self.added_in(tail)
        if not known and candidates:
            return Stop(candidates[0], tail.partition(candidates[0])[2])
        if known and candidates and self.stop.written:
            chosen = next((text for text in candidates if text in known), candidates[-1])
            return Stop(chosen, tail.rpartition(chosen)[2])
        if not self.tokenizer.eos_token:
            raise RecipeError(
                "the chat template writes no stop token after an answer and the tokenizer has no EOS: the model would never stop; "
                "write a special token behind the assistant's content in the chat template"
            )
        return Stop(self.tokenizer.eos_token, "" if known else tail, written=False)

    def _has_system_role(self) -> bool:
        chat = [{"role": "system", "content": SYSTEM}, _user(QUESTION), _assistant(ANSWER)]
        try:
            prompt = self.render(chat[:2], generate=True)
            self.completion(prompt, chat)
        except DataError:
            return False
        return SYSTEM in prompt

    def _keeps_history(self) -> bool:
        chat = [_user(QUESTION), _assistant(ANSWER), _user(QUESTION)]
        first = self.render(chat[:1], generate=True)
        return self.render(chat, generate=True).startswith(first + self.completion(first, chat[:2]))

    @cached_property
    def tool_form(self) -> tuple[bool, Stop]:
        """Whether tool arguments must be JSON text, and what ends a turn that calls a tool.

        Raises:
            DataError: the template does not render tool calls.
        """
        for as_text in (False, True):
            arguments = '{"order": "Argprobe"}' if as_text else {"order": "Argprobe"}
            call = {"id": "call00000", "type": "function", "function": {"name": "look_up", "arguments": arguments}}
            chat = [_user(QUESTION), {**_assistant(""), "tool_calls": [call]}]
            try:
                completion = self._difference(self.render(chat[:1], generate=True), self.render(chat))
            except DataError:
                continue
            head, found, tail = completion.rpartition("Argprobe")
            if found and "look_up" in head:
                return as_text, self._find_stop(tail, (self.stop.text, self.tokenizer.eos_token or self.stop.text))
        raise DataError("the chat template does not render tool calls")


def _user(content: str) -> dict[str, Any]:
    return {"role": "user", "content": content}


def _assistant(content: str) -> dict[str, Any]:
    return {"role": "assistant", "content": content}
