"""VCF and BCF as labelled examples."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from popdl.errors import PopdlError
from popdl.formats._genomes import Span, VariantImporter
from popdl.importers.samples import choose_samples
from popdl.importers.vcf import GenotypeReader, check_regions
from popdl.importers.vcf_header import read_header
from popdl.simulators._base import Example

__all__ = ["Vcf"]


class Vcf(VariantImporter):
    """VCF (plain or bgzipped) and BCF: one example for each row of `table`, which names a file in its column `file` and perhaps
    a part of it in its column `region` (`contig:start-end`, 1-based); without a table, one for each file."""

    def read_window(self, path: Path, span: Span | None, *, seed: int) -> tuple[Example, dict[str, int]]:
        header = read_header(path)
        region = None if span is None else [f"{span[0]}:{span[1]}-{span[2]}"]
        reader = GenotypeReader(
            header=header,
            samples=choose_samples(self.samples, header.samples, seed=seed, path=path),
            ploidy=self.ploidy,
            regions=check_regions(region, header.contigs, path=path),
            ancestral=self.ancestral,
            unphased_allowed=self.unphased,
        )
        contigs = list(reader.contigs())
        if span is not None and span[0] not in reader.contigs_seen:
            raise PopdlError(f"{path}: there is no record of contig {span[0]!r}; correct the region.")
        if len(contigs) > 1:
            names = ", ".join(contig.name for contig in contigs[:5])
            raise PopdlError(f"{path}: it has several contigs ({names}); give the table a column `region`.")
        left_out = {reason: count for reason, count in reader.left_out.items() if reason != "outside_regions"}
        if not contigs:
            return Example(np.empty((0, len(reader.samples) * self.ploidy), dtype=np.int8), np.empty(0)), left_out
        start = 0 if span is None else span[1] - 1
        return Example(contigs[0].genotypes, (contigs[0].positions - start).astype(np.float64)), left_out
