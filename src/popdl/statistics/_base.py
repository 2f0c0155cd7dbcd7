"""What a group of statistics has that a study adds to the standard ones: one of popdl's optional groups, or a user's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from popdl import plugins
from popdl.config.base import Section, validate_options
from popdl.errors import PopdlError

if TYPE_CHECKING:
    from popdl.config.study import Study

__all__ = ["Statistic", "build", "describe"]

FOLDER = "statistics.optional"


class Statistic:
    """A group of summary statistics.

    A subclass defines ``Settings`` (its options in the config) if it has any, :meth:`names` and :meth:`compute`.
    """

    class Settings(Section):
        """Options of the group, in the config beside its ``name``."""

    def __init__(self, settings: Any) -> None:
        self.settings = settings

    def problems(self, study: Study) -> list[str]:
        """What of the options does not fit a study, each beginning with the option's name."""
        return []

    def names(self, num_haplotypes: int, *, derived: bool) -> list[str]:
        """Names of the statistics; the arguments are those of :func:`popdl.statistics.names`."""
        raise NotImplementedError

    def compute(
        self, genotypes: np.ndarray, positions: np.ndarray, *, sequence_length: float, derived: bool
    ) -> Sequence[float] | np.ndarray:
        """Compute the statistics of one window, in the order of :meth:`names`.

        Parameters
        ----------
        genotypes : ndarray of shape (num_sites, num_haplotypes), dtype=int8
            Usable sites of the window, polymorphic all of them: 0, 1 for the minor (or derived) allele, −1 for missing.
        positions : ndarray of shape (num_sites,)
            In bp from the start of the window, not decreasing.
        sequence_length
            Length of the window in bp.
        derived
            Whether a 1 is the derived allele.

        Returns
        -------
        array of shape (num_statistics,)
            NaN where a statistic is undefined. A window may have no site at all.
        """
        raise NotImplementedError


def describe(entry: str | Mapping[str, Any]) -> dict[str, Any]:
    """An entry of the config's ``statistics:``, checked, with all its defaults, and with the source of a user's own file.

    Raises
    ------
    PopdlError
        If there is no such group, or it does not take these options.
    """
    values = {"name": entry} if isinstance(entry, str) else dict(entry)
    name = values.pop("name", None)
    if not isinstance(name, str):
        raise PopdlError(f"statistics: expected a name, or a mapping with the key `name` and options, found {entry!r}.")
    settings = _settings(name, values)
    return plugins.describe(name, settings.model_dump(mode="json"))


def build(description: Mapping[str, Any]) -> Statistic:
    """The group that :func:`describe` described."""
    name = description["name"]
    return plugins.load(FOLDER, name, Statistic)(_settings(name, description["options"]))


def _settings(name: str, options: Mapping[str, Any]) -> Section:
    return validate_options(plugins.load(FOLDER, name, Statistic).Settings, dict(options), key=f"statistics.{name}")
