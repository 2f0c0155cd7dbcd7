"""The sections `targets:`, `splits:`, `training:` and `evaluation:`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, field_validator, model_validator

from popdl.config.base import Section

__all__ = ["SPLITS", "Evaluation", "Named", "ParameterGroup", "Splits", "Target", "Training", "named", "number_text"]

SPLITS = ("train", "validation", "test")
SCENARIOS = re.compile(r"(\d+)(?:-(\d+))?")
"""The number of a scenario, or the first and the last one of a range."""


def number_text(value: float) -> str:
    """A number as the name of a class, ``f"{value:g}"`` wherever that says it exactly."""
    short = f"{value:g}"
    return short if float(short) == value else repr(float(value))


FRESH_PER_EPOCH = 10_000
EXAMPLES_IN_MEMORY = 100_000


class Named(Section):
    """A part of torch, or of your own, with its options beside its name: `{name: SGD, momentum: 0.9}`."""

    model_config = ConfigDict(extra="allow")

    name: str
    """As torch calls it, or `path/to/file.py:ClassName`. All other keys are its arguments."""


def named(part: str | Named | Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Name and options of a part that a config names."""
    if isinstance(part, str):
        return part, {}
    options = part.model_dump(mode="json") if isinstance(part, Named) else dict(part)
    return options.pop("name"), options


class Target(Section):
    """One quantity to predict."""

    task: Literal["regression", "classification"] = "regression"
    """A number, or one of the values of a `choice` prior."""
    scale: Literal["linear", "log", "logit"] = "linear"
    """`log`: learned and scored as log10. `logit`: as log(x / (1 − x)), for values between 0 and 1, where predictions and intervals then stay."""
    standardise: bool = True
    """Whether networks learn it with the mean 0 and the standard deviation 1 of the training split, or as it is on its scale."""
    circular: float | None = Field(default=None, gt=0)
    """Period, for a quantity that starts again at it, such as a position on a circular genome: values lie between 0 and the period, and errors, scores and intervals go the shorter way round."""
    loss: str | Named | None = None
    """Loss of the network's output on this scale: `mse` (the default for numbers), `mae`, `huber`, `smooth_l1`, `cross_entropy` (the default for classes), any loss of torch.nn by its class (`{name: HuberLoss, delta: 0.5}`) or your own (`path/to/file.py:ClassName`). With `circular`, the default is the mean circular error, and any other loss is that of the shorter way round."""
    class_weights: Literal["balanced"] | dict[str, Annotated[float, Field(gt=0)]] | None = None
    """Weight of the examples of each class in the loss: `{neutral: 1, hard: 5}`, or `balanced` for the same total weight of every class in the training split. Only their ratios count. Predicted probabilities then refer to a prior in which classes are as frequent as their weights make them (with `balanced`: all alike); card and report state it."""
    label: str | None = None
    """What figures call it (default: the parameter's name)."""
    unit: str | None = None
    """Unit shown in figures and tables, e.g. `generations`."""
    weight: float = Field(default=1.0, gt=0)
    """Weight of this target in the loss."""

    @field_validator("class_weights", mode="before")
    @classmethod
    def _classes_by_name(cls, value: Any) -> Any:
        """The classes of a `choice` among numbers are named like `2` and `0.5`."""
        if not isinstance(value, dict):
            return value
        return {
            number_text(key) if isinstance(key, int | float) and not isinstance(key, bool) else key: weight
            for key, weight in value.items()
        }

    @model_validator(mode="after")
    def _check(self) -> Target:
        if self.task == "classification":
            if self.scale != "linear":
                raise ValueError("scale: a classification target has no scale")
            if self.circular is not None or not self.standardise:
                raise ValueError("circular, standardise: a classification target has neither")
        elif self.class_weights is not None:
            raise ValueError("class_weights: only a classification target has classes; set `task: classification`")
        if self.circular is not None and self.scale != "linear":
            raise ValueError(f"circular: a circular target is linear, found `scale: {self.scale}`")
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


class ParameterGroup(Section):
    """Weights that are trained in their own way."""

    match: str
    """Pattern over the names of a network's weights, such as `body.*` or `heads.*`; a weight belongs to the first group that it matches."""
    learning_rate: float | None = Field(default=None, ge=0)
    """Highest learning rate of these weights (default: that of the training); 0 freezes them."""
    weight_decay: float | None = Field(default=None, ge=0)
    """Weight decay of these weights (default: that of the training)."""
    freeze: bool = False
    """Keep these weights, and the running means of their normalisation, as they are."""

    @property
    def frozen(self) -> bool:
        return self.freeze or self.learning_rate == 0

    @model_validator(mode="after")
    def _check(self) -> ParameterGroup:
        given = [key for key in ("learning_rate", "weight_decay") if getattr(self, key) is not None]
        if self.freeze and given:
            raise ValueError(f"freeze: frozen weights have no {given[0]}; leave one of the two out")
        if not (self.freeze or given):
            raise ValueError("give learning_rate, weight_decay or `freeze: true`; without, the group changes nothing")
        return self


class Training(Section):
    """How networks are trained."""

    batch_size: int = Field(default=64, ge=1)
    """Examples per step."""
    data: Literal["dataset", "streamed", "on_the_fly"] = "dataset"
    """`dataset`: all of it in memory (on the GPU if there is one). `streamed`: from disk, for a dataset larger than memory. `on_the_fly`: the training split on disk fits scales and baselines only, and networks see fresh simulations, each once (Chan et al. 2018)."""
    examples_in_memory: int | None = Field(default=None, ge=1)
    """With `streamed`: examples in memory at once (default: 100,000). One half is learned from in mixed order while the other is read, so it should be many times `shard_size`. Part of the config because the order of examples depends on it."""
    examples_per_epoch: int | None = Field(default=None, ge=1)
    """With `on_the_fly`: fresh examples between two looks at the validation split (default: 10,000)."""
    workers: int | None = Field(default=None, ge=1)
    """With `on_the_fly`: processes that simulate, beside the threads that train (default: 1). Results do not depend on it."""
    max_epochs: int = Field(default=30, ge=1)
    """Passes over the training split at most; with `on_the_fly`, `max_epochs` times `examples_per_epoch` fresh examples at most. A training that was interrupted goes on from its checkpoint with more epochs, too, unless its learning rates depend on their number (`cosine`, any `warmup`, `OneCycleLR`): then it starts anew, and the log says so."""
    patience: int = Field(default=5, ge=1)
    """Stop after this many epochs without a better validation loss; the best epoch's weights are kept."""
    optimizer: str | Named = "adamw"
    """`adam` (Kingma & Ba 2015), `adamw` (Loshchilov & Hutter 2019), `sgd` (with momentum 0.9), any optimizer of torch.optim by its class (`{name: SGD, momentum: 0.9, nesterov: true}`) or your own (`path/to/file.py:ClassName`)."""
    learning_rate: float = Field(default=1e-3, gt=0)
    """Highest learning rate."""
    weight_decay: float = Field(default=1e-4, ge=0)
    """Weight decay of the optimizer, where it has one."""
    schedule: str | Named = "cosine"
    """Learning rate over epochs: `constant`, or `cosine` (half a cosine down to 1 %), both after a linear warm-up; any scheduler of torch.optim.lr_scheduler by its class (`{name: StepLR, step_size: 10}`), or your own. `OneCycleLR` and `CyclicLR` go on with every step, all others with every epoch; `ReduceLROnPlateau` follows the validation loss."""
    warmup: float = Field(default=0.05, ge=0, lt=1)
    """Share of all steps in which the learning rate rises from 0; with `constant` and `cosine` only."""
    parameter_groups: list[ParameterGroup] | None = Field(default=None, min_length=1)
    """Weights with a learning rate or weight decay of their own, and weights that are frozen."""
    initialise_from: Path | dict[str, Path] | None = None
    """Model file to start from (fine-tuning), or one for each of some networks: `{spidna: shared/model.safetensors}`. Weights with the same name and shape are taken, and the outputs of the targets that agree; the encoding must be the same, and the model must not have seen the test split."""
    gradient_clip: float | None = Field(default=1.0, gt=0)
    """Largest norm of the gradient (null: no clipping)."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """`auto`: bf16 autocast on a GPU that has it, fp32 elsewhere. `fp32` is exact on every device: no TF32 on a GPU."""
    compile: bool | Literal["cuda_graphs"] = False
    """`true`: networks are translated for the device by torch.compile, which takes a minute or so before the first epoch and makes steps faster, mostly on a GPU. `cuda_graphs`: there, all that a step asks of the GPU is recorded and played back at once, too, which helps small networks. Where the machine or the network cannot do it, the log says why and the training goes on without. Part of the config because weights differ in the last digits."""
    replicates: int = Field(default=1, ge=1)
    """Number of trainings of each network, with different seeds."""
    threads: int = Field(default=1, ge=1)
    """CPU threads of each training job. Part of the config because the sum of floats depends on it: the same number gives the same weights."""

    @model_validator(mode="after")
    def _check(self) -> Training:
        needs = {"examples_in_memory": "streamed", "examples_per_epoch": "on_the_fly", "workers": "on_the_fly"}
        for key, data in needs.items():
            if getattr(self, key) is not None and self.data != data:
                raise ValueError(f"{key}: set `data: {data}` too, or leave it out")
        return self

    @property
    def fresh_per_epoch(self) -> int | None:
        """Fresh examples of an epoch; None where networks learn from the dataset."""
        return (self.examples_per_epoch or FRESH_PER_EPOCH) if self.data == "on_the_fly" else None

    @property
    def streamed(self) -> int | None:
        """Examples in memory at once; None where all are."""
        return (self.examples_in_memory or EXAMPLES_IN_MEMORY) if self.data == "streamed" else None

    def described(self) -> dict[str, Any]:
        """What a card says about the training: not its `replicates` and `workers`, no paths, and no groups, fresh examples or compilation where there are none."""
        unused = {"parameter_groups"} if self.parameter_groups is None else set()
        unused |= {"data"} if self.data == "dataset" else set()
        unused |= set() if self.compile else {"compile"}
        unused |= {"examples_per_epoch"} if self.data != "on_the_fly" else set()
        unused |= {"examples_in_memory"} if self.data != "streamed" else set()
        return self.model_dump(mode="json", exclude={"replicates", "workers", "initialise_from", *unused})

    def start_of(self, network: str) -> Path | None:
        """The model file that a network starts from."""
        return self.initialise_from.get(network) if isinstance(self.initialise_from, dict) else self.initialise_from


class Evaluation(Section):
    """How predictions are judged."""

    interval: float = Field(default=0.9, gt=0, lt=1)
    """Coverage aimed at by the prediction intervals (split conformal on the validation split)."""
    domain: float = Field(default=0.99, gt=0.5, lt=1)
    """A real window counts as outside the training domain if its statistics are more unusual than those of this share of the simulations."""
