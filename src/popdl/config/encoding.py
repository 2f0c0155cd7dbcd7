"""The `encoding:` section: how genotypes become arrays for a network."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from popdl.config.base import Section

__all__ = ["Encoding"]


class Encoding(Section):
    """One recipe for simulations and for real windows alike; it is stored in the model."""

    alleles: Literal["minor", "derived"] = "minor"
    """What a 1 means: the allele that is rarer in the sample, or the derived one (a VCF then needs ancestral alleles)."""
    min_maf: float = Field(default=0.0, ge=0, lt=0.5)
    """Sites whose minor allele is rarer than this in the sample are left out (a frequency; 0 keeps every polymorphic site)."""
    phase: Literal["keep", "ignore"] = "keep"
    """`ignore` writes every heterozygote as (1, 0), so that unphased genotypes give the same arrays."""
    sort: Literal["none", "similarity", "frequency"] = "none"
    """Order of haplotypes: as given, by distance to the medoid haplotype (Flagel et al. 2019), or by number of 1s."""
    crop: Literal["start", "centre", "midpoint", "random"] = "centre"
    """Which sites are kept of a window that has more than `max_sites`, and which part of one longer than `crop_length`. `centre` keeps the middle ones of all sites; `midpoint` as many on either side of the middle of the window in bp, as for a hotspot that lies there."""
    crop_length: float | None = Field(default=None, gt=0)
    """Keep only this many bp of each window (null: the whole window)."""
    max_sites: int = Field(default=400, ge=2)
    """Number of sites in the array; shorter examples are padded and masked."""
    positions: Literal["none", "absolute", "relative", "distance"] = "distance"
    """What the network sees of positions: nothing, bp from the start of the window, that as a fraction of the window, or bp since the previous site."""
    values: Literal["0/1", "-1/1"] = "0/1"
    """How alleles are written for the network; missing is −1 with `0/1` and 0 with `-1/1`."""

    @model_validator(mode="after")
    def _check(self) -> Encoding:
        if self.phase == "ignore" and self.sort != "none":
            raise ValueError(
                "sort: haplotypes cannot be sorted where phase is ignored; use `sort: none` or `phase: keep`"
            )
        return self
