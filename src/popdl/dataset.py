"""Encoded shards: raw examples in, fixed-shape arrays with their statistics and labels out, and how they are read back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from popdl import statistics
from popdl.config.encoding import Encoding
from popdl.encoding import DROPPED_REASONS, EncodedExample, Encoder
from popdl.errors import PopdlError
from popdl.seeds import generator
from popdl.store import Shard, read_shard, write_shard

__all__ = ["Packer", "encode_examples", "encode_shard", "encode_with", "open_shards", "read_array", "read_parameters"]


RAW_SHAPE = ("num_haplotypes", "ploidy", "sequence_length")
"""What a raw shard says of the examples that an encoder takes."""


class Packer:
    """Collect encoded examples as bits, and hand them out as arrays."""

    def __init__(self, encoder: Encoder) -> None:
        self.num_haplotypes, self.settings = encoder.num_haplotypes, encoder.settings
        self.ones: list[np.ndarray] = []
        self.missing: list[np.ndarray] = []
        self.positions: list[np.ndarray | None] = []
        self.num_sites: list[int] = []

    def add(self, example: EncodedExample) -> None:
        self.ones.append(np.packbits(example.genotypes == 1, axis=-1, bitorder="little"))
        self.missing.append(np.packbits(example.genotypes < 0, axis=-1, bitorder="little"))
        self.positions.append(example.positions)
        self.num_sites.append(example.num_sites)

    def arrays(self) -> dict[str, np.ndarray]:
        """``genotypes``, ``missing``, ``num_sites`` and, if the recipe has any, ``positions``, as :func:`encode_examples` describes them."""
        n = len(self.num_sites)
        packed = (n, self.num_haplotypes, -(-self.settings.max_sites // 8))
        arrays: dict[str, np.ndarray] = {
            "genotypes": np.array(self.ones, dtype=np.uint8).reshape(packed),
            "missing": np.array(self.missing, dtype=np.uint8).reshape(packed),
            "num_sites": np.array(self.num_sites, dtype=np.int32),
        }
        if self.settings.positions != "none":
            arrays["positions"] = np.array(self.positions, dtype=np.float32).reshape(n, self.settings.max_sites)
        return arrays


def encode_examples(
    encoder: Encoder,
    examples: Iterable[tuple[np.ndarray, np.ndarray, np.random.Generator]],
    *,
    sequence_lengths: Sequence[float] | None = None,
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Encode windows and compute their statistics: the arrays and attributes that every encoded shard has.

    Parameters
    ----------
    encoder
        The recipe.
    examples
        Genotypes, positions and generator of each window, as :meth:`Encoder.encode` takes them.
    sequence_lengths
        Length of each window in bp, where windows differ (default: the encoder's).

    Returns
    -------
    arrays
        Of n windows: ``genotypes`` uint8 (n, num_haplotypes, ceil(max_sites / 8)), a set bit for each 1, the first site in the
        lowest bit; ``missing``, the same for missing alleles, left out if there is none; ``positions`` float32 (n, max_sites),
        left out if the recipe has none; ``num_sites`` int32 (n,), real sites in the array; ``num_sites_window`` int32 (n,), usable
        sites of the window; ``statistics`` float64 (n, num_statistics); ``dropped`` int64 (n, num_reasons).
    attributes
        ``num_examples``, ``encoding`` (the recipe), ``fingerprint``, ``num_haplotypes``, ``max_sites``, ``sequence_length``, ``statistics`` and
        ``dropped_reasons`` (names).
    """
    settings = encoder.settings
    derived = settings.alleles == "derived"
    names = statistics.names(encoder.num_haplotypes, derived=derived, groups=encoder.groups)
    packer = Packer(encoder)
    num_sites, values, dropped = [], [], []
    for index, (alleles, where, random) in enumerate(examples):
        length = encoder.sequence_length if sequence_lengths is None else sequence_lengths[index]
        example = encoder.encode(alleles, where, random, sequence_length=length)
        packer.add(example)
        num_sites.append(len(example.window.positions))
        values.append(
            statistics.compute(
                example.window.genotypes,
                example.window.positions,
                sequence_length=settings.crop_length or length,
                derived=derived,
                groups=encoder.groups,
            )
        )
        dropped.append([example.window.dropped[reason] for reason in DROPPED_REASONS])
    n = len(num_sites)
    arrays = packer.arrays() | {
        "num_sites_window": np.array(num_sites, dtype=np.int32),
        "statistics": np.array(values, dtype=np.float64).reshape(n, len(names)),
        "dropped": np.array(dropped, dtype=np.int64).reshape(n, len(DROPPED_REASONS)),
    }
    if not arrays["missing"].any():
        del arrays["missing"]
    attributes: dict[str, Any] = {
        "num_examples": n,
        "encoding": encoder.recipe,
        "fingerprint": encoder.fingerprint,
        "num_haplotypes": encoder.num_haplotypes,
        "max_sites": settings.max_sites,
        "sequence_length": encoder.window_length,
        "statistics": names,
        "dropped_reasons": list(DROPPED_REASONS),
    }
    return arrays, attributes


def encode_shard(
    source: Path, output: Path, *, encoding: Encoding, seed: int, statistics: Sequence[Mapping[str, Any]] = ()
) -> None:
    """Encode one raw shard.

    The random crop of an example depends on the seed and on the number of the example alone.

    Parameters
    ----------
    source
        Shard of kind ``simulations``.
    output
        Shard of kind ``dataset``: the arrays of :func:`encode_examples`, ``parameters`` and ``scenario``.
    encoding
        The recipe; number of haplotypes, ploidy and window length are the raw shard's.
    seed
        The study's seed.
    statistics
        The groups of statistics that the study adds, as :class:`Encoder` takes them.
    """
    raw = read_shard(source, kind="simulations")
    encoder = Encoder(
        encoding,
        **{key: raw.attributes[key] for key in RAW_SHAPE},
        populations=raw.attributes.get("populations"),
        statistics=statistics,
    )
    encode_with(encoder, raw, output, seed=seed)


def encode_with(encoder: Encoder, raw: Shard, output: Path, *, seed: int) -> None:
    """Encode one raw shard with an encoder that is there already, as that of a model.

    Parameters
    ----------
    encoder
        The recipe.
    raw, output, seed
        As in :func:`encode_shard`.

    Raises
    ------
    PopdlError
        If the encoder takes other examples, or cannot encode these.
    """
    for key in RAW_SHAPE:
        if (found := raw.attributes[key]) != (expected := getattr(encoder, key)):
            raise PopdlError(
                f"{raw.path}: {key} is {found:g}, but the encoding takes {expected:g}; give examples of the shape that it was made for."
            )
    populations = dict(raw.attributes.get("populations") or {})
    if (populations or len(encoder.populations) > 1) and list(populations.items()) != list(encoder.populations.items()):
        raise PopdlError(
            f"{raw.path}: its populations are {populations or 'one'}, but the encoding takes {encoder.populations}; "
            "give examples of the same populations in the same order."
        )
    first = raw.attributes["first_example"]
    genotypes, positions, offsets = raw["genotypes"], raw["positions"], raw["offsets"]
    examples = (
        (genotypes[start:stop], positions[start:stop], generator(seed, "encoding", first + row))
        for row, (start, stop) in enumerate(pairwise(offsets))
    )
    try:
        arrays, attributes = encode_examples(encoder, examples)
    except PopdlError as error:
        raise PopdlError(f"{raw.path}: {error}") from None
    copied = {key: raw.attributes[key] for key in ("first_example", "parameters", "classes")}
    write_shard(
        output,
        kind="dataset",
        arrays={**arrays, "parameters": raw["parameters"], "scenario": raw["scenario"]},
        attributes={**attributes, **copied, "source": raw.digest},
    )


def open_shards(paths: Sequence[Path], *, kind: str = "dataset", whole: bool = True) -> list[Shard]:
    """Open encoded shards that belong together.

    Parameters
    ----------
    paths
        Shards in any order.
    kind
        ``dataset`` or ``windows``.
    whole
        Whether the shards of a dataset must hold all its examples from the first on.

    Returns
    -------
    list of Shard
        In the order of their examples: row i of a concatenated array is example i.

    Raises
    ------
    PopdlError
        If there is no shard, shards were encoded in different ways, or examples are missing or there twice.
    """
    if not paths:
        raise PopdlError("no encoded shard was given; encode the simulations first.")
    shards = [read_shard(path, kind=kind) for path in paths]
    if kind == "dataset":
        shards.sort(key=lambda shard: shard.attributes["first_example"])
    expected = 0
    for shard in shards:
        for key in ("fingerprint", "statistics", "parameters", "classes"):
            if shard.attributes.get(key) != shards[0].attributes.get(key):
                raise PopdlError(
                    f"{shard.path}: its {key} differs from that of {shards[0].path}; encode all shards with one config."
                )
        if kind == "dataset" and whole:
            if shard.attributes["first_example"] != expected:
                raise PopdlError(
                    f"{shard.path}: it starts with example {shard.attributes['first_example']}, expected {expected}; give every shard of the dataset once."
                )
            expected += shard.attributes["num_examples"]
    return shards


def read_array(shards: Sequence[Shard], name: str, rows: Sequence[int] | np.ndarray | None = None) -> np.ndarray:
    """One array of all shards, concatenated over examples: ``statistics``, ``parameters``, ``scenario``, …

    Parameters
    ----------
    shards
        As :func:`open_shards` gives them.
    name
        Which array. A shard without a plane of ``missing`` alleles has none missing.
    rows
        Numbers of the examples to read, in this order (default: all). Shards that hold none of them are not read.
    """
    starts = np.cumsum([0, *(shard.attributes["num_examples"] for shard in shards)])
    if rows is None:
        sorted_rows = wanted = np.arange(starts[-1])
        order = None
    else:
        wanted = np.asarray(rows, dtype=np.int64)
        order = np.argsort(wanted, kind="stable")
        sorted_rows = wanted[order]
        if len(wanted) and (sorted_rows[0] < 0 or sorted_rows[-1] >= starts[-1]):
            raise IndexError(f"rows must lie in 0 to {starts[-1] - 1}, found {sorted_rows[0]} to {sorted_rows[-1]}")
    array: np.ndarray | None = None
    bounds = np.searchsorted(sorted_rows, starts)
    for shard, start, (first, last) in zip(shards, starts[:-1], pairwise(bounds), strict=True):
        if first == last and (array is not None or len(wanted)):
            continue
        values = shard[name] if name in shard or name != "missing" else np.zeros_like(shard["genotypes"])
        if array is None:
            array = np.empty((len(wanted), *values.shape[1:]), dtype=values.dtype)
        if order is None:
            array[first:last] = values
        else:
            array[order[first:last]] = values[sorted_rows[first:last] - start]
    assert array is not None
    return array


def read_parameters(shards: Sequence[Shard], names: Sequence[str]) -> np.ndarray:
    """Parameters of all examples, in natural units.

    Parameters
    ----------
    shards
        As :func:`open_shards` gives them.
    names
        Which parameters.

    Returns
    -------
    ndarray of shape (num_examples, num_names), dtype=float64
        NaN where missing; a choice among words is the index of the word.
    """
    known = shards[0].attributes["parameters"]
    if unknown := [name for name in names if name not in known]:
        raise PopdlError(
            f"{shards[0].path}: there is no parameter {unknown[0]!r}; known: {', '.join(known)}; change `targets` or simulate anew."
        )
    return read_array(shards, "parameters")[:, [known.index(name) for name in names]]
