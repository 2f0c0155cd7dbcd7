"""How tables of predictions are written: their columns, as TSV and as BED."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from popdl.errors import PopdlError
from popdl.model import Model
from popdl.scaling import TargetScaling

__all__ = ["bed_table", "common_scaling", "table_columns", "table_text"]


def common_scaling(models: Sequence[Model]) -> TargetScaling:
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


def bed_table(table: pd.DataFrame) -> pd.DataFrame:
    """The windows of :func:`popdl.prediction.window_table` as BED6+, with the columns that :func:`popdl.prediction.predict_windows` describes."""
    score = (10 * (100 - table["domain_percentile"].fillna(100.0))).round().astype(int)
    features = pd.DataFrame(
        {
            **{"#chrom": table["contig"], "start": table["start"], "end": table["end"]},
            "name": [f"window_{number}" for number in range(1, len(table) + 1)],
            "score": score,
            "strand": ".",
        }
    )
    return features.join(table.drop(columns=["contig", "start", "end"]))


def table_columns(models: Sequence[Model], *, windows: bool) -> list[str]:
    """The columns of :func:`popdl.prediction.window_table`, or of :func:`popdl.prediction.example_table` without the true values."""
    columns = ["contig", "start", "end", "n_sites"] if windows else ["example", "scenario", "n_sites"]
    columns += ["n_sites_dropped"] if any(model.module.has_transforms for model in models) else []
    for name, target in common_scaling(models).targets.items():
        classes = [f"{name}_p_{label}" for label in target.classes or []]
        columns += [name, *(classes if target.task == "classification" else (f"{name}_low", f"{name}_high"))]
    return [*columns, "outside_domain", "domain_percentile", *(["reason"] if windows else [])]


def table_text(table: pd.DataFrame) -> str:
    """A table as TSV, `.` where there is nothing."""
    return table.to_csv(sep="\t", index=False, na_rep=".", float_format="%.6g", lineterminator="\n")
