"""Data of several kinds, between which a search chooses: one dataset for each, until the best of all trials names the study's own."""

from __future__ import annotations

import json
import shutil
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from popdl.config.study import Study, build_study, study_values
from popdl.errors import PopdlError
from popdl.files import whole, write_text
from popdl.layout import Results
from popdl.store import link_shard
from popdl.trials import data_values, data_variants, of_source, source_values, source_variants, with_values

__all__ = [
    "Variant",
    "adopt_files",
    "adopt_shard",
    "choose_data",
    "chosen_sections",
    "chosen_source",
    "chosen_study",
    "searched",
    "trial_variant",
    "variants",
    "vary",
]


class Variant(NamedTuple):
    """A study with data of one kind, and where that lies."""

    values: dict[str, Any]
    """Of the keys that are searched; empty for a study that does not search over its data."""
    study: Study
    results: Results
    """Where the encoded data is, and its splits."""
    source: Results
    """Where the raw data is; variants that differ by their encoding alone share it."""


def searched(study: Study) -> list[dict[str, Any]]:
    """What :func:`popdl.trials.data_variants` says of a study."""
    search = study.search.model_dump(mode="json") if study.search else None
    return data_variants(search, seed=study.seed)


def vary(study: Study, values: Mapping[str, Any]) -> Study:
    """The study with other values of some keys, checked as a config in which they are written.

    Raises
    ------
    PopdlError
        If it is not valid; the message lists everything wrong with it.
    """
    where = ", ".join(f"{key}: {value}" for key, value in values.items())
    return build_study(with_values(study_values(study), values), where=where)


def variants(study: Study, results: Results) -> list[Variant]:
    """Every variant of a study's data; the study itself, where it does not search over its data."""
    found = searched(study)
    if not found:
        return [Variant({}, study, results, results)]
    sources = source_variants(found)
    return [
        Variant(
            values,
            vary(study, values),
            results.variant(number),
            results.origin(sources.index(source_values(values))) if sources else results,
        )
        for number, values in enumerate(found)
    ]


def trial_variant(known: Iterable[Variant], values: Mapping[str, Any]) -> Variant:
    """The variant that a trial with these values learns from."""
    return next(variant for variant in known if variant.values == data_values(values))


def choose_data(
    trials: Sequence[Path], *, variants: Sequence[Mapping[str, Any]], sections: Mapping[str, Any], output: Path
) -> None:
    """Choose the data with which a trial of any network has reached the lowest validation loss, out of those on which no network failed.

    Parameters
    ----------
    trials
        Folders of all trials of all networks.
    variants
        What the trials choose from (:func:`popdl.trials.data_variants`).
    sections
        The sections `encoding:` and `simulation:` (or `import:`) of the config, as plain values.
    output
        JSON: ``variant`` and ``source`` (numbers; null where all share the study's own examples), ``values`` by key, and the
        ``sections`` with these values.

    Raises
    ------
    PopdlError
        If on each of the data the trials of some network diverged.
    """
    losses: dict[int, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    networks = set()
    for folder in trials:
        trial = json.loads((folder / "trial.json").read_text(encoding="utf-8"))
        networks.add(trial["network"])
        if trial["validation_loss"] is not None:
            number = variants.index(data_values(trial["values"]))
            losses[number][trial["network"]].append(trial["validation_loss"])
    usable = {number: min(map(min, found.values())) for number, found in losses.items() if set(found) == networks}
    if not usable:
        raise PopdlError(
            f"search: on each of the {len(variants)} variants of the data, all trials of a network diverged; search over lower learning rates."
        )
    best = min(usable, key=lambda number: (usable[number], number))
    values, sources = variants[best], source_variants(variants)
    chosen = {
        "variant": best,
        "source": sources.index(source_values(values)) if sources else None,
        "values": values,
        "sections": with_values(sections, values),
    }
    write_text(output, json.dumps(chosen, indent=1) + "\n")  # unsorted: the order of populations counts


def chosen_sections(choice: Sequence[str | Path]) -> dict[str, Any]:
    """Sections of the config as a search has chosen them: what :func:`choose_data` wrote, or nothing where there was no choice."""
    sections: dict[str, Any] = _read(Path(choice[0]))["sections"] if choice else {}
    return sections


def chosen_source(choice: Sequence[str | Path], about: Mapping[str, Any]) -> dict[str, Any]:
    """What trainings are told of the source that a search has chosen; nothing where there was no choice.

    Parameters
    ----------
    choice
        As in :func:`chosen_sections`.
    about
        As in :func:`popdl.trials.of_source`.

    Returns
    -------
    dict
        ``simulation``, ``priors`` and ``about``, as :func:`popdl.training.train` takes them.
    """
    sections = chosen_sections(choice)
    if not sections:
        return {}
    source = sections.get("simulation") or sections["import"]
    return {"simulation": source, **of_source(source, about)}


def chosen_study(study: Study, results: Results) -> Study:
    """The study with the data that its search has chosen: what everything after the search looks at.

    Raises
    ------
    PopdlError
        If nothing is chosen yet.
    """
    if not searched(study):
        return study
    if not results.chosen_data.is_file():
        raise PopdlError(f"{results.chosen_data} is missing; run `popdl train` first, which searches.")
    return vary(study, _read(results.chosen_data)["values"])


def adopt_shard(choice: Path, *, kind: Literal["simulations", "dataset"], shard: int) -> None:
    """Make a shard of the chosen data one of the study's own; it takes no further place on the disk.

    Parameters
    ----------
    choice
        What :func:`choose_data` wrote, in the study's folder.
    kind
        Raw or encoded.
    shard
        Its number.
    """
    results, chosen = _results(choice), _read(choice)
    if kind == "simulations":
        link_shard(results.origin(chosen["source"]).simulations(shard), results.simulations(shard))
    else:
        link_shard(results.variant(chosen["variant"]).dataset(shard), results.dataset(shard))


def adopt_files(choice: Path) -> None:
    """Make the splits of the chosen data, and the survey of chosen imports, the study's own."""
    results, chosen = _results(choice), _read(choice)
    variant = results.variant(chosen["variant"])
    files = {variant.splits: results.splits, variant.targets: results.targets}
    if chosen["source"] is not None and (survey := results.origin(chosen["source"]).survey).exists():
        files[survey] = results.survey
    for source, target in files.items():
        with whole(target) as partial:
            shutil.copyfile(source, partial)


def _results(choice: Path) -> Results:
    return Results(choice.parent.parent)


def _read(choice: Path) -> dict[str, Any]:
    chosen: dict[str, Any] = json.loads(choice.read_text(encoding="utf-8"))
    return chosen
