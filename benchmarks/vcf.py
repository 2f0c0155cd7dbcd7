"""VCF to encoded windows: CPU time against what cyvcf2 alone needs to read every genotype, as JSON lines.

Run ``python benchmarks/vcf.py [VCF]``; without an argument it takes the LCT region of 1000 Genomes (2,504 individuals, 8,076
records) from ``../shared/data``. Repeats of all measurements take turns, so that a busy machine slows them alike.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import cyvcf2
import numpy as np

from popdl import statistics
from popdl.config.application import Application
from popdl.config.encoding import Encoding
from popdl.encoding import Encoder
from popdl.importers.vcf import GenotypeReader
from popdl.importers.vcf_header import read_header
from popdl.windows import encode_windows

DEFAULT = Path(__file__).resolve().parents[2] / "shared" / "data" / "lct_1kg_b37" / "lct_1kg_b37.vcf.gz"
WINDOW_SIZE = 100_000
REPEATS = 7


def cpu_seconds(function: Callable[[], object]) -> float:
    start = time.process_time()
    function()
    return time.process_time() - start


def main() -> None:
    vcf = Path(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT
    header = read_header(vcf)
    encoder = Encoder(
        Encoding(phase="ignore"), num_haplotypes=2 * len(header.samples), ploidy=2, sequence_length=WINDOW_SIZE
    )
    num_statistics = len(statistics.names(encoder.num_haplotypes, derived=False))
    application = Application.model_validate({"vcf": vcf, "windows": {"size": WINDOW_SIZE}})

    def with_cyvcf2() -> None:
        for variant in cyvcf2.VCF(str(vcf)):
            variant.genotype.array()

    def genotypes() -> None:
        for _ in GenotypeReader(header, header.samples, 2, unphased_allowed=True).contigs():
            pass

    def windows() -> None:
        with tempfile.TemporaryDirectory() as folder:
            encode_windows(vcf, application=application, encoder=encoder, seed=1, output=Path(folder) / "windows")

    def windows_without_statistics() -> None:
        with mock.patch("popdl.statistics.compute", return_value=np.zeros(num_statistics)):
            windows()

    parts = [with_cyvcf2, genotypes, windows_without_statistics, windows]
    for part in parts:
        part()
    measured = [[cpu_seconds(part) for part in parts] for _ in range(REPEATS)]
    for index, part in enumerate(parts):
        result = {
            "benchmark": "vcf",
            "what": part.__name__,
            "file": vcf.name,
            "individuals": len(header.samples),
            "cpu_seconds": float(np.median([times[index] for times in measured])),
            "ratio_to_cyvcf2": float(np.median([times[index] / times[0] for times in measured])),
            "repeats": REPEATS,
        }
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
