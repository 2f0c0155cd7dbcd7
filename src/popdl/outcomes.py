"""What a finished study left in its results folder, read for figures and report."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from popdl.config.study import Study
from popdl.dataset import open_shards, read_parameters
from popdl.errors import PopdlError
from popdl.evaluation import read_predictions
from popdl.layout import Results
from popdl.priors import Prior
from popdl.scaling import are_numbers
from popdl.store import shard_paths

__all__ = ["Outcomes", "read_outcomes", "searched_keys"]


@dataclass(frozen=True)
class Outcomes:
    """The results of a study, as tables."""

    study: Study
    results: Results
    metrics: dict[str, Any]
    """``metrics.json``."""
    test: dict[str, pd.DataFrame]
    """Test predictions of each network and ensemble."""
    histories: dict[str, pd.DataFrame]
    """Training history of each network."""
    windows: dict[str, dict[str, pd.DataFrame]]
    """Predictions along the genome, by application and network or ensemble; ``outside_domain`` is bool."""
    realism: dict[str, pd.DataFrame]
    """Statistics of windows and simulations, by application; ``outside_domain`` is bool."""
    search: pd.DataFrame | None
    """Every trial of a search, as text but for the loss (NaN where it diverged); None if there was none."""
    comparisons: dict[str, pd.DataFrame] = field(default_factory=dict)
    """Bins of predictions and of a recombination map, by application; only of those that name a map."""
    correlations: dict[str, pd.DataFrame] = field(default_factory=dict)
    """How the two go together, by scale and method, for the same applications."""

    @property
    def best(self) -> str:
        """The network with the lowest validation loss."""
        return self.metrics["best_network"]

    @property
    def targets(self) -> dict[str, dict[str, Any]]:
        """Description of each target; ``low`` and ``high`` are the prior's bounds, or else the range in the training split."""
        return {
            name: {**described, **_bounds(self.study.source.priors.get(name), described["scale"])}
            for name, described in self.metrics["targets"].items()
        }

    @property
    def networks(self) -> list[str]:
        """Names of the trained networks, ``network/replicate``, the best one first."""
        return sorted(self.histories, key=lambda name: name != self.best)

    @property
    def ensembles(self) -> list[str]:
        """Names of the ensembles, ``network/ensemble``."""
        return [name for name in self.test if name not in self.histories]

    def true_values(self, application: str) -> dict[str, float]:
        """Value of every target in an application that was simulated; empty for a real genome."""
        simulated = self.study.applications[application].simulate
        if simulated is None:
            return {}
        assert self.study.simulation is not None
        known = self.study.simulation.labels(self.study.simulation.with_constants(simulated.parameters))
        return {name: known[name] for name in self.targets if not math.isnan(known.get(name, math.nan))}

    def baseline_predictions(self, name: str) -> pd.DataFrame:
        """Test predictions of a baseline, with the rows of :attr:`test`."""
        return read_predictions(self.results.baseline(name), self.metrics["targets"])

    def test_parameters(self) -> tuple[pd.DataFrame, dict[str, list[str]]]:
        """Every parameter of the test examples, in natural units, with the rows of :attr:`test`; and the words of choices among words.

        Such a choice is the index of its word; one among numbers is the number.
        """
        shards = open_shards(shard_paths(self.results.dataset(0).parent))
        names = list(shards[0].attributes["parameters"])
        rows = self.test[self.best]["example"].to_numpy().astype(int)
        choices: dict[str, list[str]] = shards[0].attributes["classes"]
        words = {name: found for name, found in choices.items() if not are_numbers(found)}
        return pd.DataFrame(read_parameters(shards, names)[rows], columns=names), words


def read_outcomes(results: Path, study: Study) -> Outcomes:
    """Read the results of a study.

    Raises
    ------
    PopdlError
        If a file is missing.
    """
    layout = Results(results)
    try:
        metrics = json.loads(layout.metrics.read_text(encoding="utf-8"))
        kinds = {name: model["kind"] for name, model in metrics["models"].items()}
        names = [name for name, kind in kinds.items() if kind != "baseline"]
        return Outcomes(
            study=study,
            results=layout,
            metrics=metrics,
            test={name: read_predictions(layout.test_predictions(name), metrics["targets"]) for name in names},
            histories={name: pd.read_csv(layout.history(name)) for name in names if kinds[name] == "network"},
            windows={
                application: {
                    name: _read_windows(layout.application(application) / f"{name}.windows.tsv", metrics["targets"])
                    for name in names
                }
                for application in study.applications
            },
            realism={
                application: _read_table(layout.application(application) / "realism.tsv", words=["contig", "statistic"])
                for application in study.applications
            },
            search=_read_search(layout.search_table) if study.search is not None else None,
            comparisons=_read_all(layout, study, "comparison"),
            correlations=_read_all(layout, study, "correlations"),
        )
    except FileNotFoundError as error:
        raise PopdlError(f"{error.filename}: this result is missing; run the study before its report.") from None


def searched_keys(trials: pd.DataFrame) -> list[str]:
    """The keys that were searched for one network: columns of its rows of ``search.tsv``."""
    return [key for key in trials.columns if "." in key and (trials[key] != ".").all()]


def _read_all(layout: Results, study: Study, table: str) -> dict[str, pd.DataFrame]:
    """A table of every application that names a recombination map."""
    types = {"contig": str, "method": str}
    return {
        name: pd.read_csv(
            layout.application(name) / f"{table}.tsv", sep="\t", dtype=types, keep_default_na=False, na_values=["."]
        )
        for name, application in study.applications.items()
        if application.compare is not None
    }


def _read_search(path: Path) -> pd.DataFrame:
    table = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False, quoting=csv.QUOTE_NONE)
    return table.assign(validation_loss=table["validation_loss"].replace(".", "nan").astype(float))


def _bounds(prior: Prior | None, scale: str) -> dict[str, float]:
    """The lowest and highest value of a prior that states them; not 0 and 1 on a scale that has no place for them."""
    if prior is None or prior.distribution == "choice":
        return {}
    if prior.within is not None:
        low, high = prior.within
    elif prior.distribution in ("uniform", "loguniform") and not prior.references:
        low, high = (float(bound) for bound in prior.arguments)
    else:
        return {}
    return {} if scale == "logit" and not 0 < low < high < 1 else {"low": low, "high": high}


def _read_windows(path: Path, targets: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    classes = [name for name, described in targets.items() if described["task"] == "classification"]
    table = _read_table(path, words=["contig", "reason", *classes])
    return table.assign(reason=table["reason"].fillna(""))


def _read_table(path: Path, *, words: list[str]) -> pd.DataFrame:
    types = dict.fromkeys([*words, "outside_domain"], str)
    table = pd.read_csv(path, sep="\t", dtype=types, keep_default_na=False, na_values=["."])
    return table.assign(outside_domain=table["outside_domain"] == "yes")
