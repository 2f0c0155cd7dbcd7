"""One population that changed its size once."""

from __future__ import annotations

import msprime

from popdl.simulators._msprime import MsprimeSimulator

__all__ = ["SizeChange"]


class SizeChange(MsprimeSimulator):
    """One population of `recent_size` individuals today, and of `event_size` before `event_time` generations ago."""

    needs = ("recent_size", "event_time", "event_size")

    def demography(self, parameters: dict[str, float]) -> msprime.Demography:
        demography = msprime.Demography.isolated_model([parameters["recent_size"]])
        demography.add_population_parameters_change(
            time=parameters["event_time"], initial_size=parameters["event_size"]
        )
        return demography
