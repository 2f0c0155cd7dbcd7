"""The section `search:`."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from popdl.config.base import Section
from popdl.priors import Prior

__all__ = ["Search"]


class Search(Section):
    """A search for settings: every trial trains a network once, and the one with the lowest validation loss is kept.

    The test split has no part in it. A search may change any key of `training` and of `transforms` (for all networks), and of `networks` (for one).
    """

    method: Literal["grid", "random"] = "grid"
    """`grid`: every combination of the values; `random`: draws."""
    trials: int | None = Field(default=None, ge=1)
    """Trials of each network (`random` only); more of them later leave the earlier ones as they are."""
    over: dict[str, list[Any] | Prior] = Field(min_length=1)
    """By key, written with dots (`training.learning_rate`, `networks.exchangeable.head`, `transforms`): a list of values or, for `random`, a prior."""

    @model_validator(mode="after")
    def _check(self) -> Search:
        if (self.method == "random") != (self.trials is not None):
            raise ValueError("trials: say how many where method is `random`, and leave it out for a grid")
        for key, values in self.over.items():
            if isinstance(values, Prior):
                if not values.is_random or values.times is not None or values.distribution == "choice":
                    raise ValueError(
                        f"over.{key}: expected a list of values, or a prior of its own such as {{loguniform: [low, high]}}"
                    )
                if self.method == "grid":
                    raise ValueError(
                        f"over.{key}: a grid needs a list of values; set `method: random` to draw from a prior"
                    )
            elif not values or any(value in values[:number] for number, value in enumerate(values)):
                raise ValueError(f"over.{key}: expected a list of different values, found {values}")
        return self
