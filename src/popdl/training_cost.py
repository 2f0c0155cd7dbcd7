"""What training the networks of a study costs at most: how many steps, how long one takes on this machine, and what it keeps in memory.

Steps follow from the config: every training is taken to run to its ``max_epochs``, though most end before, by their ``patience``. The
time of a step is measured with random genotypes of the study's shape; making batches ready comes on top, a few percent as a rule.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from popdl.config.study import Study, build_study, study_values
from popdl.memory import keep_freed_memory
from popdl.splits import assign_scenarios
from popdl.trials import draw_values, num_trials, trial_over, with_values

__all__ = ["NetworkMemory", "TrainingCost", "network_memory", "steps_of_a_training", "training_costs"]

OPTIMIZER_COPIES = 4
"""Weights, gradients, and the two moments of Adam."""
TIMED_STEPS = 3
"""Steps that are timed, after one that is not."""
TIMED_ACTIVATIONS = 2**29
"""Bytes that are kept for a timed step at most: of a larger batch, a part is timed, and the rest taken to be as dear."""


@dataclass(frozen=True)
class NetworkMemory:
    """What training a network keeps in memory, in bytes."""

    num_parameters: int
    activations: int
    """Tensors that autograd keeps for one batch, from the forward pass to the backward pass."""
    batch: int
    """The batch itself, unpacked."""

    @property
    def total(self) -> int:
        """Without the data."""
        return OPTIMIZER_COPIES * 4 * self.num_parameters + self.activations + self.batch


@dataclass(frozen=True)
class TrainingCost:
    """What all trainings of one network cost at most, replicates and the trials of a search together."""

    num_trainings: int
    num_steps: int
    num_fresh: int
    """Examples that are simulated while they run (``data: on_the_fly``)."""
    seconds: float
    """CPU seconds, with a look at the validation split after each epoch."""

    def __add__(self, other: TrainingCost) -> TrainingCost:
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return TrainingCost(*(mine + theirs for mine, theirs in pairs))

    def __rmul__(self, number: int) -> TrainingCost:
        return TrainingCost(*(number * value for value in vars(self).values()))


def training_costs(study: Study) -> dict[str, TrainingCost]:
    """Estimate what training costs, by network.

    Every trial of a search is counted with its own settings; the replicates that follow are taken to have those of the dearest one.
    """
    timed: dict[str, tuple[float, float]] = {}
    costs = {}
    for key in study.networks:
        trials = [_training(trial, key, timed) for trial in _trials(study, key)]
        replicates = study.training.replicates
        if not trials:
            costs[key] = replicates * _training(study, key, timed)
            continue
        # The chosen trial is the first of the replicates.
        costs[key] = (replicates - 1) * max(trials, key=lambda cost: cost.seconds)
        for trial in trials:
            costs[key] += trial
    return costs


def steps_of_a_training(study: Study) -> tuple[int, int]:
    """Steps of one training that runs to its last epoch, and batches of the validation split that it looks at.

    Where a column or a file says which scenarios train, all examples are taken to.
    """
    training, source = study.training, study.source
    if study.splits.column is None and study.splits.file is None:
        split = assign_scenarios(np.arange(source.num_scenarios), settings=study.splits, seed=study.seed)
        num_train, num_validation = (
            source.replicates * int(np.count_nonzero(split == name)) for name in ("train", "validation")
        )
    else:
        num_train, num_validation = source.num_examples, 0
    epoch = -(-(training.fresh_per_epoch or num_train) // training.batch_size)
    return training.max_epochs * epoch, training.max_epochs * -(-num_validation // training.batch_size)


def _trials(study: Study, key: str) -> Iterator[Study]:
    """The study with the settings of each trial of a network."""
    if study.search is None:
        return
    search, values = study.search.model_dump(mode="json"), study_values(study)
    del values["search"]
    for trial in range(num_trials(search, key)):
        chosen = draw_values(trial_over(search, key, trial), trial=trial, seed=study.seed)
        yield build_study(with_values(values, chosen))


def _training(study: Study, key: str, timed: dict[str, tuple[float, float]]) -> TrainingCost:
    """One training of a network; what was timed before is not timed again."""
    num_steps, num_looks = steps_of_a_training(study)
    deciding = {
        "network": (key, study.networks[key]),
        "data": [study.source.num_haplotypes, study.encoding.model_dump(mode="json")],
        "transforms": study.transforms.model_dump(mode="json"),
        "training": [study.training.batch_size, study.training.threads],
    }
    known = json.dumps(deciding, sort_keys=True)
    if known not in timed:
        timed[known] = _time_of_a_step(study, key)
    step, look = timed[known]
    fresh = study.training.max_epochs * (study.training.fresh_per_epoch or 0)
    return TrainingCost(1, num_steps, fresh, num_steps * step + num_looks * look)


def _time_of_a_step(study: Study, key: str) -> tuple[float, float]:
    """CPU seconds of one step, and of predicting one batch."""
    import torch

    batch_size, activations = study.training.batch_size, network_memory(study, key).activations
    # Layers that normalise over the batch need two examples.
    part = min(batch_size, max(2, batch_size * TIMED_ACTIVATIONS // max(activations, 1)))
    threads = torch.get_num_threads()
    keep_freed_memory()  # as trainings do
    torch.set_num_threads(study.training.threads)
    try:
        with torch.random.fork_rng(devices=[]):
            network, inputs = _network_and_batch(study, key, part)
            optimizer = torch.optim.Adam(network.parameters())

            def step() -> None:
                optimizer.zero_grad()
                network(*inputs).square().mean().backward()
                optimizer.step()

            @torch.no_grad()
            def look() -> None:
                network(*inputs)

            learning, looking = _cpu_seconds(step), _cpu_seconds(look)
    finally:
        torch.set_num_threads(threads)
    return learning * batch_size / part, looking * batch_size / part


def _cpu_seconds(work: Callable[[], None]) -> float:
    work()  # the first time, memory is taken
    start = time.process_time()
    for _ in range(TIMED_STEPS):
        work()
    return (time.process_time() - start) / TIMED_STEPS


def _network_and_batch(study: Study, key: str, batch_size: int) -> tuple[Any, list[Any]]:
    """A network that is about to train, and a batch of the largest shape that it will meet, with random genotypes; on torch's default device."""
    import torch

    from popdl.networks._base import InputShape, build
    from popdl.transforms._pipeline import Pipelines

    network = build(key, study.networks[key], InputShape.of(study)).train()
    shape = InputShape.after(Pipelines.of(study).train)
    genotypes = torch.randint(2, (batch_size, shape.num_haplotypes, shape.max_sites)).float()
    positions = torch.rand(batch_size, shape.max_sites) if shape.has_positions else None
    return network, [genotypes, positions, torch.ones(batch_size, shape.max_sites, dtype=torch.bool)]


def network_memory(study: Study, key: str) -> NetworkMemory:
    """Count what training one network of a study keeps; nothing is allocated (the network is built on torch's meta device)."""
    import torch

    with torch.device("meta"):
        network, inputs = _network_and_batch(study, key, study.training.batch_size)
        given = [tensor for tensor in inputs if tensor is not None]
        known = {tensor.untyped_storage()._cdata for tensor in (*network.parameters(), *network.buffers(), *given)}
        kept: dict[int, Any] = {}

        def pack(tensor: Any) -> Any:
            storage = tensor.untyped_storage()
            if storage._cdata not in known:
                kept[storage._cdata] = storage
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            features = network(*inputs)
        del features
    return NetworkMemory(
        num_parameters=sum(parameter.numel() for parameter in network.parameters()),
        activations=sum(storage.nbytes() for storage in kept.values()),
        batch=sum(tensor.untyped_storage().nbytes() for tensor in given),
    )
