"""Lists of transforms: trained with, recorded in the model, applied in prediction."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import learnable
import numpy as np
import pandas as pd
import pytest
import torch
from crafted import edited

from popdl import seeds, training
from popdl.config.transforms import Transforms
from popdl.encoding import Encoder
from popdl.errors import PopdlError
from popdl.loader import PackedData
from popdl.model import load_model, read_card
from popdl.module import PositionScaling
from popdl.prediction import predict_arrays
from popdl.splits import read_splits
from popdl.transforms._pipeline import Pipeline, Pipelines

TRANSFORMS = Transforms(
    train=[
        {"name": "subsample", "individuals": [2, 3]},
        "polymorphic",
        {"name": "crop", "sites": 16, "where": "random"},
        {"name": "flip_polarity", "share": 0.5},
        {"name": "missingness", "share": [0, 0.1]},
    ],
    prediction=[{"name": "subsample", "individuals": 3}, "polymorphic", {"name": "crop", "sites": 16}],
)
TARGETS = {
    "size": {"task": "regression", "scale": "log", "mean": 1.0, "sd": 2.0},
    "place": {"task": "regression", "scale": "linear", "mean": 500.0, "sd": 300.0},
    "kind": {"task": "classification", "scale": "linear", "mean": None, "sd": None},
}
PLUGIN = """
from dataclasses import replace
from popdl.transforms._base import Transform


class Mine(Transform):
    \"\"\"Turn the matrix round.\"\"\"

    class Settings(Transform.Settings):
        strength: int = 2

    def __call__(self, examples, generator):
        return replace(examples, genotypes=examples.genotypes.flip(1))
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return learnable.dataset(tmp_path_factory.mktemp("learnable"))


@pytest.fixture(scope="module")
def packed(data):
    return PackedData.from_shards(data["shards"])


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    return learnable.fit(data, tmp_path_factory.mktemp("trained"), transforms=TRANSFORMS)


def build(packed: PackedData, **lists: Any) -> Pipelines:
    return Pipelines.build(Transforms(**lists), encoder=Encoder.from_recipe(packed.encoding), targets=TARGETS)


def test_an_interrupted_training_with_transforms_ends_with_the_same_bytes(data, trained, tmp_path, monkeypatch):
    save = training.save_checkpoint

    def save_and_fail(folder, module, optimizer, progress, **rest):
        save(folder, module, optimizer, progress, **rest)
        if progress.epoch == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(training, "save_checkpoint", save_and_fail)
    with pytest.raises(KeyboardInterrupt):
        learnable.fit(data, tmp_path, transforms=TRANSFORMS)
    monkeypatch.undo()
    resumed = learnable.fit(data, tmp_path, transforms=TRANSFORMS)
    assert resumed["output"].read_bytes() == trained["output"].read_bytes()
    losses = [pd.read_csv(paths["history"])[["train_loss", "validation_loss"]] for paths in (trained, resumed)]
    pd.testing.assert_frame_equal(*losses, check_exact=True)


def test_other_transforms_give_other_weights(data, trained, tmp_path):
    other = TRANSFORMS.model_copy(update={"train": [*TRANSFORMS.train[:-2], TRANSFORMS.train[-1]]})
    assert (
        read_card(learnable.fit(data, tmp_path, transforms=other)["output"])["weights_sha256"]
        != (read_card(trained["output"])["weights_sha256"])
    )


def test_the_card_records_every_list(trained):
    card = read_card(trained["output"])
    assert card["transforms"]["validation"] == card["transforms"]["prediction"]
    assert [part["name"] for part in card["transforms"]["train"]] == [
        *("subsample", "polymorphic", "crop", "flip_polarity", "missingness")
    ]
    crop = {"name": "crop", "options": {"sites": 16, "length": None, "where": "centre"}, "source": None, "sha256": None}
    assert card["transforms"]["prediction"][2] == crop
    assert card["shape"] == {"num_haplotypes": 6, "max_sites": 16, "has_positions": True, "distances": True}


def test_a_study_without_transforms_has_none_in_its_card(data, tmp_path):
    settings = learnable.TRAINING.model_copy(update={"max_epochs": 1})
    assert "transforms" not in read_card(learnable.fit(data, tmp_path, training=settings)["output"])


def test_predictions_use_the_models_transforms_and_no_neighbours(trained, packed):
    model = load_model(trained["output"])
    rows = np.arange(packed.num_examples)
    tables = [predict_arrays([model], packed, rows, batch_size=size) for size in (1, 7, 120)]
    for other in tables[1:]:
        numbers = [table.select_dtypes("number") for table in (tables[0], other)]
        pd.testing.assert_frame_equal(*numbers, rtol=1e-4)
    batch = model.module.batch(packed, torch.from_numpy(rows))
    assert batch.genotypes.shape == (120, 6, 16)
    outputs = model.module(*batch)
    raw = model.module.transforms
    assert raw is not None and torch.equal(batch.genotypes, raw.batch(packed, torch.from_numpy(rows)).genotypes)
    found = outputs[:, 0].double() * model.card["targets"]["size"]["sd"] + model.card["targets"]["size"]["mean"]
    np.testing.assert_allclose(tables[2]["size"], 10 ** found.detach().numpy(), rtol=1e-4)


def test_validation_loss_and_intervals_are_those_of_predictions(data, trained, packed):
    model = load_model(trained["output"])
    rows = np.flatnonzero(read_splits(data["splits"])["split"] == "validation")
    table = predict_arrays([model], packed, rows)
    assert np.all(table["size_low"] < table["size_high"])
    history = pd.read_csv(trained["history"])
    assert model.card["validation_loss"] == history["validation_loss"].min()


@pytest.mark.parametrize("view", ["concat", "product"])
def test_views_are_trained_and_predicted(data, packed, tmp_path, view):
    lists = {
        "train": [{"name": "crop", "sites": 10, "where": "random"}, view],
        "prediction": [{"name": "crop", "sites": 10}, view],
    }
    settings = learnable.TRAINING.model_copy(update={"max_epochs": 1})
    options = {"name": "mlp", "widths": [8]}
    outputs = learnable.fit(data, tmp_path, training=settings, options=options, transforms=Transforms(**lists))
    model = load_model(outputs["output"])
    assert model.card["shape"] == {"num_haplotypes": 8 + (view == "concat"), "max_sites": 10, "has_positions": False}
    assert (model.card["positions"]["mean"] == 0) == (view == "product")
    assert len(predict_arrays([model], packed, np.arange(20)).dropna()) == 20


def test_a_plugins_source_travels_along_and_must_be_the_same(data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(PLUGIN)
    entry = {"name": "mine.py:Mine", "strength": 3}
    settings = learnable.TRAINING.model_copy(update={"max_epochs": 1})
    lists = Transforms(train=[entry], prediction=[entry])
    path = learnable.fit(data, tmp_path, training=settings, transforms=lists)["output"]
    (recorded,) = read_card(path)["transforms"]["prediction"]
    assert (recorded["source"], recorded["options"]) == (PLUGIN, {"strength": 3})
    load_model(path)
    Path("mine.py").write_text(PLUGIN + "\n# changed\n")
    with pytest.raises(PopdlError, match=r"needs code of its author"):
        load_model(path)


def test_a_plugin_that_only_trains_is_not_needed_to_predict(data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(PLUGIN)
    settings = learnable.TRAINING.model_copy(update={"max_epochs": 1})
    lists = Transforms(train=["mine.py:Mine"])
    path = learnable.fit(data, tmp_path, training=settings, transforms=lists)["output"]
    Path("mine.py").unlink()
    assert read_card(path)["transforms"]["train"][0]["source"] == PLUGIN
    load_model(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "crp", "options": {}}, "its transforms are not valid: .*'crp' is not one of popdl's transforms"),
        ({"name": "crop", "options": {"sites": "x"}}, "its transforms are not valid"),
        ({"name": "crop", "options": {"sites": 10**9}}, "its transforms are not valid.*more than there are"),
        ({"name": "crop", "options": {"sites": 16, "where": "random"}}, "chance is for training alone"),
        ({"name": "crop", "options": {"sites": 15}}, "the shape in its card contradict"),
        ({"name": "polymorphic", "options": {}}, "the shape in its card contradict"),
        ({"name": "/etc/passwd.py:Evil", "options": {}}, "does not carry the source of '/etc/passwd"),
        ({"name": 3, "options": {}}, r"transforms\.prediction\.2\.name"),
    ],
)
def test_hostile_transforms_are_refused(trained, tmp_path, change, message):
    path = tmp_path / "model.safetensors"
    edited(trained["output"], path, lambda card: card["transforms"]["prediction"][2].update(change))
    with pytest.raises(PopdlError, match=message):
        load_model(path)


# Batches.


@pytest.mark.parametrize("style", ["0/1", "-1/1"])
def test_alleles_are_written_as_the_encoding_says_at_the_very_end(tmp_path, style):
    from test_loader import write_shards

    plain = PackedData.from_shards(write_shards(tmp_path / "plain", missing_from=0))
    data = PackedData.from_shards(write_shards(tmp_path / "written", missing_from=0, values=style))
    crop = [{"name": "crop", "sites": 5}]
    rows = torch.arange(20)
    expected = build(plain, prediction=crop).prediction.batch(plain, rows)
    found = build(data, prediction=crop).prediction.batch(data, rows)
    code = {"0/1": {-1: -1, 0: 0, 1: 1}, "-1/1": {-1: 0, 0: -1, 1: 1}}[style]
    real = expected.mask.unsqueeze(1).expand_as(expected.genotypes)
    assert found.genotypes[real].tolist() == [code[int(allele)] for allele in expected.genotypes[real].tolist()]
    assert not torch.any(found.genotypes[~real]) and not torch.any(torch.signbit(found.genotypes[~real]))
    assert torch.equal(found.mask, expected.mask)


def test_without_transforms_batches_are_the_loaders(packed):
    pipelines = build(packed)
    rows, truths = torch.arange(9), torch.randn(9, 3)
    batch, wanted = pipelines.train.training_batch(packed, rows, truths, generator=None)
    assert wanted is truths
    for found, expected in zip(batch, packed.batch(rows), strict=True):
        assert torch.equal(found, expected)  # type: ignore[arg-type]


def test_only_the_targets_named_turn_with_the_genome(tmp_path):
    from test_loader import write_shards

    data = PackedData.from_shards(write_shards(tmp_path, positions="absolute"))
    reformat = {"name": "reformat", "to": "relative"}
    train = build(data, train=[{"name": "rotate", "targets": ["place"]}, reformat], prediction=[reformat]).train
    truths = torch.randn(20, 3)
    truths[4, 1] = torch.nan
    rows = torch.arange(20)
    generator = train.generator(5, 3, device=data.device)
    batch, wanted = train.training_batch(data, rows, truths, generator=generator)
    assert torch.equal(wanted[:, [0, 2]], truths[:, [0, 2]]) and wanted[4, 1].isnan()
    moved = ((wanted[:, 1] - truths[:, 1]) * 300).double() % 1000
    positions = data.batch(rows).positions
    assert positions is not None and batch.positions is not None
    known = [row for row in range(20) if row != 4 and batch.mask[row].any()]
    assert len(known) > 10
    for row in known:
        real = batch.mask[row]
        expected = np.sort((positions[row][real].double().numpy() + moved[row].item()) % 1000)
        np.testing.assert_allclose(batch.positions[row][real] * 1000, expected, atol=0.05)
    natural = wanted[:, 1] * 300 + 500
    assert torch.all((natural[natural.isfinite()] > -0.01) & (natural[natural.isfinite()] < 1000.01))


def test_steps_have_chances_of_their_own(packed):
    train = build(packed, train=[{"name": "flip_polarity", "of": "sites"}]).train
    rows = torch.arange(50)
    found = [
        train.batch(packed, rows, generator=train.generator(seed, step, device=packed.device)).genotypes
        for seed, step in ((1, 0), (1, 0), (1, 1), (2, 0))
    ]
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2]) and not torch.equal(found[0], found[3])
    assert not torch.equal(found[2], found[3])


def test_position_scaling_is_that_of_what_networks_will_see(packed):
    steps = [{"name": "subsample", "individuals": 1}, "polymorphic"]
    pipelines = build(packed, train=steps, prediction=steps)
    rows = torch.arange(0, 120, 2)

    def generator():
        return pipelines.train.generator(7, device=packed.device)

    scaling = PositionScaling.fit(packed, rows, transforms=pipelines.train, generator=generator())
    assert scaling == PositionScaling.fit(packed, rows, transforms=pipelines.train, generator=generator())
    assert scaling != PositionScaling.fit(packed, rows) and scaling is not None and scaling.log1p
    batch = pipelines.train.batch(packed, rows[:64], generator=generator())
    assert batch.positions is not None
    seen = batch.positions[batch.mask].double().log1p()
    assert scaling.mean == pytest.approx(seen.mean().item()) and scaling.sd == pytest.approx(
        seen.std(correction=0).item()
    )
    to_relative = [{"name": "reformat", "to": "relative"}]
    relative = build(packed, train=to_relative, prediction=to_relative).train
    assert PositionScaling.fit(packed, rows, transforms=relative).log1p is False  # type: ignore[union-attr]


def test_a_model_scales_positions_as_training_shows_them(data, trained, packed):
    rows = torch.from_numpy(np.flatnonzero(read_splits(data["splits"])["split"] == "train"))
    train = build(packed, **TRANSFORMS.model_dump()).train
    run_seed = int(seeds.generator(3, "training", 0, 0).integers(2**63))
    generator = train.generator(run_seed, device=packed.device)
    scaling = PositionScaling.fit(packed, rows, transforms=train, generator=generator)
    assert scaling is not None and read_card(trained["output"])["positions"] == scaling.to_json()


def test_networks_are_fitted_to_the_targets_that_were_moved(data, tmp_path, monkeypatch):
    unmoved = Pipeline.training_batch

    def moved(*arguments, **rest):
        batch, truths = unmoved(*arguments, **rest)
        return batch, truths + torch.tensor([100.0, 0.0])

    monkeypatch.setattr(Pipeline, "training_batch", moved)
    settings = learnable.TRAINING.model_copy(update={"max_epochs": 1})
    history = pd.read_csv(learnable.fit(data, tmp_path, training=settings)["history"])
    assert history["train_loss"][0] > 1000 > history["validation_loss"][0]
