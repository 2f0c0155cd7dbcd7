"""One population whose size is constant within each of any number of epochs."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import msprime
import numpy as np
from pydantic import Field, model_validator

from popdl.config.base import Section
from popdl.errors import PopdlError
from popdl.simulators._msprime import MsprimeSimulator

__all__ = ["EpochGrid", "PiecewiseConstant"]

ALL_OTHERS = "size_*"
PREVIOUS = "previous"


class EpochGrid(Section):
    """Epochs that become longer back in time, t_i = (exp(ln(1 + rate · oldest) · i / (epochs − 1)) − 1) / rate (Boitard et al. 2016, Sanchez et al. 2021)."""

    epochs: int = Field(ge=2)
    """Number of epochs; epoch i starts t_i generations ago, for i from 0."""
    oldest: float = Field(gt=0)
    """Generations ago at which the oldest epoch starts."""
    rate: float = Field(default=0.06, gt=0)
    """The larger, the shorter the recent epochs."""

    def times(self) -> list[float]:
        """Start of each epoch but the first, in generations ago."""
        steps = np.arange(1, self.epochs) / (self.epochs - 1)
        return [float(time) for time in np.expm1(np.log1p(self.rate * self.oldest) * steps) / self.rate]


class PiecewiseConstant(MsprimeSimulator):
    """Sizes `size_0` (today), `size_1`, … of a population, one for each epoch.

    The prior `size_*` is that of every epoch without one of its own; there, `times: previous` multiplies by the size of the
    epoch that is one more recent.
    """

    times: list[float | str] | EpochGrid
    """Generations ago at which the size changes, from recent to old: numbers, or names of parameters; or {epochs: 21, oldest: 130000, rate: 0.06}."""

    @model_validator(mode="before")
    @classmethod
    def _expand(cls, values: Any) -> Any:
        """Write `size_*` out, epoch by epoch."""
        if not isinstance(values, Mapping) or not isinstance(values.get("parameters"), Mapping):
            return values
        priors = dict(values["parameters"])
        times = values.get("times", [])
        if ALL_OTHERS not in priors or not isinstance(times, list | Mapping | EpochGrid):
            return values
        grid = times if isinstance(times, list) else EpochGrid.model_validate(times).times()
        others = priors.pop(ALL_OTHERS)
        for epoch in range(len(grid) + 1):
            prior = others
            if isinstance(others, Mapping) and others.get("times") == PREVIOUS:
                prior = {**others, "times": f"size_{epoch - 1}"}
            priors.setdefault(f"size_{epoch}", prior)
        return {**values, "parameters": priors}

    @model_validator(mode="after")
    def _check_times(self) -> PiecewiseConstant:
        starts = [0.0, *(time for time in self._times if not isinstance(time, str))]
        if any(later <= earlier for earlier, later in itertools.pairwise(starts)):
            raise ValueError(f"times: expected positive numbers in rising order, found {self.times}")
        return self

    @property
    def _times(self) -> list[float | str]:
        return [*self.times.times()] if isinstance(self.times, EpochGrid) else self.times

    @property
    def size_parameters(self) -> tuple[str, ...]:
        """Names of the sizes, from today back."""
        return tuple(f"size_{epoch}" for epoch in range(len(self._times) + 1))

    def starts(self, parameters: Mapping[str, float]) -> list[float]:
        """Start of each epoch but the first, in generations ago.

        Raises
        ------
        KeyError
            If ``parameters`` lacks one that is a time.
        PopdlError
            If these are not in rising order.
        """
        starts = [parameters[time] if isinstance(time, str) else time for time in self._times]
        if any(later <= earlier for earlier, later in itertools.pairwise([0.0, *starts])):
            raise PopdlError(
                f"simulation.times: expected positive numbers in rising order, found {self._times} = "
                f"{[round(start, 3) for start in starts]} in a draw from the prior; give the older one `plus:` the more recent one."
            )
        return starts

    def needed_parameters(self) -> tuple[str, ...]:
        return (*self.size_parameters, *(time for time in self._times if isinstance(time, str)))

    def demography(self, parameters: dict[str, float]) -> msprime.Demography:
        demography = msprime.Demography.isolated_model([parameters["size_0"]])
        for epoch, time in enumerate(self.starts(parameters), start=1):
            demography.add_population_parameters_change(time=time, initial_size=parameters[f"size_{epoch}"])
        return demography
