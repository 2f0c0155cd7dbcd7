"""What several runs of a network say together: the trials of a search, and replicates with their ensemble."""

from __future__ import annotations

from typing import Any

import numpy as np

from popdl.outcomes import Outcomes, searched_keys
from popdl.trials import data_values, source_values

__all__ = ["replicates_table", "search_tables", "searched_data"]


def replicates_table(outcomes: Outcomes) -> list[dict[str, Any]]:
    """For each network that was trained several times, and each target: the spread of its replicates, and their ensemble."""
    models = outcomes.metrics["models"]
    rows = []
    for ensemble in outcomes.ensembles:
        members = models[ensemble]["members"]
        for target, described in outcomes.targets.items():
            metric = "r2" if described["task"] == "regression" else "accuracy"
            scores = [models[name]["targets"][target].get("metrics", {}).get(metric) for name in [*members, ensemble]]
            values = [np.nan if score is None or score["value"] is None else score["value"] for score in scores]
            if not np.isfinite(values).all():
                continue
            rows.append(
                {
                    "network": ensemble.rpartition("/")[0],
                    "label": described["label"],
                    "metric": {"r2": "R²", "accuracy": "accuracy"}[metric],
                    "values": values[:-1],
                    "mean": float(np.mean(values[:-1])),
                    "sd": float(np.std(values[:-1], ddof=1)),
                    "ensemble": values[-1],
                }
            )
    return rows


def search_tables(outcomes: Outcomes) -> list[dict[str, Any]]:
    """For each network whose settings were searched: all of its trials, the best one first."""
    if outcomes.search is None:
        return []
    tables = []
    for network, trials in outcomes.search.groupby("network", sort=False):
        keys = searched_keys(trials)
        ordered = trials.sort_values(["validation_loss", "trial"], na_position="last")
        rows = [
            {
                "trial": row["trial"],
                "loss": "diverged" if np.isnan(row["validation_loss"]) else f"{row['validation_loss']:.4f}",
                "cells": [row[key] for key in keys],
                "epoch": "–" if row["best_epoch"] == "." else row["best_epoch"],
                "parameters": "–" if row["num_parameters"] == "." else f"{int(row['num_parameters']):,}",
                "chosen": row["chosen"] == "yes",
            }
            for row in ordered.to_dict("records")
        ]
        tables.append({"network": network, "keys": keys, "rows": rows})
    return tables


def searched_data(outcomes: Outcomes) -> dict[str, Any] | None:
    """What a search has chosen of the data, and which keys gave trials a validation split of their own; None if it chose no data."""
    if outcomes.search is None:
        return None
    chosen = outcomes.search[outcomes.search["chosen"] == "yes"].to_dict("records")[0]
    values = data_values({str(key): value for key, value in chosen.items()})
    return {"values": values, "other_exams": list(source_values(values))} if values else None
