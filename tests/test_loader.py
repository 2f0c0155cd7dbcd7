"""Packed data on a device, and the batches that come out of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from popdl.config.encoding import Encoding
from popdl.dataset import encode_examples
from popdl.encoding import EncodedExample, Encoder
from popdl.errors import PopdlError
from popdl.loader import PackedData, shuffled
from popdl.store import write_shard

HAPLOTYPES = 6
MAX_SITES = 11


def encoder(**options: Any) -> Encoder:
    return Encoder(
        Encoding(**{"max_sites": MAX_SITES, **options}), num_haplotypes=HAPLOTYPES, ploidy=2, sequence_length=1000
    )


def window(number: int, *, missing: bool) -> tuple[np.ndarray, np.ndarray, np.random.Generator]:
    """A window with from 0 to 24 sites."""
    random = np.random.default_rng(number)
    num_sites = 3 * (number % 9)
    genotypes = random.integers(-1 if missing else 0, 2, size=(num_sites, HAPLOTYPES)).astype(np.int8)
    return genotypes, np.sort(random.random(num_sites)) * 1000, random


def write_shards(folder: Path, *, missing_from: int | None = None, **options: Any) -> list[Path]:
    """Three shards of 8, 8 and 4 examples; alleles are missing from the shard ``missing_from`` on."""
    paths = []
    for shard, numbers in enumerate([range(8), range(8, 16), range(16, 20)]):
        missing = missing_from is not None and shard >= missing_from
        arrays, attributes = encode_examples(encoder(**options), [window(n, missing=missing) for n in numbers])
        assert ("missing" in arrays) == missing
        paths.append(folder / f"shard_{shard}")
        write_shard(paths[-1], kind="dataset", arrays=arrays, attributes={**attributes, "first_example": numbers.start})
    return paths


def expected(missing_from: int | None, **options: Any) -> list[EncodedExample]:
    windows = [window(n, missing=missing_from is not None and n // 8 >= missing_from) for n in range(20)]
    return [encoder(**options).encode(*example) for example in windows]


@pytest.mark.parametrize("missing_from", [None, 0, 1])
@pytest.mark.parametrize("values", ["0/1", "-1/1"])
def test_batch_equals_encoder(tmp_path: Path, values: str, missing_from: int | None) -> None:
    data = PackedData.from_shards(write_shards(tmp_path, missing_from=missing_from, values=values))
    assert (data.num_examples, data.num_haplotypes, data.max_sites) == (20, HAPLOTYPES, MAX_SITES)
    assert data.has_positions
    indices = torch.tensor([19, 0, 7, 8, 12, 3, 3])
    batch = data.batch(indices)
    examples = expected(missing_from, values=values)
    assert batch.genotypes.dtype == torch.float32 and batch.mask.dtype == torch.bool
    for row, index in enumerate(indices.tolist()):
        example = examples[index]
        real = np.arange(MAX_SITES) < example.num_sites
        np.testing.assert_array_equal(batch.mask[row], real)
        code = {"0/1": {-1: -1, 0: 0, 1: 1}, "-1/1": {-1: 0, 0: -1, 1: 1}}[values]
        alleles = [
            [code[allele] if is_real else 0 for allele, is_real in zip(haplotype, real, strict=True)]
            for haplotype in example.genotypes.tolist()
        ]
        assert batch.genotypes[row].tolist() == alleles
        assert batch.positions is not None
        np.testing.assert_array_equal(batch.positions[row], example.positions)


def test_rows_are_chosen_in_order(tmp_path: Path) -> None:
    paths = write_shards(tmp_path, missing_from=1)
    rows = [17, 2, 9, 2, 0]
    whole, chosen = PackedData.from_shards(paths), PackedData.from_shards(paths, rows=rows)
    assert chosen.num_examples == 5
    for first, second in zip(whole.batch(torch.tensor(rows)), chosen.batch(torch.arange(5)), strict=True):
        assert first is not None and second is not None and torch.equal(first, second)
    with pytest.raises(IndexError, match="rows must lie in 0 to 19, found 0 to 20"):
        PackedData.from_shards(paths, rows=[0, 20])


def test_order_of_paths_is_irrelevant(tmp_path: Path) -> None:
    paths = write_shards(tmp_path)
    first, second = PackedData.from_shards(paths), PackedData.from_shards(paths[::-1])
    assert torch.equal(first.genotypes, second.genotypes) and torch.equal(first.num_sites, second.num_sites)


def test_encoding_without_positions(tmp_path: Path) -> None:
    data = PackedData.from_shards(write_shards(tmp_path, positions="none"))
    assert not data.has_positions
    assert data.batch(torch.arange(3)).positions is None


def test_batch_is_a_copy(tmp_path: Path) -> None:
    data = PackedData.from_shards(write_shards(tmp_path))
    first = data.batch(torch.arange(20))
    before = [first.genotypes.clone(), first.positions.clone()]  # type: ignore[union-attr]
    first.genotypes.zero_()
    first.positions.zero_()  # type: ignore[union-attr]
    again = data.batch(torch.arange(20))
    assert torch.equal(again.genotypes, before[0]) and torch.equal(again.positions, before[1])  # type: ignore[arg-type]


def test_windows_of_a_genome(tmp_path: Path) -> None:
    arrays, attributes = encode_examples(encoder(), [window(n, missing=True) for n in range(4)])
    write_shard(tmp_path / "windows", kind="windows", arrays=arrays, attributes=attributes)
    data = PackedData.from_shards([tmp_path / "windows"], kind="windows")
    assert data.num_examples == 4 and data.fingerprint == encoder().fingerprint


def test_damaged_shard_is_named(tmp_path: Path) -> None:
    paths = write_shards(tmp_path)
    chunk = next(file for file in (paths[1] / "genotypes").rglob("c/*/*/*") if file.is_file())
    content = bytearray(chunk.read_bytes())
    content[-1] ^= 1
    chunk.write_bytes(content)
    with pytest.raises(PopdlError, match=r"shard_1.*checksum of genotypes"):
        PackedData.from_shards(paths)


@given(st.integers(0, 500), st.integers(0, 2**40), st.integers(0, 100))
def test_shuffles_are_permutations_and_reproducible(size: int, seed: int, epoch: int) -> None:
    indices = torch.arange(7, 7 + size)
    order = shuffled(indices, seed=seed, epoch=epoch)
    assert order.dtype == torch.int64
    assert sorted(order.tolist()) == indices.tolist()
    assert torch.equal(order, shuffled(indices, seed=seed, epoch=epoch))
    if size > 20:
        assert not torch.equal(order, shuffled(indices, seed=seed, epoch=epoch + 1))
        assert not torch.equal(order, shuffled(indices, seed=seed + 1, epoch=epoch))


def test_shuffle_leaves_torch_alone() -> None:
    state = torch.random.get_rng_state()
    shuffled(torch.arange(10), seed=1, epoch=0)
    assert torch.equal(torch.random.get_rng_state(), state)
