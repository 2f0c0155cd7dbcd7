"""What a study will cost, before any of it is run: CPU hours, disk, memory, and the size of its shards.

A pilot (:mod:`popdl.pilot`) simulates a few draws of the study's own prior, from cheap to dear. What they cost is fitted against
ρ = 4NₑrL, θ = 4NₑμL and n, and the fit is summed over many draws, the corners of the prior among them. What training costs is
estimated in :mod:`popdl.training_cost`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from popdl import priors, seeds
from popdl.config.study import Study
from popdl.errors import PopdlError
from popdl.pilot import Cost, Draw, Measured, run_pilot, scaled_rates
from popdl.priors import Prior
from popdl.simulators._base import Simulator
from popdl.training_cost import NetworkMemory, TrainingCost, network_memory, training_costs
from popdl.trials import data_variants, source_variants

__all__ = ["SLOW", "Plan", "SimulationPlan", "plan_study", "plan_values"]

FORMAT_VERSION = 1
"""Of ``plan.json``."""

PILOT_DRAWS = 24
"""Draws that the pilot simulates at the study's length; they are spread evenly over the costs of the prior's draws."""
SHORT_DRAWS = 2
FRACTIONS = (1 / 1024, 1 / 256, 1 / 64, 1 / 16, 1 / 4)
"""Lengths of the windows with which the pilot begins, as shares of the study's: they end soon wherever a whole one may not."""
PRIOR_DRAWS = 400
"""Scenarios of the study over which costs are summed, and scaled to all."""
SEVERAL_POPULATIONS = 100
"""The same where there are several populations: the mean time to meet is integrated there, which takes a tenth of a second."""
MAX_CORNERS = 64
SHARD_MINUTES = 10
"""A job of some minutes is long against the seconds in which it starts, and short against what a failure loses."""
SHARD_BYTES = 200 * 2**20
"""Raw examples of one shard at most: a job then stays within the 2 GB that profiles/slurm asks for."""
SHARD_COPIES = 2.5
"""Times that the raw examples of a shard are in memory at the peak of its job: as they were simulated, joined, and in part compressed
(measured: 2.3 to 2.5 with 28, 57 and 186 MB of 50 haplotypes × 1 Mb)."""
SLOW = 1800.0
"""Seconds of one draw after which a warning is due."""
TORCH_MEMORY = 400 * 2**20
"""Resident memory of a process that has imported torch and trains, without its data (measured, torch 2.13 for CPUs)."""


@dataclass(frozen=True)
class SimulationPlan:
    """What the simulations of a study cost; seconds are of one CPU core, sizes are in bytes.

    A search over data simulates, or encodes, the study several times: each time is taken to cost what the config itself would.
    """

    num_examples: int
    num_sources: int
    """Times that the examples are simulated."""
    num_datasets: int
    """Times that they are encoded."""
    num_pilot: int
    """Windows that the pilot simulated."""
    pilot_seconds: float
    error: float
    """Typical factor between the fit and the pilot."""
    seconds: np.ndarray
    """ndarray of shape (num_draws,), dtype=float64: time to simulate one example, for draws of the prior."""
    corner: tuple[dict[str, float], float]
    """The dearest corner of the prior, and its seconds."""
    encode_seconds: float
    """Mean per example."""
    raw_bytes: float
    """Mean on disk per example."""
    encoded_bytes: float
    """The same once it is encoded."""
    shard_memory: float
    """Peak of a simulation job with the config's `shard_size`."""
    suggested_shard_size: int
    limit: Literal["time", "memory", "all"]
    """Why it is not larger: a job would take too long, or too much memory; or all examples are in one shard."""

    @property
    def simulate_hours(self) -> float:
        """CPU hours of all simulations, but for those made on the fly."""
        return float(np.mean(self.seconds)) * self.num_examples * self.num_sources / 3600

    @property
    def encode_hours(self) -> float:
        """CPU hours of encoding them."""
        return self.encode_seconds * self.num_examples * self.num_datasets / 3600

    def fresh_hours(self, number: int) -> float:
        """CPU hours of simulating and encoding a number of examples while networks train."""
        return (float(np.mean(self.seconds)) + self.encode_seconds) * number / 3600

    @property
    def disk(self) -> float:
        """Bytes of raw and encoded shards."""
        return (self.raw_bytes * self.num_sources + self.encoded_bytes * self.num_datasets) * self.num_examples


@dataclass(frozen=True)
class Plan:
    """The costs of a study."""

    study: str
    num_examples: int
    shard_size: int
    simulation: SimulationPlan | None
    """None where examples are imported."""
    packed_bytes: int
    """The encoded examples that training keeps in memory, on the GPU if there is one: all, unless they are streamed."""
    networks: dict[str, NetworkMemory]
    training: dict[str, TrainingCost]
    num_baselines: int

    @property
    def training_memory(self) -> float:
        """Peak of the largest training job on a CPU, in bytes."""
        return TORCH_MEMORY + self.packed_bytes + max(network.total for network in self.networks.values())

    @property
    def gpu_memory(self) -> int:
        """The same on a GPU, for the largest network."""
        return self.packed_bytes + max(network.total for network in self.networks.values())

    @property
    def training_hours(self) -> float:
        """CPU hours of all trainings at most, on this machine without a GPU."""
        return sum(cost.seconds for cost in self.training.values()) / 3600

    @property
    def fresh_hours(self) -> float:
        """CPU hours of the simulations that are made while networks train, at most."""
        if self.simulation is None:
            return 0.0
        return self.simulation.fresh_hours(sum(cost.num_fresh for cost in self.training.values()))

    @property
    def hours(self) -> float:
        """CPU hours of all that is planned: not of baselines, predictions and figures."""
        made = self.simulation.simulate_hours + self.simulation.encode_hours if self.simulation else 0.0
        return made + self.fresh_hours + self.training_hours

    def num_jobs(self, shard_size: int) -> int:
        """Jobs that the study is, nearly: two for a shard and for a training, one for a baseline; those that are there once are left out."""
        simulation = self.simulation
        times = simulation.num_sources + simulation.num_datasets if simulation else 2
        trainings = sum(cost.num_trainings for cost in self.training.values())
        return times * -(-self.num_examples // shard_size) + 2 * trainings + self.num_baselines


def plan_study(study: Study, *, seconds: float = 120.0) -> Plan:
    """Estimate what a study costs.

    Parameters
    ----------
    study
        The study; of one that imports its examples, what training costs.
    seconds
        Time after which the pilot is ended; what it has not reached is extrapolated.

    Raises
    ------
    PopdlError
        If not even one short window is simulated in time.
    """
    num_examples = study.source.num_examples
    return Plan(
        study=study.study,
        num_examples=num_examples,
        shard_size=study.source.shard_size,
        simulation=_plan_simulation(study, study.simulation, seconds=seconds) if study.simulation else None,
        packed_bytes=min(num_examples, study.training.streamed or num_examples) * _packed(study),
        networks={key: network_memory(study, key) for key in study.networks},
        training=training_costs(study),
        num_baselines=len(study.baselines),
    )


def _plan_simulation(study: Study, simulation: Simulator, *, seconds: float) -> SimulationPlan:
    n = simulation.total_haplotypes
    scenarios = [_draw(simulation, parameters) for parameters in _scenarios(study, simulation)]
    corner = max((_draw(simulation, parameters) for parameters in _corners(simulation.priors)), key=_weight)
    tasks = _pilot_draws(simulation, sorted(scenarios, key=_weight))
    measured = run_pilot(study, tasks, seconds=seconds)
    if not measured:
        raise PopdlError(
            f"plan: not one draw of a window of {tasks[0].sequence_length:,.0f} bp was simulated within {seconds:g} s; "
            "allow more (--seconds), or narrow the prior."
        )
    whole = [one for one in measured if tasks[one.draw].sequence_length == simulation.sequence_length]
    # Whole windows speak for themselves where there are enough of them; short ones have other constant costs.
    used = whole if len(whole) >= PILOT_DRAWS // 2 else measured
    done = [tasks[one.draw] for one in used]

    def mean(values: list[float]) -> float:
        return float(np.mean(Cost.fit(done, values, num_haplotypes=n)(scenarios, num_haplotypes=n)))

    times = Cost.fit(done, [one.simulate_seconds for one in used], num_haplotypes=n)
    # Beside a window without sites any fit would be infinitely wrong, and nothing else would count.
    drawn = Cost.fit(done, [max(one.num_sites, 1) for one in used], num_haplotypes=n)(scenarios, num_haplotypes=n)
    sites = float(np.mean(np.minimum(drawn, simulation.keep_sites or math.inf)))
    per_example, per_site = _on_disk(study, whole)
    per_seconds = times(scenarios, num_haplotypes=n)
    peak = Cost.fit(done, [one.peak_memory for one in used], num_haplotypes=n)([*scenarios, corner], num_haplotypes=n)
    raw = sites * (n + 8)
    shard_size, limit = _shard_size(simulation, float(np.mean(per_seconds)), raw)
    search = study.search.model_dump(mode="json") if study.search else None
    variants = data_variants(search, seed=study.seed)
    return SimulationPlan(
        num_examples=simulation.num_examples,
        num_sources=max(1, len(source_variants(variants))),
        num_datasets=max(1, len(variants)),
        num_pilot=len(measured),
        pilot_seconds=sum(one.simulate_seconds + one.encode_seconds for one in measured),
        error=times.error,
        seconds=per_seconds,
        corner=(corner.parameters, float(times([corner], num_haplotypes=n)[0])),
        encode_seconds=mean([one.encode_seconds for one in used]),
        raw_bytes=sites * per_site,
        encoded_bytes=per_example,
        shard_memory=float(np.max(peak[:-1]))
        + SHARD_COPIES * min(simulation.shard_size, simulation.num_examples) * raw,
        suggested_shard_size=shard_size,
        limit=limit,
    )


def _scenarios(study: Study, simulation: Simulator) -> Iterator[dict[str, float]]:
    """The parameters of the study's first scenarios, as its own jobs will draw them."""
    most = SEVERAL_POPULATIONS if isinstance(simulation.num_haplotypes, dict) else PRIOR_DRAWS
    for scenario in range(min(most, simulation.num_scenarios)):
        yield priors.draw(simulation.priors, seeds.generator(study.seed, "parameters", scenario))


def _corners(all_priors: Mapping[str, Prior]) -> Iterator[dict[str, float]]:
    """The prior's corners, every parameter at one end of its range; of many parameters, the first combinations and all ends alike."""
    names = [name for name, prior in all_priors.items() if prior.is_random]
    combinations = [*itertools.islice(itertools.product((0, 1), repeat=len(names)), MAX_CORNERS), (1,) * len(names)]
    ends = {name: _ends(prior) for name, prior in all_priors.items()}
    for chosen in combinations:
        end = dict(zip(names, chosen, strict=True))
        values: dict[str, float] = {}
        for name in priors.drawing_order(all_priors):
            prior = all_priors[name]
            value = prior.combined(ends[name][end.get(name, 0)], values)
            low, high = prior.within or (-math.inf, math.inf)
            values[name] = min(max(value, low), high)
        yield {name: values[name] for name in all_priors}


def _ends(prior: Prior) -> tuple[float, float]:
    """Ends of the range of a prior before its references and `within`; of a distribution without ends, those of many draws."""
    arguments = prior.arguments
    if prior.distribution in ("uniform", "loguniform", "constant", "choice") and isinstance(arguments, list):
        numbers = [float(index) if isinstance(value, str) else value for index, value in enumerate(arguments)]
        return min(numbers), max(numbers)
    generator = np.random.default_rng(0)
    values = [prior.sample(generator) for _ in range(1000)]
    return min(values), max(values)


def _draw(simulation: Simulator, parameters: dict[str, float]) -> Draw:
    return Draw(parameters, simulation.sequence_length, *scaled_rates(simulation, parameters))


def _weight(draw: Draw) -> float:
    return draw.rho + draw.theta


def _pilot_draws(simulation: Simulator, ordered: list[Draw]) -> list[Draw]:
    """Short windows first, then whole ones from cheap to dear."""

    def spread(number: int) -> list[Draw]:
        return [ordered[round(index)] for index in np.linspace(0, len(ordered) - 1, number)]

    short = []
    for fraction in FRACTIONS:
        length = max(1.0, math.floor(simulation.sequence_length * fraction))
        share = length / simulation.sequence_length
        short += [Draw(draw.parameters, length, draw.rho * share, draw.theta * share) for draw in spread(SHORT_DRAWS)]
    return [*short, *spread(PILOT_DRAWS)]


def _on_disk(study: Study, whole: list[Measured]) -> tuple[float, float]:
    """Bytes of an encoded example, and of a site of a raw one; uncompressed where the pilot has written nothing."""
    if whole and not math.isnan(whole[-1].encoded_bytes):
        return whole[-1].encoded_bytes, whole[-1].raw_bytes_per_site
    return _packed(study), study.source.total_haplotypes / 8 + 8


def _packed(study: Study) -> int:
    """Bytes of one encoded example in memory."""
    sites = study.encoding.max_sites
    positions = 4 * sites if study.encoding.positions != "none" else 0
    return study.source.total_haplotypes * -(-sites // 8) + positions + 4


def _shard_size(simulation: Simulator, seconds: float, raw: float) -> tuple[int, Literal["time", "memory", "all"]]:
    """Examples that take some minutes and fit into a job's memory, in round numbers; and why not more."""
    sizes: dict[Literal["time", "memory", "all"], float] = {
        "all": simulation.num_examples,
        "time": 60 * SHARD_MINUTES / seconds,
        "memory": SHARD_BYTES / max(raw, 1),
    }
    limit = min(sizes, key=lambda name: sizes[name])
    size = max(1.0, sizes[limit])
    unit = 10 ** max(0, math.floor(math.log10(size)) - 1)
    return max(1, math.floor(size / unit) * unit), limit


def plan_values(plan: Plan) -> dict[str, Any]:
    """The plan as plain values: ``plan.json``. Hours are of one CPU core, sizes are bytes; ``simulation`` is null where examples are imported."""
    simulation = plan.simulation and {
        "simulate_hours": plan.simulation.simulate_hours,
        "encode_hours": plan.simulation.encode_hours,
        "fresh_hours": plan.fresh_hours,
        "disk": plan.simulation.disk,
        "memory": plan.simulation.shard_memory,
        "suggested_shard_size": plan.simulation.suggested_shard_size,
    }
    return {
        "format_version": FORMAT_VERSION,
        "study": plan.study,
        "num_examples": plan.num_examples,
        "simulation": simulation,
        "training": {
            "hours": plan.training_hours,
            "memory": plan.training_memory,
            "gpu_memory": plan.gpu_memory,
            "networks": {key: asdict(cost) for key, cost in plan.training.items()},
        },
    }
