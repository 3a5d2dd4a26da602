"""Students with misconceptions: they learn from hints, not from answers, and not from silence."""

from __future__ import annotations

from collections import Counter

import pytest
from agentft_tutoring.leak import leaked
from agentft_tutoring.student.students import Student, filled, misconceptions, problems
from agentft_tutoring.student.suite import StudentConfig, student
from hypothesis import given, settings
from hypothesis import strategies as st

from agentft.environments import Episode, SuiteContext, UserTurn
from agentft.errors import UserError
from agentft.records import Message, Response
from agentft.simulate.episodes import run_episodes

PROBLEMS = {row["id"]: row for row in problems()}


def suite(**options):
    return student(StudentConfig(**options), SuiteContext())


def play(tutor, trial=0):
    """Task id -> (episode, outcome) for a tutor: (problem, conversation) -> words."""
    of = suite()

    def talk(prompts):
        return [Response(prompt.id, tutor(PROBLEMS[prompt.meta["task"]], prompt.messages)) for prompt in prompts]

    tasks = {task.id: task for task in of.tasks}
    episodes = run_episodes(of, talk, [(task, trial) for task in of.tasks], name="student")
    return {episode.task: (episode, of.judge(tasks[episode.task], episode)) for episode in episodes}


def guides(problem, messages):
    """Asks one question for each key idea, in their order."""
    keys = misconceptions()[problem["misconception"]]["keys"]
    said = sum(message.role == "assistant" for message in messages)
    return filled(keys[min(said, len(keys) - 1)]["ask"], problem)


def test_the_problems():
    subjects = Counter(misconceptions()[row["misconception"]]["subject"] for row in PROBLEMS.values())
    assert len(PROBLEMS) >= 30 and min(subjects[one] for one in ("arithmetic", "algebra", "programming")) >= 6
    assert {row["misconception"] for row in PROBLEMS.values()} == set(misconceptions())
    for row in PROBLEMS.values():
        kind = misconceptions()[row["misconception"]]
        texts = [*kind["opens"], *kind["explains"], *(key["ask"] for key in kind["keys"])]
        for text in (filled(one, row) for one in texts):
            assert "{" not in text and not leaked(text, row["answer"]), (row["id"], text)
        for text in (filled(one, row) for one in kind["solved"]):
            assert leaked(text, row["answer"]), (row["id"], text)


@pytest.mark.parametrize("trial", [0, 1])
def test_a_good_tutor_succeeds_everywhere(trial):
    for key, (episode, outcome) in play(guides, trial).items():
        assert outcome.success and not episode.violations, (key, outcome, episode.messages)


def test_a_tutor_who_tells_fails_with_the_violation():
    for key, (episode, outcome) in play(lambda problem, _: f"Think again. The answer is {problem['answer'][0]}.").items():
        assert [one.policy for one in episode.violations] == ["answer-leak"], key
        assert not outcome.success and not outcome.checks["policy"] and not outcome.checks["solved"]
        assert episode.end == "user" and len(episode.messages) == 3


@pytest.mark.parametrize("words", ["Hm.", "Keep going, you can do it.", "", "I don't know."])
def test_a_tutor_who_says_nothing_useful_fails_without_violation(words):
    for key, (episode, outcome) in play(lambda *_: words).items():
        assert not outcome.success and outcome.checks["policy"] and episode.end == "user" and not episode.violations, key


def test_a_wrong_result_that_is_called_right_is_believed():
    for key, (episode, outcome) in play(lambda *_: "Yes, that is correct.").items():
        assert PROBLEMS[key]["values"]["wrong"] in episode.messages[-1].content or key.startswith("st-zh"), key
        assert not outcome.checks["solved"] and len(episode.messages) == 3


def test_a_statement_without_a_question_teaches_nothing():
    assert not any(outcome.success for _, outcome in play(lambda *a: guides(*a).replace("?", ".").replace("？", "。")).values())


def test_who_is_asked_for_the_way_shows_the_misconception():
    row = PROBLEMS["st-add-fractions-1"]
    one = Student(row)
    said = one.answers([Message("user", one.opens().text), Message("assistant", "How did you get that?")])
    assert "bottom" in said.text and not said.done


def test_a_student_pleads_and_then_gives_up():
    row = PROBLEMS["st-range-end-1"]
    one, conversation = Student(row, 5), [Message("user", "...")]
    heard = []
    for _ in range(5):
        conversation.append(Message("assistant", "Mhm."))
        heard.append(one.answers(conversation))
        conversation.append(Message("user", heard[-1].text))
    assert "the answer" in heard[2].text and [turn.done for turn in heard] == [False] * 4 + [True]


def test_the_judge_looks_at_words_alone():
    """A student whom a model plays is judged alike, and who said the result first decides."""
    of = suite(misconceptions=["range-end"])
    (task, *_) = of.tasks
    for messages, solved in (
        ((Message("user", "15?"), Message("assistant", "Look at the end."), Message("user", "Ah, 10!")), True),
        ((Message("user", "15?"), Message("assistant", "It is 10."), Message("user", "Ah, 10!")), False),
        ((Message("user", "15?"), Message("assistant", "Look."), Message("user", "12")), False),
    ):
        assert of.judge(task, Episode(task.id, 0, messages, "user")).success == solved
    assert not of.judge(task, Episode(task.id, 0, (Message("user", "10"),), "turns")).success
    assert of.judge(task, Episode(task.id, 0, (), "user-error", fault="gone")).checks == {}


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(sorted(PROBLEMS)), st.lists(st.text(max_size=60), max_size=7), st.integers(0, 99))
def test_a_student_answers_anything_and_always_the_same(key, words, number):
    def talk() -> list[UserTurn]:
        one, conversation = Student(PROBLEMS[key], number), []
        turns = [one.opens()]
        for text in words:
            if turns[-1].done:
                break
            conversation += [Message("user", turns[-1].text), Message("assistant", text)]
            turns.append(one.answers(conversation))
        return turns

    turns = talk()
    assert turns == talk() and all(turn.text and not turn.fault for turn in turns)


def test_options():
    assert {task.slices["subject"] for task in suite(subjects=["programming"]).tasks} == {"programming"}
    assert {task.slices["language"] for task in suite(language="zh").tasks} == {"zh"}
    with pytest.raises(UserError, match="range-end"):
        suite(misconceptions=["range-ent"])
    with pytest.raises(UserError, match="no problem"):
        suite(misconceptions=["range-end"], language="zh")
