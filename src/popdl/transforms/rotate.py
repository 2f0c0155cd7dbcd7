"""Turn circular genomes: where the sequence was cut open to write it down means nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Generator, Tensor

from popdl.transforms._base import Examples, Form, Transform
from popdl.transforms._operations import from_bp, pick_sites, to_bp

__all__ = ["Rotate"]


class Rotate(Transform):
    """Turn each example by a number of bp of its own, drawn from the whole genome; what lies at the end comes in at the start.

    All sites of the genome should be in the array: choose `encoding.max_sites` large enough.
    """

    takes_frequencies = True

    class Settings(Transform.Settings):
        targets: list[str] = []
        """Targets that are places, in bp from the start: they turn along (regressions with `scale: linear`)."""

    def __init__(self, settings: Any, form: Form) -> None:
        super().__init__(settings, form)
        form.need_positions("absolute", "relative")
        if not form.whole:
            raise ValueError("only a whole genome can be turned: put it before `crop`, without encoding.crop_length")

    @property
    def chance(self) -> str | None:
        return "how far it turns; leave it out"

    @property
    def moves(self) -> list[str]:
        targets: list[str] = self.settings.targets
        return targets

    def __call__(self, examples: Examples, generator: Generator | None) -> Examples:
        chance = torch.rand(len(examples.mask), generator=generator, device=examples.mask.device, dtype=torch.float64)
        return self.turned(examples, (chance * self.form.length).floor())  # a whole bp, so that positions stay whole

    def turned(self, examples: Examples, shift: Tensor) -> Examples:
        """Turn the examples.

        Parameters
        ----------
        examples
            A batch.
        shift : Tensor of shape (batch,), dtype=float64
            By how many bp, not negative.
        """
        assert examples.positions is not None
        length, num_sites = self.form.length, examples.num_sites.unsqueeze(1)
        moved = to_bp(examples.positions, self.form) + (shift % length).unsqueeze(1)
        in_front = ((moved >= length) & examples.mask).sum(dim=1, keepdim=True)
        columns = torch.arange(examples.mask.shape[1], device=moved.device)
        # The last `in_front` real sites come first; padding stays where it is.
        index = torch.where(examples.mask, (columns - in_front) % num_sites.clamp(min=1), columns)
        turned = pick_sites(examples, index, examples.mask)
        positions = from_bp((moved % length).gather(1, index), examples.mask, self.form)
        targets = {name: (values + shift) % length for name, values in examples.targets.items()}
        moving = {name: targets[name] for name in self.moves}
        return replace(turned, positions=positions, targets={**examples.targets, **moving})
