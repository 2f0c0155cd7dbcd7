"""Training by popdl's own loop against the network alone, and predicting, on the GPU if there is one: JSON lines, and a table on standard error.

    python benchmarks/gpu.py [--examples N] [--batch-size N] [--compile] [--write docs/performance.md] [NETWORK ...]

Forty examples of config/one_event.yaml (50 x 400) are simulated and repeated; what they hold does not matter to the speed. Each
network is trained for two epochs, of which the second counts. `resident` is the same network, loss and optimizer on one random batch that lies
on the device, before and after: what a loop could reach that has nothing to read, unpack or validate. FLOPs are those of
matrix products and convolutions, forth and back (torch.utils.flop_counter); beside them is what one large matrix product
reaches in the same precision. Without a GPU everything runs on one thread of the CPU, with few examples, and says so.
"""

from __future__ import annotations

import argparse
import json
import logging
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from lightning_fabric import Fabric
from scale import write
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from popdl import steps
from popdl.config.reading import read_yaml
from popdl.config.study import Study, build_study
from popdl.layout import Results
from popdl.loader import Batch, PackedData
from popdl.memory import keep_freed_memory
from popdl.model import load_model
from popdl.module import PopdlModule, predict_outputs
from popdl.optimization import make_optimizer
from popdl.processes import make_fabric
from popdl.store import read_shard, write_shard
from popdl.training import _reproducible

ROOT = Path(__file__).resolve().parents[1]
SIMULATED = 40
GPU = torch.cuda.is_available()
NETWORKS: dict[str, dict[str, Any]] = {
    "Exchangeable CNN": {"name": "exchangeable"},
    "SPIDNA(7, 50)": {"name": "spidna", "num_blocks": 7, "num_features": 50},
    "Flagel's CNN": {"name": "flagel", "filters": [128, 128, 128, 128], "position_branch": [32], "head": [256]},
}
"""The first with the defaults of popdl, the last as three_epoch.yaml has it."""
EPOCHS = 2
SECONDS = 5.0
"""Time given to everything that is repeated."""


def study_of(num_examples: int, **training: Any) -> Study:
    """one_event with so many examples, all of them in one shard, and the three networks."""
    values = read_yaml(ROOT / "config/one_event.yaml")
    values["simulation"] |= {"num_scenarios": num_examples, "replicates": 1, "shard_size": num_examples}
    values["networks"] = {f"network_{number}": options for number, options in enumerate(NETWORKS.values())}
    values["training"] |= {"replicates": 1, "threads": 1, "max_epochs": EPOCHS, "patience": EPOCHS, **training}
    return build_study(values)


def repeat(source: Path, output: Path, num_examples: int) -> None:
    """Write an encoded shard again, with its examples repeated to so many."""
    shard = read_shard(source, kind="dataset")
    rows = np.arange(num_examples) % shard.attributes["num_examples"]
    arrays = {name: shard[name][rows] for name in shard.names}
    arrays["scenario"] = np.arange(num_examples)
    write_shard(output, kind="dataset", arrays=arrays, attributes={**shard.attributes, "num_examples": num_examples})


def seconds_each(work: Callable[[], object]) -> float:
    """Seconds of one call, over as many as fit into some time; the first two do not count."""
    for _ in range(2):
        work()
    calls, start = 0, now()
    while (taken := now() - start) < SECONDS or not calls:
        for _ in range(20 if GPU else 1):  # a look at the clock lets the host wait for the GPU
            work()
            calls += 1
    return taken / calls


def now() -> float:
    if GPU:
        torch.cuda.synchronize()
    return time.perf_counter()


def random_batch(study: Study, module: PopdlModule, device: torch.device) -> tuple[Batch, torch.Tensor]:
    """A batch of the study's shape with its truths, on the device."""
    size, shape = study.training.batch_size, module.body.shape
    batch = Batch(
        (torch.rand(size, shape.num_haplotypes, shape.max_sites, device=device) < 0.2).float(),
        torch.rand(size, shape.max_sites, device=device),
        torch.ones(size, shape.max_sites, dtype=torch.bool, device=device),
    )
    return batch, torch.randn(size, len(study.targets), device=device)


def resident_step(study: Study, fabric: Fabric, model: Path) -> tuple[PopdlModule, Callable[[], None]]:
    """A step of the network alone on one batch."""
    module = load_model(model).module.to(fabric.device).train()
    batch, truths = random_batch(study, module, fabric.device)
    network: nn.Module = module
    if study.training.compile:
        torch.compiler.reset()
        graphs = GPU and study.training.compile == "cuda_graphs"
        network = torch.compile(module, mode="reduce-overhead" if graphs else None)  # type: ignore[assignment]
    wrapped, optimizer = fabric.setup(network, make_optimizer(module, study.training))

    def step() -> None:
        loss = module.heads.total(module.heads.losses(wrapped(*batch), truths).means())
        optimizer.zero_grad()
        fabric.backward(loss)
        fabric.clip_gradients(wrapped, optimizer, max_norm=study.training.gradient_clip, error_if_nonfinite=False)
        optimizer.step()

    return module, step


def matrix_product(fabric: Fabric) -> float:
    """FLOP/s of one large product in the precision of the training."""
    size = 8192 if GPU else 1024
    matrix = torch.randn(size, size, device=fabric.device)
    with fabric.autocast():
        dtype = (matrix[:1] @ matrix).dtype
        matrix = matrix.to(dtype)
        return float(2 * size**3 / seconds_each(lambda: matrix @ matrix))


def measure(study: Study, results: Results, number: int, *, fabric: Fabric) -> dict[str, Any]:
    """One line: a network trained by popdl, the same on one batch, and predictions."""
    name, batch_size = f"network_{number}/0", study.training.batch_size
    if not results.model(name).exists():
        steps.train(study, results, only=[name])  # so that there is a network to time before
    before = seconds_each(resident_step(study, fabric, results.model(name))[1])
    results.model(name).unlink()
    if GPU:
        torch.cuda.reset_peak_memory_stats()
    steps.train(study, results, only=[name])
    memory = torch.cuda.max_memory_allocated() / 1e6 if GPU else None
    last = pd.read_csv(results.history(name)).iloc[-1]
    module, step = resident_step(study, fabric, results.model(name))
    after = seconds_each(step)
    resident = batch_size / (before + after) * 2

    plain = study.model_copy(update={"training": study.training.model_copy(update={"compile": False})})
    with FlopCounterMode(display=False) as counter:
        resident_step(plain, fabric, results.model(name))[1]()
    flops = counter.get_total_flops() / batch_size

    rows = torch.arange(min(10_000 if GPU else batch_size, study.source.num_examples), device=fabric.device)
    data = PackedData.from_shards([results.dataset(0)], device=fabric.device, rows=rows.tolist(), whole=False)
    predicting = seconds_each(lambda: predict_outputs(module, data, rows, batch_size=256 if GPU else batch_size))
    speed = float(last["examples_per_second"])
    return {
        "benchmark": "training",
        "network": list(NETWORKS)[number],
        "compile": study.training.compile,
        "device": torch.cuda.get_device_name() if GPU else "cpu",
        "precision": "bf16" if fabric._precision.precision == "bf16-mixed" else "fp32",
        "examples": study.source.num_examples,
        "batch_size": batch_size,
        "examples_per_second": speed,
        "resident_examples_per_second": resident,
        "ratio": speed / resident,
        "waiting_share": float(last["waiting_share"]),
        "peak_memory_mb": memory,
        "prediction_windows_per_second": len(rows) / predicting,
        "mega_flops_per_example": flops / 1e6,
        "giga_flops_per_second": flops * speed / 1e9,
        "matrix_product_giga_flops_per_second": matrix_product(fabric) / 1e9,
    }


def table(lines: list[dict[str, Any]]) -> str:
    """The lines as Markdown."""
    rows = [
        "| network | compile | training, examples/s | on one resident batch | ratio | waiting | memory | prediction, windows/s | GFLOP/s | a matrix product | share |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for line in lines:
        memory = f"{line['peak_memory_mb']:,.0f} MB" if line["peak_memory_mb"] else "–"
        share = line["giga_flops_per_second"] / line["matrix_product_giga_flops_per_second"]
        rows.append(
            f"| {line['network']} | {str(line['compile']).lower()} | {line['examples_per_second']:,.1f} | {line['resident_examples_per_second']:,.1f} "
            f"| {line['ratio']:.2f} | {100 * line['waiting_share']:.2g} % | {memory} | {line['prediction_windows_per_second']:,.1f} "
            f"| {line['giga_flops_per_second']:,.1f} | {line['matrix_product_giga_flops_per_second']:,.1f} | {100 * share:.1f} % |"
        )
    return "\n".join(rows) + "\n"


def introduction(line: dict[str, Any]) -> str:
    """Where and when the table was measured, and what it is to show."""
    where = line["device"] if GPU else "**no GPU: one thread of a CPU**, on which the aims below do not apply"
    return (
        f"`python benchmarks/gpu.py`, {datetime.now(UTC):%d %B %Y}, {where} ({platform.system()} {platform.machine()}, torch {torch.__version__}, "
        f"{line['precision']}), {line['examples']:,} examples of 50 × 400, batches of {line['batch_size']}. "
        f"Aims on a GPU: a ratio of 0.95 at least, 2 % of the time waiting at most.\n\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("networks", nargs="*", metavar="NETWORK", help="only these (default: all)")
    parser.add_argument("--examples", type=int, help="default: 200,000 on a GPU, 300 without")
    parser.add_argument("--batch-size", type=int, help="default: 256 on a GPU, 30 without")
    parser.add_argument("--compile", action="store_true", help="with training.compile, too")
    parser.add_argument("--write", type=Path, help="Markdown file that holds the table")
    options = parser.parse_args()
    if unknown := set(options.networks) - set(NETWORKS):
        parser.error(f"{', '.join(unknown)}: unknown; known: {', '.join(NETWORKS)}")
    logging.disable()
    num_examples = options.examples or (200_000 if GPU else 300)
    batch_size = options.batch_size or (256 if GPU else 30)
    if not GPU:
        print("No GPU: this measures one thread of the CPU.", file=sys.stderr)
    keep_freed_memory()
    modes: list[bool | str] = [False, *((True, *(("cuda_graphs",) if GPU else ())) if options.compile else ())]
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        few, many = Results(Path(folder) / "few"), Results(Path(folder) / "many")
        steps.simulate(study_of(SIMULATED), few)
        steps.encode(study_of(SIMULATED), few)
        repeat(few.dataset(0), many.dataset(0), num_examples)
        study = study_of(num_examples, batch_size=batch_size)
        steps.split(study, many)
        fabric = make_fabric(study.training)
        for number, name in enumerate(NETWORKS):
            for mode in modes if name in (options.networks or NETWORKS) else ():
                study = study_of(num_examples, batch_size=batch_size, compile=mode)
                with _reproducible(study.training.threads):  # as the loop has it
                    lines.append(measure(study, many, number, fabric=fabric))
                rounded = {
                    key: float(f"{value:.4g}") if isinstance(value, float) else value
                    for key, value in lines[-1].items()
                }
                print(json.dumps(rounded), flush=True)
    print(f"\n{introduction(lines[0])}{table(lines)}", file=sys.stderr)
    if options.write:
        write(options.write, "benchmarks/gpu.py", introduction(lines[0]) + table(lines))


if __name__ == "__main__":
    main()
