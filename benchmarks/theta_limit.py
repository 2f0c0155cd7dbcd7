"""How well can θ be estimated at all in Flagel et al.'s test? The error of the posterior mean given the spectrum, by simulation.

    python benchmarks/theta_limit.py

40 haplotypes without recombination, θ uniform on [10, 50], as in ``ms 40 1 -t θ``. Millions of Kingman trees are drawn, many
at a time, and their spectra; a network trained on them to the end of its wits estimates E[θ | spectrum], and its test error
is an upper bound of the Bayes risk given the spectrum that is close to it. For comparison: Fu and Li (1993, Genetics
134:1261) bound the variance of unbiased estimators; the best linear estimator; the spread of the prior.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch

NUM_HAPLOTYPES = 40
LOW, HIGH = 10.0, 50.0


def spectra(num_trees: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """θ and the numbers of sites at which 1 … n − 1 haplotypes carry the derived allele, of independent trees."""
    n = NUM_HAPLOTYPES
    sizes = np.ones((num_trees, n), dtype=np.int64)
    rows = np.arange(num_trees)
    lengths = np.zeros((num_trees, n + 1))
    for k in range(n, 1, -1):
        time = generator.exponential(1 / (k * (k - 1) / 2), num_trees)
        for lineage in range(k):
            lengths[rows, sizes[:, lineage]] += time
        first = generator.integers(k, size=num_trees)
        second = (first + 1 + generator.integers(k - 1, size=num_trees)) % k
        sizes[rows, first] += sizes[rows, second]
        sizes[rows, second] = sizes[:, k - 1]
        # Where the last lineage was itself the first, it now stands in the place of the second.
        sizes[rows[first == k - 1], second[first == k - 1]] = sizes[rows[first == k - 1], k - 1]
    theta = generator.uniform(LOW, HIGH, num_trees)
    return theta, generator.poisson(lengths[:, 1:n] * theta[:, np.newaxis] / 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, default=60, help="blocks of 20,000 trees to learn from")
    options = parser.parse_args()
    torch.manual_seed(1)
    n = NUM_HAPLOTYPES
    generator = np.random.default_rng(1)
    test_theta, test = spectra(50_000, generator)
    harmonic = (1 / np.arange(1, n)).sum()
    assert abs(test.sum(1).mean() / (30 * harmonic) - 1) < 0.02, "E[S] = θ·a_n"
    network = torch.nn.Sequential(
        torch.nn.Linear(n, 256), torch.nn.SiLU(), torch.nn.Linear(256, 256), torch.nn.SiLU(),
        torch.nn.Linear(256, 256), torch.nn.SiLU(), torch.nn.Linear(256, 1),
    )  # fmt: skip
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3)
    steps = options.blocks * 2 * 20
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)

    def features(counts: np.ndarray) -> torch.Tensor:
        total = counts.sum(1, keepdims=True)
        return torch.from_numpy(np.sqrt(np.concatenate([counts, total], axis=1)) - [1.0]).float()

    for _ in range(options.blocks):
        theta, counts = spectra(20_000, generator)
        truth, seen = torch.from_numpy((theta - 30) / 11.5).float(), features(counts)
        for order in (torch.randperm(len(theta)) for _ in range(2)):
            for rows in order.split(1000):
                loss = ((network(seen[rows])[:, 0] - truth[rows]) ** 2).mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
    with torch.no_grad():
        estimate = network(features(test))[:, 0].numpy() * 11.5 + 30
    learn_theta, learn = spectra(200_000, generator)
    weights, *_ = np.linalg.lstsq(np.column_stack([learn, np.ones(len(learn))]), learn_theta, rcond=None)
    linear = np.column_stack([test, np.ones(len(test))]) @ weights

    def rmse(values: np.ndarray | float) -> float:
        return float(np.sqrt(np.mean((values - test_theta) ** 2)))

    steps_below = np.arange(1, n)
    bound = np.mean([theta / (1 / (theta + steps_below)).sum() for theta in test_theta[:5000]])
    print(f"prior mean                         RMSE {rmse(30.0):.2f}")
    print(f"Watterson's estimator              RMSE {rmse(test.sum(1) / harmonic):.2f}")
    print(f"Fu and Li's bound (unbiased)       RMSE {np.sqrt(bound):.2f}")
    print(f"best linear estimator on the SFS   RMSE {rmse(linear):.2f}")
    print(f"posterior mean given the spectrum  RMSE {rmse(estimate):.2f} ({options.blocks * 20_000:,} trees)")


if __name__ == "__main__":
    main()
