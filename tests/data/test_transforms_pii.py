"""The transform pii: what is found, what only looks like it, and that nothing but that is changed."""

from __future__ import annotations

import csv
import json
import sys
import types
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentft.contracts import DataContext
from agentft.data.pii import PiiConfig, pii, scrub
from agentft.data.pii_patterns import cn_id_valid, find, iban_valid, luhn
from agentft.errors import MissingDependency
from agentft.labelled import Labelled
from agentft.records import Example, Message

PERSONAL = """
jane.doe+shop@example.co.uk -> [EMAIL]
邮箱是zhangsan@qq.com请查收 -> 邮箱是[EMAIL]请查收
Card 4111 1111 1111 1111 exp 12/26 -> Card [CARD] exp 12/26
my amex is 3782-822463-10005. -> my amex is [CARD].
6222021234567890128 -> [CARD]
please credit card number 8563742789642456 -> please credit card number [CARD]
pay to DE89 3704 0044 0532 0130 00 please -> pay to [IBAN] please
IBAN: GB29NWBK60161331926819. -> IBAN: [IBAN].
nl91 abna 0417 1643 00 -> [IBAN]
call me at 4155552671 -> call me at [PHONE]
Call (415) 555-2671 now -> Call [PHONE] now
415-555-2671 or 415.555.2672 -> [PHONE] or [PHONE]
+1 415 555 2671 -> [PHONE]
+44 20 7946 0958, thanks -> [PHONE], thanks
0044 20 7946 0958 -> [PHONE]
020 7946 0958 -> [PHONE]
07700 900123 -> [PHONE]
+49 (0)30 1234567 -> [PHONE]
我的手机号是13800138000，谢谢 -> 我的手机号是[PHONE]，谢谢
１３８００１３８０００ -> [PHONE]
+86 138 0013 8000 -> [PHONE]
座机010-62345678转801 -> 座机[PHONE]
（0571）87654321 -> [PHONE]
电话：62345678 -> 电话：[PHONE]
身份证11010519491231002X。 -> 身份证[CN_ID]。
my ssn is 123-45-6789 -> my ssn is [SSN]
SSN 123456789 -> SSN [SSN]
from 192.168.1.77 port -> from [IP] port
2001:0db8:85a3::8a2e:0370:7334 -> [IP]
"""
HARMLESS = """
order 1234567890123
Order number 415-555-2671
ISBN 978-0-306-40615-7
in 2010-2015 and 2024-05-06, 06/07/2024
it costs $1,299.00 or 12800 USD
13800138000元
订单号13800138000
快递单号：YT1380013800012
version 10.2.3.4 is out
12:30:45 today, 09:00-12:00
std::vector and a::b
call 1-800-555-0199
拨打400-820-8820 或 10086
4111 1111 1111 1112
DE89 3704 0044 0532 0130 01
110105194912310021
flight CA1234 on 20240506 at 10:20
@username and #tag
tracking 1Z999AA10123456784
call me at 5 pm, 20 people
127.0.0.1
电话会议9点到10点开始
Room 020 1234 is free
reference 0123-4567890
3.14159265358979
1234567890
phone costs 1299 dollars
060618 960
2023-11-27 13:42:04
ticket #555-123-4567
"""


@pytest.mark.parametrize("line", PERSONAL.strip().splitlines())
def test_personal_data_is_found(line):
    text, expected = line.split(" -> ")
    assert scrub(text) == expected


@pytest.mark.parametrize("text", HARMLESS.strip().splitlines())
def test_what_only_looks_like_it_is_left(text):
    assert scrub(text) == text


def test_checksums():
    assert luhn("4111111111111111") and not luhn("4111111111111112")
    assert iban_valid("DE89370400440532013000") and not iban_valid("DE89370400440532013001") and not iban_valid("XX89370400440532013000")
    assert cn_id_valid("11010519491231002X") and not cn_id_valid("110105194912310021") and not cn_id_valid("99010519491231002X")
    assert not cn_id_valid("110105194913310026"), "there is no 13th month"


PIECES = st.sampled_from(
    [
        "a@b.co",
        "4111111111111111",
        "13800138000",
        "+1 415 555 2671",
        "010-62345678",
        "11010519491231002X",
        "192.168.1.7",
        "123-45-6789",
        "fe80::1:2",
    ]
)


@given(
    st.lists(st.one_of(PIECES, st.text(alphabet="0123456789 -+.:@()abX我电话", max_size=12)), max_size=6),
    st.sampled_from(["placeholder", "mask"]),
)
def test_scrubbing_twice_changes_nothing(pieces, how):
    once = scrub("".join(pieces), how=how)
    assert scrub(once, how=how) == once and not find(once)


@given(st.text(max_size=60))
def test_any_text_is_survived_and_places_are_true(text):
    found = find(text)
    assert all(0 <= one.start < one.end <= len(text) for one in found)
    assert all(a.end <= b.start for a, b in pairwise(found))


def run(rows, **options):
    ctx = DataContext()
    return list(pii(rows, PiiConfig(**options), ctx)), ctx


def test_tool_calls_meta_and_every_message_are_scrubbed():
    call = {"name": "find", "arguments": {"mail": "a@b.com", "n": 3, "phones": [13800138000]}}
    example = Example(
        "a@b.com", (Message("user", "I am a@b.com"), Message("assistant", "", tool_calls=(call,))), meta={"who": "c@d.org", "ok": True}
    )
    (found,), ctx = run([example])
    assert found.messages[0].content == "I am [EMAIL]"
    assert found.messages[1].tool_calls[0]["arguments"] == {"mail": "[EMAIL]", "n": 3, "phones": ["[PHONE]"]}
    assert found.meta == {"who": "[EMAIL]", "ok": True} and found.id == "a@b.com"
    assert ctx.changes == {"email": 3, "phone": 1}


def test_tags_stay_aligned_and_spans_move():
    tags = Labelled("t", {"tokens": ["my", "card", "4111", "1111", "1111", "1111", "."]}, ["O", "O", "B", "I", "I", "I", "O"])
    spans = Labelled("s", {"question": "who", "context": "mail a@b.com for Ann"}, [{"text": "Ann", "start": 17}])
    (one, two), ctx = run([tags, spans])
    assert one.inputs["tokens"] == ["my", "card", "[CARD]", "[CARD]", "[CARD]", "[CARD]", "."] and len(one.label) == 7
    assert two.inputs["context"] == "mail [EMAIL] for Ann" and two.label == [{"text": "Ann", "start": 17}]
    assert ctx.changes == {"card": 1, "email": 1}
    (masked,), _ = run([tags], replace="mask")
    assert masked.inputs["tokens"][2:6] == ["****"] * 4


def test_types_mask_and_drop():
    rows = [Labelled("a", {"text": "a@b.com or 13800138000"}), Labelled("b", {"text": "nothing"})]
    assert run(rows, types=["phone"])[0][0].text == "a@b.com or [PHONE]"
    assert run(rows, replace="mask")[0][0].text == "*@*.*** or ***********"
    kept, ctx = run(rows, replace="drop")
    assert [r.id for r in kept] == ["b"] and ctx.drops == {"personal data: email, phone": 1} and not ctx.changes


def test_presidio_is_an_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "presidio_analyzer", None)
    with pytest.raises(MissingDependency, match=r"pip install 'agentft\[pii\]'"):
        run([Labelled("a", {"text": "x"})], engine="presidio")


def test_presidio_finds_beside_the_patterns(monkeypatch):
    class AnalyzerEngine:  # answers as Presidio does, with places and names of its own, the placeholder's too
        def analyze(self, text, language, entities, score_threshold):
            found = [(text.find(name), name) for name in ("Ann Lee", "EMAIL", "a@b.com") if name in text]
            return [types.SimpleNamespace(entity_type="PERSON", start=at, end=at + len(name)) for at, name in found if "PERSON" in entities]

    monkeypatch.setitem(sys.modules, "presidio_analyzer", types.SimpleNamespace(AnalyzerEngine=AnalyzerEngine))
    rows = [Labelled("a", {"text": "Ann Lee, a@b.com"})]
    assert run(rows, engine="presidio")[0][0].text == "[NAME], [EMAIL]"
    assert run(rows, engine="presidio", types=["email"])[0][0].text == "Ann Lee, [EMAIL]"


def test_real_customers_card_numbers(shared_data):
    """Of utterances tagged as card number that have one with 13 to 19 digits and call it so, nearly all are found; and hardly any other."""
    found, said, wrong, rows = 0, 0, 0, 0
    with (shared_data / "multidogo" / "finance" / "train.tsv").open(encoding="utf-8") as file:
        for one in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
            text, tags = one["utterance"] or "", one["slot-labels"] or ""
            rows += 1
            cards = [piece for piece in find(text) if piece.kind == "card"]
            numbers = [word for word in text.split() if word.isdigit() and 13 <= len(word) <= 19]
            if "card_number" in tags and numbers and "card number" in text:
                said += 1
                found += bool(cards)
            wrong += bool(cards) and "card_number" not in tags and "account_number" not in tags
    assert said > 40 and found >= 0.9 * said, json.dumps([found, said])
    assert wrong <= 5 and rows > 10_000
