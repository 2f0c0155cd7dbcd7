"""Compiled trainings: the same but for rounding, and without a compiler the very same."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import learnable
import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from popdl.config.base import validate
from popdl.config.training import Training
from popdl.errors import PopdlError
from popdl.model import load_model, read_card
from popdl.networks._base import InputShape, build

CNN = {"name": "cnn"}
"""It has batch normalisation: a trial that leaves traces shows in its running means."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return learnable.dataset(tmp_path_factory.mktemp("compiling"))


def train(data: dict[str, Any], folder: Path, options: dict[str, Any] = CNN, **changes: Any) -> dict[str, Path]:
    training = learnable.TRAINING.model_copy(update={"max_epochs": 2, **changes})
    return learnable.fit(data, folder, options=options, training=training)


@pytest.fixture(scope="module")
def plain(data: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    """Weights of a training without compilation."""
    return weights(train(data, tmp_path_factory.mktemp("plain")))


def weights(outputs: dict[str, Path]) -> dict[str, torch.Tensor]:
    return load_model(outputs["output"]).module.state_dict()


def same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> bool:
    return list(found) == list(expected) and all(torch.equal(found[name], expected[name]) for name in expected)


class Broken(nn.Module):
    """A translation that runs, but not to the end."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *batch: Any) -> Any:
        self.module(*batch)  # running means have moved
        raise RuntimeError("unsupported operator: scatter\nand much more")


def no_compiler(part: Any, **options: Any) -> Any:
    raise RuntimeError("InvalidCxxCompiler: no C++ compiler")


def breaks(part: Any, **options: Any) -> Any:
    return Broken(part) if isinstance(part, nn.Module) else part


def does_nothing(part: Any, **options: Any) -> Any:
    return part


@pytest.mark.parametrize(
    ("compiler", "why"),
    [
        (no_compiler, "RuntimeError: InvalidCxxCompiler: no C++ compiler"),
        (breaks, "RuntimeError: unsupported operator: scatter"),
        (does_nothing, None),
    ],
)
def test_without_a_compiler_the_training_is_that_without_compilation(
    compiler: Any,
    why: str | None,
    data: dict[str, Any],
    plain: dict[str, torch.Tensor],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(torch, "compile", compiler)
    outputs = train(data, tmp_path, compile=True)
    told = [record.getMessage() for record in caplog.records if "compile" in record.getMessage()]
    expected = f"training.compile: torch.compile cannot be used here ({why}); training without."
    assert told == ([expected] if why else [])
    assert same(weights(outputs), plain)


def test_cuda_graphs_need_a_gpu_and_say_so(
    data: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    modes = []

    def look(part: Any, mode: str | None = None) -> Any:
        modes.append(mode)
        return part

    monkeypatch.setattr(torch, "compile", look)
    train(data, tmp_path, compile="cuda_graphs", max_epochs=1)
    assert "training.compile: cuda_graphs needs a GPU, and there is none; compiling without." in caplog.messages
    assert modes == [None, None]


@pytest.mark.parametrize("name", ["exchangeable", "spidna", "flagel", "cnn"])
def test_networks_are_translated_whole_and_for_few_shapes(name: str) -> None:
    torch.compiler.reset()
    network = build(name, {}, InputShape(20, 64, has_positions=True))
    shapes = []

    def look(graph: Any, inputs: Any) -> Any:
        shapes.append(inputs)
        return graph

    translated = torch.compile(network, backend=look, fullgraph=True)  # a part that is left out raises an error
    for size in (16, 16, 5, 16, 7):  # whole batches, and the last ones of epochs
        genotypes, mask = (torch.rand(size, 20, 64) < 0.3).float(), torch.ones(size, 64, dtype=torch.bool)
        translated(genotypes, torch.rand(size, 64), mask).sum().backward()
    assert len(shapes) == 2, "one for the size of most batches, and one for any"


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_a_compiled_training_differs_by_rounding_alone(data: dict[str, Any], tmp_path: Path) -> None:
    options = {"name": "mlp"}
    found, again, expected = (
        train(data, tmp_path / name, options, compile=compile, batch_size=40)
        for name, compile in (("compiled", True), ("again", True), ("plain", False))
    )
    curves = [pd.read_csv(outputs["history"]) for outputs in (found, expected)]
    for column in ("train_loss", "validation_loss"):
        np.testing.assert_allclose(curves[0][column], curves[1][column], rtol=1e-4)
    assert list(weights(found)) == list(weights(expected))
    assert found["output"].read_bytes() == again["output"].read_bytes()
    cards = [read_card(outputs["output"]) for outputs in (found, expected)]
    assert cards[0]["training"].pop("compile") is True
    assert cards[0]["training"] == cards[1]["training"], "a card says nothing of what is not used"


@pytest.mark.parametrize("value", ["reduce-overhead", 2])
def test_other_values_are_refused(value: Any) -> None:
    with pytest.raises(PopdlError, match="compile: expected true or false, or 'cuda_graphs'"):
        validate(Training, {"compile": value}, where="training")
