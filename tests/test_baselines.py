import json

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import RidgeCV
from threadpoolctl import threadpool_limits

from popdl import in_parts
from popdl.baselines._base import Baseline, apply_baseline, fit_baseline
from popdl.baselines._linear import PENALTIES, fit_ridge
from popdl.baselines._scikit import Standardised
from popdl.config.training import Evaluation, Splits, Target
from popdl.dataset import open_shards, read_array
from popdl.errors import PopdlError
from popdl.plugins import known, load
from popdl.splits import make_splits, read_splits
from popdl.statistics import chosen, names
from popdl.store import write_shard

NAMES = ["segregating_sites", "pi", *(f"sfs_{count}" for count in range(1, 8)), "h1"]
NUM_EXAMPLES = 600


def make_shards(folder, *, names=NAMES, h1_means_nothing=False):
    """Two shards whose spectra say all about `size`, and whose `h1` alone tells the kind; `noise` cannot be told."""
    generator = np.random.default_rng(1)
    size = 10 ** generator.uniform(3.5, 4.5, NUM_EXAMPLES)
    kind = generator.integers(3, size=NUM_EXAMPLES)
    spectrum = generator.poisson(size[:, None] / 20 / np.arange(1, 8))
    h1 = kind + generator.normal(0, 0.1, NUM_EXAMPLES)
    statistics = np.column_stack([spectrum.sum(axis=1), size * 1e-8, spectrum, h1]).astype(float)[:, : len(names)]
    statistics[::50, 1] = np.nan
    if h1_means_nothing:
        statistics[:, -1] = 7
    parameters = np.column_stack([size, kind, generator.uniform(1, 2, NUM_EXAMPLES)]).astype(float)
    parameters[::40, 0] = np.nan  # missing targets
    paths = []
    for shard in range(2):
        rows = slice(300 * shard, 300 * (shard + 1))
        paths.append(folder / f"shard_{shard}")
        write_shard(
            paths[-1],
            kind="dataset",
            arrays={
                "statistics": statistics[rows],
                "parameters": parameters[rows],
                "scenario": np.arange(NUM_EXAMPLES)[rows],
            },
            attributes={
                "statistics": list(names),
                "parameters": ["size", "kind", "noise"],
                "classes": {"kind": ["a", "b", "c"]},
                "first_example": rows.start,
                "num_examples": 300,
                "fingerprint": "x",
            },
        )
    make_splits(
        paths,
        settings=Splits(),
        targets={"size": Target(scale="log"), "kind": Target(task="classification"), "noise": Target()},
        seed=3,
        output=folder / "splits.tsv",
        targets_output=folder / "targets.json",
    )
    return paths


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    return folder, make_shards(folder)


def fit(data, name, output, *, seed=5, statistics=None):
    folder, shards = data
    fit_baseline(
        name,
        shards=shards,
        splits=folder / "splits.tsv",
        targets=folder / "targets.json",
        evaluation=Evaluation(),
        seed=seed,
        output=output,
        statistics=statistics,
    )
    return pd.read_csv(output, sep="\t", na_values=".")


@pytest.fixture(scope="module")
def tables(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("predictions")
    return {name: fit(data, name, folder / f"{name}.tsv") for name in known("baselines")}


def log_error(table):
    return np.sqrt(np.nanmean(np.log10(table["size"] / table["size_true"]) ** 2))


def test_every_table_has_the_columns_and_examples_of_the_test_split(data, tables):
    splits = read_splits(data[0] / "splits.tsv")
    for table in tables.values():
        assert list(table) == [
            "example", "size_true", "size", "size_low", "size_high", "kind_true", "kind", "kind_p_a", "kind_p_b",
            "kind_p_c", "noise_true", "noise", "noise_low", "noise_high",
        ]  # fmt: skip
        np.testing.assert_array_equal(table["example"], splits.loc[splits["split"] == "test", "example"])
        np.testing.assert_allclose(table.filter(like="kind_p_").sum(axis=1), 1)
        assert table["size_true"].isna().sum() == (table["example"] % 40 == 0).sum() > 0
        assert table[["size", "size_low", "size_high"]].notna().all(axis=None)
        assert (table["size_low"] < table["size"]).all() and (table["size"] < table["size_high"]).all()


def test_windows_with_the_statistics_of_test_examples_get_their_predictions(data, tables, tmp_path):
    folder, shards = data
    test = tables["ridge"]["example"].to_numpy()
    statistics = read_array(open_shards(shards), "statistics")[test]
    reasons = ["" if number % 3 else "no sites" for number in range(len(test))]
    start = np.arange(len(test)) * 100
    names = open_shards(shards)[0].attributes["statistics"]

    def windows(name, names, *, read=None):
        attributes = {"statistics": names, "contigs": ["20"] * len(test), "reasons": reasons}
        arrays = {"statistics": statistics, "start": start, "end": start + 100}
        write_shard(tmp_path / name, kind="windows", arrays=arrays, attributes=attributes)
        output = tmp_path / f"{name}.tsv"
        apply_baseline(
            "ridge",
            shards=shards,
            splits=folder / "splits.tsv",
            targets=folder / "targets.json",
            evaluation=Evaluation(),
            seed=5,
            windows=tmp_path / name,
            output=output,
            statistics=read,
        )
        return pd.read_csv(output, sep="\t", na_values=".")

    table, predicted = windows("good", names), np.array([reason == "" for reason in reasons])
    columns = ["size", "size_low", "size_high", "noise", "kind_p_a"]
    np.testing.assert_allclose(table.loc[predicted, columns], tables["ridge"].loc[predicted, columns])
    assert (table.loc[predicted, "kind"] == tables["ridge"].loc[predicted, "kind"]).all()
    assert (
        table.loc[~predicted, columns].isna().all(axis=None) and (table.loc[~predicted, "reason"] == "no sites").all()
    )
    limited = windows("limited", names, read=["sfs"]).loc[predicted, columns]
    np.testing.assert_allclose(
        limited, fit(data, "ridge", tmp_path / "fit.tsv", statistics=["sfs"])[columns][predicted]
    )
    with pytest.raises(PopdlError, match=r"other: its statistics are not those of the dataset"):
        windows("other", [*names[1:], "new"])


def test_the_prior_mean_is_the_mean_on_the_targets_scale(data, tables):
    described = json.loads((data[0] / "targets.json").read_text())
    assert tables["prior_mean"]["size"].to_numpy() == pytest.approx(10 ** described["size"]["mean"])
    assert tables["prior_mean"]["noise"].to_numpy() == pytest.approx(described["noise"]["mean"])
    assert tables["prior_mean"]["kind_p_a"].nunique() == 1


@pytest.mark.parametrize("name", sorted(set(known("baselines")) - {"prior_mean"}))
def test_what_the_statistics_tell_is_learned(tables, name):
    assert log_error(tables[name]) < 0.2 * log_error(tables["prior_mean"])
    if name != "ridge_sfs":
        assert (tables[name]["kind"] == tables[name]["kind_true"]).mean() > 0.95


def test_ridge_sees_the_spectrum_only(tables):
    ridge = tables["ridge_sfs"]
    assert (ridge["kind"] == ridge["kind_true"]).mean() < 0.55, "h1 tells the kind, and is no part of the spectrum"


def test_what_cannot_be_told_is_not_learned(tables):
    for table in tables.values():
        error = ((table["noise"] - table["noise_true"]) ** 2).mean()
        assert error > 0.9 * table["noise_true"].var()


def test_intervals_cover_about_what_they_promise(tables):
    for table in tables.values():
        inside = (table["noise_low"] <= table["noise_true"]) & (table["noise_true"] <= table["noise_high"])
        assert inside.mean() == pytest.approx(0.9, abs=4 * np.sqrt(0.09 * 2 / len(table)))


@pytest.mark.parametrize("name", known("baselines"))
def test_the_same_seed_gives_the_same_bytes(data, name, tmp_path):
    fit(data, name, tmp_path / "a.tsv")
    with threadpool_limits(limits=2):  # whatever the number of threads
        fit(data, name, tmp_path / "b.tsv")
    assert (tmp_path / "a.tsv").read_bytes() == (tmp_path / "b.tsv").read_bytes()


@pytest.mark.parametrize("name", known("baselines"))
def test_a_statistic_that_baselines_do_not_read_changes_nothing(data, name, tmp_path):
    folder = tmp_path / "other"
    folder.mkdir()
    other = folder, make_shards(folder, h1_means_nothing=True)
    tables = []
    for index, each in enumerate((data, other)):
        tables.append(fit(each, name, tmp_path / f"{index}.tsv", statistics=["sfs", "pi"]))
    assert (tmp_path / "0.tsv").read_bytes() == (tmp_path / "1.tsv").read_bytes()
    if name != "prior_mean":
        assert log_error(tables[0]) < 0.5 * tables[0]["size_true"].map(np.log10).std()
        assert (tables[0]["kind"] == tables[0]["kind_true"]).mean() < 0.55, "h1 alone tells the kind"


def test_names_and_how_they_begin():
    assert chosen(NAMES, ["h1", "sfs"]) == [2, 3, 4, 5, 6, 7, 8, 9]
    assert chosen(["sfs_1", "sfs_10", "sfs_1_2", "sfsx"], ["sfs_1"]) == [0, 2]
    assert chosen(NAMES, ["pi", "sfs_7", "pi"]) == [1, 8]


@pytest.mark.parametrize("beginning", ["read", "sfs_", "sf", "sfs_8", ""])
def test_what_stands_for_no_statistic_is_refused(data, tmp_path, beginning):
    message = f"baseline_statistics: no statistic is called '{beginning}' .*known: h1, pi, segregating_sites, sfs$"
    with pytest.raises(PopdlError, match=message):
        fit(data, "ridge", tmp_path / "out.tsv", statistics=["pi", beginning])
    assert not (tmp_path / "out.tsv").exists()


def test_what_baselines_need_is_there():
    for name in known("baselines"):
        chosen(names(10, derived=True), load("baselines", name, Baseline).needs)


def test_ridge_without_a_spectrum_is_refused(tmp_path):
    shards = make_shards(tmp_path, names=["segregating_sites", "pi"])
    with pytest.raises(PopdlError, match="ridge_sfs needs the site-frequency spectrum"):
        fit((tmp_path, shards), "ridge_sfs", tmp_path / "out.tsv")
    assert not (tmp_path / "out.tsv").exists()


def test_an_unknown_baseline_is_refused(data, tmp_path):
    with pytest.raises(PopdlError, match="'forest' is not one of popdl's baselines"):
        fit(data, "forest", tmp_path / "out.tsv")


@pytest.mark.parametrize("name", known("baselines"))
def test_few_examples_and_a_class_seen_once(name):
    statistics = np.random.default_rng(2).normal(size=(12, 2)) + 5
    classes = np.array([0] * 10 + [2, 2])
    baseline = load("baselines", name, Baseline)()
    for labels in (classes, np.zeros(12, dtype=int), np.array([0] * 11 + [2])):
        predict = baseline.fit_classification(
            statistics, labels, num_classes=3, names=["sfs_1", "sfs_2"], generator=np.random.default_rng(1)
        )
        probabilities = predict(statistics)
        assert probabilities.shape == (12, 3)
        assert (probabilities[:, 1] == 0).all()
        np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    for values in (statistics[:, 0], np.zeros(12)):
        predict = baseline.fit_regression(
            statistics, values, names=["sfs_1", "sfs_2"], generator=np.random.default_rng(1)
        )
        assert np.isfinite(predict(statistics[:1])).all()


@pytest.mark.parametrize("name", known("baselines"))
def test_more_classes_than_can_be_held_out(name):
    random = np.random.default_rng(2)
    classes = np.repeat(np.arange(12), 5)
    statistics = classes[:, np.newaxis] + random.normal(0, 0.1, (60, 3)) + 5
    predict = load("baselines", name, Baseline)().fit_classification(
        statistics, classes, num_classes=12, names=["sfs_1", "sfs_2", "sfs_3"], generator=random
    )
    assert predict(statistics).shape == (60, 12)


@pytest.mark.parametrize("name", sorted(set(known("baselines")) - {"prior_mean", "ridge_sfs"}))
def test_undefined_and_constant_statistics(name):
    random = np.random.default_rng(4)
    statistics = np.column_stack([random.normal(size=(300, 3)), np.full(300, 7.0), np.full(300, np.nan)])
    values, classes = statistics[:, 0].copy(), (statistics[:, 0] > 0).astype(int)
    statistics[::7, 1] = np.nan
    baseline = load("baselines", name, Baseline)()
    predicted = baseline.fit_regression(statistics, values, names=list("abcde"), generator=random)(statistics)
    assert np.corrcoef(predicted, values)[0, 1] > 0.9
    predict = baseline.fit_classification(statistics, classes, num_classes=2, names=list("abcde"), generator=random)
    unseen = statistics[:5].copy()
    unseen[:, 2] = np.nan
    unseen[:, 4] = 1.0
    assert np.isfinite(predict(unseen)).all()


def test_standardised_leaves_out_what_does_not_vary():
    statistics = np.column_stack([[1.0, 2, 3, np.nan], np.full(4, 0.1), np.full(4, np.nan), [0, 0, 0, np.inf]])
    standardise = Standardised(statistics)
    found = standardise(statistics)
    assert found.shape == (4, 1)
    assert found[:3, 0] == pytest.approx([-np.sqrt(1.5), 0, np.sqrt(1.5)]) and found[3, 0] == 0
    with pytest.raises(PopdlError, match="all 2 statistics are constant or undefined"):
        Standardised(statistics[:, 1:3])


@pytest.mark.parametrize("transform", [lambda x: x, np.log])
def test_ridge_recovers_what_is_linear_in_statistics_or_their_logarithms(transform):
    random = np.random.default_rng(3)
    statistics = np.exp(random.normal(size=(1000, 4)))
    values = transform(statistics) @ [1.0, -2, 0.5, 0]
    predict = load("baselines", "ridge", Baseline)().fit_regression(
        statistics[:800], values[:800], names=list("abcd"), generator=random
    )
    np.testing.assert_allclose(predict(statistics[800:]), values[800:], atol=0.01 * values.std())


@pytest.mark.parametrize("shape", [(1500, 12), (40, 60)])
@pytest.mark.parametrize("rows_at_once", [7, 2000])
def test_ridge_in_parts_is_that_of_scikit_learn(monkeypatch, shape, rows_at_once):
    monkeypatch.setattr(in_parts, "ROWS_AT_ONCE", rows_at_once)
    random = np.random.default_rng(4)
    features = random.normal(size=shape)
    features[:, 1] = features[:, 0]
    features[:, 2] = features[:, 0] + 1e-9 * random.normal(size=shape[0])
    values = 3 + features @ random.normal(size=shape[1]) / 10 + random.normal(size=shape[0])
    expected = RidgeCV(alphas=PENALTIES).fit(features, values)
    predict = fit_ridge(lambda rows: rows, features, values)
    np.testing.assert_allclose(predict(features[:9]), expected.predict(features[:9]), rtol=1e-9)


@pytest.mark.parametrize("name", known("baselines"))
def test_baselines_do_not_depend_on_how_many_rows_are_looked_at_at_once(data, tmp_path, monkeypatch, name):
    tables = []
    for rows_at_once in (2**14, 33):
        monkeypatch.setattr(in_parts, "ROWS_AT_ONCE", rows_at_once)
        tables.append(fit(data, name, tmp_path / "table.tsv"))
    pd.testing.assert_frame_equal(*tables, rtol=1e-6)
