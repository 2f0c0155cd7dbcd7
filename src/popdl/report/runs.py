"""What several runs of a network say together: replicates with their ensemble."""

from __future__ import annotations

from typing import Any

import numpy as np

from popdl.outcomes import Outcomes

__all__ = ["replicates_table"]


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
