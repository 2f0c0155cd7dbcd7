"""The sections `targets:`, `splits:`, `training:` and `evaluation:`."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from popdl.config.base import Section

__all__ = ["SPLITS", "Evaluation", "Splits", "Target", "Training", "number_text"]

SPLITS = ("train", "validation", "test")
SCENARIOS = re.compile(r"(\d+)(?:-(\d+))?")
"""The number of a scenario, or the first and the last one of a range."""


def number_text(value: float) -> str:
    """A number as the name of a class, ``f"{value:g}"`` wherever that says it exactly."""
    short = f"{value:g}"
    return short if float(short) == value else repr(float(value))


class Target(Section):
    """One quantity to predict."""

    task: Literal["regression", "classification"] = "regression"
    """A number, or one of the values of a `choice` prior."""
    scale: Literal["linear", "log"] = "linear"
    """`log`: learned, scored and drawn as log10."""
    label: str | None = None
    """What figures call it (default: the parameter's name)."""
    unit: str | None = None
    """Unit shown in figures and tables, e.g. `generations`."""
    weight: float = Field(default=1.0, gt=0)
    """Weight of this target in the loss."""

    @model_validator(mode="after")
    def _check(self) -> Target:
        if self.task == "classification" and self.scale != "linear":
            raise ValueError("scale: a classification target has no scale")
        return self


class Splits(Section):
    """Which scenarios train, validate and test; replicates of one scenario always stay together.

    Each split is a share of the scenarios, or a list: of numbers of scenarios and of ranges such as `10-20` (both ends
    included) or, with `column`, of that column's values. Beside a list for `train`, a share is taken out of the
    scenarios that train; otherwise it is of all scenarios that no list names. What is in no split is unused, and counted.
    """

    train: float | list[int | float | str] = 0.7
    """Used for fitting networks and baselines (with `column` or `file`: `[train]`)."""
    validation: float | list[int | float | str] = 0.15
    """Used for early stopping, for choosing the best network and for the width of intervals (with `column` or `file`: `[validation]`)."""
    test: float | list[int | float | str] = 0.15
    """Scored once, at the end (with `column` or `file`: `[test]`)."""
    column: str | None = None
    """Split by this: one of the parameters of the simulation or import, or a column of `file` (there it is `split` unless given)."""
    file: Path | None = None
    """A table (TSV, CSV or JSON) with the columns `scenario` and `split`."""

    @model_validator(mode="before")
    @classmethod
    def _names_are_values(cls, values: Any) -> Any:
        """Where a column decides, its values are called as the splits are, unless the config says otherwise."""
        if not isinstance(values, dict) or (values.get("column") is None and values.get("file") is None):
            return values
        given = {key: value for key, value in values.items() if value is not None}
        return {"column": "split", **{name: [name] for name in SPLITS}, **given}

    @model_validator(mode="after")
    def _check(self) -> Splits:
        for name in SPLITS:
            value = getattr(self, name)
            if isinstance(value, float) and not 0 < value < 1:
                raise ValueError(f"{name}: a share must lie between 0 and 1, found {value:g}")
            if value == []:
                raise ValueError(f"{name}: the list is empty")
        if (total := sum(self.shares.values())) > 1 + 1e-9:
            raise ValueError(f"train, validation and test must add up to at most 1, found {total:g}")
        if "train" in self.lists and total >= 1:
            raise ValueError(f"the shares taken out of train must add up to less than 1, found {total:g}")
        if self.column is None:
            self._check_ranges()
        else:
            words = [word for name in self.lists for word in self.words(name)]
            for word in words:
                if words.count(word) > 1:
                    raise ValueError(f"{self.column} {word!r} is named twice; a scenario lies in one split")
        return self

    def _check_ranges(self) -> None:
        ranges = sorted((low, high, name) for name in self.lists for low, high in self.ranges(name))
        for before, after in pairwise(ranges):
            if after[0] <= before[1]:
                raise ValueError(
                    f"{after[2]}: scenario {after[0]} is named twice (also under {before[2]}); a scenario lies in one split"
                )

    @property
    def shares(self) -> dict[str, float]:
        """The splits that are given as a share."""
        return {name: value for name in SPLITS if not isinstance(value := getattr(self, name), list)}

    @property
    def lists(self) -> dict[str, list[int | float | str]]:
        """The splits that are given as a list."""
        return {name: value for name in SPLITS if isinstance(value := getattr(self, name), list)}

    def words(self, name: str) -> list[str]:
        """The values of the column that a split lists, as text."""
        return [item if isinstance(item, str) else number_text(item) for item in self.lists[name]]

    def ranges(self, name: str) -> list[tuple[int, int]]:
        """First and last number of each range of scenarios that a split lists."""
        found = []
        for item in self.lists[name]:
            match = SCENARIOS.fullmatch(str(item))
            first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, -1)
            if first > last:
                raise ValueError(f"{name}: expected numbers of scenarios and ranges such as 10-20, found {item!r}")
            found.append((first, last))
        return found


class Training(Section):
    """How networks are trained."""

    batch_size: int = Field(default=64, ge=1)
    """Examples per step."""
    max_epochs: int = Field(default=30, ge=1)
    """Passes over the training split at most."""
    patience: int = Field(default=5, ge=1)
    """Stop after this many epochs without a better validation loss; the best epoch's weights are kept."""
    optimizer: Literal["adam", "adamw", "sgd"] = "adamw"
    """Adam (Kingma & Ba 2015), AdamW (Loshchilov & Hutter 2019) or SGD with momentum 0.9."""
    learning_rate: float = Field(default=1e-3, gt=0)
    """Highest learning rate."""
    weight_decay: float = Field(default=1e-4, ge=0)
    """Weight decay of the optimizer."""
    schedule: Literal["constant", "cosine"] = "cosine"
    """Learning rate over epochs: constant, or half a cosine down to 1 % after a linear warm-up."""
    warmup: float = Field(default=0.05, ge=0, lt=1)
    """Share of all steps in which the learning rate rises from 0."""
    gradient_clip: float | None = Field(default=1.0, gt=0)
    """Largest norm of the gradient (null: no clipping)."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """`auto`: bf16 autocast on a GPU that has it, fp32 elsewhere."""
    replicates: int = Field(default=1, ge=1)
    """Number of trainings of each network, with different seeds."""
    threads: int = Field(default=1, ge=1)
    """CPU threads of each training job. Part of the config because the sum of floats depends on it: the same number gives the same weights."""


class Evaluation(Section):
    """How predictions are judged."""

    interval: float = Field(default=0.9, gt=0, lt=1)
    """Coverage aimed at by the prediction intervals (split conformal on the validation split)."""
    domain: float = Field(default=0.99, gt=0.5, lt=1)
    """A real window counts as outside the training domain if its statistics are more unusual than those of this share of the simulations."""
