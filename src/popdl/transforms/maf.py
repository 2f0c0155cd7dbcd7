"""Leave out sites whose minor allele is rare in the sample."""

from __future__ import annotations

from pydantic import Field
from torch import Generator, minimum

from popdl.transforms._base import Examples, Transform
from popdl.transforms._operations import allele_counts, keep_sites

__all__ = ["Maf"]


class Maf(Transform):
    """Keep the sites whose minor allele has at least this frequency among the haplotypes that are known, as `encoding.min_maf` does."""

    class Settings(Transform.Settings):
        minimum: float = Field(gt=0, le=0.5)
        """Lowest frequency that is kept."""

    def __call__(self, examples: Examples, generator: Generator | None) -> Examples:
        ones, called = allele_counts(examples.genotypes)
        # In double precision a quotient is the number nearest to the fraction, as `minimum` is: 1 of 20 is not below 0.05.
        frequency = minimum(ones, called - ones).double() / called.clamp(min=1)
        return keep_sites(examples, frequency >= self.settings.minimum, self.form)
