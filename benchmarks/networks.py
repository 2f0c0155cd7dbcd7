"""Every network at 50 haplotypes × 400 sites: examples per CPU-second of a training step and of a prediction, as JSON lines.

    python benchmarks/networks.py [--repeats 9] [NETWORK ...]

One thread, batches of 10, default options (for spidna all three normalisations). Times are medians of CPU seconds (user and
system), with the same treatment of memory as in a training job. The line ``spidna_plain`` is SPIDNA as it is usually written,
with both halves of a block's input convolved for every haplotype: the ratio says what the cheap form gains on this machine.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from popdl import plugins
from popdl.memory import keep_freed_memory
from popdl.networks._base import InputShape, build

SHAPE = InputShape(num_haplotypes=50, max_sites=400, has_positions=True)
BATCH_SIZE = 10
NUM_TARGETS = 3
MORE: dict[str, dict[str, Any]] = {
    f"spidna_{kind}": {"name": "spidna", "normalisation": kind} for kind in ("instance", "adaptive")
}


class PlainSpidna(nn.Module):
    """SPIDNA with batch normalisation, as it is usually written; 7 blocks × 50 features."""

    num_features = 350

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.ModuleList(nn.Sequential(nn.Conv2d(1, 50, (1, 3)), nn.BatchNorm2d(50), nn.ReLU()) for _ in "gp")
        self.blocks = nn.ModuleList(nn.Sequential(nn.BatchNorm2d(100), nn.Conv2d(100, 50, (1, 3))) for _ in range(7))
        self.pool = nn.Sequential(nn.MaxPool2d((1, 2)), nn.ReLU())

    def forward(self, genotypes: Tensor, positions: Tensor, mask: Tensor) -> Tensor:
        values = self.first[0](genotypes.unsqueeze(1))
        values = torch.cat([values, self.first[1](positions[:, None, None]).expand_as(values)], dim=1)
        features = []
        for block in self.blocks:
            values = block(values)
            means = values.mean(2, keepdim=True)
            features.append(means.mean((2, 3)))
            values = self.pool(torch.cat([values, means.expand_as(values)], dim=1))
        return torch.cat(features, dim=1)


def examples_per_cpu_second(function: Callable[[], object], *, repeats: int) -> float:
    function()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return BATCH_SIZE / statistics.median(times)


def measure(name: str, network: nn.Module, num_features: int, *, repeats: int) -> None:
    """Print one line: a whole step (forward, loss, backward, AdamW) and a prediction."""
    head = nn.Linear(num_features, NUM_TARGETS)
    optimizer = torch.optim.AdamW([*network.parameters(), *head.parameters()])
    genotypes = (torch.rand(BATCH_SIZE, SHAPE.num_haplotypes, SHAPE.max_sites) < 0.2).float()
    positions = torch.randn(BATCH_SIZE, SHAPE.max_sites)
    mask = torch.ones(BATCH_SIZE, SHAPE.max_sites, dtype=torch.bool)
    truths = torch.randn(BATCH_SIZE, NUM_TARGETS)

    def step() -> None:
        optimizer.zero_grad()
        (head(network(genotypes, positions, mask)) - truths).square().mean().backward()
        optimizer.step()

    @torch.no_grad()
    def predict() -> None:
        head(network(genotypes, positions, mask))

    training = examples_per_cpu_second(step, repeats=repeats)
    network.eval()
    prediction = examples_per_cpu_second(predict, repeats=repeats)
    line = {
        "benchmark": "network",
        "network": name,
        "shape": [SHAPE.num_haplotypes, SHAPE.max_sites],
        "batch_size": BATCH_SIZE,
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "training_examples_per_cpu_second": round(training, 1),
        "prediction_examples_per_cpu_second": round(prediction, 1),
    }
    print(json.dumps(line), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("networks", nargs="*", metavar="NETWORK", help="only these (default: all)")
    parser.add_argument("--repeats", type=int, default=9)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(1)
    keep_freed_memory()
    settings: dict[str, dict[str, Any]] = {name: {} for name in plugins.known("networks")} | MORE
    for name in options.networks or [*settings, "spidna_plain"]:
        if name == "spidna_plain":
            measure(name, PlainSpidna(), PlainSpidna.num_features, repeats=options.repeats)
        else:
            network = build(name, settings[name], SHAPE)
            measure(name, network, network.num_features, repeats=options.repeats)


if __name__ == "__main__":
    main()
