"""Groups of statistics that need to know whether haplotypes are known."""

from __future__ import annotations

from typing import TYPE_CHECKING

from popdl.config.base import Section
from popdl.statistics._base import Statistic

if TYPE_CHECKING:
    from popdl.config.study import Study

__all__ = ["PhasedStatistic"]


class PhasedStatistic(Statistic):
    """A group whose statistics are those of haplotypes or, without phase, of the multilocus genotypes of individuals."""

    class Settings(Section):
        phased: bool = True
        """Whether haplotypes are known; `false`, as `encoding.phase: ignore` needs it, looks at the genotypes of diploid individuals."""

    def problems(self, study: Study) -> list[str]:
        if self.settings.phased and study.encoding.phase == "ignore":
            return ["phased: `encoding.phase: ignore` leaves no haplotypes; set `phased: false`"]
        if not self.settings.phased and study.source.ploidy != 2:
            return [f"phased: `false` needs diploid individuals, found ploidy {study.source.ploidy}; leave it out"]
        return []
