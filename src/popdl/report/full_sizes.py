"""What the full sizes of published studies cost, and how far they have been run: from files in their results folders."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from popdl.config.study import Study
from popdl.errors import PopdlError
from popdl.layout import Results
from popdl.plan import FORMAT_VERSION
from popdl.report.wording import number
from popdl.store import shard_paths

__all__ = ["full_sizes"]

EXPLAINED = """Jobs are those of a dry run from the beginning (`snakemake --dry-run --forceall`); a test repeats it for each study, with one shard. Times are what
`popdl plan` expects from a few simulations and steps, in hours of one core of the machine where it was asked, without a GPU. Trainings are taken to run to
their last epoch, though most end before; for those that learn from fresh simulations, these are in their time. Imported studies simulate nothing."""


def full_sizes(studies: Sequence[Study], results: Path) -> Iterator[str]:
    """The section on studies that no laptop runs.

    Parameters
    ----------
    studies
        The studies.
    results
        The folder that holds a folder for each study, with ``plan.json`` (the target ``plan`` of the workflow) and ``dry_run.txt`` (what
        a dry run printed).
    """
    if not studies:
        return
    yield "## Full sizes\n"
    yield f"{EXPLAINED}\n"
    yield "| study | examples | jobs | simulate, encode | train, at most | disk | memory to train | run so far |"
    yield "|---|---|---|---|---|---|---|---|"
    for study in studies:
        layout = Results(results / study.study)
        cells = [
            study.study,
            f"{study.source.num_examples:,}",
            _jobs(layout.dry_run),
            *_plan(layout.plan),
            _run(study, layout),
        ]
        yield f"| {' | '.join(cells)} |"
    yield ""


def _jobs(path: Path) -> str:
    """Number of jobs in what a dry run printed."""
    found = re.search(r"^total\s+(\d+)$", path.read_text(encoding="utf-8"), re.MULTILINE) if path.is_file() else None
    return f"{int(found[1]):,}" if found else "–"


def _plan(path: Path) -> list[str]:
    if not path.is_file():
        return ["–"] * 4
    plan: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if plan.get("format_version") != FORMAT_VERSION:
        raise PopdlError(
            f"{path}: expected a plan of version {FORMAT_VERSION}, found {plan.get('format_version')}; plan the study again."
        )
    simulation, training = plan["simulation"], plan["training"]
    fresh = simulation["fresh_hours"] if simulation else 0
    return [
        _hours(simulation["simulate_hours"] + simulation["encode_hours"]) if simulation else "–",
        _hours(training["hours"] + fresh),
        _size(simulation["disk"]) if simulation else "–",
        _size(training["memory"]),
    ]


def _run(study: Study, results: Results) -> str:
    """How much of a study is there."""
    if results.report.is_file():
        return "whole"
    shards = -(-study.source.num_examples // study.source.shard_size)
    trainings = [f"{network}/{number}" for network in study.networks for number in range(study.training.replicates)]
    counts = {
        "shards": (len(shard_paths(results.simulations(0).parent)), shards),
        "trainings": (sum(results.model(name).is_file() for name in trainings), len(trainings)),
    }
    if not any(done for done, _ in counts.values()):
        return "no"
    return ", ".join(f"{done:,} of {all_:,} {what}" for what, (done, all_) in counts.items())


def _hours(hours: float) -> str:
    return f"{number(hours)} h" if hours >= 1 else f"{number(60 * hours)} min"


def _size(size: float) -> str:
    return f"{number(size / 1e9)} GB" if size >= 1e9 else f"{number(size / 1e6)} MB"
