"""The base of every config section, and how a refused config is explained."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from popdl.errors import PopdlError

__all__ = ["Section", "explain", "refusal", "suggestion", "validate"]


class Section(BaseModel):
    """A config section: typed, frozen, and closed to unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


AnySection = TypeVar("AnySection", bound=Section)


def suggestion(word: str, known: Iterable[str]) -> str:
    """Say which known word was probably meant, and list them all."""
    known = sorted(known)
    close = difflib.get_close_matches(word, known, n=1)
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


def explain(error: ValidationError, *, section: type[BaseModel], prefix: str = "") -> list[str]:
    """Turn pydantic's errors into one line each: key, value, what is allowed."""
    lines = []
    for item in error.errors():
        key = ".".join(filter(None, [prefix, *(str(part) for part in item["loc"])])) or "(whole config)"
        message = item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            message = f"unknown key; {suggestion(str(item['loc'][-1]), _keys_at(section, item['loc'][:-1]))}"
        elif item["type"] == "missing":
            message = "this key is required"
        elif item["type"] != "value_error" or isinstance(item["input"], str | int | float | bool):
            message = f"{message} (found {item['input']!r})"
        lines.append(f"{key}: {message}")
    return lines


def _keys_at(section: type[BaseModel], path: tuple[int | str, ...]) -> list[str]:
    """Keys of the section that lies at ``path``, as far as annotations tell."""
    current: type[BaseModel] = section
    for part in path:
        field = current.model_fields.get(str(part))
        candidates = [] if field is None else _sections_in(field.annotation)
        if len(candidates) != 1:
            return []
        current = candidates[0]
    return list(current.model_fields)


def _sections_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for part in getattr(annotation, "__args__", ()) for found in _sections_in(part)]
