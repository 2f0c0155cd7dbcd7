"""Prior distributions as a config writes them, and seeded draws from them.

``{loguniform: [5000, 50000]}`` names a distribution of :mod:`scipy.stats`. ``uniform`` and ``loguniform`` take [low, high],
``choice`` takes a list of values, every other distribution takes scipy's own arguments as a list or a mapping.
``rate_from_map: file`` draws recombination rates out of a genetic map.
``times: other`` multiplies the draw by another parameter, ``over: other`` divides it and ``plus: other`` then adds one;
``within: [low, high]`` redraws it until the outcome lies inside.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import GetJsonSchemaHandler, model_serializer, model_validator
from pydantic_core import CoreSchema

from popdl.config.base import Section
from popdl.errors import PopdlError

__all__ = ["Prior", "draw", "drawing_order"]

MAX_REDRAWS = 10_000
REFERENCES = ("times", "over", "plus")
"""Options that name another parameter."""
FROM_MAP = "rate_from_map"


class Prior(Section):
    """The distribution from which one parameter is drawn, once per scenario."""

    written_as = "[prior](#priors)"

    distribution: str
    """`constant`, `choice`, `uniform`, `loguniform`, `rate_from_map`, or the name of a distribution in scipy.stats."""
    arguments: list[float] | list[float | str] | dict[str, float]
    """[low, high] for `uniform` and `loguniform`, the values for `choice`, [file] for `rate_from_map`, else scipy's arguments."""
    times: str | None = None
    """Another parameter, by which the draw is multiplied."""
    over: str | None = None
    """Another parameter, by which it is divided."""
    plus: str | None = None
    """Another parameter, which is added in the end."""
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
        options = {key: value[key] for key in (*REFERENCES, "within") if key in value}
        names = [key for key in value if key not in options]
        if len(names) != 1:
            raise ValueError(
                f"expected exactly one distribution such as {{uniform: [low, high]}}, found {sorted(map(str, names))}"
            )
        arguments = value[names[0]]
        if names[0] == FROM_MAP and isinstance(arguments, str):
            arguments = [arguments]
        return {"distribution": names[0], "arguments": arguments, **options}

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
        elif name == FROM_MAP:
            if not isinstance(arguments, list) or len(arguments) != 1 or not isinstance(arguments[0], str):
                raise ValueError(f"{FROM_MAP} takes a file in HapMap format, found {arguments!r}")
        elif name != "constant":
            self._frozen()
        return self

    @model_serializer
    def _to_yaml(self) -> Any:
        if self.distribution == "constant" and not self.references and self.within is None:
            return self.arguments[0]  # type: ignore[index]
        value: dict[str, Any] = {self.distribution: self.arguments if self.map_file is None else str(self.map_file)}
        value |= {key: getattr(self, key) for key in REFERENCES if getattr(self, key) is not None}
        if self.within is not None:
            value["within"] = list(self.within)
        return value

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {
            "description": "A number, or a prior: {uniform: [low, high]}, {loguniform: [low, high]}, {choice: [a, b]}, "
            "{rate_from_map: file}, or any distribution of scipy.stats with its arguments; with `times: parameter`, "
            "`over: parameter`, `plus: parameter` and `within: [low, high]`.",
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
        return self.distribution != "constant" or bool(self.references)

    @property
    def references(self) -> tuple[str, ...]:
        """Other parameters that a value depends on."""
        return tuple(name for key in REFERENCES if (name := getattr(self, key)) is not None)

    @property
    def map_file(self) -> Path | None:
        """The genetic map that rates are drawn out of, if any."""
        return Path(str(self.arguments[0])) if self.distribution == FROM_MAP else None  # type: ignore[index]

    @property
    def lower_bound(self) -> float | None:
        """The lowest value that can be drawn, where that is known without sampling."""
        if self.within is not None:
            return self.within[0]
        if self.references or any(isinstance(value, str) for value in self.arguments):
            return None
        if self.distribution in ("uniform", "loguniform", "constant", "choice"):
            return min(float(value) for value in self.arguments)
        return float(self._frozen().support()[0])

    def sample(self, generator: np.random.Generator) -> float:
        """One draw, before the references and `within`. A `choice` of words gives the index of the word."""
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
        if self.map_file is not None:
            from popdl.simulators._maps import random_rate

            return random_rate(self.map_file, generator)
        return float(self._frozen().rvs(random_state=generator))

    def combined(self, value: float, others: Mapping[str, float]) -> float:
        """The parameter's value: what was drawn, times, over and plus other parameters."""
        if self.times is not None:
            value *= others[self.times]
        if self.over is not None:
            if others[self.over] == 0:
                raise PopdlError(
                    f"over: {self.over} is 0 in a draw, and nothing can be divided by it; give it a prior above 0."
                )
            value /= others[self.over]
        return value + others[self.plus] if self.plus is not None else value


def drawing_order(priors: Mapping[str, Prior]) -> list[str]:
    """Names in an order in which every parameter follows those that it depends on.

    Raises
    ------
    ValueError
        If `times`, `over` or `plus` names an unknown parameter or the references form a circle.
    """
    order: list[str] = []
    waiting = dict(priors)
    while waiting:
        ready = [name for name, prior in waiting.items() if set(prior.references) <= set(order)]
        if not ready:
            name, prior = next(iter(waiting.items()))
            key, other = next(
                (key, other) for key in REFERENCES if (other := getattr(prior, key)) is not None and other not in order
            )
            raise ValueError(
                f"{name}: {key}: {other!r} is not a parameter that is drawn before it; known: {sorted(priors)}"
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
            value = prior.combined(prior.sample(generator), values)
            if low <= value <= high:
                values[name] = value
                break
        else:
            raise PopdlError(
                f"parameter {name}: no draw out of {MAX_REDRAWS} fell within [{low:g}, {high:g}]; widen `within` or the prior."
            )
    return {name: values[name] for name in priors}
