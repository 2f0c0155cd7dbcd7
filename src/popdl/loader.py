"""Encoded examples on the device, packed, and batches unpacked there.

The whole dataset stays in the device's memory as bits (10⁶ examples of 50 × 400 take 4 GB with positions). A batch is a few
array look-ups, so there are no worker processes and nothing to wait for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from popdl.dataset import open_shards
from popdl.seeds import generator
from popdl.store import Shard

__all__ = ["Batch", "PackedData", "as_written", "shuffled"]


class Batch(NamedTuple):
    """Examples as the networks take them."""

    genotypes: Tensor
    """Tensor of shape (batch, num_haplotypes, max_sites), dtype=float32: alleles as the recipe's ``values`` say; missing is −1
    with ``0/1`` and 0 with ``-1/1``; 0 in the padding."""
    positions: Tensor | None
    """Tensor of shape (batch, max_sites), dtype=float32; 0 in the padding; None if the recipe has no positions."""
    mask: Tensor
    """Tensor of shape (batch, max_sites), dtype=bool: true for real sites."""


@dataclass(frozen=True)
class PackedData:
    """Examples in a device's memory; one bit for each allele."""

    genotypes: Tensor
    """Tensor of shape (num_examples, num_haplotypes, ceil(max_sites / 8)), dtype=uint8: a set bit for each 1."""
    missing: Tensor | None
    """The same for missing alleles; None if there is none."""
    positions: Tensor | None
    """Tensor of shape (num_examples, max_sites), dtype=float32; None if the recipe has no positions."""
    num_sites: Tensor
    """Tensor of shape (num_examples,), dtype=int32: real sites in the array."""
    encoding: dict[str, Any]
    """The recipe that all examples were encoded by."""
    fingerprint: str
    """Its fingerprint."""

    @classmethod
    def from_shards(
        cls,
        paths: Sequence[Path],
        *,
        device: torch.device | str = "cpu",
        rows: Sequence[int] | np.ndarray | None = None,
        kind: str = "dataset",
        whole: bool = True,
    ) -> PackedData:
        """Read encoded shards.

        Parameters
        ----------
        paths
            All shards of a dataset, or the shard of the windows of a genome.
        device
            Where the data is kept.
        rows
            Numbers of the examples to keep, in this order (default: all).
        kind
            ``dataset`` or ``windows``.
        whole
            Whether the shards of a dataset must hold all its examples from the first on.

        Raises
        ------
        PopdlError
            If a shard is damaged or missing, or shards were encoded by different recipes.
        """
        shards = open_shards(paths, kind=kind, whole=whole)
        attributes = shards[0].attributes
        has_positions = attributes["encoding"]["settings"]["positions"] != "none"
        has_missing = any("missing" in shard for shard in shards)

        def load(name: str) -> Tensor:
            return _read(shards, name, rows).to(device)

        return cls(
            genotypes=load("genotypes"),
            missing=load("missing") if has_missing else None,
            positions=load("positions") if has_positions else None,
            num_sites=load("num_sites"),
            encoding=attributes["encoding"],
            fingerprint=attributes["fingerprint"],
        )

    @property
    def num_examples(self) -> int:
        return len(self.num_sites)

    @property
    def num_haplotypes(self) -> int:
        return self.genotypes.shape[1]

    @property
    def max_sites(self) -> int:
        return int(self.encoding["settings"]["max_sites"])

    @property
    def has_positions(self) -> bool:
        return self.positions is not None

    @property
    def device(self) -> torch.device:
        return self.num_sites.device

    def batch(self, indices: Tensor, *, values: str | None = None) -> Batch:
        """Unpack examples.

        Parameters
        ----------
        indices : Tensor of shape (batch,), dtype=int64
            Rows of the data; best on its device.
        values
            How alleles are written (default: as the recipe's ``values`` say).
        """
        indices = indices.to(self.device)
        sites = torch.arange(self.max_sites, device=self.device)
        mask = sites < self.num_sites[indices].unsqueeze(1)
        signed = (values or self.encoding["settings"]["values"]) == "-1/1"
        genotypes = self._unpack(self.genotypes[indices], zero=-1.0 if signed else 0.0, one=1.0)
        if self.missing is not None:
            # The bit of a missing allele is not set: this takes it from 0 to −1, or from −1 to 0.
            genotypes += self._unpack(self.missing[indices], zero=0.0, one=1.0 if signed else -1.0)
        if signed:
            genotypes *= mask.unsqueeze(1)
        return Batch(genotypes, None if self.positions is None else self.positions[indices], mask)

    def _unpack(self, packed: Tensor, *, zero: float, one: float) -> Tensor:
        # Looking up eight alleles by their byte takes half the time of shifting bits, on a CPU.
        bits = torch.arange(256, device=self.device).unsqueeze(1) >> torch.arange(8, device=self.device) & 1
        table = torch.where(bits == 1, one, zero)
        return functional.embedding(packed.int(), table).flatten(start_dim=2)[..., : self.max_sites]


def as_written(genotypes: Tensor, mask: Tensor, *, values: str) -> Tensor:
    """Alleles 0, 1 and −1 for missing, written as the recipe's ``values`` say; 0 under a False mask."""
    if values == "0/1":
        return genotypes
    signed = torch.where(genotypes < 0, 0.0, 2 * genotypes - 1)
    return signed.masked_fill(~mask.unsqueeze(1), 0.0)


def shuffled(indices: Tensor, *, seed: int, epoch: int) -> Tensor:
    """Every index once, in an order that depends on seed and epoch alone, on any machine."""
    order = torch.from_numpy(generator(seed, "training", epoch).permutation(len(indices)))
    return indices[order.to(indices.device)]


def _read(shards: Sequence[Shard], name: str, rows: Sequence[int] | np.ndarray | None) -> Tensor:
    """One array of all shards, in one piece; a shard without a plane of missing alleles has none missing."""
    sizes = [shard.attributes["num_examples"] for shard in shards]
    wanted = np.arange(sum(sizes)) if rows is None else np.asarray(rows, dtype=np.int64)
    if len(wanted) and (wanted.min() < 0 or wanted.max() >= sum(sizes)):
        raise IndexError(f"rows must lie in 0 to {sum(sizes) - 1}, found {wanted.min()} to {wanted.max()}")
    array: np.ndarray | None = None
    first = 0
    for shard, size in zip(shards, sizes, strict=True):
        source = shard[name] if name in shard else np.zeros_like(shard["genotypes"])
        if array is None:
            array = np.empty((len(wanted), *source.shape[1:]), dtype=source.dtype)
        if rows is None:
            array[first : first + size] = source
        else:
            here = np.flatnonzero((wanted >= first) & (wanted < first + size))
            array[here] = source[wanted[here] - first]
        first += size
    assert array is not None
    return torch.from_numpy(array)
