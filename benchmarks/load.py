"""Encoding and loading: examples per second, CPU time, and their share of a training step, as JSON lines.

Run ``python benchmarks/load.py``; it takes about half a minute and 400 MB of disk. Shards are read from the page cache: they
were just written.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import msprime
import numpy as np
import torch

from popdl import statistics
from popdl.config.encoding import Encoding
from popdl.dataset import encode_examples
from popdl.encoding import Encoder
from popdl.loader import PackedData, shuffled
from popdl.module import PopdlModule, PositionScaling
from popdl.networks._base import InputShape
from popdl.store import write_shard

NUM_HAPLOTYPES = 50
MAX_SITES = 400
NUM_SHARDS = 10
SHARD_SIZE = 8_000
BATCH_SIZE = 64


def cpu_seconds(function: Callable[[], object], *, repeats: int) -> float:
    """Median CPU seconds of one call."""
    function()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return float(np.median(times))


def simulate(num_sites: int) -> tuple[np.ndarray, np.ndarray]:
    """A window of 1 Mb with about ``num_sites`` sites."""
    trees = msprime.sim_ancestry(
        NUM_HAPLOTYPES // 2, sequence_length=1e6, recombination_rate=1e-8, population_size=10_000, random_seed=1
    )
    branches = trees.diversity(mode="branch") * sum(1 / i for i in range(1, NUM_HAPLOTYPES)) * 1e6
    mutated = msprime.sim_mutations(trees, rate=num_sites / branches, random_seed=1)
    return mutated.genotype_matrix().astype(np.int8), mutated.tables.sites.position


def training_step(data: PackedData) -> Callable[[], None]:
    """A training step of the default network on one batch that is ready, with three targets."""
    target = {"task": "regression", "scale": "log", "weight": 1.0, "mean": 0.0, "sd": 1.0, "classes": []}
    shape = InputShape(data.num_haplotypes, data.max_sites, data.has_positions)
    module = PopdlModule(
        "exchangeable",
        {},
        shape=shape,
        targets=dict.fromkeys(("a", "b", "c"), target),
        position_scaling=PositionScaling.fit(data, torch.arange(BATCH_SIZE)),
    )
    optimizer = torch.optim.AdamW(module.parameters())
    batch, truths = data.batch(torch.arange(BATCH_SIZE)), torch.randn(BATCH_SIZE, 3)

    def step() -> None:
        loss = module.heads.total(module.heads.losses(module(*batch), truths).means())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def report(name: str, **values: object) -> None:
    print(json.dumps({"benchmark": name, **values}), flush=True)


def main() -> None:
    torch.set_num_threads(1)
    genotypes, positions = simulate(3_000)
    random = np.random.default_rng(1)
    for sort in ("none", "similarity"):
        encoder = Encoder(Encoding(sort=sort), num_haplotypes=NUM_HAPLOTYPES, ploidy=2, sequence_length=1e6)
        encode = cpu_seconds(lambda encoder=encoder: encoder.encode(genotypes, positions, random), repeats=100)  # type: ignore[misc]
        report("encode", sort=sort, sites=len(positions), cpu_ms=encode * 1e3, examples_per_cpu_second=1 / encode)
    window = encoder.filter_sites(genotypes, positions)
    seconds = cpu_seconds(
        lambda: statistics.compute(window.genotypes, window.positions, sequence_length=1e6, derived=False), repeats=100
    )
    report("statistics", sites=len(window.positions), cpu_ms=seconds * 1e3)

    arrays, attributes = encode_examples(encoder, [(genotypes, positions, random)])
    shapes = {name: (SHARD_SIZE, *array.shape[1:]) for name, array in arrays.items()}
    arrays = {name: np.broadcast_to(array, shapes[name]).copy() for name, array in arrays.items()}
    arrays["genotypes"] = random.integers(0, 256, shapes["genotypes"], dtype=np.uint8)  # incompressible: the worst case
    arrays["positions"] = random.exponential(500, shapes["positions"]).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"shard_{shard}" for shard in range(NUM_SHARDS)]
        for shard, path in enumerate(paths):
            labels = {"first_example": shard * SHARD_SIZE, "num_examples": SHARD_SIZE}
            write_shard(path, kind="dataset", arrays=arrays, attributes={**attributes, **labels})
        walls, cpus = [], []
        for _ in range(3):
            wall, cpu = time.perf_counter(), time.process_time()
            data = PackedData.from_shards(paths, device="cpu")
            walls.append(time.perf_counter() - wall)
            cpus.append(time.process_time() - cpu)
        report(
            "load",
            examples=data.num_examples,
            shape=[NUM_HAPLOTYPES, MAX_SITES],
            page_cache="warm",
            cores=os.cpu_count(),
            seconds=min(walls),
            examples_per_second=data.num_examples / min(walls),
            examples_per_cpu_second=data.num_examples / min(cpus),
        )
        order = shuffled(torch.arange(data.num_examples), seed=1, epoch=0)
        batches = iter(order.split(BATCH_SIZE) * 10)
        seconds = cpu_seconds(lambda: data.batch(next(batches)), repeats=300)
        step = cpu_seconds(training_step(data), repeats=20)
        report(
            "batch",
            batch_size=BATCH_SIZE,
            shape=[NUM_HAPLOTYPES, MAX_SITES],
            threads=1,
            cpu_ms=seconds * 1e3,
            training_step_cpu_ms=step * 1e3,
            share_of_training_step=seconds / step,
        )


if __name__ == "__main__":
    main()
