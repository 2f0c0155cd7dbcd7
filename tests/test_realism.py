import json

import numpy as np
import pandas as pd
import pytest

from popdl import in_parts
from popdl.errors import PopdlError
from popdl.realism import LEVELS, assess, compare_windows, fit_reference
from popdl.store import write_shard

NAMES = ["a", "b", "c", "d"]


@pytest.fixture(scope="module")
def simulations():
    generator = np.random.default_rng(1)
    a = generator.normal(10, 2, 4000)
    b = a + generator.normal(0, 0.1, 4000)  # nearly the same as a
    c = generator.lognormal(3, 1, 4000)  # skewed
    return np.column_stack([a, b, c, np.zeros(4000)])


@pytest.fixture(scope="module")
def reference(simulations):
    return fit_reference(simulations, NAMES, domain=0.99)


def test_a_new_simulation_is_outside_as_often_as_promised(simulations, reference):
    generator = np.random.default_rng(2)
    a = generator.normal(10, 2, 4000)
    new = np.column_stack([a, a + generator.normal(0, 0.1, 4000), generator.lognormal(3, 1, 4000), np.zeros(4000)])
    assert assess(reference, simulations).outside.mean() == pytest.approx(0.01, abs=0.001)
    assert assess(reference, new).outside.mean() == pytest.approx(0.01, abs=4 * np.sqrt(0.01 * 0.99 / 4000) + 0.002)


def test_the_reference_does_not_depend_on_how_many_rows_are_looked_at_at_once(simulations, reference, monkeypatch):
    monkeypatch.setattr(in_parts, "ROWS_AT_ONCE", 70)
    found = fit_reference(simulations, NAMES, domain=0.99)
    for key in ("centre", "variances", "residual", "distances", "threshold"):
        assert found[key] == pytest.approx(reference[key], rel=1e-9, abs=1e-12)
    for key in ("quantiles", "standard_deviations", "always_defined"):
        assert found[key] == reference[key]


def test_the_furthest_statistic_is_named(reference):
    result = assess(reference, np.array([[10, 10, 1e6, 0], [10, 10, 20, 0], [-5, -5.3, 20, 0]]))
    assert result.outside.tolist() == [True, False, True]
    assert result.statistic[0] == "c" and result.deviation[0] > 100
    assert result.statistic[2] in "ab" and result.deviation[2] < -5
    assert result.percentile[0] == 100 and result.percentile[1] < 60


def test_a_combination_never_simulated_is_outside_though_each_value_is_ordinary(reference):
    alone = assess(reference, np.array([[12.0, 8.0, 20.0, 0.0]]))
    assert abs(alone.deviation[0]) < 1.5 and alone.outside[0]


def test_any_departure_from_a_constant_is_outside(reference):
    result = assess(reference, np.array([[10, 10, 20, 1e-3], [10, 10, 20, 0]]))
    assert result.outside.tolist() == [True, False]
    assert result.statistic[0] == "d" and np.isinf(result.deviation[0]) and result.percentile[0] == 100


def test_undefined_statistics(simulations):
    statistics = simulations.copy()
    statistics[::10, 0] = np.nan  # undefined in a tenth of the simulations
    reference = fit_reference(statistics, NAMES, domain=0.99)
    window = np.array([[np.nan, 10, 20, 0], [10, np.nan, 20, 0], [np.nan] * 4])
    result = assess(reference, window)
    assert not result.outside[0], "undefined in simulations too"
    assert result.outside[1] and result.statistic[1] == "b", "never undefined in simulations"
    assert result.outside[2] and result.statistic[2] == "" and np.isnan(result.distance[2])


def test_quantiles_are_those_of_numpy(simulations, reference):
    for column, row in zip(simulations.T, reference["quantiles"], strict=True):
        np.testing.assert_allclose(row, np.percentile(column, LEVELS))


def test_the_distance_ignores_units(simulations, reference):
    scale, shift = np.array([1e6, 1e-3, 7.0, 1.0]), np.array([0.0, 5.0, -3.0, 0.0])
    rescaled = fit_reference(simulations * scale + shift, NAMES, domain=0.99)
    windows = simulations[:50] + np.array([0, 0, 1, 0])
    np.testing.assert_allclose(
        assess(reference, windows).distance, assess(rescaled, windows * scale + shift).distance, rtol=1e-6
    )


def test_the_reference_is_json_of_bounded_size(simulations, reference):
    small = fit_reference(simulations[:100], NAMES, domain=0.99)
    large = json.dumps(reference, allow_nan=False)
    assert len(large) < 1.1 * len(json.dumps(small, allow_nan=False))
    back = json.loads(large)
    np.testing.assert_array_equal(assess(back, simulations[:9]).distance, assess(reference, simulations[:9]).distance)


@pytest.mark.parametrize("shape", [(1, 4), (3, 4), (50, 4), (20, 60)])
def test_few_simulations_still_give_a_reference(shape):
    values = np.random.default_rng(3).normal(size=shape)
    names = [f"s{index}" for index in range(shape[1])]
    reference = fit_reference(values, names, domain=0.9)
    result = assess(reference, np.vstack([values, values[:1] + 1e3]))
    assert np.isfinite(result.distance).all() and result.outside[-1]


def test_a_statistic_that_no_simulation_has_is_ignored():
    values = np.random.default_rng(4).normal(size=(50, 2))
    values[:, 1] = np.nan
    reference = fit_reference(values, ["a", "b"], domain=0.99)
    json.dumps(reference, allow_nan=False)
    assert not assess(reference, np.array([[0.0, 3.0]])).outside[0]


def test_the_wrong_number_of_statistics_is_refused(reference):
    with pytest.raises(PopdlError, match="expected the 4 statistics"):
        assess(reference, np.zeros((3, 5)))


@pytest.fixture
def windows(tmp_path, simulations):
    values = simulations[:3].copy()
    values[1, 3] = 0.5
    values[2, 1] = np.nan
    write_shard(
        tmp_path / "windows.zarr",
        kind="windows",
        arrays={"statistics": values, "start": np.array([0, 10, 20]), "end": np.array([10, 20, 30])},
        attributes={"statistics": NAMES, "contigs": ["1", "1", "2"]},
    )
    return tmp_path / "windows.zarr"


def test_the_table_has_a_row_for_each_window_and_statistic(reference, simulations, windows, tmp_path):
    compare_windows(reference, windows=windows, output=tmp_path / "realism.tsv")
    table = pd.read_csv(tmp_path / "realism.tsv", sep="\t", na_values=".")
    assert table["statistic"].tolist() == NAMES * 3
    assert table.groupby("start")["outside_domain"].first().tolist() == ["no", "yes", "yes"]
    np.testing.assert_allclose(table["value"][:4], simulations[0], rtol=1e-5)
    np.testing.assert_allclose(table.loc[0, "simulated_95"], np.percentile(simulations[:, 0], 95), rtol=1e-5)
    assert np.isinf(table.loc[7, "deviation"]) and np.isnan(table.loc[9, "value"])


def test_windows_with_other_statistics_are_refused(windows, tmp_path):
    other = fit_reference(np.random.default_rng(1).normal(size=(50, 2)), ["x", "y"], domain=0.99)
    with pytest.raises(PopdlError, match="encode the windows with the model's own recipe"):
        compare_windows(other, windows=windows, output=tmp_path / "realism.tsv")
    assert not (tmp_path / "realism.tsv").exists()
