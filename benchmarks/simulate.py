"""Cost of simulating and writing examples, against a bare msprime loop; and of starting a shard job.

    python benchmarks/simulate.py [--repeats 7] [SETTING ...]

Prints one JSON line per setting. ``one_event`` is dnadna's example, with the priors of config/one_event.yaml; ``one_event_smck`` the
same under SMC(k). Both sides simulate the same examples from the same seeds, in processes of their own, in turn, within one
run; times are CPU seconds (user and system), so that other work on the machine disturbs both alike. Ratios above 1 mean
that popdl is faster.
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
from typing import Any

ROOT = Path(__file__).resolve().parents[1]

RATE = 1e-8
CONSTANT = {
    "simulator": "constant_size",
    "mutation_rate": RATE,
    "recombination_rate": RATE,
    "parameters": {"population_size": 10_000},
}
EXAMPLES = {"20 x 20 kb": 400, "50 x 100 kb": 300, "50 x 2 Mb": 30, "one_event": 20, "one_event_smck": 40}
"""Settings, and examples in one measurement."""


def simulation_of(setting: str) -> dict[str, Any]:
    """The `simulation:` section of a setting; one_event is the study of that name."""
    from popdl.config.reading import read_yaml

    if setting.startswith("one_event"):
        values: dict[str, Any] = read_yaml(ROOT / "config/one_event.yaml")["simulation"]
        return values | {"replicates": 1, "ancestry_model": "smck" if setting.endswith("smck") else "hudson"}
    haplotypes, length, unit = setting.replace("x", "").split()
    return CONSTANT | {
        "num_haplotypes": int(haplotypes),
        "sequence_length": int(length) * {"kb": 1_000, "Mb": 1_000_000}[unit],
    }


class Sides:
    """The same examples, from the same draws and seeds, simulated in two ways."""

    def __init__(self, setting: str, num_examples: int, turn: int) -> None:
        from popdl import priors, seeds
        from popdl.config.study import simulation_section

        first = turn * num_examples
        counts = {"num_scenarios": first + num_examples, "shard_size": num_examples}
        self.turn = turn
        self.simulation: Any = simulation_section(simulation_of(setting) | counts)
        self.draws = []
        for example in range(first, first + num_examples):
            parameters = priors.draw(self.simulation.priors, seeds.generator(1, "parameters", example))
            random = seeds.generator(1, "simulation", example)
            self.draws.append((parameters, seeds.msprime_seed(random), seeds.msprime_seed(random)))

    def bare(self) -> None:
        """What a user's own script does: ancestry, mutations, genotypes and positions, kept nowhere."""
        import msprime

        for parameters, ancestry_seed, mutation_seed in self.draws:
            if "event_time" in parameters:
                demography = msprime.Demography.isolated_model([parameters["recent_size"]])
                demography.add_population_parameters_change(
                    time=parameters["event_time"], initial_size=parameters["event_size"]
                )
            else:
                demography = msprime.Demography.isolated_model([parameters["population_size"]])
            ancestry = msprime.sim_ancestry(
                self.simulation.num_haplotypes // 2,
                demography=demography,
                sequence_length=self.simulation.sequence_length,
                recombination_rate=RATE,
                model=msprime.SMCK(k=1) if self.simulation.ancestry_model == "smck" else None,
                random_seed=ancestry_seed,
            )
            tree_sequence = msprime.sim_mutations(ancestry, rate=RATE, random_seed=mutation_seed)
            tree_sequence.genotype_matrix()
            _ = tree_sequence.sites_position

    def popdl(self) -> None:
        """One shard of a study, written to disk."""
        from popdl.simulation import simulate_shard

        with tempfile.TemporaryDirectory() as folder:
            simulate_shard(self.simulation, seed=1, shard=self.turn, output=Path(folder) / "shard_0")


def work(side: str, setting: str, num_examples: int) -> None:
    """Measure once for every line on stdin, so that the two sides can take turns. The first measurement warms up."""
    for turn, _ in enumerate(sys.stdin):
        run = getattr(Sides(setting, num_examples, turn), side)
        start = time.process_time()
        run()
        print(time.process_time() - start, flush=True)


def compare(setting: str, num_examples: int, repeats: int) -> dict[str, object]:
    sides = {}
    for side in ("bare", "popdl"):
        command = [sys.executable, __file__, "--work", side, setting, str(num_examples)]
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
        "setting": setting,
        "bare_ms": round(1e3 * statistics.median(seconds["bare"][1:]), 3),
        "popdl_ms": round(1e3 * statistics.median(seconds["popdl"][1:]), 3),
        "examples_per_cpu_second": round(1 / statistics.mean(seconds["popdl"][1:]), 1),
        "ratio": round(statistics.median(ratios), 3),
        "ratios": [round(ratio, 3) for ratio in ratios],
    }


def start_up(repeats: int) -> dict[str, object]:
    """CPU seconds of a shard job of one tiny example: python, imports, config, simulation, writing."""
    seconds = []
    for _ in range(repeats):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(
            [sys.executable, __file__, "--work", "popdl", "2 x 1 kb", "1"],
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
    parser.add_argument("--work", nargs=3, metavar=("SIDE", "SETTING", "EXAMPLES"), help=argparse.SUPPRESS)
    parser.add_argument("settings", nargs="*", metavar="SETTING", help=f"only these (default: all of {list(EXAMPLES)})")
    options = parser.parse_args()
    if options.work:
        side, setting, num_examples = options.work
        work(side, setting, int(num_examples))
        return
    if not options.settings:
        print(json.dumps(start_up(options.repeats)), flush=True)
    for setting in options.settings or EXAMPLES:
        print(json.dumps(compare(setting, EXAMPLES[setting], options.repeats)), flush=True)


if __name__ == "__main__":
    main()
