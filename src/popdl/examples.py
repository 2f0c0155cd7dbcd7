"""What a training learns from: batches of the dataset in a new order in each epoch, from memory or from disk, or fresh examples from a stream."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from popdl.config.training import Training
from popdl.loader import OnDisk, PackedData, batches, shuffled
from popdl.on_the_fly import ExampleStream, stream_seed
from popdl.scaling import TargetScaling
from popdl.seeds import generator

__all__ = ["Examples", "fresh_examples", "known_examples", "streamed_examples"]

Examples = Callable[[int], Iterator[tuple[PackedData, Tensor, Tensor]]]
"""Gives the batches of an epoch, by its number: encoded examples, which rows of them, and those rows' truths on the networks' scale."""


@contextmanager
def known_examples(data: PackedData, rows: Tensor, truths: Tensor, *, seed: int, batch_size: int) -> Iterator[Examples]:
    """Every row of the dataset once in each epoch.

    Parameters
    ----------
    data, rows
        Encoded examples, and which of them.
    truths : Tensor of shape (num_examples, num_targets), dtype=float32
        Of all examples of the data, on the networks' scale.
    seed
        Of this training: it gives the order.
    batch_size
        Examples at once.
    """

    def epoch(number: int) -> Iterator[tuple[PackedData, Tensor, Tensor]]:
        for chosen in shuffled(rows, seed=seed, epoch=number).split(batch_size):
            yield data, chosen, truths[chosen]

    yield epoch


@contextmanager
def streamed_examples(data: OnDisk, rows: Tensor, truths: Tensor, *, seed: int, batch_size: int) -> Iterator[Examples]:
    """Every row of the dataset once in each epoch, from disk: shards in a new order, and the examples of a part mixed.

    An epoch is cut into the same batches as by :func:`known_examples` where the part size of the data is a multiple of
    ``batch_size``. Parameters are those of :func:`known_examples`; ``rows`` rise.
    """

    def epoch(number: int) -> Iterator[tuple[PackedData, Tensor, Tensor]]:
        order = data.shuffled_shards(rows, seed=seed, epoch=number)
        mixed = [
            piece[
                torch.from_numpy(generator(seed, "streaming", number, place).permutation(len(piece))).to(piece.device)
            ]
            for place, piece in enumerate(order.split(data.part_size))
        ]
        for part, chosen, examples in batches(data, torch.cat(mixed), size=batch_size):
            yield part, chosen, truths[examples]

    yield epoch


@contextmanager
def fresh_examples(
    simulation: Mapping[str, Any],
    like: PackedData | OnDisk,
    scaling: TargetScaling,
    names: list[str],
    *,
    training: Training,
    seed: int,
    replicate: int,
    num_workers: int,
    first_epoch: int,
) -> Iterator[Examples]:
    """Examples that are simulated while the network trains; none is seen twice.

    Parameters
    ----------
    simulation
        The config's section.
    like
        The dataset, by whose recipe they are encoded.
    scaling
        Of the targets, fitted to the training split of the dataset.
    names
        Names of an example's labels.
    training
        The config's section.
    seed, replicate
        Seed of the study, and number of this training: it has examples of its own.
    num_workers
        Processes that simulate.
    first_epoch
        Where the training starts, or goes on.
    """
    size = training.fresh_per_epoch
    assert size is not None
    columns = [names.index(name) for name in scaling.names]
    with ExampleStream(
        simulation,
        like.encoding,
        seed=stream_seed(seed, replicate),
        num_workers=num_workers,
        first=first_epoch * size,
        last=training.max_epochs * size,
    ) as stream:

        def epoch(number: int) -> Iterator[tuple[PackedData, Tensor, Tensor]]:
            left = size
            while left:
                arrays = stream.take(min(training.batch_size, left))
                data = _packed(arrays, like)
                left -= data.num_examples
                truths = torch.from_numpy(scaling.to_network(arrays["parameters"][:, columns])).float()
                yield data, torch.arange(data.num_examples, device=like.device), truths.to(like.device)

        yield epoch


def _packed(arrays: Mapping[str, np.ndarray], like: PackedData | OnDisk) -> PackedData:
    def tensor(name: str) -> Tensor:
        return torch.from_numpy(arrays[name]).to(like.device)

    return PackedData(
        genotypes=tensor("genotypes"),
        missing=tensor("missing") if arrays["missing"].any() else None,
        positions=tensor("positions") if "positions" in arrays else None,
        num_sites=tensor("num_sites"),
        encoding=like.encoding,
        fingerprint=like.fingerprint,
    )
