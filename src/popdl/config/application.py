"""The `applications:` section: which genomes the trained networks are applied to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, field_validator, model_validator

from popdl.config.base import Section, suggestion
from popdl.genome_builds import canonical
from popdl.simulators._base import RecombinationMap

if TYPE_CHECKING:
    from popdl.config.study import Study

__all__ = ["Application", "Comparison", "Samples", "SimulatedGenome", "Windows", "application_problems"]


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


def application_problems(application: Application, study: Study) -> list[str]:
    """What of an application does not fit the rest of a config.

    Parameters
    ----------
    application
        One of the section.
    study
        The config; a recombination map of its simulation must be of the build of the genome.

    Returns
    -------
    list of str
        Each begins with a key of the application.
    """
    problems = []
    length, windows = study.source.sequence_length, application.windows
    if windows.size is not None:
        if study.encoding.crop_length is None and windows.size != length:
            problems.append(
                f"windows.size: {windows.size:g} bp, but the networks are trained on {length:g} bp ({study.section}.sequence_length); "
                "make them equal, or set encoding.crop_length"
            )
        elif study.encoding.crop_length is not None and windows.size < study.encoding.crop_length:
            problems.append(
                f"windows.size: {windows.size:g} bp is shorter than encoding.crop_length ({study.encoding.crop_length:g})"
            )
    else:
        assert windows.sites is not None
        if study.encoding.positions in ("absolute", "relative"):
            problems.append(
                f"windows.sites: such windows differ in length, so encoding.positions cannot be {study.encoding.positions}"
            )
        if windows.sites < study.encoding.max_sites:
            problems.append(
                f"windows.sites: {windows.sites} is fewer than encoding.max_sites ({study.encoding.max_sites})"
            )
    if study.encoding.alleles == "derived" and application.ancestral is None and application.simulate is None:
        problems.append(
            "ancestral: encoding.alleles is `derived`, so say where ancestral alleles come from: reference or INFO/AA"
        )
    if application.ploidy != study.source.ploidy:
        problems.append(f"ploidy: {application.ploidy}, but {study.section}.ploidy is {study.source.ploidy}")
    rate = None if study.simulation is None else study.simulation.recombination_rate
    map_build = rate.build if isinstance(rate, RecombinationMap) else None
    if map_build and application.build and canonical(map_build) != canonical(application.build):
        problems.append(
            f"build: {application.build}, but simulation.recombination_rate.build is {map_build}; use a map of the VCF's build"
        )
    problems += _comparison_problems(application, study)
    if (individuals := application.num_individuals) is not None:
        haplotypes, needed = individuals * application.ploidy, study.source.total_haplotypes
        if haplotypes != needed:
            problems.append(
                f"samples: {individuals} individuals of ploidy {application.ploidy} are {haplotypes} haplotypes, "
                f"but the networks are trained on {needed} ({study.section}.num_haplotypes)"
            )
    if application.simulate is not None and study.simulation is None:
        problems.append("simulate: imported data has no simulator; give a `vcf`")
    elif application.simulate is not None:
        names = list(study.source.priors)
        given = application.simulate.parameters
        problems += [
            f"simulate.parameters: {name} is missing"
            for name in names
            if name not in given and study.source.priors[name].is_random
        ]
        problems += [
            f"simulate.parameters: unknown parameter {name}; {suggestion(name, names)}"
            for name in given
            if name not in names
        ]
    return problems


def _comparison_problems(application: Application, study: Study) -> list[str]:
    compare = application.compare
    if compare is None:
        return []
    problems = []
    if compare.target not in study.targets:
        problems.append(f"compare.target: {compare.target!r} is no target; {suggestion(compare.target, study.targets)}")
    elif study.targets[compare.target].scale != "log":
        problems.append(f"compare.target: a rate is compared on a log scale; set targets.{compare.target}.scale to log")
    if compare.build and application.build and canonical(compare.build) != canonical(application.build):
        problems.append(
            f"compare.build: {compare.build}, but the genome is of {application.build}; use a map of the VCF's build"
        )
    return problems
