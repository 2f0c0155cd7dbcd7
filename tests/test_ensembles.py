"""Ensembles of replicates: what they predict, how wide their intervals are, and that nobody swaps a member."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import fabricated
import learnable
import numpy as np
import pandas as pd
import pytest

from popdl.dataset import open_shards, read_parameters
from popdl.ensembles import load_models
from popdl.errors import PopdlError
from popdl.intervals import half_width
from popdl.loader import PackedData
from popdl.model import load_model
from popdl.outcomes import read_outcomes
from popdl.plots.figures import make_figures
from popdl.prediction import combine_replicates, predict_arrays, predict_test, predict_windows
from popdl.report import write_report
from popdl.splits import read_splits


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return learnable.dataset(tmp_path_factory.mktemp("learnable"))


@pytest.fixture(scope="module")
def members(data, tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp("trained")
    paths = []
    for replicate in range(3):
        trained = learnable.fit(data, folder / f"run_{replicate}", replicate=replicate)
        paths.append(folder / f"{replicate}.safetensors")
        shutil.copy(trained["output"], paths[-1])
    return paths


@pytest.fixture(scope="module")
def ensemble(data, members) -> Path:
    path = members[0].with_name("ensemble.json")
    combine_replicates(members, shards=data["shards"], splits=data["splits"], output=path)
    return path


def read(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, sep="\t", na_values=["."], keep_default_na=False)


def test_intervals_are_calibrated_for_the_average(data, members, ensemble):
    rows = np.flatnonzero(read_splits(data["splits"])["split"] == "validation")
    packed = PackedData.from_shards(data["shards"])
    alone = [predict_arrays([load_model(path)], packed, rows) for path in members]
    average = np.mean([np.log10(table["size"]) for table in alone], axis=0)
    truth = np.log10(read_parameters(open_shards(data["shards"]), ["size"])[rows, 0])
    models, half_widths = load_models([ensemble])
    assert [model.path for model in models] == members
    assert half_widths == {"size": pytest.approx(half_width(truth - average, 0.9))}
    assert half_widths["size"] < max(model.card["intervals"]["half_widths"]["size"] for model in models)
    together = predict_arrays(models, packed, rows, half_widths=half_widths)
    inside = (together["size_low"] <= 10**truth) & (10**truth <= together["size_high"])
    known = np.isfinite(truth)
    assert inside[known].mean() >= 0.9


def test_an_ensemble_predicts_like_a_model(data, members, ensemble, tmp_path):
    predict_test(ensemble, shards=data["shards"], splits=data["splits"], output=tmp_path / "together.tsv")
    tables = []
    for path in members:
        predict_test(path, shards=data["shards"], splits=data["splits"], output=tmp_path / "alone.tsv")
        tables.append(read(tmp_path / "alone.tsv"))
    together = read(tmp_path / "together.tsv")
    np.testing.assert_allclose(np.log10(together["size"]), np.mean([np.log10(t["size"]) for t in tables], axis=0))
    np.testing.assert_allclose(together["kind_p_rare"], np.mean([t["kind_p_rare"] for t in tables], axis=0))
    width = json.loads(ensemble.read_text())["intervals"]["half_widths"]["size"]
    np.testing.assert_allclose(np.log10(together["size_high"] / together["size_low"]), 2 * width)

    windows = learnable.windows(tmp_path, data["shards"][0], reasons=["", "", ""])
    outputs = {"output": tmp_path / "windows.tsv", "bed": tmp_path / "windows.bed"}
    predict_windows([ensemble], windows=windows, **outputs)
    table = read(outputs["output"])
    np.testing.assert_allclose(np.log10(table["size_high"] / table["size_low"]), 2 * width, rtol=1e-4)


def test_what_is_no_ensemble_is_refused(members, ensemble, tmp_path):
    for path in members[:2]:
        shutil.copy(path, tmp_path / path.name)
    moved = tmp_path / "ensemble.json"
    shutil.copy(ensemble, moved)
    with pytest.raises(PopdlError, match=r"2\.safetensors: the model cannot be read: No such file"):
        load_models([moved])
    shutil.copy(members[0], tmp_path / members[2].name)
    with pytest.raises(PopdlError, match=r"2\.safetensors: this is not the model that the ensemble .* was made of"):
        load_models([moved])
    with pytest.raises(PopdlError, match="an ensemble predicts alone"):
        load_models([members[0], ensemble])
    with pytest.raises(PopdlError, match="the ensemble cannot be read: No such file"):
        load_models([tmp_path / "absent.json"])
    values = json.loads(ensemble.read_text())
    elsewhere = {**values, "members": [{**member, "file": "../" + member["file"]} for member in values["members"]]}
    for content, message in (
        ("{", "found something else"),
        ("[]", "expected an ensemble of popdl"),
        (json.dumps({**values, "format_version": 2}), "format_version: .*of at most 1"),
        (json.dumps(elsewhere), "members.*file: .*matches the pattern"),
    ):
        moved.write_text(content)
        with pytest.raises(PopdlError, match=message):
            load_models([moved])


def test_the_report_shows_replicates_and_their_ensemble(tmp_path):
    study = fabricated.study(training={"replicates": 3})
    errors = {f"exchangeable/{number}": 0.2 + 0.01 * number for number in range(3)}
    errors |= {f"cnn/{number}": 0.4 for number in range(3)} | {"exchangeable/ensemble": 0.15, "cnn/ensemble": 0.35}
    errors |= {"prior_mean": 1.0, "ridge_sfs": 0.5, "boosted_trees": 0.45}
    results = fabricated.fabricate(tmp_path / "results", study, errors=errors)
    make_figures(results=results.folder, study=study, output=results.figures)
    write_report(results=results.folder, study=study, output=results.report)
    metrics = json.loads(results.metrics.read_text())
    assert metrics["best_network"] == "exchangeable/0"  # the better ensemble is not a candidate
    assert metrics["models"]["exchangeable/ensemble"]["kind"] == "ensemble"
    assert {row["network"] for row in metrics["comparisons"]} >= {"exchangeable/ensemble", "cnn/ensemble"}
    outcomes = read_outcomes(results.folder, study)
    assert outcomes.ensembles == ["exchangeable/ensemble", "cnn/ensemble"] and len(outcomes.networks) == 6
    assert "exchangeable/ensemble\tensemble\trecent_size" in results.metrics_table.read_text()
    page = results.report.read_text()
    assert "Replicates and their ensemble" in page and 'exchangeable/ensemble <span class="small">of 3' in page
    drawn = pd.read_csv(results.figures / "baselines.tsv", sep="\t")
    assert set(drawn["kind"]) == {"network", "ensemble", "baseline"}
    assert (results.figures / "parity_cnn_ensemble.png").is_file()
