"""File systems on which nothing can be written, and what the steps of a study do there: parts of soak.py."""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from _study import call, differences, digests, popdl, said, undisturbed

STEPS = {
    "simulate": "simulations.zarr/shard_1",
    "encode": "dataset.zarr/shard_1",
    "split": "splits.tsv",
    "train": "models/cnn",
    "evaluate": "predictions/cnn",
    "apply": "applications",
    "report": "figures",
}
"""Steps of ``popdl``, and what each is to make again."""


def spoiled(
    folder: Path,
    study: Path,
    words: str,
    *,
    spoil: Callable[[], object],
    mend: Callable[[], object],
    limit: tuple[str, ...] = (),
) -> tuple[int, str]:
    """Run every step where it cannot write, and again where it can: how many were refused cleanly and then gave the same bytes."""
    expected = undisturbed(folder)
    kept, problems = 0, []
    for step, output in STEPS.items():
        path = study / "results/test" / output
        path.unlink() if path.is_file() else shutil.rmtree(path)
        before = digests(study)
        spoil()
        done = call(*limit, *popdl(step, study))
        mend()
        refused = done.returncode == 2 and re.search(words, said(done)) and "Traceback" not in said(done)
        problem = "" if refused else f"code {done.returncode}: {said(done).strip()[-200:]}"
        problem = problem or differences(digests(study), before)
        again = call(*popdl(step, study))
        problem = problem or differences(digests(study), expected)
        kept += not problem and again.returncode == 0
        problems += [f"{step}: {problem}"] * bool(problem)
    return kept, "; ".join(problems)


@contextlib.contextmanager
def disk(folder: Path) -> Iterator[bool]:
    """A small file system in memory at a folder; False where there is no right to mount one."""
    folder.mkdir()
    mounted = call("mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", str(folder)).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            call("umount", str(folder))


def fill(path: Path) -> None:
    """Write a file until no byte more fits."""
    for size in (2**20, 4096, 1):
        with contextlib.suppress(OSError), open(path, "ab", buffering=0) as file:
            while file.write(bytes(size)):
                pass
