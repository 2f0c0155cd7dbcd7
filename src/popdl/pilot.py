"""A pilot of a study's simulations: a few draws of its prior, timed in a process that is ended when its time is over.

What a draw costs is fitted against ρ = 4NₑrL and θ = 4NₑμL, with Nₑ from the mean time E[T₂] in which two haplotypes meet in the
draw's demography (4Nₑ = 2 E[T₂] for diploids), and n, the number of haplotypes: Hudson's algorithm takes time of order
ρ h + ρ² (Kelleher et al. 2016, PLoS Comput. Biol. 12:e1004842), mutations and genotypes of order θ h n, where h = 1 + 1/2 + … + 1/(n−1).
"""

from __future__ import annotations

import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import nnls

import popdl
from popdl import seeds
from popdl.config.study import Study, build_study
from popdl.dataset import encode_examples
from popdl.encoding import Encoder
from popdl.simulators._base import Example, Simulator
from popdl.simulators._memory import tune_memory
from popdl.simulators._msprime import MsprimeSimulator
from popdl.store import write_shard

__all__ = ["Cost", "Draw", "Measured", "run_pilot", "scaled_rates"]

EXAMPLES_WRITTEN = 8
"""Examples of the pilot that are written to disk at once, to see how well they are compressed."""


@dataclass(frozen=True)
class Draw:
    """Parameters of one simulation, and what they let expect."""

    parameters: dict[str, float]
    sequence_length: float
    rho: float
    """4NₑrL; 0 where the simulator does not tell its demography."""
    theta: float
    """4NₑμL; 0 where the simulator does not tell its demography."""


@dataclass(frozen=True)
class Measured:
    """What one simulation cost."""

    draw: int
    """Number of the draw in the list that was given."""
    simulate_seconds: float
    """CPU seconds."""
    encode_seconds: float
    """CPU seconds."""
    num_sites: int
    peak_memory: int
    """Most memory that the process had until then, in bytes."""
    raw_bytes_per_site: float
    """Bytes on disk per site of a raw shard; NaN until some examples have been written."""
    encoded_bytes: float
    """Bytes on disk per example of an encoded shard; NaN until some examples have been written."""


def scaled_rates(simulation: Simulator, parameters: dict[str, float]) -> tuple[float, float]:
    """ρ = 4NₑrL and θ = 4NₑμL of one draw; zeros where the simulator does not tell its demography."""
    if not isinstance(simulation, MsprimeSimulator):
        return 0.0, 0.0
    counts = simulation.num_haplotypes
    names = list(counts) if isinstance(counts, dict) else simulation.populations()[:1]
    try:
        time_to_meet = _time_to_meet(simulation.demography(parameters), names, ploidy=simulation.ploidy)
    except (TypeError, ValueError, KeyError):
        return 0.0, 0.0
    recombination = parameters.get("recombination_rate")
    if recombination is None:
        recombination = simulation.rate_map.mean_rate
    length = 2 * time_to_meet * simulation.sequence_length
    return float(length * recombination), float(length * parameters["mutation_rate"])


def _time_to_meet(demography: Any, populations: Sequence[str], *, ploidy: int) -> float:
    """E[T₂] in generations; of several populations, the longest."""
    history = demography.debug()
    epochs = [(epoch.start_time, epoch.end_time, epoch.populations[0]) for epoch in history.epochs]
    if demography.num_populations == 1 and all(population.growth_rate == 0 for *_, population in epochs):
        # msprime integrates numerically; for sizes that are constant in between, the sum is exact, and a thousand times faster.
        apart, total = 1.0, 0.0
        for start, end, population in epochs:
            rate = 1 / (ploidy * population.start_size)
            leaves = -math.expm1(-(end - start) * rate)
            total += apart * leaves / rate
            apart *= 1 - leaves
        return total
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # To a few percent: ten times nearer takes three times as long, for hundreds of draws.
        return float(max(history.mean_coalescence_time({name: 2}, rtol=0.05) for name in populations))


@dataclass(frozen=True)
class Cost:
    """A cost as a sum of terms in 1, ρ h, ρ² and θ h n, with coefficients of at least 0."""

    coefficients: np.ndarray
    error: float
    """Typical factor between the fit and what was measured."""
    smearing: float
    """Mean of measured over fitted: fits of logarithms lie below the mean (Duan 1983)."""

    @classmethod
    def fit(cls, draws: Sequence[Draw], values: Sequence[float], *, num_haplotypes: int) -> Cost:
        """Fit to what was measured.

        Relative errors are made small, which near the truth is least squares of logarithms, and large ones count less
        (weights of Huber 1964), since other work on a machine makes some measurements too large.
        """
        terms, measured = _terms(draws, num_haplotypes), np.maximum(np.asarray(values, dtype=np.float64), 1e-6)
        scale = np.maximum(terms.max(axis=0), 1e-300)
        relative = terms / scale / measured[:, np.newaxis]
        weights = np.ones(len(measured))
        for _ in range(10):
            solution = nnls(relative * weights[:, np.newaxis], weights)[0]
            errors = np.abs(np.log(np.maximum(relative @ solution, 1e-9)))
            weights = np.sqrt(np.minimum(1, 1.5 * max(float(np.median(errors)), 0.01) / np.maximum(errors, 1e-9)))
        fitted = np.maximum(relative @ solution, 1e-9)
        return cls(solution / scale, float(np.exp(np.median(np.abs(np.log(fitted))))), float(np.mean(1 / fitted)))

    def __call__(self, draws: Sequence[Draw], *, num_haplotypes: int) -> np.ndarray:
        """What these draws cost."""
        return _terms(draws, num_haplotypes) @ self.coefficients * self.smearing


def _terms(draws: Sequence[Draw], num_haplotypes: int) -> np.ndarray:
    harmonic = sum(1 / i for i in range(1, num_haplotypes))
    return np.array(
        [[1, draw.rho * harmonic, draw.rho**2, draw.theta * harmonic * num_haplotypes] for draw in draws],
        dtype=np.float64,
    )


def run_pilot(study: Study, draws: Sequence[Draw], *, seconds: float) -> list[Measured]:
    """Simulate and encode draws, in their order, in a process of its own.

    Parameters
    ----------
    study
        The study; its encoding and seed are used.
    draws
        Best from cheap to dear: the first that does not end in time is the last.
    seconds
        When they are over, the process is killed.

    Returns
    -------
    list of Measured
        For the draws that ended.
    """
    task = {"study": study.model_dump(mode="json", exclude_none=True), "draws": [asdict(draw) for draw in draws]}
    source = str(Path(popdl.__file__).resolve().parents[1])
    path = os.pathsep.join([source, *filter(None, [os.environ.get("PYTHONPATH")])])
    process = subprocess.Popen(
        [sys.executable, "-m", "popdl.pilot"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
    )
    assert process.stdin is not None and process.stdout is not None
    timer = threading.Timer(seconds, process.kill)
    try:
        process.stdin.write(json.dumps(task))
        process.stdin.close()
        process.stdout.readline()  # it has imported what it needs, and begins
        timer.start()
        return [Measured(**json.loads(line)) for line in process.stdout if line.endswith("\n")]
    finally:
        timer.cancel()
        process.kill()
        process.wait()
        process.stdout.close()


def _measure(study: Study, draws: Iterable[dict[str, Any]]) -> Iterator[Measured]:
    """Simulate and encode each draw; every few examples, write them."""
    simulation = study.simulation
    assert simulation is not None
    tune_memory()
    raw_bytes, encoded_bytes = float("nan"), float("nan")
    waiting: list[tuple[Example, np.random.Generator]] = []
    for number, draw in enumerate(draws):
        length = draw["sequence_length"]
        start = time.process_time()
        window = simulation.model_copy(update={"sequence_length": length})
        example = window.simulate(draw["parameters"], seeds.generator(study.seed, "simulation", number))
        simulated = time.process_time()
        settings = study.encoding
        if length < simulation.sequence_length:
            settings = settings.model_copy(update={"crop_length": None})
        encoder = Encoder.for_source(settings, window)
        random = seeds.generator(study.seed, "encoding", number)
        encode_examples(encoder, [(example.genotypes, example.positions, random)])
        encoded = time.process_time()
        if length == simulation.sequence_length:
            waiting.append((example, random))
        if len(waiting) == EXAMPLES_WRITTEN:
            raw_bytes, encoded_bytes = _written(encoder, waiting)
            waiting = []
        yield Measured(
            number,
            simulated - start,
            encoded - simulated,
            len(example.positions),
            _peak_memory(),
            raw_bytes,
            encoded_bytes,
        )


def _written(encoder: Encoder, examples: Sequence[tuple[Example, np.random.Generator]]) -> tuple[float, float]:
    """Bytes on disk: of raw examples per site, of encoded ones each."""
    with tempfile.TemporaryDirectory() as folder:
        raw, encoded = Path(folder) / "raw", Path(folder) / "encoded"
        genotypes = np.concatenate([example.genotypes for example, _ in examples])
        positions = np.concatenate([example.positions for example, _ in examples])
        write_shard(raw, kind="simulations", arrays={"genotypes": genotypes, "positions": positions}, attributes={})
        windows = ((example.genotypes, example.positions, random) for example, random in examples)
        arrays, attributes = encode_examples(encoder, windows)
        write_shard(encoded, kind="dataset", arrays=arrays, attributes=attributes)
        return _size(raw) / max(len(positions), 1), _size(encoded) / len(examples)


def _size(folder: Path) -> int:
    """Bytes of the arrays alone: what describes them is some kB, once for each shard."""
    return sum(path.stat().st_size for path in folder.rglob("c/**/*") if path.is_file())


def _peak_memory() -> int:
    """Bytes; where the kernel tells only what `resource` does, that may hold a part of the parent's."""
    try:
        (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
        return 1024 * int(line.split()[1])
    except (OSError, ValueError):
        unit = 1 if sys.platform == "darwin" else 1024
        return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main() -> None:
    task = json.load(sys.stdin)
    study = build_study(task["study"])
    print(flush=True)
    for measured in _measure(study, task["draws"]):
        print(json.dumps(asdict(measured)), flush=True)


if __name__ == "__main__":
    main()
