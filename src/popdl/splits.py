"""Which examples are for training, validation and test."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from popdl.config.training import Splits, Target
from popdl.dataset import open_shards, read_array, read_parameters
from popdl.errors import PopdlError
from popdl.files import write_text
from popdl.scaling import SPLITS, TargetScaling, fit_scale
from popdl.seeds import generator

__all__ = ["assign_scenarios", "make_splits", "read_splits"]

UNUSED = "unused"
GOLDEN_RATIO = (math.sqrt(5) - 1) / 2
COLUMNS = ["example", "shard", "row", "scenario", "split"]


def assign_scenarios(scenarios: np.ndarray, *, settings: Splits, seed: int) -> np.ndarray:
    """Assign scenarios to splits.

    Scenario s stands at frac(u₀ + s·φ) with the golden ratio φ and u₀ drawn from the seed: points that fill [0, 1) evenly
    however many there are. [0, 1) is cut into train, validation, test and unused. So shares are met as closely as can
    be, and a scenario stays where it is when others are added.

    Parameters
    ----------
    scenarios : ndarray of shape (n,), dtype=int64
        Numbers of scenarios.
    settings
        The shares.
    seed
        The study's seed.

    Returns
    -------
    ndarray of shape (n,), dtype=str
        ``train``, ``validation``, ``test`` or ``unused``.
    """
    bounds = np.cumsum([settings.train, settings.validation, settings.test])
    if bounds[-1] > 1 - 1e-9:
        bounds[-1] = 1.0  # the shares add up to 1, but for rounding
    place = (generator(seed, "splits").random() + scenarios * GOLDEN_RATIO) % 1.0
    return np.array([*SPLITS, UNUSED])[np.searchsorted(bounds, place, side="right")]


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
        Shares of the splits.
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
        If a split is empty, or a target has no value, one value only, or one that its scale does not take.
    """
    opened = open_shards(shards)
    scenario = read_array(opened, "scenario")
    split = assign_scenarios(scenario, settings=settings, seed=seed)
    _check_not_empty(split, settings=settings, num_scenarios=len(np.unique(scenario)), seed=seed)
    counts = [shard.attributes["num_examples"] for shard in opened]
    table = pd.DataFrame(
        {
            "example": np.arange(sum(counts)),
            "shard": np.repeat([shard.path.name for shard in opened], counts),
            "row": np.concatenate([np.arange(count) for count in counts]),
            "scenario": scenario,
            "split": split,
        }
    )
    values = read_parameters(opened, list(targets))
    classes = opened[0].attributes["classes"]
    scaling = TargetScaling(
        {
            name: fit_scale(name, target, column, split, classes.get(name, []))
            for (name, target), column in zip(targets.items(), values.T, strict=True)
        }
    )
    write_text(targets_output, json.dumps(scaling.to_json(), indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    write_text(output, table.to_csv(sep="\t", index=False, lineterminator="\n"))


def read_splits(path: Path) -> pd.DataFrame:
    """Read a table of splits, with the columns example, shard, row, scenario and split.

    Row i is example i, so that ``np.flatnonzero(table["split"] == "train")`` are rows of the arrays of all shards.
    """
    try:
        table = pd.read_csv(path, sep="\t", dtype={"shard": str, "split": str})
    except OSError as error:
        raise PopdlError(f"{path}: cannot be read ({error.strerror}); run the step that makes the splits.") from None
    except ValueError as error:
        raise PopdlError(f"{path}: not a table ({error}); delete it and run the step that makes the splits.") from None
    if list(table.columns) != COLUMNS or not np.array_equal(table["example"], np.arange(len(table))):
        raise PopdlError(
            f"{path}: expected the columns {', '.join(COLUMNS)} and every example in order; delete it and run the step that makes the splits."
        )
    return table


def _check_not_empty(split: np.ndarray, *, settings: Splits, num_scenarios: int, seed: int) -> None:
    empty = [name for name in SPLITS if name not in split]
    if not empty:
        return
    # Any arc of [0, 1) is met within 1 + 2/share steps of the golden ratio.
    enough = 2 + math.ceil(2 / min(settings.train, settings.validation, settings.test))
    first = assign_scenarios(np.arange(enough), settings=settings, seed=seed)
    needed = 1 + max(int(np.argmax(first == name)) for name in SPLITS)
    raise PopdlError(
        f"splits: {num_scenarios} scenarios leave {' and '.join(empty)} without examples; simulate at least {needed} scenarios (simulation.num_scenarios)."
    )
