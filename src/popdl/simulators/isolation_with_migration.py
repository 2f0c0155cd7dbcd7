"""Populations that split from each other, with migration and introgression between them."""

from __future__ import annotations

import itertools
from functools import cached_property

import msprime
from pydantic import model_validator

from popdl.errors import PopdlError
from popdl.simulators._choices import check_words
from popdl.simulators._msprime import MsprimeSimulator

__all__ = ["IsolationWithMigration"]

ANCESTRAL = "ancestral"
NONE = "none"
PULSE = ("pulse_time", "pulse_proportion")


class IsolationWithMigration(MsprimeSimulator):
    """Any number of populations that split from each other, each of a constant size; the haplotypes are in the order of `num_haplotypes`.

    Parameters: `size_A` of every population, ancestors included, and `split_time_AB` for every ancestor AB, in generations ago.
    Without `splits`, all populations split at once, `split_time_ancestral` generations ago.

    Directions are those of time: `A_to_B` means that individuals of A became ancestors of B's later generations. `migration_A_to_B`,
    for any two populations that live at the same time, is the share of B that came from A in each generation, for as long as both
    lived. `introgression: {choice: [none, A_to_B, B_to_A]}` adds at most one pulse, which is the class: `pulse_time` generations ago,
    a share `pulse_proportion` of the receiving population came from the other one; both are missing where there was none.
    """

    splits: dict[str, list[str]] = {}
    """The ancestors, each with the populations into which it split: {AB: [A, B], ABC: [AB, C]}. Populations without samples may be among these."""

    @model_validator(mode="after")
    def _check_model(self) -> IsolationWithMigration:
        if "introgression" in self.parameters:
            pairs = [f"{source}_to_{dest}" for source, dest in itertools.permutations(self.populations(), 2)]
            check_words("introgression", self.parameters["introgression"], [NONE, *pairs])
        for name in (name for name in self.parameters if name.startswith("migration_") or name == PULSE[1]):
            bound = self.parameters[name].lower_bound
            if bound is not None and bound < 0:
                raise ValueError(f"parameters.{name}: cannot be negative, but the prior reaches down to {bound:g}")
        return self

    @cached_property
    def tree(self) -> dict[str, list[str]]:
        """The populations into which each ancestor split, the most recent ancestors first."""
        if not self.splits:
            return {ANCESTRAL: list(self.num_haplotypes)} if isinstance(self.num_haplotypes, dict) else {}
        parts = [part for split in self.splits.values() for part in split]
        if twice := [part for part in dict.fromkeys(parts) if parts.count(part) > 1]:
            raise ValueError(f"splits: {twice[0]} comes out of two splits")
        if few := [name for name, split in self.splits.items() if len(split) < 2]:
            raise ValueError(f"splits.{few[0]}: expected at least two populations, found {self.splits[few[0]]}")
        roots = [name for name in self.splits if name not in parts]
        ordered: list[str] = []
        waiting = roots[:1]
        while waiting:
            ordered.append(waiting.pop())
            waiting += [part for part in self.splits[ordered[-1]] if part in self.splits]
        if len(roots) != 1 or len(ordered) < len(self.splits):
            raise ValueError(f"splits: expected one ancestor of all populations, found {roots or 'a circle'}")
        return {name: self.splits[name] for name in reversed(ordered)}

    def populations(self) -> list[str]:
        """Names of the populations of today."""
        if not self.tree:
            raise ValueError("num_haplotypes: give a number for each population, e.g. {A: 20, B: 14}")
        return [part for split in self.tree.values() for part in split if part not in self.tree]

    def needed_parameters(self) -> tuple[str, ...]:
        times = tuple(f"split_time_{ancestor}" for ancestor in self.tree)
        sizes = tuple(f"size_{name}" for name in [*self.populations(), *self.tree])
        return (*sizes, *times, *(("introgression", *PULSE) if "introgression" in self.parameters else ()))

    def optional_parameters(self) -> tuple[str, ...]:
        everyone = [*self.populations(), *self.tree]
        return tuple(f"migration_{source}_to_{dest}" for source, dest in itertools.permutations(everyone, 2))

    def positive_parameters(self) -> tuple[str, ...]:
        return tuple(name for name in self.needed_parameters() if name not in ("introgression", "pulse_proportion"))

    def unused_parameters(self, parameters: dict[str, float]) -> tuple[str, ...]:
        return PULSE if "introgression" in self.parameters and self._pulse(parameters) is None else ()

    def _pulse(self, parameters: dict[str, float]) -> tuple[str, str] | None:
        """Source and receiver of the pulse, forwards in time."""
        if "introgression" not in self.parameters:
            return None
        word = self.parameters["introgression"].classes[int(parameters["introgression"])]
        pairs = itertools.permutations(self.populations(), 2)
        return next(((source, dest) for source, dest in pairs if word == f"{source}_to_{dest}"), None)

    def demography(self, parameters: dict[str, float]) -> msprime.Demography:
        """The model in msprime's terms: there, lineages go backwards in time, from the receiver to the source."""
        demography = msprime.Demography()
        for name in [*self.populations(), *self.tree]:
            demography.add_population(name=name, initial_size=parameters[f"size_{name}"])
        for ancestor, parts in self.tree.items():
            time = parameters[f"split_time_{ancestor}"]
            for part in parts:
                if part in self.tree and time <= parameters[f"split_time_{part}"]:
                    raise _out_of_order(f"split_time_{ancestor}", time, f"split_time_{part}", parameters)
            demography.add_population_split(time=time, derived=parts, ancestral=ancestor)
        for source, dest in itertools.permutations([*self.populations(), *self.tree], 2):
            if rate := parameters.get(f"migration_{source}_to_{dest}", 0.0):
                start, end = self._together(source, dest, parameters)
                demography.add_migration_rate_change(time=start, rate=rate, source=dest, dest=source)
                demography.add_migration_rate_change(time=end, rate=0, source=dest, dest=source)
        if pulse := self._pulse(parameters):
            source, dest = pulse
            time = parameters["pulse_time"]
            for name in pulse:
                split = f"split_time_{self._parent[name]}"
                if time >= parameters[split]:
                    raise _out_of_order(split, parameters[split], "pulse_time", parameters)
            demography.add_mass_migration(
                time=time, source=dest, dest=source, proportion=parameters["pulse_proportion"]
            )
        demography.sort_events()
        return demography

    @cached_property
    def _parent(self) -> dict[str, str]:
        return {part: ancestor for ancestor, parts in self.tree.items() for part in parts}

    def _together(self, first: str, second: str, parameters: dict[str, float]) -> tuple[float, float]:
        """From when to when, in generations ago, two populations lived at the same time."""
        lives = [
            (
                parameters[f"split_time_{name}"] if name in self.tree else 0.0,
                parameters[f"split_time_{self._parent[name]}"] if name in self._parent else float("inf"),
            )
            for name in (first, second)
        ]
        start, end = max(life[0] for life in lives), min(life[1] for life in lives)
        if start >= end:
            raise PopdlError(
                f"simulation: {first} and {second} never lived at the same time, so there is no migration between them; "
                f"leave out the parameters migration_{first}_to_{second} and migration_{second}_to_{first}."
            )
        return start, end


def _out_of_order(older: str, time: float, younger: str, parameters: dict[str, float]) -> PopdlError:
    return PopdlError(
        f"simulation: {older} must be longer ago than {younger}, but a draw from the prior is {time:g} and {parameters[younger]:g}; "
        f"use e.g. {younger}: {{uniform: [0.1, 0.9], times: {older}}}."
    )
