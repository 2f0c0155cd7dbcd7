"""From models and encoded data to tables of predictions, in natural units.

Several models are averaged: outputs on each target's scale (such as log10 for `log`), probabilities of classes. Their intervals
take the widest of the models' half-widths.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from popdl.config.application import Application
from popdl.config.base import validate
from popdl.dataset import open_shards, read_parameters
from popdl.errors import PopdlError
from popdl.files import write_text
from popdl.loader import PackedData
from popdl.memory import keep_freed_memory
from popdl.model import Model, load_model
from popdl.module import predict_outputs
from popdl.realism import assess
from popdl.scaling import TargetScaling
from popdl.splits import read_splits
from popdl.store import read_shard

__all__ = ["predict_arrays", "predict_test", "predict_vcf", "predict_windows"]

log = logging.getLogger("popdl")

BATCH_SIZE = 64
"""Examples at once; predictions do not depend on it."""


def predict_arrays(
    models: Sequence[Model], data: PackedData, rows: np.ndarray, *, batch_size: int = BATCH_SIZE
) -> pd.DataFrame:
    """Predict encoded examples.

    Parameters
    ----------
    models
        One model, or several with the same targets that are averaged.
    data
        Encoded by the models' own recipe.
    rows : ndarray of shape (n,), dtype=int64
        Which examples.
    batch_size
        Examples at once.

    Returns
    -------
    DataFrame
        One row per example. For a regression target t: ``t``, ``t_low`` and ``t_high`` in natural units (the interval is NaN
        where the model has none). For a classification target: ``t``, the likeliest class, and ``t_p_<class>``.

    Raises
    ------
    PopdlError
        If the data were encoded by another recipe, or models differ in their targets.
    """
    for model in models:
        if model.encoder.fingerprint != data.fingerprint:
            raise PopdlError(
                f"{model.path}: this model takes other data: {_difference(model.encoder.recipe, data.encoding)}; "
                "encode the data with the model's own recipe, or use a model that was trained with this encoding."
            )
    scaling = _common_scaling(models)
    keep_freed_memory()  # a network's layers take and free the same blocks for every batch
    outputs = [
        predict_outputs(model.module, data, torch.from_numpy(rows), batch_size=batch_size).double() for model in models
    ]
    columns: dict[str, Any] = {}
    for name, target in scaling.targets.items():
        parts = [output[:, model.module.heads.columns[name]] for model, output in zip(models, outputs, strict=True)]
        if target.task == "classification":
            probabilities = torch.stack([part.softmax(dim=1) for part in parts]).mean(dim=0).numpy()
            columns[name] = np.array(target.classes, dtype=object)[probabilities.argmax(axis=1)]
            columns |= {f"{name}_p_{label}": probabilities[:, index] for index, label in enumerate(target.classes)}
            continue
        value = target.mean_of(
            [_on_scale(model, name, part[:, 0].numpy()) for model, part in zip(models, parts, strict=True)]
        )
        widths = [model.card["intervals"]["half_widths"].get(name) for model in models]
        width = np.nan if None in widths else max(widths)
        ends = target.interval(value, value - width, value + width)
        columns |= dict(zip((name, f"{name}_low", f"{name}_high"), ends, strict=True))
    return pd.DataFrame(columns)


def predict_test(model: Path, *, shards: Sequence[Path], splits: Path, output: Path) -> None:
    """Predict the test split.

    Parameters
    ----------
    model
        The model file.
    shards
        All encoded shards of the dataset.
    splits
        ``splits.tsv``.
    output
        TSV with the column ``example``, and for each target ``<t>_true`` and the columns of :func:`predict_arrays`.
    """
    loaded = load_model(model)
    rows = np.flatnonzero(read_splits(splits)["split"] == "test")
    truths = read_parameters(open_shards(shards), list(loaded.card["targets"]))[rows]
    data = PackedData.from_shards(shards, rows=rows)
    table = predict_arrays([loaded], data, np.arange(len(rows)))
    for number, (name, target) in enumerate(_common_scaling([loaded]).targets.items()):
        truth: Any = truths[:, number]
        if target.task == "classification":
            truth = [
                None if np.isnan(index) else target.classes[int(index)] for index in target.to_network(truth).tolist()
            ]
        table.insert(int(table.columns.get_loc(name)), f"{name}_true", truth)  # type: ignore[arg-type]
    table.insert(0, "example", rows)
    # Pandas writes floats so that they are read back as they were.
    write_text(output, table.to_csv(sep="\t", index=False, na_rep=".", lineterminator="\n"))


def predict_windows(models: Sequence[Path], *, windows: Path, output: Path, bed: Path) -> None:
    """Predict the windows of a genome.

    Parameters
    ----------
    models
        Model files; several are averaged.
    windows
        Encoded shard of kind ``windows``.
    output
        TSV, one row per window: ``contig``, ``start`` and ``end`` (bp, 0-based, half-open), ``n_sites`` (usable sites of
        the window), the columns of :func:`predict_arrays`, ``outside_domain`` (``yes`` where the window's statistics are more
        unusual than those of nearly all training simulations), ``domain_percentile`` (share of the simulations that are less
        unusual, in %), and ``reason`` (why there is no prediction, else ``.``).
    bed
        The same windows as BED6+: ``name`` is ``window_<number>``, ``score`` is 10 × (100 − domain_percentile), 0 where
        there is no prediction, ``strand`` is ``.``; the columns after that are those of the TSV from ``n_sites`` on.
    """
    loaded = [load_model(path) for path in models]
    shard = read_shard(windows, kind="windows")
    data = PackedData.from_shards([windows], kind="windows")
    reasons = np.array(shard.attributes["reasons"], dtype=object)
    rows = np.flatnonzero(reasons == "")
    table = pd.DataFrame(
        {
            "contig": shard.attributes["contigs"],
            "start": shard["start"],
            "end": shard["end"],
            "n_sites": shard["num_sites_window"],
        }
    )
    predictions = predict_arrays(loaded, data, rows)
    table = table.join(predictions.set_index(pd.Index(rows)))
    assessment = assess(loaded[0].card["realism"], shard["statistics"][rows])
    table["outside_domain"] = pd.Series(np.where(assessment.outside, "yes", "no"), index=rows, dtype=object)
    table["domain_percentile"] = pd.Series(assessment.percentile, index=rows, dtype=float)
    table["reason"] = [reason or None for reason in reasons]
    write_text(output, _text(table))
    score = (10 * (100 - table["domain_percentile"].fillna(100.0))).round().astype(int)
    features = pd.DataFrame(
        {
            **{"#chrom": table["contig"], "start": table["start"], "end": table["end"]},
            "name": [f"window_{number}" for number in range(1, len(table) + 1)],
            "score": score,
            "strand": ".",
        }
    )
    write_text(bed, _text(features.join(table.drop(columns=["contig", "start", "end"]))))
    log.info(
        "%d of %d windows predicted, %d of them outside the training domain.",
        len(rows),
        len(table),
        assessment.outside.sum(),
    )


def predict_vcf(models: Sequence[Path], *, application: Mapping[str, Any], seed: int, output: Path, bed: Path) -> None:
    """Predict the windows of a VCF: encode it by the models' own recipe, then :func:`predict_windows`.

    Parameters
    ----------
    models
        Model files; several are averaged.
    application
        As in the config under ``applications.<name>``; None counts as not given. Windows without ``size`` and ``sites`` are
        as long as those the model was trained on.
    seed
        Seed of the draw of individuals and of random crops.
    output, bed
        As in :func:`predict_windows`.
    """
    from popdl.windows import encode_windows

    encoder = load_model(models[0]).encoder
    values = {key: value for key, value in application.items() if value is not None}
    windows = {key: value for key, value in values.get("windows", {}).items() if value is not None}
    if not {"size", "sites"} & set(windows):
        windows["size"] = encoder.sequence_length
    samples = {key: value for key, value in values.get("samples", {}).items() if value is not None}
    values = {**values, "windows": windows, "ploidy": encoder.ploidy, **({"samples": samples} if samples else {})}
    checked = validate(Application, values, where="predict")
    assert checked.vcf is not None
    with tempfile.TemporaryDirectory() as folder:
        shard = Path(folder) / "windows"
        encode_windows(checked.vcf, application=checked, encoder=encoder, seed=seed, output=shard)
        predict_windows(models, windows=shard, output=output, bed=bed)


def _on_scale(model: Model, name: str, values: np.ndarray) -> np.ndarray:
    """Standardised outputs on the target's scale."""
    target = model.card["targets"][name]
    return values * target["sd"] + target["mean"]


def _common_scaling(models: Sequence[Model]) -> TargetScaling:
    """The targets of the models, which must agree in task, scale and classes."""
    kinds = [
        {
            name: (target["task"], target["scale"], target["classes"], target.get("circular"))
            for name, target in model.card["targets"].items()
        }
        for model in models
    ]
    for model, kind in zip(models, kinds, strict=True):
        if kind != kinds[0]:
            raise PopdlError(
                f"{model.path}: its targets are {', '.join(kind)}, those of {models[0].path} are {', '.join(kinds[0])} "
                "(tasks, scales, classes and periods must agree too); predict with one model at a time."
            )
    return TargetScaling.from_json(models[0].card["targets"])


def _difference(expected: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    """Where two encoding recipes differ."""
    flat = [{**recipe, **recipe["settings"]} for recipe in (expected, found)]
    keys = [key for key in flat[0] if key != "settings" and flat[0][key] != flat[1].get(key)]
    return "; ".join(f"{key} expected {flat[0][key]}, found {flat[1].get(key)}" for key in keys)


def _text(table: pd.DataFrame) -> str:
    return table.to_csv(sep="\t", index=False, na_rep=".", float_format="%.6g", lineterminator="\n")
