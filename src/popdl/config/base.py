"""The base of every config section, and how a refused config is explained."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from types import UnionType
from typing import Any, ClassVar, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator

from popdl.errors import PopdlError

__all__ = ["Section", "explain", "refusal", "suggestion", "validate"]


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


def explain(error: ValidationError, *, section: type[BaseModel], prefix: str = "") -> list[str]:
    """Turn pydantic's errors into one line each: key, value, what is allowed."""
    lines = []
    for item in error.errors():
        path, around = _place(section, item["loc"])
        key = ".".join(filter(None, [prefix, *path])) or "(whole config)"
        message = item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            message = f"unknown key; {suggestion(path[-1], around)}"
        elif item["type"] == "missing":
            message = "this key is required"
        elif item["type"] != "value_error":
            message = f"{message} (found {item['input']!r})"
        lines.append(f"{key}: {message}")
    return lines


def _place(section: type[BaseModel], loc: tuple[int | str, ...]) -> tuple[list[str], list[str]]:
    """Where an error lies: the path as the user wrote it, and the keys that are allowed beside its last part.

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
            current = next((option for option in options if getattr(option, "__name__", None) == part), None)
            continue
        path.append(str(part))
        around = []
        if isinstance(options[0], type) and issubclass(options[0], BaseModel):
            around = [field.alias or name for name, field in options[0].model_fields.items()]
            field = options[0].model_fields.get(str(part))
            current = field.annotation if field else None
        else:
            current = next(reversed(get_args(options[0])), None)
    return path, around
