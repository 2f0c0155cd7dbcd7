"""Simulating one shard of a study: examples shard · size … (shard + 1) · size − 1, whatever else is simulated."""

from __future__ import annotations

import importlib.metadata
import itertools
import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import popdl
from popdl import priors, seeds, store
from popdl.errors import PopdlError
from popdl.simulators._base import Example, Failed, Redrawn, Simulator
from popdl.simulators._labels import simulated_statistics, usable_sites
from popdl.simulators._memory import tune_memory

__all__ = ["draws", "simulate_example", "simulate_examples", "simulate_shard"]

log = logging.getLogger("popdl")

MAX_DRAWS = 1000
"""Draws of one example before the simulation is given up."""
MAX_FAILURES = 3
"""Failures of a scenario's first example before its parameters are given up, and others are drawn."""
MAX_FAILED = 0.01
"""Draws from the prior that may be given up, as a share of the scenarios simulated together; one always may."""
TOO_FEW_SITES = "fewer sites than simulation.{key} asks for"


def simulate_shard(simulation: Simulator, *, seed: int, shard: int, output: Path) -> None:
    """Simulate the examples of one shard and write them.

    The draws of an example depend on the seed and on its number alone: not on the shard, the job, or how many there are.
    A scenario that cannot be simulated gets other parameters, as :func:`simulate_examples` says.

    Parameters
    ----------
    simulation
        The `simulation:` section.
    seed
        The study's seed.
    shard
        Number of the shard, from 0.
    output
        Folder of the shard.

    Raises
    ------
    PopdlError
        If there is no such shard, the simulator refuses the parameters, or the disk refuses the data.
    """
    first = shard * simulation.shard_size
    last = min(first + simulation.shard_size, simulation.num_examples)
    if not 0 <= first < last:
        raise PopdlError(
            f"shard {shard}: the study has {simulation.num_examples} examples in "
            f"{-(-simulation.num_examples // simulation.shard_size)} shards, numbered from 0."
        )
    tune_memory()
    redrawn = Counter({_too_few(simulation): 0} if simulation.min_sites or simulation.keep_sites else {})
    failed: list[dict[str, Any]] = []
    examples: list[Example] = []
    labels: list[list[float]] = []
    for simulated in simulate_examples(simulation, seed=seed, first=first, last=last):
        examples.append(simulated.example)
        labels.append(simulated.labels)
        redrawn.update(simulated.redrawn)
        failed += simulated.failed
    scenarios = [example // simulation.replicates for example in range(first, last)]
    store.write_shard(
        output,
        kind="simulations",
        arrays={
            "genotypes": np.concatenate([example.genotypes for example in examples]),
            "positions": np.concatenate([example.positions for example in examples]),
            "offsets": np.cumsum([0, *(len(example.positions) for example in examples)], dtype=np.int64),
            "parameters": np.array(labels, dtype=np.float64),
            "scenario": np.array(scenarios, dtype=np.int64),
        },
        attributes={"seed": seed, "first_example": first, "num_examples": last - first, **_attributes(simulation)}
        | ({"redrawn": dict(sorted(redrawn.items()))} if redrawn else {})
        | ({"failed": failed} if failed else {}),
    )


class Simulated(NamedTuple):
    """One example with what is known of it."""

    example: Example
    labels: list[float]
    """A value for each of the simulation's ``parameter_names``."""
    redrawn: Counter[str]
    """How many draws were not used, by reason."""
    failed: list[dict[str, Any]]
    """Draws of this scenario's parameters that were given up: ``scenario``, ``parameters`` and ``reason``."""


def simulate_examples(simulation: Simulator, *, seed: int, first: int, last: int) -> Iterator[Simulated]:
    """Simulate the examples first … last − 1, each as it is whatever else is simulated.

    A scenario has the first draw of its parameters under which its first example can be simulated, within ``MAX_FAILURES``
    failures. Draws that were given up are recorded, and may be few.

    Parameters
    ----------
    simulation
        The `simulation:` section.
    seed
        All draws of an example depend on it and on the example's number.
    first, last
        Numbers of the first example, and of the one after the last.

    Raises
    ------
    PopdlError
        If more draws from the prior cannot be simulated than ``MAX_FAILED`` allows, or :func:`simulate_example` gives up.
    """
    parameters: dict[str, float] = {}
    scenarios = range(first // simulation.replicates, (last - 1) // simulation.replicates + 1)
    allowed, given_up = max(1, int(MAX_FAILED * len(scenarios))), 0
    for number in range(first, last):
        scenario, replicate = divmod(number, simulation.replicates)
        failed: list[dict[str, Any]] = []
        redrawn: Counter[str] = Counter()
        if number == first or replicate == 0:
            for draw, (parameters, generator) in enumerate(draws(simulation, seed=seed, scenario=scenario)):
                try:
                    example = _simulated(simulation, parameters, generator, redrawn, failures=MAX_FAILURES)
                    break
                except Failed as failure:
                    log.warning("scenario %d, draw %d of its parameters is given up: %s", scenario, draw, failure)
                    failed.append({"scenario": scenario, "parameters": parameters, "reason": failure.reason})
                    if given_up + len(failed) > allowed:
                        raise _too_many(failed, given_up + len(failed), len(scenarios)) from None
        if replicate:  # the first example of a scenario decides its parameters, in whichever shard it is
            failed, redrawn = [], Counter()
            generator = seeds.generator(seed, "simulation", number)
            example = _simulated(simulation, parameters, generator, redrawn, failures=MAX_DRAWS)
        given_up += len(failed)
        computed = simulated_statistics(
            simulation.computed, example.genotypes, example.positions, sequence_length=simulation.sequence_length
        )
        yield Simulated(example, [*simulation.labels(parameters).values(), *computed], redrawn, failed)


def draws(simulation: Simulator, *, seed: int, scenario: int) -> Iterator[tuple[dict[str, float], np.random.Generator]]:
    """The draws of a scenario's parameters, one after the other, each with the generator of its first example.

    The first is what the scenario has, unless it cannot be simulated.
    """
    generator = seeds.generator(seed, "parameters", scenario)
    first = scenario * simulation.replicates
    for draw in itertools.count():
        index = (first, draw) if draw else (first,)
        yield priors.draw(simulation.priors, generator), seeds.generator(seed, "simulation", *index)


def _too_many(failed: list[dict[str, Any]], number: int, scenarios: int) -> PopdlError:
    last = failed[-1]
    return PopdlError(
        f"simulation: {number} draws from the prior cannot be simulated, in {scenarios} scenarios (at most {MAX_FAILED:.0%} may fail, or "
        f"one): the last with {_in_words(last['parameters'])}: {last['reason']}; others in their place would change the prior: narrow "
        "it to what the simulator can do, or correct the simulator."
    )


def _in_words(parameters: Mapping[str, float]) -> str:
    return ", ".join(f"{name} = {value:g}" for name, value in parameters.items())


def simulate_example(
    simulation: Simulator, parameters: dict[str, float], generator: np.random.Generator
) -> tuple[Example, Counter[str]]:
    """Simulate one example, again and again until it has the sites that the config asks for, or has failed ``MAX_FAILURES`` times.

    The parameters stay the same: every scenario of the prior is in the data, and it is the simulation under these parameters
    that is conditioned on what the config asks for.

    Parameters
    ----------
    simulation
        The `simulation:` section.
    parameters
        One value for each of its ``priors``.
    generator
        The only source of randomness.

    Returns
    -------
    example
    redrawn
        How many draws were not used, by reason.

    Raises
    ------
    Failed
        If these parameters cannot be simulated.
    PopdlError
        If no draw out of ``MAX_DRAWS`` can be used, or the simulator breaks its promises.
    """
    redrawn: Counter[str] = Counter()
    return _simulated(simulation, parameters, generator, redrawn, failures=MAX_FAILURES), redrawn


def _simulated(
    simulation: Simulator,
    parameters: dict[str, float],
    generator: np.random.Generator,
    redrawn: Counter[str],
    *,
    failures: int,
) -> Example:
    """One example; draws that are not used are counted in ``redrawn``, and the last of so many failures is raised."""
    needed = simulation.keep_sites or simulation.min_sites
    for _ in range(MAX_DRAWS):
        try:
            example = _checked(simulation, simulation.simulate(parameters, generator))
        except Redrawn as reason:
            redrawn[str(reason)] += 1
            continue
        except Failed as failure:
            redrawn[f"the simulation failed: {failure.reason}"] += 1
            failures -= 1
            if failures <= 0:
                raise
            continue
        if not needed:
            return example
        usable = np.flatnonzero(usable_sites(example.genotypes))
        if len(usable) >= needed:
            if simulation.keep_sites is not None:
                kept = np.sort(generator.choice(usable, simulation.keep_sites, replace=False))
                example = Example(example.genotypes[kept], example.positions[kept])
            return example
        redrawn[_too_few(simulation)] += 1
    reasons = "; ".join(f"{reason} ({number} times)" for reason, number in redrawn.most_common())
    raise PopdlError(
        f"simulation: none of {MAX_DRAWS} draws with {_in_words(parameters)} can be used: {reasons}; "
        "narrow the priors, or ask for less."
    )


def _too_few(simulation: Simulator) -> str:
    return TOO_FEW_SITES.format(key="min_sites" if simulation.keep_sites is None else "keep_sites")


def _attributes(simulation: Simulator) -> dict[str, Any]:
    """What is the same in all shards; the number of scenarios is left out, so that raising it changes no shard."""
    counts = simulation.num_haplotypes
    return {
        "parameters": simulation.parameter_names,
        "classes": {name: prior.classes for name, prior in simulation.priors.items() if prior.classes},
        "num_haplotypes": simulation.total_haplotypes,
        "populations": counts if isinstance(counts, dict) else None,
        "ploidy": simulation.ploidy,
        "sequence_length": simulation.sequence_length,
        "simulation": simulation.model_dump(mode="json", exclude={"num_scenarios"}),
        "versions": {
            "popdl": popdl.__version__,
            **{name: importlib.metadata.version(name) for name in ("msprime", "tskit", "numpy")},
        },
    }


def _checked(simulation: Simulator, example: Example) -> Example:
    """Hold a simulator, which may be a user's own, to what it promises."""
    genotypes, positions = example.genotypes, example.positions
    problem = None
    if genotypes.dtype != np.int8 or genotypes.shape != (len(positions), simulation.total_haplotypes):
        problem = (
            f"genotypes are {genotypes.dtype} {genotypes.shape}, expected int8 {(len(positions), simulation.total_haplotypes)} "
            "for (sites, haplotypes)"
        )
    elif positions.ndim != 1 or not np.issubdtype(positions.dtype, np.floating):
        problem = f"positions are {positions.dtype} with {positions.ndim} axes, expected floats with one"
    elif len(positions) and (
        positions[0] < 0 or positions[-1] > simulation.sequence_length or (np.diff(positions) < 0).any()
    ):
        problem = f"positions must rise from 0 to at most {simulation.sequence_length:g} bp"
    if problem:
        raise PopdlError(f"simulator {simulation.simulator}: {problem}; correct its simulate().")
    return example
