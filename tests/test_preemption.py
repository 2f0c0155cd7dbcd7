"""SIGTERM while a network is trained: nothing half-written stays, and the training goes on to the same end."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import learnable
import pytest
from limits import small_files

from popdl import checkpoint
from popdl.checkpoint import PREEMPTED, preemptible
from popdl.errors import PopdlError


def test_a_preempted_training_leaves_cleanly_and_ends_with_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = learnable.dataset(tmp_path / "data")
    training = learnable.TRAINING.model_copy(update={"max_epochs": 3})
    whole = learnable.fit(data, tmp_path / "whole", training=training)
    write, times = checkpoint.save_file, []

    def write_and_be_preempted(tensors, path, **options):
        write(tensors, path, **options)
        times.append(path)
        if len(times) == 2:  # the second checkpoint is written, but is not yet in its place
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(checkpoint, "save_file", write_and_be_preempted)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as error:
        learnable.fit(data, tmp_path / "preempted", training=training)
    assert error.value.code == PREEMPTED == 143
    assert signal.getsignal(signal.SIGTERM) is before
    assert [path.name for path in (tmp_path / "preempted/checkpoint").iterdir()] == ["last.safetensors"]

    monkeypatch.undo()
    resumed = learnable.fit(data, tmp_path / "preempted", training=training)
    assert resumed["output"].read_bytes() == whole["output"].read_bytes()


def test_a_full_disk_ends_a_training_with_one_message(tmp_path: Path) -> None:
    data = learnable.dataset(tmp_path / "data")
    with small_files(1000), pytest.raises(PopdlError, match=r"last.safetensors: cannot write the checkpoint: .*"):
        learnable.fit(data, tmp_path / "full", training=learnable.TRAINING)
    assert not [path for path in (tmp_path / "full").rglob("*.safetensors*") if path.is_file()]


def test_the_handler_is_there_only_inside() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with preemptible():
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before
