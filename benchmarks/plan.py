"""What `popdl plan` says of a study against what the study takes, as a JSON line.

Run ``python benchmarks/plan.py [CONFIG] [--shards N]`` (default: the demo). The first N shards are simulated and encoded, each in
a process of its own; CPU hours and disk are scaled to all examples. Ratios are planned over taken: 1 is perfect.

``python benchmarks/plan.py --table CONFIG …`` only plans, and prints the rows of the table of costs in docs/cluster.md.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from popdl.config.study import load_study
from popdl.plan import Plan, SimulationPlan, plan_study
from popdl.plan_text import hours, size
from popdl.steps import network_names

ROOT = Path(__file__).resolve().parents[1]

# Prints CPU seconds of the step itself, and the peak memory of the process, in bytes.
STEP = """
import sys, time
from pathlib import Path
from popdl import steps
from popdl.config.study import load_study
from popdl.dataset import encode_shard
from popdl.layout import Results
from popdl.pilot import _peak_memory
study, step, shard = load_study(sys.argv[1]), sys.argv[3], int(sys.argv[4])
results = Results(Path(sys.argv[2]))
if step != "simulate":
    import popdl.training
before = time.process_time()
if step == "simulate":
    steps.simulate(study, results, only=[shard])
elif step == "encode":
    encode_shard(results.simulations(shard), results.dataset(shard), encoding=study.encoding, seed=study.seed)
elif step == "train":
    study = study.model_copy(update={"training": study.training.model_copy(update={"max_epochs": 1})})
    steps.split(study, results)
    steps.train(study, results, only=[sys.argv[5]])
print(time.process_time() - before, _peak_memory())
"""


def run(*arguments: str) -> tuple[float, float]:
    """CPU seconds and peak memory of one step."""
    done = subprocess.run([sys.executable, "-c", STEP, *arguments], check=True, stdout=subprocess.PIPE, text=True)
    seconds, memory = done.stdout.split()[-2:]
    return float(seconds), float(memory)


def simulated(plan: Plan) -> SimulationPlan:
    """What a plan says of simulations."""
    if plan.simulation is None:
        raise SystemExit(f"{plan.study} imports its data; give studies that simulate.")
    return plan.simulation


def row(name: str, plan: Plan) -> str:
    """A row of the table of costs."""
    simulation = simulated(plan)
    shards = -(-plan.num_examples // simulation.suggested_shard_size)
    cells = [
        *(name, f"{plan.num_examples:,}", hours(simulation.simulate_hours), hours(simulation.encode_hours)),
        *(size(simulation.disk), f"{shards:,} of {simulation.suggested_shard_size:,}"),
        *(size(plan.training_memory), size(plan.gpu_memory)),
    ]
    return f"| {' | '.join(cells)} |"


def compare(config: Path, *, num_shards: int) -> None:
    """Plan a study, run its first shards, and print the JSON line."""
    study = load_study(config)
    plan = plan_study(study)
    shards = range(min(num_shards, -(-plan.num_examples // plan.shard_size)))
    with tempfile.TemporaryDirectory() as folder:
        common = (str(config), folder)
        simulated = [run(*common, "simulate", str(shard)) for shard in shards]
        encoded = [run(*common, "encode", str(shard)) for shard in shards]
        written = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
        examples = min(len(shards) * plan.shard_size, plan.num_examples)
        share = examples / plan.num_examples
        trained = None
        if share == 1:
            trained = max(run(*common, "train", "0", name)[1] for name in network_names(study))
    taken = {
        "simulate_seconds": sum(seconds for seconds, _ in simulated) / share,
        "encode_seconds": sum(seconds for seconds, _ in encoded) / share,
        "disk": written / share,
        "shard_memory": max(memory for _, memory in simulated),
        **({"training_memory": trained} if trained else {}),
    }
    simulation = simulated(plan)
    planned = {
        "simulate_seconds": 3600 * simulation.simulate_hours,
        "encode_seconds": 3600 * simulation.encode_hours,
        "disk": simulation.disk,
        "shard_memory": simulation.shard_memory,
        "training_memory": plan.training_memory,
    }
    print(
        json.dumps(
            {
                "benchmark": "plan",
                "config": config.name,
                "cores": os.cpu_count(),
                "examples": examples,
                "taken": {key: float(f"{value:.4g}") for key, value in taken.items()},
                "ratio": {key: round(planned[key] / value, 2) for key, value in taken.items()},
            }
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("configs", nargs="*", type=Path, default=[ROOT / "config/config.yaml"], metavar="CONFIG")
    parser.add_argument("--shards", type=int, default=2)
    parser.add_argument("--table", action="store_true", help="print the plans as rows of a table, and run nothing")
    options = parser.parse_args()
    for config in options.configs:
        if options.table:
            print(row(config.name, plan_study(load_study(config))), flush=True)
        else:
            compare(config, num_shards=options.shards)


if __name__ == "__main__":
    main()
