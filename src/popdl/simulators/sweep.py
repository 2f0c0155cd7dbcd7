"""A selective sweep in or beside the window, at every stage of its life, or none."""

from __future__ import annotations

import math

import msprime
import numpy as np
import tskit
from msprime._msprime import LibraryError
from pydantic import model_validator

from popdl.simulators._base import Redrawn
from popdl.simulators._choices import check_words
from popdl.simulators.piecewise_constant import EpochGrid, PiecewiseConstant

__all__ = ["Sweep"]

CLASSES = {
    "neutral": (),
    "hard": ("selection_coefficient", "distance"),
    "linked": ("selection_coefficient", "linked_distance"),
    "partial": ("selection_coefficient", "distance", "end_frequency"),
    "old": ("selection_coefficient", "distance", "age"),
}
"""What each class needs besides the size of the population."""
OWN = tuple(dict.fromkeys(name for names in CLASSES.values() for name in names))
STEPS = 40
"""The step in which the allele's path is followed is 1 / (40 N) of msprime's unit of time: its documentation's rule of thumb."""
NO_STANDING_VARIATION = (
    "msprime cannot simulate a sweep from standing variation: with a start frequency above 1/2N it leaves out what happened to the "
    "allele before, and puts a new mutation in its place. Use `simulator: command` with discoal, msms or SLiM"
)


class Sweep(PiecewiseConstant):
    """A population in which a new mutation may have been selected: `sweep: {choice: [neutral, hard, linked, partial, old]}`, or some of these.

    `hard`: the mutation has just been fixed. `partial`: it is now at `end_frequency`. `old`: it was fixed `age` generations ago. In
    all three the selected site is `distance` bp to the right of the middle of the window; `linked` is a hard sweep at
    `linked_distance`. Distances may be negative, and may lead out of the window. Write a prior on both sides as
    {uniform: [20000, 50000], times: side} with the parameter `side: {choice: [-1, 1]}`. Parameters that mean nothing in a
    scenario are missing there.

    `selection_coefficient` is s of fitness 1, 1 + s/2 and 1 + s, as msprime has it (half of discoal's), so that fixation takes
    about 4 (ln(2Ns) + 0.58) / s generations. Sizes are `size_0`, `size_1`, …, changing at `times`; a draw in which the size
    changes while the sweep goes on is one that msprime cannot simulate: it is drawn again and counted. Several populations and
    sweeps from standing variation need a program of your own (`simulator: command`).
    """

    times: list[float | str] | EpochGrid = []
    """Generations ago at which the size changes, as in `piecewise_constant`."""

    @model_validator(mode="after")
    def _check_sweep(self) -> Sweep:
        if self.ploidy != 2:
            raise ValueError(f"ploidy: selection acts on diploid genotypes here, found {self.ploidy}")
        for name in ("selection_coefficient", "end_frequency", "age"):
            bound = self.parameters[name].lower_bound if name in self.parameters else None
            if bound is not None and (bound < 0 or (bound == 0 and name != "age")):
                raise ValueError(f"parameters.{name}: must be positive, but the prior reaches down to {bound:g}")
        return self

    def needed_parameters(self) -> tuple[str, ...]:
        if "start_frequency" in self.parameters:
            raise ValueError(f"parameters.start_frequency: {NO_STANDING_VARIATION}")
        prior = self.parameters.get("sweep")
        if prior is None:
            return ("sweep", *super().needed_parameters())
        if "soft" in prior.classes:
            raise ValueError(f"parameters.sweep: soft: {NO_STANDING_VARIATION}")
        check_words("sweep", prior, CLASSES)
        used = [name for word in prior.classes for name in CLASSES[word]]
        return ("sweep", *dict.fromkeys(used), *super().needed_parameters())

    def positive_parameters(self) -> tuple[str, ...]:
        return super().needed_parameters()

    def _kind(self, parameters: dict[str, float]) -> str:
        return self.parameters["sweep"].classes[int(parameters["sweep"])]

    def unused_parameters(self, parameters: dict[str, float]) -> tuple[str, ...]:
        used = CLASSES[self._kind(parameters)]
        unused = [name for name in OWN if name in self.parameters and name not in used]
        helpers = {other for name in unused for other in self.parameters[name].references}
        helpers -= {other for name in used for other in self.parameters[name].references}
        return (*unused, *sorted(helpers - set(self.size_parameters)))

    def ancestry(
        self, parameters: dict[str, float], recombination: msprime.RateMap, generator: np.random.Generator
    ) -> tskit.TreeSequence:
        kind = self._kind(parameters)
        if kind == "neutral":
            return super().ancestry(parameters, recombination, generator)
        distance = parameters["linked_distance" if kind == "linked" else "distance"]
        site = math.floor(self.sequence_length / 2 + distance)
        left, right = min(0, site), max(self.sequence_length, site + 1)
        age = parameters["age"] if kind == "old" else 0.0
        size = self._size_at(parameters, age)
        start = 1 / (self.ploidy * size)
        end = parameters["end_frequency"] if kind == "partial" else 1 - start
        sweep = msprime.SweepGenicSelection(
            position=site - left,
            start_frequency=start,
            end_frequency=end,
            s=parameters["selection_coefficient"],
            dt=1 / (STEPS * size),
        )
        models = [self.coalescent(duration=age), sweep, self.coalescent()]
        try:
            trees = self.run(parameters, self._widened(recombination, left, right), generator, models)
        except LibraryError as error:
            if "events during a sweep" in str(error):
                raise Redrawn("the population's size changes during the sweep, which msprime cannot simulate") from None
            raise
        if (left, right) == (0, self.sequence_length):
            return trees
        window = [[-left, -left + self.sequence_length]]
        return trees.keep_intervals(window, record_provenance=False).trim(record_provenance=False)

    def _size_at(self, parameters: dict[str, float], time: float) -> float:
        """The population's size so many generations ago."""
        epoch = int(np.searchsorted(self.starts(parameters), time, side="right"))
        return parameters[f"size_{epoch}"]

    def _widened(self, recombination: msprime.RateMap, left: float, right: float) -> msprime.RateMap:
        """The window's map as far as the selected site, with the window's mean rate beside it."""
        position, rate = list(recombination.position - left), list(recombination.rate)
        if left < 0:
            position, rate = [0.0, *position], [recombination.mean_rate, *rate]
        if right > self.sequence_length:
            position, rate = [*position, right - left], [*rate, recombination.mean_rate]
        return msprime.RateMap(position=position, rate=rate)
