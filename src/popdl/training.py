"""Training one network: settings, data, module, optimizer, loop, and the model file, from top to bottom.

The same config gives the same weights on the same kind of processor: orders of examples and random draws are keyed by seed,
replicate and epoch, the number of threads is a setting, and a killed training goes on from its last epoch to the same end.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import logging
import math
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from popdl import __version__
from popdl.cards import about_study
from popdl.checkpoint import Progress, load_checkpoint, preemptible, save_checkpoint
from popdl.config.training import Evaluation, Training
from popdl.config.transforms import Transforms
from popdl.dataset import open_shards, read_array, read_parameters
from popdl.encoding import Encoder
from popdl.errors import PopdlError
from popdl.examples import fresh_examples, known_examples, streamed_examples
from popdl.files import write_text
from popdl.finetuning import Start
from popdl.fitting import fit
from popdl.intervals import half_width
from popdl.loader import OnDisk, PackedData
from popdl.memory import keep_freed_memory
from popdl.model import save_model
from popdl.module import PopdlModule, PositionScaling, predict_outputs
from popdl.networks._base import InputShape, describe, network_name
from popdl.optimization import make_optimizer, make_schedule
from popdl.processes import check_alike, make_fabric
from popdl.realism import fit_reference
from popdl.scaling import TargetScaling, turns_around
from popdl.seeds import generator
from popdl.seen import Seen, example_digests
from popdl.splits import read_splits
from popdl.store import Shard
from popdl.torch_parts import own_parts
from popdl.transforms._pipeline import Pipelines
from popdl.transforms._pipeline import describe as describe_transforms

__all__ = ["train"]

log = logging.getLogger("popdl")


def train(
    *,
    study: str,
    key: str,
    options: Mapping[str, Any],
    replicate: int,
    training: Training,
    evaluation: Evaluation,
    transforms: Transforms,
    seed: int,
    shards: Sequence[Path],
    splits: Path,
    targets: Path,
    output: Path,
    history: Path,
    checkpoint: Path,
    tensorboard: Path | None,
    priors: Mapping[str, Any],
    about: Mapping[str, Any] | None = None,
    simulation: Mapping[str, Any] | None = None,
    num_workers: int = 1,
    num_devices: int = 1,
    num_nodes: int = 1,
) -> None:
    """Train a network and write its model file.

    Parameters
    ----------
    study
        Name of the study, for the card.
    key, options
        The network, as under ``networks:`` in the config.
    replicate
        Number of this training among those that differ by seed alone.
    training, evaluation, transforms
        Sections of the config.
    seed
        Seed of the study.
    shards
        All encoded shards of the dataset.
    splits, targets
        ``splits.tsv`` and ``targets.json``.
    output
        The model file (``.safetensors``).
    history
        CSV, one row per epoch.
    checkpoint
        Folder for the state after every epoch; removed at the end.
    tensorboard
        Folder for TensorBoard's curves (None: none).
    priors
        The priors of the study, for the card.
    about
        What else the card says of the study: ``authors``, ``licence``, ``citation``, and the name of its ``simulator`` or of the ``format``
        that it imports.
    simulation
        The config's section, from which fresh examples are simulated where ``training.data`` is `on_the_fly`.
    num_workers
        Processes that simulate them.
    num_devices, num_nodes
        Devices of each node, and nodes, that share every batch (:mod:`popdl.processes`). The processes that are started beside
        this one end here.

    Raises
    ------
    PopdlError
        If the network cannot take the data, or the loss is no longer finite.
    """
    keep_freed_memory()  # a network's layers take and free the same blocks in every step
    with _reproducible(training.threads), preemptible():
        fabric = make_fabric(training, num_devices=num_devices, num_nodes=num_nodes)
        opened = open_shards(shards)
        data = _data(opened, training, device=fabric.device)
        split = read_splits(splits)["split"].to_numpy()
        if len(split) != data.num_examples:
            raise PopdlError(
                f"{splits}: expected {data.num_examples} examples, as in the shards, found {len(split)}; make the splits again."
            )
        rows = {name: torch.from_numpy(np.flatnonzero(split == name)) for name in ("train", "validation")}
        scaling = TargetScaling.read(targets)
        rows = {name: numbers.to(fabric.device) for name, numbers in rows.items()}
        truths = torch.from_numpy(scaling.to_network(read_parameters(opened, scaling.names))).float().to(fabric.device)

        pipelines = Pipelines.build(transforms, encoder=Encoder.from_recipe(data.encoding), targets=scaling.to_json())
        source = training.start_of(key)
        start = Start.read(source, fingerprint=data.fingerprint) if source else None
        digests = example_digests(data, opened)
        learned = digests[(split == "train") & (training.data != "on_the_fly")]
        own_seen = {"train": Seen.of(learned), "validation": Seen.of(digests[split == "validation"])}
        seen: dict[str, Seen] | None = own_seen
        initialised: dict[str, Any] = {}
        if start:
            # Of another seed, simulations are others anyway.
            comparable = (
                data.encoding["settings"]["crop"] != "random"
                or simulation is not None
                or start.card.get("seed") == seed
            )
            initialised["test_split"] = start.judged_by(digests, split, comparable=comparable)
            earlier = start.seen
            seen = earlier and {name: part | earlier[name] for name, part in own_seen.items()}

        # Epochs count from 0, so that this draw is none of theirs.
        run_seed = int(generator(seed, "training", replicate, 0).integers(2**63))
        torch.manual_seed(run_seed)
        position_scaling = PositionScaling.fit(
            data,
            rows["train"],
            transforms=pipelines.train,
            generator=pipelines.train.generator(run_seed, device=data.device),
        )
        module = PopdlModule(
            key,
            options,
            shape=InputShape.after(pipelines.prediction),
            targets=scaling.to_json(),
            position_scaling=start.positions_instead_of(position_scaling) if start else position_scaling,
            transforms=pipelines.prediction,
        )
        if start:
            initialised |= start.give(module, key=key, network=network_name(key, options))
        module.to(fabric.device)
        optimizer = make_optimizer(module, training)
        epoch_size = training.fresh_per_epoch or len(rows["train"])
        schedule = make_schedule(optimizer, training, steps_per_epoch=-(-epoch_size // training.batch_size))
        own = own_parts(training, scaling.to_json())
        deciding = training.described()
        if not schedule.needs_max_epochs:  # then more epochs only go on
            del deciding["max_epochs"]
        fingerprint = _fingerprints(
            network=describe(key, options),
            transforms=describe_transforms(transforms),
            **{f"training.{name}": value for name, value in deciding.items()},
            seed=run_seed,
            dataset=[shard.digest for shard in opened],
            splits=hashlib.sha256(splits.read_bytes()).hexdigest(),
            targets=scaling.to_json(),
            device=fabric.device.type,
            versions=_versions(),
            own=own,
            **({"initialised_from": initialised} if start else {}),
            **({"fresh": _without_numbers(simulation)} if training.fresh_per_epoch else {}),
        )
        progress = load_checkpoint(
            checkpoint,
            module,
            optimizer,
            fingerprint=fingerprint,
            replay=schedule.replay,
            max_epochs=training.max_epochs,
        )
        check_alike(fabric, progress.epoch, what=f"{checkpoint}: epochs in the checkpoint")
        if training.fresh_per_epoch:
            assert simulation is not None
            examples_of = fresh_examples(
                simulation,
                data,
                scaling,
                opened[0].attributes["parameters"],
                training=training,
                seed=seed,
                replicate=replicate,
                num_workers=num_workers,
                first_epoch=progress.epoch,
            )
        elif isinstance(data, OnDisk):
            examples_of = streamed_examples(data, rows["train"], truths, seed=run_seed, batch_size=training.batch_size)
        else:
            examples_of = known_examples(data, rows["train"], truths, seed=run_seed, batch_size=training.batch_size)

        def save(state: Progress) -> None:
            save_checkpoint(checkpoint, module, optimizer, state, fingerprint=fingerprint)

        with examples_of as examples:
            fit(
                fabric,
                module,
                schedule,
                progress,
                data,
                rows["validation"],
                truths,
                examples=examples,
                pipelines=pipelines,
                names=scaling.names,
                training=training,
                run_seed=run_seed,
                tensorboard=tensorboard if fabric.is_global_zero else None,
                save=save if fabric.is_global_zero else lambda state: None,
            )
        if not fabric.is_global_zero:
            raise SystemExit(0)

        module.load_state_dict(progress.best_weights)
        outputs = predict_outputs(module, data, rows["validation"], batch_size=training.batch_size)
        statistics = read_array(opened, "statistics", rows["train"].cpu().numpy())
        card = {
            "study": study,
            "replicate": replicate,
            "seed": seed,
            "network": describe(key, options),
            **({"transforms": recorded} if any((recorded := describe_transforms(transforms)).values()) else {}),
            "shape": module.body.shape.to_json(),
            "encoding": data.encoding,
            "fingerprint": data.fingerprint,
            "targets": scaling.to_json(),
            "positions": module.position_scaling and module.position_scaling.to_json(),
            "intervals": _intervals(
                outputs.numpy(), truths[rows["validation"]].cpu().numpy(), module, scaling, evaluation
            ),
            "realism": fit_reference(statistics, opened[0].attributes["statistics"], domain=evaluation.domain),
            # A number is written alike, whether it comes from YAML as it stands or from a checked config.
            "priors": json.loads(json.dumps(dict(priors)), parse_int=float),
            "about": about_study(about or {}),
            "training": training.described(),
            "num_examples": {
                "train": progress.epoch * training.fresh_per_epoch if training.fresh_per_epoch else len(rows["train"]),
                "validation": len(rows["validation"]),
            },
            "num_parameters": sum(parameter.numel() for parameter in module.parameters()),
            "num_epochs": progress.epoch,
            "best_epoch": progress.best_epoch + 1,
            "validation_loss": progress.best_loss,
            "dataset": _fingerprint(shards=[shard.digest for shard in opened]),
            "versions": _versions(),
            "seen": {name: part.to_json() for name, part in seen.items()} if seen else None,
            **({"initialised_from": initialised} if start else {}),
            **({"training_plugins": own} if own else {}),
        }
        write_text(history, _history_text(progress))
        save_model(output, module, card)
        shutil.rmtree(checkpoint, ignore_errors=True)


def _data(shards: Sequence[Shard], training: Training, *, device: torch.device) -> PackedData | OnDisk:
    """The dataset in memory, or on disk with parts of half the examples that may be in memory at once."""
    if training.streamed is None:
        return PackedData.read(shards, device=device)
    part_size = max(1, training.streamed // 2 // training.batch_size) * training.batch_size
    data = OnDisk(shards, part_size=part_size, device=device)
    log.info("%d examples stay on disk; at most %d of them are in memory at once.", data.num_examples, 2 * part_size)
    return data


@contextmanager
def _reproducible(threads: int) -> Iterator[None]:
    """Deterministic and exact algorithms, this many threads, and a random state of its own; all as before afterwards.

    On a GPU, cuDNN neither picks its algorithms by the clock (``benchmark``), which may pick others next time, nor rounds
    float32 to TF32, as torch lets it by default. New memory is not filled, which would cost 3 to 14 % of a step on a CPU (benchmarks' networks)
    and is there to show who reads what was never written.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is deterministic only with this
    filling: Any = torch.utils.deterministic
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled(), filling.fill_uninitialized_memory
    with torch.random.fork_rng(), torch.backends.cudnn.flags(enabled=True, benchmark=False, allow_tf32=False):
        torch.set_num_threads(threads)
        # Some operations have no deterministic form on a GPU: there, a user's network may use them, with a warning.
        torch.use_deterministic_algorithms(True, warn_only=torch.cuda.is_available())
        filling.fill_uninitialized_memory = False
        try:
            yield
        finally:
            torch.set_num_threads(before[0])
            torch.use_deterministic_algorithms(before[1])
            filling.fill_uninitialized_memory = before[2]


def _intervals(
    outputs: np.ndarray, truths: np.ndarray, module: PopdlModule, scaling: TargetScaling, evaluation: Evaluation
) -> dict[str, Any]:
    """Half-widths of prediction intervals on each target's scale (log10 for `log`); None where there is no validation truth."""
    half_widths: dict[str, float | None] = {}
    for number, (name, target) in enumerate(scaling.targets.items()):
        if target.task == "regression":
            assert target.sd is not None
            residuals = (truths[:, number] - outputs[:, module.heads.columns[name].start]) * target.sd
            width = half_width(turns_around(residuals, target.circular), evaluation.interval)
            half_widths[name] = width if math.isfinite(width) else None
    return {"coverage": evaluation.interval, "half_widths": half_widths}


def _without_numbers(simulation: Mapping[str, Any] | None) -> dict[str, Any]:
    """What decides how an example is simulated: not how many there are."""
    numbers = ("num_scenarios", "shard_size", "replicates")
    return {key: value for key, value in (simulation or {}).items() if key not in numbers}


def _versions() -> dict[str, str]:
    return {"popdl": __version__, "torch": str(torch.__version__), "numpy": np.__version__}


def _fingerprints(**parts: Any) -> dict[str, str]:
    """One for each part, so that what differs can be named."""
    return {name: _fingerprint(part=part) for name, part in parts.items()}


def _fingerprint(**parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _history_text(progress: Progress) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(progress.history[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(progress.history)
    return text.getvalue()
