"""SPIDNA (Sanchez, Cury, Charpiat & Jay 2021, Molecular Ecology Resources 21:2645-2660), for any number of haplotypes and sites.

Two first convolutions read the genotypes and the positions; then every block does the same. Its input has features of single
haplotypes and features of columns, which all haplotypes share. It normalises them, convolves both along sites, takes the
mean over haplotypes as the next features of columns, and keeps the larger value of each two neighbouring sites. What a block
says about an example is the mean of its column features over sites; popdl's linear head adds up what all blocks say.

``normalisation`` says what a mean and a variance are taken over, at real sites only:

* ``batch``: each feature over the batch while training, running values afterwards ("SPIDNA batch normalization" of the paper).
* ``instance``: each feature over the haplotypes and sites of one example, so nothing is learned about other examples.
* ``adaptive``: ``instance`` in the first convolutions; in blocks over all features of one example together, so that features
  keep their relation to each other, and an example with more sites or haplotypes is read on the same scale.

Two things differ from the authors' network. Convolutions keep the number of sites (zeros around the window), so that
any number of sites will do. And a block speaks after its ReLU, not before: before it, the mean of features that were
normalised over one example is the same for every example.

The arithmetic is arranged for speed, without changing the function. A convolution of column features is the same for all
haplotypes, and is done once. The mean over haplotypes of a convolution is the convolution of the mean. Normalisation is
linear, so its shift joins the columns and its scale the weights. Large tensors are kept with features innermost.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as functional
from pydantic import Field
from torch import Tensor, nn

from popdl.networks._base import InputShape, Network
from popdl.networks._masked import Moments, Normalisation

__all__ = ["Spidna"]

WIDTH = 3
"""Neighbouring sites that a filter sees."""


class Spidna(Network):
    """Exchangeable convolutions that pass the mean over haplotypes on from block to block."""

    class Settings(Network.Settings):
        num_blocks: int = Field(default=7, ge=1)
        """Blocks after the first convolutions; each halves the number of sites."""
        num_features: int = Field(default=50, ge=1)
        """Filters of each convolution."""
        normalisation: Literal["batch", "instance", "adaptive"] = "batch"
        """What features are normalised over: the batch, each example, or each example and all its features together."""

    citation = (
        "Sanchez T. et al. (2021) Deep learning for population size history inference: design, comparison and combination with approximate Bayesian computation. "
        "Mol. Ecol. Resour. 21: 2645–2660. doi:10.1111/1755-0998.13224"
    )
    exchangeable = True

    def __init__(self, settings: Any, shape: InputShape) -> None:
        super().__init__(settings, shape)
        first: Literal["batch", "instance"] = "batch" if settings.normalisation == "batch" else "instance"
        width = settings.num_features
        self.genotypes = _First(width, first)
        self.positions = _First(width, first) if shape.has_positions else None
        self.blocks = nn.ModuleList(
            _Block(width, width if number > 0 or shape.has_positions else 0, settings.normalisation)
            for number in range(settings.num_blocks)
        )
        self.num_features = settings.num_blocks * width

    def forward(self, genotypes: Tensor, positions: Tensor | None, mask: Tensor) -> Tensor:
        values = self.genotypes(genotypes, mask)
        if self.positions is None:
            columns = values.new_zeros(len(mask), mask.shape[1], 0)
        else:
            assert positions is not None
            columns = self.positions(positions.unsqueeze(1), mask).squeeze(1)
        features = []
        for number, block in enumerate(self.blocks, start=1):
            values, columns, spoken = block(values, columns, mask, last=number == len(self.blocks))
            mask = functional.max_pool1d(mask.float(), 2, ceil_mode=True) > 0
            features.append(spoken)
        return torch.cat(features, dim=1)


class _First(nn.Module):
    """The convolution of the raw input, normalised, with ReLU."""

    def __init__(self, num_features: int, kind: Literal["batch", "instance"]) -> None:
        super().__init__()
        self.convolution = nn.Conv1d(1, num_features, WIDTH, bias=False)
        self.normalisation = Normalisation(num_features, kind)

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        """Rows of shape (batch, num_rows, max_sites) to features of shape (batch, num_rows, max_sites, num_features)."""
        patches = functional.pad(values * mask.unsqueeze(1), (1, 1)).unfold(2, WIDTH, 1) * mask[:, None, :, None]
        num_sites = mask.sum(1)
        # The mean and the mean square of a filter's output follow from those of the three values that it sees.
        seen = patches.flatten(1, 2)
        number = (num_sites * values.shape[1]).clamp(min=1)[:, None]
        weight = self.convolution.weight[:, 0].T
        products = torch.stack([(seen * seen[:, :, [place]]).sum(1) for place in range(WIDTH)], dim=1)
        # Written out, because autocast would take matrix products in bfloat16.
        first = ((seen.sum(1) / number).unsqueeze(2) * weight).sum(1)
        second = (((products / number.unsqueeze(2)).unsqueeze(3) * weight).sum(2) * weight).sum(1)
        scale, shift = self.normalisation(Moments(first, second), num_sites)
        # The mask beside the patches carries the shift, so that it is 0 under padding.
        present = mask[:, None, :, None].expand(*patches.shape[:3], 1).flatten(1, 2)
        weights = torch.cat([weight * scale.unsqueeze(1), shift.unsqueeze(1)], dim=1).expand(len(mask), -1, -1)
        return functional.relu(torch.bmm(torch.cat([seen, present], dim=2), weights)).unflatten(1, patches.shape[1:3])


class _Block(nn.Module):
    """Normalisation, convolution, mean over haplotypes, pooling."""

    def __init__(
        self, num_features: int, num_column_features: int, kind: Literal["batch", "instance", "adaptive"]
    ) -> None:
        super().__init__()
        self.split = [num_features, num_column_features]
        self.normalisation = Normalisation(sum(self.split), kind)
        self.convolution = nn.Conv2d(sum(self.split), num_features, (1, WIDTH))

    def forward(self, values: Tensor, columns: Tensor, mask: Tensor, *, last: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Compute the next values and columns, and what this block says.

        Parameters
        ----------
        values : Tensor of shape (batch, num_haplotypes, num_sites, num_features)
            Not negative; 0 under padding.
        columns : Tensor of shape (batch, num_sites, num_column_features)
            The same, shared by all haplotypes.
        mask : Tensor of shape (batch, num_sites), dtype=bool
        last
            Whether no block follows: the values are then returned as they came.
        """
        present = mask.unsqueeze(2)
        num_sites = mask.sum(1)
        number = num_sites.clamp(min=1).unsqueeze(1)
        exact = torch.promote_types(values.dtype, torch.float32)  # a variance in bfloat16 would be worth little
        columns, mean = columns.to(exact), values.mean(1, dtype=exact)
        first = torch.cat([mean, columns], dim=2).sum(1) / number
        squares = values.square().sum((1, 2), dtype=exact) / values.shape[1]
        second = torch.cat([squares, columns.square().sum(1)], dim=1) / number
        scale, shift = self.normalisation(Moments(first, second), num_sites)

        means = torch.cat([mean, columns], dim=2) * scale.unsqueeze(1)
        weight, bias = self.convolution.weight, self.convolution.bias
        shared = torch.cat([torch.zeros_like(mean), means[..., self.split[0] :]], dim=2) + shift.unsqueeze(1)
        both = torch.stack([means + shift.unsqueeze(1), shared], dim=1) * present.unsqueeze(1)
        spoken, shared = (
            functional.conv2d(both.permute(0, 3, 1, 2), weight, bias, padding=(0, 1)).permute(0, 2, 3, 1).unbind(1)
        )
        spoken = functional.relu(spoken) * present
        says = spoken.sum(1) / number
        if last:
            return values, spoken, says

        own_scale, own_weight = scale[:, : self.split[0]], weight[:, : self.split[0]]
        if len(own_scale) == 1:
            own_weight = own_weight * own_scale[:, :, None, None]
        else:
            values = values * own_scale[:, None, None]
        values = _convolve(values, own_weight)
        # Minus infinity under padding: a site beside the window's end competes with nothing.
        values = values + shared.masked_fill(~present, -torch.inf).unsqueeze(1)
        values = functional.max_pool2d(values.permute(0, 3, 1, 2), (1, 2), ceil_mode=True).permute(0, 2, 3, 1)
        values = functional.relu(values)
        spoken = functional.max_pool1d(spoken.mT, 2, ceil_mode=True).mT
        return values, spoken, says


def _convolve(values: Tensor, weight: Tensor) -> Tensor:
    """Convolve along sites, with zeros around the window.

    Parameters
    ----------
    values : Tensor of shape (batch, num_haplotypes, num_sites, num_features)
    weight : Tensor of shape (num_filters, num_features, 1, WIDTH)

    Returns
    -------
    Tensor of shape (batch, num_haplotypes, num_sites, num_filters)
    """
    if values.device.type == "cpu" and not torch.is_autocast_enabled("cpu"):
        convolved: Tensor = _Convolution.apply(values, weight)
        return convolved
    return _innermost(functional.conv2d(values.permute(0, 3, 1, 2), weight, padding=(0, 1)))


def _innermost(images: Tensor) -> Tensor:
    """(batch, features, haplotypes, sites) with features moved to the end."""
    return images.permute(0, 2, 3, 1)


class _Convolution(torch.autograd.Function):
    """A convolution whose gradients take half the time of torch's own on a CPU, with filters this small."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(values, weight)
        weight = weight.contiguous(memory_format=torch.channels_last)
        return _innermost(functional.conv2d(values.permute(0, 3, 1, 2), weight, padding=(0, 1)))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        values, weight = ctx.saved_tensors
        # Through a convolution flows back a convolution with the filters turned round.
        turned = weight.transpose(0, 1).flip(3).contiguous(memory_format=torch.channels_last)
        of_values = _innermost(functional.conv2d(gradient.permute(0, 3, 1, 2), turned, padding=(0, 1)))
        # The weight of a neighbour: what goes back at each site times what that neighbour of it sent.
        sent, back = values.flatten(0, 1), gradient.flatten(0, 1)
        of_weight = [
            torch.bmm(back[:, 1:].mT, sent[:, :-1]).sum(0),
            torch.bmm(back.mT, sent).sum(0),
            torch.bmm(back[:, :-1].mT, sent[:, 1:]).sum(0),
        ]
        return of_values, torch.stack(of_weight, dim=2).unsqueeze(2)
