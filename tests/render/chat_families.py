"""Chat templates of model families as their authors ship them, each with a tiny tokenizer that knows the family's control tokens."""

from __future__ import annotations

import importlib.util
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from agentft.records import Example, Message

SMOLLM2 = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\n"
    "You are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# Mistral-7B-Instruct-v0.3: no generation prompt, and the system message goes into the last user message, but only
# while that is the last message of all.
MISTRAL = """{%- if messages[0]["role"] == "system" %}
    {%- set system_message = messages[0]["content"] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
{%- if not tools is defined %}
    {%- set tools = none %}
{%- endif %}
{%- set user_messages = loop_messages | selectattr("role", "equalto", "user") | list %}
{%- set ns = namespace() %}
{%- set ns.index = 0 %}
{%- for message in loop_messages %}
    {%- set called = message.tool_calls is defined and message.tool_calls is not none %}
    {%- if not (message.role == "tool" or message.role == "tool_results" or called) %}
        {%- if (message["role"] == "user") != (ns.index % 2 == 0) %}
            {{- raise_exception("After the optional system message, conversation roles must alternate user/assistant/user/assistant/...") }}
        {%- endif %}
        {%- set ns.index = ns.index + 1 %}
    {%- endif %}
{%- endfor %}
{{- bos_token }}
{%- for message in loop_messages %}
    {%- if message["role"] == "user" %}
        {%- if tools is not none and (message == user_messages[-1]) %}
            {{- "[AVAILABLE_TOOLS] [" }}
            {%- for tool in tools %}
                {%- set tool = tool.function %}
                {{- '{"type": "function", "function": {' }}
                {%- for key, val in tool.items() if key != "return" %}
                    {%- if val is string %}
                        {{- '"' + key + '": "' + val + '"' }}
                    {%- else %}
                        {{- '"' + key + '": ' + val|tojson }}
                    {%- endif %}
                    {%- if not loop.last %}
                        {{- ", " }}
                    {%- endif %}
                {%- endfor %}
                {{- "}}" }}
                {%- if not loop.last %}
                    {{- ", " }}
                {%- else %}
                    {{- "]" }}
                {%- endif %}
            {%- endfor %}
            {{- "[/AVAILABLE_TOOLS]" }}
        {%- endif %}
        {%- if loop.last and system_message is defined %}
            {{- "[INST] " + system_message + "\\n\\n" + message["content"] + "[/INST]" }}
        {%- else %}
            {{- "[INST] " + message["content"] + "[/INST]" }}
        {%- endif %}
    {%- elif message.tool_calls is defined and message.tool_calls is not none %}
        {{- "[TOOL_CALLS] [" }}
        {%- for tool_call in message.tool_calls %}
            {%- set out = tool_call.function|tojson %}
            {{- out[:-1] }}
            {%- if not tool_call.id is defined or tool_call.id|length != 9 %}
                {{- raise_exception("Tool call IDs should be alphanumeric strings with length 9!") }}
            {%- endif %}
            {{- ', "id": "' + tool_call.id + '"}' }}
            {%- if not loop.last %}
                {{- ", " }}
            {%- else %}
                {{- "]" + eos_token }}
            {%- endif %}
        {%- endfor %}
    {%- elif message["role"] == "assistant" %}
        {{- " " + message["content"]|trim + eos_token}}
    {%- elif message["role"] == "tool_results" or message["role"] == "tool" %}
        {%- if message.content is defined and message.content.content is defined %}
            {%- set content = message.content.content %}
        {%- else %}
            {%- set content = message.content %}
        {%- endif %}
        {{- '[TOOL_RESULTS] {"content": ' + content|string + ", " }}
        {%- if not message.tool_call_id is defined or message.tool_call_id|length != 9 %}
            {{- raise_exception("Tool call IDs should be alphanumeric strings with length 9!") }}
        {%- endif %}
        {{- '"call_id": "' + message.tool_call_id + '"}[/TOOL_RESULTS]' }}
    {%- else %}
        {{- raise_exception("Only user and assistant roles are supported, with the exception of an initial optional system message!") }}
    {%- endif %}
{%- endfor %}
"""
# A template of 2023 without a special token in front of the answer and without anything behind it.
PLAIN = "{% for m in messages %}### {{ m.role }}:\n{{ m.content }}\n\n{% endfor %}{% if add_generation_prompt %}### assistant:\n{% endif %}"


@dataclass(frozen=True)
class Family:
    """What the tests expect of a family.

    Attributes:
        special: special tokens; ``plain``: added tokens that are not special; ``rstrip``: of the special ones, those that
            swallow the white space behind them.
        adds_bos: the tokenizer puts BOS in front of a text.
        scaffold: what the template writes between the generation prompt and the answer.
        trims: the template strips answers.
        tools: tool calls are rendered.
    """

    name: str
    special: str
    stop: str
    eos: str
    bos: str | None = None
    template: str | None = None
    plain: str = ""
    rstrip: str = ""
    adds_bos: bool = False
    scaffold: str = ""
    trims: bool = False
    tools: bool = False
    mode: str = "joint"
    system_mode: str = "system"

    @property
    def source(self) -> str:
        if self.template:
            return self.template
        return (trl_templates() / f"{self.name}.jinja").read_text("utf-8")


def trl_templates() -> Path:
    spec = importlib.util.find_spec("trl")
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent / "chat_templates"


_LLAMA = "<|begin_of_text|> <|end_of_text|> <|start_header_id|> <|end_header_id|> <|eot_id|> <|eom_id|> <|python_tag|>"
_QWEN = "<tool_call> </tool_call> <tool_response> </tool_response> <think> </think>"
_DEEPSEEK = (
    "<｜User｜> <｜Assistant｜> <｜tool▁calls▁begin｜> <｜tool▁calls▁end｜> <｜tool▁call▁begin｜> <｜tool▁call▁end｜> <｜tool▁sep｜>"
)
_DEEPSEEK += " <｜tool▁outputs▁begin｜> <｜tool▁outputs▁end｜> <｜tool▁output▁begin｜> <｜tool▁output▁end｜> <think> </think>"
_PHI = "<|system|> <|user|> <|assistant|> <|end|>"
_IM = "<|im_start|> <|im_end|> <|endoftext|>"
_EMPTY_THOUGHT = "<think>\n\n</think>\n\n"

_ALL = (
    Family("smollm2", _IM, "<|im_end|>", "<|im_end|>", bos="<|im_start|>", template=SMOLLM2),
    Family("llama3", _LLAMA, "<|eot_id|>", "<|eot_id|>", bos="<|begin_of_text|>", adds_bos=True, trims=True),
    Family("llama3_1", _LLAMA, "<|eot_id|>", "<|eot_id|>", bos="<|begin_of_text|>", adds_bos=True, trims=True, tools=True),
    Family("llama3_2", _LLAMA, "<|eot_id|>", "<|end_of_text|>", bos="<|begin_of_text|>", adds_bos=True, trims=True, tools=True),
    Family(
        "mistral",
        "<s> </s> [INST] [/INST] [TOOL_CALLS] [AVAILABLE_TOOLS] [/AVAILABLE_TOOLS] [TOOL_RESULTS] [/TOOL_RESULTS]",
        "</s>",
        "</s>",
        bos="<s>",
        template=MISTRAL,
        adds_bos=True,
        scaffold=" ",
        trims=True,
        tools=True,
        system_mode="folded-into-user",
    ),
    Family(
        "gemma",
        "<bos> <eos> <start_of_turn> <end_of_turn>",
        "<end_of_turn>",
        "<eos>",
        bos="<bos>",
        adds_bos=True,
        trims=True,
        system_mode="folded-into-user",
    ),
    Family("gemma3", "<bos> <eos> <start_of_turn> <end_of_turn>", "<end_of_turn>", "<eos>", bos="<bos>", adds_bos=True, trims=True),
    Family("qwen2_5", _IM, "<|im_end|>", "<|im_end|>", plain=_QWEN, tools=True),
    Family("qwen3", _IM, "<|im_end|>", "<|im_end|>", plain=_QWEN, tools=True, scaffold=_EMPTY_THOUGHT, mode="per-turn"),
    Family("phi3", f"<s> <|endoftext|> {_PHI}", "<|end|>", "<|endoftext|>", bos="<s>", rstrip=_PHI, adds_bos=True),
    Family(
        "gptoss",
        "<|start|> <|end|> <|message|> <|channel|> <|constrain|> <|call|> <|return|> <|endoftext|>",
        "<|return|>",
        "<|return|>",
        tools=True,
        scaffold="<|channel|>final<|message|>",
        mode="per-turn",
    ),
    Family(
        "deepseekv3",
        "<｜begin▁of▁sentence｜> <｜end▁of▁sentence｜>",
        "<｜end▁of▁sentence｜>",
        "<｜end▁of▁sentence｜>",
        bos="<｜begin▁of▁sentence｜>",
        plain=_DEEPSEEK,
        adds_bos=True,
        tools=True,
        scaffold="\n</think>\n\n",
        mode="per-turn",
    ),
    Family(
        "cohere",
        "<BOS_TOKEN> <EOS_TOKEN> <|START_OF_TURN_TOKEN|> <|END_OF_TURN_TOKEN|> <|USER_TOKEN|> <|CHATBOT_TOKEN|> <|SYSTEM_TOKEN|>",
        "<|END_OF_TURN_TOKEN|>",
        "<EOS_TOKEN>",
        bos="<BOS_TOKEN>",
        adds_bos=True,
        trims=True,
    ),
    Family(
        "glm4moe",
        "<|endoftext|> [gMASK] <sop> <|system|> <|user|> <|assistant|> <|observation|>",
        "<|endoftext|>",
        "<|endoftext|>",
        plain=f"{_QWEN} <arg_key> </arg_key> <arg_value> </arg_value>",
        trims=True,
        tools=True,
        scaffold="\n<think></think>\n",
        mode="per-turn",
    ),
    Family("plain", "<s> </s>", "</s>", "</s>", bos="<s>", template=PLAIN, adds_bos=True, scaffold="", mode="per-turn"),
)
# Other versions of TRL ship fewer templates.
FAMILIES = {family.name: family for family in _ALL if family.template or (trl_templates() / f"{family.name}.jinja").is_file()}

_CORPUS = [
    "Where is my parcel? It has been ten days and nobody answers me. I want my money back, please help.",
    "I am sorry about the wait. Your parcel left our warehouse on Monday and will arrive tomorrow. Is there anything else?",
    "system\nuser\nassistant\nmodel\n\nYou are the support agent of a shop.\n\n### user:\n\n",
    "您的包裹明天送达。我的包裹在哪里？请问还有什么可以帮您？",
    "def add(a, b):\n    return a + b\n\n\n- one\n- two\n",
]


@cache
def tokenizer(name: str) -> Any:
    """A byte-level BPE of some 400 tokens with the control tokens of the family; the same object for all tests."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    family = FAMILIES[name]
    backend = Tokenizer(models.BPE())
    # The pattern of Llama 3 and Qwen: line breaks stay together, unlike in GPT-2's.
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(
                Regex(r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"),
                "isolated",
            ),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    backend.train_from_iterator(
        _CORPUS * 3, trainers.BpeTrainer(vocab_size=420, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    )
    backend.add_special_tokens(
        [AddedToken(text, special=True, normalized=False, rstrip=text in family.rstrip.split()) for text in family.special.split()]
    )
    backend.add_tokens([AddedToken(text, special=False, normalized=False) for text in family.plain.split()])
    if family.adds_bos:
        bos = family.bos
        backend.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", pair=f"{bos} $A {bos} $B", special_tokens=[(bos, backend.token_to_id(bos))]
        )
    # pad == eos on purpose: the mask must not come from comparing ids.
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token=family.bos, eos_token=family.eos, pad_token=family.eos, chat_template=family.source
    )


def talk(*texts: str, id: str = "x", **fields: Any) -> Example:
    """A conversation whose turns alternate, the user first."""
    return Example(id, tuple(Message("assistant" if place % 2 else "user", text) for place, text in enumerate(texts)), **fields)


def squeeze(text: str) -> str:
    return re.sub(r"\s+", "", text)
