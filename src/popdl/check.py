"""Everything that is wrong with a study's genomes, found before any work is done."""

from __future__ import annotations

from pathlib import Path

from popdl.config.application import Application, Samples, parse_region
from popdl.encoding import Encoder
from popdl.errors import PopdlError
from popdl.genome_builds import check_build
from popdl.importers.samples import choose_samples
from popdl.importers.vcf import GenotypeReader, check_regions
from popdl.importers.vcf_header import read_header
from popdl.simulators._maps import read_hapmap

__all__ = ["check_application", "prepare"]

FIRST_RECORDS = 1000
"""Records that a check reads: enough to meet unphased genotypes and another ploidy, and done in a blink."""


def check_application(application: Application, *, encoder: Encoder) -> list[str]:
    """List every problem of an application: settings, header, samples, panel, build, regions, first records.

    Parameters
    ----------
    application
        The section of the config. Where it simulates its genome there is no file to look at.
    encoder
        The recipe that the networks take.

    Returns
    -------
    list of str
        Empty if nothing is wrong. Of the records only the first are read, so a file can still be refused later.
    """
    if application.vcf is None:
        return [*_setting_problems(application, encoder), *_map_problems(application)]
    # Which individuals a seed draws changes nothing about whether there are enough.
    problems, reader = prepare(application.vcf, application=application, encoder=encoder, seed=0)
    problems += _map_problems(application)
    if reader is not None:
        reader.limit = FIRST_RECORDS
        try:
            for _ in reader.contigs():
                pass
        except PopdlError as error:
            problems.append(str(error))
        else:
            if not reader.contigs_seen:
                problems.append(f"{application.vcf}: the file has a header but no records; give a file with variants.")
    return problems


def _map_problems(application: Application) -> list[str]:
    """What is wrong with the recombination map that predictions are compared with."""
    if application.compare is None:
        return []
    contigs = {parse_region(region)[0] for region in application.regions or []}
    try:
        read_hapmap(application.compare.map, contig=contigs.pop() if len(contigs) == 1 else None)
    except PopdlError as error:
        return [str(error)]
    return []


def prepare(
    vcf: Path, *, application: Application, encoder: Encoder, seed: int
) -> tuple[list[str], GenotypeReader | None]:
    """Compare a file's header with what the config asks of it and with what the networks take.

    Parameters
    ----------
    vcf
        VCF or BCF.
    application
        The section of the config.
    encoder
        The recipe that the networks were trained with.
    seed
        The study's seed.

    Returns
    -------
    problems : list of str
        Everything wrong, not only the first thing.
    reader : GenotypeReader or None
        Ready to read, if nothing is wrong.
    """
    problems = _setting_problems(application, encoder)
    try:
        header = read_header(vcf)
    except PopdlError as error:
        return [*problems, str(error)], None
    if problem := check_build(application.build, header.contigs, header.builds):
        problems.append(f"{vcf}: {problem}.")
    samples, regions = None, None
    try:
        samples = choose_samples(application.samples, header.samples, seed=seed, path=vcf)
    except PopdlError as error:
        problems.append(str(error))
    try:
        regions = check_regions(application.regions, header.contigs, path=vcf)
    except PopdlError as error:
        problems.append(str(error))
    if samples is not None and len(samples) * encoder.ploidy != encoder.num_haplotypes:
        needed = encoder.num_haplotypes // encoder.ploidy
        remedy = f"set samples.number to {needed}" if len(samples) > needed else "choose more, or simulate fewer"
        problems.append(
            f"{vcf}: {len(samples)} individuals are chosen, but the networks take {needed} "
            f"({encoder.num_haplotypes} haplotypes of ploidy {encoder.ploidy}); {remedy}."
        )
    if problems or samples is None:
        return problems, None
    reader = GenotypeReader(
        header=header,
        samples=samples,
        ploidy=application.ploidy,
        regions=regions,
        ancestral=application.ancestral,
        unphased_allowed=encoder.settings.phase == "ignore",
    )
    return [], reader


def _setting_problems(application: Application, encoder: Encoder) -> list[str]:
    """What a config section asks for and a recipe cannot give: a model brings a recipe that the config never saw."""
    problems = []
    settings, windows = encoder.settings, application.windows
    if application.ploidy != encoder.ploidy:
        problems.append(f"ploidy: {application.ploidy}, but the networks were trained with ploidy {encoder.ploidy}.")
    if len(encoder.populations) > 1 and application.simulate is None and not _in_given_order(application.samples):
        expected = ", ".join(f"{count // encoder.ploidy} of {name}" for name, count in encoder.populations.items())
        problems.append(
            f"samples: the networks take individuals in the order of their populations ({expected}); "
            "list them in this order in samples.names or samples.file."
        )
    if settings.alleles == "derived" and application.ancestral is None and application.simulate is None:
        problems.append(
            "ancestral: the networks take derived alleles; say where ancestral ones are: reference or INFO/AA."
        )
    if windows.size is not None:
        if settings.crop_length is None and windows.size != encoder.sequence_length:
            problems.append(
                f"windows.size: {windows.size:g} bp, but the networks were trained on {encoder.sequence_length:g} bp; "
                "make them equal."
            )
        elif windows.size < encoder.window_length:
            problems.append(
                f"windows.size: {windows.size:g} bp, but the networks take {encoder.window_length:g} bp of each; use longer windows."
            )
    else:
        assert windows.sites is not None
        if settings.positions in ("absolute", "relative") or settings.crop_length is not None:
            needed = "a fixed crop_length" if settings.crop_length is not None else f"{settings.positions} positions"
            problems.append(
                f"windows.sites: such windows differ in length, but the networks take {needed}; use windows.size."
            )
        if windows.sites < settings.max_sites:
            problems.append(
                f"windows.sites: {windows.sites}, but the networks were trained on up to {settings.max_sites} sites; "
                "use at least as many."
            )
    for key in ("size", "step"):
        value = getattr(windows, key)
        if value is not None and not value.is_integer():
            problems.append(f"windows.{key}: {value:g}, expected a whole number.")
    return problems


def _in_given_order(samples: Samples | None) -> bool:
    """Whether the individuals are exactly those that a list names, in its order."""
    return samples is not None and samples.panel is None and samples.number is None
