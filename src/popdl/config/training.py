"""The sections `targets:`, `splits:`, `training:` and `evaluation:`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from popdl.config.base import Section

__all__ = ["Evaluation", "Splits", "Target", "Training"]


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
    """Shares of scenarios; replicates of one scenario always stay together."""

    train: float = Field(default=0.7, gt=0, lt=1)
    """Share used for fitting networks and baselines."""
    validation: float = Field(default=0.15, gt=0, lt=1)
    """Share used for early stopping, for choosing the best network and for the width of intervals."""
    test: float = Field(default=0.15, gt=0, lt=1)
    """Share that is scored once, at the end."""

    @model_validator(mode="after")
    def _check(self) -> Splits:
        if (total := self.train + self.validation + self.test) > 1 + 1e-9:
            raise ValueError(f"train, validation and test must add up to at most 1, found {total:g}")
        return self


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
