"""Training SPIDNA(7 blocks, 50 features) on one_event by popdl's own loop, on the GPU if there is one, as a JSON line.

    python benchmarks/training.py [--examples N] [--epochs 3]

Forty examples of config/one_event.yaml are simulated and repeated; what they hold does not matter to the speed. The line has the examples
per second of the last epoch and the share of it that was spent waiting for data.
"""

from __future__ import annotations

import argparse
import json
import logging
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from popdl import steps
from popdl.config.reading import read_yaml
from popdl.config.study import Study, build_study
from popdl.layout import Results
from popdl.store import read_shard, write_shard

ROOT = Path(__file__).resolve().parents[1]
SIMULATED = 40


def study_of(num_examples: int, **training: Any) -> Study:
    """one_event with so many examples, all of them in one shard."""
    values = read_yaml(ROOT / "config/one_event.yaml")
    values["simulation"] |= {"num_scenarios": num_examples, "replicates": 1, "shard_size": num_examples}
    values["training"] |= {"replicates": 1, "threads": 1, **training}
    return build_study(values)


def repeat(source: Path, output: Path, num_examples: int) -> None:
    """Write an encoded shard again, with its examples repeated to so many."""
    shard = read_shard(source, kind="dataset")
    rows = np.arange(num_examples) % shard.attributes["num_examples"]
    arrays = {name: shard[name][rows] for name in shard.names}
    arrays["scenario"] = np.arange(num_examples)
    write_shard(output, kind="dataset", arrays=arrays, attributes={**shard.attributes, "num_examples": num_examples})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--examples", type=int, help="default: 200,000 on a GPU, 400 without")
    parser.add_argument("--epochs", type=int, default=3)
    options = parser.parse_args()
    logging.disable()
    gpu = torch.cuda.is_available()
    num_examples = options.examples or (200_000 if gpu else 400)
    with tempfile.TemporaryDirectory() as folder:
        few, many = Results(Path(folder) / "few"), Results(Path(folder) / "many")
        steps.simulate(study_of(SIMULATED), few)
        steps.encode(study_of(SIMULATED), few)
        repeat(few.dataset(0), many.dataset(0), num_examples)
        study = study_of(num_examples, max_epochs=options.epochs, patience=options.epochs)
        steps.split(study, many)
        steps.train(study, many)
        last = pd.read_csv(many.history("spidna/0")).iloc[-1]
    line = {
        "benchmark": "training",
        "device": torch.cuda.get_device_name() if gpu else "cpu",
        "threads": study.training.threads,
        "examples": num_examples,
        "batch_size": study.training.batch_size,
        "examples_per_second": round(last["examples_per_second"], 1),
        "waiting_share": round(last["waiting_share"], 5),
    }
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
