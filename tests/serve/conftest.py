"""Tasks, a persona and the annotation page."""

from __future__ import annotations

from pathlib import Path

import pytest

from agentft.feedback.human import HumanStore
from agentft.persona import Persona
from agentft.records import Example, Message
from agentft.serve.tasks import Task

PERSONA = {
    "name": "clerk",
    "summary": "A clerk",
    "language": "en",
    "role": "A clerk.",
    "policies": [
        {"id": "kind", "text": "Acknowledge the customer's situation in the first sentence."},
        {"id": "safe", "text": "Never ask for passwords, PINs, codes or full card numbers.", "severity": "hard"},
        {"id": "refund", "text": "Name the refund period.", "when": {"prompt": "refund"}},
    ],
}
EVIL = "<script>document.title='owned'</script><img src=x onerror=alert(1)> & \"quotes\""


@pytest.fixture
def tasks() -> list[Task]:
    def task(name: str, question: str, *answers: str) -> Task:
        return Task(name, Example(name, (Message("user", question),)), {f"{name}#{n}": answer for n, answer in enumerate(answers)})

    return [
        task(
            "t1",
            "Where is my refund for order NW-1?",
            "I'm sorry for the wait. A refund takes 5 business days; see My Orders.",
            "It will come.",
        ),
        task("t2", f"Is this safe? {EVIL}", f"{EVIL} yes", "No."),
        task("t3/odd id", "裤子太长，怎么退货？", "请在“我的订单”中申请退货，30天内免费。", "不知道。"),
        task("t4", "Thanks!", "You are welcome. Is there anything else?"),
    ]


@pytest.fixture
def persona() -> Persona:
    return Persona.from_dict(PERSONA)


@pytest.fixture
def store(tmp_path: Path) -> HumanStore:
    return HumanStore(tmp_path / "feedback" / "clerk.jsonl")
