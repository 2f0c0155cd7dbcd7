"""From a VCF or BCF to the genotypes of the chosen individuals, contig by contig.

Kept are single-nucleotide variants with two alleles, called in the file's own opinion (FILTER is PASS or missing). Every
other record is counted by the reason why it is left out. What cannot be right stops the reading: records out of order,
contigs in pieces, positions beyond a contig's end, another ploidy.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby, islice, pairwise
from pathlib import Path

import numpy as np

from popdl.config.application import parse_region
from popdl.errors import PopdlError
from popdl.genome_builds import other_name
from popdl.importers.vcf_header import Header
from popdl.importers.vcf_records import Record, decode, records

__all__ = [
    "REASONS",
    "ContigGenotypes",
    "GenotypeReader",
    "Regions",
    "ancestral_base",
    "check_regions",
    "not_usable",
    "repeated",
]

REASONS = (
    "outside_regions",
    "filtered",
    "invariant",
    "multi_allelic",
    "not_snv",
    "no_genotypes",
    "no_ancestral_allele",
    "duplicate_position",
)
"""Why a record is left out: outside the regions of the config; FILTER is neither PASS nor missing; ALT is missing; ALT has
several alleles; an allele is not a single base; FORMAT has no GT; INFO/AA is neither REF nor ALT; several variants at one
position (all of them). A record counts once, by the first that applies."""

_BASES = frozenset("ACGTacgt")
_BATCH_BYTES = 2**20
"""Genotypes are decoded in batches of this size: large enough for NumPy, small enough for the CPU's cache."""

Regions = dict[str, list[tuple[int, int | None]]]


@dataclass(frozen=True)
class ContigGenotypes:
    """The usable variants of one contig, or of the regions that lie in it."""

    name: str
    length: int | None
    """In bp, where the header tells it."""
    genotypes: np.ndarray
    """ndarray of shape (num_sites, num_haplotypes), dtype=int8: 0 the reference or ancestral allele, 1 the other, −1
    missing. Haplotypes are in the order ind0 first, ind0 second, ind1 first, …"""
    positions: np.ndarray
    """ndarray of shape (num_sites,), dtype=int64: 0-based, in bp; one less than in the file. Strictly increasing."""
    record_positions: np.ndarray
    """ndarray of shape (num_records,), dtype=int64: 0-based positions of all records, also of those left out for what
    they are: where these are, the file has data."""


def check_regions(regions: Sequence[str] | None, contigs: Mapping[str, int | None], *, path: Path) -> Regions | None:
    """Parse regions and refuse those that the file does not have.

    Parameters
    ----------
    regions
        ``contig`` or ``contig:start-end`` (1-based, inclusive), or None for everything.
    contigs
        The contigs of the file, with their lengths where these are known; empty if its header declares none, which only the records can tell then. A name may hold
        a colon, so a region that is the name of a contig means that contig.
    path
        The file, for messages.

    Returns
    -------
    dict
        For each contig its spans, sorted, 0-based and half-open; (0, None) for a whole contig. None for everything.
    """
    if regions is None:
        return None
    found: Regions = {}
    for region in regions:
        contig, start, end = (region, None, None) if region in contigs else parse_region(region)
        if contigs and contig not in contigs:
            hint = f"; this file calls it {other_name(contig)!r}" if other_name(contig) in contigs else ""
            shown = ", ".join(list(contigs)[:30]) + (", …" if len(contigs) > 30 else "")
            raise PopdlError(f"{path}: regions: there is no contig {contig!r}{hint}; contigs of this file: {shown}.")
        length = contigs.get(contig)
        if end is not None and length is not None and end > length:
            raise PopdlError(f"{path}: regions: {region} ends beyond the contig, which has {length} bp; shorten it.")
        found.setdefault(contig, []).append((0 if start is None else start - 1, end))
    for contig, spans in found.items():
        spans.sort(key=lambda span: span[0])
        for (_, end), (following, _) in pairwise(spans):
            if end is None or following < end:
                raise PopdlError(f"{path}: regions: two of them overlap, at {contig}:{following + 1}; join them.")
    return found


@dataclass
class GenotypeReader:
    """Reads the usable genotypes of a file, and counts what it leaves out.

    Parameters
    ----------
    header
        From :func:`popdl.importers.vcf_header.read_header`.
    samples
        The individuals wanted, in the order wanted.
    ploidy
        Alleles that every genotype must have.
    regions
        From :func:`check_regions`.
    ancestral
        ``INFO/AA``: 0 means the allele named there; otherwise 0 means REF.
    unphased_allowed
        Whether the order of two different alleles may be unknown.
    limit
        Stop after this many records, for a first look at a file.
    """

    header: Header
    samples: Sequence[str]
    ploidy: int
    regions: Regions | None = None
    ancestral: str | None = None
    unphased_allowed: bool = False
    limit: int | None = None
    left_out: Counter[str] = field(default_factory=Counter, init=False)
    """Records left out so far, by reason."""
    contigs_seen: list[str] = field(default_factory=list, init=False)
    contigs_with_records: list[str] = field(default_factory=list, init=False)
    """Contigs with at least one record in the regions."""

    def contigs(self) -> Iterator[ContigGenotypes]:
        """Read the file once, one contig at a time; contigs without records in the regions are checked, not returned.

        Raises
        ------
        PopdlError
            If the file is not sorted, a genotype has another ploidy or is not biallelic, or phase is needed and unknown.
        """
        column = {name: index for index, name in enumerate(self.header.samples)}
        chosen = [column[name] for name in self.samples]
        stream = islice(records(self.header, chosen=chosen, ploidy=self.ploidy), self.limit)
        for contig, group in groupby(stream, key=lambda record: record.contig):
            spans = None if self.regions is None else self.regions.get(contig, [])
            genotypes = self._read_contig(contig, group, spans)
            self.contigs_seen.append(contig)
            if len(genotypes.record_positions):
                self.contigs_with_records.append(contig)
                yield genotypes

    def _read_contig(
        self, contig: str, group: Iterator[Record], spans: list[tuple[int, int | None]] | None
    ) -> ContigGenotypes:
        length = self.header.contigs.get(contig)
        batches = _Batches(self, contig)
        record_positions = array("q")  # an all-sites file has a record for every bp
        previous = 0
        for record in group:
            if not previous and contig in self.contigs_seen:
                raise PopdlError(
                    f"{record.where}: contig {contig!r} again, after {self.contigs_seen[-1]!r}; "
                    "the records of a contig must stand together: sort the file, e.g. with `bcftools sort`."
                )
            position = record.position
            if position < previous:
                raise PopdlError(
                    f"{record.where}: position {contig}:{position} after {contig}:{previous}; "
                    "the file is not sorted: sort it, e.g. with `bcftools sort`."
                )
            if length is not None and position > length:
                raise PopdlError(
                    f"{record.where}: position {contig}:{position} is beyond the end of the contig, "
                    f"which has {length} bp by the header; the file is damaged or mixes genome builds."
                )
            previous = position
            if spans is not None and not any(
                start < position and (end is None or position <= end) for start, end in spans
            ):
                self.left_out["outside_regions"] += 1
                continue
            record_positions.append(position - 1)
            reason = self._refusal(record)
            if reason is None:
                batches.add(record, flip=self._ancestral(record) == record.alternate.upper())
            else:
                self.left_out[reason] += 1
        genotypes, positions = batches.finish()
        several = repeated(positions)
        if several.any():
            self.left_out["duplicate_position"] += int(several.sum())
            genotypes, positions = genotypes[~several], positions[~several]
        return ContigGenotypes(contig, length, genotypes, positions, np.array(record_positions, dtype=np.int64))

    def _refusal(self, record: Record) -> str | None:
        if record.filter not in ("PASS", "."):
            return "filtered"
        alternates = [] if record.alternate == "." else record.alternate.split(",")
        return not_usable(
            record.reference,
            alternates,
            has_genotypes=record.genotypes is not None,
            ancestral=self._ancestral(record) if self.ancestral == "INFO/AA" else None,
        )

    def _ancestral(self, record: Record) -> str:
        """The ancestral base: that of INFO/AA, or REF."""
        if self.ancestral != "INFO/AA":
            return record.reference.upper()
        for item in record.info.split(";"):
            if item.startswith("AA="):
                return ancestral_base(item[3:])
        return ""


def ancestral_base(text: str) -> str:
    """The base that INFO/AA names. 1000 Genomes writes ``a`` (less certain) and ``A|||``."""
    return text.partition("|")[0].upper()


def not_usable(
    reference: str, alternates: Sequence[str], *, has_genotypes: bool = True, ancestral: str | None = None
) -> str | None:
    """Why a record that its file does not filter is left out, one of ``REASONS``; None if it is used.

    Parameters
    ----------
    reference, alternates
        REF, and every allele of ALT.
    has_genotypes
        Whether its FORMAT has GT.
    ancestral
        The ancestral base, "" where it is not known; None if REF is taken for it.
    """
    if not alternates:
        return "invariant"
    if len(alternates) > 1:
        return "multi_allelic"
    if reference not in _BASES or alternates[0] not in _BASES:
        return "not_snv"
    if not has_genotypes:
        return "no_genotypes"
    if ancestral is not None and ancestral not in (reference.upper(), alternates[0].upper()):
        return "no_ancestral_allele"
    return None


def repeated(positions: np.ndarray) -> np.ndarray:
    """Which of the sorted positions stand there several times: several variants at one position are one site with more
    alleles, written as several records."""
    same = positions[1:] == positions[:-1]
    return np.concatenate([[False], same])[: len(positions)] | np.concatenate([same, [False]])[: len(positions)]


class _Batches:
    """Collects the genotypes of one contig as characters and decodes them many at a time."""

    def __init__(self, reader: GenotypeReader, contig: str) -> None:
        self.reader = reader
        self.contig = contig
        self.shape = (len(reader.samples), 2 * reader.ploidy)
        self.characters = np.empty((max(1, _BATCH_BYTES // (self.shape[0] * self.shape[1])), *self.shape), np.uint8)
        self.waiting: list[Record] = []
        self.flips: list[bool] = []
        self.positions = array("q")
        self.alleles: list[np.ndarray] = []
        self.num_unphased = 0
        self.first_unphased = ""

    def add(self, record: Record, *, flip: bool) -> None:
        assert record.genotypes is not None
        self.characters[len(self.waiting)] = record.genotypes()
        self.waiting.append(record)
        self.flips.append(flip)
        self.positions.append(record.position - 1)
        if len(self.waiting) == len(self.characters):
            self._decode()

    def finish(self) -> tuple[np.ndarray, np.ndarray]:
        """Genotypes (num_sites, num_haplotypes) and 0-based positions of all records added."""
        self._decode()
        if self.num_unphased and not self.reader.unphased_allowed:
            raise PopdlError(
                f"{self.reader.header.path}: {self.num_unphased} heterozygous genotypes in contig {self.contig!r} are not "
                f"phased, the first at {self.first_unphased}; phase the file, or train with `encoding: {{phase: ignore}}`."
            )
        num_haplotypes = self.shape[0] * self.reader.ploidy
        alleles = np.concatenate([np.empty((0, num_haplotypes), dtype=np.int8), *self.alleles])
        return alleles, np.array(self.positions, dtype=np.int64)

    def _decode(self) -> None:
        if not self.waiting:
            return
        characters = self.characters[: len(self.waiting)]
        alleles, unphased, malformed = decode(characters)
        if malformed.any():
            row, individual = (int(index) for index in np.argwhere(malformed)[0])
            record = self.waiting[row]
            found = (
                bytes(characters[row, individual]).replace(b":", b"\t").partition(b"\t")[0].decode("ascii", "replace")
            )
            raise PopdlError(
                f"{record.where}: genotype {found!r} of sample {self.reader.samples[individual]!r} at "
                f"{self.contig}:{record.position}; expected {self.reader.ploidy} allele{'s' * (self.reader.ploidy > 1)} "
                "(`ploidy`), each 0, 1 or missing. "
                "Choose `ploidy`, `samples` or `regions` so that all genotypes have the same ploidy."
            )
        if unphased.any():
            if not self.num_unphased:
                row, individual = (int(index) for index in np.argwhere(unphased)[0])
                self.first_unphased = (
                    f"{self.contig}:{self.waiting[row].position}, sample {self.reader.samples[individual]!r}"
                )
            self.num_unphased += int(unphased.sum())
        flips = np.array(self.flips)
        if flips.any():
            alleles[flips] = np.where(alleles[flips] >= 0, 1 - alleles[flips], -1)
        self.alleles.append(alleles.reshape(len(self.waiting), -1))
        self.waiting, self.flips = [], []
