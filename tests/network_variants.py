"""Every network that ships in small variants, and random batches for them."""

from __future__ import annotations

import torch

from popdl.networks._base import InputShape, build

SHAPE = InputShape(num_haplotypes=6, max_sites=33, has_positions=True)
VARIANTS = {
    "exchangeable": {"dropout": 0.0},
    "exchangeable_sites": {"name": "exchangeable", "per_haplotype": [], "after_pool": [], "dropout": 0.0},
    "exchangeable_haplotypes": {
        "name": "exchangeable",
        "per_haplotype": [{"conv": 4, "width": 4, "stride": 3}, {"conv": 3, "width": 2}],
        "pool": ["max"],
        "after_pool": [],
        "per_site": [],
        "head": [],
    },
    "flagel": {"filters": [8, 8], "dropout": 0.0},
    "flagel_untransposed": {"name": "flagel", "filters": [8, 8], "along": "haplotypes", "pool": [1, 2], "dropout": 0.0},
    "haplotype_blocks": {
        "block": 4,
        "num_lengths": 2,
        "num_distances": 3,
        "per_site": [6],
        "filters": [8],
        "dropout": 0.0,
    },
    "haplotype_blocks_long": {
        "name": "haplotype_blocks",
        "block": 16,
        "num_lengths": 4,
        "num_distances": 0,
        "head": [],
        "dropout": 0.0,
    },
    "mlp": {"widths": [8]},
    "cnn": {"filters": [4, 8]},
    "cnn_whole": {"name": "cnn", "filters": [4], "width": 2, "stride": 1, "pool": 1, "head": []},
    "custom_cnn": {"filters": 4, "position_filters": 2, "num_features": 8, "num_layers": 2},
    "definetti": {"phi": [["conv", 5, 4], ["conv", 2, 8]], "g": ["max"], "h": [["fc", 16]]},
    "definetti_dense": {"name": "definetti", "phi": [["conv", 3, 4], ["fc", 8]], "g": ["mean", "sum", "sort"], "h": []},
    "definetti_pools": {
        "name": "definetti",
        "phi": [["fc", 6]],
        "g": [["top_k", 2], ["moments", 1, 2, 3], ["attention", 2]],
        "h": [["fc", 8]],
    },
    "definetti_places": {
        "name": "definetti",
        "phi": [["conv", 1, 6]],
        "g": [["attention", 3], ["top_k", 2]],
        "h": [["conv", 3, 4], ["fc", 8]],
    },
    "definetti_bare": {"name": "definetti", "phi": [], "g": ["mean"], "h": [["conv", 3, 4], ["fc", 8]]},
    "site_pairs": {"num_distances": 4, "per_pair": [8, 4], "head": [8]},
    "site_pairs_bare": {"name": "site_pairs", "num_distances": 9, "per_pair": [8], "head": []},
    "site_pairs_stretches": {
        "name": "site_pairs",
        "num_distances": 12,
        "spacing": "even",
        "stretches": 7,
        "four_gametes": True,
        "per_pair": [8, 4],
        "head": [16],
    },
    "haplotype_pairs": {"block": 4, "num_lengths": 3, "per_haplotype": [6, 6], "after_pool": [8], "head": [8]},
    "haplotype_pairs_bare": {"name": "haplotype_pairs", "block": 1, "num_lengths": 1, "per_haplotype": [4], "head": []},
    "spidna": {"num_blocks": 3, "num_features": 8},
    "spidna_instance": {"name": "spidna", "num_blocks": 3, "num_features": 8, "normalisation": "instance"},
    "spidna_adaptive": {"name": "spidna", "num_blocks": 3, "num_features": 8, "normalisation": "adaptive"},
}


def batch(shape=SHAPE, num_sites=(33, 1, 17, 32), seed=0):
    """Random examples with missing alleles, padded as the loader pads them."""
    generator = torch.Generator().manual_seed(seed)
    mask = torch.arange(shape.max_sites) < torch.tensor(num_sites).unsqueeze(1)
    size = (len(num_sites), shape.num_haplotypes, shape.max_sites)
    genotypes = torch.randint(-1, 2, size, generator=generator).float() * mask.unsqueeze(1)
    positions = torch.randn(len(num_sites), shape.max_sites, generator=generator) * mask
    return genotypes, positions if shape.has_positions else None, mask


def make(key, shape=SHAPE):
    torch.manual_seed(1)
    return build(key, VARIANTS[key], shape)
