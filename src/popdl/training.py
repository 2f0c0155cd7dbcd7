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
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor
from tqdm import tqdm

from popdl import __version__
from popdl.checkpoint import Progress, load_checkpoint, preemptible, save_checkpoint
from popdl.config.training import Evaluation, Training
from popdl.dataset import open_shards, read_array, read_parameters
from popdl.errors import PopdlError
from popdl.files import write_text
from popdl.heads import TargetLosses
from popdl.intervals import half_width
from popdl.loader import PackedData, shuffled
from popdl.memory import keep_freed_memory
from popdl.model import save_model
from popdl.module import PopdlModule, PositionScaling, predict_outputs
from popdl.networks._base import InputShape, describe
from popdl.realism import fit_reference
from popdl.scaling import TargetScaling
from popdl.seeds import generator
from popdl.splits import read_splits

__all__ = ["learning_rate", "train"]

log = logging.getLogger("popdl")

FINAL_LEARNING_RATE = 0.01
"""Share of the highest learning rate that is left at the end of the cosine."""
OPTIMIZERS: dict[str, Any] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": lambda parameters, **options: torch.optim.SGD(parameters, momentum=0.9, **options),
}


def learning_rate(step: int, *, num_steps: int, training: Training) -> float:
    """The learning rate of a step: a linear rise from 0, then constant or half a cosine down to 1 % (Loshchilov & Hutter 2017).

    Parameters
    ----------
    step
        Number of the step, from 0.
    num_steps
        Steps in ``max_epochs`` epochs.
    training
        The config's section.
    """
    warmup = training.warmup * num_steps
    if step < warmup:
        return training.learning_rate * (step + 1) / (warmup + 1)
    if training.schedule == "constant":
        return training.learning_rate
    progress = (step - warmup) / max(num_steps - warmup, 1)
    share = FINAL_LEARNING_RATE + (1 - FINAL_LEARNING_RATE) * 0.5 * (1 + math.cos(math.pi * progress))
    return training.learning_rate * share


def train(
    *,
    study: str,
    key: str,
    options: Mapping[str, Any],
    replicate: int,
    training: Training,
    evaluation: Evaluation,
    seed: int,
    shards: Sequence[Path],
    splits: Path,
    targets: Path,
    output: Path,
    history: Path,
    checkpoint: Path,
    tensorboard: Path | None,
    priors: Mapping[str, Any],
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
    training, evaluation
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

    Raises
    ------
    PopdlError
        If the network cannot take the data, or the loss is no longer finite.
    """
    keep_freed_memory()  # a network's layers take and free the same blocks in every step
    with _reproducible(training.threads), preemptible():
        fabric = _fabric(training)
        opened = open_shards(shards)
        data = PackedData.from_shards(shards, device=fabric.device)
        split = read_splits(splits)["split"].to_numpy()
        if len(split) != data.num_examples:
            raise PopdlError(
                f"{splits}: expected {data.num_examples} examples, as in the shards, found {len(split)}; make the splits again."
            )
        rows = {name: torch.from_numpy(np.flatnonzero(split == name)) for name in ("train", "validation")}
        scaling = TargetScaling.read(targets)
        truths = torch.from_numpy(scaling.to_network(read_parameters(opened, scaling.names))).float()

        # Epochs count from 0, so that this draw is none of theirs.
        run_seed = int(generator(seed, "training", replicate, 0).integers(2**63))
        torch.manual_seed(run_seed)
        module = PopdlModule(
            key,
            options,
            shape=InputShape(data.num_haplotypes, data.max_sites, data.has_positions),
            targets=scaling.to_json(),
            position_scaling=PositionScaling.fit(data, rows["train"]),
        ).to(fabric.device)
        optimizer = OPTIMIZERS[training.optimizer](
            module.parameters(), lr=training.learning_rate, weight_decay=training.weight_decay
        )
        fingerprint = _fingerprint(
            network=describe(key, options),
            training=training.model_dump(mode="json", exclude={"replicates"}),
            seed=run_seed,
            dataset=[shard.digest for shard in opened],
            splits=hashlib.sha256(splits.read_bytes()).hexdigest(),
            targets=scaling.to_json(),
            device=fabric.device.type,
            versions=_versions(),
        )
        progress = load_checkpoint(checkpoint, module, optimizer, fingerprint=fingerprint)
        _fit(
            fabric,
            module,
            optimizer,
            progress,
            data,
            rows,
            truths,
            names=scaling.names,
            training=training,
            run_seed=run_seed,
            tensorboard=tensorboard,
            save=lambda state: save_checkpoint(checkpoint, module, optimizer, state, fingerprint=fingerprint),
        )

        module.load_state_dict(progress.best_weights)
        outputs = predict_outputs(module, data, rows["validation"], batch_size=training.batch_size)
        statistics = read_array(opened, "statistics")[rows["train"].numpy()]
        card = {
            "study": study,
            "replicate": replicate,
            "seed": seed,
            "network": describe(key, options),
            "shape": module.body.shape.to_json(),
            "encoding": data.encoding,
            "fingerprint": data.fingerprint,
            "targets": scaling.to_json(),
            "positions": module.position_scaling and module.position_scaling.to_json(),
            "intervals": _intervals(outputs.numpy(), truths[rows["validation"]].numpy(), module, scaling, evaluation),
            "realism": fit_reference(statistics, opened[0].attributes["statistics"], domain=evaluation.domain),
            "priors": dict(priors),
            "training": training.model_dump(mode="json", exclude={"replicates"}),
            "num_examples": {name: len(numbers) for name, numbers in rows.items()},
            "num_parameters": sum(parameter.numel() for parameter in module.parameters()),
            "num_epochs": progress.epoch,
            "best_epoch": progress.best_epoch + 1,
            "validation_loss": progress.best_loss,
            "dataset": _fingerprint(shards=[shard.digest for shard in opened]),
            "versions": _versions(),
        }
        write_text(history, _history_text(progress))
        save_model(output, module, card)
        shutil.rmtree(checkpoint, ignore_errors=True)


def _fit(
    fabric: Fabric,
    module: PopdlModule,
    optimizer: torch.optim.Optimizer,
    progress: Progress,
    data: PackedData,
    rows: Mapping[str, Tensor],
    truths: Tensor,
    *,
    names: Sequence[str],
    training: Training,
    run_seed: int,
    tensorboard: Path | None,
    save: Callable[[Progress], None],
) -> None:
    """Run the epochs that are left, until the validation loss has not fallen for ``patience`` epochs."""
    wrapped, wrapped_optimizer = fabric.setup(module, optimizer)
    rows = {name: numbers.to(fabric.device) for name, numbers in rows.items()}
    truths = truths.to(fabric.device)
    steps_per_epoch = -(-len(rows["train"]) // training.batch_size)
    num_steps = steps_per_epoch * training.max_epochs
    with _curves(tensorboard, progress) as draw, _bar(num_steps, progress.epoch * steps_per_epoch) as bar:
        while progress.epoch < training.max_epochs and progress.epoch - progress.best_epoch <= training.patience:
            epoch = progress.epoch
            torch.manual_seed(int(generator(run_seed, "training", epoch, 1).integers(2**63)))
            module.train()
            order = shuffled(rows["train"], seed=run_seed, epoch=epoch)
            train_loss, waiting = torch.zeros((), device=fabric.device), 0.0
            start = _now(fabric)
            for number, chosen in enumerate(order.split(training.batch_size), start=epoch * steps_per_epoch):
                rate = learning_rate(number, num_steps=num_steps, training=training)
                for group in optimizer.param_groups:
                    group["lr"] = rate
                before = _now(fabric)
                batch = data.batch(chosen)
                waiting += _now(fabric) - before
                losses = module.heads.losses(wrapped(*batch), truths[chosen])
                loss = module.heads.total(losses.means())
                optimizer.zero_grad()
                fabric.backward(loss)
                if training.gradient_clip is not None:
                    fabric.clip_gradients(
                        wrapped, wrapped_optimizer, max_norm=training.gradient_clip, error_if_nonfinite=False
                    )
                wrapped_optimizer.step()
                train_loss += loss.detach() * len(chosen)
                bar.update()
            seconds = _now(fabric) - start
            row = {
                "epoch": epoch + 1,
                "learning_rate": rate,
                "train_loss": float(train_loss) / len(order),
                **_validation(
                    module, wrapped, data, rows["validation"], truths, names=names, batch_size=training.batch_size
                ),
                "examples_per_second": len(order) / seconds,
                "waiting_share": waiting / seconds,
                "seconds": seconds,
            }
            if not (math.isfinite(row["train_loss"]) and math.isfinite(row["validation_loss"])):
                raise PopdlError(
                    f"epoch {epoch + 1}: the loss is no longer a finite number (training {row['train_loss']}, validation {row['validation_loss']}); "
                    "lower training.learning_rate, or set training.gradient_clip."
                )
            progress.history.append(row)
            if row["validation_loss"] < progress.best_loss:
                progress.best_epoch, progress.best_loss = epoch, row["validation_loss"]
                progress.best_weights = {
                    name: tensor.detach().cpu().clone() for name, tensor in module.state_dict().items()
                }
            save(progress)
            draw(row)
            bar.set_postfix(validation=f"{row['validation_loss']:.4f}", best=f"{progress.best_loss:.4f}")
            if bar.disable:
                log.info(
                    "epoch %d: training loss %.4f, validation loss %.4f (best %.4f), %.0f examples/s, %.1f %% waiting",
                    epoch + 1,
                    row["train_loss"],
                    row["validation_loss"],
                    progress.best_loss,
                    row["examples_per_second"],
                    100 * row["waiting_share"],
                )


@torch.no_grad()
def _validation(
    module: PopdlModule,
    wrapped: Any,
    data: PackedData,
    rows: Tensor,
    truths: Tensor,
    *,
    names: Sequence[str],
    batch_size: int,
) -> dict[str, float]:
    """Losses over the validation split, in evaluation mode."""
    module.eval()
    parts = [module.heads.losses(wrapped(*data.batch(part)), truths[part]) for part in rows.split(batch_size)]
    sums = torch.stack([part.sums for part in parts]).double().sum(dim=0)
    means = TargetLosses(sums, torch.stack([part.counts for part in parts]).sum(dim=0)).means()
    return {
        "validation_loss": float(module.heads.total(means)),
        **{f"validation_loss_{name}": float(mean) for name, mean in zip(names, means, strict=True)},
    }


def _fabric(training: Training) -> Fabric:
    cuda = torch.cuda.is_available()
    bf16 = training.precision == "bf16" or (training.precision == "auto" and cuda and torch.cuda.is_bf16_supported())
    fabric = Fabric(accelerator="cuda" if cuda else "cpu", devices=1, precision="bf16-mixed" if bf16 else "32-true")
    fabric.launch()
    return fabric


@contextmanager
def _reproducible(threads: int) -> Iterator[None]:
    """Deterministic algorithms, this many threads, and a random state of its own; all as before afterwards."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is deterministic only with this
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    with torch.random.fork_rng():
        torch.set_num_threads(threads)
        # Some operations have no deterministic form on a GPU: there, a user's network may use them, with a warning.
        torch.use_deterministic_algorithms(True, warn_only=torch.cuda.is_available())
        try:
            yield
        finally:
            torch.set_num_threads(before[0])
            torch.use_deterministic_algorithms(before[1])


@contextmanager
def _curves(folder: Path | None, progress: Progress) -> Iterator[Callable[[Mapping[str, float]], None]]:
    """A function that adds an epoch to TensorBoard's curves."""
    if folder is None:
        yield lambda row: None
        return
    from torch.utils.tensorboard import SummaryWriter

    if progress.epoch == 0:
        shutil.rmtree(folder, ignore_errors=True)  # curves of an earlier training, with other settings
    with SummaryWriter(str(folder), purge_step=progress.epoch + 1) as writer:

        def draw(row: Mapping[str, float]) -> None:
            for name, value in row.items():
                if name != "epoch":
                    writer.add_scalar(name, value, int(row["epoch"]))

        yield draw


def _bar(num_steps: int, done: int) -> tqdm:
    """A progress bar where standard error is a terminal; elsewhere the log has a line for each epoch."""
    return tqdm(total=num_steps, initial=done, unit="step", disable=not sys.stderr.isatty())


def _now(fabric: Fabric) -> float:
    if fabric.device.type == "cuda":
        torch.cuda.synchronize(fabric.device)
    return time.perf_counter()


def _intervals(
    outputs: np.ndarray, truths: np.ndarray, module: PopdlModule, scaling: TargetScaling, evaluation: Evaluation
) -> dict[str, Any]:
    """Half-widths of prediction intervals on each target's scale (log10 for `log`); None where there is no validation truth."""
    half_widths: dict[str, float | None] = {}
    for number, (name, target) in enumerate(scaling.targets.items()):
        if target.task == "regression":
            assert target.sd is not None
            residuals = (truths[:, number] - outputs[:, module.heads.columns[name].start]) * target.sd
            width = half_width(residuals, evaluation.interval)
            half_widths[name] = width if math.isfinite(width) else None
    return {"coverage": evaluation.interval, "half_widths": half_widths}


def _versions() -> dict[str, str]:
    return {"popdl": __version__, "torch": str(torch.__version__), "numpy": np.__version__}


def _fingerprint(**parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _history_text(progress: Progress) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(progress.history[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(progress.history)
    return text.getvalue()
