"""The text that ms prints, and with it msms, discoal, scrm and many others: read replicate by replicate, and written.

Hudson (2002, Bioinformatics 18:337) describes the format: a command line and seeds, then for each replicate a line that
starts with ``//``, the number of sites, their positions as fractions of the window, and one line of 0s and 1s for each
haplotype. A command line may stand at the top of the file, or before every replicate where outputs were joined.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np

from popdl.errors import PopdlError
from popdl.simulators._base import Example
from popdl.text_files import quoted

__all__ = ["Replicate", "count_replicates", "flag_value", "read_replicates", "replicate_text"]

START = b"//"
_OPTION = re.compile(rb"\s--?[A-Za-z]")
_ZERO = ord("0")


@dataclass(frozen=True)
class Replicate:
    """One replicate, with what was said of it."""

    example: Example
    command: str
    """The command line above it; empty where there is none."""
    values: tuple[str, ...]
    """What follows ``//``: the values that ms puts in the place of each ``tbs`` of the command line."""
    where: str
    """File and line of its ``//``, for messages."""


def count_replicates(lines: Iterable[bytes]) -> int:
    """How many replicates a text holds."""
    return sum(line.startswith(START) for line in lines)


def read_replicates(
    lines: Iterable[bytes], *, num_haplotypes: int, sequence_length: float, where: str, first: int = 0
) -> Iterator[Replicate]:
    """Read the replicates of a text from number ``first`` on.

    Positions that are equal in print are of different sites, rounded: they are moved apart by the smallest steps that a
    float can make, since equal positions elsewhere in popdl mean several alleles of one site.

    Parameters
    ----------
    lines
        The text.
    num_haplotypes
        Haplotypes in each replicate.
    sequence_length
        Length of the window in bp, by which positions are multiplied.
    where
        Where the text comes from, for messages.
    first
        Number of the first replicate that is wanted; those before it are not checked.

    Raises
    ------
    PopdlError
        If the text is not of this form; the message names the line.
    """
    numbered = enumerate(lines, start=1)
    command = b""
    replicate = 0
    num_sites = 0  # of a replicate whose last line was just read
    for number, line in numbered:
        if line.startswith(START):
            if replicate >= first:
                place = f"{where}, line {number}"
                values = tuple(line[len(START) :].decode("utf-8", "replace").split())
                example = _example(numbered, num_haplotypes, sequence_length, where=where, start=number)
                yield Replicate(example, command.decode("utf-8", "replace"), values, place)
                num_sites = len(example.positions)
            replicate += 1
            continue
        if num_sites and len(row := line.strip()) == num_sites and not row.strip(b"01"):
            raise PopdlError(
                f"{where}, line {number}: haplotype {num_haplotypes + 1}, but num_haplotypes is {num_haplotypes}; correct that number."
            )
        num_sites = 0
        if _OPTION.search(line):
            command = line.strip()


def flag_value(replicate: Replicate, flag: str, number: int) -> float:
    """A value that the command line of a replicate gives after an option.

    Parameters
    ----------
    replicate
        The replicate.
    flag
        The option, such as ``-t``.
    number
        Which of its values, from 1.

    Raises
    ------
    PopdlError
        If there is no such option or it has no such number; where ``tbs`` stands, its value is taken from the ``//`` line.
    """
    words = replicate.command.split()
    if flag not in words:
        shown = f"the command line {replicate.command!r}" if words else "the text, which has no command line"
        raise PopdlError(f"{replicate.where}: there is no {flag} in {shown}; name another flag, or give a table.")
    index = words.index(flag) + number
    word = words[index] if index < len(words) else ""
    if word == "tbs":
        earlier = words[:index].count("tbs")
        word = replicate.values[earlier] if earlier < len(replicate.values) else "tbs"
    try:
        return float(word)
    except ValueError:
        raise PopdlError(
            f"{replicate.where}: value {number} of {flag} is {word!r} in {replicate.command!r}, expected a number."
        ) from None


def _example(
    numbered: Iterator[tuple[int, bytes]], num_haplotypes: int, sequence_length: float, *, where: str, start: int
) -> Example:
    """The sites of the replicate whose ``//`` was just read."""
    for number, line in numbered:  # trees, times and probabilities may stand first
        if line.startswith(b"segsites:"):
            break
        if line.startswith(START):
            raise PopdlError(f"{where}, line {number}: a second '//' after that of line {start}, expected 'segsites:'.")
    else:
        raise PopdlError(f"{where}: the text ends after '//' in line {start}, expected 'segsites:'; it is cut short.")
    text = line.removeprefix(b"segsites:").strip()
    if not (text.isdigit() and len(text) <= 10):
        raise PopdlError(f"{where}, line {number}: segsites {quoted(text)}, expected a whole number.")
    num_sites = int(text)
    if num_sites == 0:
        return Example(np.empty((0, num_haplotypes), dtype=np.int8), np.empty(0))
    for number, line in numbered:
        if line.startswith(b"positions:"):
            break
        if line.startswith(START):
            raise PopdlError(
                f"{where}, line {number}: a second '//' after that of line {start}, expected 'positions:'."
            )
    else:
        raise PopdlError(
            f"{where}: the text ends before the positions of the replicate in line {start}; it is cut short."
        )
    positions = _positions(line, num_sites, sequence_length, where=f"{where}, line {number}")
    rows: list[bytes] = []
    for number, line in islice(numbered, num_haplotypes):
        row = line.strip()
        if len(row) != num_sites:
            raise PopdlError(
                f"{where}, line {number}: {quoted(row)} has {len(row)} characters, expected haplotype {len(rows) + 1} of "
                f"{num_haplotypes} (num_haplotypes) with {num_sites} sites (segsites)."
            )
        rows.append(row)
    if len(rows) < num_haplotypes:
        raise PopdlError(
            f"{where}: the text ends after {len(rows)} of {num_haplotypes} haplotypes of the replicate in line {start}; "
            "it is cut short, or num_haplotypes is too high."
        )
    alleles = np.frombuffer(b"".join(rows), dtype=np.uint8).reshape(num_haplotypes, num_sites) - _ZERO
    if alleles.max() > 1:
        row_index, site = (int(index) for index in np.argwhere(alleles > 1)[0])
        raise PopdlError(
            f"{where}, line {number - num_haplotypes + 1 + row_index}: allele {chr(rows[row_index][site])!r} at site {site + 1}, "
            "expected 0 or 1."
        )
    return Example(np.ascontiguousarray(alleles.T).astype(np.int8), positions)


def _positions(line: bytes, num_sites: int, sequence_length: float, *, where: str) -> np.ndarray:
    words = line.split()[1:]
    if len(words) != num_sites:
        raise PopdlError(f"{where}: {len(words)} positions, expected {num_sites} (segsites).")
    try:
        fractions = np.array(words, dtype=np.float64)
    except ValueError as error:
        raise PopdlError(f"{where}: a position is not a number: {error}.") from None
    if not (fractions >= 0).all() or not (fractions <= 1).all():
        raise PopdlError(f"{where}: positions must be fractions of the window, from 0 to 1; found others.")
    if (np.diff(fractions) < 0).any():
        raise PopdlError(f"{where}: positions must not decrease.")
    return _apart(fractions * sequence_length, sequence_length)


def _apart(positions: np.ndarray, sequence_length: float) -> np.ndarray:
    """Move equal positions apart by the spacing of floats near the end of the window, staying inside it."""
    new = np.diff(positions, prepend=-1.0) > 0
    if new.all():
        return positions
    starts = np.flatnonzero(new)
    rank = np.arange(len(positions)) - np.repeat(starts, np.diff(starts, append=len(positions)))
    step = np.spacing(sequence_length)
    from_end = np.arange(len(positions))[::-1]
    return np.minimum(positions + rank * step, sequence_length - from_end * step)


def replicate_text(example: Example, *, sequence_length: float) -> str:
    """A replicate as ms prints it, with positions to 17 digits, so that none is lost."""
    num_sites = len(example.positions)
    lines = ["//", f"segsites: {num_sites}"]
    if num_sites:
        lines.append("positions: " + " ".join(f"{position / sequence_length:.17g}" for position in example.positions))
        lines += [bytes(row).decode("ascii") for row in (example.genotypes.T + _ZERO).astype(np.uint8)]
    return "\n".join([*lines, "", ""])
