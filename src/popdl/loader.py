"""Encoded examples on the device, packed, and batches unpacked there.

The whole dataset stays in the device's memory as bits (10⁶ examples of 50 × 400 take 4 GB with positions). A batch is a few
array look-ups, so there are no worker processes and nothing to wait for. A dataset that is larger than memory stays on disk
(:class:`OnDisk`) and passes through it in parts, the next one read while this one is used.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from popdl.dataset import open_shards, read_array
from popdl.seeds import generator
from popdl.store import Shard

__all__ = ["Batch", "OnDisk", "PackedData", "as_written", "batches", "shuffled"]


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
        return cls.read(open_shards(paths, kind=kind, whole=whole), device=device, rows=rows)

    @classmethod
    def read(
        cls,
        shards: Sequence[Shard],
        *,
        device: torch.device | str = "cpu",
        rows: Sequence[int] | np.ndarray | None = None,
    ) -> PackedData:
        """Read shards that are open, as :meth:`from_shards` does."""
        attributes = shards[0].attributes
        has_positions = attributes["encoding"]["settings"]["positions"] != "none"
        has_missing = any("missing" in shard for shard in shards)

        def load(name: str) -> Tensor:
            return torch.from_numpy(read_array(shards, name, rows)).to(device)

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

    def parts(self, rows: Tensor) -> Iterator[tuple[PackedData, Tensor]]:
        """These rows in one part: the data, and which of its rows they are."""
        yield self, rows.to(self.device)

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


class OnDisk:
    """Encoded examples that are read when they are needed.

    Parameters
    ----------
    shards
        All shards of a dataset, as :func:`popdl.dataset.open_shards` gives them.
    part_size
        Examples of one part; two parts are in memory at once, and one shard while it is read.
    device
        Where a part is kept.
    """

    def __init__(self, shards: Sequence[Shard], *, part_size: int, device: torch.device | str = "cpu") -> None:
        self.shards = shards
        self.part_size = part_size
        self.device = torch.device(device)
        self.encoding: dict[str, Any] = shards[0].attributes["encoding"]
        self.fingerprint: str = shards[0].attributes["fingerprint"]
        self.starts = np.cumsum([0, *(shard.attributes["num_examples"] for shard in shards)])

    @property
    def num_examples(self) -> int:
        return int(self.starts[-1])

    def parts(self, rows: Tensor) -> Iterator[tuple[PackedData, Tensor]]:
        """These rows in parts, in their order: the data, and which of its rows they are (all of them, in order).

        Shards are read as a whole, so rows that lie in one shard should follow each other.
        """
        pieces = rows.cpu().split(self.part_size)
        with ThreadPoolExecutor(1) as reader:
            ahead = reader.submit(self._read, pieces[0])
            for number in range(len(pieces)):
                part = ahead.result()
                if number + 1 < len(pieces):
                    ahead = reader.submit(self._read, pieces[number + 1])
                yield part, torch.arange(part.num_examples, device=self.device)

    def shuffled_shards(self, rows: Tensor, *, seed: int, epoch: int) -> Tensor:
        """These rows (in rising order) shard by shard, the shards in an order that depends on seed and epoch alone."""
        bounds = torch.searchsorted(rows.cpu(), torch.from_numpy(self.starts)).tolist()
        order = generator(seed, "streaming", epoch).permutation(len(self.shards)).tolist()
        return torch.cat([rows[bounds[shard] : bounds[shard + 1]] for shard in order])

    def _read(self, rows: Tensor) -> PackedData:
        return PackedData.read(self.shards, device=self.device, rows=rows.numpy())


def batches(data: PackedData | OnDisk, rows: Tensor, *, size: int) -> Iterator[tuple[PackedData, Tensor, Tensor]]:
    """These rows of the data in their order, in batches: packed examples, which of them, and their rows in the data.

    Parts of a dataset on disk are whole multiples of ``size`` where its ``part_size`` is.
    """
    start = 0
    for part, chosen in data.parts(rows):
        here = rows[start : start + len(chosen)]
        yield from ((part, *pair) for pair in zip(chosen.split(size), here.split(size), strict=True))
        start += len(chosen)


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
