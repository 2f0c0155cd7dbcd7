"""Put the haplotypes, or individuals, in an order that depends on what they carry, never on how they were given."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Generator, Tensor
from torch.nn import functional

from popdl.transforms._base import Examples, Form, Transform

__all__ = ["Sort"]

SITES_PER_WORD = 33
"""Sites that one number in double precision tells apart: 3^33 < 2^53."""


class Sort(Transform):
    """Sort haplotypes exactly as `encoding.sort` does, but by the sites and haplotypes that are left. Rows of individuals are sorted by their dosages or shares of reads, as Flagel et al. (2019) sort autotetraploids."""

    class Settings(Transform.Settings):
        by: Literal["similarity", "frequency"] = "similarity"
        """Distance to the medoid haplotype or individual (Flagel et al. 2019), or number of 1s."""

    takes_frequencies = True

    def __init__(self, settings: Any, form: Form) -> None:
        super().__init__(settings, form)
        form.need_one_population()
        if not form.phased and not form.frequencies:
            raise ValueError(
                "haplotypes cannot be sorted where phase is ignored; use `encoding.phase: keep`, or put it behind genotypes or read_counts"
            )

    @property
    def after(self) -> Form:
        return replace(self.form, individuals=False)

    def __call__(self, examples: Examples, generator: Generator | None) -> Examples:
        genotypes = examples.genotypes
        order = _by_shares(genotypes) if self.form.frequencies else _by_content(genotypes)
        if self.settings.by == "frequency":
            rank = -genotypes.clamp(min=0).double().sum(dim=2)
        else:
            distances = (_distances_of_shares if self.form.frequencies else _distances)(genotypes, examples.mask)
            rank = _distances_to_medoid(distances, order)
        # Content first, then a stable sort by rank: content settles ties.
        order = order.gather(1, rank.gather(1, order).argsort(dim=1, stable=True))
        return replace(examples, genotypes=genotypes.gather(1, order.unsqueeze(2).expand(-1, -1, genotypes.shape[2])))


def _by_content(genotypes: Tensor) -> Tensor:
    """The order of haplotypes as words over the alphabet 0 < 1 < missing, shape (batch, num_haplotypes)."""
    symbols = genotypes.masked_fill(genotypes < 0, 2.0)
    pieces = functional.pad(symbols, (0, -symbols.shape[2] % SITES_PER_WORD)).unflatten(2, (-1, SITES_PER_WORD))
    weights = 3 ** torch.arange(SITES_PER_WORD - 1, -1, -1, device=genotypes.device)
    order = torch.arange(genotypes.shape[1], device=genotypes.device).expand(genotypes.shape[:2])
    # From the last piece of the words to the first, each time with a stable sort.
    for words in reversed((pieces.double() @ weights.double()).unbind(dim=2)):
        order = order.gather(1, words.gather(1, order).argsort(dim=1, stable=True))
    return order


def _by_shares(shares: Tensor) -> Tensor:
    """An order of rows of shares that only rows with the same content can share, shape (batch, rows)."""
    weights = (
        torch.arange(1, shares.shape[2] + 1, device=shares.device).double().sin()
    )  # no two sums are alike by chance
    return (shares.double() * weights).sum(dim=2).argsort(dim=1, stable=True)


def _distances(genotypes: Tensor, mask: Tensor) -> Tensor:
    """Share of sites at which two haplotypes differ, 1 where none is known in both; (batch, haplotypes, haplotypes), dtype=float64."""
    ones = (genotypes == 1).float()
    zeros = ((genotypes == 0) & mask.unsqueeze(1)).float()
    known = ones + zeros
    # Counts below 2^24 are exact in single precision.
    different = (ones @ zeros.mT + zeros @ ones.mT).double()
    shared = (known @ known.mT).double()
    return torch.where(shared > 0, different / shared.clamp(min=1), 1.0)


def _distances_of_shares(shares: Tensor, mask: Tensor) -> Tensor:
    """Mean difference of two individuals over the sites known in both, as :func:`_distances`."""
    known = (shares >= 0) & mask.unsqueeze(1)
    columns = []
    for row in range(shares.shape[1]):
        both = known & known[:, row : row + 1]
        difference = ((shares - shares[:, row : row + 1]).abs().double() * both).sum(dim=2)
        columns.append(torch.where(both.any(dim=2), difference / both.sum(dim=2).clamp(min=1), 1.0))
    return torch.stack(columns, dim=2)


def _distances_to_medoid(distances: Tensor, order: Tensor) -> Tensor:
    """The distance of each row to the medoid, shape (batch, rows), dtype=float64."""
    totals = _sum_like_numpy(distances.sort(dim=2).values)
    # The first of the smallest totals, in the order of content.
    medoid = order.gather(1, totals.gather(1, order).argmin(dim=1, keepdim=True))
    return distances.gather(1, medoid.unsqueeze(2).expand(-1, -1, distances.shape[2])).squeeze(1)


def _sum_like_numpy(values: Tensor) -> Tensor:
    """Sum over the last axis in the order of additions that numpy uses (pairwise, with eight running sums).

    Totals that are equal as fractions can differ in the last bit, and then that bit decides which haplotype is the medoid:
    it must be the one that the encoding finds.
    """
    size = values.shape[-1]
    if size < 8:
        total = torch.zeros_like(values[..., 0]) if size == 0 else values[..., 0]
        for index in range(1, size):
            total = total + values[..., index]
        return total
    if size > 128:
        half = size // 2 - size // 2 % 8
        return _sum_like_numpy(values[..., :half]) + _sum_like_numpy(values[..., half:])
    whole = size - size % 8
    sums = values[..., :8]
    for start in range(8, whole, 8):
        sums = sums + values[..., start : start + 8]
    pairs = sums[..., 0::2] + sums[..., 1::2]
    total = (pairs[..., 0] + pairs[..., 1]) + (pairs[..., 2] + pairs[..., 3])
    for index in range(whole, size):
        total = total + values[..., index]
    return total
