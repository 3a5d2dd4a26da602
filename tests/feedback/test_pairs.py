"""Which revision is kept, which pairs are made, and which survive the filters."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agentft.feedback import pairs as making
from agentft.feedback.verdicts import Judgement
from agentft.recipe_refine import Pairs
from agentft.records import Example, Message, Preference, Response, Verdict
from agentft.text import words

OPTIONS = Pairs()


def prompt(name: str = "p1", group: str | None = None) -> Example:
    return Example(name, (Message("user", f"Question {name}?"),), group=group)


def candidate(
    name: str, text: str, passed: str = "", failed: str = "", hard: str = "", score: float = float("nan"), calls: tuple = ()
) -> making.Candidate:
    verdicts = [Verdict(item, "pass") for item in passed] + [Verdict(item, "fail") for item in failed]
    verdicts += [Verdict(item, "fail", severity="hard") for item in hard]
    scores = {} if score != score else {"reward": score}
    return making.Candidate(Response(name, text, calls=calls), Judgement(name, tuple(verdicts), scores, {}, (f"{name}@rules",), ""))


def test_a_revision_is_kept_only_if_it_is_strictly_better_with_the_smallest_edit():
    account = making.Account()
    original = candidate("p1#0", "We will look at it soon.", "a", "bc")
    drafts = [
        candidate("p1#0>0", "Something else entirely, in many other words.", "abc"),
        candidate("p1#0>1", "We will look at it soon. Anything else?", "abc"),
        candidate("p1#0>2", "We will look.", "a", "bc"),
        candidate("p1#0>3", "We will look, damn it.", "abc", hard="x"),
    ]
    best = making.best_revision(original, drafts, OPTIONS, account)
    assert best is not None and best.id == "p1#0>1"
    assert account.drops == {"revision is not better": 1, "revision breaks a hard item": 1}
    assert making.best_revision(original, drafts[2:], OPTIONS, account) is None


def test_what_breaks_a_hard_item_may_be_rejected_and_is_never_chosen():
    account = making.Account()
    samples = [
        candidate("p1#0", "good but bad", "abcdef", hard="h"),
        candidate("p1#1", "modest", "abc", "def"),
        candidate("p1#2", "poor", "", "abcdef"),
    ]
    (pair,) = making.make_pairs(prompt(), samples, {}, OPTIONS, account)
    assert (pair.chosen.content, pair.rejected.content, pair.origin) == ("modest", "poor", "sample") and pair.margin == 3
    assert making.make_pairs(prompt(), samples[:1] * 2, {}, OPTIONS, account) == []
    assert account.drops["no sample without a broken hard item"] == 1


def test_no_pair_without_a_margin_and_a_scalar_decides_where_items_do_not():
    account = making.Account()
    equal = [candidate("p1#0", "one", "ab"), candidate("p1#1", "two", "ab")]
    assert making.make_pairs(prompt(), equal, {}, OPTIONS, account) == [] and account.drops == {"samples are equally good": 1}
    scored = [candidate("p1#0", "one", "ab", score=0.0), candidate("p1#1", "two", "ab", score=1.0)]
    (pair,) = making.make_pairs(prompt(), scored, {}, OPTIONS, account)
    assert pair.chosen.content == "two"


def preference(n: int, chosen: str, rejected: str, margin: float = 1, origin: str = "sample", name: str | None = None) -> Preference:
    return Preference(f"x{n}", prompt(name or f"p{n}"), Message("assistant", chosen), Message("assistant", rejected), margin, origin)


TEXT = "Please send the parcel back within thirty days and we refund it number"


def test_every_filter_counts_what_it_drops():
    account = making.Account()
    pairs = [
        preference(1, "I am sorry about the kettle; choose Report a problem today.", "The kettle is broken, I do not know about that one."),
        preference(2, "Short.", TEXT),
        preference(3, f"{TEXT} x", f"{TEXT} y"),
        preference(4, "I am sorry about the kettle; choose Report a problem today!", "No idea about that, please go away now my friend."),
        preference(5, "", "Nothing"),
        *(
            preference(10 + n, f"{chr(97 + n) * 9} thing {n} told nicely here", f"{n} something else was said then ok", n, name="p9")
            for n in range(5)
        ),
    ]
    kept = making.keep_pairs(
        pairs, Pairs(length_balance=1.0), account, forbidden=lambda p: "prompt is in the gate or test pool" if p.id == "p9" else ""
    )
    assert [pair.id for pair in kept] == ["x1"]
    assert account.drops == {
        "more than 3 pairs for the prompt": 2,
        "prompt is in the gate or test pool": 3,
        "length ratio outside 0.5 to 2": 1,
        "the two differ by less than 2%": 1,
        "chosen answer is a near-duplicate": 1,
        "chosen answer is empty": 1,
    }


answers = st.lists(st.sampled_from(["ab", "cd", "ef", "gh", "ij", "kl", "mn", "op"]), min_size=1, max_size=14).map(" ".join)


@given(st.lists(st.tuples(answers, answers, st.integers(1, 5), st.integers(0, 4)), max_size=25))
def test_every_pair_is_kept_or_counted_and_lengths_are_balanced(rows):
    account = making.Account()
    pairs = [preference(n, chosen, rejected, margin, name=f"p{who}") for n, (chosen, rejected, margin, who) in enumerate(rows)]
    kept = making.keep_pairs(pairs, OPTIONS, account)
    assert len(kept) + account.drops.total() == len(pairs)
    chosen, rejected = (sum(len(words(getattr(pair, side).content)) for pair in kept) for side in ("chosen", "rejected"))
    assert abs(chosen - rejected) <= 0.1 * rejected or not kept
    assert making.keep_pairs(pairs, OPTIONS, making.Account()) == kept, "the same pairs every time"


def test_most_failed_answers_are_revised_first_and_no_text_twice():
    found = [
        candidate("p1#0", "Same text", "a", "b"),
        candidate("p1#1", "same  text", "a", "b"),
        candidate("p1#2", "Worse", "", "ab"),
        candidate("p1#3", "Fine", "ab"),
    ]
    assert [one.id for one in making.to_revise(found, 8)] == ["p1#2", "p1#0"] and [one.id for one in making.to_revise(found, 1)] == ["p1#2"]


def test_edit_share_is_of_characters():
    assert making.edit_share("abc", "abc") == 0 and making.edit_share("abc", "xyz") == 1
    assert 0 < making.edit_share("退货请在我的订单申请", "退款请在我的订单申请") < 0.2


def says(text: str, *calls: dict) -> Message:
    return Message("assistant", text, tool_calls=calls)


def test_a_demonstration_is_preferred_to_the_worst_sample_unless_it_breaks_a_hard_item():
    account = making.Account()
    samples = [candidate("p1#0", "fine", "ab"), candidate("p1#1", "poor", "", "ab")]
    (pair,) = making.anchor_pairs(prompt(), says(" as the expert said "), samples, [Verdict("a", "fail")], account)
    assert (pair.chosen.content, pair.rejected.content, pair.origin) == ("as the expert said", "poor", "anchor")
    assert making.anchor_pairs(prompt(), says("no"), samples, [Verdict("h", "fail", severity="hard")], account) == []
    assert making.anchor_pairs(prompt(), says("poor"), samples[1:], [], account) == []
    assert account.drops == {"demonstration breaks a hard item": 1, "no sample beside the demonstration": 1}
    samples.append(candidate("p1#2", "poor but long enough", "", "ab"))
    assert making.anchor_pairs(prompt(), says("as the expert said"), samples, [], account)[0].rejected.content == "poor but long enough"


LOOK = {"name": "get_order", "arguments": {"order": "NW-1"}}


def test_an_answer_that_calls_a_tool_is_learned_with_its_call():
    """Of a call little is decided: it is neither better nor worse than a text that fails items, and never the text without it."""
    account = making.Account()
    calling = candidate("p1#0", " One moment. ", "e", calls=(LOOK,))
    cut = candidate("p1#1", "It is on its way to you since the day before", "ab", "c", hard="e")
    good = candidate("p1#2", "It is on its way.", "abce")
    (pair,) = making.make_pairs(prompt(), [calling, cut], {}, OPTIONS, account)
    assert pair.chosen == says("One moment.", LOOK) and pair.rejected == says(cut.text)
    (pair,) = making.make_pairs(prompt(), [calling, cut, good], {}, OPTIONS, account)
    assert (pair.chosen.content, pair.rejected.content) == (good.text, cut.text)
    assert making.make_pairs(prompt(), [calling, good], {}, OPTIONS, account) == []
    assert making.to_revise([candidate("p1#0", "One moment.", "", "a", calls=(LOOK,))], 8) == []


def test_a_demonstrated_call_stands_against_other_answers_and_not_against_itself():
    samples = [candidate("p1#0", "I do not know.", "", "ab"), candidate("p1#1", "", "e", calls=(LOOK,))]
    (pair,) = making.anchor_pairs(prompt(), says("", LOOK), samples, [], making.Account())
    assert (pair.chosen, pair.rejected) == (says("", LOOK), says("I do not know."))
    assert making.anchor_pairs(prompt(), says("", LOOK), samples[1:], [], making.Account()) == []
    other = {**LOOK, "arguments": {"order": "NW-2"}}
    (pair,) = making.anchor_pairs(prompt(), says("", other), samples[1:], [], making.Account())
    assert (pair.chosen, pair.rejected) == (says("", other), says("", LOOK))


def test_calls_pass_the_filters_that_look_at_texts():
    account = making.Account()
    calls = [{**LOOK, "arguments": {"order": f"NW-{n}"}} for n in range(3)]
    pairs = [Preference(f"x{n}", prompt(f"p{n}"), says("", calls[n]), says(TEXT), 1.0, "anchor") for n in range(3)]
    again = Preference("x3", prompt("p3"), says("", calls[0]), says("No."), 1.0, "anchor")
    same = Preference("x4", prompt("p4"), says("Wait a moment, please.", calls[0]), says("Wait a moment, please.", calls[0]), 1.0, "anchor")
    assert making.keep_pairs([*pairs, again, same], OPTIONS, account) == pairs
    assert account.drops == {"chosen answer is a near-duplicate": 1, f"the two differ by less than {OPTIONS.min_edit:.0%}": 1}


def test_form_is_not_bought_with_substance():
    def judged(name: str, passed: str, failed: str, told: bool) -> making.Candidate:
        one = candidate(name, f"text {name}", passed, failed)
        facts = Verdict("facts", "pass" if told else "fail", kind="substance")
        return making.Candidate(one.response, Judgement(name, (*one.judgement.verdicts, facts), {}, {}, ()))

    empty, told, plain = judged("p1#0", "abc", "", False), judged("p1#1", "", "abc", True), judged("p1#2", "a", "bc", True)
    assert making.better(empty.judgement, told.judgement, OPTIONS) == 0
    assert making.better(empty.judgement, told.judgement, Pairs(keep_substance=False)) == 2
    (pair,) = making.make_pairs(prompt(), [empty, told, plain], {}, OPTIONS, making.Account())
    assert (pair.chosen.content, pair.rejected.content) == ("text p1#2", "text p1#1"), "the best that keeps the facts, not the best of all"
