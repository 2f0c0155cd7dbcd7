"""Which settings each trial of a search has, in plain values: the Snakefile asks this in every job, so nothing heavy is imported."""

from __future__ import annotations

import copy
import itertools
import math
import zlib
from collections.abc import Iterable, Mapping
from typing import Any

from popdl.errors import PopdlError

__all__ = [
    "changed",
    "data_values",
    "data_variants",
    "draw_values",
    "num_trials",
    "of_source",
    "source_values",
    "source_variants",
    "trial_over",
    "with_values",
]

SOURCES = ("simulation", "import")
DATA = (*SOURCES, "encoding")
"""Sections that decide what data networks learn from."""
TOLD = ("parameters", "mutation_rate", "recombination_rate")
"""Keys of a source that a model's card tells."""


def _over(search: Mapping[str, Any] | None, network: str) -> dict[str, Any]:
    """What is searched for one network, in an order of its own."""
    over = (search or {}).get("over", {})
    own = ("training.", "transforms.", f"networks.{network}.", *(f"{section}." for section in DATA))
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


def draw_values(over: Mapping[str, Any], *, trial: int, seed: int) -> dict[str, Any]:
    """The values of one trial, each drawn on its own: searching one more key, or more trials, changes none of the others.

    Parameters
    ----------
    over
        By key, a list of values or a prior.
    trial
        Number of the trial.
    seed
        Seed of the study.
    """
    values: dict[str, Any] = {}
    for key, choices in sorted(over.items()):
        if isinstance(choices, list) and len(choices) == 1:
            values[key] = choices[0]
            continue
        from popdl.seeds import generator  # not for a grid, as it imports numpy

        random = generator(seed, "search", trial, zlib.crc32(key.encode()))
        if isinstance(choices, list):
            values[key] = choices[int(random.integers(len(choices)))]
        else:
            from popdl.priors import Prior, draw

            number = draw({key: Prior.model_validate(choices)}, random)[key]
            values[key] = int(number) if number.is_integer() else number
    return values


def data_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the values of a trial, by key, that decide which data it learns from."""
    return {key: value for key, value in values.items() if key.partition(".")[0] in DATA}


def source_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """Those that decide which examples are simulated or imported, however they are encoded."""
    return {key: value for key, value in values.items() if key.partition(".")[0] in SOURCES}


def data_variants(search: Mapping[str, Any] | None, *, seed: int) -> list[dict[str, Any]]:
    """The different data that trials learn from, each by the values that it has of the keys that are searched.

    All networks meet the same ones: in a random search, the draws of a trial's data depend on its number, not on its network.

    Parameters
    ----------
    search
        The config's section, or None.
    seed
        Seed of the study.

    Returns
    -------
    list of dict
        Empty where nothing is searched that decides the data. More trials add to its end.
    """
    over = data_values((search or {}).get("over", {}))
    if search is None or not over:
        return []
    search = {**search, "over": over}
    trials = range(num_trials(search, ""))
    return _different(draw_values(trial_over(search, "", trial), trial=trial, seed=seed) for trial in trials)


def source_variants(variants: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The different examples behind variants of the data; empty where they differ by their encoding alone."""
    return _different(found for values in variants if (found := source_values(values)))


def _different(values: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for one in values:
        if one not in found:
            found.append(one)
    return found


def of_source(section: Mapping[str, Any], about: Mapping[str, Any]) -> dict[str, Any]:
    """What trainings are told of where their examples come from, for the cards of their models.

    Parameters
    ----------
    section
        The section `simulation:` or `import:`.
    about
        ``authors``, ``licence`` and ``citation``, where they are given.

    Returns
    -------
    dict
        ``priors`` and ``about``, as :func:`popdl.training.train` takes them.
    """
    named = {key: section[key] for key in ("simulator", "format") if key in section}
    return {"priors": {key: section[key] for key in TOLD if key in section}, "about": {**about, **named}}


def with_values(settings: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a config, or of a part of it, with other values of some keys.

    Parameters
    ----------
    settings
        Plain values, from the top of the config.
    values
        By key, written with dots.

    Raises
    ------
    PopdlError
        If a key leads through something that is no section.
    """
    result = copy.deepcopy(dict(settings))
    for key, value in values.items():
        *path, last = key.split(".")
        section = result
        for name in path:
            section = section.setdefault(name, {})
            if not isinstance(section, dict):
                raise PopdlError(
                    f"search.over.{key}: {name} holds a value, not a section; search over the value itself."
                )
        section[last] = copy.deepcopy(value)
    return result


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
        By key, written with dots from the top of the config; those that decide the data change nothing here.
    """
    sections = {"networks": {network: dict(options)}, "training": dict(training), "transforms": dict(transforms)}
    kept = data_values(values)
    settings = with_values(sections, {key: value for key, value in values.items() if key not in kept})
    return settings["networks"][network], settings["training"], settings["transforms"]
