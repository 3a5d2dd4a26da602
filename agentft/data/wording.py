"""How a labelled row is put as an instruction, in English and Chinese, where the recipe says nothing else."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from agentft.text import CJK

# Task -> the words for it. {labels} is filled in with what may be answered, and its line is left out with show_labels: false.
WORDING: dict[str, dict[str, str]] = {
    "en": {
        "classify": "Which class does the text belong to? Answer with the class only.\nClasses: {labels}\n\n{input}",
        "classify several": "Which classes does the text belong to? Answer with the classes only, with commas between them.\n"
        "Classes: {labels}\n\n{input}",
        "rate": "Which number belongs to the text? Answer with the number only, with two decimals.\nNumbers: {labels}\n\n{input}",
        "spans": "Answer the question with words of the text only. Write none if the text does not say.\n\n{input}",
        "tags": "Which names are in the text? Write a line for each: its type, a colon, its words. Write none if there are none.\n"
        "Types: {labels}\n\n{input}",
        "text": "Text: {text}",
        "text pair": "First text: {text}\nSecond text: {pair}",
        "question context": "Text: {context}\n\nQuestion: {question}",
        "separator": ", ",
        "several": ", ",
        "range": "{} to {}",
        "none": "none",
    },
    "zh": {
        "classify": "这段文本属于哪一类？只回答类别。\n类别：{labels}\n\n{input}",
        "classify several": "这段文本属于哪些类别？只回答类别，用顿号隔开。\n类别：{labels}\n\n{input}",
        "rate": "这段文本对应的数值是多少？只回答数字，保留两位小数。\n范围：{labels}\n\n{input}",
        "spans": "只用文本中的原话回答问题。文本没有说明时写“无”。\n\n{input}",
        "tags": "文本中有哪些名称？每个写一行：类型、冒号、原文。没有时写“无”。\n类型：{labels}\n\n{input}",
        "text": "文本：{text}",
        "text pair": "文本一：{text}\n文本二：{pair}",
        "question context": "文本：{context}\n\n问题：{question}",
        "separator": "、",
        "several": "、",
        "range": "{} 到 {}",
        "none": "无",
    },
}
INPUTS = ("text", "pair", "question", "context", "tokens", "input", "labels")
_PLACE = re.compile(r"\{(\w+)\}")
_CHINESE = re.compile(f"[{CJK}，。！？、；：]")


def places(template: str) -> list[str]:
    """Names in braces in ``template``."""
    return _PLACE.findall(template)


def fill(template: str, values: Mapping[str, str]) -> str:
    """``template`` with each ``{name}`` replaced once: braces in a value stay what they are."""
    return _PLACE.sub(lambda found: values.get(found[1], found[0]), template)


def joined(tokens: Sequence[str]) -> str:
    """Words as text: blanks between them, but none between Chinese ones."""
    text = ""
    for token in tokens:
        touching = text and _CHINESE.match(text[-1]) and _CHINESE.match(token[:1])
        text += token if not text or touching else f" {token}"
    return text
