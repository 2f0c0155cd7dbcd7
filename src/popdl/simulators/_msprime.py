"""What simulators that run msprime share: they only differ in their demography."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property, lru_cache

import msprime
import numpy as np
import tskit
from msprime._msprime import InputError, LibraryError
from pydantic import model_validator

from popdl.errors import PopdlError
from popdl.priors import Prior
from popdl.seeds import msprime_seed
from popdl.simulators._base import Failed, RecombinationMap, Simulator
from popdl.simulators._maps import read_hapmap

__all__ = ["MsprimeSimulator"]


class MsprimeSimulator(Simulator):
    """A simulator that turns parameters into an msprime demography."""

    @model_validator(mode="after")
    def _check_for_msprime(self) -> MsprimeSimulator:
        if self.discrete_genome and self.sequence_length != math.floor(self.sequence_length):
            raise ValueError(f"sequence_length: expected a whole number of bp, found {self.sequence_length:g}")
        for name in ("mutation_rate", "recombination_rate"):
            prior = self.priors.get(name)
            if prior is not None and prior.lower_bound is not None and prior.lower_bound < 0:
                raise ValueError(
                    f"{name}: a rate cannot be negative, but the prior reaches down to {prior.lower_bound:g}"
                )
        for name in [name for name in self.positive_parameters() if name in self.parameters]:
            bound = self.parameters[name].lower_bound
            if bound is not None and bound <= 0:
                raise ValueError(f"parameters.{name}: must be positive, but the prior reaches down to {bound:g}")
        populations = self.populations()
        if isinstance(self.num_haplotypes, dict):
            if unknown := sorted(self.num_haplotypes.keys() - set(populations)):
                raise ValueError(
                    f"num_haplotypes: unknown population {', '.join(unknown)}; known: {', '.join(populations)}"
                )
        elif len(populations) > 1:
            raise ValueError(
                f"num_haplotypes: this model has several populations, give a number for each, e.g. {{{populations[0]}: 20}}; "
                f"known: {', '.join(populations)}"
            )
        return self

    def populations(self) -> list[str]:
        """Names of the populations that can be sampled."""
        return ["pop_0"]

    def positive_parameters(self) -> tuple[str, ...]:
        """Parameters that must be above 0: sizes and times."""
        return self.needed_parameters()

    def demography(self, parameters: dict[str, float]) -> msprime.Demography:
        """The demography of one scenario; sizes in individuals, times in generations."""
        raise TypeError(f"{type(self).__name__} does not define demography()")

    def tree_sequence(self, parameters: dict[str, float], generator: np.random.Generator) -> tskit.TreeSequence:
        """Simulate ancestry and mutations of one window.

        Raises
        ------
        Failed
            If msprime refuses the parameters.
        PopdlError
            If the recombination map cannot be used.
        """
        recombination = self._recombination(parameters, generator)
        try:
            ancestry = self.ancestry(parameters, recombination, generator)
            return msprime.sim_mutations(
                ancestry,
                rate=_uniform(self.sequence_length, parameters["mutation_rate"]),
                discrete_genome=self.discrete_genome,
                random_seed=msprime_seed(generator),
                record_provenance=False,
            )
        except (ValueError, InputError, LibraryError) as error:
            values = ", ".join(f"{name} = {value:g}" for name, value in parameters.items())
            message = f"simulation: msprime refuses {values}: {error}; check the priors."
            raise Failed(message, reason=f"msprime: {error}") from error

    def ancestry(
        self, parameters: dict[str, float], recombination: msprime.RateMap, generator: np.random.Generator
    ) -> tskit.TreeSequence:
        """Simulate the ancestry of one window; ``recombination`` holds the rates along it."""
        return self.run(parameters, recombination, generator, [self.coalescent()])

    def coalescent(self, duration: float | None = None) -> msprime.AncestryModel:
        """The ancestry model of the config, for so many generations (default: to the end)."""
        return (
            msprime.SMCK(k=1, duration=duration)
            if self.ancestry_model == "smck"
            else msprime.StandardCoalescent(duration=duration)
        )

    def run(
        self,
        parameters: dict[str, float],
        recombination: msprime.RateMap,
        generator: np.random.Generator,
        models: Sequence[msprime.AncestryModel],
    ) -> tskit.TreeSequence:
        """Run msprime's ancestry models, from recent to old."""
        samples: int | dict[str, int] = (
            {name: count // self.ploidy for name, count in self.num_haplotypes.items()}
            if isinstance(self.num_haplotypes, dict)
            else self.num_haplotypes // self.ploidy
        )
        return msprime.sim_ancestry(
            samples=samples,
            demography=self.demography(parameters),
            ploidy=self.ploidy,
            recombination_rate=recombination,
            discrete_genome=self.discrete_genome,
            model=list(models),
            random_seed=msprime_seed(generator),
            record_provenance=False,
        )

    def _recombination(self, parameters: dict[str, float], generator: np.random.Generator) -> msprime.RateMap:
        """Recombination along the window: uniform, or a random stretch of the map."""
        if isinstance(self.recombination_rate, Prior):
            return _uniform(self.sequence_length, parameters["recombination_rate"])
        rate_map = self.rate_map
        start = generator.integers(int(rate_map.sequence_length - self.sequence_length) + 1)
        return rate_map.slice(start, start + self.sequence_length, trim=True)

    @cached_property
    def rate_map(self) -> msprime.RateMap:
        """The part of the recombination map from which windows are taken, starting at 0."""
        assert isinstance(self.recombination_rate, RecombinationMap)
        path = self.recombination_rate.map
        rate_map = read_hapmap(path)
        known = np.flatnonzero(~np.isnan(rate_map.rate))
        left, right = rate_map.left[known[0]], rate_map.right[known[-1]]
        if self.recombination_rate.region is not None:
            left, right = max(left, self.recombination_rate.region[0]), min(right, self.recombination_rate.region[1])
        if right - left < self.sequence_length:
            raise PopdlError(
                f"{path}: the recombination map covers {max(0, right - left):,.0f} bp"
                + (f" of the region {list(self.recombination_rate.region)}" if self.recombination_rate.region else "")
                + f", but simulation.sequence_length is {self.sequence_length:,.0f}; use a longer map or a shorter window."
            )
        return rate_map.slice(left, right, trim=True)


@lru_cache(maxsize=16)
def _uniform(sequence_length: float, rate: float) -> msprime.RateMap:
    """A uniform map; building one costs as much as simulating a short window does, and most studies have a single rate."""
    return msprime.RateMap.uniform(sequence_length, rate)
