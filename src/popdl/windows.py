"""Cutting a genome into windows, and encoding each as one example.

By length, windows lie on a grid: they start at multiples of the step, counted from the start of the contig or, where the
config names a region with its ends, from the start of that region. By number of sites, they follow each other along the
sites that the encoder keeps. Either way a window that cannot be predicted keeps its row, and the reason is written in it.

Positions are 0-based and half-open, as in tree sequences and BED: position p of a VCF is p − 1 − start in its window.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from popdl import seeds
from popdl.check import prepare
from popdl.config.application import Application, Windows
from popdl.dataset import encode_examples
from popdl.encoding import Encoder
from popdl.errors import PopdlError
from popdl.genome_builds import canonical, find_builds
from popdl.importers.vcf import REASONS, ContigGenotypes, GenotypeReader, check_regions
from popdl.store import write_shard

__all__ = ["Window", "cut", "encode_windows"]


@dataclass(frozen=True)
class Window:
    """A piece of a contig."""

    contig: str
    start: int
    """First bp, 0-based."""
    end: int
    """The bp after the last."""
    genotypes: np.ndarray
    """ndarray of shape (num_sites, num_haplotypes), dtype=int8: 0, 1, −1 for missing."""
    positions: np.ndarray
    """ndarray of shape (num_sites,), dtype=float64: bp from the start of the window."""
    reason: str
    """Why it cannot be predicted; empty where it can."""

    @property
    def length(self) -> int:
        return self.end - self.start


def cut(
    contig: ContigGenotypes,
    settings: Windows,
    *,
    encoder: Encoder,
    spans: Sequence[tuple[int, int | None]] | None = None,
) -> Iterator[Window]:
    """Cut the genotypes of a contig into windows.

    Parameters
    ----------
    contig
        Genotypes and positions of the usable variants, and the positions of all records.
    settings
        The ``windows:`` section.
    encoder
        Tells which sites count where windows are cut by number of sites.
    spans
        The regions of the config in this contig, 0-based and half-open; (0, None) for a whole contig. None where
        the config names no regions.

    Yields
    ------
    Window
        In order. A window that the region, the contig or the data cover only in part has a reason; so has one without data.
    """
    for start, end in spans or [(0, None)]:
        if settings.size is not None:
            yield from _by_length(contig, settings, start, end)
        else:
            yield from _by_sites(contig, settings, encoder, start, end)


def _by_length(
    contig: ContigGenotypes, settings: Windows, region_start: int, region_end: int | None
) -> Iterator[Window]:
    size, step = round(settings.size or 0), round(settings.step or settings.size or 0)
    records = contig.record_positions[_slice(contig.record_positions, region_start, region_end)]
    if region_end is not None:
        first, stop = 0, region_end
    else:  # the windows that the data reach
        first, stop = max(0, (int(records[0]) - size) // step + 1), int(records[-1]) + 1
    for window_start in range(region_start + first * step, stop, step):
        window_end = window_start + size
        if region_end is not None and window_end > region_end:
            reason = "the region ends inside the window"
        elif contig.length is not None and window_end > contig.length:
            reason = "the contig ends inside the window"
        else:
            reason = _coverage(records, window_start, window_end)
        yield _window(contig, window_start, window_end, reason)


def _coverage(records: np.ndarray, start: int, end: int) -> str:
    """Why a window counts as not covered by the data, if so.

    The data start (or end) inside a window if what lies before the first (after the last) record of all is longer than
    any gap between neighbouring records of the window. Under even coverage n records make that happen by chance about
    once in n times.
    """
    inside = records[_slice(records, start, end)]
    if not len(inside):
        return "no data in the window"
    longest = int(np.diff(inside).max(initial=0))
    if inside[0] == records[0] and records[0] - start > longest:
        return "the data start inside the window"
    if inside[-1] == records[-1] and end - 1 - records[-1] > longest:
        return "the data end inside the window"
    return ""


def _by_sites(
    contig: ContigGenotypes, settings: Windows, encoder: Encoder, region_start: int, region_end: int | None
) -> Iterator[Window]:
    size, step = settings.sites or 0, round(settings.step or settings.sites or 0)
    chosen = _slice(contig.positions, region_start, region_end)
    # Counted after the encoder's own filters: a site is one that the network could see.
    sites = encoder.filter_sites(contig.genotypes[chosen], contig.positions[chosen]).positions.astype(np.int64)
    if not len(sites):
        end = int(contig.record_positions[-1]) + 1 if region_end is None else region_end
        yield _window(contig, region_start, end, f"no sites are left, fewer than windows.sites ({size})")
        return
    # Windows tile the genome: each starts behind the last site before it.
    starts = np.concatenate([[sites[0] if region_end is None else region_start], sites[:-1] + 1])
    covered = 0
    for first in range(0, len(sites) - size + 1, step):
        covered = first + size
        yield _window(contig, int(starts[first]), int(sites[covered - 1]) + 1, "")
    if covered < len(sites):
        reason = f"{len(sites) - covered} sites are left, fewer than windows.sites ({size})"
        yield _window(contig, int(starts[covered]), int(sites[-1]) + 1, reason)


def _slice(positions: np.ndarray, start: int, end: int | None) -> slice:
    """The part of increasing positions that lies in [start, end)."""
    first = int(np.searchsorted(positions, start))
    return slice(first, None if end is None else int(np.searchsorted(positions, end)))


def _window(contig: ContigGenotypes, start: int, end: int, reason: str) -> Window:
    chosen = _slice(contig.positions, start, end)
    positions = (contig.positions[chosen] - start).astype(np.float64)
    return Window(contig.name, start, end, contig.genotypes[chosen], positions, reason)


def encode_windows(vcf: Path, *, application: Application, encoder: Encoder, seed: int, output: Path) -> None:
    """Cut the genotypes of a VCF or BCF into windows and write them as one encoded shard.

    Parameters
    ----------
    vcf
        VCF or BCF; read once, one contig in memory at a time.
    application
        Which individuals, regions and windows.
    encoder
        The recipe that the networks were trained with.
    seed
        The study's seed: draws individuals (`samples.number`) and random crops.
    output
        Shard of kind ``windows``: the arrays of :func:`popdl.dataset.encode_examples`, ``start`` and ``end`` int64
        (num_windows,) in bp, 0-based and half-open. Attributes: ``contigs`` and ``reasons`` (of each window; a reason is
        empty where the window can be predicted), ``records`` (number left out, by reason), ``records_used``,
        ``samples``, ``vcf`` (name of the file), ``build`` and ``source`` (SHA-256 of the file's header).

    Raises
    ------
    PopdlError
        If the file is not valid or does not fit the config or the networks, or holds no usable record.
    """
    problems, reader = prepare(vcf, application=application, encoder=encoder, seed=seed)
    if reader is None:
        raise PopdlError("\n  ".join(problems))
    windows: list[Window] = []
    lengths: list[float] = []
    used = 0

    def examples() -> Iterator[tuple[np.ndarray, np.ndarray, np.random.Generator]]:
        nonlocal used
        for contig in reader.contigs():
            used += len(contig.positions)
            spans = None if reader.regions is None else reader.regions[contig.name]
            for window in cut(contig, application.windows, encoder=encoder, spans=spans):
                index = len(windows)
                # Genotypes are let go once encoded: a window is kept for its place and reason alone.
                windows.append(replace(window, genotypes=window.genotypes[:0], positions=window.positions[:0]))
                lengths.append(float(window.length))
                yield window.genotypes, window.positions, seeds.generator(seed, "windows", index)

    arrays, attributes = encode_examples(encoder, examples(), sequence_lengths=lengths)
    _refuse_without_data(vcf, reader, used)
    reasons = [
        window.reason or _too_few(int(num_sites), application.windows.min_sites)
        for window, num_sites in zip(windows, arrays["num_sites_window"], strict=True)
    ]
    builds = find_builds(reader.header.contigs, reader.header.builds)
    write_shard(
        output,
        kind="windows",
        arrays={
            **arrays,
            "start": np.array([window.start for window in windows], dtype=np.int64),
            "end": np.array([window.end for window in windows], dtype=np.int64),
        },
        attributes={
            **attributes,
            "contigs": [window.contig for window in windows],
            "reasons": reasons,
            "records": {reason: reader.left_out[reason] for reason in REASONS},
            "records_used": used,
            "samples": list(reader.samples),
            "vcf": vcf.name,
            "build": canonical(application.build) if application.build else next(iter(sorted(builds)), None),
            "source": reader.header.digest,
        },
    )


def _too_few(num_sites: int, min_sites: int) -> str:
    return f"{num_sites} sites, fewer than windows.min_sites ({min_sites})" if num_sites < min_sites else ""


def _refuse_without_data(vcf: Path, reader: GenotypeReader, used: int) -> None:
    """Refuse a file without usable records, or without any in a region that the config names."""
    if not reader.contigs_seen:
        raise PopdlError(f"{vcf}: the file has a header but no records; give a file with variants.")
    empty = [contig for contig in reader.regions or {} if contig not in reader.contigs_with_records]
    if empty:
        check_regions(empty, dict.fromkeys(reader.contigs_seen), path=vcf)
        raise PopdlError(
            f"{vcf}: regions: no record lies in that of contig {empty[0]!r}; give one that the file covers."
        )
    if not used:
        reasons = ", ".join(f"{count} {reason}" for reason, count in reader.left_out.most_common())
        raise PopdlError(f"{vcf}: none of its records can be used ({reasons}); expected biallelic SNVs with genotypes.")
