from __future__ import annotations

import dataclasses

import learnable
import numpy as np
import pandas as pd
import pytest
import torch

from popdl import plugins
from popdl.config.transforms import Transforms
from popdl.dataset import open_shards, read_array, read_parameters
from popdl.errors import PopdlError
from popdl.loader import PackedData
from popdl.model import load_model
from popdl.module import PopdlModule, PositionScaling, predict_outputs
from popdl.networks._base import InputShape
from popdl.predict_files import predict_files
from popdl.prediction import example_table, predict_arrays, predict_test, predict_windows
from popdl.prediction_tables import table_columns
from popdl.realism import assess
from popdl.splits import read_splits

REASONS = ["", "", "too few sites", "", "no sites", ""]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return learnable.dataset(tmp_path_factory.mktemp("learnable"))


@pytest.fixture(scope="module")
def models(data, tmp_path_factory):
    return [
        learnable.fit(data, tmp_path_factory.mktemp("trained"), replicate=replicate)["output"] for replicate in (0, 1)
    ]


@pytest.fixture(scope="module")
def windows(data, tmp_path_factory):
    return learnable.windows(tmp_path_factory.mktemp("windows"), data["shards"][0], reasons=REASONS)


def read(path):
    return pd.read_csv(path, sep="\t", na_values=["."], keep_default_na=False)


def test_predictions_are_the_outputs_on_the_natural_scale(models, data):
    model = load_model(models[0])
    packed = PackedData.from_shards(data["shards"])
    rows = np.array([5, 0, 17])
    table = predict_arrays([model], packed, rows)
    import torch

    with torch.no_grad():
        outputs = model.module(*packed.batch(torch.from_numpy(rows))).double().numpy()
    target = model.card["targets"]["size"]
    value = outputs[:, 0] * target["sd"] + target["mean"]
    width = model.card["intervals"]["half_widths"]["size"]
    np.testing.assert_allclose(table["size"], 10**value, rtol=1e-5)
    np.testing.assert_allclose(table["size_low"], 10 ** (value - width), rtol=1e-5)
    np.testing.assert_allclose(table["size_high"], 10 ** (value + width), rtol=1e-5)
    odds = np.exp(outputs[:, 1:3])
    np.testing.assert_allclose(table[["kind_p_even", "kind_p_rare"]], odds / odds.sum(1, keepdims=True), rtol=1e-5)
    assert table["kind"].tolist() == [["even", "rare"][index] for index in outputs[:, 1:3].argmax(1)]


def test_batch_size_makes_no_difference(models, data):
    model = load_model(models[0])
    packed = PackedData.from_shards(data["shards"])
    assert len(packed.num_sites.unique()) > 5
    rows = np.arange(packed.num_examples)
    one, many = (predict_arrays([model], packed, rows, batch_size=size) for size in (1, 64))
    pd.testing.assert_frame_equal(one, many, rtol=1e-5)


def test_several_models_are_averaged_on_the_scale_of_the_target(models, data):
    packed = PackedData.from_shards(data["shards"])
    rows = np.arange(9)
    loaded = [load_model(path) for path in models]
    first, second = (predict_arrays([model], packed, rows) for model in loaded)
    both = predict_arrays(loaded, packed, rows)
    np.testing.assert_allclose(both["size"], np.sqrt(first["size"] * second["size"]))
    np.testing.assert_allclose(both["kind_p_rare"], (first["kind_p_rare"] + second["kind_p_rare"]) / 2)
    widest = max(model.card["intervals"]["half_widths"]["size"] for model in loaded)
    np.testing.assert_allclose(np.log10(both["size_high"] / both["size"]), widest)


def test_the_test_split_is_predicted_beside_its_truth(models, data, tmp_path):
    predict_test(models[0], shards=data["shards"], splits=data["splits"], output=tmp_path / "test.tsv")
    table = read(tmp_path / "test.tsv")
    assert list(table.columns) == [
        *("example", "size_true", "size", "size_low", "size_high"),
        *("kind_true", "kind", "kind_p_even", "kind_p_rare"),
    ]
    rows = np.flatnonzero(read_splits(data["splits"])["split"] == "test")
    assert table["example"].tolist() == rows.tolist()
    truths = read_parameters(open_shards(data["shards"]), ["size", "kind"])[rows]
    assert np.isnan(truths[:, 0]).any()  # a missing truth is "."
    np.testing.assert_array_equal(table["size_true"], truths[:, 0])
    assert table["kind_true"].tolist() == [["even", "rare"][int(kind)] for kind in truths[:, 1]]
    packed = PackedData.from_shards(data["shards"])
    np.testing.assert_allclose(table["size"], predict_arrays([load_model(models[0])], packed, rows)["size"], rtol=1e-6)


def test_windows_with_a_reason_get_no_prediction(models, data, windows, tmp_path):
    predict_windows(models[:1], windows=windows, output=tmp_path / "out.tsv", bed=tmp_path / "out.bed")
    table = read(tmp_path / "out.tsv")
    assert list(table.columns) == [
        *("contig", "start", "end", "n_sites", "size", "size_low", "size_high"),
        *("kind", "kind_p_even", "kind_p_rare", "outside_domain", "domain_percentile", "reason"),
    ]
    assert table["start"].tolist() == [0, 1000, 2000, 3000, 4000, 5000]
    assert table["n_sites"].tolist() == read_array(open_shards(data["shards"]), "num_sites_window")[:6].tolist()
    assert table["reason"].fillna("").tolist() == REASONS
    has_reason = np.array(REASONS) != ""
    assert table.loc[has_reason, "size":"domain_percentile"].isna().all().all()
    assert table.loc[~has_reason, "size":"domain_percentile"].notna().all().all()
    rows = np.flatnonzero(~has_reason)
    expected = predict_arrays([load_model(models[0])], PackedData.from_shards(data["shards"]), rows)
    np.testing.assert_allclose(table["size"][rows], expected["size"], rtol=1e-5)
    reference = load_model(models[0]).card["realism"]
    found = assess(reference, read_array(open_shards(data["shards"]), "statistics")[rows])
    assert table["outside_domain"][rows].tolist() == ["yes" if outside else "no" for outside in found.outside]


def test_sites_that_transforms_leave_out_are_counted_in_every_window(data, windows, tmp_path):
    """Per window, as a loop over its sites counts them; the first 16 sites, and of these the common ones."""
    lists = [{"name": "crop", "sites": 16, "where": "start"}, {"name": "maf", "minimum": 0.3}]
    training = learnable.TRAINING.model_copy(update={"max_epochs": 1})
    model = learnable.fit(data, tmp_path, training=training, transforms=Transforms(train=lists, prediction=lists))
    paths = [model["output"]]
    predict_windows(paths, windows=windows, output=tmp_path / "out.tsv", bed=tmp_path / "out.bed")
    table, bed = read(tmp_path / "out.tsv"), read(tmp_path / "out.bed")
    has_reason = np.array(REASONS) != ""
    assert list(table.columns)[3:5] == ["n_sites", "n_sites_dropped"] and table["n_sites_dropped"].isna().equals(
        pd.Series(has_reason, name="n_sites_dropped")
    )
    pd.testing.assert_series_equal(bed["n_sites_dropped"], table["n_sites_dropped"])
    genotypes, _, mask = PackedData.from_shards([windows], kind="windows").batch(torch.arange(6), values="0/1")
    for row in np.flatnonzero(~has_reason):
        kept = 0
        for site in range(min(int(mask[row].sum()), 16)):
            alleles = [int(allele) for allele in genotypes[row, :, site] if allele >= 0]
            kept += min(sum(alleles), len(alleles) - sum(alleles)) / max(len(alleles), 1) >= 0.3
        assert table["n_sites_dropped"][row] == int(mask[row].sum()) - kept > 0
    loaded = [load_model(path) for path in paths]
    assert table_columns(loaded, windows=True) == list(table.columns)
    examples = example_table(loaded, data["shards"][0])
    assert examples["n_sites_dropped"][0] == table["n_sites_dropped"][0]


def test_bed_has_a_line_per_window(models, windows, tmp_path):
    predict_windows(models[:1], windows=windows, output=tmp_path / "out.tsv", bed=tmp_path / "out.bed")
    table = read(tmp_path / "out.tsv")
    bed = read(tmp_path / "out.bed")
    assert list(bed.columns[:6]) == ["#chrom", "start", "end", "name", "score", "strand"]
    assert list(bed.columns[6:]) == list(table.columns[3:])
    assert (bed["end"] - bed["start"] == 1000).all() and bed["start"].min() == 0
    assert bed["score"].between(0, 1000).all()
    assert (bed["score"][table["reason"].notna()] == 0).all()
    assert bed["name"].tolist() == [f"window_{number}" for number in range(1, 7)]


def test_a_genome_without_any_window_to_predict(models, data, tmp_path):
    windows = learnable.windows(tmp_path, data["shards"][0], reasons=["no sites", "no sites"])
    predict_windows(models, windows=windows, output=tmp_path / "out.tsv", bed=tmp_path / "out.bed")
    table = read(tmp_path / "out.tsv")
    assert table["size"].isna().all() and table["reason"].tolist() == ["no sites"] * 2


def test_data_of_another_encoding_are_refused(models, tmp_path):
    other = learnable.dataset(tmp_path, max_sites=16)
    with pytest.raises(PopdlError, match=r"takes other data: max_sites expected 24, found 16; encode"):
        predict_test(models[0], shards=other["shards"], splits=other["splits"], output=tmp_path / "test.tsv")
    assert not (tmp_path / "test.tsv").exists()


def test_models_with_other_targets_are_not_averaged(models, data):
    first, second = (load_model(path) for path in models)
    card = {**second.card, "targets": {"time": second.card["targets"]["size"]}}
    with pytest.raises(PopdlError, match=r"its targets are time, those of .* are size, kind"):
        predict_arrays(
            [first, dataclasses.replace(second, card=card)], PackedData.from_shards(data["shards"]), np.arange(2)
        )


def vcf(path, *, num_individuals=learnable.HAPLOTYPES // 2, length=3500):
    """A VCF of one contig with a site every 40 bp, and none from 1,000 to 2,000 bp."""
    names = "\t".join(f"ind_{number}" for number in range(num_individuals))
    lines = [
        "##fileformat=VCFv4.2",
        f"##contig=<ID=20,length={length}>",
        '##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">',
        f"#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\t{names}",
    ]
    for position in [*range(40, 1000, 40), *range(2040, length, 40)]:
        genotypes = "\t".join(["0|1", *["0|0"] * (num_individuals - 1)])
        lines.append(f"20\t{position}\t.\tA\tC\t.\tPASS\t.\tGT\t{genotypes}")
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_vcf_is_cut_into_windows_of_the_length_that_the_model_knows(models, tmp_path):
    application = {"windows": {"size": None, "step": None}, "samples": None}
    predict_files(models, [vcf(tmp_path / "genome.vcf")], application=application, seed=1, output=tmp_path / "out")
    table = read(tmp_path / "out.tsv")
    assert table["start"].tolist()[:3] == [0, 1000, 2000]
    assert table["n_sites"].tolist()[:3] == [24, 0, 25]
    assert table["size"].notna().tolist()[:3] == [True, False, True]
    assert table["reason"].notna().tolist()[:3] == [False, True, False]


def test_a_vcf_with_too_few_individuals_is_refused(models, tmp_path):
    genome = vcf(tmp_path / "genome.vcf", num_individuals=3)
    with pytest.raises(PopdlError, match=r"genome\.vcf"):
        predict_files(models, [genome], application={}, seed=1, output=tmp_path / "out")
    assert not (tmp_path / "out.tsv").exists()


@pytest.mark.parametrize("name", plugins.known("networks"))
def test_nothing_to_predict_is_no_error_for_any_network(name, data):
    """Not every layer of torch takes a batch of none."""
    packed = PackedData.from_shards(data["shards"])
    shape = InputShape(packed.num_haplotypes, packed.max_sites, packed.has_positions)
    options = {"name": name, **({"filters": [4]} if name == "flagel" else {})}
    targets = {"size": {"task": "regression", "scale": "log", "mean": 0.0, "sd": 1.0, "classes": []}}
    module = PopdlModule("net", options, shape=shape, targets=targets, position_scaling=PositionScaling(True, 0.0, 1.0))
    assert predict_outputs(module, packed, torch.arange(0), batch_size=4).shape == (0, 1)
