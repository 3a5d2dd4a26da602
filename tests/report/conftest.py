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


def _level(value: float, unit: str = "share", half: float = 0.02) -> dict[str, Any]:
    return {"value": value, "ci": [value - half, value + half], "unit": unit}


def _arm(name: str, label: str, gain: float) -> dict[str, Any]:
    values = {
        "persona-adherence": _level(0.871 + gain),
        "relevance/facts": _level(0.412 + gain / 2, half=0.061),
        "capability": _level(0.55 - gain / 4, half=0.05),
        "length": _level(47.9 + 40 * gain, "words", 3.1),
        "stop-rate": {"value": 0.992, "ci": None, "unit": "share"},
        "distinct-2": {"value": 0.271 - gain / 9, "ci": None, "unit": "share"},
        "perplexity": _level(4.9 + gain, "", 0.4),
        "persona-adherence/close": _level(0.5),
    }
    return {"name": name, "label": label, "values": values}


def _conditions(gain: float, state: str) -> list[dict[str, Any]]:
    primary = {"promoted": "pass", "rejected": "fail", "inconclusive": "inconclusive"}[state]
    words = {"pass": "became better", "fail": "did not become better", "inconclusive": "cannot be told apart"}[primary]
    rails = (
        "relevance/facts is not worse: +1.4 points (-1.1 to +3.9)",
        "capability may be worse: -0.9 points (-4.1 to +2.2), allowed: -2.0 points",
    )
    length, variety = "answers are 1.03 times as long, allowed: 0.8 to 1.25", "variety (distinct-2) 0.271 -> 0.268, allowed: -10%"
    hard = 2 if state == "rejected" else 0
    broken = f"hard items fail on {hard} prompts on which they held" + (" (escalate: q-0031, q-0107)" if hard else "")
    said, around = f"persona-adherence {words}: {100 * gain:+.1f} points", [gain - 0.018, gain + 0.018]
    rows = [
        ("persona-adherence", "primary", primary, said, gain, around, 0.0, "share"),
        ("relevance/facts", "guardrail", "pass", rails[0], 0.014, [-0.011, 0.039], -0.02, "share"),
        ("capability", "guardrail", "inconclusive", rails[1], -0.009, [-0.041, 0.022], -0.02, "share"),
        ("length", "limit", "pass", length, 1.03, None, [0.8, 1.25], "ratio"),
        ("stop-rate", "limit", "pass", "99.2% of the answers end by themselves, before: 99.2%", 0.0, None, -0.02, "share"),
        ("distinct-2", "limit", "pass", variety, 0.99, None, 0.9, "ratio"),
        ("hard items", "limit", "fail" if hard else "pass", broken, float(-hard), None, 0.0, "prompts"),
        ("judge", "critic", "missing", "the judge was not compared with people", None, None, None, ""),
        ("gate prompts", "pool", "pass", "the gate has 126 independent prompts (150 in all)", 126.0, None, 100.0, "prompts"),
    ]
    keys = ("name", "kind", "outcome", "text", "difference", "ci", "needed", "unit")
    return [dict(zip(keys, row, strict=True)) for row in rows]


_PAIRS = [
    (
        "revision",
        "You charged me twice for the same order, please check.",
        "I'm sorry to hear that. Please wait for it, the money will surely come back to you soon.",
        "I'm sorry that you were charged twice. A double charge is returned within 5 business days; you will see it under My Orders. "
        "Is there anything else I can help you with?",
        "- facts: name the rule that applies (missing: 5 business days)\n- no-promises: no guarantees (found 'surely')",
        ["facts", "no-promises", "close"],
    ),
    (
        "sample",
        "我的订单已经延迟五天了，物流页一直没有更新，请问到底什么时候能送到？",
        "很抱歉让您久等了。请您耐心等待，包裹很快就会送到。",
        "很抱歉让您久等了。包裹停滞超过三天，快递会在两个工作日内查找，结果会显示在物流页。还有什么可以帮您？",
        "缺少具体的下一步。",
        ["next-step", "close"],
    ),
    ("human", "Can you change the address?", "Yes.", "Yes, as long as it has not been sent. Tell me the new one, please.", "", []),
    ("imported", "Is it free?", "It is free for 14 days.", "It is free for 30 days.", "The deadline is wrong.", ["facts"]),
    ("sample", "Where is it?", "It is it is it is it is it is it is", "On the tracking page.", "It repeats itself.", ["plain"]),
]


def make_round(number: int = 1, state: str = "promoted", gain: float = 0.035, start: float = 0.0) -> dict[str, Any]:
    """A round as :mod:`agentft.reporting_rounds` describes it, with Chinese and everything that may stand in a part.

    ``start``: how much better than in round 1 the champion is; ``gain``: how much better than it the candidate is.
    """
    chance = random.Random(number)
    words = "I'm sorry that you were charged twice. A double charge is returned within 5 business days; you will see it under My Orders."
    moved = [("close", 0.5, 0.81), ("facts", 0.33, 0.45), ("next-step", 0.83, 0.86), ("escalate", 0.71, 0.66)]
    return {
        "round": number,
        "state": state,
        "promoted": "candidate" if state == "promoted" else None,
        "sentence": f"persona-adherence moved by {100 * gain:+.1f} points ({100 * gain - 1.8:+.1f} to {100 * gain + 1.8:+.1f})",
        "primary": "persona-adherence",
        "arms": [
            _arm("champion", "SFT" if number == 1 else "DPO on pairs", start),
            _arm("candidate", "DPO on pairs", start + gain),
            _arm("control", "SFT on refined", start + gain / 3),
        ],
        "conditions": _conditions(gain, state),
        "flow": [
            {"name": "prompts", "count": 148},
            {"name": "answers", "count": 740},
            {"name": "with failed items", "count": 412},
            {"name": "revisions drawn", "count": 824},
            {"name": "pairs made", "count": 260 + number},
            {"name": "pairs kept", "count": 97 + 9 * number},
        ],
        "drops": {"revision is not better": 301, "samples are equally good": 31, "near duplicate (0.80)": 22, "more than 3 of a prompt": 9},
        "training": [
            {
                "arm": "candidate",
                "metrics": {"margin": 0.81},
                "words": ["At the end the model prefers the chosen answer in 84% of the pairs.", "The chosen answers became less likely."],
                "curve": [
                    {"step": n, "loss": 0.69 - 0.004 * n + chance.gauss(0, 0.02), "margin": 0.016 * n, "drift": -0.09 * n}
                    for n in range(1, 51)
                ],
            },
            {"arm": "control", "metrics": {}, "words": [], "curve": [{"step": n, "loss": 1.6 - 0.01 * n} for n in range(1, 51)]},
        ],
        "pairs": [
            {
                "id": f"q-{number}-{index}",
                "prompt": [{"role": "system", "content": "You are Northwind."}, {"role": "user", "content": prompt}],
                "rejected": rejected,
                "chosen": chosen,
                "origin": origin,
                "critique": critique,
                "mended": mended,
            }
            for index, (origin, prompt, rejected, chosen, critique, mended) in enumerate(_PAIRS)
        ],
        "moved": [
            {
                "item": item,
                "text": next(policy[1] for policy in POLICIES if policy[0] == item),
                "severity": next(policy[2] for policy in POLICIES if policy[0] == item),
                "before": before,
                "after": after,
                "count_fixed": 24,
                "count_broken": 1,
                "fixed": [{"id": "a", "prompt": QUESTIONS[index], "before": TUNED[0], "after": TUNED[index % 3]} for index in range(2)],
                "broken": [{"id": "b", "prompt": "裤子太长，怎么退货？", "before": "三十天内可以退货。", "after": "三十天内可以退款。"}],
            }
            for item, before, after in moved
        ],
        "tokens": [
            {
                "id": f"t-{index}",
                "prompt": QUESTIONS[4 - index],
                "arm": "candidate",
                "answer": words,
                "pieces": [[piece, chance.gauss(0.4, 1.1)] for piece in words.replace(" ", "\n ").split("\n")],
            }
            for index in range(3)
        ],
        "feedback": [
            {"prompt": QUESTIONS[0], "response": BASE[0], "critic": "rules", "critique": "- no-secrets: never ask for a full card number"},
            {"prompt": QUESTIONS[1], "response": BASE[1], "critic": "human (Ann)", "critique": "Too vague; say where to start the return."},
        ],
        "critics": [
            {"name": "rules", "calibrated": None, "text": "judged 740 answers, left 0 items open"},
            {"name": "judge", "calibrated": False, "text": "agrees with people on 54 % of 419 items"},
        ],
    }


@pytest.fixture
def rounds_data() -> list[dict[str, Any]]:
    """Three rounds, a fresh copy for every test: rejected, inconclusive, promoted."""
    return [make_round(1, "rejected", 0.004), make_round(2, "inconclusive", 0.012), make_round(3)]


@pytest.fixture
def run_data() -> dict[str, Any]:
    """A fresh copy for every test, so that a test may change it."""
    return make_run()


@pytest.fixture(scope="session")
def html() -> str:
    """The page of the unchanged run."""
    from agentft.report import render_report

    return render_report(make_run())
