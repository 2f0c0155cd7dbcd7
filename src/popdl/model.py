"""The model file: weights and everything needed to predict, in one file that runs no code when it is opened.

It is a safetensors file; the key ``popdl`` of its metadata holds the card, a JSON document. Nothing in it is trusted: the
header is checked against the size of the file before it is parsed, the card against a schema, the tensors against the
network that the card names, built on torch's meta device so that no declared size is allocated before it is known to be
there. ``docs/model_format.md`` describes the format for other programs.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from popdl import plugins
from popdl.config.base import explain
from popdl.errors import PopdlError
from popdl.files import whole
from popdl.plugins import Carried, Trust

if TYPE_CHECKING:
    from torch import Tensor

    from popdl.encoding import Encoder
    from popdl.module import PopdlModule
    from popdl.transforms._pipeline import Pipeline

__all__ = [
    "FORMAT_VERSION",
    "Model",
    "carried_parts",
    "load_model",
    "publish_model",
    "read_card",
    "read_weights",
    "save_model",
]

FORMAT_VERSION = 1
CARD = "popdl"
MAX_HEADER_BYTES = 100 * 2**20
"""A card takes some hundred kilobytes; a header beyond this is no model of popdl's."""
MAX_CELLS = 2**31
"""Largest num_haplotypes × max_sites: one example must fit into memory."""
PICKLES = (b"PK\x03\x04", *(b"\x80" + bytes([protocol]) for protocol in range(2, 6)))
"""How torch files (zip archives of pickles) and bare pickles begin."""
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


@dataclass(frozen=True)
class Model:
    """A model that is ready to predict."""

    path: Path
    card: dict[str, Any]
    module: PopdlModule
    """On the CPU, in evaluation mode."""
    encoder: Encoder
    """The only recipe whose data this model takes."""


def save_model(path: Path, module: PopdlModule, card: Mapping[str, Any]) -> None:
    """Write a model file whole.

    Parameters
    ----------
    path
        The ``.safetensors`` file.
    module
        The trained module.
    card
        Everything else, as JSON; ``format_version`` and ``weights_sha256`` are added here.
    """
    from safetensors.torch import save

    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}
    content = save(tensors)
    header, data = _split(content)
    complete = {"format_version": FORMAT_VERSION, **card, "weights_sha256": hashlib.sha256(data).hexdigest()}
    _checked(complete, path)
    _write(path, header, complete, data)


def read_card(path: Path, *, verify: bool = False) -> dict[str, Any]:
    """The card of a model file; torch is not loaded.

    Parameters
    ----------
    path
        The model file.
    verify
        Whether to read the weights too, and compare them with their SHA-256.

    Raises
    ------
    PopdlError
        If this is no whole model file of a known version, or the source that it carries was changed.
    """
    _, card, start = _read_header(path)
    if verify:
        _check_weights(path.read_bytes()[start:], card, path)
    plugins.refuse_changed(carried_parts(card), where=path)
    return card


def load_model(path: Path, *, trust: Trust = plugins.in_project) -> Model:
    """Load a model.

    Parameters
    ----------
    path
        The model file.
    trust
        Whether the code that the model carries of its author may run (default: if the very file lies at its path).

    Raises
    ------
    PopdlError
        If the file is foreign, damaged, from a newer popdl, does not hold what its card declares, or needs code that
        is not trusted.
    """

    from popdl.encoding import Encoder

    header, card, start = _read_header(path)
    with plugins.carried(carried_parts(card), trust=trust, where=path):
        encoder = _encoder(Encoder, card, path)
        module = _module(card, encoder, path)
    expected = {name: list(tensor.shape) for name, tensor in module.state_dict().items()}
    found = {name: tensor["shape"] for name, tensor in header.items()}
    if expected != found:
        name = next(name for name in sorted({*expected, *found}) if expected.get(name) != found.get(name))
        raise _damaged(
            path,
            f"tensor {name!r} has the shape {found.get(name, 'of a missing tensor')}, but the network of its card needs {expected.get(name, 'no such tensor')}",
        )
    module.load_state_dict(_weights(path, card, start), assign=True)
    return Model(path, card, module.eval(), encoder)


def read_weights(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Card and tensors of a model file, without its network: enough to start another training from.

    Raises
    ------
    PopdlError
        If this is no whole model file of a known version.
    """
    _, card, start = _read_header(path)
    return card, _weights(path, card, start)


def _weights(path: Path, card: Mapping[str, Any], start: int) -> dict[str, Tensor]:
    """The tensors of a model file, whose bytes are those of which its card has the hash."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    content = path.read_bytes()
    _check_weights(content[start:], card, path)
    try:
        return load(content)
    except SafetensorError as error:
        raise _damaged(path, str(error)) from None


def publish_model(candidates: Mapping[str, Path], *, metrics: Path, output: Path) -> None:
    """Copy the best network's model to the file to share, with its test metrics and those of the baselines in the card.

    Parameters
    ----------
    candidates
        Model files by name, ``network/replicate``.
    metrics
        ``metrics.json`` of the evaluation; its ``best_network`` is a name among ``candidates``.
    output
        The model file to write.
    """
    scores = json.loads(metrics.read_text(encoding="utf-8"))
    best = scores["best_network"]
    if best not in candidates:
        raise PopdlError(
            f"{metrics}: best_network is {best!r}, expected one of {', '.join(candidates)}; evaluate again."
        )
    header, card, start = _read_header(candidates[best])
    chosen = {
        "model": best,
        "num_test_examples": scores.get("num_test_examples"),
        **scores["models"][best],
        "baselines": {
            name: {target: {"metrics": score.get("metrics", {})} for target, score in model["targets"].items()}
            for name, model in scores["models"].items()
            if model.get("kind") == "baseline"
        },
    }
    _write(output, header, {**card, "metrics": chosen}, candidates[best].read_bytes()[start:])


def _write(path: Path, header: Mapping[str, Any], card: Mapping[str, Any], data: bytes) -> None:
    text = json.dumps(card, ensure_ascii=False, allow_nan=False)
    encoded = json.dumps({"__metadata__": {CARD: text}, **header}, ensure_ascii=False).encode()
    encoded += b" " * (-len(encoded) % 8)
    with whole(path) as partial:
        partial.write_bytes(len(encoded).to_bytes(8, "little") + encoded + data)


def _split(content: bytes) -> tuple[dict[str, Any], bytes]:
    """Header without metadata, and data, of the bytes of a safetensors file that we made ourselves."""
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    header.pop("__metadata__", None)
    return header, content[8 + length :]


def _damaged(path: Path, why: str) -> PopdlError:
    return PopdlError(f"{path}: this model file cannot be used: {why}; copy it again from its source, or train anew.")


def _read_header(path: Path) -> tuple[dict[str, Any], dict[str, Any], int]:
    """Tensor descriptions, card, and the place where the weights start."""
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
        raise _damaged(path, f"its header is not JSON: {error}") from None
    version = card.get("format_version")
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise PopdlError(
            f"{path}: the model has format version {version}, this popdl reads up to {FORMAT_VERSION}; install a newer popdl."
        )
    _checked(card, path)
    _check_tensors(header, size - 8 - length, path)
    return header, card, 8 + length


def _json(text: bytes) -> dict[str, Any]:
    def refuse(constant: str) -> float:
        raise ValueError(f"{constant} is no number")

    value = json.loads(text.decode(), parse_constant=refuse)
    if not isinstance(value, dict):
        raise ValueError("expected an object")
    return value


def _checked(card: Mapping[str, Any], path: Path) -> None:
    """Refuse a card that lacks what a prediction needs."""
    try:
        _Card.model_validate(card)
    except ValidationError as error:
        raise _damaged(path, f"its card is not valid: {explain(error, section=_Card)[0]}") from None
    for part in _needed(card):
        if plugins.is_file(part["name"]) and (part["source"] is None or part["sha256"] is None):
            raise _damaged(path, f"it does not carry the source of {part['name']!r}")
    for name, target in card["targets"].items():
        if target["task"] == "regression" and (target["mean"] is None or not (target["sd"] or 0) > 0):
            raise _damaged(path, f"its card is not valid: targets.{name} has no mean and sd")
        if target["task"] == "classification" and len(target["classes"] or []) < 2:
            raise _damaged(path, f"its card is not valid: targets.{name} has fewer than two classes")
    shape = card["shape"]
    if shape["num_haplotypes"] * shape["max_sites"] > MAX_CELLS:
        raise _damaged(path, f"{shape['num_haplotypes']} haplotypes × {shape['max_sites']} sites are too many")


def _check_tensors(header: Mapping[str, Any], size: int, path: Path) -> None:
    """Refuse tensors that do not fill the file exactly, one after the other."""
    ranges = []
    for name, tensor in header.items():
        try:
            begin, end = tensor["data_offsets"]
            shape = tensor["shape"]
            valid = all(type(number) is int and number >= 0 for number in (begin, end, *shape))
            valid = valid and end - begin == DTYPE[tensor["dtype"]] * math.prod(shape)
        except (KeyError, TypeError, ValueError):
            valid = False
        if not valid:
            raise _damaged(path, f"the description of tensor {name!r} is not valid")
        ranges.append((begin, end))
    end = 0
    for begin, next_end in sorted(ranges):
        if begin != end:
            raise _damaged(path, "its tensors overlap or leave gaps")
        end = next_end
    if end != size:
        raise _damaged(path, f"expected {end} bytes of weights, found {size}")


def _check_weights(data: bytes, card: Mapping[str, Any], path: Path) -> None:
    if hashlib.sha256(data).hexdigest() != card["weights_sha256"]:
        raise _damaged(path, "its weights do not have the SHA-256 in its card")


def carried_parts(card: Mapping[str, Any]) -> list[Carried]:
    """The parts of a card that are code of its author and that a prediction needs: none of them has been run."""
    return [
        Carried(part["name"], part["source"], part["sha256"]) for part in _needed(card) if plugins.is_file(part["name"])
    ]


def _needed(card: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The parts that a prediction needs, popdl's own among them."""
    transforms = card.get("transforms", {}).get("prediction", [])
    return [card["network"], *transforms, *card["encoding"].get("statistics", [])]


def _module(card: Mapping[str, Any], encoder: Encoder, path: Path) -> PopdlModule:
    """The module of a card, without weights."""
    import torch

    from popdl.module import PopdlModule, PositionScaling
    from popdl.networks._base import InputShape

    transforms = _transforms(card, encoder, path)
    try:
        # On the meta device no tensor takes memory.
        with torch.device("meta"):
            return PopdlModule(
                card["network"]["key"],
                {**card["network"]["options"], "name": card["network"]["name"]},
                shape=InputShape.from_json(card["shape"]),
                targets=card["targets"],
                position_scaling=None if card["positions"] is None else PositionScaling(**card["positions"]),
                transforms=transforms,
            )
    except (PopdlError, RuntimeError, OverflowError, TypeError, ValueError) as error:
        raise _damaged(path, f"its card describes a network that cannot be built: {error}") from None


def _encoder(encoder: type[Encoder], card: Mapping[str, Any], path: Path) -> Encoder:
    try:
        made = encoder.from_recipe(card["encoding"])
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(path, f"its encoding recipe is not valid: {error!r}") from None
    if made.fingerprint != card["fingerprint"]:
        raise _damaged(path, "its encoding recipe does not have the fingerprint in its card")
    return made


def _transforms(card: Mapping[str, Any], encoder: Encoder, path: Path) -> Pipeline:
    """What the card does to examples before it predicts them, which must give the shape that it declares."""
    from popdl.networks._base import InputShape
    from popdl.transforms._pipeline import pipeline_of

    try:
        made = pipeline_of(card, encoder=encoder)
    except (PopdlError, TypeError, ValueError) as error:
        raise _damaged(path, f"its transforms are not valid: {error}") from None
    expected, found = InputShape.after(made), InputShape.from_json(card["shape"])
    # A model that was trained before networks told populations apart has none in its card, and none in its network.
    if found not in (expected, replace(expected, populations=())):
        raise _damaged(
            path, "its encoding recipe and the shape in its card contradict each other (transforms counted in)"
        )
    if (made.form.positions != "none") != (card["positions"] is not None):
        raise _damaged(path, "its encoding recipe, its transforms and the positions in its card contradict each other")
    return made
