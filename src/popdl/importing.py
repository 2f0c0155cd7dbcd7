"""Importing labelled data: the same shards of kind ``simulations`` that simulating writes."""

from __future__ import annotations

import importlib.metadata
import json
import logging
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import popdl
from popdl import store
from popdl.errors import PopdlError
from popdl.files import write_text
from popdl.formats._base import FileImporter, Importer, LabelledExample, Survey

__all__ = [
    "import_shard",
    "look_at_examples",
    "look_at_labels",
    "read_examples",
    "read_survey",
    "survey",
    "write_survey",
]

log = logging.getLogger("popdl")

MOST_PROBLEMS = 10
"""Wrong labels that are listed."""
MOST_EXAMPLES = 10
MOST_SECONDS = 10.0
"""Examples that a check reads from first to last, and for how long at most."""


def survey(importer: Importer) -> Survey:
    """Look at all data once, and hold it against the numbers in the config.

    Raises
    ------
    PopdlError
        If the data cannot be used, or holds another number of scenarios than the config says.
    """
    found = importer.survey()
    if found["num_scenarios"] != importer.num_scenarios:
        raise PopdlError(
            f"import.num_scenarios: {importer.num_scenarios}, but the data holds {found['num_scenarios']} scenarios of "
            f"{importer.replicates} replicates (import.replicates); write num_scenarios: {found['num_scenarios']}."
        )
    for reason, count in found["left_out"].items():
        log.warning("import: %s left out: %s.", count, reason.replace("_", " "))
    return found


def write_survey(importer: Importer, output: Path) -> None:
    """Write :func:`survey` to a JSON file, from which the jobs of all shards read."""
    write_text(output, json.dumps(survey(importer), indent=1) + "\n")


def read_survey(path: Path) -> Survey:
    """Read what :func:`write_survey` wrote."""
    found: Survey = json.loads(path.read_text(encoding="utf-8"))
    return found


def import_shard(importer: Importer, found: Survey, *, seed: int, shard: int, output: Path) -> None:
    """Import the examples of one shard and write them.

    Parameters
    ----------
    importer
        The `import:` section.
    found
        The survey of its data.
    seed
        The study's seed, from which come the mutations of tree sequences that have none.
    shard
        Number of the shard, from 0: examples shard · size … (shard + 1) · size − 1.
    output
        Folder of the shard.

    Raises
    ------
    PopdlError
        If there is no such shard, or an example is not what the config says; the message names its place in the data.
    """
    first = shard * importer.shard_size
    last = min(first + importer.shard_size, importer.num_examples)
    if not 0 <= first < last:
        raise PopdlError(
            f"shard {shard}: the import has {importer.num_examples} examples, {importer.shard_size} in a shard."
        )
    examples = read_examples(importer, found, first, last, seed=seed)
    names = importer.parameter_names
    labels = np.array([[labelled.labels[name] for name in names] for labelled in examples], dtype=np.float64)
    scenario = np.arange(first, last) // importer.replicates
    _check_replicates(examples, labels, scenario)
    store.write_shard(
        output,
        kind="simulations",
        arrays={
            "genotypes": np.concatenate([labelled.example.genotypes for labelled in examples]),
            "positions": np.concatenate([labelled.example.positions for labelled in examples]),
            "offsets": np.cumsum([0, *(len(labelled.example.positions) for labelled in examples)], dtype=np.int64),
            "parameters": labels,
            "scenario": scenario.astype(np.int64),
        },
        attributes={
            "seed": seed,
            "first_example": first,
            "num_examples": last - first,
            "left_out": _left_out(examples),
            **_attributes(importer),
        },
    )


def read_examples(importer: Importer, found: Survey, first: int, last: int, *, seed: int) -> list[LabelledExample]:
    """Read the examples ``first`` to ``last`` (exclusive), each checked against what the config says of all."""
    examples = [_checked(importer, labelled) for labelled in importer.examples(found, first, last, seed=seed)]
    if len(examples) != last - first:
        raise PopdlError(
            f"import: {len(examples)} of the {last - first} examples from {first} on were found; the data has changed since "
            "it was looked at: import anew."
        )
    return examples


def look_at_labels(importer: Importer) -> tuple[dict[str, np.ndarray], list[str]]:
    """Read every label that stands in the table or in the places of files, without opening an example.

    Returns
    -------
    labels
        By parameter, one for each row or file; NaN where missing.
    problems : list of str
        A line for each label that cannot be read.
    """
    problems: list[str] = []
    rows: list[dict[str, float]] = []
    places: list[dict[str, float]] = []
    if importer.columns:
        table = importer.read_table()
        for row in range(table.num_rows):
            try:
                rows.append(importer.table_labels(table, row))
            except PopdlError as error:
                problems.append(str(error))
    for path in importer.paths if isinstance(importer, FileImporter) else ():
        try:
            places.append(importer.path_labels(path))
        except PopdlError as error:
            problems.append(str(error))
    labels = {
        name: np.array([found[name] for found in part]) for part in (rows, places) for name in (part[0] if part else ())
    }
    if len(problems) > MOST_PROBLEMS:
        problems[MOST_PROBLEMS:] = [f"import: {len(problems) - MOST_PROBLEMS} more labels cannot be read."]
    return labels, problems


def look_at_examples(importer: Importer, found: Survey, *, seed: int) -> Iterator[LabelledExample]:
    """Read a few examples from the first to the last, as far as the time allows, and say in the log what was not looked at."""
    end = time.monotonic() + MOST_SECONDS
    chosen = np.unique(np.linspace(0, importer.num_examples - 1, MOST_EXAMPLES).astype(int)).tolist()
    number = 0
    for example in chosen:
        if number and time.monotonic() > end:
            break
        yield from read_examples(importer, found, example, example + 1, seed=seed)
        number += 1
    inside = sorted(name for name, label in importer.labels.items() if label.flag or label.metadata)
    log.info(
        "import: %d of %d examples were read; of the others files and labels were looked at, not what the files hold%s.",
        number,
        importer.num_examples,
        f" (nor {', '.join(inside)}, which they hold)" if inside else "",
    )


def _attributes(importer: Importer) -> dict[str, Any]:
    return {
        "parameters": importer.parameter_names,
        "classes": {name: prior.classes for name, prior in importer.priors.items()},
        "num_haplotypes": importer.num_haplotypes,
        "populations": None,
        "ploidy": importer.ploidy,
        "sequence_length": importer.sequence_length,
        "import": importer.model_dump(mode="json", exclude={"num_scenarios"}),
        "versions": {"popdl": popdl.__version__, "numpy": importlib.metadata.version("numpy")},
    }


def _left_out(examples: list[LabelledExample]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for labelled in examples:
        total.update(labelled.left_out)
    return dict(sorted(total.items()))


def _checked(importer: Importer, labelled: LabelledExample) -> LabelledExample:
    """Hold an example to what the config says of all."""
    genotypes, positions = labelled.example.genotypes, labelled.example.positions
    expected = (len(positions), importer.num_haplotypes)
    problem = None
    if genotypes.dtype != np.int8 or genotypes.shape != expected:
        problem = (
            f"genotypes are {genotypes.dtype} {genotypes.shape}, expected int8 {expected} for (sites, num_haplotypes)"
        )
    elif len(positions) and not (
        np.isfinite(positions).all() and positions[0] >= 0 and positions[-1] <= importer.sequence_length
    ):
        problem = (
            f"positions reach from {positions.min():g} to {positions.max():g} bp, expected 0 to "
            f"{importer.sequence_length:g} (import.sequence_length)"
        )
    elif (np.diff(positions) < 0).any():
        problem = "positions decrease, expected sites in the order of their positions"
    elif genotypes.size and genotypes.min() < -1:
        problem = f"allele {genotypes.min()}, expected 0, 1, … or −1 for missing"
    if problem:
        raise PopdlError(f"{labelled.where}: {problem}.")
    return labelled


def _check_replicates(examples: list[LabelledExample], labels: np.ndarray, scenario: np.ndarray) -> None:
    """Replicates of a scenario share its parameters: otherwise splits by scenario would not keep like from like."""
    same = (labels[1:] == labels[:-1]) | (np.isnan(labels[1:]) & np.isnan(labels[:-1]))
    wrong = np.flatnonzero((scenario[1:] == scenario[:-1]) & ~same.all(axis=1))
    if len(wrong):
        raise PopdlError(
            f"{examples[wrong[0] + 1].where}: its parameters differ from those of the replicate before it, in the same scenario; "
            "correct import.replicates."
        )
