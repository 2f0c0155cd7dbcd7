"""Which examples are for training, validation and test, and how targets are scaled for the networks."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from popdl.config.training import Splits, Target
from popdl.dataset import open_shards, read_array, read_parameters
from popdl.errors import PopdlError
from popdl.files import write_text
from popdl.seeds import generator

__all__ = ["SPLITS", "TargetScale", "TargetScaling", "assign_scenarios", "make_splits", "read_splits"]

SPLITS = ("train", "validation", "test")
UNUSED = "unused"
GOLDEN_RATIO = (math.sqrt(5) - 1) / 2
COLUMNS = ["example", "shard", "row", "scenario", "split"]


@dataclass(frozen=True)
class TargetScale:
    """How one target is written for the networks, fitted on the training split alone."""

    task: str
    """`regression` or `classification`."""
    scale: str
    """`log`: mean, sd and what networks learn are of log10 values."""
    weight: float
    """Weight in the loss."""
    label: str
    unit: str | None
    classes: list[str]
    """Names of the classes; empty for a regression."""
    mean: float | None
    """Mean over the training split; None for a classification."""
    sd: float | None
    """Standard deviation over the training split."""
    low: float | None
    """Lowest value in the training split, in natural units."""
    high: float | None
    """Highest value in the training split, in natural units."""
    num_missing: dict[str, int]
    """Examples without a value, by split."""

    def to_network(self, values: np.ndarray) -> np.ndarray:
        """Standardised values, or indices of classes; NaN stays NaN."""
        if self.task == "classification":
            return _class_indices(values, self.classes, name=self.label)
        assert self.mean is not None and self.sd is not None
        return ((np.log10(values) if self.scale == "log" else values) - self.mean) / self.sd

    def to_natural(self, values: np.ndarray) -> np.ndarray:
        """The inverse of :meth:`to_network` for a regression; indices of classes are returned as they are."""
        if self.task == "classification":
            return values
        assert self.mean is not None and self.sd is not None
        values = values * self.sd + self.mean
        return 10**values if self.scale == "log" else values


@dataclass(frozen=True)
class TargetScaling:
    """The scales of all targets, in the order of the config: what ``targets.json`` holds."""

    targets: dict[str, TargetScale]

    @property
    def names(self) -> list[str]:
        return list(self.targets)

    def to_network(self, values: np.ndarray) -> np.ndarray:
        """Write target values for the networks.

        Parameters
        ----------
        values : ndarray of shape (num_examples, num_targets)
            In natural units; a class as the simulator wrote it; NaN where missing.

        Returns
        -------
        ndarray of shape (num_examples, num_targets), dtype=float64
            Standardised on the target's scale; the index of a class; NaN where missing.
        """
        columns = zip(self.targets.values(), np.asarray(values, dtype=np.float64).T, strict=True)
        return np.stack([target.to_network(column) for target, column in columns], axis=1)

    def to_natural(self, values: np.ndarray) -> np.ndarray:
        """From the networks' scale to natural units, for an array of shape (num_examples, num_targets)."""
        columns = zip(self.targets.values(), np.asarray(values, dtype=np.float64).T, strict=True)
        return np.stack([target.to_natural(column) for target, column in columns], axis=1)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values: what stands in ``targets.json`` and in a model's card."""
        return {name: asdict(target) for name, target in self.targets.items()}

    @classmethod
    def from_json(cls, values: Mapping[str, Mapping[str, Any]]) -> TargetScaling:
        """The inverse of :meth:`to_json`."""
        return cls({name: TargetScale(**target) for name, target in values.items()})

    @classmethod
    def read(cls, path: Path) -> TargetScaling:
        """Read ``targets.json``, or raise a :class:`PopdlError` if it is not such a file."""
        try:
            return cls.from_json(json.loads(path.read_text(encoding="utf-8")))
        except OSError as error:
            raise PopdlError(
                f"{path}: cannot be read ({error.strerror}); run the step that makes the splits."
            ) from None
        except (ValueError, TypeError, AttributeError):
            raise PopdlError(
                f"{path}: not a table of targets; delete it and run the step that makes the splits."
            ) from None


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
            name: _fit(name, target, column, split, classes.get(name, []))
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


def _fit(name: str, target: Target, values: np.ndarray, split: np.ndarray, classes: Sequence[str]) -> TargetScale:
    """Fit the scale of one target; values outside the training split are only counted."""
    missing = np.isnan(values)
    num_missing = {part: int(np.count_nonzero(missing & (split == part))) for part in SPLITS}
    known = values[(split == "train") & ~missing]
    if np.isinf(values).any():
        raise PopdlError(f"targets.{name}: expected finite values, found an infinite one; mark it as missing (NaN).")
    if not len(known):
        raise PopdlError(f"targets.{name}: no example of the training split has a value; choose another target.")
    mean = sd = low = high = None
    if target.task == "classification":
        distinct = len(
            np.unique(_class_indices(values, classes, name=f"targets.{name}")[(split == "train") & ~missing])
        )
    else:
        if target.scale == "log" and np.nanmin(values) <= 0:
            raise PopdlError(
                f"targets.{name}: scale log needs positive values, found {np.nanmin(values):g}; use `scale: linear` or another prior."
            )
        scaled = np.log10(known) if target.scale == "log" else known
        mean, sd, low, high = (float(value) for value in (scaled.mean(), scaled.std(), known.min(), known.max()))
        distinct = len(np.unique(known))
    if distinct < 2:
        raise PopdlError(
            f"targets.{name}: all {len(known)} examples of the training split have the same value ({known[0]:g}), so there is nothing to learn; "
            "simulate more scenarios, widen its prior or choose another target."
        )
    return TargetScale(
        task=target.task,
        scale=target.scale,
        weight=target.weight,
        label=target.label or name,
        unit=target.unit,
        classes=list(classes) if target.task == "classification" else [],
        mean=mean,
        sd=sd,
        low=low,
        high=high,
        num_missing=num_missing,
    )


def _class_indices(values: np.ndarray, classes: Sequence[str], *, name: str) -> np.ndarray:
    """Index of the class of each value; NaN stays NaN.

    The value of a `choice` among numbers is the number, which ``classes`` names as ``f"{value:g}"``; that of a choice among
    words is already the index.
    """
    indices = {class_name: float(index) for index, class_name in enumerate(classes)}
    if not all(_is_number(class_name) for class_name in classes):
        indices = {f"{index:g}": index for index in indices.values()}
    distinct, inverse = np.unique(values, return_inverse=True)
    try:
        found = [math.nan if math.isnan(value) else indices[f"{value:g}"] for value in distinct]
    except KeyError as error:
        raise PopdlError(f"{name}: found the value {error}, expected one of the classes {list(classes)}.") from None
    return np.array(found)[inverse]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
