"""An agent in memory: model, tokenizer, renderer and profile, ready to answer and to score."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentft.components import ModelRef
from agentft.contracts import GenerationSettings
from agentft.engine.choices import choices_of, trie
from agentft.engine.profile import Profile, detect
from agentft.engine.virtual import virtual_tokens
from agentft.errors import DataError
from agentft.records import Example, Message, Response

if TYPE_CHECKING:
    from agentft.engine.shots import Shots
    from agentft.render.conversation import Renderer


@dataclass
class LoadedAgent:
    """A model with its persona.

    Attributes:
        model: in evaluation mode, on the profile's device, in its ``decode_dtype``.
        tokenizer: has a padding token.
        renderer: puts the persona in front of every conversation.
        profile: how it runs.
        shots: conversations that stand in front of every prompt, if any do.
    """

    model: Any
    tokenizer: Any
    renderer: Renderer
    profile: Profile
    shots: Shots | None = None

    @classmethod
    def load(
        cls,
        ref: ModelRef,
        adapter: Path | str | None = None,
        system: str = "",
        profile: Profile | None = None,
        *,
        chat_template: str | None = None,
        template_kwargs: Mapping[str, Any] | None = None,
        examples: Path | None = None,
        tools: Sequence[Mapping[str, Any]] = (),
    ) -> LoadedAgent:
        """Load a model, put an adapter on it if there is one, and give it the system prompt ``system``.

        ``examples``: a folder with conversations to show before each prompt, see :mod:`agentft.engine.shots`.
        ``tools``: the persona's, for conversations without tools of their own.
        """
        from agentft.engine.models import load_model, load_tokenizer
        from agentft.render.conversation import Renderer

        profile = profile or detect()
        profile.apply()
        model, tokenizer = load_model(ref, profile, adapter), load_tokenizer(ref)
        if adapter is not None and profile.decode_dtype == "float32" and not virtual_tokens(model):
            # W + BA in float32 gives the same answers without two more products per layer; in 16 bits it would round.
            model = model.merge_and_unload()
        shots = None
        if examples is not None:
            from agentft.engine.shots import Shots

            shots = Shots(examples)
        return cls(model, tokenizer, Renderer(tokenizer, system, chat_template, template_kwargs, tools), profile, shots)

    def __post_init__(self) -> None:
        from transformers import GenerationConfig

        # generate() fills what it is not told from here: sampling and penalties of the model's makers would leak in.
        self.model.generation_config = GenerationConfig()

    @property
    def context(self) -> int | None:
        """Tokens that a row may have: the model's context without the virtual tokens of an adapter; None where it has no limit."""
        positions = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        return int(positions) - virtual_tokens(self.model) if positions else None

    def logprobs(self, examples: Sequence[Example]) -> list[tuple[float, int]]:
        """Sum of the log-probabilities (natural logarithm) of the supervised tokens, and their number, per example.

        Rendered exactly as for training. Examples without a supervised token give ``(0.0, 0)``.

        Raises:
            DataError: an example cannot be rendered, or is longer than the model's context.
        """
        rows: list[tuple[int, list[int], list[int]]] = []
        for index, example in enumerate(examples):
            for encoded in self.renderer.training(self.shown(example, 0)):
                self._fits(encoded.id, encoded.input_ids)
                rows.append((index, encoded.input_ids, encoded.labels))
        rows.sort(key=lambda row: len(row[1]))
        return self._sums(rows, len(examples))

    def choice_scores(self, prompts: Sequence[Example]) -> list[dict[str, float]]:
        """Per prompt with ``meta.choices``: choice -> its probability among the choices.

        That is the product of the probabilities of all its tokens, the stop token included, divided by the sum over the
        choices. The likeliest choice is not always the answer that is generated, which is the likeliest token by token. What
        the choices of one prompt have in common, the prompt above all, runs through the model once.

        Raises:
            DataError: a prompt without choices, with a choice twice, or longer than the model's context.
        """
        rows: list[tuple[int, list[int], list[int]]] = []
        for prompt in prompts:
            choices = choices_of(prompt)
            if not choices:
                raise DataError(f"{prompt.id}: a prompt needs meta.choices to be scored")
            answers = self.renderer.answers(prompt, choices)
            start = self.renderer.prompt(self.shown(prompt, max(map(len, answers)))).input_ids
            trie(dict(zip(choices, answers, strict=True)))  # each is told from the others
            rows += [(len(rows) + place, [*start, *ids], [-100] * len(start) + ids) for place, ids in enumerate(answers)]
            for _, ids, _ in rows[-len(choices) :]:
                self._fits(prompt.id, ids)
        # In this order: the choices of a prompt stand together, and share it.
        logs = iter([value for value, _ in self._sums(rows, len(rows))])
        found = []
        for prompt in prompts:
            choices = choices_of(prompt)
            own = list(itertools.islice(logs, len(choices)))
            weights = [math.exp(value - max(own)) for value in own]
            found.append({choice: weight / sum(weights) for choice, weight in zip(choices, weights, strict=True)})
        return found

    def shown(self, example: Example, new_tokens: int) -> Example:
        """``example`` as the agent reads it: behind its few-shot examples, as many as leave room for ``new_tokens``."""
        if self.shots is None:
            return example
        limit = self.context

        def fits(conversation: Example) -> bool:
            if not limit:
                return True
            answered = conversation.messages[-1].role == "assistant"
            rows = self.renderer.training(conversation) if answered else [self.renderer.prompt(conversation)]
            return all(len(row.input_ids) + new_tokens <= limit for row in rows)

        return self.shots.before(example, fits)

    def _fits(self, name: str, ids: Sequence[int]) -> None:
        if self.context and len(ids) > self.context:
            raise DataError(f"{name}: {len(ids)} tokens exceed the model's context of {self.context}")

    def _sums(self, rows: Sequence[tuple[int, list[int], list[int]]], count: int) -> list[tuple[float, int]]:
        """Log-probabilities of the labels of ``(owner, ids, labels)``, summed and counted per owner."""
        from agentft.engine.score import summed

        size, pad, share = self.profile.score_batch, self.tokenizer.pad_token_id, self.profile.share_prefix
        return summed(self.model, rows, count, size=size, pad_token_id=pad, share_prefix=share)

    def generate(self, prompts: Sequence[Example | str], settings: GenerationSettings | None = None) -> list[Response]:
        """Answers in the order of ``prompts``; a text is taken as the user's message. Errors are in the responses."""
        from agentft.engine.generate import TransformersBackend

        examples = [Example(str(i), (Message("user", prompt),)) if isinstance(prompt, str) else prompt for i, prompt in enumerate(prompts)]
        return TransformersBackend(self).generate(examples, settings or GenerationSettings())

    def chat(self, messages: Sequence[Message | Mapping[str, Any]], settings: GenerationSettings | None = None) -> str:
        """The answer to a conversation that ends with the user.

        Raises:
            DataError: the conversation cannot be answered.
        """
        return answered(self.generate, messages, settings)


def answered(
    generate: Callable[[Sequence[Example | str], GenerationSettings | None], list[Response]],
    messages: Sequence[Message | Mapping[str, Any]],
    settings: GenerationSettings | None,
) -> str:
    """The answer to one conversation, by whatever generates.

    Raises:
        DataError: the conversation cannot be answered.
    """
    conversation = tuple(m if isinstance(m, Message) else Message.from_dict(m) for m in messages)
    response = generate([Example("chat", conversation)], settings)[0]
    if response.finish == "error":
        raise DataError(f"the model could not answer: {response.error}")
    return response.text
