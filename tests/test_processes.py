"""One training in two processes: the curve of one process, and one set of files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import learnable
import numpy as np
import pandas as pd
import pytest
import torch

from popdl.loader import Batch
from popdl.model import read_card
from popdl.processes import share

SCRIPT = """
import json, sys
from pathlib import Path
import learnable
from popdl.config.transforms import Transforms
paths, folder, num_devices, changes, options = map(json.loads, sys.argv[1:])
data = {key: [Path(path) for path in value] if isinstance(value, list) else Path(value) for key, value in paths.items()}
training = learnable.TRAINING.model_copy(update=changes)
transforms = Transforms(train=["shuffle_phase"])
learnable.fit(data, Path(folder), training=training, options=options, transforms=transforms, num_devices=num_devices)
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return learnable.dataset(tmp_path_factory.mktemp("processes"))


def run(dataset: dict[str, Any], folder: Path, *, num_devices: int, options: dict[str, Any], **training: Any) -> Path:
    folder.mkdir()
    script = folder / "script.py"
    script.write_text(SCRIPT)
    paths = {
        key: [str(path) for path in value] if isinstance(value, list) else str(value) for key, value in dataset.items()
    }
    command = [sys.executable, str(script), *map(json.dumps, (paths, str(folder), num_devices, training, options))]
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path, "CUDA_VISIBLE_DEVICES": ""},
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize(
    ("options", "training"),
    [
        (learnable.OPTIONS, {"batch_size": 71}),  # the last batch has one example: one process has none
        ({"name": "cnn"}, {"batch_size": 16, "data": "streamed", "examples_in_memory": 64}),  # batch normalisation
    ],
)
def test_two_processes_have_the_curve_of_one(
    data: dict[str, Any], tmp_path: Path, options: dict[str, Any], training: dict[str, Any]
) -> None:
    one = run(data, tmp_path / "one", num_devices=1, options=options, max_epochs=3, **training)
    two = run(data, tmp_path / "two", num_devices=2, options=options, max_epochs=3, **training)
    curves = [pd.read_csv(folder / "history.csv") for folder in (one, two)]
    for column in ("learning_rate", "train_loss", "validation_loss", "validation_loss_size", "validation_loss_kind"):
        np.testing.assert_allclose(curves[1][column], curves[0][column], rtol=1e-5)
    assert curves[0]["validation_loss"].nunique() == 3
    cards = [read_card(folder / "model.safetensors") for folder in (one, two)]
    assert cards[0]["best_epoch"] == cards[1]["best_epoch"]
    assert cards[0]["training"] == cards[1]["training"]  # how it was run is no part of what was run
    assert {path.name for path in two.iterdir()} == {path.name for path in one.iterdir()}


def test_a_batch_is_shared_out_whole_and_nobody_goes_without() -> None:
    batch = Batch(torch.arange(5.0).reshape(5, 1, 1), None, torch.ones(5, 1, dtype=torch.bool))
    truths = torch.arange(5.0).reshape(5, 1)
    parts = [share(batch, truths, rank=rank, num_processes=6) for rank in range(6)]
    assert [known.tolist() for _, known in parts[:5]] == [[[float(row)]] for row in range(5)]
    assert [part.genotypes.item() for part, _ in parts[:5]] == [0, 1, 2, 3, 4]
    empty, unknown = parts[5]
    assert not empty.mask.any() and torch.isnan(unknown).all() and len(unknown) == 1
    halves = [share(batch, truths, rank=rank, num_processes=2)[1].flatten().tolist() for rank in range(2)]
    assert halves == [[0, 2, 4], [1, 3]]
