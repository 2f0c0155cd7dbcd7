"""The loop of a training: epochs of steps, a look at the validation split after each, until it gets no better.

The same config gives the same weights on the same kind of processor: orders of examples and random draws are keyed by seed,
replicate and epoch, and a training that was interrupted goes on from its last epoch to the same end.
"""

from __future__ import annotations

import logging
import math
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from tqdm import tqdm

from popdl.checkpoint import Progress
from popdl.compiling import compiled
from popdl.config.training import Training
from popdl.errors import DivergedError
from popdl.examples import Examples
from popdl.heads import TargetLosses
from popdl.loader import OnDisk, PackedData, batches
from popdl.module import PopdlModule
from popdl.optimization import Schedule, frozen_modules
from popdl.processes import share
from popdl.seeds import generator
from popdl.timing import Stopwatch
from popdl.transforms._pipeline import Pipeline, Pipelines

__all__ = ["fit"]

log = logging.getLogger("popdl")


def fit(
    fabric: Fabric,
    module: PopdlModule,
    schedule: Schedule,
    progress: Progress,
    data: PackedData | OnDisk,
    validation: Tensor,
    truths: Tensor,
    *,
    examples: Examples,
    pipelines: Pipelines,
    names: Sequence[str],
    training: Training,
    run_seed: int,
    tensorboard: Path | None,
    save: Callable[[Progress], None],
) -> None:
    """Run the epochs that are left, until the validation loss has not fallen for ``patience`` epochs.

    Parameters
    ----------
    fabric
        The device and the precision.
    module, schedule
        What is trained; the optimizer with its learning rates.
    progress
        What has been done already; every epoch is added to it.
    data, validation, truths
        The dataset, the rows of its validation split, and the truths of all its examples on the networks' scale.
    examples
        What is learned from.
    pipelines
        What is done to batches on their way to the network.
    names
        Names of the targets.
    training
        The config's section.
    run_seed
        Seed of this training.
    tensorboard
        Folder for TensorBoard's curves (None: none).
    save
        Keeps the state after an epoch.

    Raises
    ------
    DivergedError
        If the loss is no longer a finite number.
    """
    steps_per_epoch, num_steps = schedule.steps_per_epoch, schedule.num_steps
    frozen = frozen_modules(module, training)
    _into_training(module, frozen)
    network = _translated(
        fabric, module, data, validation, truths, pipelines=pipelines, training=training, run_seed=run_seed
    )
    wrapped, wrapped_optimizer = fabric.setup(network, schedule.optimizer)
    with _curves(tensorboard, progress) as draw, _bar(fabric, num_steps, progress.epoch * steps_per_epoch) as bar:
        while progress.epoch < training.max_epochs and progress.epoch - progress.best_epoch <= training.patience:
            epoch = progress.epoch
            own = (fabric.global_rank,) if fabric.global_rank else ()
            torch.manual_seed(int(generator(run_seed, "training", epoch, 1, *own).integers(2**63)))
            _into_training(module, frozen)
            train_loss, num_examples = torch.zeros((), device=fabric.device), 0
            stopwatch = Stopwatch(fabric.device)
            sources = examples(epoch)
            for number in range(epoch * steps_per_epoch, (epoch + 1) * steps_per_epoch):
                schedule.before_step(number)
                rate = schedule.rate
                with stopwatch.waiting():
                    source, chosen, known = next(sources)
                    draw_from = pipelines.train.generator(run_seed, number, device=fabric.device)
                    batch, wanted = pipelines.train.training_batch(source, chosen, known, generator=draw_from)
                    batch, wanted = share(batch, wanted, rank=fabric.global_rank, num_processes=fabric.world_size)
                losses = module.heads.losses(wrapped(*batch), wanted)
                # This process's part of the batch's loss: known targets are counted over all of them.
                loss = module.heads.total(losses._replace(counts=_sum(fabric, losses.counts)).means())
                wrapped_optimizer.zero_grad()
                fabric.backward(loss * fabric.world_size)  # gradients are averaged over processes
                if training.gradient_clip is not None:
                    fabric.clip_gradients(
                        wrapped, wrapped_optimizer, max_norm=training.gradient_clip, error_if_nonfinite=False
                    )
                wrapped_optimizer.step()
                schedule.after_step()
                train_loss += loss.detach() * len(chosen)
                num_examples += len(chosen)
                bar.update()
            seconds, waiting = stopwatch.read()
            del source, sources  # a part of a dataset on disk goes before those of the validation split come
            row = {
                "epoch": epoch + 1,
                "learning_rate": rate,
                "train_loss": float(_sum(fabric, train_loss)) / num_examples,
                **_validation(
                    fabric,
                    module,
                    pipelines.validation,
                    data,
                    validation,
                    truths,
                    names=names,
                    batch_size=training.batch_size,
                ),
                "examples_per_second": num_examples / seconds,
                "waiting_share": waiting / seconds,
                "seconds": seconds,
            }
            if not (math.isfinite(row["train_loss"]) and math.isfinite(row["validation_loss"])):
                raise DivergedError(
                    f"epoch {epoch + 1}: the loss is no longer a finite number (training {row['train_loss']}, validation {row['validation_loss']}); "
                    "lower training.learning_rate, or set training.gradient_clip."
                )
            progress.history.append(row)
            schedule.after_epoch(row["validation_loss"])
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


def _into_training(module: nn.Module, frozen: Sequence[nn.Module]) -> None:
    """Training mode, but for parts that are frozen."""
    module.train()
    for part in frozen:
        part.eval()


def _translated(
    fabric: Fabric,
    module: PopdlModule,
    data: PackedData | OnDisk,
    rows: Tensor,
    truths: Tensor,
    *,
    pipelines: Pipelines,
    training: Training,
    run_seed: int,
) -> nn.Module:
    """What the steps run: the module, compiled where the config asks for it and these rows of the data show that it works."""
    if not training.compile:
        return module
    size = training.batch_size
    part, chosen, examples = next(batches(data, rows[:size], size=size))
    full = torch.arange(size, device=chosen.device) % len(chosen)
    draw_from = pipelines.train.generator(run_seed, 0, device=fabric.device)
    batch, wanted = pipelines.train.training_batch(part, chosen[full], truths[examples[full]], generator=draw_from)
    batch, _ = share(batch, wanted, rank=fabric.global_rank, num_processes=fabric.world_size)
    return compiled(fabric, module, batch, cuda_graphs=training.compile == "cuda_graphs")


@torch.no_grad()
def _validation(
    fabric: Fabric,
    module: PopdlModule,
    pipeline: Pipeline,
    data: PackedData | OnDisk,
    rows: Tensor,
    truths: Tensor,
    *,
    names: Sequence[str],
    batch_size: int,
) -> dict[str, float]:
    """Losses over the validation split, in evaluation mode."""
    module.eval()
    with (
        fabric.autocast()
    ):  # the bare module: the wrapped one waits for the other processes, which may have a batch less
        parts = [
            module.heads.losses(module(*pipeline.batch(part, chosen)), truths[examples])
            for number, (part, chosen, examples) in enumerate(batches(data, rows, size=batch_size))
            if number % fabric.world_size == fabric.global_rank
        ]
    none = truths.new_zeros(0, truths.shape[1])
    sums = torch.stack([part.sums for part in parts]) if parts else none
    counts = torch.stack([part.counts for part in parts]) if parts else none.long()
    means = TargetLosses(_sum(fabric, sums.double().sum(dim=0)), _sum(fabric, counts.sum(dim=0))).means()
    return {
        "validation_loss": float(module.heads.total(means)),
        **{f"validation_loss_{name}": float(mean) for name, mean in zip(names, means, strict=True)},
    }


def _sum(fabric: Fabric, values: Tensor) -> Tensor:
    """The sum over all processes that train together."""
    total = fabric.all_reduce(values, reduce_op="sum")
    assert isinstance(total, Tensor)
    return total


@contextmanager
def _curves(folder: Path | None, progress: Progress) -> Iterator[Callable[[Mapping[str, float]], None]]:
    """A function that adds an epoch to TensorBoard's curves."""
    if folder is None:
        yield lambda row: None
        return
    from torch.utils.tensorboard import SummaryWriter

    if progress.epoch == 0:
        shutil.rmtree(folder, ignore_errors=True)  # curves of an earlier training, with other settings
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryFile(dir=folder):
        pass  # where nothing can be written, training ends here: TensorBoard's own thread would end with a traceback
    with SummaryWriter(str(folder), purge_step=progress.epoch + 1) as writer:

        def draw(row: Mapping[str, float]) -> None:
            for name, value in row.items():
                if name != "epoch":
                    writer.add_scalar(name, value, int(row["epoch"]))

        yield draw


def _bar(fabric: Fabric, num_steps: int, done: int) -> tqdm:
    """A progress bar where standard error is a terminal; elsewhere the log has a line for each epoch."""
    return tqdm(total=num_steps, initial=done, unit="step", disable=not (sys.stderr.isatty() and fabric.is_global_zero))
