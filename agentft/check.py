"""Checking what a recipe names: parts, options, types along the chain, installed versions, persona, model.

:func:`check_recipe` finds everything at once and imports no model code; that is what makes ``agentft check`` quick.
"""

from __future__ import annotations

import glob
from collections.abc import Iterator, Sequence
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from agentft import jinja
from agentft.errors import PluginError, Problem, RecipeError
from agentft.persona import Persona, find_persona, persona_path, resolver, template_path
from agentft.recipe import PartUse, Recipe
from agentft.validation import in_order, problems_of

if TYPE_CHECKING:
    from packaging.requirements import Requirement

    from agentft.catalog import Catalog, Entry

Path_ = tuple[str | int, ...]


def check_recipe(recipe: Recipe, catalog: Catalog) -> list[Problem]:
    """Everything that is wrong with what ``recipe`` names, sorted by place; empty if it can run."""
    return _Check(recipe, catalog).run()


def part_uses(recipe: Recipe) -> Iterator[tuple[str, Path_, PartUse]]:
    """Every part that a recipe names: kind, path in the recipe, use."""
    groups: list[tuple[str, Path_, Sequence[PartUse]]] = [
        ("source", ("data", "sources"), recipe.data.sources),
        ("transform", ("data", "transforms"), recipe.data.transforms),
        ("source", ("data", "validation"), recipe.data.validation),
        ("source", ("data", "test"), recipe.data.test),
        ("source", ("data", "prompts"), recipe.data.prompts),
        ("trainer", ("train",), recipe.train),
        ("evaluator", ("evaluate",), recipe.evaluate),
    ]
    if (refine := recipe.refine) is not None:
        groups += [("source", ("refine", "prompts"), refine.prompts), ("critic", ("refine", "critics"), refine.critics)]
    for kind, path, uses in groups:
        yield from ((kind, (*path, index), use) for index, use in enumerate(uses))
    if refine is not None:
        yield from (("critic", ("refine", "gate", "critics", n, "critic"), one.critic) for n, one in enumerate(refine.gate.critics))
        yield "trainer", ("refine", "train"), refine.train
        if refine.control is not None:
            yield "trainer", ("refine", "control"), refine.control


def unmet(requirement: Requirement) -> str:
    """Why an installed environment does not satisfy a requirement, or an empty string. Extras are looked at too."""
    if requirement.marker is not None and not requirement.marker.evaluate():
        return ""
    try:
        version = metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        return f"'{requirement.name}' is not installed"
    if not requirement.specifier.contains(version, prereleases=True):
        return f"{requirement.name} {version} is installed, which is not {requirement.specifier}"
    from packaging.requirements import Requirement

    for needed in [Requirement(text) for text in metadata.requires(requirement.name) or ()] if requirement.extras else []:
        marker, needed.marker = needed.marker, None
        brought = marker is not None and any(
            marker.evaluate({"extra": extra}) and not marker.evaluate({"extra": ""}) for extra in requirement.extras
        )
        if brought and (reason := unmet(needed)):
            return reason
    return ""


def missing(entry: Entry) -> list[tuple[str, str]]:
    """What a part ``requires`` and the environment does not have, each with the reason."""
    from packaging.requirements import InvalidRequirement, Requirement

    found = []
    for text in getattr(entry.spec, "requires", ()):
        try:
            reason = unmet(Requirement(text))
        except InvalidRequirement:
            reason = f"its plugin {entry.distribution} names a requirement that is none: '{text}'"
        if reason:
            found.append((text, reason))
    return found


_SOURCES_OF = {
    "preference": "name a source of preferences, such as `{use: preferences, path: pairs.jsonl}`",
    "example": "name a source of demonstrations",
    "labelled": "name a source with labels, such as `{use: csv, path: rows.csv, columns: {text: TEXT, label: CLASS}}`",
    "text": "name a source of texts, such as `{use: text, path: docs/*.md}`",
}


_KINDS = {"class": "classes", "number": "numbers"}
_HELD = (("data", "sources"), ("data", "test"))
# What a trainer leaves behind, in words, and what later trainers of the recipe may leave behind.
_LEFT = {"model": "a chat model", "head": "a model that predicts labels", "encoder": "an encoder", "seq2seq": "an encoder-decoder"}
_GO_ON = {"model": ("model", "head", "examples"), "encoder": ("encoder", "head"), "head": ("head",), "seq2seq": ("seq2seq",)}
# What an evaluator of raw texts looks at -> what it can measure.
_MEASURES = {"text": ("model",), "masked-text": ("encoder",)}


class _Check:
    def __init__(self, recipe: Recipe, catalog: Catalog):
        self.recipe, self.catalog = recipe, catalog
        self.problems: list[Problem] = []
        self.entries: dict[Path_, Entry] = {}
        self.made: dict[Path_, str] = {}  # what a source produces, where its options decide

    def run(self) -> list[Problem]:
        self.requirements()
        for kind, path, use in part_uses(self.recipe):
            self.part(kind, path, use)
        self.backend(("generation", "backend"), self.recipe.generation.backend)
        self.losses()
        self.environments()
        self.chain()
        self.stages()
        self.evaluation()
        self.heads()
        self.model()
        persona = self.persona()
        if persona is not None:
            self.template(persona)
            self.language(persona)
        return in_order(self.problems, str(self.recipe.path or ""))

    def report(self, path: Path_, message: str, hint: str = "", *, key: bool = False) -> None:
        self.problems.append(self.recipe.problem(path, message, hint, key=key))

    def requirements(self) -> None:
        from packaging.requirements import Requirement

        for index, text in enumerate(self.recipe.requires):
            if reason := unmet(Requirement(text)):
                self.report(("requires", index), reason, f"pip install --upgrade '{text}'")

    def named(self, kind: str, path: Path_, name: str) -> Entry | None:
        """The part of that name, or None and a problem."""
        try:
            entry = self.catalog.get(kind, name)
        except PluginError as error:
            self.report(path, str(error))
            return None
        for text, reason in missing(entry):
            self.report(path, f"{kind} '{name}': {reason}", f"pip install '{text}'")
        return entry

    def backend(self, path: Path_, use: PartUse) -> None:
        """The part that generates, and the one inside of it where it hands the work on."""
        self.part("backend", path, use)
        entry = self.entries.pop(path, None)
        if entry is None:
            return
        reads = getattr(entry.spec, "reads", "safetensors")
        if reads != "safetensors" and (self.recipe.train or self.recipe.refine):
            what = "GGUF files as they are" if reads == "gguf" else "the model of a server"
            hint = "leave out train and refine, or generate with transformers"
            self.report((*path, "use"), f"'{entry.name}' runs {what}, and cannot run what this recipe trains", hint)
        if isinstance(inner := use.options.get("backend"), str | dict):
            with suppress(ValidationError):  # the part's own options have reported it
                self.backend((*path, "backend"), PartUse.model_validate(inner))

    def part(self, kind: str, path: Path_, use: PartUse) -> None:
        if use.weight != 1 and kind != "source":
            self.report((*path, "weight"), f"'weight' is for sources, '{use.use}' is a {kind}", key=True)
        entry = self.named(kind, (*path, "use"), use.use)
        if entry is None:
            return
        self.entries[path] = entry
        if self.options(entry, path, use.options) and kind == "source" and entry.plugin.builtin:
            self.files(path, use.options.get("path"))

    def options(self, entry: Entry, path: Path_, given: dict[str, Any]) -> bool:
        """Whether the part takes these options."""
        try:
            model = self.catalog.config_model(entry)
            if model is not None:
                self.made[path] = getattr(model.model_validate(given), "produces", "")
        except ValidationError as error:
            self.problems += problems_of(error, model, lambda at, message, hint, key: self.recipe.problem(at, message, hint, key=key), path)  # type: ignore[arg-type]
            return False
        except PluginError as error:
            self.report((*path, "use"), str(error))
            return False
        except Exception as error:  # foreign code; it must not hide the other problems, and it must be named
            cause = f"{type(error).__name__}: {error}"
            self.report(
                (*path, "use"),
                f"{entry.kind} '{entry.name}' of {entry.distribution} {entry.version} failed while its options were checked: {cause}",
            )
            return False
        for name in given if model is None else ():
            self.report((*path, name), f"'{entry.name}' takes no options, so '{name}' is not known", key=True)
        return model is not None or not given

    def files(self, path: Path_, given: Any) -> None:
        """Files that a built-in source reads. (What ``path`` means to another source is that source's business.)"""
        several = isinstance(given, (list, tuple))
        for index, name in enumerate(given if several else [given] if isinstance(given, str) else []):
            file = str(self.recipe.base / Path(name).expanduser())
            if not Path(file).exists() and not glob.glob(file, recursive=True):
                self.report(
                    (*path, "path", index) if several else (*path, "path"),
                    f"there is no file '{file}'",
                    "paths start at the recipe's folder",
                )

    def produces(self, path: Path_) -> str:
        """Kind of the records that a part produces: its options may decide, else its descriptor says."""
        return self.made.get(path) or str(getattr(self.entries[path].spec, "produces", ""))

    def chain(self) -> None:
        """Record kinds from the sources through the transforms to the trainers. Preferences pass the transforms by."""
        given: dict[str, str] = {}  # kind -> first source of it
        read: set[str] = set()  # kinds before any transform
        specs = [entry.spec for path, entry in self.entries.items() if path[:2] == ("data", "transforms")]
        # A prompt has no answer to learn from, but what was asked can be labelled.
        labels = (
            {"prompt"}
            if any(getattr(s, "consumes", "") == "example" and getattr(s, "produces", "") == "labelled" for s in specs)
            else set()
        )
        for path, entry in self.entries.items():
            produces, consumes = self.produces(path), getattr(entry.spec, "consumes", "")
            if path[:2] == ("data", "sources"):
                if produces == "prompt":
                    message = f"'{entry.name}' has prompts without answers; there is nothing to learn from"
                    self.report((*path, "use"), message, "name it under data.prompts")
                elif mixed := [kind for kind in given if kind != produces and not {kind, produces} & {"preference", "text"}]:
                    self.report((*path, "use"), f"'{entry.name}' gives {produces} records, the source before it {mixed[0]} records")
                else:
                    given.setdefault(produces, entry.name)
                    read.add(produces)
            elif path[:2] in (("data", "validation"), ("data", "test")) and read and produces not in read | labels:
                self.report((*path, "use"), f"'{entry.name}' gives {produces} records, data.sources {' and '.join(sorted(read))} records")
            elif path[:2] in (("data", "prompts"), ("refine", "prompts")) and produces not in ("prompt", "example"):
                self.report((*path, "use"), f"'{entry.name}' gives {produces} records, which are no prompts")
            elif path[:2] == ("data", "transforms") and given:
                if consumes == "preference" and set(given) == {"preference"}:
                    self.report((*path, "use"), f"'{entry.name}' takes preference records, but transforms are for demonstrations only")
                elif consumes != "any":
                    wrong = [kind for kind in given if kind not in (consumes, "preference")]
                    if wrong:
                        self.report((*path, "use"), f"'{entry.name}' takes {consumes} records, but gets {wrong[0]} records")
                    given = {entry.spec.produces if kind == consumes else kind: name for kind, name in given.items()}  # type: ignore[attr-defined]
            elif path[0] == "train" and given and consumes not in given and not (consumes == "text" and "labelled" in given):
                message = f"'{entry.name}' takes {consumes} records, but gets {' and '.join(given)} records"
                self.report((*path, "use"), message, _SOURCES_OF.get(consumes, ""))
        self.shown_examples()
        if self.recipe.train and not self.recipe.data.sources:
            self.report(("train",), "there is nothing to train on", "name a source under data.sources")
        self.refinement()

    def shown_examples(self) -> None:
        """Examples that are shown before a prompt: what is trained after them would not have been trained with them."""
        for path, entry in self.entries.items():
            if getattr(entry.spec, "produces", "") != "examples":
                continue
            if path[0] == "refine":
                self.report((*path, "use"), f"'{entry.name}' trains nothing, so a round cannot be trained with it", "use: dpo")
            elif path[0] == "train" and int(path[1]) + 1 < len(self.recipe.train):
                self.report((*path, "use"), f"'{entry.name}' has to be the last stage of train", "move it to the end")
            elif path[0] == "train" and self.recipe.refine is not None:
                self.report(
                    (*path, "use"), f"'{entry.name}' trains nothing that rounds could go on from", "leave out refine, or train first"
                )

    def stages(self) -> None:
        """Whether each trainer can go on from what the one before it leaves behind; reward models stand aside."""
        before = ("", "")
        for index in range(len(self.recipe.train)):
            entry = self.entries.get(("train", index))
            leaves = str(getattr(entry.spec, "produces", "")) if entry else ""
            if entry is None or leaves == "reward":
                continue
            if before[0] and leaves not in _GO_ON.get(before[0], (leaves,)):
                message = f"'{entry.name}' cannot go on from '{before[1]}', which leaves {_LEFT[before[0]]}"
                self.report(("train", index, "use"), message, "make two recipes of it")
            before = leaves, entry.name

    @property
    def leaves(self) -> str:
        """What the recipe's last trainer leaves behind, reward models aside; a chat model where nothing is trained."""
        entries = [self.entries[path] for path in self.entries if path[0] == "train"]
        found = [kind for entry in entries if (kind := str(getattr(entry.spec, "produces", ""))) not in ("reward", "examples")]
        return found[-1] if found else "model"

    def refinement(self) -> None:
        """What a round needs: critics and trainers of the right kind, and prompts for its gate."""
        refine = self.recipe.refine
        if refine is None:
            return
        if self.leaves in _LEFT and self.leaves != "model":
            self.report(("refine",), f"rounds of feedback are for chat models, and the last trainer leaves {_LEFT[self.leaves]}")
        if not self.recipe.data.prompts and not (self.recipe.data.sources and self.recipe.data.split.test > 0):
            self.report(("refine",), "the gate has no prompts to decide on", "name a source under data.prompts")
        control = self.entries.get(("refine", "control"))
        if control is not None and getattr(control.spec, "consumes", "") != "example":
            self.report(("refine", "control", "use"), f"'{control.name}' does not learn from answers alone", "use: sft")

    def losses(self) -> None:
        """The losses that trainers with heads name: they exist, take their options, and fit the task."""
        for path, entry in [*self.entries.items()]:
            if (
                path[0] != "train"
                or getattr(entry.spec, "consumes", "") != "labelled"
                or not (given := self.recipe.train[int(path[1])].options.get("loss"))
            ):
                continue
            try:
                use = PartUse.model_validate(given)
            except ValidationError:
                continue  # the trainer's own options have reported it
            where: Path_ = (*path, "loss")
            self.part("loss", where, use)
            loss = self.entries.pop(where, None)
            wanted = "number" if entry.name == "regress" else "class"
            if loss is not None and (kind := getattr(loss.spec, "consumes", "any")) not in ("any", wanted):
                self.report(
                    (*where, "use") if isinstance(given, dict) else where,
                    f"the loss '{loss.name}' is for {_KINDS[kind]}, '{entry.name}' learns {_KINDS[wanted]}",
                )

    def environments(self) -> None:
        """The environments that evaluators name: they exist and take their options."""
        for path, entry in [*self.entries.items()]:
            if path[0] != "evaluate" or entry.name != "simulation" or not entry.plugin.builtin:
                continue
            given = self.recipe.evaluate[int(path[1])].options
            env, options = given.get("env"), given.get("options", {})
            if not isinstance(env, str) or not isinstance(options, dict):
                continue  # the evaluator's own options have reported it
            named = self.named("environment", (*path, "env"), env)
            if named is not None:
                self.options(named, (*path, "options"), options)

    def heads(self) -> None:
        """What does not go together with models that predict labels: trainers and metrics of models that talk, and rounds."""
        heads = [entry for path, entry in self.entries.items() if path[0] == "train" and getattr(entry.spec, "produces", "") == "head"]
        if not heads:
            return
        for path, entry in self.entries.items():
            spec = entry.spec
            if path[0] == "evaluate" and getattr(spec, "consumes", "") != "prediction":
                self.report(
                    (*path, "use"),
                    f"'{entry.name}' looks at answers in words, '{heads[0].name}' predicts labels",
                    "use accuracy, f1, regression, ner, qa ...",
                )
        if self.recipe.refine is not None:
            self.report(("refine",), f"rounds of feedback are for models that talk, '{heads[0].name}' predicts labels", key=True)

    def evaluation(self) -> None:
        recipe = self.recipe
        held_out = bool(recipe.data.test) or (bool(recipe.data.sources) and recipe.data.split.test > 0)
        answered = held_out or any(self.produces(path) == "example" for path in self.entries if path[:2] == ("data", "prompts"))
        seen: dict[str, int] = {}
        for path, entry in self.entries.items():
            if path[0] != "evaluate":
                continue
            consumes = getattr(entry.spec, "consumes", "")
            if wanted := _MEASURES.get(consumes, ()):
                if self.leaves not in wanted:
                    hint = (
                        "use: text-perplexity"
                        if consumes == "masked-text"
                        else "use: masked-perplexity"
                        if self.leaves == "encoder"
                        else ""
                    )
                    self.report((*path, "use"), f"'{entry.name}' cannot measure what the recipe trains, {_LEFT[self.leaves]}", hint)
                elif not held_out or not self.texts():
                    message = f"'{entry.name}' needs held-out texts, and there are none"
                    self.report((*path, "use"), message, "name a source of texts, and set data.split.test above 0")
            elif self.leaves == "encoder":
                self.report((*path, "use"), f"'{entry.name}' looks at answers, and an encoder gives none", "use: masked-perplexity")
            elif consumes in ("reference", "example") and not answered:
                self.report(
                    (*path, "use"),
                    f"'{entry.name}' compares with held-out demonstrations, and there are none",
                    "set data.split.test above 0",
                )
            elif not answered and not recipe.data.prompts:
                self.report(
                    (*path, "use"),
                    f"there are no prompts for '{entry.name}'",
                    "name a source under data.prompts, or set data.split.test above 0",
                )
            use = recipe.evaluate[int(path[1])]
            if (name := use.model_dump_json()) in seen:
                self.report((*path, "use"), f"'{entry.name}' is named twice", f"it is entry {seen[name] + 1} already")
            seen.setdefault(name, int(path[1]))
        for index, use in enumerate(recipe.data.prompts):
            named = self.entries.get(("data", "prompts", index))
            if use in recipe.data.sources and named is not None and self.produces(("data", "prompts", index)) == "example":
                message = f"'{use.use}' is also under data.sources: the agent would be asked what it was trained on"
                self.report(("data", "prompts", index), message, "leave it out here; data.split.test holds rows back for the evaluation")
        if not recipe.train and not recipe.evaluate:
            self.report((), "the recipe does nothing: it neither trains nor evaluates", "add train: or evaluate:")

    def texts(self) -> bool:
        """Whether some source gives raw texts, or rows with labels, which are texts too."""
        return any(self.produces(path) in ("text", "labelled") for path in self.entries if path[:2] in _HELD)

    def model(self) -> None:
        reference = self.recipe.model
        looks_local = reference.startswith(("./", "../", "/", "~", ".\\")) or reference.lower().endswith(".gguf")
        if looks_local and not Path(self.recipe.model_reference).exists() and not Path(reference).expanduser().exists():
            self.report(("model",), f"there is no file or folder '{self.recipe.model_reference}'", "paths start at the recipe's folder")

    def persona(self) -> Persona | None:
        where: Path_ = ("persona", "use")
        try:
            path = persona_path(self.recipe.persona.use, self.recipe.base, resolver(self.catalog))
            if not path.exists():
                self.report(where, f"there is no file '{path}'", "paths start at the recipe's folder")
                return None
            return find_persona(self.catalog, self.recipe.persona, self.recipe.base, self.variable)
        except PluginError as error:
            self.report(where, str(error))
        except RecipeError as error:
            self.problems += error.problems
        return None

    def variable(self, name: str, message: str, hint: str) -> Problem:
        return self.recipe.problem(("persona", "variables", name), message, hint, key="has no variable" in message)

    def template(self, persona: Persona) -> None:
        try:
            path = template_path(persona, self.catalog)
            jinja.render_text(path.read_text("utf-8"), persona.context(), str(path))
        except PluginError as error:
            self.report(("persona", "use"), f"persona '{persona.name}': {error}")
        except RecipeError as error:
            self.problems += error.problems
        except (OSError, UnicodeDecodeError) as error:
            self.report(("persona", "use"), f"the template '{persona.template}' of persona '{persona.name}' cannot be read: {error}")

        for name, chosen in persona.templates.items():
            try:
                path = Path(chosen) if chosen.endswith(".j2") else self.catalog.path(self.catalog.get("template", chosen))
                found = jinja.syntax_errors(path.read_text("utf-8"))
            except (PluginError, OSError, UnicodeDecodeError) as error:
                found = [str(error)]
            for problem in found:
                self.report(("persona", "use"), f"persona '{persona.name}': its template '{name}' cannot be used: {problem}")

    def language(self, persona: Persona) -> None:
        for _, path, use in part_uses(self.recipe):
            spoken = use.options.get("language")
            if spoken in ("en", "zh") and spoken != persona.language:
                self.report(
                    (*path, "language"), f"'{use.use}' is set to {spoken}, but the persona '{persona.name}' speaks {persona.language}"
                )
