"""Agents as the simulation sees them: a backend, and two that check a suite instead of being checked by it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from agentft.contracts import Backend, GenerationSettings
from agentft.environments import SimTask
from agentft.records import Example, Message, Response

BUILT_IN = ("reference", "silent")


class Backed:
    """A backend as an agent.

    Args:
        settings: how to decode. Samples in process follow from the seed and the prompt's id, which names the trial.
        by_trial: the backend gives the same sample to the same prompt and seed whatever its id (a server does): trials are then asked one
            after the other, each with a seed of its own.
        on_answers: called with the answers as they are ready.
    """

    def __init__(
        self,
        backend: Backend,
        settings: GenerationSettings,
        by_trial: bool = False,
        on_answers: Callable[[Sequence[Response]], None] | None = None,
    ):
        self.backend, self.settings, self.on_answers = backend, settings, on_answers
        self.by_trial = by_trial and settings.temperature > 0

    def __call__(self, prompts: Sequence[Example]) -> list[Response]:
        if not self.by_trial:
            return self.backend.generate(prompts, self.settings, self.on_answers)
        found: dict[str, Response] = {}
        for trial in sorted({prompt.meta["trial"] for prompt in prompts}):
            some = [prompt for prompt in prompts if prompt.meta["trial"] == trial]
            settings = replace(self.settings, seed=(self.settings.seed + 1_000_003 * trial) % 2**31)
            found |= {response.id: response for response in self.backend.generate(some, settings, self.on_answers)}
        return [found[prompt.id] for prompt in prompts]


class Reference:
    """Performs a task's reference actions, one after the other, then tells its facts; says so again to whatever the user answers.

    It succeeds in every task of a suite that is right, so a task in which it fails is broken.
    """

    def __init__(self, tasks: Sequence[SimTask], language: str = "en"):
        self.tasks, self.chinese = {task.id: task for task in tasks}, language == "zh"

    def __call__(self, prompts: Sequence[Example]) -> list[Response]:
        return [self._answer(prompt, self.tasks[prompt.meta["task"]]) for prompt in prompts]

    def _answer(self, prompt: Example, task: SimTask) -> Response:
        made = _calls(prompt.messages) - _calls(task.history)
        if made < len(task.actions):
            # One at a time, as agents do, unless the task's calls belong into one answer.
            todo = task.actions[made:] if task.data.get("together") else task.actions[made : made + 1]
            calls = tuple({"name": action["name"], "arguments": dict(action.get("arguments") or {})} for action in todo)
            return Response(prompt.id, "", calls=calls)
        words = [str(group[0]) for group in task.facts if group]
        if self.chinese:
            first = "已经办好了。" if task.actions else "" if words else "抱歉，这个我不能办理。"
            return Response(prompt.id, first + "".join(f"{word}。" for word in words))
        first = "It is done." if task.actions else "" if words else "I am sorry, I cannot do that."
        return Response(prompt.id, " ".join(part for part in (first, *(f"{word}." for word in words)) if part))


def _calls(messages: Sequence[Message]) -> int:
    return sum(len(message.tool_calls) for message in messages)


class Silent:
    """Answers politely and does nothing: what a suite gives away for free."""

    def __init__(self, language: str = "en"):
        self.text = "谢谢您的留言，我们会尽快回复您。" if language == "zh" else "Thank you for your message. We will get back to you soon."

    def __call__(self, prompts: Sequence[Example]) -> list[Response]:
        return [Response(prompt.id, self.text) for prompt in prompts]
