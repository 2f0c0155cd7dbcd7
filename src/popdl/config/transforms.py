"""The `transforms:` section: what is done to whole batches between the encoded data and the networks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from popdl.config.base import Section
from popdl.errors import PopdlError

__all__ = ["Transforms", "options_of"]

Entry = str | dict[str, Any]


class Transforms(Section):
    """What is done to whole batches, in this order, between the encoded data and the networks.

    An entry is the name of a transform, or its `name` with its options; `name: path/to/file.py:ClassName` uses your own.
    Only training may leave something to chance: a prediction depends on its example alone.
    """

    train: list[Entry] = []
    """For the batches that networks are fitted to."""
    validation: list[Entry] | None = None
    """For the validation loss (null: as for prediction)."""
    prediction: list[Entry] = []
    """For the test split, for genomes, and for the width of intervals; it travels in the model."""

    def entries(self, split: str) -> list[Entry]:
        """The entries of ``train``, ``validation`` or ``prediction``."""
        if split == "validation" and self.validation is None:
            return self.prediction
        entries: list[Entry] = getattr(self, split)
        return entries


def options_of(entry: str | Mapping[str, Any], *, where: str) -> tuple[str, dict[str, Any]]:
    """The name of a transform and its options, from one entry of the section.

    Parameters
    ----------
    entry
        What the config says.
    where
        The place of the entry, e.g. ``transforms.train[1]``.
    """
    if isinstance(entry, str):
        return entry, {}
    name = entry.get("name")
    if not isinstance(name, str):
        raise PopdlError(f"{where}.name: expected the name of a transform, found {name!r}.")
    return name, {key: value for key, value in entry.items() if key != "name"}
