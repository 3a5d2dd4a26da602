"""Conversations held: what is counted, and that nothing depends on what else runs."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from agentft.contracts import GenerationSettings
from agentft.environments import SimTask, UserTurn
from agentft.errors import PluginError, UserError
from agentft.records import Message, Response
from agentft.simulate.episodes import Limits, run_episodes, trial_seed
from agentft.simulate.stored import read_episodes
from agentft.simulation import load_simulation, simulate_agent

FAKES = Path(__file__).parents[1] / "fakes"


@pytest.fixture
def lamps(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(FAKES / "switches"))
    monkeypatch.chdir(tmp_path)
    import fake_switches

    yield fake_switches
    sys.modules.pop("fake_switches", None)


@pytest.fixture
def suite(lamps):
    return lamps.Suite(lamps.SwitchConfig())


def switching(prompts):
    """Asks which lamp, switches it, says so; refuses the alarm."""
    found = []
    for prompt in prompts:
        last, said = prompt.messages[-1], prompt.last_user
        if last.role == "tool":
            found.append(Response(prompt.id, f"{last.content}. Goodbye!", tokens=5))
        elif "alarm" in said:
            found.append(Response(prompt.id, "I am not allowed to touch it.", tokens=5))
        elif said.startswith("lamp-"):
            call = {"name": "switch", "arguments": {"lamp": said.split(",")[0], "on": True}}
            found.append(Response(prompt.id, "", tokens=5, calls=(call,)))
        else:
            found.append(Response(prompt.id, "Which lamp, please?", tokens=5))
    return found


def episodes(suite, talker, trials=1, **options):
    plan = [(task, trial) for task in suite.tasks for trial in range(trials)]
    return {(one.task, one.trial): one for one in run_episodes(suite, talker, plan, name="lamps", **options)}


def test_a_conversation_from_the_first_message_to_the_last(suite):
    one = episodes(suite, switching)["on-1", 0]
    assert [message.role for message in one.messages] == ["user", "assistant", "user", "assistant", "tool", "assistant", "user"]
    assert one.messages[2].content == "lamp-1, please." and one.messages[4] == Message("tool", "lamp-1 is on", name="switch")
    assert (one.end, one.calls, one.tool_errors, one.malformed, one.tokens) == ("user", 1, 0, 0, 15)
    assert suite.judge(suite.tasks[1], one).success
    assert all(environment.closed for environment in suite.opened)


def test_the_agent_gets_tools_policy_and_who_it_talks_about(suite):
    seen = []

    def talker(prompts):
        seen.extend(prompts)
        return switching(prompts)

    episodes(suite, talker, policy=suite.policy)
    first = seen[0]
    assert first.id == "on-0#0.0" and dict(first.meta) == {"task": "on-0", "trial": 0}
    assert [tool["name"] for tool in first.tools] == ["switch", "count"]
    assert first.messages[0] == Message("system", suite.policy) and first.messages[1].role == "user"


def test_all_that_is_due_is_asked_in_one_batch_and_nothing_depends_on_it(suite):
    sizes = []

    def talker(prompts):
        sizes.append(len(prompts))
        return switching(prompts)

    together = episodes(suite, talker, 3)
    assert max(sizes) == 12 and len(sizes) <= 4
    sizes.clear()
    assert episodes(suite, talker, 3, concurrency=1) == together and set(sizes) == {1}
    assert episodes(suite, talker, 3, concurrency=5) == together


def test_seeds_come_from_what_an_episode_is_about():
    seeds = {trial_seed(s, name, task, trial) for s in (0, 1) for name in ("a", "b") for task in ("x", "y") for trial in (0, 1)}
    assert len(seeds) == 16 and trial_seed(0, "a", "x", 0) == trial_seed(0, "a", "x", 0)


def test_a_call_that_cannot_be_read_goes_back_to_the_model_and_is_counted(suite):
    def talker(prompts):
        found = []
        for prompt, good in zip(prompts, switching(prompts), strict=True):
            again = prompt.messages[-1].name == "tools"
            call = {"name": "switch", "arguments": {"lamp": "lamp-0", "on": True}}
            if again:
                assert "no closing bracket" in prompt.messages[-1].content and prompt.messages[-1].role == "user"
                found.append(Response(prompt.id, "", calls=(call,)))
            elif good.calls:
                found.append(Response(prompt.id, '<tool_call>{"name"', malformed="no closing bracket."))
            else:
                found.append(good)
        return found

    one = episodes(suite, talker)["on-0", 0]
    assert (one.malformed, one.calls, one.end) == (1, 1, "user") and suite.judge(suite.tasks[0], one).success
    assert one.messages[one.wrong[0]].content == '<tool_call>{"name"'


@pytest.mark.parametrize(
    ("answer", "limits", "end"),
    [
        (lambda p: Response(p.id, "Which lamp, please?", tokens=3), Limits(turns=2), "turns"),
        (lambda p: Response(p.id, "", tokens=3, calls=({"name": "count", "arguments": {}},)), Limits(calls=4), "calls"),
        (lambda p: Response(p.id, "", tokens=3, malformed="broken"), Limits(calls=4), "calls"),
        (lambda p: Response(p.id, "", tokens=3, calls=({"name": "count", "arguments": {}},)), Limits(tokens=7), "tokens"),
        (lambda p: Response(p.id, "", "error", 0, "out of order"), Limits(), "agent-error"),
    ],
)
def test_limits_and_errors_end_an_episode_and_fail_it(suite, answer, limits, end):
    one = episodes(suite, lambda prompts: [answer(prompt) for prompt in prompts], limits=limits)["on-0", 0]
    outcome = suite.judge(suite.tasks[0], one)
    assert one.end == end and not outcome.success and outcome.checks["ended"] is False
    assert {"turns": 2, "calls": 4, "tokens": 3, "agent-error": 0}[end] in (
        sum(m.role == "user" for m in one.messages) - 1 if end == "turns" else -1,
        one.calls + one.malformed - (one.malformed > 4),
        one.tokens // 3,
    )
    # A refusal with an untouched state would be a success, but for the end.
    assert not suite.judge(suite.tasks[-1], replace(one, task="alarm")).success


def test_a_user_who_leaves_behind_the_last_turn_is_heard(suite):
    one = episodes(suite, switching, limits=Limits(turns=2))["on-0", 0]
    assert one.end == "user" and suite.judge(suite.tasks[0], one).success


def test_wrong_state_untold_facts_and_broken_policies_each_fail(suite):
    task, good = suite.tasks[0], episodes(suite, switching)["on-0", 0]
    fails = {
        "state": replace(good, state="other"),
        "facts": replace(good, messages=good.messages[:4]),
        "policy": episodes(suite, lambda ps: [Response(p.id, "", calls=({"name": "switch", "arguments": {"lamp": "alarm"}},)) for p in ps])[
            "alarm", 0
        ],
    }
    for check, one in fails.items():
        outcome = suite.judge(suite.tasks[-1] if check == "policy" else task, one)
        assert not outcome.success and outcome.checks[check] is False and outcome.detail
    assert len(fails["policy"].violations) == 30


def test_what_the_agent_wrote_as_an_unreadable_call_was_not_told(suite):
    good = episodes(suite, switching)["on-0", 0]
    hidden = (
        Message("user", "a lamp please"),
        Message("assistant", "lamp-0 is on"),
        Message("user", "could not be read", name="tools"),
        Message("assistant", "hm"),
    )
    assert suite.judge(suite.tasks[0], replace(good, messages=hidden)).checks["facts"] is False


def test_a_suite_that_breaks_is_named_with_the_task(suite, monkeypatch):
    def broken(self, name, arguments):
        raise KeyError("lamp")

    monkeypatch.setattr(type(suite.open(suite.tasks[0])), "call", broken)
    with pytest.raises(PluginError, match="task 'on-0': the tool 'switch' broke: KeyError"):
        episodes(suite, switching)
    with pytest.raises(PluginError, match="gave 1 answers"):
        episodes(suite, lambda prompts: [Response("x", "hello")])


def test_faults_of_the_user_are_no_faults_of_the_agent(suite, tmp_path):
    suite.tasks.append(SimTask("broken", {"kind": "broken"}, (), (), {"script": {"states": {"begin": {"say": "hi"}}}}))

    class Rude:
        def opens(self):
            return UserTurn("hello")

        def answers(self, conversation):
            raise ValueError("lost for words")

    made = suite.user
    suite.user = lambda task, seed: Rude() if task.id == "on-2" else made(task, seed)
    found = simulate_agent(switching, suite, out=tmp_path / "out", trials=2)
    assert found.results["pass"]["1"] == {"value": 1.0, "ci": found.results["pass"]["1"]["ci"], "n": 3}
    assert found.results["user_faults"] == {
        "ValueError: lost for words": 2,
        "broken script: script.start: there is no state 'start' to start with (known: begin)": 2,
    }
    success = next(score for score in found.scores if score.name == "success")
    assert success.n == 3 and success.unscored == 2 and found.results["slices"]["kind"]["broken"]["value"] is None
    assert {one.result for one in found.episodes if one.episode.task == "broken"} == {"fault"}


def test_an_agent_that_cannot_be_had_has_failed_nothing(suite, tmp_path):
    with pytest.raises(UserError, match="answered nothing in 4 episodes: no connection"):
        simulate_agent(lambda ps: [Response(p.id, "", "error", 0, "no connection") for p in ps], suite, out=tmp_path / "out")
    found = simulate_agent(lambda ps: switching(ps), suite, out=tmp_path / "out")  # what failed is tried again
    assert found.results["pass"]["1"]["value"] == 1.0


def test_reference_does_every_task_and_silent_does_none(lamps):
    found = json.loads(call("reference", "--env", "switches/lamps", "--option", "lamps=5", "--trials", "3", "--json"))
    assert found["tasks"] == 6 and found["pass"]["3"]["value"] == 1.0 and found["calls"] == 15
    assert found["checks"] == {"state": {"passed": 18, "of": 18}, "facts": {"passed": 15, "of": 15}, "policy": {"passed": 18, "of": 18}}
    silent = json.loads(call("silent", "--env", "switches/lamps", "--tasks", "on-*", "--json", "--min-pass", "0.1", code=1))
    assert silent["pass"]["1"]["value"] == 0.0 and silent["slices"]["kind"]["write"]["n"] == 3
    assert "pass^1" in call("silent", "--env", "switches/lamps", "--tasks", "2", "--out", "two")
    assert json.loads(Path("two/results.json").read_text("utf-8"))["tasks"] == 2
    assert load_simulation("two").results["agent"] == "silent"


def test_what_the_user_got_wrong_is_one_line(lamps):
    for arguments, words in (
        (("--env", "switches/lamp"), "did you mean 'switches/lamps'"),
        (("--env", "switches/lamps", "--option", "lamps=no"), "option.lamps: 'lamps' must be a whole number"),
        (("--env", "switches/lamps", "--option", "lamps"), "KEY=VALUE"),
        (("--env", "switches/lamps", "--tasks", "off-*"), "no task 'off-*'"),
    ):
        result = CliRunner().invoke(_cli(), ["simulate", "silent", *arguments])
        assert isinstance(result.exception, UserError) and words in str(result.exception)


def _cli():
    from agentft.cli.main import cli

    return cli


def call(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(_cli(), ["simulate", *arguments])
    assert result.exit_code == code, result.output + repr(result.exception)
    return result.stdout


KILLED = """
import os, signal, sys
sys.path[:0] = {paths!r}
import fake_switches
from test_episodes import switching
from agentft.simulation import simulate_agent

asked = 0
def agent(prompts):
    global asked
    asked += 1
    if asked == 6:
        os.kill(os.getpid(), signal.SIGKILL)
    return switching(prompts)
agent.__name__ = "switching"
simulate_agent(agent, fake_switches.Suite(fake_switches.SwitchConfig(lamps=6)), trials=2, out="out", concurrency=4)
"""


def test_a_killed_simulation_goes_on_to_the_same_end(lamps, tmp_path):
    script = KILLED.format(paths=[str(FAKES / "switches"), str(Path(__file__).parent)])
    result = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert result.returncode == -signal.SIGKILL, result.stderr
    out, before = tmp_path / "out", list(read_episodes(tmp_path / "out"))
    assert 0 < len(before) < 14 and not (out / "results.json").exists()
    with (out / "episodes.jsonl").open("a") as stream:
        stream.write('{"task": "on-5", "trial": 1, "mess')  # a line that the kill has cut
    asked = []

    def agent(prompts):
        asked.extend(prompt.meta["task"] + str(prompt.meta["trial"]) for prompt in prompts)
        return switching(prompts)

    agent.__name__ = "switching"
    suite = lamps.Suite(lamps.SwitchConfig(lamps=6))
    found = simulate_agent(agent, suite, trials=2, out=out)
    assert not {one.episode.task + str(one.episode.trial) for one in before} & set(asked)
    whole = simulate_agent(agent, suite, trials=2, out=tmp_path / "whole")
    assert (out / "episodes.jsonl").read_bytes() == (tmp_path / "whole" / "episodes.jsonl").read_bytes()
    assert {k: v for k, v in found.results.items() if k != "seconds"} == {k: v for k, v in whole.results.items() if k != "seconds"}


def test_more_trials_go_on_and_another_option_starts_anew(lamps, tmp_path):
    from agentft.progress import Progress

    notes, asked = [], []

    class Told(Progress):
        def stage(self, name, why):
            notes.append(why)

    def agent(prompts):
        asked.extend(prompts)
        return switching(prompts)

    suite = lamps.Suite(lamps.SwitchConfig())
    for trials, seed in ((1, 0), (2, 0), (2, 1)):
        asked.clear()
        simulate_agent(agent, suite, trials=trials, seed=seed, out=tmp_path / "out", progress=Told())
        assert {prompt.meta["trial"] for prompt in asked} == ({0} if trials == 1 else {1} if seed == 0 else {0, 1})
    assert notes == ["4 episodes", "8 episodes, 4 of them are there", "8 episodes, anew because of seed: 0 -> 1"]
    assert len(list(read_episodes(tmp_path / "out" / "episodes.previous.jsonl"))) == 8


def test_two_simulations_into_one_folder_are_refused(suite, tmp_path):
    def agent(prompts):
        with pytest.raises(UserError, match="another process simulates into"):
            simulate_agent("silent", suite, out=tmp_path / "out")
        return switching(prompts)

    simulate_agent(agent, suite, out=tmp_path / "out", tasks=1)


@pytest.mark.slow
def test_a_tiny_model_fails_and_its_samples_depend_on_nothing_else(suite, tmp_path, monkeypatch):
    import tiny

    monkeypatch.setenv("AGENTFT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(tiny, "TEMPLATE", "{% if tools %}{{ tools | tojson }}\n{% endif %}" + tiny.TEMPLATE)
    model = tiny.tiny_model(tmp_path / "model", max_position_embeddings=4096).path
    settings = GenerationSettings(max_new_tokens=6, temperature=1.0)
    options = {"tasks": "on-*", "trials": 2, "settings": settings, "limits": Limits(turns=2)}
    found = simulate_agent(model, suite, out=tmp_path / "a", **options)
    results = found.results
    assert results["pass"]["2"]["value"] == 0.0 and results["tokens"] > 0 and results["episodes"] == 6
    assert results["checks"]["state"]["passed"] + results["checks"]["policy"]["passed"] == 6
    first = {one.episode.messages[1].content for one in found.episodes}
    assert len(first) > 3, "trials and tasks have samples of their own"
    alone = simulate_agent(model, suite, out=tmp_path / "b", concurrency=1, **options)
    assert [one.episode for one in alone.episodes] == [one.episode for one in found.episodes]


def test_a_server_is_asked_for_each_trial_with_its_own_seed(suite, tmp_path):
    from servers import completion, serving

    with serving(lambda number, body: completion("I cannot do that.")) as (url, seen):
        settings = GenerationSettings(temperature=0.5)
        found = simulate_agent(url, suite, model="m", trials=2, tasks="on-0", out=tmp_path / "out", settings=settings)
    assert len({body["seed"] for body in seen}) == 2
    assert seen[0]["messages"][0] == {"role": "system", "content": suite.policy} and seen[0]["tools"][0]["function"]["name"] == "switch"
    assert found.results["pass"]["1"]["value"] == 0.0 and found.results["ends"] == {"user": 2}


def test_the_page_shows_every_word_and_runs_none(suite, tmp_path):
    attack = "<script>alert(1)</script>"

    def agent(prompts):
        return [replace(response, text=response.text and response.text + attack) for response in switching(prompts)]

    simulate_agent(agent, suite, out=tmp_path / "out")
    page = (tmp_path / "out" / "index.html").read_text("utf-8")
    assert attack not in page and "&lt;script&gt;alert(1)" in page and "<script" not in page
    for words in ("Have lamp-0 switched on.", "lamp-1, please.", "→ switch(", "check “state” passed", 'id="only-failure"'):
        assert words in page, words


def test_the_evaluator_sees_success_of_each_task(lamps):
    from types import SimpleNamespace

    from agentft.contracts import EvalContext
    from agentft.simulate.evaluator import SimulationConfig, simulation

    config = SimulationConfig(env="switches/lamps", tasks=None, trials=2)
    ctx = EvalContext(persona=SimpleNamespace(), language="en")
    found = {score.name: score for score in simulation([], switching, config, ctx)}
    assert found["simulation"].value == 1.0 and set(found["simulation"].per_sample) >= {"switches/lamps:on-0", "switches/lamps:alarm"}
    assert found["simulation/pass^2"].value == 1.0 and found["simulation/facts"].n == 3
    other = SimulationConfig(env="switches/lamps", options={"lamps": 4}, tasks=None)
    assert config.model_dump()["tasks_digest"] != other.model_dump()["tasks_digest"] != ""
