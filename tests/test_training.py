from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import learnable
import numpy as np
import pandas as pd
import pytest
import torch

from popdl import training
from popdl.config.training import Training
from popdl.dataset import open_shards, read_parameters
from popdl.errors import PopdlError
from popdl.loader import PackedData
from popdl.model import load_model, read_card
from popdl.module import PositionScaling, predict_outputs
from popdl.optimization import learning_rate
from popdl.prediction import predict_arrays
from popdl.scaling import TargetScaling
from popdl.splits import read_splits


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return learnable.dataset(tmp_path_factory.mktemp("learnable"))


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    return learnable.fit(data, tmp_path_factory.mktemp("trained"))


def test_learning_rate_rises_then_falls_to_one_percent():
    settings = Training(learning_rate=2.0, warmup=0.1)
    rates = [learning_rate(step, num_steps=1000, training=settings) for step in range(1000)]
    assert np.all(np.diff(rates[:101]) > 0)
    assert np.all(np.diff(rates[100:]) < 0)
    assert 0 < rates[0] < 0.03
    assert max(rates) == pytest.approx(2.0)
    assert rates[-1] == pytest.approx(0.02, rel=1e-3)
    assert rates[550] == pytest.approx(2.0 * (0.01 + 0.99 * 0.5))


def test_constant_learning_rate_without_warmup():
    settings = Training(learning_rate=0.3, schedule="constant", warmup=0.0)
    assert {learning_rate(step, num_steps=7, training=settings) for step in range(7)} == {0.3}


def test_training_learns_both_targets(data, tmp_path):
    outputs = learnable.fit(data, tmp_path, training=learnable.TRAINING.model_copy(update={"max_epochs": 25}))
    history = pd.read_csv(outputs["history"])
    assert history["validation_loss"].min() < 0.5 * history["validation_loss"].iloc[0]
    assert history["validation_loss_size"].min() < 0.3  # 1 is what the mean gets
    assert history["validation_loss_kind"].min() < 0.6  # ln 2 = 0.69 is what chance gets


def test_history_has_a_row_for_every_epoch(trained):
    history = pd.read_csv(trained["history"])
    assert list(history.columns) == [
        *("epoch", "learning_rate", "train_loss", "validation_loss", "validation_loss_size", "validation_loss_kind"),
        *("examples_per_second", "waiting_share", "seconds"),
    ]
    assert history["epoch"].tolist() == [1, 2, 3, 4]
    assert history["waiting_share"].between(0, 1).all()
    weighted = (history["validation_loss_size"] + 0.5 * history["validation_loss_kind"]) / 1.5
    np.testing.assert_allclose(history["validation_loss"], weighted, rtol=1e-5)


def test_card_describes_the_training(trained, data):
    card = read_card(trained["output"])
    history = pd.read_csv(trained["history"])
    assert card["validation_loss"] == history["validation_loss"].min()
    assert card["best_epoch"] == history["epoch"][history["validation_loss"].idxmin()]
    assert card["targets"] == json.loads(data["targets"].read_text())
    assert card["network"]["options"]["homozygosity"] == 5  # a default
    assert card["realism"]["num_simulations"] == card["num_examples"]["train"] == 72
    assert set(card["intervals"]["half_widths"]) == {"size"}
    assert not trained["checkpoint"].exists()


def test_the_model_keeps_the_best_weights_and_scales_as_trained(trained, data):
    model = load_model(trained["output"])
    packed = PackedData.from_shards(data["shards"])
    rows = torch.from_numpy(np.flatnonzero(read_splits(data["splits"])["split"] == "validation"))
    outputs = predict_outputs(model.module, packed, rows, batch_size=7)
    scaling = TargetScaling.read(data["targets"])
    truths = torch.from_numpy(scaling.to_network(read_parameters(open_shards(data["shards"]), scaling.names)))[rows]
    loss = model.module.heads.total(model.module.heads.losses(outputs, truths.float()).means())
    assert loss.item() == pytest.approx(model.card["validation_loss"], rel=1e-5)


def test_interval_covers_the_share_of_the_validation_split_that_it_promises(trained, data):
    model = load_model(trained["output"])
    rows = np.flatnonzero(read_splits(data["splits"])["split"] == "validation")
    table = predict_arrays([model], PackedData.from_shards(data["shards"]), rows)
    truth = read_parameters(open_shards(data["shards"]), ["size"])[rows, 0]
    known = ~np.isnan(truth)
    # The outermost example lies on the bound, up to rounding.
    covered = (truth >= table["size_low"] * (1 - 1e-6)) & (truth <= table["size_high"] * (1 + 1e-6))
    rank = int(np.ceil(0.9 * (known.sum() + 1)))
    assert covered[known].sum() == rank


def test_position_scaling_is_that_of_the_real_sites_of_the_training_split(data):
    packed = PackedData.from_shards(data["shards"])
    rows = torch.arange(0, packed.num_examples, 3)
    scaling = PositionScaling.fit(packed, rows)
    batch = packed.batch(rows)
    values = torch.log1p(batch.positions[batch.mask]).double()
    assert scaling.log1p
    assert scaling.mean == pytest.approx(values.mean().item())
    assert scaling.sd == pytest.approx(values.std(correction=0).item())
    scaled = scaling(batch.positions, batch.mask)
    assert scaled[batch.mask].mean().item() == pytest.approx(0, abs=1e-5)
    assert (scaled[~batch.mask] == 0).all()


def test_same_settings_give_the_same_bytes_and_another_replicate_others(trained, data, tmp_path):
    again = learnable.fit(data, tmp_path / "again")
    assert again["output"].read_bytes() == trained["output"].read_bytes()
    other = learnable.fit(data, tmp_path / "other", replicate=1)
    assert other["output"].read_bytes() != trained["output"].read_bytes()


@pytest.mark.parametrize(
    "changes",
    [
        {"optimizer": "adamw"},
        {"optimizer": "sgd"},
        {"schedule": {"name": "StepLR", "step_size": 1, "gamma": 0.5}, "optimizer": "Rprop"},
        {"schedule": {"name": "ReduceLROnPlateau", "patience": 0, "threshold": 0.5, "factor": 0.2}},
        {"schedule": "OneCycleLR", "optimizer": {"name": "NAdam", "betas": [0.8, 0.99]}},
        {"schedule": {"name": "MultiStepLR", "milestones": [1, 3]}, "optimizer": "Adafactor"},
        {"parameter_groups": [{"match": "heads.*", "learning_rate": 0.02}, {"match": "*.bias", "freeze": True}]},
    ],
    ids=lambda changes: "-".join(changes),
)
def test_a_training_that_was_interrupted_ends_with_the_same_bytes(data, tmp_path, monkeypatch, changes):
    settings = Training(**{**learnable.TRAINING.model_dump(), **changes})
    whole = learnable.fit(data, tmp_path / "whole", training=settings)
    save = training.save_checkpoint

    def save_and_fail(folder, module, optimizer, progress, **rest):
        save(folder, module, optimizer, progress, **rest)
        if progress.epoch == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(training, "save_checkpoint", save_and_fail)
    with pytest.raises(KeyboardInterrupt):
        learnable.fit(data, tmp_path / "killed", training=settings)
    monkeypatch.undo()
    assert not (tmp_path / "killed" / "model.safetensors").exists()
    resumed = learnable.fit(data, tmp_path / "killed", training=settings)
    assert resumed["output"].read_bytes() == whole["output"].read_bytes()
    columns = ["train_loss", "validation_loss", "learning_rate"]
    both = [pd.read_csv(paths["history"])[columns] for paths in (whole, resumed)]
    pd.testing.assert_frame_equal(*both, check_exact=True)


@pytest.mark.slow
def test_a_job_that_was_killed_ends_with_the_same_bytes(trained, data, tmp_path):
    script = textwrap.dedent(
        f"""
        import os, signal, sys
        from pathlib import Path
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        import learnable
        from popdl import training
        save = training.save_checkpoint
        def save_and_die(folder, module, optimizer, progress, **rest):
            save(folder, module, optimizer, progress, **rest)
            if progress.epoch == 3:
                os.kill(os.getpid(), signal.SIGKILL)
        training.save_checkpoint = save_and_die
        data = {{"shards": [Path(path) for path in {[str(path) for path in data["shards"]]}],
                 "splits": Path({str(data["splits"])!r}), "targets": Path({str(data["targets"])!r})}}
        learnable.fit(data, Path({str(tmp_path)!r}))
        """
    )
    killed = subprocess.run([sys.executable, "-c", script], capture_output=True, env={**os.environ}, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert (tmp_path / "checkpoint" / "last.safetensors").exists()
    assert learnable.fit(data, tmp_path)["output"].read_bytes() == trained["output"].read_bytes()


@pytest.mark.parametrize("damage", ["foreign", "other settings"])
def test_a_checkpoint_that_does_not_fit_is_left_unused(trained, data, tmp_path, monkeypatch, caplog, damage):
    def fail(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "save_model", fail)
    settings = learnable.TRAINING.model_copy(update={"learning_rate": 0.02})
    with pytest.raises(KeyboardInterrupt):
        learnable.fit(data, tmp_path, training=settings)
    monkeypatch.undo()
    if damage == "foreign":
        (tmp_path / "checkpoint" / "last.safetensors").write_bytes(b"no checkpoint")
    outputs = learnable.fit(data, tmp_path)
    assert "training starts anew" in caplog.text
    assert damage == "foreign" or "(training.learning_rate differ)" in caplog.text
    assert outputs["output"].read_bytes() == trained["output"].read_bytes()


def interrupted(data, folder, monkeypatch, settings):
    """Train until the second epoch is in the checkpoint."""
    save = training.save_checkpoint

    def save_and_fail(folder, module, optimizer, progress, **rest):
        save(folder, module, optimizer, progress, **rest)
        if progress.epoch == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(training, "save_checkpoint", save_and_fail)
    with pytest.raises(KeyboardInterrupt):
        learnable.fit(data, folder, training=settings)
    monkeypatch.undo()


@pytest.mark.parametrize(
    ("changes", "goes_on"),
    [
        ({"schedule": "constant", "warmup": 0.0}, True),
        ({"schedule": {"name": "StepLR", "step_size": 1}}, True),
        ({"schedule": "constant"}, False),
        ({"schedule": "cosine", "warmup": 0.0}, False),
        ({"schedule": "OneCycleLR"}, False),
    ],
)
def test_more_epochs_go_on_where_learning_rates_allow_it(data, tmp_path, monkeypatch, caplog, changes, goes_on):
    """Either way the model is that of a training that had so many from the start."""
    caplog.set_level("INFO")
    few = Training(**{**learnable.TRAINING.model_dump(), "max_epochs": 3, **changes})
    many = few.model_copy(update={"max_epochs": 4})
    interrupted(data, tmp_path / "raised", monkeypatch, few)
    caplog.clear()
    raised = learnable.fit(data, tmp_path / "raised", training=many)
    assert ("going on after epoch 2" in caplog.text) == goes_on
    assert ("depend on max_epochs" in caplog.text) == ("training.max_epochs differ" in caplog.text) == (not goes_on)
    whole = learnable.fit(data, tmp_path / "whole", training=many)
    assert raised["output"].read_bytes() == whole["output"].read_bytes()


def test_fewer_epochs_than_the_checkpoint_has_start_anew(data, tmp_path, monkeypatch, caplog):
    three = Training(**{**learnable.TRAINING.model_dump(), "max_epochs": 3, "schedule": "constant", "warmup": 0.0})
    interrupted(data, tmp_path / "lowered", monkeypatch, three)
    one = three.model_copy(update={"max_epochs": 1})
    lowered = learnable.fit(data, tmp_path / "lowered", training=one)
    assert "the checkpoint is of epoch 2, and training.max_epochs is 1; training starts anew" in caplog.text
    assert (
        lowered["output"].read_bytes() == learnable.fit(data, tmp_path / "whole", training=one)["output"].read_bytes()
    )


def test_early_stopping_keeps_the_best_epoch(data, tmp_path):
    settings = Training(
        batch_size=8, max_epochs=60, patience=2, learning_rate=0.3, schedule="constant", optimizer="adam"
    )
    outputs = learnable.fit(data, tmp_path, training=settings)
    history = pd.read_csv(outputs["history"])
    best = int(history["validation_loss"].idxmin())
    assert len(history) == best + 3 < 60


def test_a_loss_that_is_not_finite_is_refused(data, tmp_path):
    settings = Training(learning_rate=1e30, gradient_clip=None, optimizer="sgd", warmup=0.0, max_epochs=3)
    with pytest.raises(
        PopdlError, match=r"epoch 1: the loss is no longer a finite number .* lower training.learning_rate"
    ):
        learnable.fit(data, tmp_path, training=settings)
    assert not (tmp_path / "model.safetensors").exists()


def test_splits_of_another_dataset_are_refused(data, tmp_path):
    table = data["splits"].read_text().splitlines(keepends=True)
    (tmp_path / "splits.tsv").write_text("".join(table[:-5]))
    with pytest.raises(PopdlError, match="expected 120 examples, as in the shards, found 115"):
        learnable.fit({**data, "splits": tmp_path / "splits.tsv"}, tmp_path)


def test_training_leaves_torch_as_it_was(data, tmp_path):
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled(), torch.get_rng_state()
    learnable.fit(data, tmp_path, training=learnable.TRAINING.model_copy(update={"max_epochs": 1, "threads": 2}))
    assert (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()) == before[:2]
    assert torch.equal(torch.get_rng_state(), before[2])


def test_tensorboard_shows_every_epoch(data, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = tmp_path / "curves"
    for rate in (0.01, 0.02):  # the curves of the first must not stay
        settings = learnable.TRAINING.model_copy(update={"max_epochs": 2, "learning_rate": rate})
        outputs = learnable.fit(data, tmp_path, training=settings, tensorboard=folder)
    events = EventAccumulator(str(folder)).Reload()
    history = pd.read_csv(outputs["history"])
    assert [event.step for event in events.Scalars("validation_loss")] == [1, 2]
    np.testing.assert_allclose(
        [event.value for event in events.Scalars("validation_loss")], history["validation_loss"], rtol=1e-6
    )
