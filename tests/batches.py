"""Batches made up for the tests of transforms."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st

from popdl import plugins
from popdl.transforms._base import Examples, Form, Transform

HAPLOTYPES = 8
MAX_SITES = 21
LENGTH = 1000.0
FORM = Form(
    num_haplotypes=HAPLOTYPES,
    fewest_haplotypes=HAPLOTYPES,
    max_sites=MAX_SITES,
    positions="absolute",
    length=LENGTH,
    whole=True,
    ploidy=2,
    individuals=True,
    phased=True,
)
SEEDS = st.integers(0, 2**32 - 1)


def some(seed: int, *, batch: int = 6, missing: float = 0.1, form: Form = FORM) -> Examples:
    """Examples with from 0 to ``max_sites`` sites at whole bp; the first two have none and all."""
    random = np.random.default_rng(seed)
    num_sites = random.integers(0, form.max_sites + 1, batch)
    num_sites[:2] = 0, form.max_sites
    genotypes = np.zeros((batch, form.num_haplotypes, form.max_sites), dtype=np.float32)
    positions = np.zeros((batch, form.max_sites), dtype=np.float32)
    for row, count in enumerate(num_sites):
        frequency = random.random(count)
        alleles = (random.random((form.num_haplotypes, count)) < frequency).astype(np.float32)
        alleles[random.random(alleles.shape) < missing] = -1
        if not form.phased:
            first, second = alleles[0::2].copy(), alleles[1::2].copy()
            alleles[0::2], alleles[1::2] = np.maximum(first, second), np.minimum(first, second)
        genotypes[row, :, :count] = alleles
        positions[row, :count] = np.sort(random.choice(int(LENGTH), count, replace=False))
    mask = np.arange(form.max_sites) < num_sites[:, np.newaxis]
    return Examples(*(torch.from_numpy(array) for array in (genotypes, positions, mask)))


def make(name: str, form: Form = FORM, **options: Any) -> Transform:
    part = plugins.load("transforms", name, Transform)
    return part(part.Settings(**options), form)


def chance(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def sites(examples: Examples, row: int) -> tuple[np.ndarray, np.ndarray]:
    """Genotypes and positions of the real sites of one example."""
    assert examples.positions is not None
    real = examples.mask[row]
    return examples.genotypes[row][:, real].numpy(), examples.positions[row][real].numpy()


def same(first: Examples, second: Examples) -> bool:
    both = zip(
        (first.genotypes, first.positions, first.mask), (second.genotypes, second.positions, second.mask), strict=True
    )
    return all((a is None and b is None) or (a is not None and b is not None and torch.equal(a, b)) for a, b in both)


def rows_of(examples: Examples, rows: slice) -> Examples:
    positions = None if examples.positions is None else examples.positions[rows]
    return Examples(examples.genotypes[rows], positions, examples.mask[rows])
