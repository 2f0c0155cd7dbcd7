"""VCF Zarr stores as labelled examples."""

from __future__ import annotations

import itertools
import zipfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.storage import LocalStore, ZipStore

from popdl.config.base import suggestion
from popdl.errors import PopdlError
from popdl.formats._genomes import Span, VariantImporter
from popdl.importers.samples import choose_samples
from popdl.importers.vcf import ancestral_base, not_usable, repeated
from popdl.simulators._base import Example

__all__ = ["VcfZarr"]

VERSION = "vcf_zarr_version"
PASS = "PASS"
MISSING, FILL = -1, -2
"""A missing allele, and what fills up the genotypes of a lower ploidy (VCF Zarr specification, Missing and fill values)."""
MAX_BYTES = 2**30
"""The most that one array may take: what a store declares costs its writer nothing."""
SEEN_ALLELES = 3
"""REF, ALT, and whether there is a second ALT."""


class VcfZarr(VariantImporter):
    """Stores of the VCF Zarr specification 0.4 (https://github.com/sgkit-dev/vcf-zarr-spec), as `vcf2zarr` writes them in zarr
    format 2 or 3, a folder or a zip of one: one example for each row of `table`, which names a store in its column `file` and
    perhaps a part of it in its column `region` (`contig:start-end`, 1-based); without a table, one for each store. Of a region
    only its own chunks are read."""

    def read_window(self, path: Path, span: Span | None, *, seed: int) -> tuple[Example, dict[str, int]]:
        store = _Store.open(path)
        individuals = store.words("sample_id")
        chosen = choose_samples(self.samples, individuals, seed=seed, path=path)
        rows, positions = store.rows(span)
        keep, left_out = self._usable(store, rows)
        several = repeated(positions[keep])
        if several.any():
            left_out["duplicate_position"] = int(several.sum())
        genotypes = self._genotypes(store, rows, keep, individuals, chosen)[~several]
        if self.ancestral == "INFO/AA":
            flips = store.reference_is_derived(rows)[keep][~several]
            genotypes[flips] = np.where(genotypes[flips] >= 0, 1 - genotypes[flips], MISSING)
        start = 0 if span is None else span[1] - 1
        found = positions[keep][~several] - 1 - start
        return Example(genotypes.reshape(len(found), len(chosen) * self.ploidy), found.astype(np.float64)), dict(
            left_out
        )

    def _usable(self, store: _Store, rows: slice) -> tuple[np.ndarray, Counter[str]]:
        """Which of the rows are used, as their numbers among ``rows``, and how many are not, by reason."""
        alleles = store.alleles(rows)
        filtered = store.filtered(rows)
        ancestral = store.ancestral(rows) if self.ancestral == "INFO/AA" else [None] * len(alleles)
        keep: list[int] = []
        left_out: Counter[str] = Counter()
        for row, (reference, *others) in enumerate(alleles):
            alternates = [allele for allele in others if allele not in ("", ".")]
            reason = "filtered" if filtered[row] else not_usable(reference, alternates, ancestral=ancestral[row])
            if reason is None:
                keep.append(row)
            else:
                left_out[reason] += 1
        return np.array(keep, dtype=np.int64), left_out

    def _genotypes(
        self, store: _Store, rows: slice, keep: np.ndarray, individuals: list[str], chosen: list[str]
    ) -> np.ndarray:
        """Alleles of the chosen individuals, as int8 of shape (used rows, individuals, ploidy)."""
        number = {name: index for index, name in enumerate(individuals)}
        columns = np.array([number[name] for name in chosen])
        found = store.genotypes(rows, columns, ploidy=self.ploidy)[keep]
        found = np.where((found[..., :1] == MISSING) & (found == FILL), MISSING, found)  # a lone "." of any ploidy
        wrong = ((found < MISSING) | (found > 1)).any(axis=2)
        if wrong.any():
            row, individual = np.argwhere(wrong)[0]
            raise PopdlError(
                f"{store.path}: genotype {found[row, individual].tolist()} of sample {chosen[individual]!r} in row "
                f"{rows.start + keep[row]}; expected {self.ploidy} allele{'s' * (self.ploidy > 1)} (`ploidy`), each 0, 1 or "
                "−1 for missing. Choose `ploidy`, `samples` or the region so that all genotypes have the same ploidy."
            )
        unphased = (found != found[..., :1]).any(axis=2) & ~store.phased(rows, columns)[keep]
        if unphased.any() and not self.unphased:
            row, individual = np.argwhere(unphased)[0]
            raise PopdlError(
                f"{store.path}: {int(unphased.sum())} heterozygous genotypes are not phased (call_genotype_phased), the first "
                f"in row {rows.start + keep[row]}, sample {chosen[individual]!r}; phase the data, or set `unphased: true` and "
                "`encoding: {phase: ignore}`."
            )
        return found.astype(np.int8)


@dataclass(frozen=True)
class _Store:
    """The arrays of a store; shapes are held against each other, and against memory, before anything is read."""

    path: Path
    group: zarr.Group
    num_variants: int
    num_samples: int

    @classmethod
    def open(cls, path: Path) -> _Store:
        with _reading(path):
            files: Any = ZipStore(path, mode="r") if path.is_file() else LocalStore(path, read_only=True)
            group = zarr.open_group(files, mode="r")
        if VERSION not in group.attrs:
            raise PopdlError(
                f"{path}: no VCF Zarr store: its group has no attribute {VERSION}; write one with `vcf2zarr`."
            )
        sizes = []
        for name in ("variant_position", "sample_id"):
            if name not in group or not isinstance(group[name], zarr.Array):
                raise PopdlError(_absent(path, name, group))
            sizes.append(int(group[name].shape[0]) if group[name].shape else 0)  # type: ignore[union-attr]
        return cls(path, group, *sizes)

    def rows(self, span: Span | None) -> tuple[slice, np.ndarray]:
        """The rows of a span, or all rows of the only contig, and their 1-based positions."""
        contigs = self.words("contig_id")
        which = self._read("variant_contig", (self.num_variants,), "iu")
        positions = self._read("variant_position", (self.num_variants,), "iu").astype(np.int64)
        if which.size and not 0 <= which.min() <= which.max() < len(contigs):
            raise PopdlError(
                f"{self.path}: variant_contig reaches {which.max()}, but contig_id has {len(contigs)} names."
            )
        present = list(
            dict.fromkeys(contigs[index] for index in which[np.r_[True, which[1:] != which[:-1]][: which.size]])
        )
        if span is None:
            if len(present) > 1:
                raise PopdlError(
                    f"{self.path}: it has several contigs ({', '.join(present[:5])}); give the table a column `region`."
                )
            first, last = 0, self.num_variants
        elif span[0] not in present:
            raise PopdlError(f"{self.path}: there is no contig {span[0]!r}; {suggestion(span[0], present)}.")
        else:
            of_contig = np.flatnonzero(which == contigs.index(span[0]))
            first, last = int(of_contig[0]), int(of_contig[-1]) + 1
            if last - first != len(of_contig):
                raise PopdlError(f"{self.path}: the rows of contig {span[0]!r} do not stand together; sort the data.")
        there = positions[first:last]
        if there.size and (there[0] < 1 or (np.diff(there) < 0).any()):
            raise PopdlError(
                f"{self.path}: variant_position is not sorted, or not above 0, in rows {first} to {last - 1}; sort the data, or "
                "copy the store again if parts of it are missing."
            )
        if span is not None:
            last = first + int(np.searchsorted(there, span[2], side="right"))
            first += int(np.searchsorted(there, span[1], side="left"))
        return slice(first, last), positions[first:last]

    def words(self, name: str) -> list[str]:
        """A whole array of words: names of samples, contigs or filters."""
        return [str(word) for word in self._read(name, (None,), "OTU")]

    def alleles(self, rows: slice) -> list[list[str]]:
        """REF, ALT and a further ALT of each row, as far as they fit; "" where there is none."""
        found = self._read("variant_allele", (self.num_variants, None), "OTU", rows, slice(SEEN_ALLELES))
        return [[str(word) for word in row] for row in found]

    def filtered(self, rows: slice) -> np.ndarray:
        """Whether a filter other than PASS applies."""
        if "variant_filter" not in self.group:
            return np.zeros(rows.stop - rows.start, dtype=bool)
        names = self.words("filter_id")
        applies = self._read("variant_filter", (self.num_variants, len(names)), "b", rows)
        return np.asarray(applies[:, [name != PASS for name in names]].any(axis=1))

    def ancestral(self, rows: slice) -> list[str]:
        """The base of INFO/AA, "" where it names none."""
        values = self._read("variant_AA", (self.num_variants,), "OTU", rows)
        return [ancestral_base(str(value)) for value in values]

    def reference_is_derived(self, rows: slice) -> np.ndarray:
        """Whether the ancestral base is the first of ALT."""
        return np.array(
            [base == row[1].upper() for base, row in zip(self.ancestral(rows), self.alleles(rows), strict=True)],
            dtype=bool,
        )

    def genotypes(self, rows: slice, columns: np.ndarray, *, ploidy: int) -> np.ndarray:
        """Alleles of some individuals; a part of the store that is missing is not taken for zeros."""
        name = "call_genotype"
        shape = self._array(name, (self.num_variants, self.num_samples, None), "iu").shape
        if shape[2] != ploidy:
            raise PopdlError(
                f"{self.path}: {name} holds {shape[2]} alleles of an individual, but import.ploidy is {ploidy}."
            )
        found = self._read(name, shape, "iu", rows, columns)
        self._refuse_missing_chunks(name, rows, columns)
        return found

    def phased(self, rows: slice, columns: np.ndarray) -> np.ndarray:
        """Whether the order of an individual's alleles is known; it is not where the store says nothing."""
        name = "call_genotype_phased"
        if name not in self.group:
            return np.zeros((rows.stop - rows.start, len(columns)), dtype=bool)
        return self._read(name, (self.num_variants, self.num_samples), "b", rows, columns)

    def _array(self, name: str, shape: tuple[int | None, ...], kinds: str) -> zarr.Array:
        """An array of the expected shape (None: any length) and kind of type."""
        array = self.group.get(name)
        if not isinstance(array, zarr.Array):
            raise PopdlError(_absent(self.path, name, self.group))
        fits = len(array.shape) == len(shape) and all(
            expected in (None, found) for found, expected in zip(array.shape, shape, strict=True)
        )
        if not fits or array.dtype.kind not in kinds:
            words = ", ".join("any" if length is None else str(length) for length in shape)
            raise PopdlError(
                f"{self.path}: {name} is {array.dtype} of shape {array.shape}, expected ({words}), as the VCF Zarr specification "
                "and the other arrays have it."
            )
        return array

    def _read(self, name: str, shape: tuple[int | None, ...], kinds: str, *selection: Any) -> np.ndarray:
        """Read a part of an array: rows, columns.

        Raises
        ------
        PopdlError
            If the part, or one chunk, would take more than ``MAX_BYTES``, or the chunks cannot be decoded.
        """
        array = self._array(name, shape, kinds)
        lengths = [
            len(range(*part.indices(length))) if isinstance(part, slice) else len(part)
            for part, length in zip(selection, array.shape, strict=False)
        ]
        part_shape = (*lengths, *array.shape[len(lengths) :])
        chunk = array.shards or array.chunks
        for what, wanted in (("that part of it", part_shape), ("one chunk", chunk)):
            size = int(np.prod(wanted, dtype=object)) * array.dtype.itemsize
            if size > MAX_BYTES:
                raise PopdlError(
                    f"{self.path}: {name} declares {array.shape}, of which {what} takes {size / 2**30:,.0f} GiB (at most "
                    f"{MAX_BYTES / 2**30:g}); choose smaller regions, or cut the store into smaller ones."
                )
        with _reading(self.path):
            return np.asarray(array.oindex[selection] if selection else array[...])

    def _refuse_missing_chunks(self, name: str, rows: slice, columns: np.ndarray) -> None:
        """zarr reads what is not there as zeros: here, as individuals without any variant."""
        array = self._array(name, (None,) * 3, "iu")
        root: Any = zipfile.Path(self.path) if self.path.is_file() else self.path
        length, width, depth = array.shards or array.chunks
        if rows.start == rows.stop:
            return
        grid = itertools.product(
            range(rows.start // length, (rows.stop - 1) // length + 1),
            sorted({int(column) // width for column in columns}),
            range(-(-array.shape[2] // depth)),
        )
        for place in grid:
            key = array.metadata.encode_chunk_key(place)
            if not (root / name / key).exists():
                raise PopdlError(
                    f"{self.path}: the chunk {name}/{key} is missing; the store is not whole, copy it again (or write it with "
                    "its empty chunks: write_empty_chunks)."
                )


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """zarr and its codecs raise what they like when a store is damaged."""
    try:
        yield
    except Exception as error:
        raise PopdlError(f"{path}: not a whole zarr store: {type(error).__name__}: {error}.") from None


def _absent(path: Path, name: str, group: zarr.Group) -> str:
    return f"{path}: there is no array {name!r}, which the VCF Zarr specification 0.4 has; {suggestion(name, sorted(group))}."
