"""normalize, filter, dedup: what they keep, what they count, in English and Chinese, for conversations and labelled rows."""

from __future__ import annotations

import csv
from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from agentft.contracts import DataContext
from agentft.data.dedup import DedupConfig, dedup
from agentft.data.filtering import FilterConfig, filter_rows
from agentft.data.language import language
from agentft.data.normalize import NormalizeConfig, normalize, normalize_text, repair_text
from agentft.data.shingles import NearDuplicates, jaccard, shingles, signature
from agentft.errors import DataError
from agentft.labelled import Labelled
from agentft.records import Example, Message


def row(name, text, label=None, **more):
    return Labelled(name, {"text": text}, label, **more)


def talk(name, user, answer="Yes.", system=None):
    first = (Message("system", system),) if system else ()
    return Example(name, (*first, Message("user", user), Message("assistant", answer)))


def call(transform, rows, config=None):
    ctx = DataContext(seed=3)
    return list(transform(rows, config, ctx)), ctx


def normalised(text, **options):
    rows, ctx = call(normalize, [row("a", text)], NormalizeConfig(**options) if options else None)
    return rows[0].text, ctx


@pytest.mark.parametrize(
    ("text", "expected", "changes"),
    [
        ("cafÃ© at 5 â‚¬", "café at 5 €", {"text repaired": 1}),
        ("Fish &amp; chips", "Fish & chips", {"text repaired": 1}),
        ("a  \n\n\n\nb\u200b", "a\n\nb", {"text tidied": 1}),
        ("你好，“世界”！（全角）：；", "你好，“世界”！（全角）：；", {}),
        ("好的 👍🏽 👨‍👩‍👧", "好的 👍🏽 👨‍👩‍👧", {}),
        ("<b>a &amp; b</b>", "<b>a &amp; b</b>", {}),
        ("It’s “fine”", "It’s “fine”", {}),
    ],
)
def test_normalize_repairs_and_leaves_alone(text, expected, changes):
    found, ctx = normalised(text)
    assert found == expected and ctx.changes == changes and not ctx.drops


def test_normalize_options():
    assert normalised("cafÃ©", ftfy=False)[0] == "cafÃ©"
    assert normalised("It’s “fine”", quotes="straight")[0] == 'It\'s "fine"'
    assert normalised("他说“好的”", quotes="straight")[0] == "他说“好的”"


def test_normalize_keeps_spans_and_tags_in_place():
    spans = Labelled(
        "s", {"question": "when", "context": "open  \n at cafÃ© 7 pm\u200b today"}, [{"text": "cafÃ© 7 pm\u200b", "start": 11}]
    )
    tags = Labelled("t", {"tokens": ["cafÃ©", "\u200b", "x"]}, ["B", "O", "O"])
    (first, second), _ = call(normalize, [spans, tags])
    span = first.label[0]
    assert span["text"] == "café 7 pm" and first.inputs["context"][span["start"] :].startswith("café 7 pm")
    assert second.inputs["tokens"][0] == "café" and len(second.inputs["tokens"]) == 3


def test_normalize_counts_rows_in_which_nothing_is_left():
    lost = Labelled("s", {"question": "q", "context": "ab \u200b c"}, [{"text": "\u200b", "start": 3}])
    rows, ctx = call(normalize, [row("a", " \u200b"), talk("b", "\u200b"), lost, row("c", "x")])
    assert [r.id for r in rows] == ["c"]
    assert ctx.drops == {"no text": 1, "no user text": 1, "an answer has no text": 1}


@example("À\x1fµ")
@settings(deadline=None)  # the first call imports ftfy
@given(st.text(alphabet=st.one_of(st.characters(codec="utf-8"), st.sampled_from("Ãâ‚¬©&amp;lt#39; \n\u200b“”"))))
def test_normalising_twice_changes_nothing(text):
    once = repair_text(text)
    assert repair_text(once) == once == normalize_text(once)


def test_language_is_decided_by_script_or_by_enough_text():
    assert language("退款") == "zh" and language("こんにちは") == "ja" and language("안녕하세요") == "ko"
    assert language("refund") == "" == language("12345 67890 12345 67890 12345 67890 12345 67890")
    assert language("Could you tell me where my parcel is at the moment?") == "en"
    assert language("Können Sie mir sagen, wo mein Paket im Moment gerade ist?") == "de"


def test_filter_takes_labelled_rows_and_languages():
    rows = [row("short", "hi"), row("en", "Could you tell me where my parcel is at the moment?"), row("zh", "我的订单还没到货")]
    german = row("de", "Können Sie mir sagen, wo mein Paket im Moment gerade ist?")
    kept, ctx = call(filter_rows, [*rows, german], FilterConfig(language=["en", "zh"]))
    assert [r.id for r in kept] == ["short", "en", "zh"]
    assert ctx.drops == {"language de not allowed": 1} and ctx.changes == {"language not sure, kept": 1}
    kept, ctx = call(filter_rows, rows, FilterConfig(min_words=2, max_chars=20))
    assert [r.id for r in kept] == ["zh"] and ctx.drops == {"text shorter than min_words": 1, "longer than max_chars": 1}


def test_filter_says_what_does_not_fit():
    with pytest.raises(DataError, match="for conversations"):
        call(filter_rows, [row("a", "x")], FilterConfig(min_turns=1))
    for wrong in ({"pattern": "("}, {"min_words": 3, "max_words": 2}, {"language": ["english"]}, {"min_wrods": 1}):
        with pytest.raises(ValidationError):
            FilterConfig(**wrong)


def test_exact_duplicates_name_the_row_that_was_kept():
    rows = [row("a", "Hello  there", "x"), row("b", "hello there", "x"), row("c", "HELLO THERE", "y"), row("d", "other", "x")]
    kept, ctx = call(dedup, rows)
    assert [r.id for r in kept] == ["a", "d"]
    assert ctx.drops == {"duplicate": 1, "duplicate with another label": 1}
    assert ctx.dropped[0]["where"] == "b, same as a"


def test_near_duplicates_in_both_languages():
    texts = ["我的订单还没到货，什么时候发货？", "我的订单还没到货,什么时候发货呢?", "怎么申请退款", "怎么申请退款？", "怎么申请换货"]
    english = ["Can you tell me why my new card is not here?", "Can you tell me why my new card is not here yet?", "Close my account"]
    rows = [row(str(n), text) for n, text in enumerate([*texts, *english])]
    assert len(call(dedup, rows)[0]) == len(rows), "exact is the default"
    kept, ctx = call(dedup, rows, DedupConfig(threshold=0.75))
    assert [r.id for r in kept] == ["0", "2", "4", "5", "7"]
    assert [d["where"] for d in ctx.dropped] == ["1, like 0", "3, like 2", "6, like 5"]


def test_near_duplicates_keep_contrasts_and_may_keep_groups():
    rows = [
        row("a", "Please turn the lights in the kitchen on now", "on"),
        row("b", "Please turn the lights in the kitchen on now!", "off"),
    ]
    kept, ctx = call(dedup, rows, DedupConfig(threshold=0.8))
    assert len(kept) == 2 and ctx.changes == {"near-duplicate with another label, kept": 1}
    same = [replace(r, label="on", group="g") for r in rows]
    assert len(call(dedup, same, DedupConfig(threshold=0.8))[0]) == 1
    assert len(call(dedup, same, DedupConfig(threshold=0.8, keep_in_group=True))[0]) == 2
    assert len(call(dedup, [*same, replace(same[0], id="c", group="h")], DedupConfig(threshold=0.8, keep_in_group=True))[0]) == 2


def test_a_shared_system_prompt_makes_no_near_duplicates():
    system = "You are a friendly agent of a bank. " * 20
    rows = [talk("a", "Where is my card?", system=system), talk("b", "Close my account", "Done, it is closed.", system=system)]
    assert len(call(dedup, rows, DedupConfig(threshold=0.8))[0]) == 2


@settings(deadline=None, max_examples=40)  # the first call imports datasketch
@given(st.lists(st.text(alphabet="ab 我你他，", min_size=1, max_size=12), min_size=1, max_size=20), st.sampled_from([0.5, 0.7, 0.9]))
def test_what_the_index_finds_is_exactly_similar(texts, threshold):
    index, kept = NearDuplicates(threshold), []
    for text in texts:
        hashes = shingles(text)
        for number in index.similar(hashes, signature(hashes)):
            assert jaccard(kept[number], hashes) >= threshold
        if hashes in kept:
            assert kept.index(hashes) in index.similar(hashes, signature(hashes)), "equal ones are always found"
        index.add(hashes, signature(hashes))
        kept.append(hashes)


def test_near_duplicates_of_real_queries(shared_data):
    with (shared_data / "banking77" / "train.csv").open(encoding="utf-8") as file:
        rows = [row(str(n), one["text"], one["category"]) for n, one in zip(range(1500), csv.DictReader(file), strict=False)]
    kept, ctx = call(dedup, rows, DedupConfig(threshold=0.8))
    assert len(kept) == len(rows) - ctx.drops.total() and 5 <= ctx.drops["near-duplicate"] <= 60
    # What the index must have found, by comparing all with all.
    sets = {r.id: shingles(r.text) for r in kept}
    labels = {r.id: r.label for r in kept}
    names = list(sets)
    left = [(a, b) for i, a in enumerate(names) for b in names[:i] if labels[a] == labels[b] and jaccard(sets[a], sets[b]) >= 0.8]
    assert len(left) <= 0.05 * ctx.drops["near-duplicate"]
