"""`popdl verify`: any flipped byte of a shard, a store or a model is found, and named."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import learnable
import numpy as np
import pytest

from popdl import store
from popdl.errors import PopdlError
from popdl.store_index import write_index
from popdl.verifying import verify

FLIPS = 60
"""In all; `benchmarks/soak.py` does 500."""


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of results: a store with its index, windows, a model and a table."""
    folder = tmp_path_factory.mktemp("results") / "study"
    data = learnable.dataset(tmp_path_factory.mktemp("data"))
    shards = [Path(shutil.copytree(shard, folder / "dataset.zarr" / shard.name)) for shard in data["shards"]]
    write_index(folder / "dataset.zarr", kind="dataset", shards=shards)
    learnable.fit(data, folder / "models")
    shutil.copytree(data["shards"][0], folder / "applications/genome/windows.zarr")
    (folder / "models/.0.checkpoint").mkdir()
    (folder / "models/.0.checkpoint/last.safetensors").write_bytes(b"a training under way")
    return folder


@contextmanager
def flipped(path: Path, place: int, value: int) -> Iterator[None]:
    content = path.read_bytes()
    changed = bytearray(content)
    changed[place] ^= value
    path.write_bytes(changed)
    try:
        yield
    finally:
        path.write_bytes(content)


def checked_files(results: Path) -> list[Path]:
    """Every file that has a checksum: those of shards, indices of stores, models."""
    shards = [path.parent for path in results.rglob("manifest.json")]
    files = [*results.rglob("zarr.json"), *results.glob("models/*.safetensors")]
    return sorted({*files, *(path for shard in shards for path in shard.rglob("*") if path.is_file())})


def test_any_flipped_byte_is_found(results: Path) -> None:
    """At least one in every file, for the folder and for the part of it that the file belongs to."""
    generator = np.random.default_rng(1)
    files = checked_files(results)
    assert {path.suffix for path in files} == {"", ".json", ".safetensors"}
    for number in range(max(FLIPS, len(files))):
        path = files[number % len(files)]
        place, value = int(generator.integers(path.stat().st_size)), int(generator.integers(1, 256))
        part = next((folder for folder in path.parents if folder.suffix == ".zarr"), path)
        with flipped(path, place, value):
            for whole in (part, results) if number % 10 == 0 else (part,):
                with pytest.raises(PopdlError) as refused:
                    verify(whole)
                assert str(part) in str(refused.value), (path, place, value)
    assert verify(results)


def test_what_is_whole_is_counted(results: Path) -> None:
    (results / "metrics.json").write_text("{}")
    num_shards = len(list(results.rglob("manifest.json")))
    said = verify(results)
    assert said.startswith(f"{num_shards} shards and 1 models are whole; ")
    (results / "metrics.tsv").write_text("")
    assert said != verify(results)  # one more that has no checksum
    assert verify(next(results.glob("models/*.safetensors"))) == "the model is whole"
    assert verify(results / "applications/genome/windows.zarr") == "1 shards are whole"


def test_all_that_is_damaged_is_named(results: Path) -> None:
    model = next(results.glob("models/*.safetensors"))
    windows = results / "applications/genome/windows.zarr/zarr.json"
    with flipped(model, 1000, 1), flipped(windows, 10, 1), pytest.raises(PopdlError) as refused:
        verify(results)
    assert "2 of 2 stores and 1 models are damaged" in str(refused.value)
    assert str(model) in str(refused.value) and str(windows.parent) in str(refused.value)


def test_a_lost_shard_is_missed(results: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(next(results.glob("*.zarr")), tmp_path / "copy.zarr")
    shutil.rmtree(store.shard_paths(copy)[-1])
    with pytest.raises(PopdlError, match=r"zarr\.json: it is not the index of the .* shards beside it"):
        verify(copy)


def test_nothing_to_verify(tmp_path: Path) -> None:
    with pytest.raises(PopdlError, match="no shard, store or model"):
        verify(tmp_path)
