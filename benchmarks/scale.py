"""Peak memory of every step of a study with many examples of 50 haplotypes, as JSON lines; each step is a process of its own.

    python benchmarks/scale.py [--examples 50000] [--shard-size N] [--in-memory N] [--write docs/performance.md]
    python benchmarks/scale.py --simulate 100000 [--write docs/performance.md]

The first simulates nothing: a generator fills one shard of raw genotypes, which is encoded, and from its examples fills all encoded
shards of 50 x 400. The second simulates every example, of 10 kb, and encodes them as 50 x 200. The network is tiny and sees every
example once, from memory and from disk. `above_mb` is the peak less that of the same step on 1,000 examples, which is what
Python and its libraries take; `holds_mb` is the size of the arrays that the step must hold. A million examples need 5 GB of disk
and of memory.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
FEW = 1000
"""Enough for whole batches of every split."""
NUM_HAPLOTYPES, MAX_SITES, NUM_SITES = 50, 400, 600
SHORT = {"sequence_length": 1e4, "max_sites": 200}
"""Of loci that take one or two milliseconds to simulate."""
PREDICTED = 2 * 64 * 256
"""Examples of the test split in memory at once: see popdl.prediction."""
LABELS = ("statistics", "parameters", "scenario")
GENERATOR = ("write a raw shard", "fill all shards")
"""Steps of the benchmark, not of a study: they are not in the table."""
PLACES = {False: "scale", True: "scale simulated"}
"""What marks the place of each table."""


def study_of(options: argparse.Namespace) -> Any:
    """A study of so many examples."""
    from popdl.config.reading import read_yaml
    from popdl.config.study import build_study

    values = read_yaml(ROOT / "config/test.yaml")
    size = min(options.shard_size, options.examples // 2)
    values["simulation"] |= {"num_haplotypes": NUM_HAPLOTYPES, "num_scenarios": options.examples, "replicates": 1}
    values["simulation"] |= {"shard_size": size, "sequence_length": SHORT["sequence_length"] if options.short else 1e6}
    values["encoding"] |= {"max_sites": SHORT["max_sites"] if options.short else MAX_SITES, "sort": "none"}
    values["networks"] = {"tiny": {"name": "mlp", "widths": [8]}}
    training = {"batch_size": 64, "max_epochs": 1, "threads": 1}
    if options.step == "train from disk":
        training |= {"data": "streamed", "examples_in_memory": options.in_memory}
    values["training"] = training
    del values["applications"]
    return build_study(values)


def raw_shard(study: Any, path: Path) -> None:
    """Made-up genotypes with frequencies like 1/x, which need no simulation."""
    import numpy as np

    from popdl.store import write_shard

    random, size = np.random.default_rng(1), study.simulation.shard_size
    counts = random.poisson(NUM_SITES, size)
    genotypes = np.empty((counts.sum(), NUM_HAPLOTYPES), dtype=np.int8)
    for rows in np.array_split(np.arange(len(genotypes)), size):
        genotypes[rows] = random.random((len(rows), NUM_HAPLOTYPES)) < 1 / NUM_HAPLOTYPES ** random.random(
            (len(rows), 1)
        )
    arrays = {
        "genotypes": genotypes,
        "positions": np.concatenate([np.sort(random.random(count)) * 1e6 for count in counts]),
        "offsets": np.concatenate([[0], counts.cumsum()]),
        "parameters": np.stack([random.uniform(5e3, 5e4, size), random.uniform(5e3, 5e4, size), random.choice([100.0, 2000.0], size)], axis=1),
        "scenario": np.arange(size),
    }  # fmt: skip
    names = ["recent_size", "event_size", "event_time"]
    attributes = {"first_example": 0, "num_examples": size, "num_haplotypes": NUM_HAPLOTYPES, "ploidy": 2}
    attributes |= {"sequence_length": 1e6, "parameters": names, "classes": {"event_time": ["100", "2000"]}}
    write_shard(path, kind="simulations", arrays=arrays, attributes=attributes)


def fill(study: Any, results: Any) -> None:
    """All encoded shards after the first, with its examples in other orders."""
    from popdl.steps import shards
    from popdl.store import read_shard

    first = read_shard(results.dataset(0), kind="dataset")
    arrays = {name: first[name] for name in first.names}
    for shard in shards(study)[1:]:
        fill_shard(study, results, shard, arrays, first.attributes)


def fill_shard(study: Any, results: Any, shard: int, arrays: dict[str, Any], attributes: dict[str, Any]) -> None:
    """One of them."""
    import numpy as np

    from popdl.store import write_shard

    size = study.simulation.shard_size
    rows = np.random.default_rng(shard).permutation(size)[: study.simulation.num_examples - shard * size]
    chosen = {name: array[rows] for name, array in arrays.items()}
    chosen["scenario"] = np.arange(shard * size, shard * size + len(rows))
    own = {"first_example": shard * size, "num_examples": len(rows)}
    write_shard(results.dataset(shard), kind="dataset", arrays=chosen, attributes={**attributes, **own})


def run_step(options: argparse.Namespace) -> None:
    """One step, in this process."""
    from popdl import steps
    from popdl.layout import Results

    logging.disable()
    study, results = study_of(options), Results(Path(options.folder))
    shards = [results.dataset(shard) for shard in steps.shards(study)]
    if options.step == "write a raw shard":
        raw_shard(study, results.simulations(0))
    elif options.step == "encode a shard":
        from popdl.dataset import encode_shard

        encode_shard(results.simulations(0), results.dataset(0), encoding=study.encoding, seed=study.seed)
    elif options.step == "fill all shards":
        fill(study, results)
    elif options.step in ("simulate", "encode", "split"):
        getattr(steps, options.step)(study, results)
    elif options.step.startswith("train"):
        steps.train(study, results)
    elif options.step == "predict the test split":
        from popdl.prediction import predict_test

        output = results.test_predictions("tiny/0")
        predict_test(results.model("tiny/0"), shards=shards, splits=results.splits, output=output)
    else:
        from popdl.baselines._base import fit_baseline

        name = options.step.removeprefix("baseline ")
        paths = {"shards": shards, "splits": results.splits, "targets": results.targets}
        fit_baseline(
            name,
            **paths,
            evaluation=study.evaluation,
            seed=study.seed,
            output=results.baseline(name),
            statistics=study.baseline_statistics,
        )


def measured(step: str, folder: Path, *, examples: int, options: argparse.Namespace) -> dict[str, float]:
    """Peak memory and time of a step in a process of its own."""
    command = [*(sys.executable, __file__, "--step", step, "--folder", str(folder), "--examples", str(examples))]
    command += ["--shard-size", str(options.shard_size), "--in-memory", str(options.in_memory)]
    command += ["--short"] if options.simulate else []
    start = time.perf_counter()
    process = subprocess.Popen(command)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{step}: exit code {process.returncode}")
    found = {"seconds": time.perf_counter() - start, "cpu_seconds": usage.ru_utime + usage.ru_stime}
    if step.startswith("train"):
        history = folder / "models/tiny/0.history.csv"
        header, row = history.read_text().splitlines()
        found["examples_per_second"] = float(
            dict(zip(header.split(","), row.split(","), strict=True))["examples_per_second"]
        )
    return {"peak_mb": usage.ru_maxrss * 1024 / 1e6, **found}


def held(folder: Path, *, options: argparse.Namespace) -> dict[str, float]:
    """Bytes that each step must hold, from the sizes of the arrays in the first shards."""
    from popdl.layout import Results
    from popdl.store import Shard, read_shard

    def size(shard: Shard, names: list[str]) -> int:
        return sum(shard[name].nbytes for name in names)

    results, examples = Results(folder), options.examples
    raw = read_shard(results.simulations(0), kind="simulations")
    encoded = read_shard(results.dataset(0), kind="dataset")
    of_raw, of_encoded, number = size(raw, raw.names), size(encoded, encoded.names), encoded.attributes["num_examples"]
    labels = size(encoded, list(LABELS)) / number
    packed = of_encoded / number - labels
    parameters = encoded["parameters"][0].nbytes
    return {
        "simulate": of_raw,
        "encode": of_raw + of_encoded,
        "write a raw shard": of_raw,
        "encode a shard": of_raw + of_encoded,
        "fill all shards": 2 * of_encoded,
        # Number, shard, row, scenario and split of an example, and its parameters.
        "split": (5 * 8 + parameters) * examples,
        "train from disk": min(options.in_memory, examples) * packed + labels * examples,
        "train from memory": examples * (packed + labels),
        "predict the test split": min(PREDICTED, 0.15 * examples) * packed + parameters * examples,
        "baseline prior_mean": labels * examples,
        # One of the targets is a class: the logistic regression holds its features, which are the statistics and their logarithms.
        "baseline ridge": (labels + 2 * 0.7 * encoded["statistics"][0].nbytes) * examples,
    }


SIMULATED = ("simulate", "encode", "split", "train from memory", "train from disk", "predict the test split")
FILLED = (
    *("write a raw shard", "encode a shard", "fill all shards", "split", "train from disk", "train from memory"),
    *("predict the test split", "baseline prior_mean", "baseline ridge"),
)


def table(lines: list[dict[str, Any]]) -> str:
    """The lines as Markdown."""
    rows = [
        "| step | must hold | peak above that of 1,000 examples | ratio | peak | CPU time | examples/s |",
        "|---|---|---|---|---|---|---|",
    ]
    for line in lines:
        if line["step"] in GENERATOR:
            continue
        speed = f"{line['examples_per_second']:,.0f}" if "examples_per_second" in line else ""
        rows.append(
            f"| {line['step']} | {line['holds_mb']:,.0f} MB | {line['above_mb']:,.0f} MB | {line['ratio']:.2f} | {line['peak_mb']:,.0f} MB "
            f"| {line['cpu_seconds']:,.0f} s | {speed} |"
        )
    return "\n".join(rows) + "\n"


def introduction(options: argparse.Namespace, lines: list[dict[str, Any]]) -> str:
    """What was measured, where and when."""
    sites = SHORT["max_sites"] if options.simulate else MAX_SITES
    speeds = {line["step"]: line["examples_per_second"] for line in lines if "examples_per_second" in line}
    origin = "simulated, of 10 kb, and encoded as" if options.simulate else "from a generator, of"
    return (
        f"{options.examples:,} examples {origin} {NUM_HAPLOTYPES} × {sites}, in shards of {options.shard_size:,}; from disk with {options.in_memory:,} "
        f"in memory, at {speeds['train from disk'] / speeds['train from memory']:.3f} of the speed from memory. {platform.system()}, {os.cpu_count()} cores, "
        f"{datetime.now(UTC):%d %B %Y}.\n\n"
    )


def write(path: Path, place: str, text: str) -> None:
    """Put a table where the file marks its place, or at the end."""
    begin, end = f"<!-- {place} -->", f"<!-- end of {place} -->"
    old = path.read_text(encoding="utf-8") if path.exists() else "# Performance\n\n"
    if begin not in old:
        old += f"{begin}\n{end}\n"
    before, rest = old.split(begin)
    path.write_text(f"{before}{begin}\n{text}{end}{rest.split(end)[1]}", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--examples", type=int, default=50_000)
    parser.add_argument("--simulate", type=int, metavar="EXAMPLES", help="simulate so many, of short loci")
    parser.add_argument("--shard-size", type=int, help="default: 200 shards, of 500 examples at least")
    parser.add_argument(
        "--in-memory", type=int, help="examples in memory where training streams (default: a fifth of all)"
    )
    parser.add_argument("--write", type=Path, help="Markdown file that holds the table")
    parser.add_argument("--step", help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    parser.add_argument("--short", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.examples = options.simulate or options.examples
    options.in_memory = options.in_memory or options.examples // 5
    options.shard_size = options.shard_size or max(500, options.examples // 200)
    if options.step:
        run_step(options)
        return
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        few, many = Path(folder) / "few", Path(folder) / "many"
        for step in SIMULATED if options.simulate else FILLED:
            base = measured(step, few, examples=FEW, options=options)
            line = {"benchmark": "scale", "step": step, "examples": options.examples}
            lines.append(line | measured(step, many, examples=options.examples, options=options))
            lines[-1]["above_mb"] = lines[-1]["peak_mb"] - base["peak_mb"]
            print(json.dumps(_rounded(lines[-1])), flush=True)
        holds = held(many, options=options)
    for line in lines:
        line["holds_mb"] = holds[line["step"]] / 1e6
        line["ratio"] = line["above_mb"] / line["holds_mb"]
        print(json.dumps(_rounded(line)), flush=True)
    if options.write:
        write(options.write, PLACES[bool(options.simulate)], introduction(options, lines) + table(lines))


def _rounded(line: dict[str, Any]) -> dict[str, Any]:
    return {key: round(value, 3) if isinstance(value, float) else value for key, value in line.items()}


if __name__ == "__main__":
    main()
