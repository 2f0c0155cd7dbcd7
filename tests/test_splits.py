"""Splits by scenario, and the scaling that is fitted on the training split."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from popdl.config.encoding import Encoding
from popdl.config.reading import read_yaml
from popdl.config.study import build_study
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


def split(
    folder: Path,
    rows: np.ndarray,
    *,
    targets: dict[str, Target] = TARGETS,
    settings: Splits = Splits(),  # noqa: B008
    **options,
):
    """Make splits and read them back."""
    make_splits(
        write_dataset(folder, rows, **options),
        settings=settings,
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


def scenarios_of(table: pd.DataFrame) -> dict[str, set[int]]:
    """Scenarios by split; every scenario lies in one."""
    assert (table.groupby("scenario")["split"].nunique() == 1).all()
    return {name: set(rows["scenario"]) for name, rows in table.groupby("split")}


def test_a_listed_test_split(tmp_path: Path) -> None:
    settings = Splits(train=0.7, validation=0.2, test=[0, 5, "10-19"])
    table, _ = split(tmp_path, parameters(100), settings=settings, replicates=2)
    found = scenarios_of(table)
    assert found["test"] == {0, 5, *range(10, 20)}
    # Shares are of the 88 others; the discrepancy of golden-ratio points is small.
    assert abs(len(found["train"]) - 0.7 * 88) < 4 and abs(len(found["validation"]) - 0.2 * 88) < 4
    assert abs(len(found["unused"]) - 0.1 * 88) < 4
    more, _ = split(tmp_path / "more", parameters(150), settings=settings, replicates=2)
    assert more["split"][:200].tolist() == table["split"].tolist()


def test_lists_alone_leave_the_rest_unused(tmp_path: Path) -> None:
    settings = Splits(train=["0-29"], validation=[40, 41, 42], test=["50-59"])
    found = scenarios_of(split(tmp_path, parameters(70), settings=settings)[0])
    assert found["train"] == set(range(30)) and found["validation"] == {40, 41, 42}
    assert found["test"] == set(range(50, 60))
    assert found["unused"] == {*range(30, 40), *range(43, 50), *range(60, 70)}


def test_validation_is_taken_out_of_a_listed_train(tmp_path: Path) -> None:
    settings = Splits(train=["0-799"], validation=0.1, test=["800-999"])
    found = scenarios_of(split(tmp_path, parameters(1000), settings=settings, shard_size=500)[0])
    assert found["test"] == set(range(800, 1000))
    assert found["train"] | found["validation"] == set(range(800)) and not found["train"] & found["validation"]
    assert abs(len(found["validation"]) - 80) < 6


def test_by_a_column_of_words(tmp_path: Path) -> None:
    rows = parameters(120)
    rows[:5, 2] = np.nan
    settings = Splits(column="model", train=["bottleneck", "constant"], validation=0.2, test=["growth"])
    table, _ = split(tmp_path, rows, settings=settings, targets={"size": TARGETS["size"]})
    found, by_class = scenarios_of(table), {index: set(np.flatnonzero(rows[:, 2] == index)) for index in range(3)}
    assert found["test"] == by_class[1]  # growth
    assert found["train"] | found["validation"] == by_class[0] | by_class[2]
    assert found["unused"] == set(range(5))  # those of which the column says nothing
    assert 0 < len(found["validation"]) < len(found["train"])


def test_by_a_column_of_numbers(tmp_path: Path) -> None:
    rows = parameters(90)
    rows[:, 1] = 1_000_000 + np.arange(90) % 3
    settings = Splits(column="time", train=[1_000_000], validation=[1_000_001], test=[1_000_002])
    found = scenarios_of(split(tmp_path, rows, settings=settings, targets={"size": TARGETS["size"]})[0])
    assert found == {name: set(range(first, 90, 3)) for first, name in enumerate(SPLITS)}


@pytest.mark.parametrize("separator", ["\t", ","])
def test_by_a_file(tmp_path: Path, separator: str) -> None:
    said = ["train"] * 40 + ["test"] * 10 + ["later"] * 5
    path = tmp_path / "mine.txt"
    lines = [f"{number}{separator}{word}\n" for number, word in enumerate(said)]
    path.write_text(f"scenario{separator}split\n" + "".join(reversed(lines)))
    settings = Splits.model_validate({"file": str(path), "validation": 0.25})
    found = scenarios_of(split(tmp_path, parameters(60), settings=settings, replicates=2)[0])
    assert found["test"] == set(range(40, 50)) and found["unused"] == set(range(50, 60))
    assert found["train"] | found["validation"] == set(range(40)) and abs(len(found["validation"]) - 10) < 4


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("scenario\tsplit\n0\ttrain\n0\ttest\n", "line 3: scenario 0 is there twice"),
        ("scenario\tsplit\n60\ttrain\n", r"line 2: expected the number of a scenario, 0 to 59, found '60'"),
        ("scenario\tsplit\n1.5\ttrain\n", "found '1.5'"),
        ("number\tsplit\n1\ttrain\n", "there is no column 'scenario'"),
        ("scenario\tfold\n1\ttrain\n", "there is no column 'split'"),
        (
            "scenario\tsplit\n1\ttrain\n2\ttest\n",
            "splits.validation: no scenario has 'validation' in the column 'split'; known: test, train",
        ),
    ],
)
def test_bad_tables_are_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "mine.tsv").write_text(content)
    with pytest.raises(PopdlError, match=message):
        split(tmp_path, parameters(60), settings=Splits(file=tmp_path / "mine.tsv"))
    assert not (tmp_path / "splits.tsv").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"test": [7, "5-9"]}, "test: scenario 7 is named twice"),
        ({"train": ["0-9"], "test": [9]}, r"test: scenario 9 is named twice \(also under train\)"),
        ({"test": ["9-5"]}, "expected numbers of scenarios and ranges such as 10-20, found '9-5'"),
        ({"test": [-1]}, "found -1"),
        ({"test": [1.5]}, "found 1.5"),
        ({"test": []}, "test: the list is empty"),
        ({"train": 1.0, "validation": [1], "test": [2]}, "a share must lie between 0 and 1"),
        ({"train": [1], "validation": 0.5, "test": 0.5}, "must add up to less than 1"),
        ({"column": "fold", "train": ["a", "b"], "test": ["b"]}, "fold 'b' is named twice"),
        ({"column": "fold", "train": [1], "test": [1.0]}, "fold '1' is named twice"),
    ],
)
def test_contradictions_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Splits.model_validate(settings)


def test_what_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PopdlError, match=r"splits.test: there is no scenario 60; known: scenarios 0 to 59"):
        split(tmp_path, parameters(60), settings=Splits(test=["50-60"]))
    settings = Splits(column="model", train=["constant"], validation=["growth"], test=["decline"])
    with pytest.raises(PopdlError, match=r"splits.test: no scenario has 'decline' in the column 'model'; known: bott"):
        split(tmp_path, parameters(60), settings=settings)
    with pytest.raises(PopdlError, match=r"validation without examples \(train 2, validation 0, test 1, unused 57\)"):
        split(tmp_path, parameters(60), settings=Splits(train=[0, 1], validation=0.01, test=[2]))


def test_a_study_is_held_to_its_splits(root: Path) -> None:
    values = read_yaml(root / "config/test.yaml")
    assert build_study({**values, "splits": {"test": ["0-9", 59]}}).splits.lists["test"] == ["0-9", 59]
    by_time = {"column": "event_time", "train": [2000], "validation": 0.2, "test": [100]}
    assert build_study({**values, "splits": by_time}).splits.shares == {"validation": 0.2}
    for splits, message in (
        ({"test": [60]}, "splits.test: there is no scenario 60; this study has 0 to 59"),
        ({**by_time, "test": [101]}, r"splits.test: 'event_time' has no value '101'; did you mean '100'\?"),
        ({**by_time, "column": "event_tim"}, "splits.column: there is no parameter 'event_tim'; did you mean"),
        ({**by_time, "column": "recent_size"}, "the prior of 'recent_size' is no `choice`"),
    ):
        with pytest.raises(PopdlError, match=message):
            build_study({**values, "splits": splits})


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
