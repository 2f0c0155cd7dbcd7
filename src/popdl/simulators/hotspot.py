"""A recombination hotspot in a window of otherwise ordinary recombination, or none."""

from __future__ import annotations

from typing import Any

import msprime
import numpy as np
from pydantic import Field, model_validator

from popdl.simulators._choices import check_words
from popdl.simulators.constant_size import ConstantSize

__all__ = ["Hotspot"]

CLASSES = ("absent", "present")


class Hotspot(ConstantSize):
    """A population of constant size, in which recombination may be `heat` times the background's over `hotspot_width` bp.

    `hotspot: {choice: [absent, present]}` is the class; the other parameters of the hotspot are missing where there is none. The
    background is `recombination_rate`: a number, a prior, {rate_from_map: file} for one rate out of a HapMap-format map, drawn
    with every scenario, or {map: file} for random stretches of that map, in which the map's own hotspots stay.
    `hotspot_position`, the middle of the hotspot in bp, may be left out for the middle of the window. (Chan et al. 2018, NeurIPS 31.)
    """

    reference_rate: float | None = Field(default=None, gt=0)
    """Where the window's background is below this rate, the heat is multiplied by the reference over the background: Chan et al. use 1.25e-8 (null: never)."""

    @model_validator(mode="after")
    def _check_hotspot(self) -> Hotspot:
        check_words("hotspot", self.parameters["hotspot"], CLASSES)
        return self

    def needed_parameters(self) -> tuple[str, ...]:
        return (*super().needed_parameters(), "hotspot", "heat", "hotspot_width")

    def optional_parameters(self) -> tuple[str, ...]:
        return ("hotspot_position",)

    def positive_parameters(self) -> tuple[str, ...]:
        return ("population_size", "heat", "hotspot_width")

    def unused_parameters(self, parameters: dict[str, float]) -> tuple[str, ...]:
        if self._present(parameters):
            return ()
        return tuple(name for name in ("heat", "hotspot_width", "hotspot_position") if name in self.parameters)

    def _present(self, parameters: dict[str, float]) -> bool:
        return self.parameters["hotspot"].classes[int(parameters["hotspot"])] == "present"

    def _recombination(self, parameters: dict[str, float], generator: np.random.Generator) -> msprime.RateMap:
        background = super()._recombination(parameters, generator)
        if not self._present(parameters):
            return background
        middle = parameters.get("hotspot_position", self.sequence_length / 2)
        half = parameters["hotspot_width"] / 2
        heat = parameters["heat"]
        if self.reference_rate is not None and background.mean_rate > 0:
            heat *= max(self.reference_rate / background.mean_rate, 1.0)
        return _heated(background, max(0.0, middle - half), min(middle + half, self.sequence_length), heat)


def _heated(background: msprime.RateMap, left: float, right: float, heat: float) -> msprime.RateMap:
    """The background, ``heat`` times as high between ``left`` and ``right`` (in bp)."""
    if right <= left:
        return background
    edges: Any = np.unique([*background.position, left, right])
    rates = background.get_rate(edges[:-1])
    inside = (edges[:-1] >= left) & (edges[:-1] < right)
    return msprime.RateMap(position=edges, rate=np.where(inside, heat * rates, rates))
