"""Opening a VCF or BCF and reading its header, strictly.

That htslib opens a file proves nothing: it accepts most invalid ones. So the header is read here, and a file that was cut
short is told by its missing end-of-file block.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import cyvcf2

from popdl.errors import PopdlError
from popdl.text_files import GZIP, open_lines, quoted, reading

__all__ = ["COLUMNS", "Header", "read_header"]

COLUMNS = ("#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO", "FORMAT")
"""The fixed columns of a VCF with genotypes (VCF 4.3, section 1.3)."""

_BCF = b"BCF\x02"
# The empty block that ends every complete BGZF file (SAM specification, section 4.1.2).
_BGZF_END = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")


@dataclass(frozen=True)
class Header:
    """What the header of a VCF or BCF says."""

    path: Path
    samples: tuple[str, ...]
    """Names of the individuals, in the order of the columns."""
    contigs: dict[str, int | None]
    """Length in bp of each declared contig; None where the header gives none."""
    builds: tuple[str, ...]
    """What the header says of the genome build in words: `assembly` of its contigs, and `##reference`."""
    is_bcf: bool
    num_lines: int
    """Number of lines of the header; the first record of a text file is on the next."""
    digest: str
    """SHA-256 of the text of the header."""


def read_header(path: Path) -> Header:
    """Read and check the header of a VCF (plain, gzipped or bgzipped) or BCF.

    Raises
    ------
    PopdlError
        If there is no such file, it is empty, cut short or damaged, is not a VCF, or has no individuals.
    """
    if not path.is_file():
        raise PopdlError(f"{path}: there is no such file; give the path of a VCF or BCF.")
    with reading(path):
        _check_end(path)
        with open_lines(path) as file:
            is_bcf = file.peek(4)[:4] == _BCF  # type: ignore[attr-defined]
            lines = [] if is_bcf else list(_header_lines(path, file))
    if is_bcf:
        lines = [(number, line) for number, line in enumerate(_bcf_header(path).splitlines(), start=1) if line]
    return _parse(path, lines, is_bcf)


def _check_end(path: Path) -> None:
    with open(path, "rb") as file:
        start = file.read(18)
        if not start:
            raise PopdlError(f"{path}: the file is empty; expected a VCF or BCF.")
        # BGZF is gzip with an extra field BC; plain gzip needs no such check, its reader notices a missing end.
        if start[:2] == GZIP and start[3] & 4 and start[12:14] == b"BC":
            file.seek(0, io.SEEK_END)
            file.seek(max(0, file.tell() - len(_BGZF_END)))
            if file.read() != _BGZF_END:
                raise PopdlError(
                    f"{path}: the file is cut short: the block that ends a bgzipped file is missing; get it again."
                )


def _header_lines(path: Path, file: BinaryIO) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(file, start=1):
        if number == 1 and not re.fullmatch(rb"##fileformat=VCFv4\.\d+", line.rstrip()):
            raise PopdlError(
                f"{path}, line 1: found {quoted(line.rstrip())}, expected '##fileformat=VCFv4.…'; this is not a VCF."
            )
        if not line.startswith(b"#"):
            raise PopdlError(f"{path}, line {number}: a record before the line that starts with #CHROM.")
        try:
            yield number, line.decode("utf-8").rstrip("\r\n")
        except UnicodeDecodeError:
            raise PopdlError(f"{path}, line {number}: the header is not text in UTF-8.") from None
        if not line.startswith(b"##"):
            return


def _bcf_header(path: Path) -> str:
    try:
        file = cyvcf2.VCF(str(path))
    except Exception as error:  # cyvcf2 raises bare Exception
        raise PopdlError(f"{path}: htslib cannot read the header of this BCF: {error}.") from None
    text: str = file.raw_header
    file.close()
    return text


def _parse(path: Path, lines: list[tuple[int, str]], is_bcf: bool) -> Header:
    number, columns = lines[-1]
    if columns.startswith("##"):
        raise PopdlError(f"{path}: the header has no line that starts with #CHROM; the file is cut short or not a VCF.")
    names = columns.split("\t")
    for found, expected in zip(names, COLUMNS, strict=False):
        if found != expected:
            raise PopdlError(
                f"{path}, line {number}: column {quoted(found)}, expected {expected!r}; "
                f"the columns are {' '.join(COLUMNS)} and the samples, separated by tabs."
            )
    samples = names[len(COLUMNS) :]
    if not samples:
        raise PopdlError(f"{path}, line {number}: the file has no samples; popdl needs the genotypes of individuals.")
    repeated = sorted({name for name in samples if samples.count(name) > 1}) if len(set(samples)) < len(samples) else []
    if repeated:
        raise PopdlError(f"{path}, line {number}: the sample {repeated[0]!r} is there twice; rename one of them.")
    contigs: dict[str, int | None] = {}
    builds: dict[str, None] = {}
    for number, line in lines:
        if line.startswith("##contig=<"):
            tags = dict(re.findall(r'(\w+)=("[^"]*"|[^,>]*)', line.removeprefix("##contig=<")))
            if not tags.get("ID"):
                raise PopdlError(f"{path}, line {number}: a contig without ID: {quoted(line)}.")
            length = tags.get("length", "")
            if length and not (length.isascii() and length.isdigit() and len(length) <= 10):
                raise PopdlError(f"{path}, line {number}: the contig's length {quoted(length)} is not a number.")
            contigs[tags["ID"]] = int(length) if length else None
            if "assembly" in tags:
                builds[tags["assembly"].strip('"')] = None
        elif line.startswith("##reference="):
            builds[line.removeprefix("##reference=")] = None
    text = "\n".join(line for _, line in lines)
    return Header(
        path=path,
        samples=tuple(samples),
        contigs=contigs,
        builds=tuple(builds),
        is_bcf=is_bcf,
        num_lines=lines[-1][0],
        digest=hashlib.sha256(text.encode()).hexdigest(),
    )
