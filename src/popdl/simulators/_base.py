"""What every simulator has: the `simulation:` section is an instance of one of these classes."""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field, field_validator, model_validator

from popdl.config.base import Section
from popdl.errors import PopdlError
from popdl.priors import Prior, drawing_order
from popdl.simulators._labels import check_formula, check_statistics, evaluate

__all__ = ["Example", "Failed", "RecombinationMap", "Redrawn", "Simulator"]

SEQUENCE_LENGTH = "sequence_length"


class Redrawn(Exception):
    """Raised by :meth:`Simulator.simulate` for a draw that cannot be used: the example is simulated again, and the reason counted.

    The parameters stay the same, so that the prior remains what the config says.
    """


class Failed(PopdlError):
    """Raised by :meth:`Simulator.simulate` where these parameters cannot be simulated, for reasons that do not lie in the machine.

    The example is simulated again, a few times; then the draw of its parameters is given up, recorded, and another is drawn.

    Parameters
    ----------
    message
        All that is to be said, for the log.
    reason
        Why, in a few words that are the same whenever and wherever the same parameters fail (default: the message).
    """

    def __init__(self, message: str, *, reason: str | None = None) -> None:
        super().__init__(message)
        self.reason = message if reason is None else reason


@dataclass(frozen=True)
class Example:
    """One simulated window."""

    genotypes: np.ndarray
    """ndarray of shape (num_sites, num_haplotypes), dtype=int8: index of the allele, 0 ancestral, −1 missing."""
    positions: np.ndarray
    """ndarray of shape (num_sites,), dtype=float64: bp from the start of the window, not decreasing."""


class RecombinationMap(Section):
    """A recombination map; each example uses a random stretch of it."""

    map: Path
    """A map in HapMap format (chromosome, position in bp, rate in cM/Mb, map in cM), plain or gzipped."""
    build: str | None = None
    """Genome build of the map, e.g. GRCh37."""
    region: tuple[float, float] | None = None
    """Use only this part of the map, in bp (null: all of it)."""


def _is_empty(value: Any) -> bool:
    """Keys that are not used are not written either, so that shards of older studies keep their bytes."""
    return not value


class Simulator(Section):
    """The `simulation:` section; a simulator adds its own keys by subclassing.

    A subclass names the parameters that it needs in ``needs``, and defines :meth:`simulate`, or :meth:`tree_sequence` alone.
    """

    simulator: str
    """Which simulator: one that ships with popdl, or `path/to/file.py:ClassName`."""
    num_haplotypes: int | dict[str, int]
    """Haplotypes in each example; with several populations, a number for each: {CEU: 20, YRI: 30}."""
    sequence_length: float = Field(gt=0)
    """Length of the simulated window in bp."""
    mutation_rate: Prior
    """Per bp per generation: a number or a prior."""
    recombination_rate: RecombinationMap | Prior
    """Per bp per generation: a number, a prior, or {map: file}."""
    ploidy: int = Field(default=2, ge=1)
    """Haplotypes per individual; population sizes count individuals."""
    parameters: dict[str, Prior]
    """Prior of every parameter of the simulator."""
    num_scenarios: int = Field(ge=1)
    """Number of draws from the prior. Raising it adds simulations and repeats none."""
    replicates: int = Field(default=1, ge=1)
    """Independent simulations of each draw."""
    shard_size: int = Field(default=500, ge=1)
    """Examples per simulation job and file."""
    ancestry_model: Literal["hudson", "smck"] = "hudson"
    """The coalescent with recombination (Hudson 1983), or its fast approximation SMC(k) with k = 1 bp."""
    discrete_genome: bool = True
    """Mutations fall on whole bp and can hit a site twice (true), or every mutation makes a new site (false)."""
    derived: dict[str, str] = Field(default={}, exclude_if=_is_empty)
    """Further labels: products and quotients of parameters, such as {rho: 4 * population_size * recombination_rate}; `sequence_length` and numbers may be factors."""
    computed: list[str] = Field(default=[], exclude_if=_is_empty)
    """Further labels: statistics of the simulated window, such as [tajimas_d], over all of its sites that have exactly two alleles."""
    min_sites: int = Field(default=0, ge=0, exclude_if=_is_empty)
    """An example with fewer sites of two alleles is simulated again with the same parameters, and counted in the report."""
    keep_sites: int | None = Field(default=None, ge=1, exclude_if=_is_empty)
    """Keep this many of the sites with two alleles, drawn at random, and simulate again where there are fewer (null: all sites)."""

    needs: ClassVar[tuple[str, ...]] = ()
    """Parameters that must have a prior."""

    @field_validator("parameters")
    @classmethod
    def _by_name(cls, parameters: dict[str, Prior]) -> dict[str, Prior]:
        """The order of parameters in a config is free: it changes no draw and no column."""
        return dict(sorted(parameters.items(), key=_natural))

    @model_validator(mode="after")
    def _check(self) -> Simulator:
        missing = [name for name in self.needed_parameters() if name not in self.parameters]
        multipliers = {name for prior in self.priors.values() for name in prior.references}
        allowed = {*self.needed_parameters(), *self.optional_parameters(), *multipliers}
        unknown = [name for name in self.parameters if name not in allowed]
        if missing or unknown:
            raise ValueError(
                f"parameters of {self.simulator}: expected {list(self.needed_parameters())}"
                + (f", missing {missing}" if missing else "")
                + (f", unknown {unknown}" if unknown else "")
            )
        drawing_order(self.priors)
        self._check_labels()
        counts = self.num_haplotypes.values() if isinstance(self.num_haplotypes, dict) else [self.num_haplotypes]
        for count in counts:
            if count < 1 or count % self.ploidy:
                raise ValueError(
                    f"num_haplotypes: expected a positive multiple of the ploidy ({self.ploidy}), found {count}"
                )
        if self.total_haplotypes < 2:
            raise ValueError(f"num_haplotypes: at least 2 are needed, found {self.total_haplotypes}")
        return self

    def _check_labels(self) -> None:
        """Hold `derived` and `computed` to what is known."""
        for name, formula in self.derived.items():
            try:
                check_formula(formula, [*self.priors, SEQUENCE_LENGTH])
            except ValueError as error:
                raise ValueError(f"derived.{name}: {error}") from None
        try:
            check_statistics(self.computed, self.total_haplotypes)
        except ValueError as error:
            raise ValueError(f"computed: {error}") from None
        if twice := [name for name, number in Counter(self.parameter_names).items() if number > 1]:
            raise ValueError(
                f"parameters, derived, computed: {twice[0]} is there twice; give every label a name of its own"
            )
        if self.keep_sites is not None and self.keep_sites < self.min_sites:
            raise ValueError(f"keep_sites: {self.keep_sites} is less than min_sites ({self.min_sites})")

    def needed_parameters(self) -> tuple[str, ...]:
        """Names that `parameters` must hold: ``needs``, unless the config decides."""
        return self.needs

    def optional_parameters(self) -> tuple[str, ...]:
        """Names that `parameters` may hold. A parameter by which another is multiplied may have any name."""
        return ()

    def unused_parameters(self, parameters: dict[str, float]) -> tuple[str, ...]:
        """Parameters that mean nothing in this scenario, such as the strength of a sweep where there is none: missing as labels."""
        return ()

    @property
    def total_haplotypes(self) -> int:
        """Haplotypes over all populations."""
        return sum(self.num_haplotypes.values()) if isinstance(self.num_haplotypes, dict) else self.num_haplotypes

    @property
    def origin(self) -> str:
        """Where the examples come from, in words for the report."""
        return f"of the model {self.simulator.rpartition(':')[2] or self.simulator}"

    @property
    def num_examples(self) -> int:
        return self.num_scenarios * self.replicates

    @cached_property
    def priors(self) -> dict[str, Prior]:
        """Every prior that is drawn for a scenario, the rates included, by name."""
        priors = dict(self.parameters)
        for name in ("mutation_rate", "recombination_rate"):
            prior = getattr(self, name)
            if isinstance(prior, Prior):
                priors[name] = prior
        return dict(sorted(priors.items(), key=_natural))

    @property
    def parameter_names(self) -> list[str]:
        """Names of all values that an example is labelled with: targets are chosen among these."""
        return [*self.priors, *self.derived_parameters(), *self.derived, *self.computed]

    def with_constants(self, parameters: dict[str, float]) -> dict[str, float]:
        """Parameters, and the value of every one that is fixed in the config."""
        fixed = {
            name: float(prior.arguments[0])  # type: ignore[index]
            for name, prior in self.priors.items()
            if not prior.is_random
        }
        return fixed | parameters

    def labels(self, parameters: dict[str, float]) -> dict[str, float]:
        """All labels of a scenario but those that are computed from what was simulated; NaN where missing.

        Parameters
        ----------
        parameters
            One value for each of ``priors``.
        """
        drawn = parameters | dict.fromkeys(self.unused_parameters(parameters), math.nan)
        factors = {**drawn, SEQUENCE_LENGTH: self.sequence_length}
        formulas = {name: evaluate(formula, factors) for name, formula in self.derived.items()}
        return {**drawn, **self.derive(parameters), **formulas}

    def derived_parameters(self) -> tuple[str, ...]:
        """Names of further labels that :meth:`derive` computes from the drawn parameters, whatever the config says."""
        return ()

    def derive(self, parameters: dict[str, float]) -> dict[str, float]:
        """Compute the further labels."""
        return {}

    def input_files(self) -> list[Path]:
        """Files that a simulation reads: a job must run again when one of them changes."""
        maps = [prior.map_file for prior in self.priors.values() if prior.map_file is not None]
        return [*maps, self.recombination_rate.map] if isinstance(self.recombination_rate, RecombinationMap) else maps

    def simulate(self, parameters: dict[str, float], generator: np.random.Generator) -> Example:
        """Simulate one window.

        Parameters
        ----------
        parameters
            One value for each of ``priors``, in the units of the config.
        generator
            The only source of randomness.

        Raises
        ------
        Redrawn
            If this draw cannot be used, and another one with the same parameters may be.
        Failed
            If the parameters cannot be simulated.
        """
        tree_sequence = self.tree_sequence(parameters, generator)
        return Example(tree_sequence.genotype_matrix().astype(np.int8), tree_sequence.sites_position.copy())

    def tree_sequence(self, parameters: dict[str, float], generator: np.random.Generator) -> Any:
        """Simulate one window as a tskit tree sequence with mutations; the arguments are those of :meth:`simulate`.

        Raises
        ------
        TypeError
            If the simulator does not make tree sequences.
        """
        raise TypeError(f"{type(self).__name__} does not make tree sequences")


def _natural(item: tuple[str, Prior]) -> list[str | int]:
    """Sort size_2 before size_10; words and numbers take turns, so that no word meets a number."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", item[0])]
