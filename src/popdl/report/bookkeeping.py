"""What stands at the end of the report: what was left out, versions, run times, and what to cite."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from popdl import plugins
from popdl.importing import read_survey
from popdl.model import read_card
from popdl.outcomes import Outcomes
from popdl.splits import read_splits
from popdl.store import read_shard, shard_paths

__all__ = [
    "cpu_seconds",
    "dropped",
    "prediction_transforms",
    "references",
    "run_times",
    "started_from",
    "training_table",
    "versions",
]

SIMULATION = "simulations"
REFERENCES = {
    "msprime": "Baumdicker F. et al. (2022) Efficient ancestry and mutation simulation with msprime 1.0. Genetics 220: iyab229.",
    "stdpopsim": "Adrion J.R. et al. (2020) A community-maintained standard library of population genetic models. eLife 9: e54967.",
    "intervals": "Lei J. et al. (2018) Distribution-free predictive inference for regression. J. Am. Stat. Assoc. 113: 1094–1111.",
    "scikit-learn": "Pedregosa F. et al. (2011) Scikit-learn: machine learning in Python. J. Mach. Learn. Res. 12: 2825–2830.",
    "snakemake": "Mölder F. et al. (2021) Sustainable data analysis with Snakemake. F1000Research 10: 33.",
}


def training_table(outcomes: Outcomes) -> list[dict[str, Any]]:
    """One row per trained network, in the order of their validation loss."""
    rows = []
    for name, history in outcomes.histories.items():
        card = read_card(outcomes.results.model(name))
        rows.append(
            {
                "name": name,
                "num_parameters": card.get("num_parameters"),
                "epochs": len(history),
                "kept": int(history["epoch"].iloc[int(history["validation_loss"].argmin())]),
                "validation_loss": f"{card['validation_loss']:.4f}",
                "seconds": float(history["seconds"].sum()),
                "examples_per_second": float(history["examples_per_second"].mean()),
                "waiting": f"{history['waiting_share'].mean():.1%}",
                "best": name == outcomes.best,
            }
        )
    return sorted(rows, key=lambda row: float(row["validation_loss"]))


def started_from(outcomes: Outcomes) -> list[dict[str, Any]]:
    """Each trained model from which networks started (``training.initialise_from``), with those networks."""
    models: dict[str, dict[str, Any]] = {}
    for name in sorted(outcomes.histories):
        start = read_card(outcomes.results.model(name)).get("initialised_from")
        if start is not None:
            model = {
                "study": start["study"],
                "network": start["network"],
                "sha256": start["sha256"][:12],
                "unseen": start.get("test_split") == "unseen",
                "started": [],
            }
            models.setdefault(start["sha256"], model)["started"].append(name)
    return list(models.values())


def prediction_transforms(outcomes: Outcomes) -> list[dict[str, Any]]:
    """Each list of transforms that networks have in prediction, in words, with those networks; none for an empty list."""
    networks: dict[tuple[str, ...], list[str]] = {}
    for name in sorted(outcomes.histories):
        parts = read_card(outcomes.results.model(name)).get("transforms", {}).get("prediction", [])
        networks.setdefault(tuple(_in_words(part["name"], part["options"]) for part in parts), []).append(name)
    return [{"networks": names, "steps": steps} for steps, names in networks.items() if steps]


def _in_words(name: str, options: Mapping[str, Any]) -> str:
    said = ", ".join(f"{key}: {value}" for key, value in options.items() if value is not None)
    return f"{name} ({said})" if said else name


def dropped(outcomes: Outcomes) -> list[dict[str, Any]]:
    """Everything that was left out, counted, with the reason; a count of zero says that it was looked for."""
    rows = [
        *_dropped_imports(outcomes),
        *_redrawn(outcomes),
        *_failed(outcomes),
        *_dropped_simulations(outcomes),
        *_missing_targets(outcomes),
    ]
    for name in outcomes.windows:
        rows += _dropped_windows(outcomes, name)
    return rows


def _row(where: str, what: str, reason: str, number: float, total: float | None = None) -> dict[str, Any]:
    share = f"{number / total:.2%}" if total else ""
    return {"where": where, "what": what, "reason": reason, "count": int(number), "share": share}


def _dropped_imports(outcomes: Outcomes) -> Iterator[dict[str, Any]]:
    """What the user's own files hold and the examples do not."""
    if outcomes.study.import_ is None:
        return
    left_out: Counter[str] = Counter(read_survey(outcomes.results.survey)["left_out"])
    for path in shard_paths(outcomes.results.simulations(0).parent):
        left_out.update(read_shard(path, kind="simulations").attributes["left_out"])
    for reason, number in left_out.items():
        yield _row("import", "files or records", reason.replace("_", " "), number)


def _redrawn(outcomes: Outcomes) -> Iterator[dict[str, Any]]:
    """Simulations that were repeated with the same parameters."""
    redrawn: Counter[str] = Counter()
    examples = 0
    for path in shard_paths(outcomes.results.simulations(0).parent):
        attributes = read_shard(path, kind="simulations").attributes
        redrawn.update(attributes.get("redrawn", {}))
        examples += attributes["num_examples"]
    for reason, number in redrawn.items():
        yield _row(SIMULATION, "simulations", f"simulated again: {reason}", number, examples + redrawn.total())


def _failed(outcomes: Outcomes) -> Iterator[dict[str, Any]]:
    """Draws from the prior that could not be simulated, and in whose place others were drawn."""
    failed: dict[str, list[dict[str, float]]] = {}
    scenarios: set[int] = set()
    for path in shard_paths(outcomes.results.simulations(0).parent):
        shard = read_shard(path, kind="simulations")
        scenarios.update(np.unique(shard["scenario"]).tolist())
        for draw in shard.attributes.get("failed", []):
            failed.setdefault(draw["reason"], []).append(draw["parameters"])
    total = len(scenarios) + sum(map(len, failed.values()))
    for reason, draws in failed.items():
        where = ", ".join(f"{name} = {value:.4g}" for name, value in draws[0].items())
        why = f"cannot be simulated, others drawn in their place: {reason} (the first: {where})"
        yield _row(SIMULATION, "draws from the prior", why, len(draws), total)


def _dropped_simulations(outcomes: Outcomes) -> Iterator[dict[str, Any]]:
    paths = shard_paths(outcomes.results.dataset(0).parent)
    if not paths:
        return
    reasons: list[str] = []
    sites = cropped = empty = examples = 0
    by_reason: Any = 0
    for path in paths:
        shard = read_shard(path, kind="dataset")
        reasons = shard.attributes["dropped_reasons"]
        in_window, in_array = shard["num_sites_window"], shard["num_sites"]
        sites += int(in_window.sum())
        cropped += int((in_window - in_array).sum())
        empty += int((in_array == 0).sum())
        examples += len(in_array)
        by_reason = by_reason + shard["dropped"].sum(axis=0)
    total = sites + int(by_reason.sum())
    yield _row(SIMULATION, "simulations", "without a site in the array", empty, examples)
    for reason, number in zip(reasons, by_reason, strict=True):
        yield _row(SIMULATION, "sites", reason.replace("_", " "), number, total)
    yield _row(SIMULATION, "sites", "beyond the crop (encoding.max_sites, crop_length)", cropped, total)
    if outcomes.results.splits.is_file():
        split = read_splits(outcomes.results.splits)["split"]
        yield _row(
            SIMULATION,
            "simulations",
            "in no split (unused)",
            (split == "unused").sum(),
            len(split),
        )


def _missing_targets(outcomes: Outcomes) -> Iterator[dict[str, Any]]:
    for described in outcomes.targets.values():
        number = sum(described["num_missing"].values())
        yield _row(
            SIMULATION, f"values of {described['label']}", "missing, masked in the loss and in the scores", number
        )


def _dropped_windows(outcomes: Outcomes, name: str) -> Iterator[dict[str, Any]]:
    shard = read_shard(outcomes.results.application(name) / "windows.zarr", kind="windows")
    for why, number in shard.attributes["records"].items():
        yield _row(name, "VCF records", why.replace("_", " "), number)
    in_window, in_array = shard["num_sites_window"], shard["num_sites"]
    by_reason = shard["dropped"].sum(axis=0)
    total = float(in_window.sum() + by_reason.sum())
    for reason, number in zip(shard.attributes["dropped_reasons"], by_reason, strict=True):
        yield _row(name, "sites", reason.replace("_", " "), number, total)
    cropped = (in_window - in_array).sum()
    yield _row(name, "sites", "beyond the crop (encoding.max_sites, crop_length)", cropped, total)
    windows = outcomes.windows[name][outcomes.best]
    if "n_sites_dropped" in windows:
        left_out = windows["n_sites_dropped"].sum()
        yield _row(name, "sites", f"left out by transforms.prediction of {outcomes.best}", left_out, total)
    for why, number in Counter(filter(None, shard.attributes["reasons"])).most_common():
        yield _row(name, "windows", f"no prediction: {why}", number, len(in_window))


def run_times(outcomes: Outcomes) -> list[dict[str, Any]]:
    """Time and memory of each rule, from Snakemake's benchmark files; empty where the study ran without Snakemake."""
    jobs = _jobs(outcomes.results.folder)
    rows = []
    for name, part in jobs.groupby("rule", sort=False):
        rows.append(
            {
                "rule": str(name).replace("_", " "),
                "jobs": len(part),
                "seconds": float(part["s"].sum()),
                "cpu": float(part["cpu_time"].sum()),
                "memory": float(np.nan_to_num(part["max_rss"].max())),
            }
        )
    return sorted(rows, key=lambda row: -row["cpu"])


def cpu_seconds(folder: Path) -> float | None:
    """CPU time of all jobs of a study whose results are in a folder; None where it ran without Snakemake."""
    jobs = _jobs(folder)
    return None if jobs.empty else float(jobs["cpu_time"].sum())


def _jobs(folder: Path) -> pd.DataFrame:
    """Time and memory of each job, from Snakemake's benchmark files."""
    columns = ["s", "max_rss", "cpu_time"]
    parts = []
    for path in sorted((folder / "benchmarks").rglob("*.tsv")):
        table = pd.read_csv(path, sep="\t", na_values=["-", "NA"])
        if set(columns) <= set(table.columns):
            rule = path.relative_to(folder / "benchmarks").with_suffix("").parts[0]
            parts.append(table[columns].astype(float).assign(rule=rule))
    return pd.concat(parts) if parts else pd.DataFrame(columns=[*columns, "rule"])


def versions(outcomes: Outcomes) -> dict[str, str]:
    """Software that made the results: what the model's card and the simulations say."""
    found = dict(read_card(outcomes.results.shared_model).get("versions", {}))
    for path in shard_paths(outcomes.results.simulations(0).parent)[:1]:
        found = {**read_shard(path, kind="simulations").attributes["versions"], **found}
    return found


def references(outcomes: Outcomes) -> list[str]:
    """Papers behind the methods that this study used."""
    from popdl.networks._base import Network, network_name  # needs torch, which takes seconds to import

    study = outcomes.study
    simulator = None if study.simulation is None else study.simulation.simulator
    used = [] if simulator in (None, "command") else ["msprime"]
    used += ["stdpopsim"] if simulator == "stdpopsim" else []
    networks = [
        plugins.load("networks", network_name(key, options), Network).citation
        for key, options in study.networks.items()
    ]
    return [
        *(REFERENCES[key] for key in used),
        *sorted({citation for citation in networks if citation is not None}),
        *(REFERENCES[key] for key in ("intervals", "scikit-learn", "snakemake")),
    ]
