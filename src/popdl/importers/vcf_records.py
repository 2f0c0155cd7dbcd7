"""The records of a VCF or BCF, one by one, each checked for form.

A text file is read here and not by htslib, which reads on past malformed lines (and crashes cyvcf2 on some): so every
message can name the line, and only the chosen individuals' genotypes are decoded. BCF is read by cyvcf2. Both give the same
records: genotypes as the characters of a VCF, of equal width, so that one function decodes and checks them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cyvcf2
import numpy as np

from popdl.errors import PopdlError
from popdl.importers.vcf_header import COLUMNS, Header
from popdl.text_files import open_lines, quoted, reading

__all__ = ["Record", "decode", "records"]

_TAB, _DOT, _ZERO, _SLASH, _BAR = (ord(character) for character in "\t.0/|")

# An allele and the character after it, looked up together: the lowest two bits are the allele (0, 1, or 3 for missing), the
# others what follows it. Pairs that cannot be are 0.
_PHASED, _UNPHASED, _END = 4, 8, 16
_PAIRS = np.zeros(2**16, dtype=np.uint8)
for _allele, _bits in (("0", 0), ("1", 1), (".", 3)):
    for _next, _bit in (("|", _PHASED), ("/", _UNPHASED), ("\t", _END), (":", _END)):
        _PAIRS[ord(_allele) + 256 * ord(_next)] = _bits | _bit


@dataclass(slots=True)
class Record:
    """One record; ``contig`` to ``info`` are the columns of the file."""

    where: str
    """The file and the line, for messages."""
    contig: str
    position: int
    """1-based, as in the file."""
    reference: str
    alternate: str
    filter: str
    info: str
    genotypes: Callable[[], np.ndarray] | None
    """Gives the genotypes of the chosen individuals for :func:`decode`: ndarray of shape (num_individuals, 2 · ploidy),
    dtype=uint8; None where the record has no GT."""


def records(header: Header, *, chosen: Sequence[int], ploidy: int) -> Iterator[Record]:
    """Read all records of a file.

    Parameters
    ----------
    header
        The file's header, from :func:`popdl.importers.vcf_header.read_header`.
    chosen
        Indices of the individuals whose genotypes are wanted, among ``header.samples``.
    ploidy
        Alleles per individual.

    Raises
    ------
    PopdlError
        If a record has the wrong number of columns, or a position or allele that is none, or the file is damaged.
    """
    reader = _bcf_records if header.is_bcf else _text_records
    with reading(header.path):
        yield from reader(header, np.asarray(chosen, dtype=np.int64), ploidy)


def _text_records(header: Header, chosen: np.ndarray, ploidy: int) -> Iterator[Record]:
    num_samples, num_columns = len(header.samples), len(COLUMNS) + len(header.samples)
    width = 2 * ploidy
    padding = b"\t" * width
    everyone = len(chosen) == num_samples and bool((chosen == np.arange(num_samples)).all())

    def genotypes(only_gt: bool, text: bytes) -> np.ndarray:
        characters = np.frombuffer(text + padding, dtype=np.uint8)
        if only_gt and len(text) == width * num_samples - 1:
            block = characters[: width * num_samples].reshape(num_samples, width)
            if (block[:, -1] == _TAB).all():
                return block if everyone else block[chosen]
        ends = np.flatnonzero(characters == _TAB)[: num_samples - 1]
        starts = np.concatenate([[0], ends + 1])[chosen]
        return characters[starts[:, None] + np.arange(width)]

    with open_lines(header.path) as file:
        for number, line in enumerate(file, start=1):
            if number <= header.num_lines:
                continue
            where = f"{header.path}, line {number}"
            line = line.rstrip(b"\r\n")
            if (found := line.count(b"\t") + 1) != num_columns:
                raise PopdlError(f"{where}: {found} columns, expected {num_columns}; the file is cut short or damaged.")
            *columns, layout, text = line.split(b"\t", len(COLUMNS))
            try:
                contig, position, _, reference, alternate, _, filter_, info = (item.decode() for item in columns)
            except UnicodeDecodeError:
                raise PopdlError(f"{where}: the record is not text in UTF-8.") from None
            if not (position.isascii() and position.isdigit() and len(position) <= 10 and int(position) > 0):
                raise PopdlError(f"{where}: position {quoted(position)}, expected a whole number above 0.")
            if not contig or " " in contig or not reference.isalpha() or not alternate:
                raise PopdlError(
                    f"{where}: contig {quoted(contig)}, REF {quoted(reference)}, ALT {quoted(alternate)}: "
                    "expected a name, bases and alleles."
                )
            has_genotypes = layout == b"GT" or layout.startswith(b"GT:")
            yield Record(
                where,
                contig,
                int(position),
                reference,
                alternate,
                filter_,
                info,
                partial(genotypes, layout == b"GT", text) if has_genotypes else None,
            )


def _bcf_records(header: Header, chosen: np.ndarray, ploidy: int) -> Iterator[Record]:
    path: Path = header.path

    def genotypes(where: str, variant: cyvcf2.Variant) -> np.ndarray:
        try:
            array = variant.genotype.array()[chosen]
        except Exception as error:  # cyvcf2 raises bare Exception
            raise PopdlError(f"{where}: htslib cannot read the genotypes: {error}.") from None
        # Columns: alleles (−1 missing, −2 past the end of a shorter genotype), then whether they are phased.
        alleles, phased = array[:, :-1], array[:, -1]
        num_alleles = alleles.shape[1]
        block = np.full((len(chosen), max(2 * num_alleles, 2 * ploidy)), _TAB, dtype=np.uint8)
        characters = np.select([alleles >= 0, alleles == -1], [_ZERO + np.minimum(alleles, 9), _DOT], _TAB)
        block[:, 0 : 2 * num_alleles : 2] = characters
        separators = np.where(phased == 1, _BAR, _SLASH)[:, None]
        block[:, 1 : 2 * num_alleles - 1 : 2] = np.where(alleles[:, 1:] == -2, _TAB, separators)
        return block[:, : 2 * ploidy]

    file = cyvcf2.VCF(str(path))
    iterator = iter(file)
    number = 0
    while True:
        number += 1
        where = f"{path}, record {number}"
        try:
            variant = next(iterator)
        except StopIteration:
            return
        except Exception as error:  # cyvcf2 raises bare Exception
            raise PopdlError(f"{where}: htslib cannot read it: {error}; the file is damaged, get it again.") from None
        has_genotypes = "GT" in variant.FORMAT
        ancestral = variant.INFO.get("AA")
        yield Record(
            where,
            variant.CHROM,
            variant.POS,
            variant.REF,
            ",".join(variant.ALT) or ".",
            variant.FILTER or ".",
            "." if ancestral is None else f"AA={ancestral}",
            partial(genotypes, where, variant) if has_genotypes else None,
        )


def decode(characters: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Turn the characters of biallelic genotypes into alleles.

    Parameters
    ----------
    characters : ndarray of shape (num_records, num_individuals, 2 · ploidy), dtype=uint8
        For instance ``0|1`` and the tab or colon that ends it. Contiguous.

    Returns
    -------
    alleles : ndarray of shape (num_records, num_individuals, ploidy), dtype=int8
        0 the reference, 1 the alternate, −1 missing.
    unphased : ndarray of shape (num_records, num_individuals), dtype=bool
        Where the alleles differ (a missing one differs from a known one) and their order is not known.
    malformed : ndarray of shape (num_records, num_individuals), dtype=bool
        Where the genotype has another ploidy, or an allele other than 0, 1 and missing.
    """
    ploidy = characters.shape[-1] // 2
    codes = _PAIRS[characters.view("<u2")]
    alleles = (codes << 6).view(np.int8) >> 6  # the sign of a two-bit number: 3 is −1
    expected = np.array([_PHASED | _UNPHASED] * (ploidy - 1) + [_END], dtype=np.uint8)
    malformed = np.zeros(characters.shape[:2], dtype=bool)
    if not (fits := codes & expected).all():
        malformed = ~fits.all(axis=-1)
        # A lone "." is a missing genotype of any ploidy.
        missing = malformed & (codes[..., 0] == (_END | 3))
        alleles[missing] = -1
        malformed &= ~missing
    unphased = np.zeros(characters.shape[:2], dtype=bool)
    if (slashes := codes[..., :-1] & _UNPHASED).any():
        unphased = slashes.any(axis=-1) & (alleles != alleles[..., :1]).any(axis=-1) & ~malformed
    return alleles, unphased, malformed
