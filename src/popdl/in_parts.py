"""Sums and decompositions over many rows, some of them at a time: what they need beside the rows does not grow with their number.

Rows that fit into one part give the same numbers, to the last bit, as all at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np

__all__ = ["ROWS_AT_ONCE", "parts", "total", "triangle"]

ROWS_AT_ONCE = 2**14
"""Of 60 numbers each: 8 MB."""


def parts(rows: np.ndarray) -> Iterator[np.ndarray]:
    """Views of a few rows after each other; one part without rows where there are none."""
    for first in range(0, max(len(rows), 1), ROWS_AT_ONCE):
        yield rows[first : first + ROWS_AT_ONCE]


def total(rows: np.ndarray, of: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Sum over parts of what a function makes of each."""
    return np.asarray(sum(of(part) for part in parts(rows)))


def triangle(matrices: Iterable[np.ndarray]) -> np.ndarray:
    """A small matrix with the singular values and right singular vectors of matrices that lie below each other.

    The triangular factor of each is joined to the next (Demmel et al. 2012, SIAM J. Sci. Comput. 34: A206), which loses no
    digits, as products of a matrix with itself would. A single matrix is given back as it is.
    """
    joined: np.ndarray | None = None
    for matrix in matrices:
        joined = matrix if joined is None else np.asarray(np.linalg.qr(np.concatenate([joined, matrix]), mode="r"))
    assert joined is not None
    return joined
