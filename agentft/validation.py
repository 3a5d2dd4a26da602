"""Pydantic's findings in words a newcomer understands, with the place in the file and "did you mean"."""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, ClassVar, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, Strict, ValidationError
from pydantic.fields import FieldInfo
from typing_extensions import get_type_hints, is_typeddict

from agentft.errors import Problem, did_you_mean
from agentft.yamlio import show

# (path of keys and indices, message, hint, whether the key and not the value is meant) -> Problem
Report = Callable[[Sequence[str | int], str, str, bool], Problem]


class Model(BaseModel):
    """Base of everything that is read from YAML: immutable, hashable, no unknown keys, ``"3"`` is not a number."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    # What a message says when something else stands where this model belongs.
    expects: ClassVar[str] = ""

    def __hash__(self) -> int:
        return hash(self.model_dump_json())  # a field may hold a dict, which pydantic's own hash cannot take


Item = TypeVar("Item")
# YAML gives lists; a frozen model keeps them as tuples.
Listed = Annotated[tuple[Item, ...], Strict(False)]


def problems_of(error: ValidationError, model: type[BaseModel], report: Report, prefix: Sequence[str | int] = ()) -> list[Problem]:
    """One problem per mistake.

    Args:
        error: what ``model.model_validate`` raised.
        model: the model, for its field names and limits.
        report: makes a problem from a path.
        prefix: path of the validated mapping inside the file.
    """
    found: list[Problem] = []
    steps = [(details, _walk(model, details["loc"])) for details in error.errors()]
    for details, spot in steps:
        # Of a union's members, the one that the input comes closest to speaks: errors inside it are the useful ones.
        if spot.in_union and any(len(other.path) > len(spot.path) and other.path[: len(spot.path)] == spot.path for _, other in steps):
            continue
        path, message, hint, key = _finding(details, spot)
        problem = report((*prefix, *path), message, hint, key)
        if problem not in found:
            found.append(problem)
    return found


def in_order(problems: Iterable[Problem], first: str = "") -> list[Problem]:
    """Each problem once, by place: those of the file ``first``, then other files, then the command line."""

    def place(problem: Problem) -> tuple[Any, ...]:
        return (problem.file.startswith("--set "), bool(first) and problem.file != first, problem.file, problem.line, problem.column)

    return sorted(dict.fromkeys(problems), key=place)


class _Spot(NamedTuple):
    """What pydantic's ``loc`` points at. ``owner`` is the model that the last key belongs to."""

    path: tuple[str | int, ...]
    annotation: Any
    metadata: tuple[Any, ...]
    owner: Any
    in_union: bool


def _finding(details: Any, spot: _Spot) -> tuple[tuple[str | int, ...], str, str, bool]:
    kind, value, path = details["type"], details["input"], spot.path
    if kind == "extra_forbidden":
        return path, f"unknown key '{path[-1]}'", did_you_mean(str(path[-1]), fields_of(spot.owner)), True
    if kind == "missing":
        field = fields_of(spot.owner).get(str(path[-1]))
        return path[:-1], f"'{path[-1]}' is missing", (field.description if field else None) or "", False
    if kind in ("value_error", "assertion_error"):
        return path, str(details["ctx"]["error"]), "", False
    if kind == "union_tag_invalid":
        context = details["ctx"]
        return path, f"{context['discriminator']} must be one of {context['expected_tags']}, not '{context['tag']}'", "", False
    expected = describe(spot.annotation, spot.metadata)
    if not expected:
        return path, f"{_label(path)} is not valid: {details['msg'][:1].lower()}{details['msg'][1:]}", "", False
    hint = ""
    if isinstance(value, str) and (choices := _choices(spot.annotation)):
        hint = did_you_mean(value, choices)
    elif expected.startswith("a list") and isinstance(value, (str, Mapping)):
        hint = "start each entry with '- ', or write [ ... ]"
    # A list of the choices would only repeat the message.
    return path, f"{_label(path)} must be {expected}, not {show(value)}", "" if hint.startswith("known") else hint, False


def _label(path: Sequence[str | int]) -> str:
    if not path:
        return "this"
    if isinstance(path[-1], int):
        return f"entry {path[-1] + 1} of {_label(path[:-1])}" if len(path) > 1 else f"entry {path[-1] + 1}"
    return f"'{path[-1]}'"


def describe(annotation: Any, metadata: Iterable[Any] = ()) -> str:
    """What a field takes, in words: ``a whole number of at least 1``. Empty where there are no words for it."""
    annotation, extra = _bare(annotation)
    limits = [*metadata, *extra]
    members = _members(annotation)
    if members:
        words = [describe(member, limits) for member in members if member is not type(None)]
        return " or ".join(dict.fromkeys(words)) if all(words) else ""
    if typing.get_origin(annotation) is typing.Literal:
        return "one of " + ", ".join(str(choice) for choice in typing.get_args(annotation))
    if fields := fields_of(annotation):
        return getattr(annotation, "expects", "") or f"a mapping with the keys {', '.join(fields)}"
    arguments = typing.get_args(annotation)
    origin = typing.get_origin(annotation) or annotation
    if origin in (list, tuple, set, frozenset, Sequence):
        inside = _PLURALS.get(describe(arguments[0]) if arguments else "", "")
        return f"a list{inside}{_not_empty(limits)}"
    if origin in (dict, Mapping):
        return "a mapping"
    if origin is str:
        return f"text{_not_empty(limits)}"
    if origin is bool:
        return "true or false"
    if origin in (int, float):
        return f"{'a whole number' if origin is int else 'a number'}{_limits(limits)}"
    return ""


_PLURALS = {"text": " of texts", "a number": " of numbers", "a whole number": " of whole numbers"}


def _limits(metadata: Sequence[Any]) -> str:
    words = []
    for name, phrase in (("gt", "above {}"), ("ge", "of at least {}"), ("lt", "below {}"), ("le", "of at most {}")):
        words += [phrase.format(value) for item in metadata if (value := getattr(item, name, None)) is not None]
    return " " + " and ".join(words) if words else ""


def _not_empty(metadata: Sequence[Any]) -> str:
    return " that is not empty" if any(getattr(item, "min_length", 0) for item in metadata) else ""


def _choices(annotation: Any) -> list[str]:
    annotation = _plain(annotation)
    if members := _members(annotation):
        return [choice for member in members for choice in _choices(member)]
    return [str(choice) for choice in typing.get_args(annotation)] if typing.get_origin(annotation) is typing.Literal else []


def fields_of(annotation: Any) -> dict[str, FieldInfo]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return {field.alias or name: field for name, field in annotation.model_fields.items()}
    if is_typeddict(annotation):
        return {name: FieldInfo.from_annotation(hint) for name, hint in get_type_hints(annotation, include_extras=True).items()}
    return {}


def _walk(model: Any, location: Sequence[str | int]) -> _Spot:
    """Follow ``loc`` through the annotations; union tags are not part of the path."""
    path: list[str | int] = []
    annotation, metadata, owner, in_union, union = model, (), model, False, None
    for step in location:
        annotation, in_union, metadata = _plain(annotation), False, ()
        if members := _members(annotation):
            # pydantic names the member that it tried; that is not a key of the file.
            union, in_union = annotation, True
            annotation = _tagged(members, str(step))
            continue
        arguments = typing.get_args(annotation)
        if step == "[key]":
            annotation = arguments[0] if arguments else Any
            continue
        path.append(step)
        if fields := fields_of(annotation):
            owner = annotation
            field = fields.get(str(step))
            annotation, metadata = (field.annotation, tuple(field.metadata)) if field else (Any, ())
        else:
            is_mapping = typing.get_origin(annotation) in (dict, Mapping)
            annotation = (arguments[-1] if is_mapping else arguments[0]) if arguments else Any
    return _Spot(tuple(path), union if in_union else annotation, metadata, owner, in_union)


def _tagged(members: Sequence[Any], tag: str) -> Any:
    for member in members:
        bare, _ = _bare(member)
        name = getattr(bare, "__name__", str(bare))
        literals = [choice for field in fields_of(bare).values() for choice in _choices(field.annotation)]
        if tag == name or tag in literals or tag.startswith(f"{name}[") or f"[{name}]" in tag or tag.endswith(f"{name}]"):
            return member
    return Any


def _bare(annotation: Any) -> tuple[Any, list[Any]]:
    """Without ``Annotated``, and its metadata."""
    if typing.get_origin(annotation) is not typing.Annotated:
        return annotation, []
    inner, *metadata = typing.get_args(annotation)
    return inner, [limit for item in metadata for limit in (item.metadata if isinstance(item, FieldInfo) else [item])]


def _plain(annotation: Any) -> Any:
    """Without ``Annotated`` and ``| None``."""
    annotation, _ = _bare(annotation)
    members = [member for member in _members(annotation) if member is not type(None)]
    return _plain(members[0]) if len(members) == 1 else annotation


def _members(annotation: Any) -> tuple[Any, ...]:
    return typing.get_args(annotation) if typing.get_origin(annotation) in (typing.Union, types.UnionType) else ()
