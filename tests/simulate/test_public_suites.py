"""The public benchmarks through the doors that users come in by: the catalog, the options, and conversations."""

from __future__ import annotations

import pytest
from benchmark_copies import write_bfcl, write_tau2

from agentft.environments import SuiteContext
from agentft.errors import RecipeError
from agentft.host import Host
from agentft.records import Response
from agentft.simulate.episodes import Limits, run_episodes
from agentft.simulate.suites import open_suite


@pytest.fixture
def opened(tmp_path):
    def make(name, **options):
        return open_suite(Host(allow=()).catalog, name, options, SuiteContext(base=tmp_path))[0]

    write_tau2(tmp_path / "t")
    write_bfcl(tmp_path / "b")
    return make


def test_both_are_environments_with_options_that_are_checked(opened):
    assert len(opened("tau2", path="t", domain="mock").tasks) == 4
    assert len(opened("bfcl", path="b", category="irrelevance").tasks) == 1
    with pytest.raises(RecipeError, match="option.domain"):
        opened("tau2", path="t", domain="hotel")
    with pytest.raises(RecipeError, match="did you mean 'category'"):
        opened("bfcl", path="b", categories="irrelevance")


def test_a_conversation_of_tau2_begins_where_its_history_ends(opened):
    suite = opened("tau2", path="t", domain="mock")
    task = next(one for one in suite.tasks if one.id == "history")
    seen = []

    def agent(prompts):
        seen.extend(prompts)
        said = prompts[0].messages
        done = said[-1].role == "tool"
        return [Response(prompts[0].id, "It is done." if done else "", calls=() if done else tuple(task.actions))]

    episode = next(iter(run_episodes(suite, agent, [(task, 0)])))
    assert seen[0].messages[:4] == task.history
    assert seen[0].messages[4].content == "I want to mark my task as completed."
    assert suite.judge(task, episode).success


def test_one_answer_is_enough_for_a_question_of_bfcl(opened):
    suite = opened("bfcl", path="b", category="parallel")
    task = suite.tasks[0]

    def agent(prompts):
        return [Response(prompt.id, "", calls=tuple(task.actions)) for prompt in prompts]  # calls on and on

    episode = next(iter(run_episodes(suite, agent, [(task, 0)], limits=Limits(turns=1, calls=1))))
    assert episode.end == "calls"
    assert suite.judge(task, episode).success
