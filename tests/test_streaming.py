"""A dataset that stays on disk: which examples come when, what is in memory meanwhile, and what comes of the training."""

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

import popdl.training
from popdl.config.reading import read_yaml
from popdl.config.study import build_study
from popdl.config.training import Splits, Training
from popdl.dataset import open_shards
from popdl.errors import PopdlError
from popdl.examples import streamed_examples
from popdl.loader import OnDisk, PackedData, batches
from popdl.model import load_model, read_card
from popdl.module import PositionScaling
from popdl.prediction import predict_arrays
from popdl.splits import make_splits
from popdl.store import read_shard, write_shard

STREAMED = learnable.TRAINING.model_copy(update={"data": "streamed", "examples_in_memory": 64})


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return learnable.dataset(tmp_path_factory.mktemp("streamed"), num_shards=6, shard_size=20)


@pytest.fixture(scope="module")
def trained(data: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return learnable.fit(data, tmp_path_factory.mktemp("trained"), training=STREAMED)


def epoch(data: dict[str, Any], number: int, *, seed: int = 1) -> list[tuple[PackedData, torch.Tensor, list[int]]]:
    """The batches of an epoch over every third example left out; an example's truth is its number."""
    source = OnDisk(open_shards(data["shards"]), part_size=32)
    rows = torch.tensor([row for row in range(120) if row % 3])
    with streamed_examples(source, rows, torch.arange(120), seed=seed, batch_size=16) as examples:
        return [(part, chosen, truths.tolist()) for part, chosen, truths in examples(number)]


def test_every_example_comes_once_in_each_epoch_with_its_own_truth(data: dict[str, Any]) -> None:
    resident = PackedData.from_shards(data["shards"])
    found = epoch(data, 0)
    assert sorted(number for _, _, numbers in found for number in numbers) == [row for row in range(120) if row % 3]
    assert [len(numbers) for _, _, numbers in found] == [16] * 5  # as in memory: one batch less than full at most
    for part, chosen, numbers in found:
        assert part.num_examples <= 32
        for here, expected in zip(part.batch(chosen), resident.batch(torch.tensor(numbers)), strict=True):
            assert here is not None and expected is not None and torch.equal(here, expected)


def test_the_order_depends_on_seed_and_epoch_alone(data: dict[str, Any]) -> None:
    order = [numbers for _, _, numbers in epoch(data, 3)]
    assert order == [numbers for _, _, numbers in epoch(data, 3)]
    assert order != [numbers for _, _, numbers in epoch(data, 4)]
    assert order != [numbers for _, _, numbers in epoch(data, 3, seed=2)]


def test_shards_are_mixed_within_a_part_and_come_in_another_order_each_epoch(data: dict[str, Any]) -> None:
    first_shards = set()
    for number in range(4):
        found = epoch(data, number)
        part = [example for _, _, numbers in found[:2] for example in numbers]
        shards = [example // 20 for example in part]
        assert 3 <= len(set(shards)) <= 4  # 32 of examples that are 13 or 14 to a shard
        assert shards != sorted(shards) and part != sorted(part)
        first_shards.add(frozenset(shards))
    assert len(first_shards) > 1


def test_positions_are_standardised_as_in_memory(data: dict[str, Any]) -> None:
    rows = torch.arange(1, 120, 2)
    streamed = PositionScaling.fit(OnDisk(open_shards(data["shards"]), part_size=16), rows)
    resident = PositionScaling.fit(PackedData.from_shards(data["shards"]), rows)
    assert streamed is not None and resident is not None
    assert (streamed.mean, streamed.sd) == pytest.approx((resident.mean, resident.sd), rel=1e-12)


def test_only_shards_that_are_needed_are_read(data: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    read: set[str] = set()
    shards = open_shards(data["shards"])
    get = type(shards[0]).__getitem__
    monkeypatch.setattr(
        type(shards[0]), "__getitem__", lambda shard, name: (read.add(shard.path.name), get(shard, name))[1]
    )
    found = list(batches(OnDisk(shards, part_size=32), torch.tensor([25, 99, 30]), size=2))
    assert [numbers.tolist() for _, _, numbers in found] == [[25, 99], [30]]
    assert read == {"shard_1", "shard_4"}


def test_a_damaged_shard_ends_the_epoch_with_its_name(data: dict[str, Any], tmp_path: Path) -> None:
    copy = tmp_path / "shard_0"
    source = read_shard(data["shards"][0], kind="dataset")
    write_shard(
        copy, kind="dataset", arrays={name: source[name] for name in source.names}, attributes=source.attributes
    )
    opened = open_shards([copy, *data["shards"][1:]])
    chunk = next(file for file in (copy / "genotypes").rglob("*") if file.is_file() and file.name != "zarr.json")
    chunk.write_bytes(bytes(len(chunk.read_bytes())))
    with pytest.raises(PopdlError, match=r"shard_0.*checksum of genotypes"):
        list(batches(OnDisk(opened, part_size=32), torch.arange(120), size=16))


def test_a_streamed_training_learns_what_one_in_memory_does(
    data: dict[str, Any], trained: dict[str, Path], tmp_path: Path
) -> None:
    streamed = pd.read_csv(trained["history"])
    resident = pd.read_csv(learnable.fit(data, tmp_path)["history"])
    assert streamed["learning_rate"].tolist() == resident["learning_rate"].tolist()  # as many steps
    assert streamed["validation_loss"].iloc[-1] == pytest.approx(resident["validation_loss"].iloc[-1], rel=0.3)
    card = read_card(trained["output"])
    assert (card["training"]["data"], card["training"]["examples_in_memory"]) == ("streamed", 64)
    assert card["num_examples"] == read_card(tmp_path / "model.safetensors")["num_examples"]


def test_a_streamed_training_goes_on_after_an_interruption_to_the_same_bytes(
    data: dict[str, Any], trained: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = popdl.training.save_checkpoint

    def killed(*arguments: Any, **options: Any) -> None:
        save(*arguments, **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(popdl.training, "save_checkpoint", killed)
    with pytest.raises(KeyboardInterrupt):
        learnable.fit(data, tmp_path, training=STREAMED)
    monkeypatch.undo()
    outputs = learnable.fit(data, tmp_path, training=STREAMED)
    assert outputs["output"].read_bytes() == trained["output"].read_bytes()


def test_a_split_is_predicted_in_parts_to_the_same_numbers(data: dict[str, Any], trained: dict[str, Path]) -> None:
    model = load_model(trained["output"])
    rows = np.arange(3, 120, 2)
    resident = predict_arrays([model], PackedData.from_shards(data["shards"]), rows, batch_size=8)
    on_disk = OnDisk(open_shards(data["shards"]), part_size=16)
    pd.testing.assert_frame_equal(predict_arrays([model], on_disk, rows, batch_size=8), resident, check_exact=True)


def test_examples_in_memory_belong_to_a_streamed_training(root: Path) -> None:
    values = read_yaml(root / "config/test.yaml")
    values["training"] |= {"examples_in_memory": 100}
    with pytest.raises(PopdlError, match=r"training\.examples_in_memory: set `data: streamed` too"):
        build_study(values)
    values["training"] |= {"data": "streamed"}
    assert build_study(values).training.streamed == 100
    assert "examples_in_memory" not in Training(data="on_the_fly").described()


CAPPED = """
import json, re, resource, sys
from pathlib import Path
import learnable
data = {key: [Path(path) for path in value] if isinstance(value, list) else Path(value) for key, value in json.loads(sys.argv[1]).items()}
training = learnable.TRAINING.model_copy(update={"max_epochs": 1, **json.loads(sys.argv[3])})
if cap := int(sys.argv[4]):
    resource.setrlimit(resource.RLIMIT_DATA, (cap, cap))
learnable.fit(data, Path(sys.argv[2]), training=training, options={"name": "mlp", "widths": [2]})
# Freed memory stays in the process, so this is the most that there was.
print(int(re.search(r"VmData:\\s+(\\d+)", Path("/proc/self/status").read_text()).group(1)) * 1024)
"""


def test_a_dataset_larger_than_memory_trains_from_disk(tmp_path: Path) -> None:
    """200 MB of packed examples, and a process that may take 100 MB for them."""
    few = learnable.dataset(tmp_path / "few", num_shards=2, shard_size=60, max_sites=2000)
    shard = read_shard(few["shards"][0], kind="dataset")
    num_shards, size = 40, 500
    rows = np.arange(size) % 60
    shards = []
    for number in range(num_shards):
        arrays = {name: shard[name][rows] for name in shard.names}
        arrays["scenario"] = np.arange(number * size, (number + 1) * size)
        shards.append(tmp_path / f"shard_{number}")
        attributes = {**shard.attributes, "num_examples": size, "first_example": number * size}
        write_shard(shards[-1], kind="dataset", arrays=arrays, attributes=attributes)
    paths = {"splits": tmp_path / "splits.tsv", "targets": tmp_path / "targets.json"}
    make_splits(
        shards,
        settings=Splits(),
        targets=learnable.TARGETS,
        seed=1,
        output=paths["splits"],
        targets_output=paths["targets"],
    )
    many = {"shards": shards, **paths}
    packed = sum(arrays[name][0].nbytes for name in ("genotypes", "missing", "positions")) * num_shards * size

    def train(name: str, dataset: dict[str, Any], *, cap: int = 0, **training: Any) -> subprocess.CompletedProcess[str]:
        values = {
            key: [str(path) for path in value] if isinstance(value, list) else str(value)
            for key, value in dataset.items()
        }
        command = [
            sys.executable,
            "-c",
            CAPPED,
            json.dumps(values),
            str(tmp_path / name),
            json.dumps(training),
            str(cap),
        ]
        # One heap for all threads: what others keep in reserve would count as if it were used.
        environment = {**os.environ, "MALLOC_ARENA_MAX": "1"}
        return subprocess.run(
            command, capture_output=True, text=True, cwd=Path(__file__).parent, env=environment, check=False
        )

    cap = int(train("few", few).stdout.split()[-1]) + packed // 2
    resident = train("resident", many, cap=cap)
    assert resident.returncode != 0 and "allocate" in resident.stderr  # numpy and torch say so, each in its way
    streamed = train("streamed", many, cap=cap, data="streamed", examples_in_memory=2000)
    assert streamed.returncode == 0, streamed.stderr
