"""Cost of simulating and writing examples, against a bare msprime loop; and of starting a shard job.

    python benchmarks/simulate.py [--repeats 7]

Prints one JSON line per setting. Both sides run in processes of their own, in turn, within one run; times are CPU seconds
(user and system), so that other work on the machine disturbs both alike. Ratios above 1 mean that popdl is faster.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SETTINGS = [  # haplotypes, bp, examples in one measurement
    (20, 20_000, 400),
    (50, 100_000, 300),
    (50, 2_000_000, 30),
]
RATE = 1e-8
POPULATION_SIZE = 10_000


def bare_loop(num_haplotypes: int, sequence_length: int, num_examples: int, first: int) -> None:
    """What a user's own script does: ancestry, mutations, genotypes and positions, kept nowhere."""
    import msprime

    for seed in range(first + 1, first + 1 + num_examples):
        ancestry = msprime.sim_ancestry(
            num_haplotypes // 2,
            population_size=POPULATION_SIZE,
            sequence_length=sequence_length,
            recombination_rate=RATE,
            random_seed=seed,
        )
        tree_sequence = msprime.sim_mutations(ancestry, rate=RATE, random_seed=seed)
        tree_sequence.genotype_matrix()
        _ = tree_sequence.sites_position


def shard(num_haplotypes: int, sequence_length: int, num_examples: int, first: int) -> None:
    """One shard of a study, written to disk."""
    from popdl.config.study import simulation_section
    from popdl.simulation import simulate_shard

    simulation = simulation_section(
        {
            "simulator": "constant_size",
            "num_haplotypes": num_haplotypes,
            "sequence_length": sequence_length,
            "mutation_rate": RATE,
            "recombination_rate": RATE,
            "parameters": {"population_size": POPULATION_SIZE},
            "num_scenarios": first + num_examples,
            "shard_size": num_examples,
        }
    )
    with tempfile.TemporaryDirectory() as folder:
        simulate_shard(simulation, seed=1, shard=first // num_examples, output=Path(folder) / "shard_0")


def work(side: str, num_haplotypes: int, sequence_length: int, num_examples: int) -> None:
    """Measure once for every line on stdin, so that the two sides can take turns. The first measurement warms up."""
    run = {"bare": bare_loop, "popdl": shard}[side]
    for turn, _ in enumerate(sys.stdin):
        start = time.process_time()
        run(num_haplotypes, sequence_length, num_examples, turn * num_examples)
        print(time.process_time() - start, flush=True)


def compare(num_haplotypes: int, sequence_length: int, num_examples: int, repeats: int) -> dict[str, object]:
    arguments = [str(number) for number in (num_haplotypes, sequence_length, num_examples)]
    sides = {}
    for side in ("bare", "popdl"):
        command = [sys.executable, __file__, "--work", side, *arguments]
        sides[side] = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    for _ in range(repeats + 1):
        for side, process in sides.items():
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write("\n")
            process.stdin.flush()
            seconds[side].append(float(process.stdout.readline()) / num_examples)
    for process in sides.values():
        process.communicate()
    ratios = [bare / popdl for bare, popdl in zip(seconds["bare"][1:], seconds["popdl"][1:], strict=True)]
    return {
        "benchmark": "simulate",
        "num_haplotypes": num_haplotypes,
        "sequence_length": sequence_length,
        "bare_ms": round(1e3 * statistics.median(seconds["bare"][1:]), 3),
        "popdl_ms": round(1e3 * statistics.median(seconds["popdl"][1:]), 3),
        "ratio": round(statistics.median(ratios), 3),
        "ratios": [round(ratio, 3) for ratio in ratios],
    }


def start_up(repeats: int) -> dict[str, object]:
    """CPU seconds of a shard job of one tiny example: python, imports, config, simulation, writing."""
    seconds = []
    for _ in range(repeats):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(
            [sys.executable, __file__, "--work", "popdl", "2", "1000", "1"],
            input=b"\n",
            check=True,
            capture_output=True,
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return {"benchmark": "start_up", "cpu_seconds": round(statistics.median(seconds), 3)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--work", nargs=4, metavar=("SIDE", "HAPLOTYPES", "BP", "EXAMPLES"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(options.work[0], *map(int, options.work[1:]))
        return
    print(json.dumps(start_up(options.repeats)), flush=True)
    for setting in SETTINGS:
        print(json.dumps(compare(*setting, repeats=options.repeats)), flush=True)


if __name__ == "__main__":
    main()
