"""Simulators whose demography is a demes graph, in which parameters set or multiply values."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import demes
import msprime
from pydantic import model_validator

from popdl.config.base import suggestion
from popdl.simulators._msprime import MsprimeSimulator

__all__ = ["GraphSimulator"]


class GraphSimulator(MsprimeSimulator):
    """A demes graph as it is written in YAML, with some of its values drawn from priors.

    A value is named by its path: `demes.CEU.epochs.0.end_size` is the size at the end of the first epoch of deme CEU. Items of a
    list are named by number or by their `name`, and `*` means all of them.
    """

    set: dict[str, list[str]] = {}
    """For each parameter, the paths of the values that it replaces."""
    multiply: dict[str, list[str]] = {}
    """For each parameter, the paths of the values that it multiplies (after all replacements)."""

    @model_validator(mode="after")
    def _check_paths(self) -> GraphSimulator:
        for key, changes in (("set", self.set), ("multiply", self.multiply)):
            for name, paths in changes.items():
                for path in paths:
                    for container, item in _find(self.model_data, path):
                        if isinstance(container[item], dict | list | bool) or (
                            key == "multiply" and not isinstance(container[item], int | float)
                        ):
                            raise ValueError(f"{key}.{name}: {path} is not a number: {container[item]!r}")
        return self

    @cached_property
    def model_data(self) -> dict[str, Any]:
        """The graph as plain values, before any parameter changes it."""
        raise TypeError(f"{type(self).__name__} does not define model_data")

    def needed_parameters(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys([*self.set, *self.multiply]))

    def positive_parameters(self) -> tuple[str, ...]:
        return ()  # a migration rate may be 0

    def populations(self) -> list[str]:
        return [deme["name"] for deme in self.model_data["demes"]]

    def demography(self, parameters: dict[str, float]) -> msprime.Demography:
        if not self.parameters:
            return self.unchanged
        data = copy.deepcopy(self.model_data)
        for name, paths in self.set.items():
            for path in paths:
                for container, item in _find(data, path):
                    container[item] = parameters[name]
        for name, paths in self.multiply.items():
            for path in paths:
                for container, item in _find(data, path):
                    container[item] *= parameters[name]
        return msprime.Demography.from_demes(demes.Graph.fromdict(data))

    @cached_property
    def unchanged(self) -> msprime.Demography:
        """The demography of the graph as it is written."""
        return msprime.Demography.from_demes(demes.Graph.fromdict(self.model_data))


def _find(value: Any, path: str, parts: list[str] | None = None) -> Iterator[tuple[Any, Any]]:
    """Yield (container, key or index) of each value that a path names; the path must lead somewhere."""
    first, *rest = path.split(".") if parts is None else parts
    for item in _items(value, first, path):
        if rest:
            yield from _find(value[item], path, rest)
        else:
            yield value, item


def _items(value: Any, part: str, path: str) -> list[Any]:
    """Keys or indices in ``value`` that one part of a path means."""
    names: dict[str, Any] = {}
    if isinstance(value, dict):
        names = {str(key): key for key in value}
    elif isinstance(value, list):
        names = {str(index): index for index in range(len(value))}
        names |= {item["name"]: index for index, item in enumerate(value) if isinstance(item, dict) and "name" in item}
    if part == "*" and names:
        return list(dict.fromkeys(names.values()))
    if part not in names:
        raise ValueError(f"{path}: there is no {part!r} in the model; {suggestion(part, names)}")
    return [names[part]]
