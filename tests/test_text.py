"""Words, sentences, question marks and near-duplicates, the same for English and Chinese."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentft import text as tools


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Don't panic, it's 3.5 km.", ["Don't", "panic", "it's", "3.5", "km"]),
        ("e-mail me@home.org", ["e-mail", "me@home.org"]),
        ("退款5天到账", ["退", "款", "5", "天", "到", "账"]),
        ("请用 Wi-Fi 登录", ["请", "用", "Wi-Fi", "登", "录"]),
        ("snake_case", ["snake", "case"]),
        ("— … !", []),
    ],
)
def test_words(text, words):
    assert tools.words(text) == words


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("It costs 3.5 euro. Pay now!", ["It costs 3.5 euro.", "Pay now!"]),
        ("Dr. Wu is in. Really?", ["Dr. Wu is in.", "Really?"]),
        ("Use e.g. this one. Done.", ["Use e.g. this one.", "Done."]),
        ("Come at 5 p.m. Bring a bag.", ["Come at 5 p.m.", "Bring a bag."]),
        ("Come at 5 p.m. today.", ["Come at 5 p.m. today."]),
        ("See No. 5 on the list.", ["See No. 5 on the list."]),
        ("No. Look again.", ["No.", "Look again."]),
        ("Solve for x. Then add y.", ["Solve for x.", "Then add y."]),
        ("Judge R. Lowry said no. J. K. Rowling agreed.", ["Judge R. Lowry said no.", "J. K. Rowling agreed."]),
        ("Parking in Zone C. It costs 60 pounds.", ["Parking in Zone C.", "It costs 60 pounds."]),
        ("1. Open it.\n2. Close it.", ["1. Open it.", "2. Close it."]),
        ("See https://a.example/?q=1 for more.", ["See https://a.example/?q=1 for more."]),
        ("He said “Go.” Then he left.", ["He said “Go.”", "Then he left."]),
        ("**Done.** Next one.", ["**Done.**", "Next one."]),
        ("Wait... what?!", ["Wait...", "what?!"]),
        ("你好！请问订单号是多少？谢谢", ["你好！", "请问订单号是多少？", "谢谢"]),
        ("他说：“好。”然后走了。", ["他说：“好。”", "然后走了。"]),
        ("你好!再见。", ["你好!", "再见。"]),
        ("one line\nanother line", ["one line", "another line"]),
        ("Yes. ... !", ["Yes....!"]),
        ("", []),
        ("…", []),
    ],
)
def test_sentences(text, sentences):
    assert tools.sentences(text) == sentences


@given(st.text(max_size=200))
def test_sentences_keep_every_letter_and_digit_in_order(text):
    joined = "".join(tools.sentences(text))
    assert [c for c in joined if c.isalnum()] == [c for c in text if c.isalnum()]
    assert all(part.strip() == part and any(c.isalnum() for c in part) for part in tools.sentences(text))


@given(
    st.lists(st.sampled_from(["Your parcel left today", "We can help", "你的包裹今天发出了"]), min_size=1, max_size=6),
    st.sampled_from(["!", "?", "。"]),
)
def test_as_many_sentences_as_were_joined(parts, mark):
    assert len(tools.sentences("".join(f"{part}{mark} " for part in parts))) == len(parts)


@pytest.mark.parametrize("text", ["!" * 50_000 + "a", "a. " * 20_000, "*_" * 30_000, "." * 50_000, "。" * 30_000 + "!x" * 20_000])
def test_degenerate_answers_take_no_time(text):
    # A model that got stuck repeats one token to the limit; counting must not get stuck with it.
    start = time.process_time()
    tools.sentences(text)
    tools.words(text)
    assert time.process_time() - start < 2


@pytest.mark.parametrize(("text", "count"), [("What? Why??", 2), ("是吗？真的？！", 2), ("No.", 0)])
def test_questions(text, count):
    assert tools.questions(text) == count


def test_chinese_share():
    assert tools.cjk_share("订单 ok") == pytest.approx(0.5)
    assert tools.is_chinese("订单号是 A1") and not tools.is_chinese("order 订单 number")
    assert tools.cjk_share("123 !") == 0.0


def test_near_duplicates_are_found_in_both_languages():
    base = "My parcel was sent on Monday but the tracking page still says that it waits in the depot."
    other = "How do I change the address of my invoice when the order has already been shipped to me?"
    assert tools.near_duplicate_share([base, base.replace("Monday", "Sunday"), other]) == pytest.approx(2 / 3)
    assert tools.near_duplicate_share([base, other]) == 0.0
    assert (
        tools.near_duplicate_share(["我的包裹三天前就显示派送中但是到现在还没有收到货", "我的包裹三天前就显示派送中但是到现在还没有收到"])
        == 1.0
    )
    assert tools.near_duplicate_share([]) == 0.0


@given(st.text(max_size=80), st.text(max_size=80))
def test_identical_texts_are_duplicates_whatever_they_are(left, right):
    assert tools.near_duplicate_share([left, left]) == 1.0
    assert tools.near_duplicate_share([left, right]) in (0.0, 1.0)
