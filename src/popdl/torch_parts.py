"""Losses, optimizers and schedulers by name: those of torch, or a user's own class, with their arguments checked."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Mapping
from typing import Any, TypeVar

from popdl import plugins
from popdl.config.base import suggestion
from popdl.config.training import Training, named
from popdl.errors import PopdlError

__all__ = ["arguments", "construct", "find", "own_parts"]

Part = TypeVar("Part")


def find(
    name: str,
    *,
    kind: str,
    base: type[Part],
    classes: Mapping[str, type[Part]],
    refused: Mapping[str, str],
    short: Collection[str],
    where: str,
) -> type[Part]:
    """Return a class of torch by its name, or a user's own.

    Parameters
    ----------
    name
        Name of the class, or ``path/to/file.py:ClassName``.
    kind
        What such parts are called, e.g. ``optimizers``.
    base
        The class that a user's own must derive from.
    classes
        Classes of torch.
    refused
        Those that cannot be used here, with the reason.
    short
        Other names, for the message.
    where
        Key in the config.

    Raises
    ------
    PopdlError
        If there is no such class or it cannot be used here.
    """
    if plugins.is_file(name):
        return plugins.load(kind, name, base)
    if name in refused:
        raise PopdlError(f"{where}: {name} cannot be used: {refused[name]}.")
    if name not in classes:
        known = [*short, *(other for other in classes if other not in refused)]
        raise PopdlError(
            f"{where}: {name!r} is none of the {kind}; {suggestion(name, known)}; or path/to/file.py:Class."
        )
    return classes[name]


def arguments(part: type) -> dict[str, inspect.Parameter]:
    """The arguments by which a class is made."""
    return dict(inspect.signature(part).parameters)


def construct(
    part: type[Part], *given: Any, options: Mapping[str, Any], where: str, fixed: Mapping[str, Any] | None = None
) -> Part:
    """Make an object of a class from what the config says.

    Parameters
    ----------
    part
        The class.
    given
        Its first arguments, which are no matter of the config.
    options
        Arguments from the config.
    where
        Key in the config.
    fixed
        Arguments that are set here and may not stand in the config.

    Raises
    ------
    PopdlError
        If an option is unknown, missing or has a value that the class does not take.
    """
    fixed = dict(fixed or {})
    accepted = arguments(part)
    open_ended = any(argument.kind is argument.VAR_KEYWORD for argument in accepted.values())
    names = [
        name
        for name, argument in list(accepted.items())[len(given) :]
        if argument.kind in (argument.POSITIONAL_OR_KEYWORD, argument.KEYWORD_ONLY) and name not in fixed
    ]
    for name in options:
        if name in fixed:
            raise PopdlError(f"{where}.{name}: popdl sets this argument of {part.__name__} itself; leave it out.")
        if name not in names and not open_ended:
            raise PopdlError(f"{where}: {part.__name__} takes no {name!r}; {suggestion(name, names)}.")
    missing = [name for name in names if accepted[name].default is inspect.Parameter.empty and name not in options]
    if missing:
        raise PopdlError(f"{where}: {part.__name__} needs {missing[0]!r}; known: {', '.join(sorted(names))}.")
    try:
        return part(*given, **options, **fixed)
    except Exception as error:  # torch raises every kind, and a user's own class may
        raise PopdlError(f"{where}: {part.__name__} refuses these options: {type(error).__name__}: {error}.") from error


def own_parts(training: Training, targets: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """The user's own losses, optimizer and schedule, with their sources: what trained a model belongs into its card.

    Parameters
    ----------
    training
        The config's section.
    targets
        Description of every target, as in ``targets.json``.
    """
    parts = {"training.optimizer": training.optimizer, "training.schedule": training.schedule}
    parts |= {f"targets.{name}.loss": target["loss"] for name, target in targets.items() if target.get("loss")}
    described = {where: plugins.describe(*named(part)) for where, part in parts.items()}
    return {where: part for where, part in described.items() if part["source"] is not None}
