"""The model file: weights and everything needed to predict, in one file that runs no code when it is opened.

It is a safetensors file; the key ``popdl`` of its metadata holds the card, a JSON document. Nothing in it is trusted: what
:mod:`popdl.model_file` has checked of its bytes is held against the network that the card names, built on torch's meta device
so that no declared size is allocated before it is known to be there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from popdl import plugins
from popdl.errors import PopdlError
from popdl.model_file import (
    FORMAT_VERSION,
    carried_parts,
    check_card,
    check_weights,
    damaged,
    read_header,
    split,
    write,
)
from popdl.plugins import Trust

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


SPARE_TENSORS = 100
"""Parameters that a network may register beyond those that it keeps twice over, such as ones that are replaced or absent."""


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
    header, data = split(content)
    complete = {"format_version": FORMAT_VERSION, **card, "weights_sha256": hashlib.sha256(data).hexdigest()}
    check_card(complete, path)
    write(path, header, complete, data)


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
    _, card, start = read_header(path)
    if verify:
        check_weights(path.read_bytes()[start:], card, path)
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

    header, card, start = read_header(path)
    with plugins.carried(carried_parts(card), trust=trust, where=path):
        encoder = _encoder(Encoder, card, path)
        module = _module(card, encoder, path, num_tensors=len(header))
    expected = {name: list(tensor.shape) for name, tensor in module.state_dict().items()}
    found = {name: tensor["shape"] for name, tensor in header.items()}
    if expected != found:
        name = next(name for name in sorted({*expected, *found}) if expected.get(name) != found.get(name))
        raise damaged(
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
    _, card, start = read_header(path)
    return card, _weights(path, card, start)


def _weights(path: Path, card: Mapping[str, Any], start: int) -> dict[str, Tensor]:
    """The tensors of a model file, whose bytes are those of which its card has the hash."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    content = path.read_bytes()
    check_weights(content[start:], card, path)
    try:
        return load(content)
    except SafetensorError as error:
        raise damaged(path, str(error)) from None


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
    header, card, start = read_header(candidates[best])
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
    write(output, header, {**card, "metrics": chosen}, candidates[best].read_bytes()[start:])


def _module(card: Mapping[str, Any], encoder: Encoder, path: Path, *, num_tensors: int) -> PopdlModule:
    """The module of a card, without weights, whose file holds so many tensors."""
    import torch

    from popdl.module import PopdlModule, PositionScaling
    from popdl.networks._base import InputShape

    transforms = _transforms(card, encoder, path)
    try:
        # On the meta device no tensor takes memory.
        with torch.device("meta"), _at_most(2 * num_tensors + SPARE_TENSORS):
            return PopdlModule(
                card["network"]["key"],
                {**card["network"]["options"], "name": card["network"]["name"]},
                shape=InputShape.from_json(card["shape"]),
                targets=card["targets"],
                position_scaling=None if card["positions"] is None else PositionScaling(**card["positions"]),
                transforms=transforms,
            )
    except (PopdlError, RuntimeError, OverflowError, TypeError, ValueError) as error:
        raise damaged(path, f"its card describes a network that cannot be built: {error}") from None


@contextmanager
def _at_most(parameters: int) -> Iterator[None]:
    """Refuse modules of more parameters, counting those that take the place of others: a card can ask for a billion layers."""
    from torch.nn.modules.module import register_module_parameter_registration_hook

    left = iter(range(parameters))

    def count(module: object, name: str, parameter: object) -> None:
        if next(left, None) is None:
            raise ValueError("it has many more layers than the file has tensors")

    handle = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        handle.remove()


def _encoder(encoder: type[Encoder], card: Mapping[str, Any], path: Path) -> Encoder:
    try:
        made = encoder.from_recipe(card["encoding"])
    except (KeyError, TypeError, ValueError) as error:
        raise damaged(path, f"its encoding recipe is not valid: {error!r}") from None
    if made.fingerprint != card["fingerprint"]:
        raise damaged(path, "its encoding recipe does not have the fingerprint in its card")
    return made


def _transforms(card: Mapping[str, Any], encoder: Encoder, path: Path) -> Pipeline:
    """What the card does to examples before it predicts them, which must give the shape that it declares."""
    from popdl.networks._base import InputShape
    from popdl.transforms._pipeline import pipeline_of

    try:
        made = pipeline_of(card, encoder=encoder)
    except (PopdlError, TypeError, ValueError) as error:
        raise damaged(path, f"its transforms are not valid: {error}") from None
    expected, found = InputShape.after(made), InputShape.from_json(card["shape"])
    # A model that was trained before networks told populations apart has none in its card, and none in its network.
    if found not in (expected, replace(expected, populations=())):
        raise damaged(
            path, "its encoding recipe and the shape in its card contradict each other (transforms counted in)"
        )
    if (made.form.positions != "none") != (card["positions"] is not None):
        raise damaged(path, "its encoding recipe, its transforms and the positions in its card contradict each other")
    return made
