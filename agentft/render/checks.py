"""The proof that a renderer trains exactly what it serves, on probe conversations, for one tokenizer and template."""

from __future__ import annotations

from itertools import takewhile
from typing import TYPE_CHECKING

from agentft.errors import DataError
from agentft.records import Example, Message
from agentft.render.messages import context_of
from agentft.tool_schema import function_of

if TYPE_CHECKING:
    from agentft.render.conversation import Encoded, Renderer

_TALK = (
    ("Where is my parcel?", "It left our warehouse on Monday."),
    ("我的包裹在哪里？", "您的包裹明天送达。 📦"),
    ("Thanks", "\n  You are welcome.\n"),
)
_TOOLS = {
    "template": "The chat template shows the tools and writes the calls.",
    "folded": "The chat template knows no tools: they are described behind the persona, and calls stand in <tool_call> </tool_call>.",
}
PROBES = (
    Example("one turn", tuple(Message(role, text) for role, text in zip(("user", "assistant"), _TALK[0], strict=True))),
    Example("three turns", tuple(Message(role, text) for pair in _TALK for role, text in zip(("user", "assistant"), pair, strict=True))),
    Example("answer that begins with a line break", (Message("user", "Write a list."), Message("assistant", "\n- one\n- two\n"))),
    Example("empty answer", (Message("user", "Say nothing."), Message("assistant", ""))),
)


def check(renderer: Renderer) -> list[str]:
    """See :meth:`agentft.render.conversation.Renderer.check`."""
    for example in PROBES:
        rows = renderer.training(example)
        turns = [index for index, message in enumerate(example.messages) if message.supervised]
        _require(sum(len(row.spans) for row in rows) == len(turns), example, "not every assistant turn is supervised")
        for row in rows:
            _check_row(renderer, example, row)
        for number, index in enumerate(turns):
            _check_turn(renderer, example, rows[number] if len(rows) > 1 else rows[0], number if len(rows) == 1 else 0, index)
    _check_disarmed(renderer)
    if renderer.tools:
        _check_call(renderer)
    return _facts(renderer)


def _require(holds: bool, example: Example, problem: str) -> None:
    if not holds:
        raise DataError(f"the chat template cannot be trained on: {problem} (probe '{example.id}')")


def _check_row(renderer: Renderer, example: Example, row: Encoded) -> None:
    _require(len(row.input_ids) == len(row.labels), example, "labels and tokens differ in number")
    same = all(label in (-100, token) for label, token in zip(row.labels, row.input_ids, strict=True))
    _require(same, example, "a label is not its token")
    _require(_leading_bos(renderer, row) == _expected_bos(renderer, row), example, "the row does not begin with exactly one BOS token")


def _check_turn(renderer: Renderer, example: Example, row: Encoded, span: int, index: int) -> None:
    """The prompt of a turn, as it is served, is the beginning of its row; what follows is learned up to a stop token."""
    start, end = row.spans[span]
    prompt = renderer.prompt(context_of(example, index - 1))
    size = len(prompt.input_ids)
    _require(row.text[:start] == prompt.text, example, "training text and prompt text differ")
    _require(row.input_ids[:size] == prompt.input_ids, example, "training tokens and prompt tokens differ")
    learned = list(takewhile(lambda label: label != -100, row.labels[size:]))
    _require(bool(learned) and row.labels[size - 1] == -100, example, "the loss mask does not begin where the answer begins")
    _require(learned[-1] in renderer.stop_token_ids, example, "the stop token is not supervised: the model would never stop")
    _require(renderer.answer(learned) == example.messages[index].content.strip(), example, "the supervised tokens are not the answer")
    _require(row.text[start:end].endswith(renderer.template.added[learned[-1]]), example, "the span does not end with the stop token")


def _check_disarmed(renderer: Renderer) -> None:
    """A user who types the template's control tokens adds none to the prompt."""
    control = {index: text for index, text in renderer.template.added.items() if text in renderer.template.text}
    example = Example("typed control tokens", (Message("user", "Hello " + " ".join(control.values())),))
    typed, harmless = (renderer.prompt(one).input_ids for one in (example, Example("harmless", (Message("user", "Hello"),))))
    same = [index for index in typed if index in control] == [index for index in harmless if index in control]
    _require(same, example, "control tokens that a user types reach the model as control tokens")


def _check_call(renderer: Renderer) -> None:
    """A call of the persona's first tool is learned, read back as what it was, and answered in a prompt that is the row's beginning."""
    call = {"name": str(function_of(renderer.tools[0])["name"]), "arguments": {}}
    talk = (
        Message("user", "Go on."),
        Message("assistant", "", tool_calls=(call,)),
        Message("tool", "Done."),
        Message("assistant", "Good."),
    )
    example = Example("a call", talk)
    rows = renderer.training(example)
    spans = [(row, span) for row in rows for span in row.spans]
    _require(len(spans) == 2, example, "not every assistant turn is supervised")
    for (row, (start, _)), index in zip(spans, (1, 3), strict=True):
        asked = context_of(example, index - 1)
        prompt = renderer.prompt(asked)
        size = len(prompt.input_ids)
        _require(row.text[:start] == prompt.text and row.input_ids[:size] == prompt.input_ids, example, "training and prompt differ")
        found = renderer.reading(list(takewhile(lambda label: label != -100, row.labels[size:])), asked)
        _require(found.calls == ((call,) if index == 1 else ()), example, "what is learned is not read back as the call")


def _leading_bos(renderer: Renderer, row: Encoded) -> int:
    bos = renderer.tokenizer.bos_token_id
    return len(list(takewhile(lambda token: token == bos, row.input_ids))) if bos is not None else 0


def _expected_bos(renderer: Renderer, row: Encoded) -> int:
    bos = renderer.tokenizer.bos_token
    return int(bool(bos) and (row.text.startswith(bos) or renderer.tokenizer("x")["input_ids"][0] == renderer.tokenizer.bos_token_id))


def _facts(renderer: Renderer) -> list[str]:
    template, tokenizer = renderer.template, renderer.tokenizer
    row = renderer.training(PROBES[0])[0]
    facts = []
    if renderer.system_mode == "system":
        facts.append("The persona is the system message.")
    else:
        facts.append(
            "The chat template has no usable system role: the persona stands above the first user message, after it an empty line."
        )
    if renderer.system != renderer.given_system:
        facts.append("Special tokens in the system prompt were made ordinary text.")
    if renderer.tools:
        facts.append(_TOOLS[renderer.tool_mode])
    if renderer.mode == "joint":
        facts.append("A conversation is one training row.")
    else:
        facts.append("The chat template rewrites earlier turns: each assistant turn is a training row of its own.")
    if template.stop.written:
        facts.append(f"Each answer ends with '{template.stop.text}', which is learned.")
    else:
        facts.append(f"The chat template marks no end of an answer: '{template.stop.text}' is added to each answer and learned.")
    if template.kwargs != renderer.given_kwargs:
        facts.append("Thinking is switched off (enable_thinking: false): the chat template cannot be trained on with it.")
    if template.scaffold.strip():
        facts.append(f"The model also learns to write {template.scaffold!r} before each answer.")
    if _leading_bos(renderer, row):
        facts.append(
            f"Rows begin with one BOS token '{tokenizer.bos_token}'{', which the chat template leaves out' if template.bos else ''}."
        )
    else:
        facts.append("Rows begin without a BOS token, as the tokenizer does.")
    served = renderer.prompt(context_of(PROBES[1], 4))
    if tokenizer(served.text, add_special_tokens=False)["input_ids"] != served.input_ids:
        facts.append("A server that tokenises a conversation in one piece gets other tokens where an earlier answer begins.")
    unknown = tokenizer.unk_token_id
    if unknown is not None and unknown in tokenizer("您的包裹明天送达", add_special_tokens=False)["input_ids"]:
        facts.append("The tokenizer cannot write Chinese: characters become the unknown token.")
    return facts
