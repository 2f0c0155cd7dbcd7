"""Prior distributions as a config writes them, and seeded draws from them.

``{loguniform: [5000, 50000]}`` names a distribution of :mod:`scipy.stats`. ``uniform`` and ``loguniform`` take [low, high],
``choice`` takes a list of values, every other distribution takes scipy's own arguments as a list or a mapping.
``times: other`` multiplies the draw by another parameter, and ``within: [low, high]`` redraws it until the product lies inside.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from pydantic import GetJsonSchemaHandler, model_serializer, model_validator
from pydantic_core import CoreSchema

from popdl.config.base import Section
from popdl.errors import PopdlError

__all__ = ["Prior", "draw", "drawing_order"]

MAX_REDRAWS = 10_000


class Prior(Section):
    """The distribution from which one parameter is drawn, once per scenario."""

    written_as = "[prior](#priors)"

    distribution: str
    """`constant`, `choice`, `uniform`, `loguniform`, or the name of a distribution in scipy.stats."""
    arguments: list[float] | list[float | str] | dict[str, float]
    """[low, high] for `uniform` and `loguniform`, the values for `choice`, else scipy's arguments."""
    times: str | None = None
    """Another parameter, by which the draw is multiplied."""
    within: tuple[float, float] | None = None
    """The draw is repeated until the value lies in [low, high]."""

    @model_validator(mode="before")
    @classmethod
    def _from_yaml(cls, value: Any) -> Any:
        if isinstance(value, Prior):
            return value
        if isinstance(value, bool) or value is None or isinstance(value, str | list):
            raise ValueError(f"expected a number or a prior such as {{uniform: [low, high]}}, found {value!r}")
        if isinstance(value, int | float):
            return {"distribution": "constant", "arguments": [value]}
        if not isinstance(value, Mapping) or "distribution" in value:
            return value
        options = {key: value[key] for key in ("times", "within") if key in value}
        names = [key for key in value if key not in options]
        if len(names) != 1:
            raise ValueError(
                f"expected exactly one distribution such as {{uniform: [low, high]}}, found {sorted(map(str, names))}"
            )
        return {"distribution": names[0], "arguments": value[names[0]], **options}

    @model_validator(mode="after")
    def _check(self) -> Prior:
        name, arguments = self.distribution, self.arguments
        if self.within is not None and self.within[0] >= self.within[1]:
            raise ValueError(f"within: the lower bound must be below the upper one, found {list(self.within)}")
        if name in ("uniform", "loguniform"):
            if not isinstance(arguments, list) or len(arguments) != 2:
                raise ValueError(f"{name} takes [low, high], found {arguments!r}")
            low, high = (float(argument) for argument in arguments)
            if not (math.isfinite(low) and math.isfinite(high) and low < high):
                raise ValueError(f"{name}: low must be below high, found [{low:g}, {high:g}]")
            if name == "loguniform" and low <= 0:
                raise ValueError(f"loguniform: low must be positive, found {low:g}")
        elif name == "choice":
            if not isinstance(arguments, list) or len(arguments) < 2 or len(set(arguments)) < len(arguments):
                raise ValueError(f"choice takes a list of at least two different values, found {arguments!r}")
            if len({isinstance(argument, str) for argument in arguments}) > 1:
                raise ValueError(f"choice takes numbers or words, not both, found {arguments!r}")
        elif name != "constant":
            self._frozen()
        return self

    @model_serializer
    def _to_yaml(self) -> Any:
        if self.distribution == "constant" and self.times is None and self.within is None:
            return self.arguments[0]  # type: ignore[index]
        value: dict[str, Any] = {self.distribution: self.arguments}
        if self.times is not None:
            value["times"] = self.times
        if self.within is not None:
            value["within"] = list(self.within)
        return value

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {
            "description": "A number, or a prior: {uniform: [low, high]}, {loguniform: [low, high]}, {choice: [a, b]}, or "
            "any distribution of scipy.stats with its arguments; with `times: parameter` and `within: [low, high]`.",
            "anyOf": [{"type": "number"}, {"type": "object"}],
        }

    def _frozen(self) -> Any:
        """The frozen scipy distribution; scipy.stats takes over a second to import, so only where it is needed."""
        import scipy.stats

        family = getattr(scipy.stats, self.distribution, None)
        if not isinstance(family, scipy.stats.rv_continuous | scipy.stats.rv_discrete):
            raise ValueError(
                f"{self.distribution!r} is not a distribution; expected constant, choice, uniform, loguniform or a name in scipy.stats"
            )
        try:
            frozen = family(**self.arguments) if isinstance(self.arguments, dict) else family(*self.arguments)
        except TypeError as error:
            raise ValueError(
                f"{self.distribution}: scipy.stats refuses the arguments {self.arguments!r}: {error}"
            ) from None
        if not np.isfinite(frozen.mean()) and not np.isfinite(frozen.median()):
            raise ValueError(f"{self.distribution}: scipy.stats cannot use the arguments {self.arguments!r}")
        return frozen

    @property
    def classes(self) -> list[str]:
        """The values of a `choice`, as class names; empty for every other distribution."""
        return (
            [f"{value:g}" if isinstance(value, int | float) else value for value in self.arguments]
            if self.distribution == "choice"
            else []
        )

    @property
    def is_random(self) -> bool:
        """Whether two scenarios can differ in this parameter."""
        return self.distribution != "constant" or self.times is not None

    @property
    def lower_bound(self) -> float | None:
        """The lowest value that can be drawn, where that is known without sampling."""
        if self.within is not None:
            return self.within[0]
        if self.times is not None or any(isinstance(value, str) for value in self.arguments):
            return None
        if self.distribution in ("uniform", "loguniform", "constant", "choice"):
            return min(float(value) for value in self.arguments)
        return float(self._frozen().support()[0])

    def sample(self, generator: np.random.Generator) -> float:
        """One draw, before `times` and `within`. A `choice` of words gives the index of the word."""
        arguments = self.arguments
        if self.distribution == "constant":
            return float(arguments[0])  # type: ignore[index]
        if self.distribution == "choice":
            index = int(generator.integers(len(arguments)))
            value = arguments[index]  # type: ignore[index]
            return float(index) if isinstance(value, str) else float(value)
        if self.distribution in ("uniform", "loguniform"):
            low, high = (float(argument) for argument in arguments)
            if self.distribution == "uniform":
                return float(generator.uniform(low, high))
            return float(min(max(math.exp(generator.uniform(math.log(low), math.log(high))), low), high))
        return float(self._frozen().rvs(random_state=generator))


def drawing_order(priors: Mapping[str, Prior]) -> list[str]:
    """Names in an order in which every parameter follows the one it is multiplied by.

    Raises
    ------
    ValueError
        If `times` names an unknown parameter or the references form a circle.
    """
    order: list[str] = []
    waiting = dict(priors)
    while waiting:
        ready = [name for name, prior in waiting.items() if prior.times is None or prior.times in order]
        if not ready:
            name, prior = next(iter(waiting.items()))
            raise ValueError(
                f"{name}: times: {prior.times!r} is not a parameter that is drawn before it; known: {sorted(priors)}"
            )
        for name in ready:
            order.append(name)
            del waiting[name]
    return order


def draw(priors: Mapping[str, Prior], generator: np.random.Generator) -> dict[str, float]:
    """Draw every parameter once.

    Returns
    -------
    dict
        Parameter values by name, in the units of the config, in the order of ``priors``.
    """
    values: dict[str, float] = {}
    for name in drawing_order(priors):
        prior = priors[name]
        low, high = prior.within or (-math.inf, math.inf)
        for _ in range(MAX_REDRAWS):
            value = prior.sample(generator) * (values[prior.times] if prior.times else 1.0)
            if low <= value <= high:
                values[name] = value
                break
        else:
            raise PopdlError(
                f"parameter {name}: no draw out of {MAX_REDRAWS} fell within [{low:g}, {high:g}]; widen `within` or the prior."
            )
    return {name: values[name] for name in priors}
