"""A run as the pipeline describes it: realistic numbers, and everything that is awkward to show."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest

ATTACK = "<script>alert('x')</script><img src=https://evil.example/x.png onerror=alert(1)>"
POLICIES = [
    ("brief", "Use at most 75 words and at most one question.", "soft", "form", 0.41, 0.93),
    ("plain", "Write plain English sentences, no lists, no markdown.", "soft", "form", 0.62, 0.99),
    ("acknowledge", "Acknowledge the customer's situation in the first sentence.", "soft", "form", 0.44, 0.94),
    ("facts", "Name the subject of the request and the rule that applies to it.", "soft", "substance", 0.38, 0.52),
    ("next-step", "Name one concrete next step, with where or when it happens.", "soft", "substance", 0.31, 0.83),
    ("escalate", "Hand over to a specialist when the customer mentions legal action, fraud or injury.", "hard", "substance", 0.08, 0.71),
    ("forbidden", "Decline politely what policy forbids and offer what is allowed instead.", "soft", "substance", 0.22, 0.61),
    ("no-secrets", "Never ask for passwords, PINs, codes or full card numbers.", "hard", "substance", 0.97, 0.95),
    ("no-promises", "No guarantees, no legal or medical advice.", "hard", "substance", 0.96, 0.99),
    ("no-placeholders", "Never write placeholders such as [Your Name].", "hard", "form", 0.88, 1.0),
    ("close", "Offer further help in the last sentence.", "soft", "form", 0.35, 0.9),
]
QUESTIONS = [
    "My parcel was due on Monday and the tracking page has not moved for four days. Where is it?",
    "I'd like to return the blue jacket. It fits, I just don't like the colour.",
    "This is the third time I write. Your courier threw a heater over my fence and it is smoking!!! I will call my lawyer.",
    "Can you change the address of order 48213? It has not been sent yet.",
    "You charged me twice for the same order, please check.",
    "Please give me the phone number of the driver.",
]
BASE = [
    "I apologize for the inconvenience. To assist you better, could you please provide the following details:\n"
    "1. Your order number\n2. Your full card number\n3. **The date** of purchase\n\nBest regards,\n[Your Name]",
    "You can return the jacket. We guarantee that you will get your money back. Please contact our customer service team at "
    "1-800-555-0199 or visit our website. Our team will be happy to look into the matter and we are looking forward to",
    "I'm sorry to hear that. I'm here to help. I'm here to help. I'm here to help. I'm here to help. I'm here to help.",
]
TUNED = [
    "I'm sorry that your parcel has not moved for four days. Parcels that stand still for three days are searched for by the "
    "courier; you will see the result on the tracking page within two business days. Is there anything else I can help you with?",
    "Of course, you can return the jacket within 30 days even if you simply don't like it. Start the return under My Orders and "
    "print the label; the refund takes 5 business days after it arrives. Let me know if you need anything else.",
    "That sounds alarming, and I am glad that you wrote. I am handing this to a specialist who will call you today. "
    "Please leave the heater unplugged.",
]
RECIPE = """name: support-agent
model: smollm2-135m
persona: customer-service/support
data:
  sources: [customer-service/dialogues]
  split: {validation: 0.1, test: 0.1, by: group, seed: 7}
train:
  - {use: sft, strategy: {lora: {r: 16}}, epochs: 3}
"""
DECODED = """<|im_start|>system
You are the support agent of Northwind.<|im_end|>
<|im_start|>user
Where is my parcel?<|im_end|>
<|im_start|>assistant
⟦I'm sorry that it is late. You can follow it on the tracking page; it takes two more days. Anything else?<|im_end|>⟧
"""


def comparison(
    name: str, base: float, tuned: float, half: float, verdict: str, direction: str = "higher", unit: str = "share", **more: Any
) -> dict[str, Any]:
    level = half * 1.1
    return {
        "name": name,
        "base": base,
        "tuned": tuned,
        "difference": tuned - base,
        "ci": [tuned - base - half, tuned - base + half],
        "base_ci": [base - level, base + level],
        "tuned_ci": [tuned - level, tuned + level],
        "n": 126,
        "unscored_base": 0,
        "unscored_tuned": 0,
        "p": 0.0004,
        "adjusted_p": 0.0031,
        "smallest_detectable": half * 1.4,
        "verdict": verdict,
        "direction": direction,
        "unit": unit,
        "summary": "",
        **more,
    }


def _item(name: str, base: float, tuned: float) -> dict[str, Any]:
    n = {"escalate": 18, "forbidden": 24}.get(name, 126)
    half = 1.4 / math.sqrt(n)
    verdict = "better" if tuned - base > half else "worse" if base - tuned > half else "inconclusive"
    if name == "no-secrets":
        verdict = "worse"
    return comparison(
        f"persona-adherence/{name}",
        base,
        tuned,
        half,
        verdict,
        n=n,
        tuned_ci=[max(0, tuned - half), min(1, tuned + half)],
        unscored_tuned=2 if n < 20 else 0,
    )


def _verdicts(chance: random.Random, column: int) -> list[dict[str, Any]]:
    evidence = {
        "no-secrets": "asks for a secret: 'Your full card number'",
        "no-placeholders": "found '[Your Name]'",
        "no-promises": "found 'We guarantee'",
        "brief": "91 words",
        "facts": "missing: tracking / parcel; 3 days",
        "close": "nothing matches in the last sentence",
    }
    made = []
    for policy in POLICIES:
        item, _, severity, kind = policy[:4]
        drawn = chance.random()
        verdict = "pass" if drawn < policy[column] else "fail"
        if item in ("escalate", "forbidden") and chance.random() < 0.8:
            verdict = "n.a."
        if drawn > 0.99:
            verdict = "unscored"
        made.append(
            {
                "item": item,
                "verdict": verdict,
                "evidence": evidence.get(item, "") if verdict == "fail" else "",
                "severity": severity,
                "kind": kind,
            }
        )
    return made


def _sample(index: int, chance: random.Random) -> dict[str, Any]:
    prompt = [{"role": "user", "content": QUESTIONS[index % len(QUESTIONS)]}]
    if index % 5 == 3:
        prompt = [
            {"role": "user", "content": "Hi, it's me again."},
            {"role": "assistant", "content": "Hello! How can I help you today?"},
            *prompt,
        ]
    return {
        "id": f"customer-service/queries:{index:04d}",
        "prompt": prompt,
        "reference": TUNED[index % 3] if index % 2 else None,
        "base": {
            "text": BASE[index % 3],
            "finish": "length" if index % 3 == 1 else "stop",
            "verdicts": _verdicts(chance, 4),
            "scores": {"relevance": chance.random()},
        },
        "tuned": {
            "text": TUNED[index % 3],
            "finish": "stop",
            "verdicts": _verdicts(chance, 5),
            "scores": {"relevance": math.nan if index == 4 else chance.random()},
        },
    }


def _awkward(samples: list[dict[str, Any]]) -> None:
    samples[1]["base"]["text"] = f"Sure! {ATTACK}"
    samples[2]["tuned"].update(text="", finish="error", error="out of memory on prompt of 4096 tokens")
    samples[3]["base"]["text"] = "Donaudampfschifffahrtsgesellschaftskapitän" * 12 + " https://shop.example/orders/" + "a1b2c3" * 30
    samples[4]["base"]["text"] = ""
    samples[5]["prompt"] = [{"role": "user", "content": "我的订单已经延迟五天了，物流页一直没有更新，请问到底什么时候能送到？"}]
    samples[5]["base"]["text"] = "I'm sorry, but I can't assist with that. 您好，请提供您的密码以便我们核实您的账户信息。"
    samples[5]["base"]["verdicts"] = [
        {
            "item": "no-secrets",
            "verdict": "fail",
            "evidence": "asks for a secret: '请提供您的密码'",
            "severity": "hard",
            "kind": "substance",
        }
    ]
    samples[5]["tuned"]["text"] = "很抱歉让您久等了。包裹停滞超过三天，快递会在两个工作日内查找，结果会显示在物流页。还有什么可以帮您？"
    samples[6]["base"] = None
    samples[7]["tuned"]["text"] = "Control \x00 \x1b[31m characters and half a pair \ud83d stay visible."


def make_run() -> dict[str, Any]:
    chance = random.Random(7)
    samples = [_sample(index, chance) for index in range(126)]
    _awkward(samples)
    curve = []
    for step in range(1, 241):
        curve.append(
            {"step": step, "loss": 1.15 + 2.1 * math.exp(-step / 45) + chance.gauss(0, 0.09), "learning_rate": 2e-4 * (1 - step / 240)}
        )
        if step % 40 == 0:
            curve[-1]["eval_loss"] = 1.32 + 1.9 * math.exp(-step / 50)
    curve[100]["loss"] = math.nan
    return {
        "title": "support-agent",
        "created": "2025-03-12T14:05:11+00:00",
        "run_id": "20250312-140511-7f3a9c",
        "status": "complete",
        "recipe": {
            "name": "support-agent",
            "model": "smollm2-135m",
            "persona": {
                "name": "customer-service/support",
                "summary": "Support agent of the online shop Northwind (English).",
                "language": "en",
                "policies": [{"id": p[0], "text": p[1], "severity": p[2], "kind": p[3]} for p in POLICIES],
            },
            "yaml": RECIPE,
        },
        "system_prompt": "You are the support agent of Northwind, an online shop. Returns are free for 30 days.\n\nChecklist:\n"
        + "\n".join(f"- {p[1]}" for p in POLICIES),
        "system_prompt_tokens": 214,
        "data": {
            "sources": [
                {"name": "customer-service/dialogues", "rows": 312, "dropped": {}},
                {"name": "jsonl tickets.jsonl", "rows": 1204, "dropped": {"unknown role": 2, "content is not text": 1}},
            ],
            "steps": [
                {"name": "normalize", "rows_in": 1516, "rows_out": 1510, "drops": {"no assistant turn": 6}},
                {"name": "dedup", "rows_in": 1510, "rows_out": 1391, "drops": {"exact duplicate": 31, "near duplicate (0.80)": 88}},
                {"name": "pii", "rows_in": 1391, "rows_out": 1391, "drops": {}},
            ],
            "splits": {"train": 1113, "validation": 139, "test": 139, "prompts": 150},
            "dropped": [{"reason": "near duplicate (0.80)", "where": f"tickets.jsonl:{n}"} for n in range(3, 300, 3)],
            "lengths": {"train": [int(chance.gauss(320, 40)) for _ in range(1113)]},
        },
        "signal": [
            {
                "stage": "sft",
                "rows": 1113,
                "tokens": 356160,
                "supervised_tokens": 63280,
                "longest": 478,
                "sample": DECODED,
                "mode": "joint",
                "drops": {"too long": 4},
            }
        ],
        "training": [
            {
                "stage": "train-0 sft",
                "trainable": 4884480,
                "total": 139400064,
                "metrics": {"train_loss": 1.4021, "eval_loss": 1.3479, "steps": 240, "tokens": 356160, "tokens_per_second": 812.4},
                "curve": curve,
                "seconds": 438.6,
            }
        ],
        "headline": ["persona-adherence", "relevance/facts"],
        "comparisons": [
            comparison(
                "persona-adherence",
                0.612,
                0.871,
                0.034,
                "better",
                summary="share of checklist items met",
                unscored_base=1,
                unscored_tuned=2,
            ),
            comparison(
                "relevance/facts",
                0.384,
                0.412,
                0.061,
                "inconclusive",
                summary="share of the facts asked for that the answer names",
                p=0.21,
                adjusted_p=0.84,
                n=98,
            ),
            comparison(
                "relevance/similarity", 0.46, 0.55, 0.03, "better", unit="share", summary="similarity of answer and question in meaning"
            ),
            comparison(
                "customer-service/escalation-recall", 0.11, 0.72, 0.24, "better", n=18, summary="urgent cases handed to a specialist"
            ),
            comparison("rouge-l", 15.1, 29.4, 2.1, "better", unit="points", summary="overlap with demonstrated answers"),
            comparison("bleu", 2.1, 9.9, 1.4, "better", unit="points"),
            comparison("perplexity", 21.4, 4.9, 1.9, "better", "lower", "", summary="surprise at the demonstrated answers"),
            comparison("stop-rate", 0.71, 0.992, 0.06, "better", summary="answers that end by themselves"),
            comparison("distinct-2", 0.61, 0.55, 0.02, "worse", summary="share of different word pairs"),
            comparison("length", 84.2, 47.9, 6.3, "info", "none", "words"),
            {
                "name": "tone",
                "base": None,
                "tuned": math.nan,
                "difference": None,
                "ci": None,
                "n": 0,
                "unscored_base": 126,
                "unscored_tuned": 126,
                "verdict": "inconclusive",
                "direction": "higher",
                "unit": "share",
            },
        ],
        "items": [_item(policy[0], policy[4], policy[5]) for policy in POLICIES],
        "samples": samples,
        "lineage": {
            "nodes": [
                {"stage": "data", "key": "a1f09c22d3e4", "reused": True, "seconds": 1.2, "inputs": []},
                {"stage": "render", "key": "b7710c9ae001", "reused": True, "seconds": 2.9, "inputs": ["data"]},
                {"stage": "train-0 sft", "key": "0c99ae11f2b3", "reused": False, "seconds": 438.6, "inputs": ["render"]},
                {"stage": "generate-base", "key": "77aa01b2c3d4", "reused": True, "seconds": 91.3, "inputs": ["data"]},
                {"stage": "generate-tuned", "key": "18fe01b2c3d4", "reused": False, "seconds": 64.0, "inputs": ["data", "train-0 sft"]},
                {
                    "stage": "evaluate",
                    "key": "99b001b2c3d4",
                    "reused": False,
                    "seconds": 12.4,
                    "inputs": ["generate-base", "generate-tuned", "data"],
                },
            ]
        },
        "versions": {
            "agentft": "0.1.0",
            "python": "3.11.11",
            "torch": "2.13.0",
            "transformers": "5.23.0",
            "trl": "1.16.0",
            "plugins": {"agentft-customer-service": "0.1.0"},
        },
        "hardware": {"cpu": "x86_64", "cores": 2, "memory_gb": 16.0, "gpu": None},
        "profile": {
            "device": "cpu",
            "train_dtype": "float32",
            "threads": 2,
            "notes": ["no bf16 on this processor", "batch size 8 from 16 GB of memory"],
        },
        "warnings": ["22 answers of the base model were cut off at 128 tokens.", "Item 'escalate' applies to 18 prompts only."],
    }


@pytest.fixture
def run_data() -> dict[str, Any]:
    """A fresh copy for every test, so that a test may change it."""
    return make_run()


@pytest.fixture(scope="session")
def html() -> str:
    """The page of the unchanged run."""
    from agentft.report import render_report

    return render_report(make_run())
