"""How the values of targets are written for the networks, fitted on the training split alone."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from popdl.config.training import SPLITS, Target
from popdl.errors import PopdlError

__all__ = ["SPLITS", "TargetScale", "TargetScaling", "class_indices", "fit_scale"]


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
            return class_indices(values, self.classes, name=self.label)
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


def fit_scale(name: str, target: Target, values: np.ndarray, split: np.ndarray, classes: Sequence[str]) -> TargetScale:
    """Fit the scale of one target; values outside the training split are only counted.

    Parameters
    ----------
    name, target
        The target, as in the config.
    values : ndarray of shape (num_examples,)
        In natural units, NaN where missing.
    split : ndarray of shape (num_examples,)
        Name of the split of each example.
    classes
        Names of the classes, where the parameter has them.

    Raises
    ------
    PopdlError
        If the training split has no value, one value only, or one that the scale does not take.
    """
    missing = np.isnan(values)
    num_missing = {part: int(np.count_nonzero(missing & (split == part))) for part in SPLITS}
    known = values[(split == "train") & ~missing]
    if np.isinf(values).any():
        raise PopdlError(f"targets.{name}: expected finite values, found an infinite one; mark it as missing (NaN).")
    if not len(known):
        raise PopdlError(f"targets.{name}: no example of the training split has a value; choose another target.")
    mean = sd = low = high = None
    if target.task == "classification":
        distinct = len(np.unique(class_indices(values, classes, name=f"targets.{name}")[(split == "train") & ~missing]))
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


def class_indices(values: np.ndarray, classes: Sequence[str], *, name: str) -> np.ndarray:
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
