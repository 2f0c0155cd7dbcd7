"""From genotypes to the arrays that a network sees: one recipe for simulations and for real windows.

An :class:`Encoder` does the following, in this order, and nothing else happens to a genotype on its way to a network:

1. crop the window to ``crop_length`` bp;
2. leave out sites, each counted under the first reason that applies: ``duplicate_position`` (every record but the first at
   a position), ``multiallelic`` (an allele index above 1 is present), ``monomorphic`` (fewer than two alleles are called)
   and ``rare`` (the minor allele's frequency among called alleles is below ``min_maf``);
3. decide what a 1 means, and with ``phase: ignore`` put the two alleles of every individual into a fixed order;
4. crop to ``max_sites`` sites;
5. sort the haplotypes, those of each population among themselves;
6. pad to ``max_sites`` sites with zeros.

Statistics are computed on the outcome of step 3: all usable sites of the (cropped) window.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from popdl.config.base import validate
from popdl.config.encoding import Encoding
from popdl.config.study import Source, Study
from popdl.errors import PopdlError
from popdl.statistics._base import build, describe
from popdl.statistics._counts import allele_counts

__all__ = ["DROPPED_REASONS", "ENCODING_VERSION", "EncodedExample", "Encoder", "FilteredSites"]

# Raise it with every change after which the same genotypes give other arrays: models refuse data of another version.
ENCODING_VERSION = 1

DROPPED_REASONS = ("duplicate_position", "multiallelic", "monomorphic", "rare")
BLOCK_WORDS = 2**20
"""64-bit words of haplotype pairs that are compared at once: 8 MB, whatever the number of haplotypes."""


class FilteredSites(NamedTuple):
    """The usable sites of a window."""

    genotypes: np.ndarray
    """ndarray of shape (num_sites, num_haplotypes), dtype=int8: 1 for the minor (or derived) allele, 0, or −1 for missing."""
    positions: np.ndarray
    """ndarray of shape (num_sites,), dtype=float64: bp from the start of the (cropped) window."""
    dropped: dict[str, int]
    """Number of sites left out, for each of ``DROPPED_REASONS``."""


class EncodedExample(NamedTuple):
    """One window as a network sees it."""

    genotypes: np.ndarray
    """ndarray of shape (num_haplotypes, max_sites), dtype=int8: 0, 1, −1 for missing; 0 in the padding."""
    positions: np.ndarray | None
    """ndarray of shape (max_sites,), dtype=float32, written as ``positions`` says; 0 in the padding; None with ``none``."""
    num_sites: int
    """Number of real sites in the array."""
    window: FilteredSites
    """All usable sites of the window, of which the array holds up to ``max_sites``."""


class Encoder:
    """Turn genotypes into arrays of one shape.

    Parameters
    ----------
    settings
        The `encoding:` section.
    num_haplotypes
        Haplotypes in every example.
    ploidy
        Haplotypes per individual; those of one individual are adjacent.
    sequence_length
        Length of a window in bp, before it is cropped.
    statistics
        The groups of statistics that the study adds to the standard ones, each as :func:`popdl.statistics._base.describe`
        describes it. They are part of the recipe because real windows are compared with the simulations by them.
    populations
        Haplotypes of each population, in the order in which they lie in every example (None: a single population).

    Raises
    ------
    PopdlError
        If the settings cannot be met with these numbers.
    """

    def __init__(
        self,
        settings: Encoding,
        *,
        num_haplotypes: int,
        ploidy: int,
        sequence_length: float,
        statistics: Sequence[Mapping[str, Any]] = (),
        populations: Mapping[str, int] | None = None,
    ) -> None:
        if settings.phase == "ignore" and (ploidy != 2 or num_haplotypes % 2):
            raise PopdlError(
                f"encoding.phase: `ignore` needs diploid individuals, found {num_haplotypes} haplotypes of ploidy {ploidy}; use `phase: keep`."
            )
        if settings.crop_length is not None and settings.crop_length > sequence_length:
            raise PopdlError(
                f"encoding.crop_length: {settings.crop_length:g} bp is longer than the window ({sequence_length:g} bp); shorten it."
            )
        self.populations = dict(populations or {"": num_haplotypes})
        if sum(self.populations.values()) != num_haplotypes:
            raise PopdlError(
                f"encoding: populations {self.populations} do not add up to {num_haplotypes} haplotypes; correct them."
            )
        self.settings = settings
        self.num_haplotypes = num_haplotypes
        self.ploidy = ploidy
        self.sequence_length = float(sequence_length)
        self.statistics = [dict(group) for group in statistics]
        self.groups = [build(group) for group in statistics]

    @classmethod
    def of(cls, study: Study) -> Encoder:
        """The encoder of a study."""
        return cls.for_source(study.encoding, study.source, statistics=study.statistics)

    @classmethod
    def for_source(
        cls, settings: Encoding, source: Source, *, statistics: Sequence[str | dict[str, Any]] = ()
    ) -> Encoder:
        """The encoder of what a source gives.

        Parameters
        ----------
        settings
            The config's section ``encoding``.
        source
            The config's section ``simulation`` or ``import``.
        statistics
            The groups of statistics that the study adds, as in the config.
        """
        return cls(
            settings,
            num_haplotypes=source.total_haplotypes,
            ploidy=source.ploidy,
            sequence_length=source.sequence_length,
            statistics=[describe(entry) for entry in statistics],
            populations=counts if isinstance(counts := source.num_haplotypes, dict) else None,
        )

    @classmethod
    def from_recipe(cls, recipe: dict[str, Any]) -> Encoder:
        """Build the encoder that wrote ``recipe``, or raise a :class:`PopdlError` if this popdl cannot."""
        version = recipe.get("version")
        if version != ENCODING_VERSION:
            raise PopdlError(
                f"encoding: this popdl writes encodings of version {ENCODING_VERSION}, found version {version}; use the popdl that made the file."
            )
        try:
            numbers = {key: recipe[key] for key in ("num_haplotypes", "ploidy", "sequence_length")}
            settings, populations = recipe["settings"], recipe.get("populations")
        except KeyError as error:
            raise PopdlError(f"encoding: the recipe lacks {error}; the file is damaged or not popdl's.") from None
        return cls(
            validate(Encoding, settings, where="encoding"),
            **numbers,
            populations=populations and dict(populations),
            statistics=recipe.get("statistics", []),
        )

    @property
    def recipe(self) -> dict[str, Any]:
        """Everything that decides how genotypes are encoded, as plain JSON values; `populations` and `statistics` only where there are some."""
        recipe: dict[str, Any] = {
            "version": ENCODING_VERSION,
            "num_haplotypes": self.num_haplotypes,
            "ploidy": self.ploidy,
            "sequence_length": self.sequence_length,
            "settings": self.settings.model_dump(mode="json"),
        }
        if len(self.populations) > 1:
            recipe["populations"] = [*map(list, self.populations.items())]
        if self.statistics:
            recipe["statistics"] = self.statistics
        return recipe

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the recipe: two encoders with the same fingerprint write the same arrays."""
        return hashlib.sha256(json.dumps(self.recipe, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    @property
    def window_length(self) -> float:
        """Length in bp of what is left of a window after cropping."""
        return self.sequence_length if self.settings.crop_length is None else self.settings.crop_length

    def filter_sites(self, genotypes: np.ndarray, positions: np.ndarray) -> FilteredSites:
        """Leave out unusable sites, and write the others as 0 and 1.

        With ``alleles: minor`` a 1 is the allele that fewer called haplotypes carry. Where both are equally frequent, the
        first called haplotype carries 0 (with ``phase: ignore``: the first called one that is not part of a heterozygote).
        Exchanging the names of the two alleles of a site thus never changes the outcome. With ``phase: ignore`` the alleles
        of an individual are put into the order 1, 0, missing, so that its phase never does either.

        Parameters
        ----------
        genotypes : ndarray of shape (num_sites, num_haplotypes), dtype=int8
            Index of the allele, 0 the reference or ancestral one, −1 missing.
        positions : ndarray of shape (num_sites,)
            In bp, not decreasing.
        """
        genotypes = self._checked(genotypes, positions)
        keep = np.ones(len(positions), dtype=bool)
        keep[1:] = positions[1:] != positions[:-1]
        dropped = {"duplicate_position": int(np.count_nonzero(~keep))}
        if genotypes.size and genotypes.max() > 1:
            biallelic = genotypes.max(axis=1) <= 1
            dropped["multiallelic"] = int(np.count_nonzero(keep & ~biallelic))
            keep &= biallelic
        else:
            dropped["multiallelic"] = 0
        ones, called = allele_counts(genotypes)
        minor = np.minimum(ones, called - ones)
        polymorphic = minor > 0
        dropped["monomorphic"] = int(np.count_nonzero(keep & ~polymorphic))
        keep &= polymorphic
        # A quotient is the float nearest to the fraction, as min_maf is: 1 of 20 is not below 0.05.
        common = minor / np.maximum(called, 1) >= self.settings.min_maf
        dropped["rare"] = int(np.count_nonzero(keep & ~common))
        keep &= common
        if not keep.all():
            genotypes, positions, ones, called = genotypes[keep], positions[keep], ones[keep], called[keep]
        if self.settings.alleles == "minor":
            flip = 2 * ones > called
            tied = 2 * ones == called
            flip[tied] = self._first_is_one(genotypes[tied])
            genotypes = np.where(flip[:, np.newaxis] & (genotypes >= 0), 1 - genotypes, genotypes)
        if self.settings.phase == "ignore":
            first, second = genotypes[:, 0::2], genotypes[:, 1::2]
            ordered = np.empty_like(genotypes)
            np.maximum(first, second, out=ordered[:, 0::2])
            np.minimum(first, second, out=ordered[:, 1::2])
            genotypes = ordered
        return FilteredSites(np.ascontiguousarray(genotypes), np.asarray(positions, dtype=np.float64), dropped)

    def encode(
        self,
        genotypes: np.ndarray,
        positions: np.ndarray,
        generator: np.random.Generator,
        *,
        sequence_length: float | None = None,
    ) -> EncodedExample:
        """Encode one window.

        Parameters
        ----------
        genotypes : ndarray of shape (num_sites, num_haplotypes), dtype=int8
            Index of the allele, −1 missing.
        positions : ndarray of shape (num_sites,)
            In bp from the start of the window, not decreasing.
        generator
            Used by ``crop: random`` only.
        sequence_length
            Length of this window in bp, where windows differ (default: the encoder's).
        """
        length = self.sequence_length if sequence_length is None else sequence_length
        window = self.filter_sites(*self._crop_to_length(genotypes, positions, length, generator))
        if self.settings.crop_length is not None:
            length = self.settings.crop_length
        num_sites = min(len(window.positions), self.settings.max_sites)
        first = self._first_site(window.positions, num_sites, length, generator)
        chosen = slice(first, first + num_sites)
        haplotypes = np.ascontiguousarray(window.genotypes[chosen].T)
        array = np.zeros((self.num_haplotypes, self.settings.max_sites), dtype=np.int8)
        array[:, :num_sites] = haplotypes[self._order(haplotypes)]
        return EncodedExample(array, self._positions(window.positions, chosen, length), num_sites, window)

    def _checked(self, genotypes: np.ndarray, positions: np.ndarray) -> np.ndarray:
        if genotypes.ndim != 2 or genotypes.shape[1] != self.num_haplotypes:
            raise PopdlError(
                f"genotypes: expected {self.num_haplotypes} haplotypes at each site, found an array of shape {genotypes.shape} (sites, haplotypes); "
                "choose as many individuals as in the simulations."
            )
        if positions.shape != genotypes.shape[:1]:
            raise PopdlError(
                f"positions: expected one for each of {len(genotypes)} sites, found an array of shape {positions.shape}."
            )
        if np.any(positions[1:] < positions[:-1]):
            raise PopdlError("positions: expected sites in the order of their positions; sort them.")
        return genotypes.astype(np.int8, copy=False)

    def _first_is_one(self, genotypes: np.ndarray) -> np.ndarray:
        """For each site at which both alleles are equally frequent: whether the haplotype that decides carries a 1."""
        decides = genotypes >= 0
        if self.settings.phase == "ignore":
            first, second = genotypes[:, 0::2], genotypes[:, 1::2]
            decides &= ~np.repeat((first >= 0) & (second >= 0) & (first != second), 2, axis=1)
        # Where nobody decides, all individuals are heterozygous or missing: both choices give the same array.
        haplotype = decides.argmax(axis=1)
        return np.asarray(genotypes[np.arange(len(genotypes)), haplotype] == 1)

    def _crop_to_length(
        self, genotypes: np.ndarray, positions: np.ndarray, sequence_length: float, generator: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        length = self.settings.crop_length
        if length is None:
            return genotypes, positions
        if length > sequence_length:
            raise PopdlError(
                f"window of {sequence_length:g} bp: it is shorter than encoding.crop_length ({length:g} bp); use longer windows."
            )
        start = self._first_kept(int(sequence_length - length), generator)  # a whole bp, so that positions stay whole
        first, last = np.searchsorted(positions, [start, start + length])
        return genotypes[first:last], positions[first:last] - start

    def _first_kept(self, surplus: int, generator: np.random.Generator) -> int:
        """How many of ``surplus`` sites or bp are cut from the left."""
        if surplus == 0 or self.settings.crop == "start":
            return 0
        return int(generator.integers(surplus + 1)) if self.settings.crop == "random" else surplus // 2

    def _first_site(
        self, positions: np.ndarray, num_sites: int, sequence_length: float, generator: np.random.Generator
    ) -> int:
        """Number of the first of ``num_sites`` sites that are kept."""
        surplus = len(positions) - num_sites
        if self.settings.crop != "midpoint":
            return self._first_kept(surplus, generator)
        before = int(np.searchsorted(positions, sequence_length / 2))
        return min(max(before - num_sites // 2, 0), surplus)

    def _order(self, haplotypes: np.ndarray) -> np.ndarray:
        """The order in which haplotypes are written; it depends on what they carry, never on how they were given.

        Populations stay where they are: haplotypes only change places within theirs.
        """
        if self.settings.sort == "none":
            return np.arange(len(haplotypes))
        ends = np.cumsum(list(self.populations.values()))
        return np.concatenate(
            [
                end - count + self._order_within(haplotypes[end - count : end])
                for count, end in zip(self.populations.values(), ends, strict=True)
            ]
        )

    def _order_within(self, haplotypes: np.ndarray) -> np.ndarray:
        """The order of the haplotypes of one population."""
        content = [haplotype.tobytes() for haplotype in haplotypes]  # settles ties
        if self.settings.sort == "frequency":
            rank = -np.count_nonzero(haplotypes == 1, axis=1).astype(np.float64)
        else:
            distances = _distances(haplotypes)
            # Sorted first: a sum of floats depends on its order, and the medoid must not.
            totals = np.sort(distances, axis=1).sum(axis=1)
            medoid = min(range(len(haplotypes)), key=lambda index: (totals[index], content[index]))
            rank = distances[medoid]
        return np.array(sorted(range(len(haplotypes)), key=lambda index: (rank[index], content[index])))

    def _positions(self, positions: np.ndarray, chosen: slice, sequence_length: float) -> np.ndarray | None:
        style = self.settings.positions
        if style == "none":
            return None
        if style == "distance":
            # From the previous usable site, be it in the array or not: cropping to max_sites makes no odd first distance.
            values = np.diff(positions, prepend=0.0)[chosen]
        else:
            values = positions[chosen] / (sequence_length if style == "relative" else 1.0)
        array = np.zeros(self.settings.max_sites, dtype=np.float32)
        array[: len(values)] = values
        return array


def _distances(haplotypes: np.ndarray) -> np.ndarray:
    """Share of sites at which two haplotypes differ, among those known in both; 1 where there is none.

    Flagel et al. (2019, Mol. Biol. Evol. 36:220) order the haplotypes by the Manhattan distance to the one whose summed
    distance to all others is smallest. Without missing alleles this share is that distance over the number of sites.
    """
    ones, known = _words(haplotypes == 1), _words(haplotypes >= 0)
    distances = np.empty((len(haplotypes), len(haplotypes)))
    rows = max(1, BLOCK_WORDS // max(1, ones.size))
    for first in range(0, len(haplotypes), rows):
        block = slice(first, first + rows)
        both = known[block, np.newaxis] & known
        different = (ones[block, np.newaxis] ^ ones) & both
        shared = np.bitwise_count(both).sum(axis=2, dtype=np.int64)
        counts = np.bitwise_count(different).sum(axis=2, dtype=np.int64)
        distances[block] = np.where(shared > 0, counts / np.maximum(shared, 1), 1.0)
    return distances


def _words(flags: np.ndarray) -> np.ndarray:
    """Rows of flags as bits of 64-bit words: a pair of haplotypes is then compared in a few operations."""
    packed = np.packbits(flags, axis=1)
    padding = -packed.shape[1] % 8
    return np.pad(packed, ((0, 0), (0, padding))).view(np.uint64)
