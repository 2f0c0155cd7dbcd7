"""Keep a contiguous part of each window: so many sites, or so many bp."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Generator, Tensor

from popdl.transforms._base import Examples, Form, Transform
from popdl.transforms._operations import from_bp, keep_sites, pick_sites, to_bp

__all__ = ["Crop"]


class Crop(Transform):
    """Keep neighbouring sites; as in the encoding, cutting sites leaves the positions of the others, cutting bp moves the start of the window."""

    takes_frequencies = True

    class Settings(Transform.Settings):
        sites: int | None = Field(default=None, ge=1)
        """How many sites are kept of an example that has more."""
        length: float | None = Field(default=None, gt=0)
        """Instead of `sites`: how many bp of the window are kept (needs `absolute` or `relative` positions)."""
        where: Literal["start", "centre", "random"] = "centre"
        """Which part: the left, the middle, or, in training, a different one for each example."""

        @model_validator(mode="after")
        def _check(self) -> Crop.Settings:
            if (self.sites is None) == (self.length is None):
                raise ValueError("give exactly one of sites and length")
            return self

    def __init__(self, settings: Any, form: Form) -> None:
        super().__init__(settings, form)
        if settings.sites is not None and settings.sites > form.max_sites:
            raise ValueError(f"sites: {settings.sites} are more than there are at most, {form.max_sites}; lower it")
        if settings.length is not None:
            form.need_positions("absolute", "relative")
            if settings.length > form.length:
                raise ValueError(
                    f"length: {settings.length:g} bp is longer than the window ({form.length:g} bp); lower it"
                )

    @property
    def after(self) -> Form:
        if self.settings.sites is not None:
            return replace(self.form, max_sites=self.settings.sites, whole=False)
        return replace(self.form, length=self.settings.length, whole=False)

    @property
    def chance(self) -> str | None:
        return "where: random; use `where: centre` or `where: start`" if self.settings.where == "random" else None

    def __call__(self, examples: Examples, generator: Generator | None) -> Examples:
        num_sites, length = self.settings.sites, self.settings.length
        if num_sites is not None:
            surplus = (examples.num_sites - num_sites).clamp(min=0)
            columns = torch.arange(num_sites, device=examples.mask.device)
            mask = columns < examples.num_sites.unsqueeze(1)
            return pick_sites(examples, self._first(surplus, generator).unsqueeze(1) + columns, mask)
        assert examples.positions is not None
        surplus = torch.full_like(examples.num_sites, int(self.form.length - length))  # whole bp, as in the encoding
        start = self._first(surplus, generator).unsqueeze(1).double()
        # Compared as positions are written: a site at the very start stays inside, however its position was rounded.
        unit = self.form.length if self.form.positions == "relative" else 1.0
        low, high = (start / unit).float(), ((start + length) / unit).float()
        keep = (examples.positions >= low) & (examples.positions < high)
        bp = (to_bp(examples.positions, self.form) - start).clamp(min=0)
        return keep_sites(replace(examples, positions=from_bp(bp, examples.mask, self.after)), keep, self.after)

    def _first(self, surplus: Tensor, generator: Generator | None) -> Tensor:
        """How many of ``surplus`` sites or bp are cut from the left of each example."""
        if self.settings.where == "start":
            return torch.zeros_like(surplus)
        if self.settings.where == "centre":
            return surplus // 2
        chance = torch.rand(surplus.shape, generator=generator, device=surplus.device, dtype=torch.float64)
        return (chance * (surplus + 1)).long()
