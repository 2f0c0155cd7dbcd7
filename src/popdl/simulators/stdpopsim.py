"""Any species and demographic model of the stdpopsim catalogue, offline.

Rates and the length of the window come from the config, not from the catalogue.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import stdpopsim

from popdl.config.base import suggestion
from popdl.simulators._graph import GraphSimulator

__all__ = ["StdpopsimModel"]


class StdpopsimModel(GraphSimulator):
    """A published model (Adrion et al. 2020, Lauterbur et al. 2023).

    `set` and `multiply` see it as simplified demes, which stdpopsim shows with `model.model.to_demes()`.
    """

    species: str
    """Id of the species in stdpopsim, e.g. HomSap."""
    model: str
    """Id of the demographic model, e.g. OutOfAfrica_3G09."""

    @cached_property
    def model_data(self) -> dict[str, Any]:
        known = [species.id for species in stdpopsim.all_species()]
        if self.species not in known:
            raise ValueError(f"species: {self.species!r} is not in stdpopsim; {suggestion(self.species, known)}")
        species = stdpopsim.get_species(self.species)
        models = [model.id for model in species.demographic_models]
        if self.model not in models:
            raise ValueError(
                f"model: {self.model!r} is not a model of {self.species} in stdpopsim; {suggestion(self.model, models)}"
            )
        graph = species.get_demographic_model(self.model).model.to_demes()
        data: dict[str, Any] = graph.asdict_simplified()
        return data
