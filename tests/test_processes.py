"""One training in two processes, of one machine or of two: the curve of one process, and one set of files."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import learnable
import numpy as np
import pandas as pd
import pytest
import torch

from popdl import processes
from popdl.config.training import Training
from popdl.errors import PopdlError
from popdl.loader import Batch
from popdl.model import read_card
from popdl.processes import PORTS, check_alike, everywhere, make_fabric, share

SCRIPT = """
import json, os, signal, sys
from pathlib import Path
import learnable
from popdl import training
from popdl.config.transforms import Transforms
from popdl.jobs import step
paths, folder, machine, changes, options, epochs = map(json.loads, sys.argv[1:])
data = {key: [Path(path) for path in value] if isinstance(value, list) else Path(value) for key, value in paths.items()}
save = training.save_checkpoint
def save_and_perhaps_die(folder, module, optimizer, progress, **others):
    save(folder, module, optimizer, progress, **others)
    if progress.epoch == epochs:
        os.kill(os.getpid(), signal.SIGKILL)
training.save_checkpoint = save_and_perhaps_die
with step(Path(folder) / "log"):
    settings = learnable.TRAINING.model_copy(update=changes)
    transforms = Transforms(train=["shuffle_phase"])
    learnable.fit(data, Path(folder), training=settings, options=options, transforms=transforms, **machine)
"""
SRUN = """#!/bin/sh
# Like srun: each task knows its number. Nodes are this machine, twice.
dirname=$(dirname "$0")
env | grep -E "^(SLURM|SRUN|MASTER)" > "$dirname/environment"
echo "$*" > "$dirname/arguments"
while [ "$1" != sh ]; do shift; done
SLURM_NODEID=0 "$@" & first=$!
SLURM_NODEID=1 "$@" & second=$!
wait $second; code=$?
wait $first || code=$?
exit $code
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return learnable.dataset(tmp_path_factory.mktemp("processes"))


def run(
    dataset: dict[str, Any],
    folder: Path,
    *,
    options: dict[str, Any] = learnable.OPTIONS,
    num_devices: int = 1,
    num_nodes: int = 1,
    die_after: int | None = None,
    environment: Mapping[str, str] = MappingProxyType({}),
    expected: int = 0,
    **training: Any,
) -> Path:
    """Train in processes of their own, which end with the expected code."""
    folder.mkdir(exist_ok=True)
    script = folder / "script.py"
    script.write_text(SCRIPT)
    paths = {
        key: [str(path) for path in value] if isinstance(value, list) else str(value) for key, value in dataset.items()
    }
    machine = {"num_devices": num_devices, "num_nodes": num_nodes}
    arguments = (paths, str(folder), machine, training, options, die_after)
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    done = subprocess.run(
        [sys.executable, str(script), *map(json.dumps, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path, "CUDA_VISIBLE_DEVICES": "", **environment},
        timeout=300,
    )
    assert done.returncode == expected, done.stderr
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
    one = run(data, tmp_path / "one", options=options, max_epochs=3, **training)
    two = run(data, tmp_path / "two", num_devices=2, options=options, max_epochs=3, **training)
    curves = [pd.read_csv(folder / "history.csv") for folder in (one, two)]
    for column in ("learning_rate", "train_loss", "validation_loss", "validation_loss_size", "validation_loss_kind"):
        np.testing.assert_allclose(curves[1][column], curves[0][column], rtol=1e-5)
    assert curves[0]["validation_loss"].nunique() == 3
    cards = [read_card(folder / "model.safetensors") for folder in (one, two)]
    assert cards[0]["best_epoch"] == cards[1]["best_epoch"]
    assert cards[0]["training"] == cards[1]["training"]  # how it was run is no part of what was run
    assert {path.name for path in two.iterdir()} == {path.name for path in one.iterdir()}


@pytest.fixture(scope="module")
def two(data: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a training in two processes of one machine leaves."""
    return run(data, tmp_path_factory.mktemp("two"), num_devices=2, max_epochs=3, batch_size=71)


def test_a_killed_training_in_two_processes_goes_on_to_the_same_bytes(
    data: dict[str, Any], two: Path, tmp_path: Path
) -> None:
    settings = {"num_devices": 2, "max_epochs": 3, "batch_size": 71}
    run(data, tmp_path, **settings, die_after=2, expected=-signal.SIGKILL)
    assert not (tmp_path / "model.safetensors").exists()
    run(data, tmp_path, **settings)
    assert "going on after epoch 2" in (tmp_path / "log").read_text()
    assert (tmp_path / "model.safetensors").read_bytes() == (two / "model.safetensors").read_bytes()


@pytest.fixture
def slurm(tmp_path: Path) -> dict[str, str]:
    """The environment of a step of a job of SLURM on two nodes, and a stand-in for its srun."""
    srun = tmp_path / "bin/srun"
    srun.parent.mkdir()
    srun.write_text(SRUN)
    srun.chmod(0o755)
    with socket.create_server(("127.0.0.1", 0)) as server:
        free = PORTS[server.getsockname()[1] % len(PORTS)]
    job = {
        "SLURM_JOB_ID": str(7 * len(PORTS) + PORTS.index(free)),
        "SLURM_JOB_NODELIST": "localhost,other[3-4]",
        "SLURM_CONF": "/etc/slurm.conf",
    }
    step = {"SLURM_NTASKS": "1", "SLURM_NODEID": "0", "SLURM_GPUS": "8", "SRUN_CPUS_PER_TASK": "2"}
    return {"PATH": f"{srun.parent}:{os.environ['PATH']}", **job, **step}


def test_two_nodes_train_as_two_devices_do(
    data: dict[str, Any], two: Path, tmp_path: Path, slurm: dict[str, str]
) -> None:
    settings = {"max_epochs": 3, "batch_size": 71, "num_nodes": 2, "environment": slurm}
    nodes = run(data, tmp_path / "nodes", **settings)
    assert (nodes / "model.safetensors").read_bytes() == (two / "model.safetensors").read_bytes()
    log = (nodes / "log").read_text()
    assert log.count("epoch 3:") == 1, "one process tells"
    # The new step is shaped by what is asked for alone, and meets on the first node.
    told = (tmp_path / "bin/environment").read_text().splitlines()
    job = slurm["SLURM_JOB_ID"]
    expected = {f"SLURM_JOB_ID={job}", "SLURM_CONF=/etc/slurm.conf", "MASTER_ADDR=localhost"}
    assert set(told) == {*expected, f"MASTER_PORT={15000 + int(job) % 10000}"}
    arguments = (tmp_path / "bin/arguments").read_text()
    assert arguments.startswith("--nodes=2 --ntasks=2 --ntasks-per-node=1 --overlap ")


def test_a_training_on_several_nodes_ends_with_the_code_of_its_step(
    data: dict[str, Any], tmp_path: Path, slurm: dict[str, str]
) -> None:
    (tmp_path / "bin/srun").write_text("#!/bin/sh\nexit 143\n")
    run(data, tmp_path / "nodes", num_nodes=2, environment=slurm, expected=143)


def test_several_nodes_must_be_known(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NODE_RANK", "SLURM_JOB_ID"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(
        PopdlError, match=r"nodes: 2 for one training need a job of SLURM .* leave the resource `nodes`"
    ):
        make_fabric(learnable.TRAINING, num_nodes=2)


class Others:
    """Processes of which the others have a number too."""

    world_size, device = 2, torch.device("cpu")

    def __init__(self, other: float) -> None:
        self.other = other

    def all_reduce(self, values: torch.Tensor, *, reduce_op: str) -> torch.Tensor:
        assert reduce_op == "sum"
        return values + self.other


def test_processes_that_read_different_checkpoints_do_not_train_together() -> None:
    with pytest.raises(PopdlError, match="epochs: the nodes of this training see different ones, here 3"):
        check_alike(Others(1.0), 3, what="epochs")  # type: ignore[arg-type]
    assert everywhere(Others(1.0), True) and not everywhere(Others(0.0), True)  # type: ignore[arg-type]


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


@pytest.mark.parametrize(
    ("variables", "warned"),
    [({}, False), ({"SLURM_JOB_GPUS": "0"}, True), ({"CUDA_VISIBLE_DEVICES": ""}, False), ({"CUDA_VISIBLE_DEVICES": "0,1"}, True)],
)  # fmt: skip
def test_a_gpu_that_torch_cannot_use_is_told(monkeypatch, caplog, variables, warned):
    for name in processes.GIVEN:
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    caplog.set_level("INFO", logger="popdl")
    processes._say_where(Training(), several=2, cuda=False)
    assert "Training on 2 × the CPU" in caplog.text
    assert ("was given a GPU" in caplog.text) == warned
