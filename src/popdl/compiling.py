"""Networks translated for their device by torch.compile, where the machine and the network allow it.

Only the steps of a training run the translation. What is validated, saved and predicted with is the module itself, so that
models, their files and their checkpoints are the same in form, and go on where nothing can be compiled.
"""

from __future__ import annotations

import logging

import torch
from lightning_fabric import Fabric
from torch import nn

from popdl.loader import Batch
from popdl.processes import everywhere

__all__ = ["compiled"]

log = logging.getLogger("popdl")


def compiled(fabric: Fabric, module: nn.Module, batch: Batch, *, cuda_graphs: bool) -> nn.Module:
    """The module, translated, if that takes a batch forth and back; else the module itself, and the log says why.

    Weights, buffers and gradients are afterwards as they were. Shapes are fixed at first: another number of examples, in the
    last batch of an epoch, costs one more translation, for any number.

    Parameters
    ----------
    fabric
        The device and the precision.
    module
        What is trained, in training mode.
    batch
        Of the size that most batches have.
    cuda_graphs
        Whether the kernels of a step are recorded and played back at once; only a GPU can do that.
    """
    graphs = cuda_graphs and fabric.device.type == "cuda"
    if cuda_graphs and not graphs:
        log.warning("training.compile: cuda_graphs needs a GPU, and there is none; compiling without.")
    torch.compiler.reset()  # translations of networks that were trained before count against a limit
    try:
        torch.compile(torch.square)(torch.ones(2, device=fabric.device))
        why = None
    except Exception as error:  # of the compiler, or that there is none: torch raises every kind
        why = error
    # Where the processes of a training differ in this, some would wait for ever for the others in the trial that follows.
    if not everywhere(fabric, why is None):
        _leave_out(why or "another process has no compiler")
        return module
    translated: nn.Module = torch.compile(module, mode="reduce-overhead" if graphs else None)  # type: ignore[assignment]
    buffers = {name: buffer.clone() for name, buffer in module.named_buffers()}
    try:
        with fabric.autocast():
            outputs = translated(*batch)
        outputs.float().square().mean().backward()
    except Exception as error:  # of the network's, of whatever kind: without compilation it may do
        _leave_out(error)
        translated = module
    module.zero_grad()
    with torch.no_grad():
        for name, buffer in module.named_buffers():
            buffer.copy_(buffers[name])
    return translated


def _leave_out(why: object) -> None:
    first = next(iter(str(why).strip().splitlines()), "")
    kind = f"{type(why).__name__}: " if isinstance(why, Exception) else ""
    log.warning("training.compile: torch.compile cannot be used here (%s%s); training without.", kind, first)
