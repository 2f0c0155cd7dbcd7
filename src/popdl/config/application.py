"""The `applications:` section: which genomes the trained networks are applied to."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from popdl.config.base import Section

__all__ = ["Application", "Comparison", "Samples", "SimulatedGenome", "Windows"]


class Samples(Section):
    """Which individuals of a VCF are used: named, from a file, a population of a panel, or a number of all of them."""

    names: list[str] | None = None
    """Sample names as in the VCF."""
    file: Path | None = None
    """A file with one sample name per line."""
    panel: Path | None = None
    """A table with a header whose first column is the sample (1000 Genomes: sample pop super_pop gender)."""
    column: str = "pop"
    """The panel's column that holds the population."""
    population: str | None = None
    """The value of that column."""
    number: int | None = Field(default=None, ge=1)
    """Use this many of the individuals found, drawn with the study's seed (null: all)."""

    @model_validator(mode="after")
    def _check(self) -> Samples:
        given = [key for key in ("names", "file", "panel") if getattr(self, key) is not None]
        if len(given) > 1 or not (given or self.number):
            raise ValueError(f"give one of names, file and panel, or number alone; found {given or 'none'}")
        if (self.panel is None) != (self.population is None):
            raise ValueError("panel and population belong together")
        return self


class Windows(Section):
    """How a genome is cut: by length in bp (`size`) or by number of sites (`sites`)."""

    size: float | None = Field(default=None, gt=0)
    """Length of a window in bp."""
    sites: int | None = Field(default=None, ge=2)
    """Number of polymorphic sites in a window."""
    step: float | None = Field(default=None, gt=0)
    """Distance between the starts of two windows, in bp or in sites (null: windows touch)."""
    min_sites: int = Field(default=1, ge=1)
    """A window with fewer sites gets no prediction, and says so."""

    @model_validator(mode="after")
    def _check(self) -> Windows:
        if (self.size is None) == (self.sites is None):
            raise ValueError("give exactly one of size (bp) and sites")
        return self


class SimulatedGenome(Section):
    """A genome that a rule simulates under known parameters with the study's simulator, and writes as a VCF."""

    parameters: dict[str, float]
    """The true value of every parameter of the simulator."""
    sequence_length: float = Field(gt=0)
    """Length in bp."""
    num_individuals: int = Field(ge=1)
    """Individuals in the VCF."""


class Comparison(Section):
    """A recombination map of the same genome, to be set beside the predictions; correlations take no account of units."""

    target: str
    """The target that rises and falls with the recombination rate of a window, such as ρ = 4Nr; on a log scale."""
    map: Path
    """A map in HapMap format (chromosome, position in bp, rate in cM/Mb, map in cM), plain or gzipped."""
    build: str | None = None
    """Genome build of the map, e.g. GRCh37; refused if the application's differs."""
    scales: list[Annotated[float, Field(gt=0)]] = [1.0e5]
    """Lengths in bp over which both are averaged before they are correlated, beside the windows' own length."""


class Application(Section):
    """One genome (or population) to which every trained network is applied."""

    vcf: Path | None = None
    """VCF (plain or bgzipped) or BCF."""
    simulate: SimulatedGenome | None = None
    """Instead of `vcf`: simulate one under known parameters."""
    build: str | None = None
    """Genome build of the VCF, e.g. GRCh37; one that disagrees with the file's header or the recombination map is refused."""
    ploidy: int = Field(default=2, ge=1)
    """Chromosome copies per individual that the VCF must hold."""
    samples: Samples | None = None
    """Which individuals (null: all)."""
    windows: Windows
    """How the genome is cut into examples."""
    regions: list[str] | None = None
    """Parts of the genome to use, `contig` or `contig:start-end` (1-based, inclusive; null: everything in the VCF)."""
    ancestral: Literal["reference", "INFO/AA"] | None = None
    """Where ancestral alleles come from; needed with `encoding: {alleles: derived}`."""
    compare: Comparison | None = None
    """A recombination map to correlate the predictions of networks and baselines with (null: none)."""

    @field_validator("regions")
    @classmethod
    def _check_regions(cls, regions: list[str] | None) -> list[str] | None:
        for region in regions or []:
            parse_region(region)
        return regions

    @model_validator(mode="after")
    def _check(self) -> Application:
        if (self.vcf is None) == (self.simulate is None):
            raise ValueError("give exactly one of vcf and simulate")
        if self.compare is not None:
            if self.windows.size is None:
                raise ValueError("compare: a map is compared with windows of one length; give windows.size")
            if finer := [scale for scale in self.compare.scales if scale < self.windows.size]:
                raise ValueError(f"compare.scales: {finer[0]:g} bp is shorter than a window ({self.windows.size:g} bp)")
        return self

    @property
    def num_individuals(self) -> int | None:
        """How many individuals are used, where the config alone decides that."""
        if self.samples is not None and self.samples.number is not None:
            return self.samples.number
        if self.samples is not None and self.samples.names is not None:
            return len(self.samples.names)
        return self.simulate.num_individuals if self.simulate is not None and self.samples is None else None


def parse_region(region: str) -> tuple[str, int | None, int | None]:
    """Split ``contig`` or ``contig:start-end`` (1-based, inclusive); thousands may be set apart by commas."""
    contig, colon, span = region.rpartition(":")
    if not colon:
        return region, None, None
    start, dash, end = span.replace(",", "").partition("-")
    if not (contig and dash and start.isdigit() and end.isdigit() and 1 <= int(start) <= int(end)):
        raise ValueError(f"expected contig or contig:start-end with 1 ≤ start ≤ end, found {region!r}")
    return contig, int(start), int(end)
