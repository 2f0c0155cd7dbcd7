"""Encoded shards: what they hold, and that they depend on nothing but the raw shard, the recipe and the seed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from popdl import statistics
from popdl.config.encoding import Encoding
from popdl.dataset import encode_examples, encode_shard, open_shards, read_array, read_parameters
from popdl.encoding import DROPPED_REASONS, Encoder
from popdl.errors import PopdlError
from popdl.seeds import generator
from popdl.store import read_shard, write_shard

HAPLOTYPES = 6
LENGTH = 1000.0
SEED = 3


def example(number: int, *, missing: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Genotypes and positions that depend on the number of the example alone; number 2 has no sites."""
    random = np.random.default_rng(number)
    num_sites = 0 if number == 2 else int(random.integers(5, 40))
    genotypes = random.integers(-1 if missing else 0, 2, size=(num_sites, HAPLOTYPES)).astype(np.int8)
    return genotypes, np.sort(random.integers(0, int(LENGTH), num_sites)).astype(np.float64)


def write_raw(path: Path, numbers: range, *, missing: bool = False, **changes: Any) -> Path:
    examples = [example(number, missing=missing) for number in numbers]
    write_shard(
        path,
        kind="simulations",
        arrays={
            "genotypes": np.concatenate([genotypes for genotypes, _ in examples]),
            "positions": np.concatenate([positions for _, positions in examples]),
            "offsets": np.cumsum([0, *(len(positions) for _, positions in examples)]),
            "parameters": np.array([[number, 10.0**number] for number in numbers]),
            "scenario": np.array(numbers) // 2,
        },
        attributes={
            "first_example": numbers.start,
            "num_examples": len(numbers),
            "num_haplotypes": HAPLOTYPES,
            "ploidy": 2,
            "sequence_length": LENGTH,
            "parameters": ["a", "b"],
            "classes": {},
            **changes,
        },
    )
    return path


def encode(folder: Path, numbers: range, *, missing: bool = False, **options: Any) -> Path:
    raw = write_raw(folder / "raw" / f"shard_{numbers.start}", numbers, missing=missing)
    output = folder / f"shard_{numbers.start}"
    encode_shard(raw, output, encoding=Encoding(**{"max_sites": 11, **options}), seed=SEED)
    return output


def unpack(packed: np.ndarray, max_sites: int = 11) -> np.ndarray:
    """Site j is bit j mod 8 of byte j // 8."""
    sites = np.arange(max_sites)
    return packed[..., sites // 8] >> (sites % 8) & 1


@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("crop", ["centre", "random"])
def test_arrays_are_those_of_the_encoder(tmp_path: Path, missing: bool, crop: str) -> None:
    shard = read_shard(encode(tmp_path, range(4, 9), missing=missing, crop=crop), kind="dataset")
    encoder = Encoder.from_recipe(shard.attributes["encoding"])
    assert shard.attributes["fingerprint"] == encoder.fingerprint
    assert ("missing" in shard) == missing
    alleles = unpack(shard["genotypes"]).astype(np.int8)
    assert not np.unpackbits(shard["genotypes"], axis=2, bitorder="little")[:, :, 11:].any()
    if missing:
        alleles -= unpack(shard["missing"]).astype(np.int8)
    for row, number in enumerate(range(4, 9)):
        expected = encoder.encode(*example(number, missing=missing), generator(SEED, "encoding", number))
        np.testing.assert_array_equal(alleles[row], expected.genotypes)
        np.testing.assert_array_equal(shard["positions"][row], expected.positions)
        assert shard["num_sites"][row] == expected.num_sites
        assert shard["num_sites_window"][row] == len(expected.window.positions) >= expected.num_sites
        assert shard["dropped"][row].tolist() == [expected.window.dropped[reason] for reason in DROPPED_REASONS]
        np.testing.assert_array_equal(
            shard["statistics"][row],
            statistics.compute(
                expected.window.genotypes, expected.window.positions, sequence_length=LENGTH, derived=False
            ),
        )
    assert shard.attributes["statistics"] == statistics.names(HAPLOTYPES, derived=False)
    assert shard["parameters"].tolist() == [[number, 10.0**number] for number in range(4, 9)]
    assert shard["scenario"].tolist() == [2, 2, 3, 3, 4]


def test_random_crop_depends_on_the_example_not_on_its_shard(tmp_path: Path) -> None:
    whole = read_shard(encode(tmp_path / "whole", range(10), crop="random"), kind="dataset")
    parts = [
        encode(tmp_path / "parts", range(6, 10), crop="random"),
        encode(tmp_path / "parts", range(6), crop="random"),
    ]
    for name in whole.names:
        np.testing.assert_array_equal(read_array(open_shards(parts), name), whole[name])
    other = tmp_path / "other"
    encode_shard(
        tmp_path / "whole" / "raw" / "shard_0", other, encoding=Encoding(max_sites=11, crop="random"), seed=SEED + 1
    )
    assert not np.array_equal(read_shard(other, kind="dataset")["positions"], whole["positions"])


def test_same_shard_gives_same_bytes(tmp_path: Path) -> None:
    paths = [encode(tmp_path / name, range(5), missing=True) for name in ("first", "second")]
    first, second = (
        {file.relative_to(path): file.read_bytes() for file in path.rglob("*") if file.is_file()} for path in paths
    )
    assert first == second and len(first) > 8


def test_statistics_are_those_of_the_cropped_window(tmp_path: Path) -> None:
    shard = read_shard(encode(tmp_path, range(3, 5), crop_length=400, max_sites=2), kind="dataset")
    genotypes, positions = example(3)
    inside = (positions >= 300) & (positions < 700)
    window = Encoder.from_recipe(shard.attributes["encoding"]).filter_sites(genotypes[inside], positions[inside] - 300)
    assert shard.attributes["sequence_length"] == 400
    assert shard["num_sites_window"][0] == len(window.positions) > 2
    np.testing.assert_array_equal(
        shard["statistics"][0],
        statistics.compute(window.genotypes, window.positions, sequence_length=400, derived=False),
    )


def test_window_lengths_may_differ() -> None:
    encoder = Encoder(
        Encoding(max_sites=11, positions="relative"), num_haplotypes=HAPLOTYPES, ploidy=2, sequence_length=LENGTH
    )
    window = (*example(0), np.random.default_rng(1))
    one, _ = encode_examples(encoder, [window, window], sequence_lengths=[LENGTH, 2 * LENGTH])
    np.testing.assert_allclose(one["positions"][0], 2 * one["positions"][1], rtol=1e-6)
    pi = statistics.names(HAPLOTYPES, derived=False).index("pi")
    assert one["statistics"][0, pi] == pytest.approx(2 * one["statistics"][1, pi])


@pytest.mark.parametrize("positions", ["none", "distance"])
def test_no_examples_give_empty_arrays(positions: str) -> None:
    encoder = Encoder(
        Encoding(max_sites=11, positions=positions), num_haplotypes=HAPLOTYPES, ploidy=2, sequence_length=LENGTH
    )
    arrays, _ = encode_examples(encoder, [])
    assert ("positions" in arrays) == (positions != "none")
    assert {name: array.shape[0] for name, array in arrays.items()} == dict.fromkeys(arrays, 0)
    assert arrays["genotypes"].shape == (0, HAPLOTYPES, 2)


def test_parameters_are_found_by_name(tmp_path: Path) -> None:
    shards = open_shards([encode(tmp_path, range(3))])
    assert read_parameters(shards, ["b", "a"]).tolist() == [[1, 0], [10, 1], [100, 2]]
    with pytest.raises(PopdlError, match="no parameter 'c'; known: a, b"):
        read_parameters(shards, ["c"])


def test_shards_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    first, second, third = (encode(tmp_path, numbers) for numbers in (range(3), range(3, 6), range(6, 9)))
    with pytest.raises(PopdlError, match="starts with example 6, expected 3"):
        open_shards([first, third])
    with pytest.raises(PopdlError, match="starts with example 0, expected 3"):
        open_shards([first, first, second])
    other = encode(tmp_path / "other", range(3, 6), sort="frequency")
    with pytest.raises(PopdlError, match="its fingerprint differs"):
        open_shards([first, other])
    with pytest.raises(PopdlError, match="no encoded shard was given"):
        open_shards([])
    with pytest.raises(PopdlError, match="expected a shard of kind 'dataset', found 'simulations'"):
        open_shards([tmp_path / "raw" / "shard_0"])


def test_error_names_the_shard(tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "shard_0", range(3), num_haplotypes=8)
    with pytest.raises(PopdlError, match="shard_0: genotypes: expected 8 haplotypes"):
        encode_shard(raw, tmp_path / "out", encoding=Encoding(), seed=SEED)
    assert not (tmp_path / "out").exists()
