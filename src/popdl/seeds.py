"""Where every random number of a study comes from.

Each draw has a generator of its own, keyed by the study's seed, a purpose and an index. It does not depend on which job
draws it, in which order, or on how many cores: the same study gives the same bytes however it is run.
"""

from __future__ import annotations

import numpy as np

__all__ = ["generator", "msprime_seed"]

# The numbers are part of the results: never change or reuse one.
_PURPOSES = {
    "parameters": 1,
    "simulation": 2,
    "encoding": 3,
    "splits": 4,
    "training": 5,
    "samples": 6,
    "windows": 7,
    "genome": 8,
    "baselines": 9,
    "bootstrap": 10,
    "search": 20,
    "on_the_fly": 21,
    "streaming": 22,
}


def generator(seed: int, purpose: str, *index: int) -> np.random.Generator:
    """The generator of one draw.

    Parameters
    ----------
    seed
        The study's seed.
    purpose
        What is drawn, e.g. ``parameters`` or ``simulation``.
    index
        Which one, e.g. the number of the scenario or of the example.
    """
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(_PURPOSES[purpose], *index))))


def msprime_seed(generator: np.random.Generator) -> int:
    """A seed that msprime takes: an integer in [1, 2³²)."""
    return int(generator.integers(1, 2**32))
