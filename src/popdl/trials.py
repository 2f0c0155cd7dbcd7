"""Which settings each trial of a search has, in plain values: the Snakefile asks this in every job, so nothing heavy is imported."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Mapping
from typing import Any

from popdl.errors import PopdlError

__all__ = ["changed", "num_trials", "trial_over"]


def _over(search: Mapping[str, Any] | None, network: str) -> dict[str, Any]:
    """What is searched for one network, in an order of its own."""
    over = (search or {}).get("over", {})
    own = ("training.", "transforms.", f"networks.{network}.")
    return {key: over[key] for key in sorted(over) if f"{key}.".startswith(own)}


def num_trials(search: Mapping[str, Any] | None, network: str) -> int:
    """How many trials a network has; none where the search has nothing to do with it.

    Parameters
    ----------
    search
        The config's section, or None.
    network
        A key of `networks:`.
    """
    over = _over(search, network)
    if search is None or not over:
        return 0
    if search.get("method", "grid") == "random":
        return int(search["trials"])
    return math.prod(len(values) for values in over.values())


def trial_over(search: Mapping[str, Any], network: str, trial: int) -> dict[str, Any]:
    """What a trial draws from: in a grid the one value that it has of each key, else all that is searched for its network."""
    over = _over(search, network)
    if search.get("method", "grid") == "random":
        return over
    point = next(itertools.islice(itertools.product(*over.values()), trial, None))
    return {key: [value] for key, value in zip(over, point, strict=True)}


def changed(
    network: str,
    options: Mapping[str, Any],
    training: Mapping[str, Any],
    transforms: Mapping[str, Any],
    values: Mapping[str, Any],
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """The options of a network, the settings of its training and its transforms, with the values of a trial.

    Parameters
    ----------
    network, options
        The network, as under `networks:` in the config.
    training, transforms
        These sections, as plain values.
    values
        By key, written with dots from the top of the config.
    """
    settings: dict[str, Any] = copy.deepcopy(
        {"networks": {network: dict(options)}, "training": dict(training), "transforms": dict(transforms)}
    )
    for key, value in values.items():
        *path, last = key.split(".")
        section = settings
        for name in path:
            section = section.setdefault(name, {})
            if not isinstance(section, dict):
                raise PopdlError(
                    f"search.over.{key}: {name} holds a value, not a section; search over the value itself."
                )
        section[last] = copy.deepcopy(value)
    return settings["networks"][network], settings["training"], settings["transforms"]
