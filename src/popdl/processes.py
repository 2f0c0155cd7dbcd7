"""Training in several processes, each with a device of its own: which part of a batch is whose, and what they add up.

Every process makes the whole batch, transforms and their chance included, and keeps every n-th example of it. Losses are means
over the known targets of the whole batch, and batch normalisation takes its moments over the whole batch: the steps are
those of one process, up to the order in which floats are added. Dropout alone draws its own in each process.
"""

from __future__ import annotations

import logging

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments import LightningEnvironment
from torch import Tensor, distributed
from torch.distributed.nn.functional import all_reduce

from popdl.config.training import Training
from popdl.loader import Batch

__all__ = ["make_fabric", "share", "summed"]


def make_fabric(training: Training, *, num_devices: int = 1) -> Fabric:
    """The devices and the precision of a training; with several devices, the script that runs is started once more for each.

    Parameters
    ----------
    training
        The config's section.
    num_devices
        GPUs; where there is none, processes on the CPU.
    """
    cuda = torch.cuda.is_available()
    bf16 = training.precision == "bf16" or (training.precision == "auto" and cuda and torch.cuda.is_bf16_supported())
    fabric = Fabric(
        accelerator="cuda" if cuda else "cpu",
        devices=num_devices,
        precision="bf16-mixed" if bf16 else "32-true",
        strategy="ddp" if num_devices > 1 else "auto",
        # One task of SLURM starts the others by itself.
        plugins=[LightningEnvironment()] if num_devices > 1 else None,
    )
    fabric.launch()
    torch.set_num_threads(training.threads)  # launching several has changed it
    if not fabric.is_global_zero:
        logging.getLogger("popdl").setLevel(logging.WARNING)
    return fabric


def share(batch: Batch, truths: Tensor, *, rank: int, num_processes: int) -> tuple[Batch, Tensor]:
    """The examples of a batch that are those of one process; where none is, one without sites and truths, which counts for nothing."""
    if num_processes == 1:
        return batch, truths
    mine = torch.arange(rank, len(truths), num_processes, device=truths.device)
    if not len(mine):
        batch = Batch(*(None if part is None else torch.zeros_like(part) for part in batch))  # type: ignore[arg-type]
        truths = torch.full_like(truths, torch.nan)
        mine = mine.new_zeros(1)
    return Batch(*(None if part is None else part[mine] for part in batch)), truths[mine]  # type: ignore[arg-type]


def summed(values: Tensor) -> Tensor:
    """The sum over all processes that train together, through which gradients flow; in a process alone, the values."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return values
    return all_reduce(values)
