"""What transforms share: picking sites, writing positions, counting alleles."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from popdl.transforms._base import Examples, Form

__all__ = [
    "allele_counts",
    "as_phased",
    "count_by_individual",
    "from_bp",
    "keep_sites",
    "pick_sites",
    "to_bp",
    "with_frequencies",
]


def to_bp(positions: Tensor, form: Form) -> Tensor:
    """Positions in bp.

    Distances do not say where the window starts: theirs are bp from the usable site before the first one of the array, which is
    the start of the window unless the encoding has cut sites from its left.

    Parameters
    ----------
    positions : Tensor of shape (batch, max_sites)
        In the style of the form.
    form
        The form of the batch.

    Returns
    -------
    Tensor of shape (batch, max_sites), dtype=float64
        Meaningless under padding.
    """
    values = positions.double()
    if form.positions == "relative":
        return values * form.length
    if form.positions != "distance":
        return values
    # Summed as integers, which is exact and the same on every device: whole bp, and parts of them down to 2⁻⁵² of the window.
    unit = 2.0 ** (math.frexp(form.length)[1] - 52)
    return (values / unit).round().long().cumsum(dim=1).double() * unit


def from_bp(values: Tensor, mask: Tensor, form: Form) -> Tensor:
    """The inverse of :func:`to_bp`, in the style and with the length of a form, dtype=float32, 0 under padding."""
    if form.positions == "relative":
        values = values / form.length
    elif form.positions == "distance":
        values = values.diff(dim=1, prepend=torch.zeros_like(values[:, :1]))
    return torch.where(mask, values, 0.0).float()


def pick_sites(examples: Examples, index: Tensor, mask: Tensor) -> Examples:
    """Take sites by their number; positions go along as they are written.

    Parameters
    ----------
    examples
        A batch.
    index : Tensor of shape (batch, new_max_sites), dtype=int64
        Columns of the batch.
    mask : Tensor of shape (batch, new_max_sites), dtype=bool
        Which of them are to be real sites.
    """
    rows = index.unsqueeze(1).expand(-1, examples.genotypes.shape[1], -1)
    genotypes = examples.genotypes.gather(2, rows).masked_fill(~mask.unsqueeze(1), 0.0)
    positions = examples.positions
    if positions is not None:
        positions = positions.gather(1, index).masked_fill(~mask, 0.0)
    return replace(examples, genotypes=genotypes, positions=positions, mask=mask)


def keep_sites(examples: Examples, keep: Tensor, form: Form) -> Examples:
    """Leave out sites and move the others to the left; a distance then spans the sites left out before it.

    Parameters
    ----------
    examples
        A batch.
    keep : Tensor of shape (batch, max_sites), dtype=bool
        Sites to keep; padding never is.
    form
        The form of the batch.
    """
    keep = keep & examples.mask
    order = (~keep).int().argsort(dim=1, stable=True)
    kept = pick_sites(examples, order, keep.gather(1, order))
    if form.positions == "distance":
        assert examples.positions is not None
        bp = to_bp(examples.positions, form).gather(1, order)
        kept = replace(kept, positions=from_bp(bp, kept.mask, form))
    return kept


def allele_counts(genotypes: Tensor) -> tuple[Tensor, Tensor]:
    """Haplotypes that carry a 1, and those that are not missing: two tensors of shape (batch, max_sites)."""
    return (genotypes == 1).sum(dim=1), (genotypes >= 0).sum(dim=1)


def count_by_individual(genotypes: Tensor, ploidy: int) -> tuple[Tensor, Tensor]:
    """1s of each individual, and its alleles that are not missing: two tensors of shape (batch, individuals, max_sites)."""
    alleles = genotypes.unflatten(1, (-1, ploidy))
    return (alleles == 1).sum(dim=2), (alleles >= 0).sum(dim=2)


def with_frequencies(examples: Examples, ones: Tensor, called: Tensor) -> Examples:
    """Put in place of alleles the share of 1s, −1 where nothing is called, given two tensors of shape (batch, rows, max_sites)."""
    shares = torch.where(called > 0, ones / called.clamp(min=1), -1.0).float()
    return replace(examples, genotypes=shares.masked_fill(~examples.mask.unsqueeze(1), 0.0))


def as_phased(genotypes: Tensor, form: Form) -> Tensor:
    """Genotypes after a change of alleles: where phase is ignored, each individual's are written 1, 0, missing again."""
    if form.phased:
        return genotypes
    first, second = genotypes[:, 0::2], genotypes[:, 1::2]
    return torch.stack([torch.maximum(first, second), torch.minimum(first, second)], dim=2).flatten(1, 2)
