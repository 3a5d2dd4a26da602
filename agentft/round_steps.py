"""What the steps of a round do: each reads files of earlier stages and writes its own."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from agentft import arms
from agentft.contracts import CriticContext, DataContext, GenerationSettings
from agentft.data.jsonl import iter_rows, read_conversations, read_examples, write_examples, write_rows
from agentft.data.split import known_prompts, prompt_key
from agentft.errors import DataError
from agentft.feedback import pairs as making
from agentft.feedback import served_data
from agentft.feedback.verdicts import Judgement, combine
from agentft.records import Example, Feedback, Message, Preference, Response
from agentft.runs import Outcome, StageResult, file_digest

if TYPE_CHECKING:
    from agentft.arms import Arm
    from agentft.evaluate.gate import Condition
    from agentft.rounds import Round
    from agentft.session import Part


def lock(round_: Round, out: Path) -> Outcome:
    """Draw the prompts, take out what is in the gate or test pool, and write down what the round depends on."""
    pipeline, options, seed = round_.pipeline, round_.options, round_.recipe.seed
    ctx = DataContext(persona=round_.session.persona, base=round_.recipe.base, seed=seed)
    drawn: list[Example] = []
    anchors: dict[int, Message] = {}
    told: dict[int, list[dict[str, Any]]] = {}  # what people said about answers to a prompt, which a source may know
    for part in round_.session.parts("source", options.prompts):
        target = round_.session.catalog.target(part.entry)
        for example in target(part.config, ctx):
            prompt, demonstrated = example.as_prompt()
            prompt, said_here = served_data.taken(prompt)
            drawn.append(prompt)
            told[id(prompt)] = said_here
            if demonstrated is not None:
                anchors[id(prompt)] = example.messages[-1]
    gate, test = gate_and_test(pipeline.data.path)
    taken_texts = known_prompts([*gate, *test])
    taken_groups = {example.group_key for example in (*gate, *test)}
    kept: dict[str, Example] = {}
    said: dict[str, list[dict[str, Any]]] = {}
    for example in drawn:
        key = prompt_key(example)
        if not example.messages or example.messages[-1].role not in ("user", "tool"):
            ctx.drop("prompt does not end with the user", example.id)
        elif key in taken_texts:
            ctx.drop("prompt is in the gate or test pool", example.id)
        elif example.group_key in taken_groups:
            ctx.drop("its group is in the gate or test pool", example.id)
        elif key in kept:
            ctx.drop("duplicate prompt", example.id)
        else:
            kept[key] = example
        if key in kept and told[id(example)]:
            said.setdefault(kept[key].id, []).extend(told[id(example)])
    prompts = list(kept.values())
    people = [one for prompt in prompts for one in served_data.preferences_of(prompt, said.get(prompt.id, ()), ctx.drop)]
    if len({one.id for one in prompts}) < len(prompts):
        raise DataError("refine.prompts: two sources use the same ids; give their rows ids of their own")
    demonstrated_by = {one.id: anchors[id(one)] for one in prompts if id(one) in anchors}
    if options.max_prompts is not None and len(prompts) > options.max_prompts:
        # Another draw in every round: what was practised on is not practised on again first.
        chosen = sorted(Random(f"{seed}:{round_.number}").sample(range(len(prompts)), options.max_prompts))
        for _ in range(len(prompts) - len(chosen)):
            ctx.drop("over refine.max_prompts")
        prompts = [prompts[index] for index in chosen]
    if not prompts:
        raise DataError(f"refine.prompts: no prompt is left to practise on; dropped: {dict(ctx.drops)}")
    trained = list(read_conversations(pipeline.data.path / "train.jsonl"))
    pools = {
        "practise": len(prompts),
        "gate": len(gate),
        "test": len(test),
        "overlap": overlap(gate, [*prompts, *trained]),
        "gate_and_test": overlap(gate, test),
    }
    write_examples(out / "prompts.jsonl", prompts)
    (out / "pools.json").write_text(json.dumps(pools), encoding="utf-8")
    store = round_.human_store
    if store.is_file():
        from agentft.feedback.human import HumanStore

        people = [*HumanStore(store).preferences(), *people]
    write_rows(out / "human.jsonl", (one.to_dict() for one in people))
    write_rows(out / "said.jsonl", ({"id": one.id, "said": said[one.id]} for one in prompts if one.id in said))
    write_rows(out / "anchors.jsonl", (demonstrated_by[one.id].to_dict() | {"id": one.id} for one in prompts if one.id in demonstrated_by))
    summary = {
        "prompts": len(prompts),
        "drops": dict(ctx.drops),
        "pools": pools,
        "human": len(people),
        "said": sum(len(said.get(one.id, ())) for one in prompts),
        "anchors": sum(one.id in demonstrated_by for one in prompts),
        "human_digest": file_digest(store),
        "champion": round_.rounds.lineage.data["current"],
        "critics": [part.identity() for part in round_.critics],
        "persona": round_.session.persona.digest,
        "seed": seed,
    }
    return Outcome(summary | {"dropped": ctx.dropped[:200]}, ctx.files)


def gate_and_test(data: Path) -> tuple[list[Example], list[Example]]:
    """The gate pool (``data.prompts``; held-out demonstrations where there are none) and the test pool, as prompts."""
    prompts, test = ([e.as_prompt()[0] for e in read_conversations(data / f"{name}.jsonl")] for name in ("prompts", "test"))
    return (prompts, test) if prompts else (test, [])


def overlap(left: Sequence[Example], right: Sequence[Example]) -> dict[str, int]:
    """How many prompts of ``left`` have their text, or their group, in ``right``."""
    texts, groups = known_prompts(right), {example.group_key for example in right}
    return {"texts": sum(prompt_key(one) in texts for one in left), "groups": sum(one.group_key in groups for one in left)}


def heard(round_: Round) -> dict[str, list[dict[str, Any]]]:
    """Id of a prompt of this round -> what people said about answers to it while the agent was in use."""
    return {row["id"]: row["said"] for row in iter_rows(round_.lock.path / "said.jsonl")}


def sample(round_: Round, out: Path) -> Outcome:
    """``candidates`` sampled answers and a greedy one (``#0``) per prompt, and the answers that people have judged in use (``#said0``)."""
    options = round_.options.sampling
    prompts = round_.prompts()
    settings = round_.champion.settings
    greedy = [(replace(one, id=f"{one.id}#0"), replace(settings, temperature=0.0, top_p=1.0)) for one in prompts]
    hot = replace(settings, temperature=options.temperature, top_p=options.top_p, seed=settings.seed + 1000 * round_.number)
    sampled = [(replace(one, id=f"{one.id}#{number}"), hot) for number in range(1, options.candidates + 1) for one in prompts]
    made = _generate(round_, [*greedy, *sampled], out)
    given = [answer for prompt, said in heard(round_).items() for answer in served_data.answers_of(prompt, said)]
    with (out / "answers.jsonl").open("a", encoding="utf-8") as stream:
        stream.writelines(json.dumps(answer.to_dict(), ensure_ascii=False) + "\n" for answer in given)
    return replace(made, summary={**made.summary, "answers": made.summary["answers"] + len(given), "said": len(given)})


def revise(round_: Round, out: Path) -> Outcome:
    """Drafts of the answers with most failed items, after feedback in words; ids are ``ANSWER>DRAFT``."""
    options = round_.options.revision
    if options.model == "none":
        (out / "answers.jsonl").write_text("", encoding="utf-8")
        return Outcome({"answers": 0, "failed": 0, "errors": []})
    prompts = {one.id: one for one in round_.prompts()}
    wanted = []
    settings = replace(
        round_.champion.settings, temperature=options.temperature, top_p=0.95, seed=round_.recipe.seed + 1000 * round_.number + 1
    )
    for prompt_id, found in by_prompt(candidates(round_.answers.path, round_.feedback.path)).items():
        # What people found wrong is revised in any case, unless they wrote themselves how it should have been.
        theirs = [one for one in found if served_data.by_people(one.judgement) and not one.judgement.edit]
        others = [one for one in found if not served_data.by_people(one.judgement)]
        for original in [*making.to_revise(theirs, len(theirs)), *making.to_revise(others, options.per_prompt)]:
            for number in range(options.drafts):
                wanted.append((_revision_prompt(round_, prompts[prompt_id], original, f"{original.id}>{number}"), settings))
    return _generate(round_, wanted, out, None if options.model == "champion" else options.model)


def _revision_prompt(round_: Round, prompt: Example, original: making.Candidate, name: str) -> Example:
    from agentft.jinja import render_text

    text = render_text(
        template(round_, "refine"),
        {
            "conversation": [{"role": m.role, "content": m.content} for m in prompt.messages],
            "prompt": prompt.last_user,
            "response": original.text.strip(),
            "feedback": original.judgement.critique,
            "items": [verdict.to_dict() for verdict in original.judgement.verdicts if verdict.verdict == "fail"],
            "persona": round_.session.persona.context()["persona"],
        },
        "template 'refine'",
    ).strip()
    return Example(name, (Message("user", text),), (), prompt.group, {})


def _generate(round_: Round, wanted: Sequence[tuple[Example, GenerationSettings]], out: Path, model: Any = None) -> Outcome:
    """Answers of one backend under several settings, in one file; what an interrupted try finished is taken over."""
    backend = round_.champion.backend if model is None else open_model(round_, model)
    settings = list(dict.fromkeys(one for _, one in wanted))
    done = arms.finished(out)
    report = arms.counter(round_.pipeline.progress, len(wanted), len(done))
    responses: dict[str, Response] = {}
    with (out / arms.PARTIAL).open("a", encoding="utf-8") as stream:

        def on_batch(found: Sequence[Response]) -> None:
            for response in found:
                stream.write(json.dumps(response.to_dict(), ensure_ascii=False) + "\n")
            stream.flush()
            report(found)

        for one in settings:
            asked = [example for example, wanted_settings in wanted if wanted_settings == one]
            responses |= {response.id: response for response in backend.generate(asked, one, on_batch, done)}
    write_rows(out / "answers.jsonl", (responses[example.id].to_dict() for example, _ in wanted))
    (out / arms.PARTIAL).unlink()
    failed = [one for one in responses.values() if one.finish == "error"]
    summary = {"answers": len(responses), "failed": len(failed), "errors": sorted({one.error for one in failed})[:5]}
    return Outcome(summary, retry=bool(failed))


def criticise(round_: Round, answers: Path, out: Path) -> Outcome:
    """Every critic on every answer, one after the other; a critic that is through is not asked again after an interruption."""
    responses = [Response.from_dict(row) for row in iter_rows(answers / "answers.jsonl")]
    by_id = {one.id: one for one in round_.prompts()}
    prompts = [by_id[prompt_of(response.id)] for response in responses]
    ctx = critic_context(round_)
    lines: list[dict[str, Any]] = []
    summary: dict[str, Any] = {"responses": len(responses), "critics": {}}
    failures = 0
    for index, part in enumerate(round_.critics):
        file = out / f"critic-{index}.jsonl"
        if file.is_file():
            found = [Feedback.from_dict(row) for row in iter_rows(file)]
            # What could not be judged the last time is asked again; a failure is never kept.
            again = [place for place, one in enumerate(found) if one.error]
        else:
            found, again = [], list(range(len(responses)))
        if again:
            critic = round_.session.catalog.target(part.entry)
            fresh = critic([prompts[place] for place in again], [responses[place] for place in again], part.config, ctx)
            check_feedback(part.name, fresh, [responses[place] for place in again])
            if found:
                for place, one in zip(again, fresh, strict=True):
                    found[place] = one
            else:
                found = list(fresh)
            temporary = file.with_suffix(".tmp")
            write_rows(temporary, (one.to_dict() for one in found))
            temporary.replace(file)
        lines += [one.to_dict() for one in found]
        errors = Counter(one.error for one in found if one.error)
        unscored = sum(verdict.verdict == "unscored" for one in found for verdict in one.verdicts)
        # An answer that could not be generated is no failure of the critic.
        absent = {response.id for response in responses if response.finish == "error"}
        failures += sum(bool(one.error) and one.response not in absent for one in found)
        summary["critics"][part.name] = {"judged": len(found) - errors.total(), "errors": dict(errors.most_common(5)), "unscored": unscored}
    said = heard(round_)
    people = [
        one
        for prompt, response in zip(prompts, responses, strict=True)
        for one in served_data.feedback_of(response, said.get(prompt.id, ()), round_.session.persona.language)
    ]
    if people:
        lines += [one.to_dict() for one in people]
        summary["critics"][served_data.PEOPLE] = {"judged": len(people), "errors": {}, "unscored": 0}
    write_rows(out / "feedback.jsonl", lines)
    judgements = combine(Feedback.from_dict(row) for row in lines)
    summary["failing"] = sum(bool(one.failed) for one in judgements.values())
    summary["broken"] = sum(bool(one.broken) for one in judgements.values())
    summary["items"] = dict(Counter(item for one in judgements.values() for item in one.failed).most_common())
    return Outcome(summary, retry=failures > 0)


def check_feedback(name: str, found: Sequence[Feedback], responses: Sequence[Response]) -> None:
    """Raise PluginError unless a critic gave one feedback per response, in their order."""
    from agentft.errors import PluginError

    if [one.response for one in found] != [one.id for one in responses]:
        raise PluginError(f"critic '{name}' must give one feedback per response, in their order ({len(found)} for {len(responses)})")


def pair(round_: Round, out: Path) -> Outcome:
    """Make and filter pairs; write them, what the control arm learns from, and a work list for people."""
    options = round_.options.pairs
    account = making.Account()
    prompts = {one.id: one for one in round_.prompts()}
    drafts: dict[str, list[making.Candidate]] = {}
    for draft in candidates(round_.revisions.path, round_.revision_feedback.path):
        drafts.setdefault(draft.id.rpartition(">")[0], []).append(draft)
    anchors = {row.pop("id"): Message.from_dict(row) for row in iter_rows(round_.lock.path / "anchors.jsonl")} if options.anchors else {}
    persona = round_.session.persona
    made: list[Preference] = []
    work: list[dict[str, Any]] = []
    revised = 0
    for prompt_id, samples in by_prompt(candidates(round_.answers.path, round_.feedback.path)).items():
        prompt, kept = prompts[prompt_id], {}
        for original in samples:
            best = making.best_revision(original, drafts.get(original.id, ()), options, account) if original.id in drafts else None
            if best is not None:
                kept[original.id] = best
        revised += len(kept)
        made += making.make_pairs(prompt, samples, kept, options, account)
        if prompt_id in anchors:
            made += making.anchor_pairs(prompt, anchors[prompt_id], samples, persona.check_message(anchors[prompt_id], prompt), account)
        work += _work(prompt, [*samples, *kept.values()])
    people = [Preference.from_dict(row) for row in iter_rows(round_.lock.path / "human.jsonl")]
    paired = [one for one in people if one.paired]
    gate, test = gate_and_test(round_.pipeline.data.path)
    texts, groups = known_prompts([*gate, *test]), {one.group_key for one in (*gate, *test)}

    def forbidden(prompt: Example) -> str:
        return "prompt is in the gate or test pool" if prompt_key(prompt) in texts or prompt.group_key in groups else ""

    # A thumb without a partner is something that only this trainer can learn from.
    thumbs = [one for one in people if not one.paired and not forbidden(one.prompt)] if round_.options.train.use == "kto" else []
    pairs = making.keep_pairs([*paired, *made], options, account, forbidden=forbidden)
    if options.swap is not None:
        pairs = agreed(round_, pairs, account)
    replayed = _replay(round_, len(pairs))
    final = [*pairs, *replayed, *thumbs]
    write_rows(out / "pairs.jsonl", (one.to_dict() for one in final))
    write_examples(out / "chosen.jsonl", (_learnt(one) for one in final if one.chosen is not None))
    write_rows(out / "annotate.jsonl", work)
    summary = {
        "prompts": len(prompts),
        "responses": round_.answers.summary["answers"],
        "failing": round_.feedback.summary["failing"],
        "revised": round_.revisions.summary["answers"],
        "better_revisions": revised,
        "made": len(made) + len(paired),
        "human": len(paired),
        "thumbs": len(thumbs),
        "kept": len(final),
        "replayed": len(replayed),
        "by_origin": dict(Counter(one.origin for one in final)),
        "yield": round(len({one.prompt.id for one in pairs}) / max(1, len(prompts)), 4),
        "drops": dict(account.drops),
        "dropped": account.dropped[:200],
    }
    return Outcome(summary)


def agreed(round_: Round, pairs: Sequence[Preference], account: making.Account) -> list[Preference]:
    """The pairs in which a judge prefers the chosen answer in both orders; what people chose or demonstrated needs no judge.

    Raises:
        DataError: the judge answers nothing at all; the pairs would all be lost for the wrong reason.
    """
    from agentft.feedback.pairwise import Duel, by_likelihood, by_text, compare_pairs

    backend = open_model(round_, round_.options.pairs.swap)
    asked = [one for one in pairs if one.origin not in ("human", "anchor") and one.chosen and one.rejected]
    duels = [Duel(one.id, one.prompt, one.chosen.content, one.rejected.content) for one in asked if one.chosen and one.rejected]
    report = arms.counter(round_.pipeline.progress, 2 * len(duels))
    # A model in this process is asked by likelihood, which has always an answer; a server in words.
    settings = GenerationSettings(max_new_tokens=16, seed=round_.recipe.seed)
    ask = by_likelihood(backend.agent) if hasattr(backend, "agent") else by_text(backend, settings, report)
    verdicts = {one.id: one for one in compare_pairs(duels, ask, template(round_, "judge_pair"))}
    if duels and all(one.error for one in verdicts.values()):
        raise DataError(f"refine.pairs.swap: the judge answered nothing: {next(iter(verdicts.values())).error}")
    kept = []
    for one in pairs:
        verdict = verdicts.get(one.id)
        if verdict is None or verdict.winner == "first":
            kept.append(one)
        elif verdict.winner is None:
            account.drop("the judge's preference cannot be read", one.id)
        else:
            account.drop("the judge does not prefer the chosen answer in both orders", one.id)
    return kept


def _learnt(one: Preference) -> Example:
    """The chosen answer as a demonstration; earlier turns of the conversation are not learned from."""
    assert one.chosen is not None
    earlier = tuple(replace(m, train=False) if m.role == "assistant" else m for m in one.prompt.messages)
    return replace(one.completed(one.chosen), messages=(*earlier, one.chosen))


def _work(prompt: Example, found: Sequence[making.Candidate]) -> list[dict[str, Any]]:
    """One task for a person: the best answer against the one that passes least, where there are two that differ."""
    # The page shows texts: what it cannot show, a call, nobody can judge on it.
    ranked = sorted((one for one in found if one.text.strip() and not one.response.calls), key=lambda one: (one.judgement.passed, one.id))
    if not ranked:
        return []
    best, worst = ranked[-1], ranked[0]
    shown = [best] if best.text.strip() == worst.text.strip() else [best, worst]
    responses = [{"id": one.id, "text": one.text.strip()} for one in shown]
    return [{"id": prompt.id, "prompt": prompt.to_dict(), "responses": responses, "critique": worst.judgement.critique}]


def _replay(round_: Round, new: int) -> list[Preference]:
    """Pairs of earlier rounds, drawn by seed: what was learned must not be forgotten."""
    earlier: list[Preference] = []
    for row in round_.rounds.lineage.rounds:
        folder = row["stages"].get(f"round-{row['round']}-pairs")
        if folder:
            earlier += [Preference.from_dict(one) for one in iter_rows(round_.pipeline.store.stages / folder / "pairs.jsonl")]
    count = min(len(earlier), math.ceil(new * round_.options.pairs.replay))
    chosen = sorted(Random(f"{round_.recipe.seed}:replay:{round_.number}").sample(range(len(earlier)), count))
    return [replace(earlier[index], id=f"replay-{round_.number}-{earlier[index].id}") for index in chosen]


def rows(round_: Round, out: Path) -> Outcome:
    """Tokens of the pairs and of the chosen answers; too long ones are dropped and counted."""
    from agentft.engine.models import load_tokenizer
    from agentft.render.conversation import Renderer
    from agentft.render.pairs import render_pairs
    from agentft.render.rows import render_rows

    tokenizer = load_tokenizer(round_.session.model)
    renderer = Renderer(tokenizer, round_.session.system_prompt, tools=round_.session.tools)
    limit = round_.recipe.data.max_length
    preferences = (Preference.from_dict(row) for row in iter_rows(round_.pairs.path / "pairs.jsonl"))
    pairs = render_pairs(renderer, preferences, out / "pairs.jsonl", max_length=limit, ctx=DataContext())
    chosen = read_examples(round_.pairs.path / "chosen.jsonl")
    learnt = render_rows(renderer, chosen, out / "train.jsonl", max_length=limit, overflow="drop", ctx=DataContext())
    return Outcome({"pad_token_id": tokenizer.pad_token_id, "pairs": pairs.to_dict(), "train": learnt.to_dict()})


def gate(round_: Round, out: Path, stages: Mapping[str, Sequence[StageResult]]) -> Outcome:
    """Decide, and write ``gate.json``."""
    from agentft.arms import read_scores
    from agentft.evaluate.gate import Condition, Measured, decide

    pool, _ = gate_and_test(round_.pipeline.data.path)
    measured = {name: Measured(name, {s.name: s for stage in found for s in read_scores(stage.path)}) for name, found in stages.items()}
    champion, *candidates = (measured[arm.name] for arm in round_.evaluated())
    found = json.loads((round_.lock.path / "pools.json").read_text("utf-8"))
    shared = found["overlap"]["texts"] + found["overlap"]["groups"]
    text = (
        f"gate and training pools share {found['overlap']['texts']} texts and {found['overlap']['groups']} groups"
        if shared
        else f"gate ({found['gate']}), test ({found['test']}) and practice pool ({found['practise']}) are disjoint by text and by group"
    )
    further = [Condition("disjoint pools", "limit", "fail" if shared else "pass", text, float(-shared), None, 0.0, "prompts")]
    further += [trusted(round_, index) for index in range(len(round_.options.gate.critics))]
    hard = [f"persona-adherence/{policy.id}" for policy in round_.session.persona.policies if policy.severity == "hard"]
    options = round_.options.gate
    decisions = decide(
        champion,
        candidates,
        prompts=[one.id for one in pool],
        groups={one.id: one.group_key for one in pool},
        options=options,
        hard_items=hard,
        further=further,
        seed=round_.recipe.seed,
    )
    eligible = decisions if options.promote == "best" else decisions[:1]
    passed = [one for one in eligible if one.state == "promoted"]
    winner = max(passed, key=lambda one: one.gain).arm if passed else None
    data = {"champion": champion.name, "promoted": winner, "decisions": [one.to_dict() for one in decisions], "pools": found}
    (out / "gate.json").write_text(json.dumps(data, ensure_ascii=False, indent=1, allow_nan=False), encoding="utf-8")
    return Outcome({"promoted": winner, "states": {one.arm: one.state for one in decisions}, "sentence": decisions[0].sentence})


def judge_arm(round_: Round, arm: Arm, part: Part, out: Path) -> Outcome:
    """The share of items that a critic passes, per answer to the gate's prompts; a critic that gives a number: that number."""
    from agentft.evaluate.common import score_from

    pool, _ = gate_and_test(round_.pipeline.data.path)
    answers = {row["id"]: Response.from_dict(row) for row in iter_rows(round_.pipeline.answers(arm).path / "answers.jsonl")}
    responses = [answers[one.id] for one in pool]
    found = round_.session.catalog.target(part.entry)(pool, responses, part.config, critic_context(round_))
    check_feedback(part.name, found, responses)
    judgements = combine(found)
    scalar = any(one.score == one.score for one in found)
    values = {one.id: judgements[one.id].score if scalar else judgements[one.id].share for one in pool}
    score = score_from(
        f"critic/{part.name}",
        values,
        {one.id: one.group_key for one in pool},
        seed=round_.recipe.seed,
        unit="reward" if scalar else "share",
        summary=f"what the critic {part.name} says about the answers",
    )
    write_rows(out / "feedback.jsonl", (one.to_dict() for one in found))
    (out / "scores.json").write_text(json.dumps([score.to_dict()], ensure_ascii=False, allow_nan=False), encoding="utf-8")
    failed = sum(bool(one.error) for one in found)
    return Outcome({"judged": len(found) - failed, "failed": failed, "unscored": score.unscored}, retry=failed > 0)


def trusted(round_: Round, index: int) -> Condition:
    """Whether a critic may gate: people have checked it, on the model that judges now, and it passed the bar."""
    from agentft.evaluate.gate import Condition

    use, path = round_.options.gate.critics[index].critic, round_.calibrations[index]
    if use.use == "rules":
        return Condition("rules", "critic", "pass", "the critic rules is exact")
    name = f"critic {use.use}"
    if path is None or not path.is_file():
        where = f": there is no {path}" if path else " (gate.critics: calibration)"
        return Condition(name, "critic", "missing", f"{name} was not held against human labels{where}; run `agentft evaluate-critic`")
    data = json.loads(path.read_text("utf-8"))
    model = use.options.get("model")
    judged_by = str(model.get("model")) if isinstance(model, Mapping) else str(model or "")
    if judged_by and data.get("model") != judged_by:
        return Condition(name, "critic", "fail", f"{name} was checked with the model '{data.get('model')}', but '{judged_by}' judges")
    figures = f"TPR {data['tpr'] or 0:.2f}, TNR {data['tnr'] or 0:.2f} on {data['n']} human labels, needed: {data['bar']:.2f}"
    if not data["passes"]:
        return Condition(name, "critic", "fail", f"{name} may advise, not gate: {figures}")
    return Condition(name, "critic", "pass", f"{name} agrees with people: {figures}")


EXPLAINED = 6


def explain(round_: Round, out: Path) -> Outcome:
    """Log-probability of each token of some answers under the candidate minus that under the base model, in ``tokens.json``."""
    from agentft.engine.explain import token_logprobs

    candidate, base = round_.arms[0], round_.pipeline.agents[0]
    pool, _ = gate_and_test(round_.pipeline.data.path)
    answers = {row["id"]: row for row in iter_rows(round_.pipeline.answers(candidate).path / "answers.jsonl")}
    answered = [one for one in pool if answers[one.id]["finish"] == "stop" and answers[one.id]["text"].strip()]
    chosen = sorted(Random(round_.recipe.seed).sample(range(len(answered)), min(EXPLAINED, len(answered))))
    asked = [answered[index] for index in chosen]
    complete = [replace(one, messages=(*one.messages, Message("assistant", answers[one.id]["text"].strip()))) for one in asked]
    found = {}
    for arm in (candidate, base):
        found[arm.name] = token_logprobs(arm.agent, complete)
        arm.close()
    rows = [
        {
            "id": example.id,
            "prompt": example.last_user,
            "arm": "candidate",
            "answer": answers[example.id]["text"].strip(),
            "pieces": [[text, round(now - before, 4)] for (text, now), (_, before) in zip(*pair_of_rows, strict=True)],
        }
        for example, *pair_of_rows in zip(asked, found[candidate.name], found[base.name], strict=True)
    ]
    (out / "tokens.json").write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    return Outcome({"answers": len(rows)})


# Shared by the steps


def candidates(answers: Path, feedback: Path) -> list[making.Candidate]:
    """Answers of a stage with what all critics said about them; answers that failed are left out."""
    judgements = combine(Feedback.from_dict(row) for row in iter_rows(feedback / "feedback.jsonl"))
    responses = [Response.from_dict(row) for row in iter_rows(answers / "answers.jsonl")]
    empty = Judgement("", (), {}, {}, ())
    found = [making.Candidate(one, judgements.get(one.id, empty), one.id.rpartition(">")[0]) for one in responses]
    return [one for one in found if one.response.finish != "error" and one.judgement.verdicts]


def by_prompt(found: Iterable[making.Candidate]) -> dict[str, list[making.Candidate]]:
    result: dict[str, list[making.Candidate]] = {}
    for one in found:
        result.setdefault(prompt_of(one.id), []).append(one)
    return result


def prompt_of(response: str) -> str:
    """The prompt's id in ``PROMPT#SAMPLE`` and ``PROMPT#SAMPLE>DRAFT``."""
    return response.partition(">")[0].rpartition("#")[0]


def template(round_: Round, name: str) -> str:
    """Source of a feedback template, in the persona's language."""
    from agentft.feedback.prompts import template_source

    persona = round_.session.persona
    return template_source(round_.session.catalog, name, persona.language, persona.templates)


def open_model(round_: Round, use: Any) -> Any:
    """The backend behind a model reference of the recipe, without a persona."""
    from agentft.feedback import prompts

    return prompts.open_model(
        prompts.ModelUse.model_validate(use),
        resolve=round_.session.host.resolve_model,
        device=round_.recipe.device,
        champion=lambda: round_.champion.backend,
        catalog=round_.session.catalog,
    )


def critic_context(round_: Round) -> CriticContext:
    progress = round_.pipeline.progress
    return CriticContext(
        persona=round_.session.persona,
        language=round_.session.persona.language,
        seed=round_.recipe.seed,
        system=round_.session.system_prompt,
        human=round_.human_store,
        reward=round_.pipeline.reward.path if round_.pipeline.reward else None,
        resolve_model=round_.session.host.resolve_model,
        base=round_.recipe.base,
        template=lambda name: template(round_, name),
        open_model=lambda use: open_model(round_, use),
        device=round_.recipe.device,
        progress=lambda done, total: progress.step(done, total),
    )
