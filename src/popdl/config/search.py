"""The section `search:`."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Literal

from pydantic import Field, model_validator

from popdl.config.base import Section, suggestion
from popdl.config.encoding import Encoding
from popdl.config.training import Training
from popdl.config.transforms import Transforms
from popdl.priors import Prior

__all__ = ["Search"]

INSTEAD = "write a config for each value, with `inherits:` and a `study:` of its own"
ADDED = ("num_scenarios", "replicates", "shard_size")
"""Keys of a source that say how many examples there are."""


class Search(Section):
    """A search for settings: every trial trains a network once, and the one with the lowest validation loss is kept.

    The test split has no part in it. A search may change any key that decides what a network learns: of `training` and of
    `transforms` (for all networks), of `networks` (for one), and of `encoding` and of `simulation` or `import` (for all networks
    together: the study has one dataset, that of the best trial of any network).
    """

    method: Literal["grid", "random"] = "grid"
    """`grid`: every combination of the values; `random`: draws."""
    trials: int | None = Field(default=None, ge=1)
    """Trials of each network (`random` only); more of them later leave the earlier ones as they are."""
    over: dict[str, list[Any] | Prior] = Field(min_length=1)
    """By key, written with dots (`training.learning_rate`, `networks.exchangeable.head`, `transforms`, `encoding.max_sites`): a list of values or, for `random`, a prior."""

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

    def problems(self, *, networks: Collection[str], source: tuple[str, type[Section]]) -> list[str]:
        """Every key that cannot be searched, and what to do instead.

        Parameters
        ----------
        networks
            Keys of `networks:`.
        source
            The section that examples come from, `simulation` or `import`, and its class.
        """
        found = ((key, self._problem(key, networks=networks, source=source)) for key in self.over)
        return [f"search.over.{key}: {problem}" for key, problem in found if problem]

    def _problem(self, key: str, *, networks: Collection[str], source: tuple[str, type[Section]]) -> str | None:
        section, _, rest = key.partition(".")
        part, _, option = rest.partition(".")
        keys: dict[str, type[Section]] = {"training": Training, "encoding": Encoding, source[0]: source[1]}
        if section == "training" and part in ("replicates", "threads"):
            return "it does not make a network better or worse"
        if section in keys and part not in keys[section].model_fields:
            return f"there is no such key; {suggestion(part, keys[section].model_fields)}"
        if section == source[0] and part in ADDED:
            return f"more examples are never worse, so nothing is there to choose; to see how accuracy grows, {INSTEAD}"
        if section in ("simulation", "import") and section != source[0]:
            return f"this study has no section `{section}:`; search over `{source[0]}`"
        if section == "networks" and part not in networks:
            return f"there is no such network; {suggestion(part, networks)}"
        if section == "networks" and option in ("", "name"):
            return "give each network a key of its own under `networks:`, and search over its options"
        if section == "transforms" and rest not in ("", *Transforms.model_fields):
            return f"there is no such list; {suggestion(rest, Transforms.model_fields)}"
        if section in ("targets", "splits", "evaluation"):
            return f"validation losses of different targets, losses, weights or splits cannot be compared; {INSTEAD}"
        if section == "statistics":
            return f"no network reads the statistics, only baselines do; {INSTEAD}"
        if section not in (*keys, "networks", "transforms"):
            return f"it changes nothing that a network learns; {INSTEAD}"
        return None
