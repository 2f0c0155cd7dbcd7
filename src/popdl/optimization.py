"""Optimizers, groups of weights and learning rates, as the config names them.

Any optimizer of ``torch.optim`` and any scheduler of ``torch.optim.lr_scheduler`` can be named, or a user's own subclass of
``torch.optim.Optimizer`` and ``LRScheduler``. A killed training goes on with the same learning rates because a schedule is
brought to where it was by going through the finished epochs again: it depends on nothing but their number and losses.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from typing import Any

from torch import nn, optim
from torch.optim import Optimizer, lr_scheduler

from popdl.config.base import suggestion
from popdl.config.training import Named, ParameterGroup, Training, named
from popdl.errors import PopdlError
from popdl.torch_parts import arguments, construct, find

__all__ = ["Schedule", "frozen_modules", "learning_rate", "make_optimizer", "make_schedule"]

FINAL_LEARNING_RATE = 0.01
"""Share of the highest learning rate that is left at the end of the cosine."""
OPTIMIZER = "training.optimizer"
SHORT_OPTIMIZERS: dict[str, tuple[str, dict[str, Any]]] = {
    "adam": ("Adam", {}),
    "adamw": ("AdamW", {}),
    "sgd": ("SGD", {"momentum": 0.9}),
}
OPTIMIZERS: dict[str, type[Optimizer]] = {
    name: value
    for name, value in vars(optim).items()
    if isinstance(value, type) and issubclass(value, Optimizer) and value is not Optimizer
}
FUSED = (optim.Adam, optim.AdamW, optim.SGD)
"""Optimizers that have one kernel for all weights of a GPU."""
REFUSED_OPTIMIZERS = {
    "LBFGS": "it needs the loss several times in each step",
    "SparseAdam": "it takes sparse gradients, and those of networks here are dense",
}
SCHEDULE = "training.schedule"
OWN_SCHEDULES = ("constant", "cosine")
SCHEDULERS: dict[str, Any] = {
    name: value
    for name, value in vars(lr_scheduler).items()
    if isinstance(value, type)
    and issubclass(value, lr_scheduler.LRScheduler)
    and name[0] != "_"
    and name != "LRScheduler"
}
REFUSED_SCHEDULERS = dict.fromkeys(
    ("LambdaLR", "MultiplicativeLR"), "it needs a function, which a config cannot hold; write a class of your own"
)
EVERY_STEP = ("OneCycleLR", "CyclicLR")
"""Schedulers that are made to go on with every step; all others go on with every epoch."""


def learning_rate(step: int, *, num_steps: int, training: Training) -> float:
    """The learning rate of a step: a linear rise from 0, then constant or half a cosine down to 1 % (Loshchilov & Hutter 2017).

    Parameters
    ----------
    step
        Number of the step, from 0.
    num_steps
        Steps in ``max_epochs`` epochs.
    training
        The config's section, with the schedule ``constant`` or ``cosine``.
    """
    warmup = training.warmup * num_steps
    if step < warmup:
        return training.learning_rate * (step + 1) / (warmup + 1)
    if training.schedule == "constant":
        return training.learning_rate
    progress = (step - warmup) / max(num_steps - warmup, 1)
    share = FINAL_LEARNING_RATE + (1 - FINAL_LEARNING_RATE) * 0.5 * (1 + math.cos(math.pi * progress))
    return training.learning_rate * share


def make_optimizer(module: nn.Module, training: Training) -> Optimizer:
    """Make the optimizer of a module, and freeze the weights that the config freezes.

    Raises
    ------
    PopdlError
        If the optimizer is unknown or takes no such options, or a group of weights is empty.
    """
    name, options = named(training.optimizer)
    if name in SHORT_OPTIMIZERS:
        name, defaults = SHORT_OPTIMIZERS[name]
        options = {**defaults, **options}
    part = find(
        name,
        kind="optimizers",
        base=Optimizer,
        classes=OPTIMIZERS,
        refused=REFUSED_OPTIMIZERS,
        short=SHORT_OPTIMIZERS,
        where=OPTIMIZER,
    )
    accepted = arguments(part)
    for key, instead in (("lr", "training.learning_rate"), ("weight_decay", "training.weight_decay")):
        if key in options:
            raise PopdlError(f"{OPTIMIZER}.{key}: leave it out and set {instead}.")
    if part in FUSED and not {"fused", "foreach", "differentiable"} & options.keys() and _on_gpu(module):
        options = {
            **options,
            "fused": True,
        }  # in one pass over the weights; on a CPU, weights stay those of the plain one
    decays = "weight_decay" in accepted
    groups = _groups(module, training.parameter_groups or [])
    own_decay = next(
        (number for number, (group, _) in enumerate(groups) if group and group.weight_decay is not None), None
    )
    if own_decay is not None and not decays:
        raise PopdlError(f"training.parameter_groups.{own_decay}.weight_decay: {part.__name__} has no weight decay.")
    parameters = [
        {
            "params": weights,
            **({"lr": group.learning_rate} if group and group.learning_rate is not None else {}),
            **({"weight_decay": group.weight_decay} if group and group.weight_decay is not None else {}),
        }
        for group, weights in groups
        if not (group and group.frozen) and weights
    ]
    if not parameters:
        raise PopdlError("training.parameter_groups: all weights are frozen, so there is nothing to train.")
    for group, weights in groups:
        for weight in weights if group and group.frozen else []:
            weight.requires_grad_(False)
    fixed = {"lr": training.learning_rate, **({"weight_decay": training.weight_decay} if decays else {})}
    return construct(part, parameters, options=options, where=OPTIMIZER, fixed=fixed)


def _on_gpu(module: nn.Module) -> bool:
    return all(parameter.device.type == "cuda" for parameter in module.parameters())


def _groups(
    module: nn.Module, groups: Sequence[ParameterGroup]
) -> list[tuple[ParameterGroup | None, list[nn.Parameter]]]:
    """The weights that no group names, and those of each group, in the order of the module."""
    taken: list[list[nn.Parameter]] = [[] for _ in groups]
    rest: list[nn.Parameter] = []
    names = dict(module.named_parameters())
    for name, parameter in names.items():
        number = _group_of(name, groups)
        (rest if number is None else taken[number]).append(parameter)
    for number, (group, weights) in enumerate(zip(groups, taken, strict=True)):
        if not weights:
            where = f"training.parameter_groups.{number}.match"
            earlier = any(fnmatchcase(name, group.match) for name in names)
            why = "earlier groups have all weights that it matches" if earlier else "it matches no weight"
            raise PopdlError(f"{where}: {group.match!r}: {why}; {suggestion(group.match, names)}.")
    return [(None, rest), *zip(groups, taken, strict=True)]


def _group_of(name: str, groups: Sequence[ParameterGroup]) -> int | None:
    return next((number for number, group in enumerate(groups) if fnmatchcase(name, group.match)), None)


def frozen_modules(module: nn.Module, training: Training) -> list[nn.Module]:
    """Parts of a module whose buffers (running means, of a normalisation) are frozen: they stay in evaluation mode."""
    groups = training.parameter_groups or []
    frozen = []
    for path, part in module.named_modules():
        names = [name for name, _ in (*part.named_parameters(recurse=False), *part.named_buffers(recurse=False))]
        numbers = [_group_of(f"{path}.{name}", groups) for name in names]
        if any(part.named_buffers(recurse=False)) and all(
            number is not None and groups[number].frozen for number in numbers
        ):
            frozen.append(part)
    return frozen


class Schedule:
    """Learning rates while training: `constant` and `cosine`, computed for each step.

    Parameters
    ----------
    optimizer
        Its groups of weights have their highest learning rates.
    training
        The config's section.
    steps_per_epoch
        Steps in each of ``max_epochs`` epochs.
    """

    def __init__(self, optimizer: Optimizer, training: Training, *, steps_per_epoch: int) -> None:
        self.optimizer = optimizer
        self.training = training
        self.steps_per_epoch = steps_per_epoch
        self.num_steps = steps_per_epoch * training.max_epochs
        self.shares = [group["lr"] / training.learning_rate for group in optimizer.param_groups]

    @property
    def needs_max_epochs(self) -> bool:
        """Whether the learning rates of an epoch depend on how many there may be, so that a change of ``max_epochs`` changes them."""
        return self.training.schedule == "cosine" or self.training.warmup > 0

    @property
    def rate(self) -> float:
        """Learning rate of the first group."""
        return float(self.optimizer.param_groups[0]["lr"])

    def before_step(self, step: int) -> None:
        rate = learning_rate(step, num_steps=self.num_steps, training=self.training)
        for group, share in zip(self.optimizer.param_groups, self.shares, strict=True):
            group["lr"] = rate * share

    def after_step(self) -> None:
        pass

    def after_epoch(self, validation_loss: float) -> None:
        pass

    def replay(self, history: Sequence[Mapping[str, float]]) -> None:
        """Go on to where a training stood after these epochs, the rows of ``history.csv``."""


class TorchSchedule(Schedule):
    """Learning rates by one of torch's schedulers."""

    def __init__(self, optimizer: Optimizer, training: Training, *, steps_per_epoch: int) -> None:
        super().__init__(optimizer, training, steps_per_epoch=steps_per_epoch)
        self.every_step = named(training.schedule)[0] in EVERY_STEP
        with _without_warnings():
            self.scheduler = self._scheduler(training.schedule, where=SCHEDULE)

    @property
    def needs_max_epochs(self) -> bool:
        name, options = named(self.training.schedule)
        return name == "OneCycleLR" and "total_steps" not in options

    def _scheduler(self, part: str | Named | Mapping[str, Any], *, where: str, inner: bool = False) -> Any:
        name, options = named(part)
        found = find(
            name,
            kind="schedules",
            base=lr_scheduler.LRScheduler,
            classes=SCHEDULERS,
            refused=REFUSED_SCHEDULERS,
            short=OWN_SCHEDULES,
            where=where,
        )
        if inner and (name in EVERY_STEP or name == "ReduceLROnPlateau"):
            raise PopdlError(f"{where}: {name} cannot be part of another schedule; let it stand alone.")
        if "schedulers" in options:
            parts = options["schedulers"]
            if not isinstance(parts, list) or not all(
                isinstance(item, str) or (isinstance(item, dict) and "name" in item) for item in parts
            ):
                raise PopdlError(
                    f"{where}.schedulers: expected a list of schedules, each with its name, found {parts!r}."
                )
            options["schedulers"] = [
                self._scheduler(item, where=f"{where}.schedulers.{number}", inner=True)
                for number, item in enumerate(parts)
            ]
        if name in EVERY_STEP:
            options.setdefault("max_lr", [group["lr"] for group in self.optimizer.param_groups])
        if name == "OneCycleLR":
            options.setdefault("total_steps", self.num_steps)
        if name == "ChainedScheduler":
            return construct(found, options=options, where=where, fixed={"optimizer": self.optimizer})
        fixed = {"last_epoch": -1} if "last_epoch" in arguments(found) else {}
        scheduler: Any = construct(found, self.optimizer, options=options, where=where, fixed=fixed)
        if name == "OneCycleLR" and scheduler.total_steps < self.num_steps:
            raise PopdlError(
                f"{where}: its cycle takes {scheduler.total_steps} steps, but the training up to {self.num_steps}; leave `total_steps` out."
            )
        return scheduler

    def before_step(self, step: int) -> None:
        pass

    def after_step(self) -> None:
        if self.every_step:
            self._go_on()

    def after_epoch(self, validation_loss: float) -> None:
        if isinstance(self.scheduler, lr_scheduler.ReduceLROnPlateau):
            self._go_on(validation_loss)
        elif not self.every_step:
            self._go_on()

    def replay(self, history: Sequence[Mapping[str, float]]) -> None:
        for row in history:
            for _ in range(self.steps_per_epoch if self.every_step else 0):
                self._go_on()
            self.after_epoch(row["validation_loss"])

    def _go_on(self, *loss: float) -> None:
        with _without_warnings():
            self.scheduler.step(*loss)


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Schedulers warn of steps without steps of the optimizer, as when they are replayed, and of their own deprecated calls."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield


def make_schedule(optimizer: Optimizer, training: Training, *, steps_per_epoch: int) -> Schedule:
    """The learning rates of a training.

    Raises
    ------
    PopdlError
        If the schedule is unknown or takes no such options.
    """
    name, options = named(training.schedule)
    if name not in OWN_SCHEDULES:
        return TorchSchedule(optimizer, training, steps_per_epoch=steps_per_epoch)
    if options:
        raise PopdlError(f"{SCHEDULE}: {name} takes no {next(iter(options))!r}; it has no options but training.warmup.")
    return Schedule(optimizer, training.model_copy(update={"schedule": name}), steps_per_epoch=steps_per_epoch)
