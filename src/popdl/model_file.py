"""The bytes of a model file: a safetensors file whose metadata hold a card, written whole and believed only after checks.

Nothing is trusted: the header is checked against the size of the file before it is parsed, and against its own SHA-256 before
anything in it is used; the card is held to a schema; the tensors must fill the file exactly. No declared size is allocated.
``docs/model_format.md`` describes the format for other programs.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from popdl import plugins
from popdl.config.base import explain
from popdl.errors import PopdlError
from popdl.files import whole
from popdl.plugins import Carried

__all__ = [
    "FORMAT_VERSION",
    "carried_parts",
    "check_card",
    "check_weights",
    "damaged",
    "read_header",
    "split",
    "write",
]

FORMAT_VERSION = 2
HASHED_SINCE = 2
"""The first version whose header has its own SHA-256."""
CARD = "popdl"
DIGEST = "sha256"
NO_DIGEST = "0" * 64
"""What stands in the place of the header's SHA-256 while it is taken."""
MAX_HEADER_BYTES = 100 * 2**20
"""A card takes some hundred kilobytes; a header beyond this is no model of popdl's."""
MAX_CELLS = 2**31
"""Largest num_haplotypes × max_sites: one example must fit into memory."""
PICKLES = (b"PK\x03\x04", *(b"\x80" + bytes([protocol]) for protocol in range(2, 6)))
"""How torch files (zip archives of pickles) and bare pickles begin."""
MAX_AXES = 8
"""Of a tensor; no layer of torch's has more than five."""
MAX_SIZE = 2**48
"""No tensor is longer; larger numbers only take time to multiply."""
DTYPE = {"F32": 4}
"""Weights are kept in float32; bytes of each element."""


class _Part(BaseModel):
    """Part of a card; keys that are only there to be read by people are not checked."""

    model_config = ConfigDict(extra="allow", strict=True)


class _Named(_Part):
    """A part as :func:`popdl.plugins.describe` writes it."""

    name: str
    options: dict[str, Any]
    source: str | None
    sha256: str | None


class _Network(_Named):
    key: str


class _Encoding(_Part):
    ploidy: int
    sequence_length: float = Field(allow_inf_nan=False)
    settings: dict[str, Any]
    statistics: list[_Named] = []


class _Shape(_Part):
    num_haplotypes: int = Field(ge=1)
    max_sites: int = Field(ge=1)
    has_positions: bool
    populations: list[int] = []
    frequencies: bool = False


class _Target(_Part):
    task: Literal["regression", "classification"]
    scale: Literal["linear", "log", "logit"]
    mean: float | None
    sd: float | None
    classes: list[str] | None
    circular: float | None = Field(default=None, gt=0)


class _Positions(_Part):
    log1p: bool
    mean: float = Field(allow_inf_nan=False)
    sd: float = Field(gt=0, allow_inf_nan=False)


class _Intervals(_Part):
    coverage: float = Field(gt=0, lt=1)
    half_widths: dict[str, float | None]


class _Seen(_Part):
    num_examples: int = Field(ge=0)
    complete: bool
    digests: str


class _SeenSplits(_Part):
    train: _Seen
    validation: _Seen


class _Card(_Part):
    format_version: int
    network: _Network
    transforms: dict[Literal["train", "validation", "prediction"], list[_Named]] = {}
    shape: _Shape
    encoding: _Encoding
    fingerprint: str
    targets: dict[str, _Target] = Field(min_length=1)
    positions: _Positions | None
    intervals: _Intervals
    realism: dict[str, Any]
    validation_loss: float
    seen: _SeenSplits | None = None
    weights_sha256: str


def write(path: Path, header: Mapping[str, Any], card: Mapping[str, Any], data: bytes) -> None:
    """Write a model file whole.

    Parameters
    ----------
    path
        The file.
    header
        Type, shape and place of each tensor, as safetensors has them.
    card
        The card, complete.
    data
        The weights, one tensor after the other.
    """
    text = json.dumps(card, ensure_ascii=False, allow_nan=False)
    # The digest comes first: what stands in its place is then the first thing of its kind in the header.
    encoded = json.dumps({"__metadata__": {DIGEST: NO_DIGEST, CARD: text}, **header}, ensure_ascii=False).encode()
    encoded += b" " * (-len(encoded) % 8)
    encoded = encoded.replace(NO_DIGEST.encode(), hashlib.sha256(encoded).hexdigest().encode(), 1)
    with whole(path) as partial:
        partial.write_bytes(len(encoded).to_bytes(8, "little") + encoded + data)


def split(content: bytes) -> tuple[dict[str, Any], bytes]:
    """Header without metadata, and data, of the bytes of a safetensors file that we made ourselves."""
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    header.pop("__metadata__", None)
    return header, content[8 + length :]


def damaged(path: Path, why: str) -> PopdlError:
    return PopdlError(f"{path}: this model file cannot be used: {why}; copy it again from its source, or train anew.")


def read_header(path: Path) -> tuple[dict[str, Any], dict[str, Any], int]:
    """Tensor descriptions, card, and the place where the weights start.

    Raises
    ------
    PopdlError
        If this is no whole model file of a known version.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            first = file.read(8)
            length = int.from_bytes(first, "little")
            if len(first) < 8 or length > min(size - 8, MAX_HEADER_BYTES):
                found = "something else, or a part of one"
                if first.startswith(PICKLES):
                    found = "a pickle or torch file, which popdl never opens, as it can run code"
                raise PopdlError(
                    f"{path}: expected a model file of popdl (.safetensors), found {found}; get the .safetensors file from its source."
                )
            text = file.read(length)
    except OSError as error:
        raise PopdlError(f"{path}: the model cannot be read: {error.strerror or error}.") from None
    try:
        header = _json(text)
        metadata = header.pop("__metadata__", {})
        if not isinstance(metadata, dict) or not isinstance(metadata.get(CARD), str):
            raise PopdlError(
                f"{path}: this is a safetensors file, but not a model of popdl: its metadata has no {CARD!r}."
            )
        card = _json(metadata[CARD].encode())
    except (ValueError, RecursionError) as error:
        raise damaged(path, f"its header is not JSON: {error}") from None
    version = card.get("format_version")
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise PopdlError(
            f"{path}: the model has format version {version}, this popdl reads up to {FORMAT_VERSION}; install a newer popdl."
        )
    _check_digest(text, metadata.get(DIGEST), path, needed=not isinstance(version, int) or version >= HASHED_SINCE)
    check_card(card, path)
    _check_tensors(header, size - 8 - length, path)
    return header, card, 8 + length


def _json(text: bytes) -> dict[str, Any]:
    def refuse(constant: str) -> float:
        raise ValueError(f"{constant} is no number")

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(values := dict(pairs)) < len(pairs):
            raise ValueError("a key is there twice")
        return values

    value = json.loads(text.decode(), parse_constant=refuse, object_pairs_hook=once)
    if not isinstance(value, dict):
        raise ValueError("expected an object")
    return value


def _check_digest(text: bytes, digest: Any, path: Path, *, needed: bool) -> None:
    """Refuse a header that is not the one of which it has the SHA-256."""
    if digest is None and not needed:
        return
    if not isinstance(digest, str) or len(digest) != len(NO_DIGEST):
        raise damaged(path, f"its metadata has no {DIGEST!r}, the SHA-256 of the header")
    before = text.replace(digest.encode("utf-8", "surrogatepass"), NO_DIGEST.encode(), 1)
    if hashlib.sha256(before).hexdigest() != digest:
        raise damaged(path, "its header does not have the SHA-256 that it states")


def check_card(card: Mapping[str, Any], path: Path) -> None:
    """Refuse a card that lacks what a prediction needs."""
    try:
        _Card.model_validate(card)
    except ValidationError as error:
        raise damaged(path, f"its card is not valid: {explain(error, section=_Card)[0]}") from None
    for part in _needed(card):
        if plugins.is_file(part["name"]) and (part["source"] is None or part["sha256"] is None):
            raise damaged(path, f"it does not carry the source of {part['name']!r}")
    for name, target in card["targets"].items():
        if target["task"] == "regression" and (target["mean"] is None or not (target["sd"] or 0) > 0):
            raise damaged(path, f"its card is not valid: targets.{name} has no mean and sd")
        if target["task"] == "classification" and len(target["classes"] or []) < 2:
            raise damaged(path, f"its card is not valid: targets.{name} has fewer than two classes")
    shape = card["shape"]
    if shape["num_haplotypes"] * shape["max_sites"] > MAX_CELLS:
        raise damaged(path, f"{shape['num_haplotypes']} haplotypes × {shape['max_sites']} sites are too many")


def _check_tensors(header: Mapping[str, Any], size: int, path: Path) -> None:
    """Refuse tensors that do not fill the file exactly, one after the other."""
    ranges = []
    for name, tensor in header.items():
        try:
            begin, end = tensor["data_offsets"]
            shape = tensor["shape"]
            valid = len(shape) <= MAX_AXES and all(
                type(number) is int and 0 <= number <= MAX_SIZE for number in (begin, end, *shape)
            )
            valid = valid and end - begin == DTYPE[tensor["dtype"]] * math.prod(shape)
        except (KeyError, TypeError, ValueError):
            valid = False
        if not valid:
            raise damaged(path, f"the description of tensor {name!r} is not valid")
        ranges.append((begin, end))
    end = 0
    for begin, next_end in sorted(ranges):
        if begin != end:
            raise damaged(path, "its tensors overlap or leave gaps")
        end = next_end
    if end != size:
        raise damaged(path, f"expected {end} bytes of weights, found {size}")


def check_weights(data: bytes, card: Mapping[str, Any], path: Path) -> None:
    if hashlib.sha256(data).hexdigest() != card["weights_sha256"]:
        raise damaged(path, "its weights do not have the SHA-256 in its card")


def carried_parts(card: Mapping[str, Any]) -> list[Carried]:
    """The parts of a card that are code of its author and that a prediction needs: none of them has been run."""
    return [
        Carried(part["name"], part["source"], part["sha256"]) for part in _needed(card) if plugins.is_file(part["name"])
    ]


def _needed(card: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The parts that a prediction needs, popdl's own among them."""
    transforms = card.get("transforms", {}).get("prediction", [])
    return [card["network"], *transforms, *card["encoding"].get("statistics", [])]
