"""Shards: the files in which examples are kept, written whole or not at all, and never read when damaged.

A shard is a zarr v3 group in a folder of its own, with a ``manifest.json`` that holds size and SHA-256 of every file.
``docs/store.md`` describes the format for other programs. The same arrays always give the same bytes.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import os
import shutil
import stat
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import zarr
from zarr.codecs import BloscCodec
from zarr.core.buffer import Buffer
from zarr.core.buffer.cpu import Buffer as CpuBuffer
from zarr.storage import MemoryStore

from popdl.errors import PopdlError

__all__ = [
    "FORMAT",
    "FORMAT_VERSION",
    "METADATA",
    "Shard",
    "find_shards",
    "group_metadata",
    "link_shard",
    "read_shard",
    "shard_paths",
    "to_json",
    "verify_shard",
    "write_shard",
]

FORMAT = "popdl"
FORMAT_VERSION = 1
MANIFEST = "manifest.json"
METADATA = "zarr.json"
CHUNK_BYTES = 16 * 2**20
"""Opening a chunk costs about a millisecond whatever its size; this many bytes take ten times that to decode."""
HASH_THREADS = 4
CODECS = ["bytes", "blosc"]
MAX_LZ4 = 255
"""LZ4 makes nothing smaller than this (each byte says at most that a match is 255 longer): a chunk cannot hold more."""


@dataclass(frozen=True)
class Shard:
    """A shard that is complete; arrays are read, and checked against the manifest, when they are asked for."""

    path: Path
    kind: str
    """What it holds: `simulations`, `dataset` or `windows`."""
    attributes: dict[str, Any]
    digest: str
    """Identity of the content: two shards with the same digest hold the same arrays and attributes."""
    files: dict[str, dict[str, Any]]
    """Size and SHA-256 of every file, by its path in the shard."""

    @property
    def names(self) -> list[str]:
        """Names of the arrays."""
        return sorted(name.removesuffix(f"/{METADATA}") for name in self.files if name.endswith(f"/{METADATA}"))

    @property
    def metadata(self) -> dict[str, Any]:
        """The metadata of the zarr group, those of its arrays included, as they are in the file; raises PopdlError as arrays do."""
        return json.loads(_read_files(self.path, self.files, [METADATA])[METADATA])

    def __contains__(self, name: str) -> bool:
        return f"{name}/{METADATA}" in self.files

    def __getitem__(self, name: str) -> np.ndarray:
        """Read a whole array.

        Raises
        ------
        PopdlError
            If a file of the array is missing or damaged.
        """
        if name not in self:
            raise KeyError(f"{self.path} holds no array {name!r}; it holds {self.names}")
        contents = _read_files(self.path, self.files, [file for file in self.files if file.startswith(f"{name}/")])
        if problem := _untrue(contents, name):
            raise _damaged(self.path, f"{name}: {problem}")
        # Decoded from the very bytes that were checked, so that nothing can come between the two.
        memory = MemoryStore(
            {file: CpuBuffer.from_bytes(content) for file, content in contents.items()}, read_only=True
        )
        try:
            return np.asarray(zarr.open_array(memory, path=name, mode="r")[...])
        except Exception as error:  # zarr and its codecs raise what they like
            raise _damaged(self.path, f"{name}: {type(error).__name__}: {error}") from None


def write_shard(path: Path, *, kind: str, arrays: Mapping[str, np.ndarray], attributes: Mapping[str, Any]) -> None:
    """Write a shard, replacing the one that may be there.

    Parameters
    ----------
    path
        Folder of the shard.
    kind
        What it holds; a shard is only ever read as the kind that it was written as.
    arrays
        Arrays by name; the first axis is cut into chunks of about 16 MiB.
    attributes
        Anything that JSON can hold. Keep times, hosts and paths out: they would differ where the content is the same.

    Raises
    ------
    PopdlError
        If the disk refuses, e.g. because it is full. Nothing half-written is left behind.
    """
    files = _encode(arrays, {"format": FORMAT, "format_version": FORMAT_VERSION, "kind": kind, **attributes})
    manifest: dict[str, Any] = {"format": FORMAT, "format_version": FORMAT_VERSION, "kind": kind}
    manifest["files"] = {
        name: {"size": len(content), "sha256": _sha256(content)} for name, content in sorted(files.items())
    }
    files[MANIFEST] = to_json({**manifest, "digest": _sha256(to_json(manifest))})
    with _replacing(path) as partial:
        for name, content in files.items():
            (partial / name).parent.mkdir(parents=True, exist_ok=True)
            (partial / name).write_bytes(content)


def link_shard(source: Path, path: Path) -> None:
    """Give a shard a second place, replacing the shard that may be there; both share their bytes on disk where the disk allows.

    Parameters
    ----------
    source
        Folder of a shard.
    path
        The other folder.

    Raises
    ------
    PopdlError
        If the source is not a complete shard, or the disk refuses.
    """
    names = [*_open(source).files, MANIFEST]
    with _replacing(path) as partial:
        for name in names:
            (partial / name).parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(source / name, partial / name)
            except OSError:  # another disk, or one without links
                shutil.copyfile(source / name, partial / name)


def read_shard(path: Path, *, kind: str | None) -> Shard:
    """Open a shard after checking that it is complete, of this kind (None: of any) and of a known version.

    Raises
    ------
    PopdlError
        If there is no shard, a file is missing or has another size, or the manifest is damaged.
    """
    shard = _open(path)
    if kind is not None and shard.kind != kind:
        raise PopdlError(
            f"{path}: expected a shard of kind {kind!r}, found {shard.kind!r}; give the path of a {kind} shard."
        )
    return shard


def verify_shard(path: Path) -> None:
    """Read every byte of a shard and compare it with the manifest.

    Raises
    ------
    PopdlError
        If anything is missing or damaged; the message names the file.
    """
    shard = _open(path)
    for name in shard.files:  # one at a time: a shard may be larger than memory
        _read_files(path, shard.files, [name])


def find_shards(path: Path) -> list[Path]:
    """The shards of a store, or the one shard that lies there.

    Raises
    ------
    PopdlError
        If there is none.
    """
    shards = [path] if (path / MANIFEST).exists() else shard_paths(path)
    if not shards:
        raise PopdlError(f"{path}: neither a shard nor a store of shards; give e.g. results/<study>/simulations.zarr.")
    return shards


def shard_paths(store: Path) -> list[Path]:
    """Folders of the shards in a store, in the order of their numbers."""
    numbered = [(path.name.removeprefix("shard_"), path) for path in store.glob("shard_*")]
    return [path for number, path in sorted((int(name), path) for name, path in numbered if name.isdecimal())]


def to_json(value: Any, *, sort_keys: bool = True) -> bytes:
    """The one way in which a value is written, so that equal values are equal bytes."""
    return (json.dumps(value, sort_keys=sort_keys, indent=1, allow_nan=False) + "\n").encode()


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _encode(arrays: Mapping[str, np.ndarray], attributes: Mapping[str, Any]) -> dict[str, bytes]:
    """The files of a zarr group by their paths, manifest apart."""
    contents: dict[str, Buffer] = {}
    for name, array in arrays.items():
        num_chunks = max(1, math.ceil(array.nbytes / CHUNK_BYTES))
        rows = math.ceil(len(array) / num_chunks)  # equal chunks: zarr pads the last one
        zarr.create_array(
            MemoryStore(contents),
            name=name,
            data=array,
            chunks=tuple(max(1, length) for length in (rows, *array.shape[1:])),
            compressors=_compressor(array.dtype),
            fill_value=0,
            config={"write_empty_chunks": True},
        )
    # One after the other, so that what is written is in memory once.
    files = {name: contents.pop(name).to_bytes() for name in list(contents) if name != METADATA}
    metadata = {name: json.loads(files[f"{name}/{METADATA}"]) for name in sorted(arrays)}
    return {
        **files,
        METADATA: to_json(group_metadata(attributes, metadata), sort_keys=False),
    }  # the order of populations counts


def _compressor(dtype: np.dtype) -> BloscCodec:
    """LZ4, since it costs less than the disk does."""
    shuffle: Literal["bitshuffle", "noshuffle", "shuffle"] = "shuffle"
    if dtype == np.int8:
        shuffle = "bitshuffle"  # alleles are mostly 0
    elif dtype == np.uint8:
        shuffle = "noshuffle"  # packed bits
    return BloscCodec(cname="lz4", clevel=5, shuffle=shuffle, typesize=dtype.itemsize)


def group_metadata(attributes: Mapping[str, Any], members: Mapping[str, Any]) -> dict[str, Any]:
    """A zarr group's metadata; with its members listed inside, zarr does not take the manifest for a member."""
    consolidated = {"kind": "inline", "must_understand": False, "metadata": members}
    return {"zarr_format": 3, "node_type": "group", "attributes": attributes, "consolidated_metadata": consolidated}


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A new folder beside ``path`` that takes its place when all went well, and is removed when not."""
    partial = path.parent / f".{path.name}.partial-{os.getpid()}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for left_by_killed_job in path.parent.glob(f".{path.name}.partial-*"):
            shutil.rmtree(left_by_killed_job)
        partial.mkdir()
        yield partial
        if path.exists():
            shutil.rmtree(path)
        partial.rename(path)
    except OSError as error:
        raise PopdlError(f"{path}: cannot write the shard: {error.strerror}; nothing was kept of it.") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _untrue(contents: Mapping[str, bytes], name: str) -> str | None:
    """Say what an array declares and its files do not hold; zarr would take memory for it, and fill it with zeros."""
    try:
        metadata = json.loads(contents[f"{name}/{METADATA}"])
        shape, chunk = metadata["shape"], metadata["chunk_grid"]["configuration"]["chunk_shape"]
        separator = metadata["chunk_key_encoding"]["configuration"]["separator"]
        codecs = [codec["name"] for codec in metadata["codecs"]]
        dtype = np.dtype(metadata["data_type"])
        if dtype.kind not in "biuf" or not all(type(length) is int and length >= 0 for length in (*shape, *chunk)):
            raise ValueError(f"{dtype} of shape {shape} in chunks of {chunk}")
        counts = [-(-length // size) for length, size in zip(shape, chunk, strict=True)]
    except (ValueError, KeyError, TypeError, ZeroDivisionError, RecursionError) as error:
        return f"its metadata cannot be read: {error!r}"
    if codecs != CODECS:
        return f"it is written with {codecs}, expected {CODECS}"
    if len(contents) - 1 != math.prod(counts):  # compared before places are counted out: there may be billions
        return f"it declares {math.prod(counts)} chunks, found files of {len(contents) - 1}"
    for place in itertools.product(*map(range, counts)):
        content = contents.get(f"{name}/c/" + separator.join(map(str, place)), b"")
        declared = math.prod(chunk) * dtype.itemsize
        if int.from_bytes(content[4:8], "little") != declared or declared > MAX_LZ4 * len(content):
            return f"it declares chunks of {declared} bytes, which its files do not hold"
    return None


def _damaged(path: Path, what: str) -> PopdlError:
    return PopdlError(f"{path}: {what}; the shard is damaged, delete it and run the step that makes it again.")


def _open(path: Path) -> Shard:
    """Read and check the manifest, the metadata, and that every file is there with its size."""
    try:
        content = (path / MANIFEST).read_bytes()
    except OSError as error:
        raise PopdlError(
            f"{path}: not a complete shard, {MANIFEST} cannot be read ({error.strerror}); run the step that makes this shard."
        ) from None
    try:
        manifest = json.loads(content)
        digest = manifest.pop("digest")
        intact = digest == _sha256(to_json(manifest)) and content == to_json({**manifest, "digest": digest})
        intact = intact and {"format", "format_version", "kind", "files"} <= manifest.keys()
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
        intact = False
    if not intact:
        raise _damaged(path, f"{MANIFEST} does not match its own checksum")
    if manifest["format"] != FORMAT or manifest["format_version"] != FORMAT_VERSION:
        raise PopdlError(
            f"{path}: written in version {manifest['format_version']} of the format, this popdl reads version {FORMAT_VERSION}; "
            "use the popdl that wrote it, or a newer one."
        )
    try:
        sizes = {name: expected["size"] for name, expected in manifest["files"].items()}
        for name in sizes:
            if Path(name).is_absolute() or ".." in Path(name).parts:
                raise _damaged(path, f"{MANIFEST} names {name}, which does not lie in the shard")
        for name, expected in sizes.items():
            file = (path / name).stat()
            if file.st_size != expected or not stat.S_ISREG(file.st_mode):
                raise _damaged(path, f"{name} has {file.st_size} bytes instead of {expected}")
        attributes = json.loads(_read_files(path, manifest["files"], [METADATA])[METADATA])["attributes"]
    except FileNotFoundError as error:
        raise _damaged(path, f"{Path(error.filename).relative_to(path)} is missing") from None
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise _damaged(path, f"{MANIFEST} or {METADATA} is not one of popdl's ({error!r})") from None
    own = {key: value for key, value in attributes.items() if key not in ("format", "format_version", "kind")}
    return Shard(path, manifest["kind"], own, digest, manifest["files"])


def _read_files(path: Path, files: Mapping[str, Mapping[str, Any]], names: Sequence[str]) -> dict[str, bytes]:
    """Read files of a shard and compare them with its manifest."""

    def read(name: str) -> bytes:
        try:
            content = (path / name).read_bytes()
        except OSError as error:
            raise _damaged(path, f"{name} cannot be read ({error.strerror})") from None
        if _sha256(content) != files[name]["sha256"]:
            raise _damaged(path, f"the checksum of {name} is wrong")
        return content

    if len(names) == 1:
        return {names[0]: read(names[0])}
    with ThreadPoolExecutor(HASH_THREADS) as pool:  # hashing releases the interpreter's lock
        return dict(zip(names, pool.map(read, names), strict=True))
