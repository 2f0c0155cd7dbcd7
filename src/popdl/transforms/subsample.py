"""Keep only some of the individuals of each example."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

import torch
from pydantic import Field, model_validator
from torch import Generator

from popdl.transforms._base import Examples, Form, Transform

__all__ = ["Subsample"]

Number = Annotated[int, Field(ge=1)]


class Subsample(Transform):
    """Keep some individuals: in training drawn anew for each example, else spread evenly over the order of the sample."""

    class Settings(Transform.Settings):
        individuals: Number | tuple[Number, Number]
        """How many, or, in training, `[fewest, most]`, both included: one number is drawn for each batch."""

        @model_validator(mode="after")
        def _check(self) -> Subsample.Settings:
            if self.fewest > self.most:
                raise ValueError(
                    f"individuals: expected [fewest, most] in this order, found [{self.fewest}, {self.most}]"
                )
            return self

        @property
        def fewest(self) -> int:
            return self.individuals if isinstance(self.individuals, int) else self.individuals[0]

        @property
        def most(self) -> int:
            return self.individuals if isinstance(self.individuals, int) else self.individuals[1]

    def __init__(self, settings: Any, form: Form) -> None:
        super().__init__(settings, form)
        form.need_one_population()
        form.need_individuals()
        if settings.most * form.ploidy > form.fewest_haplotypes:
            raise ValueError(
                f"individuals: {settings.most} are more than there are, {form.fewest_haplotypes // form.ploidy} "
                f"({form.fewest_haplotypes} haplotypes of ploidy {form.ploidy}); lower it"
            )

    @property
    def after(self) -> Form:
        fewest, most = (number * self.form.ploidy for number in (self.settings.fewest, self.settings.most))
        return replace(self.form, num_haplotypes=most, fewest_haplotypes=fewest)

    @property
    def chance(self) -> str | None:
        if self.settings.fewest == self.settings.most:
            return None
        return f"individuals: [{self.settings.fewest}, {self.settings.most}]; give one number"

    def __call__(self, examples: Examples, generator: Generator | None) -> Examples:
        device, ploidy = examples.genotypes.device, self.form.ploidy
        batch, haplotypes, _ = examples.genotypes.shape
        individuals = haplotypes // ploidy
        number = self.settings.fewest
        if number < self.settings.most:
            number = int(torch.randint(number, self.settings.most + 1, (), generator=generator, device=device))
        if generator is None:
            # Spread, not the first ones, which may be relatives or from one place.
            chosen = (torch.arange(number, device=device) * individuals // number).expand(batch, number)
        else:
            order = torch.rand(batch, individuals, generator=generator, device=device).argsort(dim=1)
            chosen = order[:, :number].sort(dim=1).values
        rows = (chosen.unsqueeze(2) * ploidy + torch.arange(ploidy, device=device)).flatten(1)
        genotypes = examples.genotypes.gather(1, rows.unsqueeze(2).expand(-1, -1, examples.genotypes.shape[2]))
        return replace(examples, genotypes=genotypes)
