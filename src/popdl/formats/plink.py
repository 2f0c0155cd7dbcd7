"""PLINK's binary files as labelled examples."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Literal

import numpy as np

from popdl.errors import PopdlError
from popdl.formats._genomes import GenomeImporter, Span
from popdl.importers.samples import choose_samples
from popdl.importers.vcf import repeated
from popdl.simulators._base import Example
from popdl.text_files import quoted

__all__ = ["Plink"]

# The magic number, and the mark of files that hold one variant after the other (PLINK 1.9, .bed format).
MAGIC = b"\x6c\x1b\x01"
BASES = frozenset("ACGTacgt")
# Two bits of each genotype, as alleles 0 (the second one of the .bim, usually the more frequent) and 1: homozygous for the
# first allele, missing, heterozygous, homozygous for the second.
ALLELES = np.array([[1, 1], [-1, -1], [1, 0], [0, 0]], dtype=np.int8)


class Plink(GenomeImporter):
    """PLINK's `.bed` with `.bim` and `.fam` beside it: one example for each row of `table`, which names a `.bed` in its column
    `file` and perhaps a part of it in its column `region` (`contig:start-end`, 1-based). Genotypes have no phase, so the
    encoding must be `phase: ignore`; a 1 is the first allele of the `.bim`."""

    ploidy: Literal[2] = 2
    """Always 2."""

    @property
    def phased(self) -> bool:
        return False

    def read_window(self, path: Path, span: Span | None, *, seed: int) -> tuple[Example, dict[str, int]]:
        individuals = [row[1] for row in _rows(path.with_suffix(".fam"), 6)]
        chosen = choose_samples(self.samples, individuals, seed=seed, path=path)
        columns = [individuals.index(name) for name in chosen]
        variants = _rows(path.with_suffix(".bim"), 6)
        bed = _open_bed(path, num_variants=len(variants), num_individuals=len(individuals))
        rows, positions, left_out = _usable(path.with_suffix(".bim"), variants, span)
        bits = np.unpackbits(np.asarray(bed[rows]), axis=1, bitorder="little")
        codes = bits[:, 0 : 2 * len(individuals) : 2] + 2 * bits[:, 1 : 2 * len(individuals) : 2]
        genotypes = ALLELES[codes[:, columns]].reshape(len(rows), 2 * len(chosen))
        start = 0 if span is None else span[1] - 1
        return Example(genotypes, (positions - 1 - start).astype(np.float64)), left_out


def _rows(path: Path, num_columns: int) -> list[list[str]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise PopdlError(f"{path}: cannot read it: {error.strerror}; .bim and .fam must lie beside the .bed.") from None
    except UnicodeDecodeError:
        raise PopdlError(f"{path}: not a text file.") from None
    rows = [line.split() for line in lines]
    for number, row in enumerate(rows, start=1):
        if len(row) != num_columns:
            raise PopdlError(f"{path}, line {number}: {len(row)} columns, expected {num_columns}.")
    if not rows:
        raise PopdlError(f"{path}: the file is empty.")
    return rows


def _open_bed(path: Path, *, num_variants: int, num_individuals: int) -> np.ndarray:
    """The packed genotypes, one row for each variant, mapped into memory; a file of any other size is refused."""
    width = -(-num_individuals // 4)
    try:
        with open(path, "rb") as file:
            magic = file.read(len(MAGIC))
        size = path.stat().st_size
    except OSError as error:
        raise PopdlError(f"{path}: cannot read it: {error.strerror}.") from None
    if magic != MAGIC:
        raise PopdlError(
            f"{path}: found {quoted(magic)} at its start; this is no .bed, or one with individuals as rows."
        )
    if size != len(MAGIC) + num_variants * width:
        raise PopdlError(
            f"{path}: {size} bytes, expected {len(MAGIC) + num_variants * width} for the {num_variants} variants and "
            f"{num_individuals} individuals of .bim and .fam; the files do not belong together, or are cut short."
        )
    return np.memmap(path, dtype=np.uint8, mode="r", offset=len(MAGIC), shape=(num_variants, width))


def _usable(path: Path, variants: list[list[str]], span: Span | None) -> tuple[np.ndarray, np.ndarray, dict[str, int]]:
    """Rows and 1-based positions of the usable variants in a span, and how many are left out there, by reason."""
    contigs = {row[0] for row in variants}
    if span is None and len(contigs) > 1:
        raise PopdlError(f"{path}: it has {len(contigs)} contigs; give the table a column `region`.")
    if span is not None and span[0] not in contigs:
        raise PopdlError(f"{path}: there is no contig {span[0]!r}; contigs: {', '.join(sorted(contigs))}.")
    rows: list[int] = []
    positions: list[int] = []
    left_out: Counter[str] = Counter()
    previous = 0
    for number, (contig, _, _, word, first, second) in enumerate(variants):
        if span is not None and contig != span[0]:
            continue
        if not (word.isascii() and word.isdigit() and int(word) >= previous):
            raise PopdlError(
                f"{path}, line {number + 1}: position {quoted(word)} after {previous}; expected a sorted file."
            )
        previous = int(word)
        if span is not None and not span[1] <= previous <= span[2]:
            continue
        if "0" in (first, second):
            left_out["invariant"] += 1
        elif first not in BASES or second not in BASES:
            left_out["not_snv"] += 1
        else:
            rows.append(number)
            positions.append(previous)
    at = np.array(positions, dtype=np.int64)
    once = ~repeated(at)
    if not once.all():
        left_out["duplicate_position"] = int((~once).sum())
    return np.array(rows, dtype=np.int64)[once], at[once], dict(left_out)
