"""The shard format: round trips, and everything that can go wrong with files on a disk."""

from __future__ import annotations

import filecmp
import hashlib
import json
import os
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from limits import small_files

from popdl import store
from popdl.errors import PopdlError
from popdl.layout import shards_beside
from popdl.store_index import write_index

ATTRIBUTES = {"num_examples": 3, "parameters": ["size"], "populations": {"YRI": 4, "CEU": 2}}


@pytest.fixture(scope="session")
def arrays() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(1)
    return {
        "genotypes": generator.integers(-1, 2, (200, 6)).astype(np.int8),
        "positions": np.sort(generator.random(200)) * 1e4,
        "offsets": np.array([0, 50, 50, 200]),
        "parameters": np.array([[1.0], [np.nan], [3.0]]),
        "packed": generator.integers(0, 256, (3, 6, 5), dtype=np.uint8),
        "none": np.zeros((0, 6), np.int8),
    }


@pytest.fixture(scope="session")
def intact(tmp_path_factory: pytest.TempPathFactory, arrays: dict[str, np.ndarray]) -> Path:
    path = tmp_path_factory.mktemp("store") / "simulations.zarr" / "shard_0"
    store.write_shard(path, kind="simulations", arrays=arrays, attributes=ATTRIBUTES)
    return path


@pytest.fixture
def shard(tmp_path: Path, intact: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(intact, tmp_path / "simulations.zarr" / "shard_0"))


def files_of(path: Path) -> list[Path]:
    return sorted(file for file in path.rglob("*") if file.is_file())


def read_everything(path: Path) -> None:
    shard = store.read_shard(path, kind="simulations")
    for name in shard.names:
        shard[name]


def test_what_is_written_is_read(intact: Path, arrays: dict[str, np.ndarray]) -> None:
    shard = store.read_shard(intact, kind="simulations")
    assert shard.names == sorted(arrays)
    assert shard.attributes == ATTRIBUTES
    assert list(shard.attributes["populations"]) == ["YRI", "CEU"]
    assert "genotypes" in shard
    assert "missing" not in shard
    for name, array in arrays.items():
        assert shard[name].dtype == array.dtype
        np.testing.assert_array_equal(shard[name], array)
    store.verify_shard(intact)


@settings(max_examples=50, deadline=None)
@given(
    st.data(),
    st.sampled_from([np.int8, np.uint8, np.int32, np.int64, np.float32, np.float64]),
    hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=7),
)
def test_round_trip_of_any_array(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, dtype: type, shape: tuple[int, ...]
) -> None:
    array = data.draw(hnp.arrays(dtype, shape))
    path = tmp_path_factory.mktemp("any") / "shard_0"
    store.write_shard(path, kind="simulations", arrays={"array": array}, attributes={})
    found = store.read_shard(path, kind="simulations")["array"]
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array)


def test_large_arrays_are_cut_along_the_first_axis(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "CHUNK_BYTES", 1000)
    array = np.arange(701, dtype=np.float64).reshape(701, 1)
    store.write_shard(tmp_path / "shard_0", kind="simulations", arrays={"array": array}, attributes={})
    assert len(files_of(tmp_path / "shard_0" / "array" / "c")) == 6
    np.testing.assert_array_equal(store.read_shard(tmp_path / "shard_0", kind="simulations")["array"], array)


def test_same_arrays_give_same_bytes(tmp_path: Path, intact: Path, arrays: dict[str, np.ndarray]) -> None:
    reversed_order = dict(reversed(arrays.items()))
    store.write_shard(tmp_path / "again", kind="simulations", arrays=reversed_order, attributes=ATTRIBUTES)
    names = [str(file.relative_to(intact)) for file in files_of(intact)]
    assert names == [str(file.relative_to(tmp_path / "again")) for file in files_of(tmp_path / "again")]
    assert filecmp.cmpfiles(intact, tmp_path / "again", names, shallow=False)[0] == names


def test_digest_is_the_identity_of_the_content(tmp_path: Path, intact: Path, arrays: dict[str, np.ndarray]) -> None:
    changed = {**arrays, "positions": arrays["positions"] + 1e-9}
    digests = {store.read_shard(intact, kind="simulations").digest}
    for number, (content, attributes) in enumerate([(changed, ATTRIBUTES), (arrays, {**ATTRIBUTES, "seed": 1})]):
        path = tmp_path / f"shard_{number}"
        store.write_shard(path, kind="simulations", arrays=content, attributes=attributes)
        digests.add(store.read_shard(path, kind="simulations").digest)
    assert len(digests) == 3


def test_every_flipped_byte_is_found(shard: Path) -> None:
    """In each file: the first, the last, and some bytes between; all bytes of the manifest, which vouches for the others."""
    for file in files_of(shard):
        content = file.read_bytes()
        everywhere = file.name == "manifest.json"
        for index in range(len(content)) if everywhere else {0, len(content) // 3, len(content) // 2, len(content) - 1}:
            flipped = bytearray(content)
            flipped[index] ^= 1
            file.write_bytes(flipped)
            with pytest.raises(PopdlError, match=r"shard_0: .*damaged"):
                store.verify_shard(shard)
            if not everywhere:
                with pytest.raises(PopdlError, match=f"checksum of {file.relative_to(shard)} is wrong"):
                    read_everything(shard)
        file.write_bytes(content)
    store.verify_shard(shard)


def test_whitespace_in_the_manifest_counts(shard: Path) -> None:
    manifest = shard / "manifest.json"
    manifest.write_bytes(manifest.read_bytes().replace(b'\n "kind"', b'\n\t"kind"'))
    with pytest.raises(PopdlError, match=r"manifest.json does not match its own checksum"):
        store.verify_shard(shard)


def test_missing_and_shortened_files_are_named(shard: Path) -> None:
    for file in files_of(shard):
        content = file.read_bytes()
        name = str(file.relative_to(shard))
        file.unlink()
        with pytest.raises(PopdlError, match=name):
            store.read_shard(shard, kind="simulations")
        if file.name != "manifest.json":
            file.write_bytes(content[:-1])
            with pytest.raises(PopdlError, match=f"{name} has {len(content) - 1} bytes instead of {len(content)}"):
                store.read_shard(shard, kind="simulations")
        file.write_bytes(content)
    store.verify_shard(shard)


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(PopdlError, match=r"shard_7: not a complete shard, manifest.json cannot be read"):
        store.read_shard(tmp_path / "shard_7", kind="simulations")


def test_snakemake_timestamp_is_ignored(shard: Path) -> None:
    (shard / ".snakemake_timestamp").touch()
    store.verify_shard(shard)
    read_everything(shard)


def test_wrong_kind(intact: Path) -> None:
    with pytest.raises(PopdlError, match="expected a shard of kind 'dataset', found 'simulations'"):
        store.read_shard(intact, kind="dataset")


def test_future_format_version(shard: Path) -> None:
    file = shard / "manifest.json"
    manifest = json.loads(file.read_bytes())
    del manifest["digest"]
    manifest["format_version"] = 2
    digest = hashlib.sha256((json.dumps(manifest, sort_keys=True, indent=1) + "\n").encode()).hexdigest()
    file.write_text(json.dumps({**manifest, "digest": digest}, sort_keys=True, indent=1) + "\n")
    with pytest.raises(PopdlError, match="written in version 2 of the format, this popdl reads version 1"):
        store.read_shard(shard, kind="simulations")


@pytest.mark.parametrize("replaces", [False, True])
def test_full_disk_leaves_nothing_half_written(tmp_path: Path, arrays: dict[str, np.ndarray], replaces: bool) -> None:
    path = tmp_path / "shard_0"
    if replaces:
        store.write_shard(path, kind="simulations", arrays={"old": np.arange(3)}, attributes={})
    wanted = r"shard_0: cannot write the shard: .*; nothing was kept of it"
    with small_files(500), pytest.raises(PopdlError, match=wanted):
        store.write_shard(path, kind="simulations", arrays=arrays, attributes=ATTRIBUTES)
    assert os.listdir(tmp_path) == (["shard_0"] if replaces else [])
    if replaces:
        assert store.read_shard(path, kind="simulations").names == ["old"]


def test_leftovers_of_a_killed_job_are_removed_by_the_next(tmp_path: Path, arrays: dict[str, np.ndarray]) -> None:
    left, other = tmp_path / ".shard_1.partial-1", tmp_path / ".shard_10.partial-1"
    for folder in (left, other):
        (folder / "genotypes").mkdir(parents=True)
    assert store.shard_paths(tmp_path) == []
    store.write_shard(tmp_path / "shard_1", kind="simulations", arrays=arrays, attributes={})
    assert not left.exists()
    assert other.exists()
    assert store.shard_paths(tmp_path) == [tmp_path / "shard_1"]


def test_whole_store_opens_as_zarr(tmp_path: Path, arrays: dict[str, np.ndarray]) -> None:
    whole = tmp_path / "simulations.zarr"
    for number in (0, 2, 10):
        store.write_shard(whole / f"shard_{number}", kind="simulations", arrays=arrays, attributes=ATTRIBUTES)
    shards = store.shard_paths(whole)
    assert [path.name for path in shards] == ["shard_0", "shard_2", "shard_10"]
    write_index(whole, kind="simulations", shards=shards)
    (whole / ".snakemake_timestamp").touch()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        group = zarr.open(whole, mode="r")
        assert sorted(name for name, _ in group.members()) == ["shard_0", "shard_10", "shard_2"]
        assert {name for name, _ in group["shard_10"].members()} == set(arrays)
    assert dict(group.attrs) | {"digests": None} == {
        "format": "popdl",
        "format_version": 1,
        "kind": "simulations",
        "num_shards": 3,
        "num_examples": 9,
        "digests": None,
    }
    assert list(group["shard_2"].attrs["populations"]) == ["YRI", "CEU"]
    for name, array in arrays.items():
        np.testing.assert_array_equal(group[f"shard_2/{name}"][...], array)
        np.testing.assert_array_equal(zarr.open(whole / "shard_2", mode="r")[name][...], array)


def test_index_lists_every_shard_that_cannot_be_used(shard: Path) -> None:
    whole = shard.parent
    shutil.copytree(shard, whole / "shard_1")
    shutil.copytree(shard, whole / "shard_2")
    (whole / "shard_1" / "offsets" / "c" / "0").unlink()
    expected = [whole / f"shard_{number}" for number in range(4)]
    with pytest.raises(PopdlError, match="2 of 4 shards cannot be used") as refused:
        write_index(whole, kind="simulations", shards=expected)
    assert "shard_1: offsets/c/0 is missing" in str(refused.value)
    assert "shard_3: not a complete shard" in str(refused.value)
    assert not (whole / "zarr.json").exists()


def test_a_shard_that_is_gone_while_its_index_is_there_is_named_with_what_to_do(tmp_path: Path) -> None:
    for name in ("shard_0", "shard_2", "shard_3"):
        (tmp_path / name).mkdir()
    assert shards_beside(tmp_path / "zarr.json", 1) == [tmp_path / "shard_0"]
    with pytest.raises(
        PopdlError, match=r"shard_1: 1 of 4 shards are gone; remove .*zarr\.json and run Snakemake again"
    ):
        shards_beside(tmp_path / "zarr.json", 4)
