"""Which examples a model has seen: kept in its card, so that no training that starts from it is judged on them.

An example is known again by a digest of what was encoded of it, however the dataset is cut into shards, named or split. A card
holds the digests of the training and validation splits, of a large dataset the smallest ones (a bottom-k sketch: Cohen & Kaplan
2007, Proc. PODC): they are a random sample, and whether an example with such a digest was seen is known for certain.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from popdl.dataset import read_array
from popdl.errors import PopdlError
from popdl.loader import OnDisk, PackedData, batches
from popdl.store import Shard

__all__ = ["Seen", "example_digests", "refuse_seen"]

MOST_DIGESTS = 2**13
"""Digests that are kept of each split: 64 kB."""
DIGESTS_AT_ONCE = 4096
FEWEST_SITES = 3
"""Examples with fewer sites look alike by chance, whatever was simulated; they are not looked at."""
UNKNOWN = np.uint64(0)
"""Stands for the digest of an example that cannot be told from others."""
JUDGED = {"test": ("train", "validation"), "validation": ("train",)}
"""By split, those of an earlier model's splits that must not share examples with it."""


def example_digests(data: PackedData | OnDisk, shards: Sequence[Shard]) -> np.ndarray:
    """A digest of each example: of its arrays, and of its statistics to the precision of float32.

    Parameters
    ----------
    data
        Encoded examples.
    shards
        Where they come from, as :func:`popdl.dataset.open_shards` gives them.

    Returns
    -------
    ndarray of shape (num_examples,), dtype=uint64
        :data:`UNKNOWN` where an example has too few sites.
    """
    digests = np.full(data.num_examples, UNKNOWN)
    for part, chosen, rows in batches(data, torch.arange(data.num_examples), size=DIGESTS_AT_ONCE):
        genotypes, missing, positions = (
            None if plane is None else plane[chosen].cpu().numpy()
            for plane in (part.genotypes, part.missing, part.positions)
        )
        assert genotypes is not None
        numbers = rows.numpy()
        rounded = read_array(shards, "statistics", numbers).astype(np.float32)
        for here in np.flatnonzero(read_array(shards, "num_sites_window", numbers) >= FEWEST_SITES):
            digest = hashlib.blake2b(genotypes[here].tobytes(), digest_size=8)
            if missing is not None and missing[here].any():
                digest.update(missing[here].tobytes())
            if positions is not None:
                digest.update(positions[here].tobytes())
            digest.update(rounded[here].tobytes())
            digests[numbers[here]] = int.from_bytes(digest.digest(), "little")
    return digests


@dataclass(frozen=True)
class Seen:
    """The examples of one split of a model, and of the models that it started from."""

    num_examples: int
    """How many there are."""
    complete: bool
    """Whether all their digests are here; else only the smallest, and every larger one may be of a seen example."""
    digests: np.ndarray
    """ndarray of shape (n,), dtype=uint64, increasing."""

    @classmethod
    def of(cls, digests: np.ndarray) -> Seen:
        """The examples with these digests."""
        known = np.unique(digests[digests != UNKNOWN])
        return cls(len(digests), len(known) <= MOST_DIGESTS, known[:MOST_DIGESTS])

    @classmethod
    def from_json(cls, values: Mapping[str, Any], *, path: Path) -> Seen:
        """Read what :meth:`to_json` wrote."""
        try:
            digests = np.frombuffer(base64.b64decode(values["digests"], validate=True), dtype="<u8")
            if not len(digests) and not values["complete"]:
                raise ValueError("it holds no digest")
        except ValueError as error:
            raise PopdlError(
                f"{path}: `seen` in its card is damaged ({error}); copy the model again from its source."
            ) from None
        return cls(values["num_examples"], values["complete"], np.unique(digests.astype(np.uint64)))

    def to_json(self) -> dict[str, Any]:
        """As a card holds it."""
        return {
            "num_examples": self.num_examples,
            "complete": self.complete,
            "digests": base64.b64encode(self.digests.astype("<u8").tobytes()).decode(),
        }

    def __or__(self, other: Seen) -> Seen:
        """The examples of both."""
        limits = [part.digests[-1] for part in (self, other) if not part.complete]
        digests = np.union1d(self.digests, other.digests)
        digests = digests[digests <= min(limits)] if limits else digests
        complete = not limits and len(digests) <= MOST_DIGESTS
        return Seen(self.num_examples + other.num_examples, complete, digests[:MOST_DIGESTS])

    def decided(self, digests: np.ndarray) -> np.ndarray:
        """Of which of these examples it is known whether they were seen; ndarray of bool."""
        known = digests != UNKNOWN
        return known if self.complete else known & (digests <= self.digests[-1])

    def holds(self, digests: np.ndarray) -> np.ndarray:
        """Which of these examples were seen, for certain; ndarray of bool."""
        return np.isin(digests, self.digests) & (digests != UNKNOWN)


def refuse_seen(
    seen: Mapping[str, Seen], digests: np.ndarray, split: np.ndarray, *, path: Path, card: Mapping[str, Any]
) -> None:
    """Refuse to judge a training by examples that the model it starts from has learned from.

    Parameters
    ----------
    seen
        What the model has seen, by its splits ``train`` and ``validation``.
    digests : ndarray of shape (num_examples,), dtype=uint64
        Of all examples of the dataset.
    split : ndarray of shape (num_examples,), dtype=str
        The split of each.
    path, card
        The model, for messages.

    Raises
    ------
    PopdlError
        If the model was trained on examples of the test or validation split, or chosen by examples of the test split.
    """
    for name, earlier in JUDGED.items():
        # An example that is there twice lies on both sides of some split: that is not the model's doing.
        judged = digests[(split == name) & ~np.isin(digests, digests[split != name])]
        for other in earlier:
            found = np.count_nonzero(seen[other].holds(judged))
            if found:
                number = np.count_nonzero(seen[other].decided(judged))
                verb = "trained on" if other == "train" else "chosen by"
                raise PopdlError(
                    f"training.initialise_from: {path} was {verb} examples that are now in the {name} split ({found:,} of the "
                    f"{number:,} that can be told), so {'scores' if name == 'test' else 'losses and intervals'} would flatter; "
                    f"use the `seed` ({card.get('seed', '?')}) and the `splits` of its study ({card.get('study', '?')}), "
                    "or put what it has seen into `splits.train`."
                )
