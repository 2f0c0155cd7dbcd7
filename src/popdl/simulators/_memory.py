"""Spending less time on memory while simulating short windows; what is simulated stays the same, bit for bit.

For each simulation msprime takes and frees about 10 MB, whatever the length of the window. At 100 kb and below, that
takes longer than the simulation itself.
"""

from __future__ import annotations

from typing import Any

import msprime
from msprime import _msprime

from popdl.memory import keep_freed_memory

__all__ = ["tune_memory"]

# Blocks in which msprime allocates AVL nodes and node mappings (its default: 65,536); more blocks are added as needed.
# Segments keep their default: their order in memory decides which of them a random number picks.
BLOCK_SIZES = {"avl_node_block_size": 4096, "node_mapping_block_size": 4096}


class _SmallBlocks(_msprime.Simulator):
    """The low-level simulator, with less memory set aside at the start."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**(options | {name: size for name, size in BLOCK_SIZES.items() if name in options}))


class _Simulator(msprime.ancestry.Simulator, _SmallBlocks):
    """msprime's simulator, which hands its options on to the next class in this order of inheritance."""


def tune_memory() -> None:
    """Change how msprime and the C library use memory, for as long as the process lives."""
    msprime.ancestry.Simulator = _Simulator
    keep_freed_memory()
