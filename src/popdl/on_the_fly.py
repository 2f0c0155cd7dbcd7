"""Examples that are simulated while a network trains, each seen once (Chan et al. 2018, NeurIPS).

Worker processes simulate and encode blocks of examples; the training job takes them in order. Example i of a stream depends on
the study's seed, the replicate and i alone, so that any number of workers gives the same training. A worker is this module run
as a program: it reads one request per line and answers with arrays, and it loads neither torch nor the script that asked for it.
"""

from __future__ import annotations

import io
import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np

import popdl
from popdl.config.study import simulation_section
from popdl.dataset import Packer
from popdl.encoding import Encoder
from popdl.errors import PopdlError
from popdl.seeds import generator
from popdl.simulation import simulate_examples
from popdl.simulators._base import Simulator
from popdl.simulators._memory import tune_memory

__all__ = ["ExampleStream", "stream_seed"]

log = logging.getLogger("popdl")

BLOCK_SIZE = 32
"""Examples that a worker simulates at a time; results do not depend on it."""
BLOCKS_AHEAD = 4
"""Blocks that may wait for the training, for each worker."""
MAX_DEATHS = 3
"""How often a block may cost a worker its life before the training ends."""


def stream_seed(seed: int, replicate: int) -> int:
    """The seed of the simulations that one training sees: other than the study's, whose simulations validate and test it."""
    return int(generator(seed, "on_the_fly", replicate).integers(2**63))


class ExampleStream:
    """Encoded examples in order, from worker processes that run ahead of the training.

    Parameters
    ----------
    simulation
        The section of the study.
    recipe
        How its examples are encoded (:attr:`popdl.encoding.Encoder.recipe`).
    seed
        As :func:`stream_seed` gives it.
    num_workers
        Processes that simulate.
    first
        Number of the first example: where an interrupted training goes on.
    last
        Number of the last example that will be asked for, plus one.
    """

    def __init__(
        self,
        simulation: Mapping[str, Any],
        recipe: Mapping[str, Any],
        *,
        seed: int,
        num_workers: int,
        first: int,
        last: int,
    ) -> None:
        # Every example is a scenario of its own; statistics are for those on disk.
        self._greeting = {
            "simulation": {**simulation, "replicates": 1},
            "recipe": {key: value for key, value in recipe.items() if key != "statistics"},
            "seed": seed,
        }
        self._starts = range(first, last, BLOCK_SIZE)
        self._last = last
        self._next_request = 0  # numbers of blocks
        self._next_block = 0
        self._taken: list[dict[str, np.ndarray]] = []
        self._ahead = BLOCKS_AHEAD * num_workers
        self._blocks: dict[int, dict[str, np.ndarray]] = {}
        self._failure: str | None = None
        self._closed = False
        self._changed = threading.Condition()
        self._processes: set[subprocess.Popen[bytes]] = set()
        self._threads = [threading.Thread(target=self._employ, daemon=True) for _ in range(num_workers)]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> ExampleStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._changed:
            self._closed = True
            for process in self._processes:
                process.kill()
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def take(self, count: int) -> dict[str, np.ndarray]:
        """The next examples of the stream; waits until they are there.

        Returns
        -------
        dict of str to ndarray
            The packed arrays of ``count`` examples, as in an encoded shard, ``missing`` always among them, and ``parameters``
            float64 of shape (count, num_parameters).

        Raises
        ------
        PopdlError
            If a simulation is refused, or workers die again and again.
        """
        while sum(len(block["num_sites"]) for block in self._taken) < count:
            self._taken.append(self._next())
        joined = {name: np.concatenate([block[name] for block in self._taken]) for name in self._taken[0]}
        self._taken = [{name: array[count:] for name, array in joined.items()}]
        return {name: array[:count] for name, array in joined.items()}

    def _next(self) -> dict[str, np.ndarray]:
        with self._changed:
            self._changed.wait_for(lambda: self._next_block in self._blocks or self._failure is not None)
            if self._failure is not None and self._next_block not in self._blocks:
                raise PopdlError(self._failure)
            block = self._blocks.pop(self._next_block)
            self._next_block += 1
            self._changed.notify_all()
            return block

    def _employ(self) -> None:
        """Have blocks made, one after the other, by a worker that is replaced when it dies."""
        deaths: dict[int, int] = {}
        process: subprocess.Popen[bytes] | None = None
        try:
            while (block := self._assign()) is not None:
                arrays = None
                while arrays is None and not self._closed:
                    process = process or self._hire()
                    arrays = self._ask(process, block)
                    if arrays is None and not self._closed:
                        deaths[block] = deaths.get(block, 0) + 1
                        code, process = process.wait(), None
                        self._mourn(block, code, deaths[block])
                if arrays is None:
                    return
                with self._changed:
                    self._blocks[block] = arrays
                    self._changed.notify_all()
        except Exception as error:  # of whatever kind: the training must not wait for what will never come
            self._fail(str(error) if isinstance(error, PopdlError) else f"training.data: {error!r}.")
        finally:
            if process is not None:
                process.kill()
                process.wait()

    def _assign(self) -> int | None:
        """The next block that nobody makes yet, once the training has come near it; None at the end."""
        with self._changed:
            self._changed.wait_for(
                lambda: (
                    self._closed
                    or self._failure is not None
                    or self._next_request >= len(self._starts)
                    or self._next_request < self._next_block + self._ahead
                )
            )
            if self._closed or self._failure is not None or self._next_request >= len(self._starts):
                return None
            self._next_request += 1
            return self._next_request - 1

    def _hire(self) -> subprocess.Popen[bytes]:
        source = str(Path(popdl.__file__).parents[1])
        path = os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH")]))
        # One thread each: the workers together fill the cores.
        environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
        with self._changed:
            process = subprocess.Popen(
                [sys.executable, "-m", "popdl.on_the_fly"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=environment,
            )
            self._processes.add(process)
        _tell(process, self._greeting)
        return process

    def _ask(self, process: subprocess.Popen[bytes], block: int) -> dict[str, np.ndarray] | None:
        """Arrays of a block; None if the worker died over it."""
        first = self._starts[block]
        _tell(process, {"first": first, "count": min(BLOCK_SIZE, self._last - first)})
        assert process.stdout is not None
        arrays = _receive(process.stdout)
        if arrays is None:
            with self._changed:
                self._processes.discard(process)
        elif "refusal" in arrays:
            raise PopdlError(str(arrays["refusal"]))
        return arrays

    def _mourn(self, block: int, code: int, deaths: int) -> None:
        first = self._starts[block]
        what = f"a worker ended with code {code} while it simulated examples {first} to {first + BLOCK_SIZE - 1}"
        if deaths >= MAX_DEATHS:
            raise PopdlError(
                f"training.data: {what}, as did {deaths - 1} others before it; what it said last is in the log above, "
                "and code -9 mostly means that memory ran out: give the job more, or lower training.workers."
            )
        log.warning("%s; another takes its place.", what)

    def _fail(self, why: str) -> None:
        with self._changed:
            self._failure = self._failure or why
            self._changed.notify_all()


def _tell(process: subprocess.Popen[bytes], message: Mapping[str, Any]) -> None:
    assert process.stdin is not None
    try:
        process.stdin.write(json.dumps(message).encode() + b"\n")
        process.stdin.flush()
    except (BrokenPipeError, ValueError):
        pass  # the worker is dead, or its line is closed: there will be no answer


def _send(stream: IO[bytes], arrays: Mapping[str, Any]) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    stream.write(buffer.tell().to_bytes(8, "little") + buffer.getvalue())
    stream.flush()


def _receive(stream: IO[bytes]) -> dict[str, np.ndarray] | None:
    """One answer of a worker; None where it ends before it is whole."""
    length = int.from_bytes(header, "little") if len(header := stream.read(8)) == 8 else -1
    if length < 0 or len(content := stream.read(length)) < length:
        return None
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        return dict(arrays)


def _serve(requests: IO[bytes], answers: IO[bytes]) -> None:
    """What a worker does until its training closes the line."""
    tune_memory()
    greeting = json.loads(requests.readline())
    simulation = simulation_section(greeting["simulation"])
    encoder = Encoder.from_recipe(greeting["recipe"])
    for line in requests:
        request = json.loads(line)
        try:
            _send(answers, _block(simulation, encoder, greeting["seed"], request["first"], request["count"]))
        except PopdlError as error:
            _send(answers, {"refusal": np.array(str(error))})


def _block(simulation: Simulator, encoder: Encoder, seed: int, first: int, count: int) -> dict[str, np.ndarray]:
    packer, labels = Packer(encoder), []
    simulated = simulate_examples(simulation, seed=seed, first=first, last=first + count)
    for number, (example, values, _, _) in enumerate(simulated, start=first):
        packer.add(encoder.encode(example.genotypes, example.positions, generator(seed, "encoding", number)))
        labels.append(values)
    return {**packer.arrays(), "parameters": np.array(labels, dtype=np.float64)}


if __name__ == "__main__":
    # A simulator may print: only answers go to the training.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    _serve(sys.stdin.buffer, answers)
