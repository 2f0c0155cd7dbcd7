"""Splits by scenario, and the scaling that is fitted on the training split."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from popdl.config.encoding import Encoding
from popdl.config.training import Splits, Target
from popdl.encoding import Encoder
from popdl.errors import PopdlError
from popdl.scaling import SPLITS, TargetScaling
from popdl.splits import assign_scenarios, make_splits, read_splits
from popdl.store import write_shard

NAMES = ["size", "time", "model", "copies"]
CLASSES = {"model": ["bottleneck", "growth", "constant"], "copies": ["2", "5"]}
TARGETS = {
    "size": Target(scale="log", label="Population size", unit="individuals"),
    "time": Target(weight=2.0),
    "model": Target(task="classification"),
    "copies": Target(task="classification"),
}
SEED = 5


def parameters(num_scenarios: int) -> np.ndarray:
    """One row per scenario, the same for a scenario whatever their number; some times are missing."""
    random = np.random.default_rng(1)
    rows = random.random((num_scenarios, 4))
    rows[:, 0] = 10 ** (3 + 2 * rows[:, 0])
    rows[:, 2] = np.floor(rows[:, 2] * 3)
    rows[:, 3] = np.where(rows[:, 3] < 0.5, 2.0, 5.0)
    rows[::7, 1] = np.nan
    return rows


def write_dataset(folder: Path, rows: np.ndarray, *, replicates: int = 1, shard_size: int = 40) -> list[Path]:
    """Shards with the labels that splits need, and nothing else."""
    encoder = Encoder(Encoding(), num_haplotypes=4, ploidy=2, sequence_length=1e3)
    labels = np.repeat(rows, replicates, axis=0)
    scenario = np.repeat(np.arange(len(rows)), replicates)
    paths = []
    for first in range(0, len(labels), shard_size):
        chosen = slice(first, first + shard_size)
        paths.append(folder / f"shard_{first // shard_size}")
        write_shard(
            paths[-1],
            kind="dataset",
            arrays={"parameters": labels[chosen], "scenario": scenario[chosen]},
            attributes={
                "first_example": first,
                "num_examples": len(labels[chosen]),
                "fingerprint": encoder.fingerprint,
                "encoding": encoder.recipe,
                "statistics": [],
                "parameters": NAMES,
                "classes": CLASSES,
            },
        )
    return paths


def split(folder: Path, rows: np.ndarray, *, targets: dict[str, Target] = TARGETS, **options):
    """Make splits and read them back."""
    make_splits(
        write_dataset(folder, rows, **options),
        settings=Splits(),
        targets=targets,
        seed=SEED,
        output=folder / "splits.tsv",
        targets_output=folder / "targets.json",
    )
    return read_splits(folder / "splits.tsv"), TargetScaling.read(folder / "targets.json")


@given(st.integers(0, 2**40), st.integers(1, 500), st.integers(0, 500))
def test_a_scenario_keeps_its_split(seed: int, before: int, added: int) -> None:
    few = assign_scenarios(np.arange(before), settings=Splits(), seed=seed)
    many = assign_scenarios(np.arange(before + added), settings=Splits(), seed=seed)
    np.testing.assert_array_equal(many[:before], few)


@given(st.integers(0, 2**40), st.integers(50, 3000))
def test_shares_are_met_closely(seed: int, num_scenarios: int) -> None:
    settings = Splits(train=0.6, validation=0.2, test=0.1)
    assigned = assign_scenarios(np.arange(num_scenarios), settings=settings, seed=seed)
    for name, share in zip([*SPLITS, "unused"], [0.6, 0.2, 0.1, 0.1], strict=True):
        # The discrepancy of golden-ratio points is of order log(n); shares drawn at random would miss by √n.
        assert abs(np.count_nonzero(assigned == name) - share * num_scenarios) < 1 + 2 * math.log(num_scenarios)


def test_nothing_is_unused_if_shares_add_up_to_one() -> None:
    settings = Splits(train=0.7, validation=0.1, test=0.2)
    assert set(assign_scenarios(np.arange(100_000), settings=settings, seed=1)) == set(SPLITS)


def test_another_seed_gives_other_splits() -> None:
    first, second = (assign_scenarios(np.arange(100), settings=Splits(), seed=seed) for seed in (1, 2))
    assert not np.array_equal(first, second)


def test_table(tmp_path: Path) -> None:
    table, _ = split(tmp_path, parameters(60), replicates=3)
    assert table["example"].tolist() == list(range(180))
    assert table["scenario"].tolist() == [example // 3 for example in range(180)]
    assert table["shard"].tolist() == [f"shard_{example // 40}" for example in range(180)]
    assert table["row"].tolist() == [example % 40 for example in range(180)]
    assert set(table["split"]) == set(SPLITS)
    assert (table.groupby("scenario")["split"].nunique() == 1).all()


def test_splits_are_stable_when_scenarios_are_added(tmp_path: Path) -> None:
    few, _ = split(tmp_path / "few", parameters(60))
    many, _ = split(tmp_path / "many", parameters(90))
    assert many["split"][:60].tolist() == few["split"].tolist()


def test_scaling_standardises_the_training_split(tmp_path: Path) -> None:
    rows = parameters(200)
    table, scaling = split(tmp_path, rows)
    train = (table["split"] == "train").to_numpy()
    values = scaling.to_network(rows)
    for column in (0, 1):
        known = values[train & ~np.isnan(rows[:, column]), column]
        assert known.mean() == pytest.approx(0, abs=1e-12) and known.std() == pytest.approx(1, rel=1e-12)
    np.testing.assert_array_equal(np.isnan(values), np.isnan(rows))
    np.testing.assert_array_equal(values[:, 2], rows[:, 2])  # words: the value is the index
    np.testing.assert_array_equal(values[:, 3], rows[:, 3] == 5)  # numbers: the value is looked up
    np.testing.assert_allclose(scaling.to_natural(values)[:, :2], rows[:, :2], rtol=1e-12)
    size, time = scaling.targets["size"], scaling.targets["time"]
    assert (size.low, size.high) == (rows[train, 0].min(), rows[train, 0].max())
    assert (size.label, size.unit, time.label, time.unit) == ("Population size", "individuals", "time", None)
    assert (size.weight, time.weight) == (1.0, 2.0)
    assert scaling.targets["model"].classes == CLASSES["model"] and scaling.targets["model"].mean is None


def test_scaling_sees_the_training_split_only(tmp_path: Path) -> None:
    rows = parameters(200)
    table, scaling = split(tmp_path / "before", rows)
    held_out = (table["split"] != "train").to_numpy()
    changed = rows.copy()
    changed[held_out, :2] *= 100
    _, after = split(tmp_path / "after", changed)
    assert after == scaling
    changed[~held_out, :2] *= 100
    _, after = split(tmp_path / "all", changed)
    assert after.targets["size"].mean != scaling.targets["size"].mean


def test_missing_targets_are_counted_by_split(tmp_path: Path) -> None:
    rows = parameters(100)
    table, scaling = split(tmp_path, rows)
    for name in SPLITS:
        expected = int(np.isnan(rows[(table["split"] == name).to_numpy(), 1]).sum())
        assert scaling.targets["time"].num_missing[name] == expected
    assert sum(scaling.targets["time"].num_missing.values()) == 15
    assert set(scaling.targets["size"].num_missing.values()) == {0}


def test_json_round_trip_and_deterministic_bytes(tmp_path: Path) -> None:
    _, scaling = split(tmp_path / "first", parameters(60))
    split(tmp_path / "second", parameters(60))
    assert TargetScaling.from_json(json.loads(json.dumps(scaling.to_json()))) == scaling
    for name in ("splits.tsv", "targets.json"):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()


def test_too_few_scenarios_says_how_many_are_needed(tmp_path: Path) -> None:
    with pytest.raises(PopdlError, match=r"2 scenarios leave .* simulate at least (\d+) scenarios") as refusal:
        split(tmp_path, parameters(2))
    needed = int(str(refusal.value).split("at least ")[1].split()[0])
    assert set(assign_scenarios(np.arange(needed), settings=Splits(), seed=SEED)) == set(SPLITS)
    assert set(assign_scenarios(np.arange(needed - 1), settings=Splits(), seed=SEED)) != set(SPLITS)
    assert not (tmp_path / "splits.tsv").exists()


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        (0, 1000.0, r"targets.size: all \d+ examples of the training split have the same value \(1000\)"),
        (0, -1.0, "targets.size: scale log needs positive values, found -1"),
        (1, np.nan, "targets.time: no example of the training split has a value"),
        (1, np.inf, "targets.time: expected finite values"),
        (2, 1.0, "targets.model: all .* have the same value"),
        (2, 7.0, r"targets.model: found the value '7', expected one of the classes"),
    ],
)
def test_targets_that_cannot_be_learned_are_refused(tmp_path: Path, column: int, value: float, message: str) -> None:
    rows = parameters(60)
    rows[:, column] = value
    with pytest.raises(PopdlError, match=message):
        split(tmp_path, rows)
    assert not (tmp_path / "targets.json").exists()


def test_unknown_target_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PopdlError, match="no parameter 'age'; known: size, time"):
        split(tmp_path, parameters(60), targets={"age": Target()})


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with pytest.raises(PopdlError, match="cannot be read"):
        read_splits(path)
    with pytest.raises(PopdlError, match="cannot be read"):
        TargetScaling.read(path)
    for content in (
        "",
        "example\tsplit\n0\ttrain\n",
        "example\tshard\trow\tscenario\tsplit\n1\tshard_0\t0\t0\ttrain\n",
    ):
        path.write_text(content)
        with pytest.raises(PopdlError, match="run the step that makes the splits"):
            read_splits(path)
    for content in ("", "[]", '{"size": {"task": "regression"}}'):
        path.write_text(content)
        with pytest.raises(PopdlError, match="not a table of targets"):
            TargetScaling.read(path)
