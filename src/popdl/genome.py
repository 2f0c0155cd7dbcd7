"""A genome simulated under known parameters and written as a VCF, so that a study can be tried without data."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import numpy as np

from popdl import seeds
from popdl.config.application import SimulatedGenome
from popdl.errors import PopdlError
from popdl.files import whole
from popdl.simulators._base import Simulator

__all__ = ["simulate_genome"]

CONTIG = "1"
BGZF_END = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")
"""The empty block at the end of every bgzipped file (SAM specification, section 4.1.2)."""


def simulate_genome(simulation: Simulator, genome: SimulatedGenome, *, seed: int, name: str, output: Path) -> None:
    """Simulate a genome with a study's simulator and write it as a bgzipped VCF.

    Parameters
    ----------
    simulation
        The `simulation:` section; length and number of haplotypes are taken from ``genome``.
    genome
        The true parameters, the length and the number of individuals.
    seed
        The study's seed.
    name
        Name of the application; two applications of a study are independent.
    output
        The VCF: contig ``1``, individuals ``ind_0``, ``ind_1``, …, the ancestral allele as REF.

    Raises
    ------
    PopdlError
        If a parameter is missing, the simulator makes no tree sequences, or the file cannot be written.
    """
    generator = seeds.generator(seed, "genome", *name.encode())
    missing = [key for key, prior in simulation.priors.items() if prior.is_random and key not in genome.parameters]
    if missing:
        raise PopdlError(
            f"applications.{name}.simulate.parameters: {', '.join(missing)} missing; give every parameter a value."
        )
    parameters = simulation.with_constants(genome.parameters)
    changes = {
        "sequence_length": genome.sequence_length,
        "num_haplotypes": _haplotypes(simulation, genome.num_individuals * simulation.ploidy, name),
    }
    whole = type(simulation).model_validate({**simulation.model_dump(), **changes})
    try:
        tree_sequence = whole.tree_sequence(parameters, generator)
    except TypeError as error:
        raise PopdlError(f"applications.{name}.simulate: {error}; give a `vcf` instead.") from None
    text = io.StringIO()
    tree_sequence.write_vcf(
        text,
        contig_id=CONTIG,
        individual_names=[f"ind_{number}" for number in range(genome.num_individuals)],
        # VCF counts from 1. tskit passes the length through the same function: it must stay as it is.
        position_transform=lambda positions: np.minimum(1 + np.floor(positions), genome.sequence_length).astype(int),
    )
    _write_bgzipped(text.getvalue(), output)


def _haplotypes(simulation: Simulator, total: int, name: str) -> int | dict[str, int]:
    """Haplotypes of the genome; populations keep their shares."""
    counts = simulation.num_haplotypes
    if not isinstance(counts, dict):
        return total
    shares = {population: count * total / simulation.total_haplotypes for population, count in counts.items()}
    if any(share % simulation.ploidy for share in shares.values()):
        raise PopdlError(
            f"applications.{name}.simulate.num_individuals: {total // simulation.ploidy} individuals cannot be shared out "
            f"like simulation.num_haplotypes ({counts}); use a multiple of {simulation.total_haplotypes // simulation.ploidy}."
        )
    return {population: int(share) for population, share in shares.items()}


def _write_bgzipped(vcf: str, output: Path) -> None:
    from cyvcf2 import Writer

    end = vcf.index("\n", vcf.index("#CHROM")) + 1
    try:
        with whole(output) as partial:
            writer = Writer.from_string(str(partial), vcf[:end], mode="wz")
            writer.write_header()
            for line in vcf[end:].splitlines():
                writer.write_record(writer.variant_from_string(line))
            writer.close()
            # Neither cyvcf2 nor its htslib says so when a disk is full.
            if not _is_whole(partial, num_records=vcf.count("\n", end)):
                raise OSError("the disk did not take all of it, it may be full")
    except (OSError, EOFError) as error:
        raise PopdlError(f"{output}: cannot write the simulated genome: {error}.") from error


def _is_whole(path: Path, *, num_records: int) -> bool:
    """Whether a bgzipped VCF ends as it should, and holds so many records."""
    if not path.read_bytes().endswith(BGZF_END):
        return False
    with gzip.open(path) as lines:
        return sum(not line.startswith(b"#") for line in lines) == num_records
