"""Reading every byte that has a checksum, and comparing: of a shard, a store, a model, or all of them in a study's results."""

from __future__ import annotations

from pathlib import Path

from popdl.errors import PopdlError
from popdl.model import read_card
from popdl.store import MANIFEST, find_shards, shard_paths, verify_shard
from popdl.store_index import verify_index

__all__ = ["verify"]

MODEL = ".safetensors"


def verify(path: Path) -> str:
    """Verify a shard, a store, a model file, or every store and model in a folder.

    Parameters
    ----------
    path
        Any of these; hidden folders in it, such as checkpoints of trainings under way, are left out.

    Returns
    -------
    str
        What is whole, in words, and how many files have no checksum.

    Raises
    ------
    PopdlError
        If anything is damaged, or there is nothing to compare. All that is damaged is named.
    """
    if path.suffix == MODEL:
        read_card(path, verify=True)
        return "the model is whole"
    if (path / MANIFEST).exists() or shard_paths(path):
        return f"{_verify_store(path)} shards are whole"
    return _verify_folder(path)


def _verify_store(path: Path) -> int:
    shards = find_shards(path)
    problems = []
    for shard in shards:
        try:
            verify_shard(shard)
        except PopdlError as error:
            problems.append(str(error))
    if problems:
        raise PopdlError("\n  ".join(problems))
    verify_index(path)
    return len(shards)


def _verify_folder(path: Path) -> str:
    files = [
        file
        for file in sorted(path.rglob("*"))
        if file.is_file() and not any(part.startswith(".") for part in file.relative_to(path).parts)
    ]
    folders = {folder for file in files for folder in file.parents if folder != path and folder.is_relative_to(path)}
    stores = sorted(folder for folder in folders if _is_store(folder))
    models = [file for file in files if file.suffix == MODEL]
    if not (stores or models):
        raise PopdlError(f"{path}: no shard, store or model, and no folder of them; give e.g. results/<study>.")
    problems, shards = [], 0
    for part in (*stores, *models):
        try:
            if part in models:
                read_card(part, verify=True)
            else:
                shards += _verify_store(part)
        except PopdlError as error:
            problems.append(str(error))
    if problems:
        raise PopdlError(
            "\n  ".join(
                [f"{path}: {len(problems)} of {len(stores)} stores and {len(models)} models are damaged:", *problems]
            )
        )
    rest = [file for file in files if file not in models and not any(store in file.parents for store in stores)]
    return f"{shards} shards and {len(models)} models are whole; {len(rest)} other files have no checksum"


def _is_store(folder: Path) -> bool:
    """Whether a folder is a shard, or holds shards; a shard of a store counts with its store."""
    return bool(shard_paths(folder)) or ((folder / MANIFEST).exists() and not shard_paths(folder.parent))
