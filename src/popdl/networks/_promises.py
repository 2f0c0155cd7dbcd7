"""What a network promises, tried on one random batch before any training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from popdl.errors import PopdlError
from popdl.networks._base import InputShape, Network, build

__all__ = ["broken_promises"]

MOST_CELLS = 2**16
"""Haplotypes × sites of an example; of larger ones fewer sites are tried, as promises hold at any number."""
FEWEST_SITES = 64
RELATIVE, ABSOLUTE = 1e-4, 1e-5
"""Differences beyond these are no rounding; the second one is a share of the largest feature."""


def broken_promises(key: str, options: Mapping[str, Any], shape: InputShape) -> list[str]:
    """Try a network with random weights, in evaluation mode, on examples of all, half, one and none of the sites.

    Parameters
    ----------
    key, options
        The network, as under ``networks:`` in the config.
    shape
        One example, as in prediction.

    Returns
    -------
    list of str
        Each promise that it breaks: features are finite, a gradient reaches its weights, no chance in evaluation, nothing depends on padding or on the
        neighbours in the batch, and where the class says ``exchangeable``, the order of haplotypes makes no difference.
    """
    sites = max(MOST_CELLS // shape.num_haplotypes, FEWEST_SITES)
    shape = replace(shape, max_sites=min(shape.max_sites, sites))
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(1)
        try:
            network = build(key, options, shape).eval()
            problems = _broken(network, shape)
        except PopdlError:
            raise
        except Exception as error:  # of a user's own file, any
            problems = [f"fails on a random batch: {type(error).__name__}: {error}"]
    return [f"networks.{key}: this network {problem}." for problem in problems]


def _broken(network: Network, shape: InputShape) -> list[str]:
    num_sites = torch.tensor([shape.max_sites, shape.max_sites // 2, 1, 0])
    mask = torch.arange(shape.max_sites) < num_sites.unsqueeze(1)
    size = (len(num_sites), shape.num_haplotypes, shape.max_sites)
    alleles = torch.rand(size) if shape.frequencies else torch.randint(-1, 2, size).float()
    genotypes = alleles * mask.unsqueeze(1)
    positions = torch.randn(mask.shape) * mask if shape.has_positions else None
    found = network(genotypes, positions, mask)
    if not found[:-1].isfinite().all():
        return ["gives NaN or infinite features for random examples; look for divisions, logarithms and roots of 0"]
    if not found.isfinite().all():
        return ["gives NaN or infinite features for an example without sites; count real sites with `.clamp(min=1)`"]
    if not _learns(network, genotypes, positions, mask):
        return [
            "cannot learn: no weight gets a gradient; features must be computed from weights, without `detach` or numpy"
        ]
    if not _same(found, network(genotypes, positions, mask)):
        return [
            "gives other features for the same example each time, in evaluation mode; let chance depend on `self.training` "
            "(nn.Dropout does)"
        ]
    problems = []
    noise = torch.randn(mask.shape) * ~mask
    padded = network(genotypes + noise.unsqueeze(1), None if positions is None else positions + noise, mask)
    if not _same(found, padded):
        problems.append(
            "depends on what lies in the padding, where `mask` is False, so predictions change with the number of sites of other "
            "examples; multiply by the mask before every sum, mean and convolution"
        )
    # With one other neighbour first: not every layer that looks at neighbours takes an example alone.
    if not all(
        _same(found[rows], network(genotypes[rows], None if positions is None else positions[rows], mask[rows]))
        for rows in ([0, 2], [1, 3], [0], [3])
    ):
        problems.append(
            "gives an example other features beside other examples, so predictions change with its neighbours in the batch; take no means over "
            "the batch in evaluation mode (nn.BatchNorm takes running ones)"
        )
    if network.exchangeable:
        order = torch.cat([part[torch.randperm(len(part))] for part in _populations(shape)])
        if not _same(found, network(genotypes[:, order], positions, mask)):
            within = " within a population" if shape.populations else ""
            problems.append(
                f"says `exchangeable = True`, but the order of haplotypes{within} changes its features; pool over haplotypes with a "
                "mean, sum or maximum, or say False"
            )
    return problems


def _learns(network: Network, genotypes: Tensor, positions: Tensor | None, mask: Tensor) -> bool:
    """Whether a gradient reaches any weight; a network without weights has nothing to learn."""
    weights = [weight for weight in network.parameters() if weight.requires_grad]
    if not weights:
        return True
    with torch.enable_grad():
        features = network(genotypes, positions, mask)
        if not features.requires_grad:
            return False
        gradients = torch.autograd.grad(features.square().sum(), weights, allow_unused=True)
    return any(gradient is not None and bool(gradient.any()) for gradient in gradients)


def _same(first: Tensor, second: Tensor) -> bool:
    return torch.allclose(first, second, rtol=RELATIVE, atol=ABSOLUTE * max(float(first.abs().max()), 1e-6))


def _populations(shape: InputShape) -> tuple[Tensor, ...]:
    """Rows of each population."""
    return torch.arange(shape.num_haplotypes).split(shape.populations or (shape.num_haplotypes,))
