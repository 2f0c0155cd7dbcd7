"""The `scans:` section: figures in which several applications are compared along the genome."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from pydantic import Field

from popdl.config.base import Section, suggestion

__all__ = ["Scan", "scan_problems"]


class Scan(Section):
    """Several applications to the same part of the genome: predictions one below the other, statistics over each other."""

    applications: list[str] = Field(min_length=1)
    """Whose windows are drawn, from top to bottom."""
    statistics: list[str] = []
    """Summary statistics of these windows that are drawn beneath, such as [h12, tajimas_d], with the range of the simulations."""


def scan_problems(
    scans: Mapping[str, Scan], *, applications: Collection[str], statistics: Collection[str] | None
) -> list[str]:
    """What of the section does not fit the rest of a config; `statistics` is None where their names are not known."""
    problems = []
    for name, scan in scans.items():
        problems += [
            f"scans.{name}.applications: there is no application {application!r}; {suggestion(application, applications)}"
            for application in scan.applications
            if application not in applications
        ]
        problems += [
            f"scans.{name}.statistics: {statistic!r} is not known; {suggestion(statistic, statistics)}"
            for statistic in scan.statistics
            if statistics is not None and statistic not in statistics
        ]
    return problems
