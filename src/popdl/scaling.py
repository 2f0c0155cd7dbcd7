"""How the values of targets are written for the networks, fitted on the training split alone."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import scipy.special

from popdl.config.training import SPLITS, Target, named
from popdl.errors import PopdlError

__all__ = [
    "SPLITS",
    "TargetScale",
    "TargetScaling",
    "are_numbers",
    "circular_mean",
    "class_indices",
    "fit_scale",
    "from_scale",
    "next_to_prediction",
    "on_scale",
    "probability_shares",
    "turns_around",
]

Numbers = TypeVar("Numbers", float, np.ndarray)


LATER_KEYS = ("circular", "loss", "class_weights", "class_shares")
"""Left out of JSON where they are not used: files of earlier versions have none of them."""


CROSS_ENTROPY = ({"name": "cross_entropy"}, {"name": "CrossEntropyLoss"})


def on_scale(values: Numbers, scale: str) -> Numbers:
    """Write values in natural units on a target's scale: as they are, as log10, or as log(x / (1 − x))."""
    if scale == "log":
        return np.log10(values)
    return scipy.special.logit(values) if scale == "logit" else values


def from_scale(values: Numbers, scale: str) -> Numbers:
    """The inverse of :func:`on_scale`; from a logit comes a number between 0 and 1, but never one of them."""
    if scale == "log":
        return 10**values
    if scale == "logit":
        # Rounding must not turn a fraction into 0 or 1, which have no logit.
        return np.clip(scipy.special.expit(values), np.finfo(float).tiny, np.nextafter(1, 0))
    return values


def turns_around(differences: np.ndarray, period: float | None) -> np.ndarray:
    """Differences the shorter way round: at most half a period; as they are where there is no period."""
    return differences if period is None else differences - period * np.round(differences / period)


def circular_mean(values: np.ndarray, period: float) -> float:
    """Direction of the mean of values on a circle (Mardia & Jupp 2000, Directional Statistics, equation 2.2.4)."""
    angles = values * (2 * np.pi / period)
    return float(np.arctan2(np.sin(angles).mean(), np.cos(angles).mean()) * period / (2 * np.pi))


def next_to_prediction(
    true: np.ndarray, predicted: np.ndarray, low: np.ndarray, high: np.ndarray, *, period: float | None
) -> tuple[np.ndarray, ...]:
    """Truth, prediction and the ends of its interval, each on the turn that is next to the prediction.

    Then ``low <= true <= high`` and differences mean for a circular target what they mean for any other, which is returned
    as it is.
    """
    if period is None:
        return true, predicted, low, high
    whole = high - low >= period
    below = np.where(whole, period / 2, np.mod(predicted - low, period))
    above = np.where(whole, period / 2, np.mod(high - predicted, period))
    return predicted + turns_around(true - predicted, period), predicted, predicted - below, predicted + above


@dataclass(frozen=True)
class TargetScale:
    """How one target is written for the networks, fitted on the training split alone."""

    task: str
    """`regression` or `classification`."""
    scale: str
    """What mean, sd and networks are about: `linear` values, their `log` (log10) or their `logit`."""
    weight: float
    """Weight in the loss."""
    label: str
    unit: str | None
    classes: list[str]
    """Names of the classes; empty for a regression."""
    mean: float | None
    """Mean over the training split on the scale, 0 if not standardised; None for a classification."""
    sd: float | None
    """Standard deviation over the training split, 1 if not standardised."""
    low: float | None
    """Lowest value in the training split, in natural units."""
    high: float | None
    """Highest value in the training split, in natural units."""
    num_missing: dict[str, int]
    """Examples without a value, by split."""
    circular: float | None = None
    """Period in natural units; None for a quantity that is not circular."""
    loss: dict[str, Any] | None = None
    """``name`` and options of the loss; None for the default of the task."""
    class_weights: dict[str, float] | None = None
    """Weight of each class in the loss, 1 on average over the training split."""
    class_shares: dict[str, float] | None = None
    """Share of each class in the training split; None where classes have no weights."""

    def to_network(self, values: np.ndarray) -> np.ndarray:
        """Standardised values, or indices of classes; NaN stays NaN."""
        if self.task == "classification":
            return class_indices(values, self.classes, name=self.label)
        assert self.mean is not None and self.sd is not None
        return (on_scale(values, self.scale) - self.mean) / self.sd

    def to_natural(self, values: np.ndarray) -> np.ndarray:
        """The inverse of :meth:`to_network` for a regression; indices of classes are returned as they are."""
        if self.task == "classification":
            return values
        assert self.mean is not None and self.sd is not None
        return self.natural(values * self.sd + self.mean)

    def natural(self, values: np.ndarray) -> np.ndarray:
        """From the target's scale to natural units; from any turn of a circular target to the first."""
        values = from_scale(values, self.scale)
        return values if self.circular is None else np.mod(values, self.circular)

    @property
    def network_period(self) -> float | None:
        """Period on the networks' scale."""
        return None if self.circular is None or self.sd is None else self.circular / self.sd

    def mean_of(self, predictions: Sequence[np.ndarray]) -> np.ndarray:
        """Mean over several predictions on the target's scale, the shorter way round from the first."""
        first = predictions[0]
        if self.circular is None:
            return np.mean(predictions, axis=0)
        return first + np.mean([turns_around(values - first, self.circular) for values in predictions], axis=0)

    def interval(self, value: np.ndarray, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, ...]:
        """Prediction and both ends of its interval in natural units, from the target's scale.

        The interval of a circular target goes upwards from its lower end, across the period where that is the larger
        number; an interval of a whole period goes from 0 to it.
        """
        ends = [self.natural(values) for values in (value, low, high)]
        if self.circular is not None:
            whole = high - low >= self.circular
            ends[1:] = [np.where(whole, 0.0, ends[1]), np.where(whole, self.circular, ends[2])]
        return tuple(ends)


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
        return {
            name: {key: value for key, value in asdict(target).items() if value is not None or key not in LATER_KEYS}
            for name, target in self.targets.items()
        }

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
    mean = sd = low = high = class_weights = class_shares = None
    if target.task == "classification":
        indices = class_indices(values, classes, name=f"targets.{name}")[(split == "train") & ~missing]
        distinct = len(np.unique(indices))
        if target.class_weights is not None:
            class_weights = _class_weights(name, target.class_weights, indices.astype(np.int64), classes)
            class_shares = {label: float((indices == index).mean()) for index, label in enumerate(classes)}
    else:
        _check_range(name, target, values)
        scaled = on_scale(known, target.scale)
        mean, sd, low, high = (float(value) for value in (scaled.mean(), scaled.std(), known.min(), known.max()))
        if not target.standardise:
            mean, sd = 0.0, 1.0
        distinct = len(np.unique(known))
    if distinct < 2:
        raise PopdlError(
            f"targets.{name}: all {len(known)} examples of the training split have the same value ({known[0]:g}), so there is nothing to learn; "
            "simulate more scenarios, widen its prior or choose another target."
        )
    loss = None if target.loss is None else named(target.loss)
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
        circular=target.circular,
        loss=None if loss is None else {"name": loss[0], **loss[1]},
        class_weights=class_weights,
        class_shares=class_shares,
    )


def _check_range(name: str, target: Target, values: np.ndarray) -> None:
    """Refuse values that the target's scale does not take."""
    low, high = np.nanmin(values), np.nanmax(values)
    if target.scale == "log" and low <= 0:
        raise PopdlError(
            f"targets.{name}: scale log needs positive values, found {low:g}; use `scale: linear` or another prior."
        )
    if target.scale == "logit" and not 0 < low <= high < 1:
        raise PopdlError(
            f"targets.{name}: scale logit needs values between 0 and 1, neither of them included, found {low if low <= 0 else high:g}; "
            "use `scale: linear` or another prior."
        )
    if target.circular is not None and not 0 <= low <= high <= target.circular:
        raise PopdlError(
            f"targets.{name}: a circular target has values from 0 to its period ({target.circular:g}), found {low if low < 0 else high:g}; "
            "give the period in the units of the values."
        )


def _class_weights(
    name: str, weights: Mapping[str, float] | str, indices: np.ndarray, classes: Sequence[str]
) -> dict[str, float]:
    """Weights of the classes, scaled so that their mean over the training split is 1: the target's own weight keeps its meaning."""
    counts = np.bincount(indices, minlength=len(classes))
    if not isinstance(weights, str):
        if set(weights) != set(classes):
            raise PopdlError(
                f"targets.{name}.class_weights: expected a weight for each of {', '.join(classes)}, found {', '.join(weights)}."
            )
        found = np.array([weights[label] for label in classes])
    elif counts.all():
        found = 1 / counts
    else:
        raise PopdlError(
            f"targets.{name}.class_weights: `balanced` needs every class in the training split, which has no {classes[int(counts.argmin())]!r}; "
            "simulate more scenarios, or give the weights."
        )
    mean = float((found * counts).sum() / counts.sum())
    return {label: float(weight) / mean for label, weight in zip(classes, found, strict=True)}


def probability_shares(described: Mapping[str, Any]) -> dict[str, float] | None:
    """The shares of classes that predicted probabilities refer to where classes have weights in the loss.

    The expected cross-entropy Σ p(c) w(c) E[−log q(c | x)] is smallest at q(c | x) ∝ w(c) p(c) p(x | c): the posterior under the
    prior w(c) p(c), with the shares p(c) of the training split (Saerens et al. 2002, Neural Computation 14:21, equation 2.4).

    Parameters
    ----------
    described
        A target as in ``targets.json``.

    Returns
    -------
    dict
        By class; None where there are no weights, or with another loss, whose outputs are no such probabilities.
    """
    weights, shares, loss = (described.get(key) for key in ("class_weights", "class_shares", "loss"))
    if not weights or not shares or (loss and loss not in CROSS_ENTROPY):
        return None
    return {name: weights[name] * share for name, share in shares.items()}


def class_indices(values: np.ndarray, classes: Sequence[str], *, name: str) -> np.ndarray:
    """Index of the class of each value; NaN stays NaN.

    The value of a `choice` among numbers is the number, which ``classes`` names as ``f"{value:g}"``; that of a choice among
    words is already the index.
    """
    indices = {class_name: float(index) for index, class_name in enumerate(classes)}
    if not are_numbers(classes):
        indices = {f"{index:g}": index for index in indices.values()}
    distinct, inverse = np.unique(values, return_inverse=True)
    try:
        found = [math.nan if math.isnan(value) else indices[f"{value:g}"] for value in distinct]
    except KeyError as error:
        raise PopdlError(f"{name}: found the value {error}, expected one of the classes {list(classes)}.") from None
    return np.array(found)[inverse]


def are_numbers(classes: Sequence[str]) -> bool:
    """Whether all the choices are numbers: an example then has the number itself, else the index of the word."""
    try:
        return bool([float(name) for name in classes])
    except ValueError:
        return False
