"""Which human genome build a VCF is on: told by the lengths of its chromosomes and by the names in its header."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

__all__ = ["CHROMOSOME_LENGTHS", "canonical", "check_build", "find_builds", "other_name"]

_CHROMOSOMES = [*(str(number) for number in range(1, 23)), "X", "Y"]

# bp of chromosomes 1–22, X, Y. Source: UCSC Genome Browser, chrom.sizes of hg18, hg19 and hg38, which are NCBI36,
# GRCh37 (GCA_000001405.1) and GRCh38 (GCA_000001405.15).
CHROMOSOME_LENGTHS: dict[str, dict[str, int]] = {
    build: dict(zip(_CHROMOSOMES, lengths, strict=True))
    for build, lengths in {
        "NCBI36": (
            *(247249719, 242951149, 199501827, 191273063, 180857866, 170899992, 158821424, 146274826),
            *(140273252, 135374737, 134452384, 132349534, 114142980, 106368585, 100338915, 88827254),
            *(78774742, 76117153, 63811651, 62435964, 46944323, 49691432, 154913754, 57772954),
        ),
        "GRCh37": (
            *(249250621, 243199373, 198022430, 191154276, 180915260, 171115067, 159138663, 146364022),
            *(141213431, 135534747, 135006516, 133851895, 115169878, 107349540, 102531392, 90354753),
            *(81195210, 78077248, 59128983, 63025520, 48129895, 51304566, 155270560, 59373566),
        ),
        "GRCh38": (
            *(248956422, 242193529, 198295559, 190214555, 181538259, 170805979, 159345973, 145138636),
            *(138394717, 133797422, 135086622, 133275309, 114364328, 107043718, 101991189, 90338345),
            *(83257441, 80373285, 58617616, 64444167, 46709983, 50818468, 156040895, 57227415),
        ),
    }.items()
}

# Names as people and reference files write them; a patch release (GRCh38.p14) has the coordinates of its build.
_NAMES = {
    "NCBI36": re.compile(r"(ncbi|build|b)[ _-]?36|hg18"),
    "GRCh37": re.compile(r"grch37|(build|b)[ _-]?37|hg19|hs37d5|human_g1k_v37"),
    "GRCh38": re.compile(r"grch38|(build|b)[ _-]?38|hg38|hs38"),
}


def canonical(name: str) -> str:
    """The build that a name means: ``b37``, ``hg19`` and ``GRCh37.p13`` are GRCh37; an unknown name stays as it is."""
    for build, pattern in _NAMES.items():
        if re.search(rf"(?<![a-z0-9])({pattern.pattern})(?![0-9])", name.lower()):
            return build
    return name


def other_name(contig: str) -> str:
    """The same chromosome in the other style: ``20`` for ``chr20``, ``chr20`` for ``20``."""
    return _bare(contig) if contig.startswith("chr") else f"chr{contig}"


def _bare(contig: str) -> str:
    return contig.removeprefix("chr")


def find_builds(contigs: Mapping[str, int | None], names: Iterable[str]) -> set[str]:
    """All builds that a header speaks of, by the lengths of human chromosomes and by names.

    Parameters
    ----------
    contigs
        Length in bp of each contig of the header, None where it has none.
    names
        What the header says in words: the ``assembly`` of its contigs, and ``##reference``.

    Returns
    -------
    set of str
        Empty if the header tells nothing; more than one if it contradicts itself.
    """
    found = {canonical(name) for name in names} & set(CHROMOSOME_LENGTHS)
    for contig, length in contigs.items():
        found |= {
            build
            for build, lengths in CHROMOSOME_LENGTHS.items()
            if length is not None and lengths.get(_bare(contig)) == length
        }
    return found


def check_build(declared: str | None, contigs: Mapping[str, int | None], names: Iterable[str]) -> str | None:
    """Say what is wrong with a declared build, or return None.

    Parameters
    ----------
    declared
        The build that the config names, or None.
    contigs, names
        As in :func:`find_builds`.
    """
    if declared is None:
        return None
    build, found = canonical(declared), find_builds(contigs, names)
    if found and found != {build}:
        return (
            f"the header is of {' and '.join(sorted(found))}, but `build` says {declared}; give the build of this file"
        )
    for contig, length in contigs.items():
        expected = CHROMOSOME_LENGTHS.get(build, {}).get(_bare(contig))
        if expected is not None and length is not None and length != expected:
            return (
                f"the header gives contig {contig} a length of {length:,} bp, but it has {expected:,} bp in {build}; "
                "give the build of this file, or no `build` for a species without one"
            )
    return None
