"""The state of a training after an epoch, kept in one safetensors file so that a killed job goes on where it was."""

from __future__ import annotations

import json
import logging
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from popdl.errors import PopdlError
from popdl.files import whole

__all__ = ["PREEMPTED", "Progress", "load_checkpoint", "preemptible", "save_checkpoint"]

log = logging.getLogger("popdl")

PREEMPTED = 128 + signal.SIGTERM
"""Exit code of a training that was told to end, as of any process that SIGTERM ended: SLURM queues such a job again by itself
after a preemption, and after any end with this code where the site's RequeueExit names it."""
FILE = "last.safetensors"
STATE = "popdl_checkpoint"
MAX_EPOCHS = "training.max_epochs"
"""Part of a fingerprint where learning rates depend on it."""


@dataclass
class Progress:
    """How far a training has come."""

    history: list[dict[str, float]] = field(default_factory=list)
    """One entry per finished epoch: the rows of ``history.csv``."""
    best_epoch: int = -1
    best_loss: float = float("inf")
    best_weights: dict[str, Tensor] = field(default_factory=dict)

    @property
    def epoch(self) -> int:
        """The number of the next epoch."""
        return len(self.history)


def save_checkpoint(
    folder: Path,
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    progress: Progress,
    *,
    fingerprint: Mapping[str, str],
) -> None:
    """Write the checkpoint whole, replacing the one of the epoch before."""
    tensors = {f"module/{name}": tensor for name, tensor in module.state_dict().items()}
    tensors |= {f"best/{name}": tensor for name, tensor in progress.best_weights.items()}
    numbers = {}
    for number, kept in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{number}/{key}": value for key, value in kept.items() if isinstance(value, Tensor)}
        numbers[number] = {key: value for key, value in kept.items() if not isinstance(value, Tensor)}
    state = {
        "fingerprint": dict(fingerprint),
        "history": progress.history,
        "best_epoch": progress.best_epoch,
        "best_loss": progress.best_loss,
        "optimizer": numbers,
        "groups": [
            {key: value for key, value in group.items() if key != "params"}
            for group in optimizer.state_dict()["param_groups"]
        ],
    }
    try:
        metadata = {STATE: json.dumps(state)}
    except TypeError as error:
        raise PopdlError(
            f"training.optimizer: a checkpoint cannot hold what {type(optimizer).__name__} keeps between steps ({error}); "
            "expected tensors, numbers and words."
        ) from None
    # Cloned, because safetensors refuses tensors that share memory.
    copies = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
    try:
        with whole(folder / FILE) as partial:
            save_file(copies, partial, metadata=metadata)
    except SafetensorError as error:
        raise PopdlError(f"{folder / FILE}: cannot write the checkpoint: {error}.") from error


def load_checkpoint(
    folder: Path,
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    *,
    fingerprint: Mapping[str, str],
    max_epochs: int,
    replay: Callable[[Sequence[Mapping[str, float]]], None] = lambda history: None,
) -> Progress:
    """Restore module and optimizer from a checkpoint of the very same training; without one, start from the beginning.

    ``replay`` brings the schedule of learning rates to where it was after the epochs of the history. A checkpoint of other settings, data or software,
    or of more epochs than ``max_epochs``, is left unused, with a line in the log.
    """
    path = folder / FILE
    if not path.exists():
        return Progress()
    try:
        with safe_open(path, framework="pt") as file:
            state = json.loads((file.metadata() or {})[STATE])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        log.warning("%s: the checkpoint is damaged (%s); training starts anew.", path, error)
        return Progress()
    if (found := state["fingerprint"]) != fingerprint:
        differ = sorted(name for name in {*found, *fingerprint} if found.get(name) != fingerprint.get(name))
        log.warning(
            "%s: the checkpoint belongs to another training (%s differ); training starts anew.", path, ", ".join(differ)
        )
        if differ == [MAX_EPOCHS]:
            log.warning(
                "The learning rates of this training.schedule depend on max_epochs; with `constant` and `warmup: 0`, or with another "
                "of torch's schedules, it would have gone on."
            )
        return Progress()
    if len(state["history"]) > max_epochs:
        log.warning(
            "%s: the checkpoint is of epoch %d, and training.max_epochs is %d; training starts anew.",
            path,
            len(state["history"]),
            max_epochs,
        )
        return Progress()
    module.load_state_dict(_under(tensors, "module/"))
    replay(state["history"])
    per_parameter: dict[int, dict[str, Any]] = {int(number): kept for number, kept in state["optimizer"].items()}
    for name, tensor in _under(tensors, "optimizer/").items():
        number, key = name.split("/")
        per_parameter.setdefault(int(number), {})[key] = tensor
    groups = optimizer.state_dict()["param_groups"]
    for group, saved in zip(groups, state["groups"], strict=True):
        # JSON has lists where optimizers have tuples.
        group |= {key: tuple(value) if isinstance(group.get(key), tuple) else value for key, value in saved.items()}
    optimizer.load_state_dict({"state": per_parameter, "param_groups": groups})
    log.info("%s: going on after epoch %d.", path, len(state["history"]))
    return Progress(state["history"], state["best_epoch"], state["best_loss"], _under(tensors, "best/"))


@contextmanager
def preemptible() -> Iterator[None]:
    """End with code :data:`PREEMPTED` on SIGTERM, cleanly: files that are being written are left out, the checkpoint stays.

    A scheduler sends SIGTERM before it takes the node away. Training then loses the epoch that it is in, and no more.
    """
    if threading.current_thread() is not threading.main_thread():  # only there can Python set a handler
        yield
        return

    def leave(number: int, frame: FrameType | None) -> None:
        log.warning("SIGTERM: training ends here; run again, it goes on after its last whole epoch.")
        raise SystemExit(PREEMPTED)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _under(tensors: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
