"""The index of a store: one file that makes a folder of shards a zarr group, and that stands for all of them in the workflow."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from popdl.errors import PopdlError
from popdl.files import whole
from popdl.store import FORMAT, FORMAT_VERSION, METADATA, group_metadata, read_shard, shard_paths, to_json

__all__ = ["verify_index", "write_index"]

INDENT = 3
"""How deep the entries of a group's consolidated metadata lie in its JSON."""


def write_index(store: Path, *, kind: str, shards: Sequence[Path]) -> None:
    """Make a folder of shards a zarr group of its own, so that ``zarr.open(store)`` works.

    Parameters
    ----------
    store
        The folder that holds the shards.
    kind
        The kind of all of them.
    shards
        The shards that must be there and complete.

    Raises
    ------
    PopdlError
        If any shard cannot be used; the message lists them all.
    """
    content = _index(store, kind=kind, shards=shards)
    try:
        with whole(store / METADATA) as partial:
            partial.write_bytes(content)
    except OSError as error:
        raise PopdlError(f"{store / METADATA}: cannot write: {error.strerror}.") from error


def verify_index(store: Path) -> None:
    """Compare the index of a store, if it has one, with the shards that are there.

    Raises
    ------
    PopdlError
        If it is not the one that they give, or a shard cannot be used.
    """
    file = store / METADATA
    shards = shard_paths(store)
    if not (file.exists() and shards):
        return
    if file.read_bytes() != _index(store, kind=read_shard(shards[0], kind=None).kind, shards=shards):
        raise PopdlError(
            f"{file}: it is not the index of the {len(shards)} shards beside it: it is damaged, or shards were lost or added "
            "since; delete it and run the study again."
        )


def _index(store: Path, *, kind: str, shards: Sequence[Path]) -> bytes:
    """The metadata of the zarr group that a folder of shards is."""
    problems: list[str] = []
    digests: dict[str, str] = {}
    members = bytearray()
    num_examples = 0
    for path in shards:
        try:
            shard = read_shard(path, kind=kind)
            entries = b",\n".join(_entries(path.name, shard.metadata))
        except PopdlError as error:
            problems.append(str(error))
            continue
        members += (b",\n" if members else b"") + entries
        digests[path.name] = shard.digest
        num_examples += shard.attributes["num_examples"]
    if problems:
        raise PopdlError("\n  ".join([f"{store}: {len(problems)} of {len(shards)} shards cannot be used:", *problems]))
    attributes = {"format": FORMAT, "format_version": FORMAT_VERSION, "kind": kind, "num_shards": len(shards)}
    attributes |= {"num_examples": num_examples, "digests": digests}
    index = to_json(group_metadata(attributes, {}), sort_keys=False)
    if not members:
        return index
    before, after = index.rsplit(b"{}", 1)
    return b"".join([before, b"{\n", members, b"\n", b" " * (INDENT - 1), b"}", after])


def _entries(name: str, group: dict[str, Any]) -> Iterator[bytes]:
    """A shard and its arrays as they are written in the index: as text, for the objects of ten thousand shards take a gigabyte."""
    arrays = group.pop("consolidated_metadata")["metadata"]
    indent = " " * INDENT
    for path, metadata in ((name, group), *((f"{name}/{array}", arrays[array]) for array in arrays)):
        text = f"{json.dumps(path)}: {to_json(metadata, sort_keys=False).decode().rstrip()}"
        yield (indent + text.replace("\n", f"\n{indent}")).encode()
