"""Sums and decompositions over rows that are looked at a few at a time."""

import numpy as np
import pytest

from popdl import in_parts


@pytest.fixture
def rows():
    return np.random.default_rng(1).normal(size=(1000, 5)) * [1, 10, 100, 1e-6, 0]


@pytest.mark.parametrize("rows_at_once", [1, 7, 1000, 2**14])
def test_parts_are_all_rows_in_order(rows, monkeypatch, rows_at_once):
    monkeypatch.setattr(in_parts, "ROWS_AT_ONCE", rows_at_once)
    found = list(in_parts.parts(rows))
    assert all(len(part) <= rows_at_once and part.base is rows for part in found)
    np.testing.assert_array_equal(np.concatenate(found), rows)
    np.testing.assert_allclose(
        in_parts.total(rows, lambda part: part.sum(axis=0)), rows.sum(axis=0), rtol=1e-9, atol=1e-12
    )
    assert [len(part) for part in in_parts.parts(rows[:0])] == [0]


@pytest.mark.parametrize("rows_at_once", [1, 7, 999])
def test_a_triangle_has_the_singular_values_and_directions_of_all_rows(rows, monkeypatch, rows_at_once):
    monkeypatch.setattr(in_parts, "ROWS_AT_ONCE", rows_at_once)
    small = in_parts.triangle(in_parts.parts(rows))
    assert small.shape == (5, 5)
    _, values, directions = np.linalg.svd(small)
    _, expected, expected_directions = np.linalg.svd(rows, full_matrices=False)
    # The smallest is 10⁻⁸ of the largest: the root of a product of the matrix with itself would have lost it.
    np.testing.assert_allclose(values[:4], expected[:4], rtol=1e-7)
    np.testing.assert_allclose(np.abs(directions[:4] @ expected_directions[:4].T), np.eye(4), atol=1e-7)
