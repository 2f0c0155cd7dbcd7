"""What every malformed, odd or truncated file of the shared test data gets: a message, or acceptance with counts.

The files come from the test suites of htslib, hts-specs, htsjdk, scikit-allel, pixy, GATK and cyvcf2.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import NamedTuple

import pytest

from popdl.check import check_application
from popdl.config.application import Application
from popdl.config.encoding import Encoding
from popdl.encoding import Encoder
from popdl.errors import PopdlError
from popdl.importers.vcf import GenotypeReader
from popdl.importers.vcf_header import read_header
from popdl.store import read_shard
from popdl.windows import encode_windows


class Refused(NamedTuple):
    message: str
    ploidy: int = 2
    unphased: bool = False


class Read(NamedTuple):
    """Number of variants used and of records left out, by reason."""

    used: int
    left_out: dict[str, int]
    ploidy: int = 2
    unphased: bool = False


NOT_A_VCF = r"line 1: found {}, expected '##fileformat=VCFv4"

EXPECTED: dict[str, list[Refused | Read]] = {
    "corrupt_file_that_starts_with_#.vcf": [Refused(NOT_A_VCF.format("'#'"))],
    "empty.vcf": [Refused("has a header but no records")],
    "failed_body_contiguous_000.vcf": [Refused("line 9: contig '1' again, after '2'")],
    "failed_body_duplicated_000.vcf": [Refused(r"none of its records can be used \(2 duplicate_position\)")],
    "failed_body_no_newline_000.vcf": [Refused("line 3: the file has no samples")],
    "failed_body_pos_001.vcf": [Refused("line 4: position '123abc', expected a whole number above 0")],
    # Wrong values of fields that popdl does not read: the genotypes are valid.
    "failed_body_sample_004.vcf": [Read(1, {})],
    "failed_body_samples_ploidy_000.vcf": [Read(1, {})],
    "failed_body_unsorted_000.vcf": [Refused("line 8: position 1:500 after 1:1400; the file is not sorted")],
    "failed_empty.vcf": [Refused(NOT_A_VCF.format("''"))],
    "failed_empty_sample.vcf": [Refused("the file is empty")],
    "failed_fileformat_000.vcf": [Refused(NOT_A_VCF.format("'##fileformat='"))],
    "failed_header_000.vcf": [Refused("line 2: column 'POSITION', expected 'POS'")],
    "formatmissing.vcf": [Refused(r"none of its records can be used \(1 no_genotypes\)")],
    "haploidPlusDiploid.expected.vcf": [
        Refused("line 3419: genotype '1' of sample 'NA12891' at chrX:1000527; expected 2 alleles"),
        Refused("genotype '1|' of sample 'NA12892' at chrX:1000527; expected 1 allele", ploidy=1),
    ],
    "haploid_test.vcf.gz": [
        Refused("genotype '0' of sample 'tsk_1' at chr1:201; expected 2 alleles"),
        Read(66, {"invariant": 3854}, ploidy=1),
    ],
    "mangledBaseVariants.vcf": [Refused(NOT_A_VCF.format("'!##fileformat=VCFv4.2'"))],
    "mixed_ploidy_test.vcf.gz": [Refused("genotype '0' of sample 'tsk_1' at chrX:2; expected 2 alleles")],
    "test-haploidX.vcf": [
        Refused("genotype '1' of sample '37150' at chrX:2700157; expected 2 alleles"),
        Read(689, {"filtered": 11, "not_snv": 77}, ploidy=1),
    ],
    "test-hemi.vcf": [
        Refused("3 heterozygous genotypes in contig 'chr19' are not phased, the first at chr19:11210912"),
        Read(1, {"filtered": 1}, unphased=True),
    ],
    "test48a.vcf": [Refused(NOT_A_VCF.format("'foo'"))],
    "truncated_eur_chr20.vcf.gz": [Refused("cut short: the block that ends a bgzipped file is missing")],
    "unsorted.vcf": [Refused("line 27: position 20:17330 after 20:1235237; the file is not sorted")],
    "weird-chr-names.vcf": [Refused("line 6: the file has no samples")],
}
CASES = [(name, outcome) for name, outcomes in EXPECTED.items() for outcome in outcomes]


def application(path, ploidy):
    return Application.model_validate({"vcf": path, "ploidy": ploidy, "windows": {"size": 1_000_000}})


def encoder_for(path, outcome):
    try:
        num_samples = len(read_header(path).samples)
    except PopdlError:
        num_samples = 1
    settings = Encoding(phase="ignore" if outcome.unphased else "keep", max_sites=10)
    return Encoder(
        settings, num_haplotypes=num_samples * outcome.ploidy, ploidy=outcome.ploidy, sequence_length=1_000_000
    )


@pytest.fixture
def bad(data):
    return data / "bad_vcf"


def test_the_table_has_every_file(bad):
    assert sorted(path.name for path in bad.iterdir()) == sorted(EXPECTED)


@pytest.mark.parametrize(
    ("name", "outcome"), CASES, ids=[f"{name}-{type(outcome).__name__}-{outcome.ploidy}" for name, outcome in CASES]
)
def test_each_file(bad, tmp_path, name, outcome):
    path = bad / name
    encoder = encoder_for(path, outcome)
    arguments = {"application": application(path, outcome.ploidy), "encoder": encoder, "seed": 1}
    output = tmp_path / "windows"
    if isinstance(outcome, Refused):
        with pytest.raises(PopdlError, match=re.escape(name) + ".*" + outcome.message):
            encode_windows(path, **arguments, output=output)
        assert list(tmp_path.iterdir()) == []
    else:
        encode_windows(path, **arguments, output=output)
        shard = read_shard(output, kind="windows")
        assert shard.attributes["records_used"] == outcome.used
        assert +Counter(shard.attributes["records"]) == outcome.left_out


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_check_agrees(bad, name):
    """A check never refuses what can be read; the few that it misses are wrong beyond its first records or on the whole."""
    outcome = EXPECTED[name][0]
    problems = check_application(application(bad / name, outcome.ploidy), encoder=encoder_for(bad / name, outcome))
    if isinstance(outcome, Read):
        assert problems == []
    elif not outcome.message.startswith("none of its records"):
        assert len(problems) == 1
        assert re.search(outcome.message, problems[0])


def test_haploid_males_may_be_left_out(bad):
    """Only the genotypes of chosen individuals must have the right ploidy."""
    reader = GenotypeReader(read_header(bad / "haploidPlusDiploid.expected.vcf"), ["NA12892"], 2, unphased_allowed=True)
    (contig,) = reader.contigs()
    assert contig.genotypes.shape == (len(contig.positions), 2)
    assert len(contig.positions) + sum(reader.left_out.values()) == 11343
