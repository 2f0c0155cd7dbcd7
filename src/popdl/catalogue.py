"""What ships with popdl, as text for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from inspect import cleandoc

from popdl import plugins
from popdl.config.reference import default_text
from popdl.config.study import Study
from popdl.errors import PopdlError
from popdl.networks._base import InputShape, Network, check, network_name

__all__ = ["network_catalogue"]

DEFAULT_SHAPE = InputShape(num_haplotypes=50, max_sites=400, has_positions=True)
LINE = 120


def network_catalogue(study: Study | None = None) -> str:
    """List every network with its size, what it does with the order of haplotypes, and its options.

    Parameters
    ----------
    study
        Count parameters at the shape of its examples, and of its own networks too (default: 50 haplotypes × 400 sites).
    """
    shape = DEFAULT_SHAPE if study is None else InputShape.of(study)
    positions = "with positions" if shape.has_positions else "without positions"
    blocks = [
        f"Networks at {shape.num_haplotypes} {'rows' if shape.frequencies else 'haplotypes'} × {shape.max_sites} sites, {positions}:"
    ]
    blocks += ["\n".join(_network(name, shape)) for name in plugins.known("networks")]
    if study is not None:
        own = [
            f"  {key} ({network_name(key, options)}): {_size(key, options, shape)}"
            for key, options in study.networks.items()
        ]
        blocks.append("\n".join([f"In study {study.study}:", *own]))
    return "\n\n".join(blocks) + "\n"


def _network(name: str, shape: InputShape) -> Iterator[str]:
    network = plugins.load("networks", name, Network)
    order = "exchangeable: the order of haplotypes makes no difference" if network.exchangeable else "order matters"
    yield f"{name}  ({_size(name, {}, shape)}; {order})"
    yield _wrapped(cleandoc(network.__doc__ or "").split("\n\n")[0], indent=2)
    for key, field in network.Settings.model_fields.items():
        yield f"    {key}: {default_text(field)}"
        yield _wrapped(field.description or "", indent=8)


def _size(key: str, options: dict, shape: InputShape) -> str:
    try:
        return f"{check(key, options, shape):,} parameters"
    except PopdlError as error:
        return f"not at this shape: {error}"


def _wrapped(text: str, *, indent: int) -> str:
    return textwrap.fill(text, LINE, initial_indent=" " * indent, subsequent_indent=" " * indent)
