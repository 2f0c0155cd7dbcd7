"""One population whose size never changed."""

from __future__ import annotations

import msprime

from popdl.simulators._msprime import MsprimeSimulator

__all__ = ["ConstantSize"]


class ConstantSize(MsprimeSimulator):
    """One population of `population_size` individuals at all times."""

    needs = ("population_size",)

    def demography(self, parameters: dict[str, float]) -> msprime.Demography:
        return msprime.Demography.isolated_model([parameters["population_size"]])
