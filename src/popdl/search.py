"""Searching for settings: trials of a network, the choice among them by validation loss, and training with what was chosen."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from popdl.config.base import validate
from popdl.config.training import Training
from popdl.config.transforms import Transforms
from popdl.errors import DivergedError, PopdlError
from popdl.files import whole, write_text
from popdl.model import read_card
from popdl.trials import changed, data_values, draw_values

__all__ = ["choose_trial", "draw_values", "run_trial", "train_chosen", "write_search_table"]

COLUMNS = ("validation_loss", "best_epoch", "num_epochs", "num_parameters")


def run_trial(
    *,
    key: str,
    options: Mapping[str, Any],
    training: Mapping[str, Any],
    transforms: Transforms,
    over: Mapping[str, Any],
    trial: int,
    seed: int,
    output: Path,
    **others: Any,
) -> None:
    """Train a network once with the settings of a trial; one that diverges is a result too.

    Parameters
    ----------
    key, options
        The network, as under `networks:` in the config.
    training
        The config's section, as plain values.
    transforms
        The config's section.
    over
        What the trial draws from (:func:`popdl.trials.trial_over`).
    trial, seed
        Number of the trial, and seed of the study.
    output
        Folder for ``trial.json`` and, unless the training diverged, ``model.safetensors`` and ``history.csv``.
    others
        As :func:`popdl.training.train` takes them.
    """
    from popdl.training import train

    values = draw_values(over, trial=trial, seed=seed)
    options, training, lists = changed(key, options, training, transforms.model_dump(mode="json"), values)
    checked = validate(Training, training, where=f"trial {trial} of {key}: training")
    transforms = validate(Transforms, lists, where=f"trial {trial} of {key}: transforms")
    model = output / "model.safetensors"
    found: dict[str, Any] = dict.fromkeys(COLUMNS)
    try:
        train(
            key=key,
            options=options,
            training=checked,
            transforms=transforms,
            replicate=0,
            seed=seed,
            output=model,
            history=output / "history.csv",
            **others,
        )
        found = {name: read_card(model)[name] for name in COLUMNS}
    except DivergedError:
        shutil.rmtree(others["checkpoint"], ignore_errors=True)
    text = {"network": key, "trial": trial, "values": values, **found, "options": options}
    text["training"] = checked.model_dump(mode="json", exclude={"replicates", "workers"})
    text["transforms"] = transforms.model_dump(mode="json")
    write_text(output / "trial.json", json.dumps(text, indent=1, sort_keys=True) + "\n")


def choose_trial(trials: Sequence[Path], *, output: Path, data: Path | None = None) -> None:
    """Choose the trial of a network that has the lowest validation loss.

    Parameters
    ----------
    trials
        Folders of all trials of the network.
    data
        What :func:`popdl.variants.choose_data` wrote: only trials on these data are chosen from.
    output
        JSON: ``trials`` (all of them) and ``chosen`` (the number of one).

    Raises
    ------
    PopdlError
        If every trial diverged.
    """
    found = [json.loads((folder / "trial.json").read_text(encoding="utf-8")) for folder in trials]
    finished = [trial for trial in found if trial["validation_loss"] is not None]
    if not finished:
        raise PopdlError(
            f"search: all {len(found)} trials of {found[0]['network']} diverged; search over lower learning rates."
        )
    if data is not None:
        values = json.loads(data.read_text(encoding="utf-8"))["values"]
        finished = [trial for trial in finished if data_values(trial["values"]) == values]
    best = min(finished, key=lambda trial: (trial["validation_loss"], trial["trial"]))
    write_text(output, json.dumps({"chosen": best["trial"], "trials": found}, indent=1) + "\n")


def write_search_table(choices: Sequence[Path], output: Path) -> None:
    """Write every trial of every network into one table: what it tried, and how it did.

    Parameters
    ----------
    choices
        What :func:`choose_trial` wrote for each network.
    output
        TSV with the columns ``network``, ``trial``, ``chosen`` (yes or no), ``validation_loss`` (``.`` where the training
        diverged), ``best_epoch``, ``num_epochs``, ``num_parameters``, and one for each key that is searched (as JSON).
    """
    networks = [json.loads(path.read_text(encoding="utf-8")) for path in choices]
    keys = sorted({key for network in networks for trial in network["trials"] for key in trial["values"]})
    text = io.StringIO()
    writer = csv.writer(text, delimiter="\t", lineterminator="\n", quoting=csv.QUOTE_NONE, quotechar=None)
    writer.writerow(["network", "trial", "chosen", *COLUMNS, *keys])
    for network in networks:
        for trial in network["trials"]:
            chosen = "yes" if trial["trial"] == network["chosen"] else "no"
            numbers = ["." if trial[name] is None else trial[name] for name in COLUMNS]
            values = [json.dumps(trial["values"][key]) if key in trial["values"] else "." for key in keys]
            writer.writerow([trial["network"], trial["trial"], chosen, *numbers, *values])
    write_text(output, text.getvalue())


def train_chosen(
    choice: Path | None,
    *,
    options: Mapping[str, Any],
    training: Mapping[str, Any],
    transforms: Transforms,
    replicate: int,
    output: Path,
    history: Path,
    **others: Any,
) -> None:
    """Train a replicate of a network, with the settings that a search has chosen where there was one.

    The chosen trial is replicate 0 already, and is copied.

    Parameters
    ----------
    choice
        What :func:`choose_trial` wrote, in the folder of the trials' folders; None where nothing was searched.
    options, training, transforms
        As in the config: what holds without a search.
    replicate, output, history, others
        As :func:`popdl.training.train` takes them.
    """
    from popdl.training import train

    if choice is not None:
        found = json.loads(choice.read_text(encoding="utf-8"))
        best = found["trials"][found["chosen"]]
        options, training = best["options"], best["training"]
        transforms = validate(Transforms, best["transforms"], where="transforms")
        if replicate == 0:
            folder = choice.with_suffix("") / str(best["trial"])
            for source, target in (("model.safetensors", output), ("history.csv", history)):
                with whole(target) as partial:
                    shutil.copyfile(folder / source, partial)
            return
    train(
        options=options,
        training=validate(Training, training, where="training"),
        transforms=transforms,
        replicate=replicate,
        output=output,
        history=history,
        **others,
    )
