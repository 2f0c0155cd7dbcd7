"""Labels beside the drawn parameters: products of these, and statistics of what was simulated."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from popdl import statistics
from popdl.config.base import suggestion

__all__ = ["check_formula", "check_statistics", "evaluate", "simulated_statistics", "usable_sites"]

TOKEN = re.compile(r"\s*([A-Za-z_]\w*|(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|[*/])\s*")


def check_formula(formula: str, known: Collection[str]) -> None:
    """Refuse what is not a product or quotient of numbers and known names, with a ValueError."""
    for word, _ in _factors(formula):
        if isinstance(word, str) and word not in known:
            raise ValueError(f"{formula!r}: {word} is not a parameter; {suggestion(word, known)}")


def evaluate(formula: str, values: Mapping[str, float]) -> float:
    """Value of a product such as ``4 * population_size * recombination_rate``.

    Returns
    -------
    float
        NaN where a factor is missing, or where it divides by zero.
    """
    product = 1.0
    for word, divides in _factors(formula):
        factor = values[word] if isinstance(word, str) else word
        if divides and factor == 0:
            return math.nan
        product = product / factor if divides else product * factor
    return product


def _factors(formula: str) -> list[tuple[str | float, bool]]:
    """Names and numbers from left to right, each with whether it divides. Nothing is ever executed."""
    tokens: list[str] = []
    end = 0
    while end < len(formula) and (match := TOKEN.match(formula, end)):
        tokens.append(match[1])
        end = match.end()
    operators, operands = tokens[1::2], tokens[0::2]
    if (
        end < len(formula)
        or len(tokens) % 2 == 0
        or any(token in "*/" for token in operands)
        or any(token not in "*/" for token in operators)
    ):
        raise ValueError(
            f"expected numbers and parameters joined by * and /, such as 4 * population_size * recombination_rate, found {formula!r}"
        )
    return [
        (operand if operand[0].isalpha() or operand[0] == "_" else float(operand), operator == "/")
        for operand, operator in zip(operands, ["*", *operators], strict=True)
    ]


def check_statistics(names: Sequence[str], num_haplotypes: int) -> None:
    """Refuse names that are no statistics, with a ValueError."""
    known = statistics.names(num_haplotypes, derived=True)
    for name in names:
        if name not in known:
            raise ValueError(f"{name!r} is not a statistic; {suggestion(name, known)}")


def simulated_statistics(
    names: Sequence[str], genotypes: np.ndarray, positions: np.ndarray, *, sequence_length: float
) -> list[float]:
    """Statistics of all usable sites of a simulated window, by name; the spectrum is unfolded.

    Parameters
    ----------
    genotypes : ndarray of shape (num_sites, num_haplotypes), dtype=int8
    positions : ndarray of shape (num_sites,)
    """
    if not names:
        return []
    usable = usable_sites(genotypes)
    values = statistics.compute(
        genotypes[usable], positions[usable], sequence_length=sequence_length, derived=True
    ).tolist()
    known = statistics.names(genotypes.shape[1], derived=True)
    return [values[known.index(name)] for name in names]


def usable_sites(genotypes: np.ndarray) -> np.ndarray:
    """Which sites have exactly the alleles 0 and 1.

    Parameters
    ----------
    genotypes : ndarray of shape (num_sites, num_haplotypes), dtype=int8

    Returns
    -------
    ndarray of shape (num_sites,), dtype=bool
    """
    if not genotypes.size:
        return np.zeros(len(genotypes), dtype=bool)
    return np.asarray((genotypes.max(axis=1) == 1) & (genotypes == 0).any(axis=1))
