"""Training in several processes, each with a device of its own: which part of a batch is whose, and what they add up.

On each of several nodes, one process is started for each device; Fabric tells them who they are by the usual variables of the
environment: NODE_RANK, MASTER_ADDR, MASTER_PORT, LOCAL_RANK. In a job of SLURM, popdl starts itself on every node.

Every process makes the whole batch, transforms and their chance included, and keeps every n-th example of it. Losses are means
over the known targets of the whole batch, and batch normalisation takes its moments over the whole batch: the steps are
those of one process, up to the order in which floats are added. Dropout alone draws its own in each process.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments import LightningEnvironment, SLURMEnvironment
from torch import Tensor

from popdl.config.training import Training
from popdl.errors import PopdlError
from popdl.loader import Batch

__all__ = ["check_alike", "everywhere", "make_fabric", "share"]

log = logging.getLogger("popdl")

OF_THE_NODE = ("NODE_RANK", "MASTER_ADDR", "MASTER_PORT")
OF_THE_JOB = ("SLURM_CONF", "SLURM_JOB_ID")
"""What srun needs of SLURM's variables. All others are of the step in which the job runs so far, and would shape the new one."""
PORTS = range(15000, 25000)
GIVEN = ("SLURM_JOB_GPUS", "CUDA_VISIBLE_DEVICES")
"""Where a scheduler says which GPUs a job has."""


def make_fabric(training: Training, *, num_devices: int = 1, num_nodes: int = 1) -> Fabric:
    """The devices and the precision of a training; with several devices, the script that runs is started once more for each.

    Parameters
    ----------
    training
        The config's section.
    num_devices
        GPUs of each node; where there is none, processes on the CPU.
    num_nodes
        Nodes.

    Raises
    ------
    PopdlError
        If there are to be several nodes, and nothing tells which they are.
    """
    if num_nodes > 1:
        _be_on_every_node(num_nodes)
    several = num_devices * num_nodes > 1
    cuda = torch.cuda.is_available()
    bf16 = training.precision == "bf16" or (training.precision == "auto" and cuda and torch.cuda.is_bf16_supported())
    fabric = Fabric(
        accelerator="cuda" if cuda else "cpu",
        devices=num_devices,
        num_nodes=num_nodes,
        precision="bf16-mixed" if bf16 else "32-true",
        strategy="ddp" if several else "auto",
        # One task of SLURM on each node starts the others there by itself; and a process alone needs nothing of SLURM, nor to be told that it is there.
        plugins=[LightningEnvironment()],
    )
    fabric.launch()
    torch.set_num_threads(training.threads)  # launching several has changed it
    if not fabric.is_global_zero:
        log.setLevel(logging.WARNING)
    _say_where(training, several=num_devices * num_nodes, cuda=cuda)
    return fabric


def _say_where(training: Training, *, several: int, cuda: bool) -> None:
    """Log what the training runs on, and warn where a scheduler gave it a GPU that torch cannot use."""
    times = f"{several} × " if several > 1 else ""
    if cuda:
        log.info("Training on %s%s.", times, torch.cuda.get_device_name())
        return
    log.info("Training on %sthe CPU, with %d of its threads.", times, training.threads)
    for name in GIVEN:
        if os.environ.get(name, "-1") not in ("", "-1", "NoDevFiles"):
            log.warning(
                "This job was given a GPU (%s=%s), but torch %s cannot use it: it trains on the CPU. Is this torch built for GPUs, and the driver new enough?",
                name, os.environ[name], torch.__version__,
            )  # fmt: skip
            return


def _be_on_every_node(num_nodes: int) -> None:
    """Return in a process that was started as one of several nodes; else start the script on every node of SLURM's job, and end as it ends."""
    if all(name in os.environ for name in OF_THE_NODE):
        return
    job, nodes = os.environ.get("SLURM_JOB_ID"), os.environ.get("SLURM_JOB_NODELIST")
    if job is None or nodes is None:
        raise PopdlError(
            f"nodes: {num_nodes} for one training need a job of SLURM (SLURM_JOB_ID and SLURM_JOB_NODELIST), or {', '.join(OF_THE_NODE)} on "
            "each of them, and found neither; submit it through profiles/slurm, or leave the resource `nodes` out."
        )
    task = [sys.executable, os.path.abspath(sys.argv[0]), *sys.argv[1:]]
    # The job's own step, of one task on one node, goes on beside; a node that fails ends the others, one that is done does not.
    step = [f"--nodes={num_nodes}", f"--ntasks={num_nodes}", "--ntasks-per-node=1", "--overlap", "--cpu-bind=none"]
    step += ["--kill-on-bad-exit=1", "--wait=0", "sh", "-c", 'NODE_RANK=$SLURM_NODEID exec "$@"', "sh"]
    environment = {
        name: value
        for name, value in os.environ.items()
        if name in OF_THE_JOB or not name.startswith(("SLURM_", "SRUN_"))
    }
    environment["MASTER_ADDR"] = SLURMEnvironment.resolve_root_node_address(nodes)
    environment["MASTER_PORT"] = str(PORTS[int(job) % len(PORTS)])
    log.info("Training on %d nodes, %s.", num_nodes, nodes)
    raise SystemExit(subprocess.run(["srun", *step, *task], env=environment, check=False).returncode)


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


def everywhere(fabric: Fabric, holds: bool) -> bool:
    """Whether something holds in all processes that train together."""
    if fabric.world_size == 1:
        return holds
    total = fabric.all_reduce(torch.tensor(float(holds), device=fabric.device), reduce_op="sum")
    return int(total) == fabric.world_size  # type: ignore[arg-type]


def check_alike(fabric: Fabric, number: int, *, what: str) -> None:
    """Refuse to go on where the processes that train together have read different numbers, as on nodes whose view of a file lags."""
    total = fabric.all_reduce(torch.tensor(float(number), device=fabric.device), reduce_op="sum")
    if not everywhere(fabric, int(total) == number * fabric.world_size):  # type: ignore[arg-type]
        raise PopdlError(
            f"{what}: the nodes of this training see different ones, here {number}; start it again when they agree."
        )
