"""What tests of simulators share: small sections, their examples, and distances from theory."""

from __future__ import annotations

from typing import Any

import numpy as np

from popdl import priors, seeds
from popdl.config.study import simulation_section
from popdl.simulation import simulate_example
from popdl.simulators._base import Example, Simulator
from popdl.simulators._memory import tune_memory

__all__ = ["examples", "section", "standard_errors", "trees"]

tune_memory()


def section(simulator: str = "constant_size", **changes: Any) -> Simulator:
    values: dict[str, Any] = {
        "simulator": simulator,
        "num_haplotypes": 10,
        "sequence_length": 1e4,
        "mutation_rate": 1e-7,
        "recombination_rate": 1e-8,
        "parameters": {"population_size": 1000},
        "num_scenarios": 10,
    }
    return simulation_section(values | changes)


def examples(simulation: Simulator, number: int, **parameters: float) -> list[Example]:
    values = priors.draw(simulation.priors, seeds.generator(1, "parameters", 0)) | parameters
    return [
        simulate_example(simulation, values, seeds.generator(1, "simulation", example))[0] for example in range(number)
    ]


def standard_errors(sample: np.ndarray, expected: np.ndarray | float) -> np.ndarray:
    """Distance of the mean of the first axis from what is expected, in standard errors."""
    return np.abs(sample.mean(axis=0) - expected) / (sample.std(axis=0, ddof=1) / np.sqrt(len(sample)))


def trees(simulation: Simulator, number: int, **parameters: float) -> list[Any]:
    """Tree sequences under the given parameters, the fixed ones added."""
    values = simulation.with_constants(parameters)
    return [simulation.tree_sequence(values, seeds.generator(1, "simulation", example)) for example in range(number)]
