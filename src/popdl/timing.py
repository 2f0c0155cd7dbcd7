"""How long an epoch takes, and how much of that its device waits for batches, without the host ever waiting for a GPU in between."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

__all__ = ["Stopwatch"]


class Stopwatch:
    """Runs from when it is made.

    A GPU works off what it is given while the host goes on: to look at the host's clock would mean to let it wait, and then the
    GPU has nothing to do. Its own events are marked instead, and read at the end: between those around the making of a batch
    lies what the GPU needs to unpack it, and how long it has nothing to do because the host is late.

    Parameters
    ----------
    device
        Whose time counts.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.marks: list[tuple[Any, Any]] = []
        self.start = self._now()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """What is done inside does not train."""
        before = self._mark()
        yield
        self.marks.append((before, self._mark()))

    def read(self) -> tuple[float, float]:
        """Seconds since the start, and how many of them were spent waiting."""
        seconds = self._now() - self.start
        if self.device.type == "cuda":
            return seconds, sum(before.elapsed_time(after) for before, after in self.marks) / 1000
        return seconds, sum(after - before for before, after in self.marks)

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def _mark(self) -> Any:
        if self.device.type != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self.device))
        return event
