"""The base of every config section, and how a refused config is explained."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from types import UnionType
from typing import Any, ClassVar, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator

from popdl.errors import PopdlError

__all__ = ["Section", "explain", "refusal", "suggestion", "validate", "validate_options"]


class Section(BaseModel):
    """A config section: typed, frozen, and closed to unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)

    written_as: ClassVar[str | None] = None
    """What the reference calls a section that users write as something else than a mapping of its keys."""

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_value_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        """YAML reads `yes` and `on` as true, and pydantic takes true for 1."""
        annotation = cls.model_fields[info.field_name or ""].annotation
        if isinstance(value, bool) and annotation is not Any and bool not in (annotation, *get_args(annotation)):
            raise ValueError(f"expected no truth value, found {str(value).lower()}")
        return value


AnySection = TypeVar("AnySection", bound=Section)


DNADNA = {
    "loss_weight": "weight",
    "loss_func": "loss",
    "log_transform": "scale",
    "n_epochs": "max_epochs",
    "n_blocks": "num_blocks",
    "n_features": "num_features",
    "n_scenarios": "num_scenarios",
    "n_replicates": "replicates",
    "n_samples": "num_haplotypes",
    "size": "individuals",
    "max_snp": "sites",
    "keep_polymorphic_only": "polymorphic",
    "reformat_position": "reformat",
    "inherit": "inherits",
    "learned_params": "targets",
    "dataset_transforms": "transforms",
    "dataset_splits": "splits",
}
"""What dnadna's configs call a key of ours, for those who come from there."""


def suggestion(word: str, known: Iterable[str]) -> str:
    """Say which known word was probably meant, and list them all."""
    known = sorted(known)
    same = {name.lower(): name for name in known}
    close = [same[word.lower()]] if word.lower() in same else []
    close += [name for name in (DNADNA.get(word),) if name in known]
    close += difflib.get_close_matches(word, known, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}known: {', '.join(known) or 'none'}"


def validate(section: type[AnySection], values: Any, *, where: str) -> AnySection:
    """Build a section from plain values, or raise a :class:`PopdlError` that lists everything wrong with it.

    Parameters
    ----------
    section
        The class to build.
    values
        What YAML or JSON gave.
    where
        Where the values come from: a file, or a key such as ``simulation``.
    """
    try:
        return section.model_validate(values)
    except ValidationError as error:
        raise PopdlError(refusal(where, explain(error, section=section))) from None


def refusal(where: str, lines: Iterable[str]) -> str:
    """The message that lists everything wrong with a config."""
    return "\n".join([f"{where}: the config is not valid:", *(f"  {line}" for line in dict.fromkeys(lines))])


def validate_options(section: type[AnySection], values: Any, *, key: str) -> AnySection:
    """Build the options of a part, or raise a :class:`PopdlError` with a line for each thing that is wrong, under its full key.

    Parameters
    ----------
    section
        The class to build.
    values
        What the config says.
    key
        Where it says so, such as ``networks.cnn`` or ``transforms.train[1]``.
    """
    try:
        return section.model_validate(values)
    except ValidationError as error:
        raise PopdlError("\n".join(explain(error, section=section, prefix=key))) from None


def explain(error: ValidationError, *, section: type[BaseModel], prefix: str = "") -> list[str]:
    """Turn pydantic's errors into one line each: key, what was expected, what was found, and what was probably meant.

    What a section says of itself as a whole may be several lines, which begin with the key that they are about.
    """
    lines = []
    expected: dict[str, list[str]] = {}
    found: dict[str, Any] = {}
    for item in error.errors():
        path, around, inside = _place(section, item["loc"])
        key = ".".join(filter(None, [prefix, *path]))
        if item["type"] == "value_error":
            lines += [
                _joined(key, text.strip(), inside) for text in item["msg"].removeprefix("Value error, ").split("\n")
            ]
        elif item["type"] == "extra_forbidden":
            lines.append(f"{key}: unknown key; {suggestion(path[-1], around)}")
        elif item["type"] == "missing":
            lines.append(f"{key}: this key is required")
        else:  # a value of several types has one error for each of them
            if key not in expected:
                lines.append(key)
            expected.setdefault(key, []).append(_expected(item["type"], item.get("ctx", {}), item["msg"]))
            found[key] = item["input"]
    return [_unfit(line, expected[line], found[line]) if line in expected else line for line in lines]


def _joined(key: str, text: str, inside: Iterable[str]) -> str:
    """A message under a key, which may begin with a key of its own."""
    begins = text.partition(":")[0].partition(".")[0]
    return f"{key}{'.' if key and begins in inside else ': ' if key else ''}{text}"


def _unfit(key: str, expected: Iterable[str], found: Any) -> str:
    options = list(dict.fromkeys(expected))
    words = [word for option in options for word in re.findall(r"'([^']+)'", option)]
    meant = difflib.get_close_matches(found, words, n=1) if isinstance(found, str) else []
    text = repr(found)
    text = text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}…"
    return f"{key}: expected {', or '.join(options)}, found {text}" + (f"; did you mean {meant[0]!r}?" if meant else "")


LONGEST_VALUE = 60
"""Characters of a value that a message shows."""
KINDS = {
    "int": "a whole number",
    "float": "a number",
    "string": "text",
    "bool": "true or false",
    "list": "a list",
    "tuple": "a list",
    "dict": "a mapping of names to values",
    "model": "a mapping of keys to values",
    "path": "the path of a file",
    "none": "null",
    "finite": "a finite number",
}
"""What values are called in messages, by how the types of pydantic's errors begin."""
BOUNDS = {
    "gt": "greater than",
    "ge": "of at least",
    "lt": "less than",
    "le": "of at most",
    "multiple_of": "that is a multiple of",
}


def _expected(kind: str, context: Mapping[str, Any], message: str) -> str:
    """What a value should have been, in plain words."""
    for name, words in BOUNDS.items():
        if name in context:
            return f"a number {words} {context[name]:g}"
    if kind == "literal_error":
        return str(context["expected"])
    if kind == "string_pattern_mismatch":
        return f"text that matches the pattern {context['pattern']}"
    for name, end in (("min_length", "at least"), ("max_length", "at most")):
        if name in context:
            return f"{end} {context[name]} {'characters' if kind.startswith('string') else 'entries'}"
    return KINDS.get(kind.partition("_")[0], message[:1].lower() + message[1:])


def _place(section: type[BaseModel], loc: tuple[int | str, ...]) -> tuple[list[str], list[str], list[str]]:
    """Where an error lies: the path as the user wrote it, and the keys that are allowed beside its last part and below it.

    In pydantic's own path, a value that may be of several types is followed by the type that was tried.
    """
    path: list[str] = []
    around: list[str] = []
    current: Any = section
    for part in loc:
        options = [current]
        if get_origin(current) in (Union, UnionType):
            options = [option for option in get_args(current) if option is not type(None)]
        if len(options) > 1:
            current = next((option for option in options if _type_name(option) == str(part).partition("[")[0]), None)
            continue
        path.append(str(part))
        around = []
        if isinstance(options[0], type) and issubclass(options[0], BaseModel):
            around = _keys(options[0])
            field = options[0].model_fields.get(str(part))
            current = field.annotation if field else None
        else:
            current = next(reversed(get_args(options[0])), None)
    return path, around, _keys(current)


def _type_name(option: Any) -> str | None:
    """What pydantic calls a type, without what it is a type of."""
    return getattr(get_origin(option) or option, "__name__", None)


def _keys(section: Any) -> list[str]:
    """The keys that a section has, none where this is no section."""
    if not (isinstance(section, type) and issubclass(section, BaseModel)):
        return []
    return [field.alias or name for name, field in section.model_fields.items()]
