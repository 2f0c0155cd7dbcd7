"""Which examples are for training, validation and test."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from popdl.config.training import Splits, Target, number_text
from popdl.dataset import open_shards, read_array, read_parameters
from popdl.errors import PopdlError
from popdl.files import write_table, write_text
from popdl.formats._tables import read_table
from popdl.scaling import SPLITS, TargetScaling, class_indices, fit_scale
from popdl.seeds import generator
from popdl.store import Shard

__all__ = ["assign_scenarios", "make_splits", "read_assignment", "read_splits"]

log = logging.getLogger("popdl")

UNUSED = "unused"
NAMES = [*SPLITS, UNUSED]
NOT_LISTED = -1
GOLDEN_RATIO = (math.sqrt(5) - 1) / 2
SCENARIO = "scenario"
MOST_VALUES = 20
"""Values that a message lists at most."""
COLUMNS = ["example", "shard", "row", "scenario", "split"]


def assign_scenarios(
    scenarios: np.ndarray, *, settings: Splits, seed: int, values: np.ndarray | None = None
) -> pd.Categorical[str]:
    """Assign scenarios to splits.

    Lists are looked up. For shares, scenario s stands at frac(u₀ + s·φ) with the golden ratio φ and u₀ drawn from the seed:
    points that fill [0, 1) evenly however many there are. [0, 1) is cut into the shares of train, validation and test, and
    the rest. So shares are met as closely as can be, and a scenario stays where it is when others are added.

    Parameters
    ----------
    scenarios : ndarray of shape (n,), dtype=int64
        Numbers of scenarios.
    settings
        The shares and lists.
    seed
        The study's seed.
    values : ndarray of shape (n,), dtype=str
        What ``settings.column`` says of each scenario, if there is one.

    Returns
    -------
    Categorical of length n
        ``train``, ``validation``, ``test`` or ``unused``.

    Raises
    ------
    PopdlError
        If a list names a scenario or a value that is not there.
    """
    listed = np.full(len(scenarios), NOT_LISTED, dtype=np.int8)
    for name in settings.lists:
        for item, rows in _listed(scenarios, settings=settings, name=name, values=values):
            if not rows.any():
                raise PopdlError(f"splits.{name}: {item}; known: {_known(scenarios, values)}.")
            listed[rows] = NAMES.index(name)
    # Shares are cut out of the scenarios that train, where a list says which these are, or out of those of no list.
    rest = "train" if "train" in settings.lists else UNUSED
    bounds = np.cumsum(list(settings.shares.values()))
    if bounds.size and bounds[-1] > 1 - 1e-9:
        bounds[-1] = 1.0  # the shares add up to 1, but for rounding
    place = (generator(seed, "splits").random() + scenarios * GOLDEN_RATIO) % 1.0
    drawn = np.array([NAMES.index(name) for name in (*settings.shares, rest)], dtype=np.int8)
    drawn = drawn[np.searchsorted(bounds, place, side="right")]
    open_to_shares = listed == (NAMES.index("train") if rest == "train" else NOT_LISTED)
    codes = np.where(open_to_shares, drawn, np.where(listed == NOT_LISTED, NAMES.index(UNUSED), listed))
    return pd.Categorical.from_codes(codes, pd.Index(NAMES))


def _listed(
    scenarios: np.ndarray, *, settings: Splits, name: str, values: np.ndarray | None
) -> Iterator[tuple[str, np.ndarray]]:
    """For each item of a list, which scenarios it names, and what to say where it names none."""
    if values is not None:
        for word in settings.words(name):
            yield f"no scenario has {word!r} in the column {settings.column!r}", values == word
        return
    for first, last in settings.ranges(name):
        inside = (first <= scenarios) & (scenarios <= last)
        complete = inside if last <= scenarios.max() else np.zeros_like(inside)
        yield f"there is no scenario {last}", complete


def _known(scenarios: np.ndarray, values: np.ndarray | None) -> str:
    if values is None:
        return f"scenarios 0 to {scenarios.max()}"
    found = np.unique(values[values != ""])
    return ", ".join(found[:MOST_VALUES]) + (" …" if len(found) > MOST_VALUES else "")


def make_splits(
    shards: Sequence[Path],
    *,
    settings: Splits,
    targets: Mapping[str, Target],
    seed: int,
    output: Path,
    targets_output: Path,
) -> None:
    """Split a dataset by scenario, and fit the scale of every target on the training split.

    Parameters
    ----------
    shards
        All encoded shards of the dataset.
    settings
        The `splits:` section.
    targets
        The targets, by name of the parameter.
    seed
        The study's seed.
    output
        Table with the columns example, shard, row, scenario, split.
    targets_output
        ``targets.json``, which :meth:`TargetScaling.read` reads.

    Raises
    ------
    PopdlError
        If a split is empty, a list or a table names what is not there, or a target has no value, one value only, or one that its scale does not take.
    """
    opened = open_shards(shards)
    scenario = read_array(opened, "scenario")
    values = _column(opened, scenario, settings) if settings.column is not None else None
    split = assign_scenarios(scenario, settings=settings, seed=seed, values=values)
    for name in (*SPLITS, UNUSED):
        log.info("%s: %d scenarios.", name, len(np.unique(scenario[split == name])))
    _check_not_empty(split, settings=settings, num_scenarios=len(np.unique(scenario)), seed=seed)
    counts = [shard.attributes["num_examples"] for shard in opened]
    names = pd.Categorical([shard.path.name for shard in opened])
    table = pd.DataFrame(
        {
            "example": np.arange(sum(counts)),
            "shard": names.repeat(counts),
            "row": np.concatenate([np.arange(count) for count in counts]),
            "scenario": scenario,
            "split": split,
        }
    )
    truths = read_parameters(opened, list(targets))
    classes = opened[0].attributes["classes"]
    scaling = TargetScaling(
        {
            name: fit_scale(name, target, column, np.asarray(split), classes.get(name, []))
            for (name, target), column in zip(targets.items(), truths.T, strict=True)
        }
    )
    write_text(targets_output, json.dumps(scaling.to_json(), indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    write_table(output, table)


def read_splits(path: Path) -> pd.DataFrame:
    """Read a table of splits, with the columns example, shard, row, scenario and split.

    Row i is example i, so that ``np.flatnonzero(table["split"] == "train")`` are rows of the arrays of all shards.
    """
    try:
        table = pd.read_csv(path, sep="\t", dtype={"shard": "category", "split": "category"})
    except OSError as error:
        raise PopdlError(f"{path}: cannot be read ({error.strerror}); run the step that makes the splits.") from None
    except ValueError as error:
        raise PopdlError(f"{path}: not a table ({error}); delete it and run the step that makes the splits.") from None
    if list(table.columns) != COLUMNS or not np.array_equal(table["example"], np.arange(len(table))):
        raise PopdlError(
            f"{path}: expected the columns {', '.join(COLUMNS)} and every example in order; delete it and run the step that makes the splits."
        )
    return table


def _column(shards: Sequence[Shard], scenario: np.ndarray, settings: Splits) -> np.ndarray:
    """What the column that decides says of each example; "" where it says nothing."""
    assert settings.column is not None
    if settings.file is not None:
        said = read_assignment(settings.file, settings.column, num_scenarios=int(scenario.max()) + 1)
        return np.array([said.get(number, "") for number in scenario.tolist()])
    (values,) = read_parameters(shards, [settings.column]).T
    if classes := shards[0].attributes["classes"].get(settings.column):
        indices = class_indices(values, classes, name=f"splits.column {settings.column}")
        return np.array(["" if np.isnan(index) else classes[int(index)] for index in indices.tolist()])
    return np.array(["" if np.isnan(value) else number_text(value) for value in values.tolist()])


def read_assignment(path: Path, column: str, *, num_scenarios: int) -> dict[int, str]:
    """Read which value each scenario has in a column of a user's table.

    Parameters
    ----------
    path
        TSV, CSV or JSON with the column ``scenario``.
    column
        The column of values.
    num_scenarios
        Scenarios of the study; they are numbered from 0.

    Raises
    ------
    PopdlError
        If the table is no such table, or names a scenario twice or one that is not there.
    """
    table = read_table(path)
    table.need([SCENARIO, column])
    said: dict[int, str] = {}
    for row, (word, value) in enumerate(zip(table.columns[SCENARIO], table.columns[column], strict=True)):
        if not word.isdecimal() or int(word) >= num_scenarios:
            raise PopdlError(
                f"{table.where(row)}: expected the number of a scenario, 0 to {num_scenarios - 1}, found {word!r}."
            )
        if int(word) in said:
            raise PopdlError(f"{table.where(row)}: scenario {word} is there twice; a scenario lies in one split.")
        said[int(word)] = value
    return said


def _check_not_empty(split: pd.Categorical[str], *, settings: Splits, num_scenarios: int, seed: int) -> None:
    empty = [name for name in SPLITS if name not in split]
    if not empty:
        return
    if settings.lists:
        counts = ", ".join(f"{name} {np.count_nonzero(split == name)}" for name in (*SPLITS, UNUSED))
        raise PopdlError(f"splits: {' and '.join(empty)} without examples ({counts}); change the lists and shares.")
    # Any arc of [0, 1) is met within 1 + 2/share steps of the golden ratio.
    enough = 2 + math.ceil(2 / min(settings.shares.values()))
    first = assign_scenarios(np.arange(enough), settings=settings, seed=seed)
    needed = 1 + max(int(np.argmax(first == name)) for name in SPLITS)
    raise PopdlError(
        f"splits: {num_scenarios} scenarios leave {' and '.join(empty)} without examples; simulate at least {needed} scenarios (simulation.num_scenarios)."
    )
