"""A small dataset that a network can learn in seconds: random genotypes whose frequencies depend on two labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from popdl.config.encoding import Encoding
from popdl.config.training import Evaluation, Splits, Target, Training
from popdl.config.transforms import Transforms
from popdl.dataset import encode_shard
from popdl.splits import make_splits
from popdl.store import write_shard
from popdl.training import train

HAPLOTYPES = 8
TARGETS = {"size": Target(scale="log"), "kind": Target(task="classification", weight=0.5)}
TRAINING = Training(batch_size=16, max_epochs=4, patience=4, learning_rate=5e-3)
OPTIONS = {
    "name": "exchangeable",
    "per_haplotype": [{"conv": 4, "width": 3, "stride": 2}],
    "after_pool": [{"conv": 4, "width": 3}],
    "per_site": [{"conv": 8}, {"conv": 8, "width": 3, "stride": 2}],
    "head": [16],
}


def dataset(
    folder: Path,
    *,
    num_shards: int = 2,
    shard_size: int = 60,
    max_sites: int = 24,
    targets: Mapping[str, Target] = TARGETS,
) -> dict[str, Any]:
    """Write encoded shards and splits; returns the paths as keywords of the steps."""
    shards = []
    for number in range(num_shards):
        raw = folder / f"raw_{number}"
        arrays, attributes = _simulations(number, shard_size)
        write_shard(raw, kind="simulations", arrays=arrays, attributes=attributes)
        shards.append(folder / f"shard_{number}")
        encode_shard(raw, shards[-1], encoding=Encoding(max_sites=max_sites), seed=1)
    paths = {"shards": shards, "splits": folder / "splits.tsv", "targets": folder / "targets.json"}
    return with_targets(paths, folder, targets)


def with_targets(data: Mapping[str, Any], folder: Path, targets: Mapping[str, Target]) -> dict[str, Any]:
    """The same shards and splits with other targets."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = {"shards": data["shards"], "splits": folder / "splits.tsv", "targets": folder / "targets.json"}
    make_splits(
        paths["shards"],
        settings=Splits(train=0.6, validation=0.2, test=0.2),
        targets=dict(targets),
        seed=1,
        output=paths["splits"],
        targets_output=paths["targets"],
    )
    return paths


def fit(data: dict[str, Any], folder: Path, **changes: Any) -> dict[str, Path]:
    """Train on the dataset; returns where the outputs are."""
    outputs = {
        "output": folder / "model.safetensors",
        "history": folder / "history.csv",
        "checkpoint": folder / "checkpoint",
    }
    settings: dict[str, Any] = {"key": "net", "options": OPTIONS, "training": TRAINING, "evaluation": Evaluation()}
    settings |= {"study": "learnable", "replicate": 0, "seed": 3, "tensorboard": None, "priors": {}}
    settings |= {"transforms": Transforms()}
    train(**{**settings, **changes}, **data, **outputs)
    return outputs


def _simulations(number: int, shard_size: int) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    random = np.random.default_rng([5, number])
    genotypes, positions, labels = [], [], []
    for _ in range(shard_size):
        size, kind = 10 ** random.uniform(1, 1.6), float(random.integers(2))
        num_sites = int(size)
        frequency = 0.15 if kind else 0.45
        sites = (random.random((num_sites, HAPLOTYPES)) < frequency).astype(np.int8)
        sites[:, 0], sites[:, 1] = 0, 1  # polymorphic
        sites[random.random(sites.shape) < 0.02] = -1
        genotypes.append(sites)
        positions.append(np.sort(random.choice(1000, num_sites, replace=False)).astype(np.float64))
        share = (np.log10(size) - 1) / 0.6  # of the range of sizes; as a place on a circle, 0 and 1 are the same
        labels.append([np.nan if random.random() < 0.1 else size, kind, share, share])
    arrays = {
        "genotypes": np.concatenate(genotypes),
        "positions": np.concatenate(positions),
        "offsets": np.cumsum([0, *map(len, positions)], dtype=np.int64),
        "parameters": np.array(labels),
        "scenario": np.arange(number * shard_size, (number + 1) * shard_size),
    }
    attributes = {
        "first_example": number * shard_size,
        "num_examples": shard_size,
        "num_haplotypes": HAPLOTYPES,
        "ploidy": 2,
        "sequence_length": 1000.0,
        "parameters": ["size", "kind", "share", "place"],
        "classes": {"kind": ["even", "rare"]},
    }
    return arrays, attributes


def windows(folder: Path, source: Path, *, reasons: Sequence[str]) -> Path:
    """Turn the first examples of an encoded shard into the windows of a genome."""
    from popdl.store import read_shard

    shard = read_shard(source, kind="dataset")
    count = len(reasons)
    names = ("genotypes", "missing", "positions", "num_sites", "num_sites_window", "statistics", "dropped")
    arrays = {name: shard[name][:count] for name in names if name in shard}
    start = np.arange(count, dtype=np.int64) * 1000
    kept = ("encoding", "fingerprint", "num_haplotypes", "max_sites", "sequence_length", "statistics")
    path = folder / "windows.zarr"
    write_shard(
        path,
        kind="windows",
        arrays={**arrays, "start": start, "end": start + 1000},
        attributes={
            **{key: shard.attributes[key] for key in kept},
            "num_examples": count,
            "dropped_reasons": shard.attributes["dropped_reasons"],
            "contigs": ["20"] * count,
            "reasons": list(reasons),
        },
    )
    return path
