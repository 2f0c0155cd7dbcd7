"""Uniform random numbers for every cell of a batch: by chance in training, and a function of each example outside of it."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

__all__ = ["uniforms"]

# SplitMix64 (Steele, Lea & Flood 2014, OOPSLA), in the two's complement that torch has.
INCREMENT = 0x9E3779B97F4A7C15 - 2**64
MIXERS = ((30, 0xBF58476D1CE4E5B9 - 2**64), (27, 0x94D049BB133111EB - 2**64))


def uniforms(content: Tensor, mask: Tensor, *, number: int, generator: Generator | None) -> Tensor:
    """Draw numbers from [0, 1).

    Without a generator, the numbers of an example are those of a counter-based generator (Salmon et al. 2011, SC'11) whose key
    is a hash of the example's content. They are the same in any batch, under any padding and on any device.

    Parameters
    ----------
    content : Tensor of shape (batch, rows, max_sites), dtype=int64
        What tells examples apart.
    mask : Tensor of shape (batch, max_sites), dtype=bool
        Real sites: the others do not count as content.
    number
        How many numbers each cell needs.
    generator
        Where chance comes from, on the device of the content; None outside of training.

    Returns
    -------
    Tensor of shape (number, batch, rows, max_sites), dtype=float64
    """
    if generator is not None:
        shape = (number, *content.shape)
        return torch.rand(shape, generator=generator, device=content.device, dtype=torch.float64)
    rows, sites = (torch.arange(size, device=content.device) for size in content.shape[1:])
    cells = (rows.unsqueeze(1) << 32) + sites  # the same for any padding
    words = _mixed((cells + 1) * INCREMENT)
    keys = _mixed((words * content * mask.unsqueeze(1)).sum(dim=(1, 2)))
    draws = torch.arange(number, device=content.device)[:, None, None, None]
    mixed = _mixed(keys[:, None, None] + (cells * number + draws + 1) * INCREMENT)
    return (mixed >> 11 & 2**53 - 1).double() * 2.0**-53


def _mixed(words: Tensor) -> Tensor:
    """SplitMix64's finaliser: every bit of a word depends on all bits of the one given."""
    for shift, factor in MIXERS:
        words = (words ^ _shifted(words, shift)) * factor
    return words ^ _shifted(words, 31)


def _shifted(words: Tensor, shift: int) -> Tensor:
    """Shift to the right, with zeros coming in."""
    return words >> shift & (1 << (64 - shift)) - 1
