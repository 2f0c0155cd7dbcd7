"""Figures that others have published on the question of a study, to be shown beside its own."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Literal

from pydantic import Field

from popdl.config.base import Section, suggestion
from popdl.config.training import Target

__all__ = ["NATURAL", "Published", "published_problems"]

OF_TASK = {"regression": ("r2", "rmse", "mae", "pearson"), "classification": ("accuracy", "auc")}
NATURAL = ("natural_r2", "natural_rmse")
"""Of targets on a log or logit scale, beside the others."""


class Published(Section):
    """A figure that others reported; of the same kind as the study's own, so that both can stand in one row."""

    method: str = Field(min_length=1)
    """What reached it, in a few words."""
    target: str
    """Which of the targets it is about."""
    metric: Literal["r2", "rmse", "mae", "pearson", "natural_r2", "natural_rmse", "accuracy", "auc"]
    """Which of our metrics it can be compared with: on the target's scale or, `natural_…`, in natural units where that scale is log or logit (R² is 1 − residual / total sum of squares)."""
    value: float
    """The figure."""
    source: str = Field(min_length=1)
    """Where it stands, and what was different there."""
    remark: str = ""
    """What must be known to compare it with the study's own, in a sentence or two."""
    network: str | None = None
    """Which of the networks repeats that method (null: none; it is compared with the best of them)."""
    baseline: str | None = None
    """Which of the baselines repeats it instead."""


def published_problems(
    published: Sequence[Published],
    *,
    targets: Mapping[str, Target],
    networks: Collection[str],
    baselines: Collection[str],
) -> list[str]:
    """What of the published figures does not fit the rest of the study."""
    found = []
    for number, figure in enumerate(published):
        where = f"published.{number}"
        if figure.target not in targets:
            found.append(f"{where}.target: {figure.target!r} is no target; {suggestion(figure.target, targets)}")
        elif figure.metric not in (metrics := _metrics(targets[figure.target])):
            found.append(f"{where}.metric: {figure.target} is scored by {', '.join(metrics)}, found {figure.metric}")
        if figure.network is not None and figure.baseline is not None:
            found.append(f"{where}: give a network or a baseline, not both")
        elif figure.network is not None and figure.network not in networks:
            found.append(f"{where}.network: {figure.network!r} is no network; {suggestion(figure.network, networks)}")
        elif figure.baseline is not None and figure.baseline not in baselines:
            found.append(
                f"{where}.baseline: {figure.baseline!r} is no baseline; {suggestion(figure.baseline, baselines)}"
            )
    return found


def _metrics(target: Target) -> tuple[str, ...]:
    return OF_TASK[target.task] + (() if target.scale == "linear" else NATURAL)
