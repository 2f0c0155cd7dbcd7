"""A plan as lines for a terminal: what a study costs, and what a cluster must be asked for."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from popdl.plan import SLOW, Plan, SimulationPlan

__all__ = ["hours", "plan_text", "size"]

SPARE = 1.3
"""Memory to ask a cluster for, over what a job is expected to need."""
SHORT = 3.0
"""Minutes: of a shorter job, starting it is a good part."""
LIMITS = {
    "time": "more would take longer than ten minutes",
    "memory": "more would need over 2 GB, which is what profiles/slurm asks for",
    "all": "all in one",
}
"""Why a shard is not larger."""


def plan_text(plan: Plan) -> str:
    """The plan in lines for a terminal."""
    lines = [
        f"study {plan.study}: {plan.num_examples:,} examples",
        *(
            _simulation_lines(plan, plan.simulation)
            if plan.simulation
            else ["simulation: none, the study imports its data"]
        ),
        f"memory to train on a CPU: {size(plan.training_memory)}, of which {size(plan.packed_bytes)} are data",
    ]
    for key, network in plan.networks.items():
        cost = plan.training[key]
        lines += [
            f"training {key} on CPUs like this one: at most {hours(cost.seconds / 3600)} "
            f"({_counted(cost.num_trainings, 'training')}, {cost.num_steps:,} steps in all, if none ends early)",
            f"GPU memory of {key}: {size(plan.packed_bytes + network.total)} in fp32 ({network.num_parameters:,} parameters, "
            f"{size(network.activations)} activations for a batch)",
        ]
    if plan.fresh_hours:
        lines.append(f"simulation on the fly: at most {hours(plan.fresh_hours)}, while networks train")
    lines += _totals(plan)
    return "\n".join(lines) + "\n"


def _totals(plan: Plan) -> Iterator[str]:
    yield (
        f"in all: at most {hours(plan.hours)} on CPUs like this one, in some {plan.num_jobs(plan.shard_size):,} jobs; baselines, "
        "predictions and figures take their time beside"
    )
    asked = {"train": plan.training_memory}
    if plan.simulation:
        asked = {"simulate_shard": plan.simulation.shard_memory, **asked}
    rounded = (f"{rule} {max(2, math.ceil(SPARE * memory / 1e9)) * 1000}" for rule, memory in asked.items())
    yield f"memory to ask a cluster for (mem_mb in profiles/slurm/config.yaml): {', '.join(rounded)}"


def _simulation_lines(plan: Plan, simulation: SimulationPlan) -> Iterator[str]:
    seconds, (corner, slowest) = simulation.seconds, simulation.corner
    shard_size = simulation.suggested_shard_size
    minutes = float(np.mean(seconds)) * min(shard_size, plan.num_examples) / 60
    values = ", ".join(f"{name} = {value:g}" for name, value in corner.items())
    if simulation.num_datasets > 1:
        yield (
            f"search: all examples are simulated {_counted(simulation.num_sources, 'time')} and encoded {_counted(simulation.num_datasets, 'time')}; "
            "each is taken to cost what the config itself would"
        )
    yield f"pilot: {simulation.num_pilot} windows in {simulation.pilot_seconds:.1f} s of one core; the fit is typically off by a factor of {simulation.error:.2f}"
    yield f"simulation: {hours(simulation.simulate_hours)}; {_seconds(float(np.mean(seconds)))} an example in the mean"
    yield from _histogram(seconds)
    yield f"  dearest corner of the prior: {_seconds(slowest)} ({values})"
    if slowest > SLOW:
        yield f"warning: one draw at {values} takes about {_seconds(slowest)}; narrow the prior, or shorten the windows."
    yield f"encoding: {hours(simulation.encode_hours)}"
    yield (
        f"disk: {size(simulation.disk)} (raw {size(simulation.raw_bytes * simulation.num_examples * simulation.num_sources)}, "
        f"encoded {size(simulation.encoded_bytes * simulation.num_examples * simulation.num_datasets)})"
    )
    yield f"memory of a simulation job: {size(simulation.shard_memory)}"
    yield (
        f"suggested shard_size: {shard_size:,} ({_counted(-(-plan.num_examples // shard_size), 'job')} of {minutes:.1f} min; {LIMITS[simulation.limit]}); "
        f"the config has {plan.shard_size:,}"
    )
    if simulation.limit == "memory" and minutes < SHORT:
        yield (
            "  short jobs spend much of their time on starting: with simulate_shard: {mem_mb: 6000 * attempt} in the profile, shards may be three times as large"
        )


def _histogram(seconds: np.ndarray, *, bins: int = 8, width: int = 40) -> list[str]:
    """Seconds of an example over the prior, in bins of equal ratio, and the share of the time that each bin takes."""
    low, high = float(seconds.min()), float(seconds.max())
    if high / low < 1.05:
        return []
    edges = np.geomspace(low, high * (1 + 1e-9), bins + 1)
    counts, _ = np.histogram(seconds, edges)
    times, _ = np.histogram(seconds, edges, weights=seconds)
    return [
        f"  {_seconds(left):>8} to {_seconds(right):>8}  {'#' * round(width * count / counts.max()):{width}}"
        f" {count / len(seconds):4.0%} of draws, {taken / seconds.sum():4.0%} of the time"
        for left, right, count, taken in zip(edges[:-1], edges[1:], counts, times, strict=True)
    ]


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def hours(number: float) -> str:
    """CPU hours as people write them."""
    return f"{number:,.1f} CPU hours" if number >= 1 else f"{60 * number:.1f} CPU minutes"


def _seconds(seconds: float) -> str:
    if seconds >= SLOW:
        return f"{seconds / 3600:,.1f} h"
    return f"{seconds:.2g} s" if seconds < 100 else f"{seconds / 60:.0f} min"


def size(number: float) -> str:
    """Bytes as people write them."""
    return f"{number / 1e9:,.1f} GB" if number >= 1e9 else f"{number / 1e6:,.1f} MB"
