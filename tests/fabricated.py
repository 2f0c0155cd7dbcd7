"""A results folder with made-up numbers, complete and small, for the tests of evaluation, figures and report."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from popdl.config.study import Study, build_study
from popdl.config.training import Evaluation
from popdl.evaluation import evaluate
from popdl.layout import Results
from popdl.realism import compare_windows, fit_reference
from popdl.steps import network_names, predictors
from popdl.store import write_shard

SIMULATOR = Path(__file__).with_name("made_up.py")
STATISTICS = [
    "segregating_sites",
    "pi",
    "wattersons_theta",
    "tajimas_d",
    *(f"sfs_{count}" for count in range(1, 9)),
    "h1",
    "h12",
    "missing_fraction",
]
CLASSES = ["bottleneck", "constant", "growth"]


def study(*, classification: bool = True, applications: bool = True, **changes) -> Study:
    """The study that the numbers pretend to come from."""
    values = {
        "study": "fabricated",
        "description": "A population changed its size once. How large is it today, and when did it change?",
        "seed": 7,
        "simulation": {
            "simulator": f"{SIMULATOR}:MadeUp",
            "num_haplotypes": 50,
            "sequence_length": 1e6,
            "mutation_rate": 1e-8,
            "recombination_rate": 1e-8,
            "parameters": {
                "recent_size": {"loguniform": [5000, 50000]},
                "event_time": {"uniform": [80, 4000]},
                "change": {"choice": CLASSES},
            },
            "num_scenarios": 3000,
        },
        "targets": {
            "recent_size": {"scale": "log", "label": "Recent size", "unit": "individuals"},
            "event_time": {"label": "Time of the change", "unit": "generations"},
        },
        "networks": {"exchangeable": {}, "cnn": {"name": "flagel"}},
        "baselines": ["prior_mean", "ridge_sfs", "boosted_trees"],
    }
    if classification:
        values["targets"]["change"] = {"task": "classification", "label": "Kind of change"}
    if applications:
        known = {"recent_size": 20000, "event_time": 1000, "change": 2}
        values["applications"] = {
            "simulated_genome": {
                "simulate": {"parameters": known, "sequence_length": 1e7, "num_individuals": 25},
                "windows": {"size": 1e6},
            },
            "ceu": {"vcf": "resources/chr20.vcf.gz", "build": "GRCh37", "windows": {"size": 1e6}},
        }
    return build_study({**values, **changes})


def fabricate(folder: Path, study: Study, *, errors: dict[str, float], num_test: int = 300) -> Results:
    """Write everything that evaluation, figures and report read.

    ``errors`` gives each network's and baseline's error as a share of the prior's spread: 1 is as bad as the prior.
    """
    results = Results(folder)
    generator = np.random.default_rng(5)
    _write(results.targets, json.dumps(described_targets(study)))
    truth = {
        "recent_size": 10 ** generator.uniform(np.log10(5000), np.log10(50000), num_test),
        "event_time": generator.uniform(80, 4000, num_test),
        "change": generator.integers(3, size=num_test),
    }
    models = network_names(study)
    ensembles = [name for name in predictors(study, results) if name not in models]
    for number, name in enumerate([*models, *study.baselines, *ensembles]):
        path = results.baseline(name) if name in study.baselines else results.test_predictions(name)
        table = predictions(study, truth, error=errors[name], generator=np.random.default_rng(number))
        path.parent.mkdir(parents=True, exist_ok=True)
        table.to_csv(path, sep="\t", index=False, na_rep=".")
    simulated = _statistics(1000, generator)
    for name in models:
        loss = _write_history(results.history(name), loss=errors[name], generator=generator)
        _write_model(results.model(name), key=name.split("/")[0], study=study, loss=loss, statistics=simulated)
    results.shared_model.write_bytes(results.model(models[0]).read_bytes())
    _write_dataset(results, truth, generator)
    evaluate(
        networks={name: (results.test_predictions(name), results.model(name)) for name in models},
        baselines={name: results.baseline(name) for name in study.baselines},
        targets=results.targets,
        evaluation=Evaluation(),
        seed=study.seed,
        output=results.metrics,
        table=results.metrics_table,
        ensembles={name: results.test_predictions(name) for name in ensembles},
    )
    for name in study.applications:
        _write_application(results, name, [*models, *ensembles], study, generator)
    _write(results.config, yaml.safe_dump(study.model_dump(mode="json", exclude_none=True), sort_keys=False))
    header = "s\th:m:s\tmax_rss\tmax_vms\tmax_uss\tmax_pss\tio_in\tio_out\tmean_load\tcpu_time"
    for rule, seconds in (
        ("simulate/0", 31.2),
        ("simulate/1", 29.8),
        ("train/exchangeable/0", 95.5),
        ("evaluate", 4.0),
    ):
        row = f"{seconds}\t0:00:{seconds:02.0f}\t312.5\t-\t-\t-\t0\t0\t98.1\t{seconds * 0.98:.2f}"
        _write(folder / "benchmarks" / f"{rule}.tsv", f"{header}\n{row}\n")
    return results


def described_targets(study: Study) -> dict[str, dict]:
    """What the splits write about each target."""
    ranges = {"recent_size": (5000.0, 50000.0), "event_time": (80.0, 4000.0), "change": (0.0, 2.0)}
    return {
        name: {
            "task": target.task,
            "scale": target.scale,
            "label": target.label or name,
            "unit": target.unit,
            "classes": CLASSES if target.task == "classification" else [],
            "weight": 1.0,
            "mean": None if target.task == "classification" else 1.0,
            "sd": None if target.task == "classification" else 1.0,
            "low": None if target.task == "classification" else ranges[name][0],
            "high": None if target.task == "classification" else ranges[name][1],
            "num_missing": {"train": 3, "validation": 0, "test": 0},
        }
        for name, target in study.targets.items()
    }


def predictions(study: Study, truth: dict, *, error: float, generator: np.random.Generator) -> pd.DataFrame:
    """Predictions that shrink towards the prior's mean as the best predictor with such an error would."""
    columns: dict = {"example": np.arange(len(truth["change"]))}
    for name, target in study.targets.items():
        values = truth[name]
        if target.task == "classification":
            scores = 3 * (1 - error) * np.eye(3)[values] + generator.gumbel(size=(len(values), 3)) * 0.5
            probabilities = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
            columns[f"{name}_true"] = [CLASSES[value] for value in values]
            columns[name] = [CLASSES[value] for value in probabilities.argmax(axis=1)]
            columns |= {f"{name}_p_{label}": probabilities[:, index] for index, label in enumerate(CLASSES)}
            continue
        log = target.scale == "log"
        scaled = np.log10(values) if log else values
        spread, mean = scaled.std(), scaled.mean()
        slope = max(1 - error**2, 0)
        predicted = mean + slope * (scaled - mean) + generator.normal(0, error * np.sqrt(slope) * spread, len(values))
        half = np.quantile(np.abs(predicted - scaled), 0.9)
        ends = {name: predicted, f"{name}_low": predicted - half, f"{name}_high": predicted + half}
        columns[f"{name}_true"] = values
        columns |= {key: 10**value if log else value for key, value in ends.items()}
    return pd.DataFrame(columns)


def _write_model(path: Path, *, key: str, study: Study, loss: float, statistics: np.ndarray) -> None:
    """A model file with a valid card and no weights."""
    card = {
        "format_version": 1,
        "network": {"key": key, "name": key, "options": {}, "source": None, "sha256": None},
        "shape": {"num_haplotypes": 50, "max_sites": 400, "has_positions": False},
        "encoding": {"ploidy": 2, "sequence_length": 1e6, "settings": {}},
        "fingerprint": "x",
        "targets": described_targets(study),
        "positions": None,
        "intervals": {"coverage": 0.9, "half_widths": {}},
        "realism": fit_reference(statistics, STATISTICS, domain=0.99),
        "validation_loss": loss,
        "weights_sha256": "",
        "versions": {"popdl": "0.1.0", "torch": "2.13.0", "numpy": "2.3.5"},
        "num_parameters": 123456,
    }
    header = json.dumps({"__metadata__": {"popdl": json.dumps(card)}}).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(len(header).to_bytes(8, "little") + header)


def _write_history(path: Path, *, loss: float, generator: np.random.Generator) -> float:
    """Curves that fall towards ``loss``; returns the lowest validation loss."""
    epochs = np.arange(1, 16)
    train = loss + (1.2 - loss) * np.exp(-epochs / 3) + generator.normal(0, 0.01, 15)
    validation = train + 0.02 + 0.004 * epochs
    table = pd.DataFrame({"epoch": epochs, "train_loss": train, "validation_loss": validation, "learning_rate": 1e-3})
    path.parent.mkdir(parents=True, exist_ok=True)
    table.assign(seconds=3.1, examples_per_second=700.0, waiting_share=0.012).to_csv(path, index=False)
    return float(validation.min())


def _statistics(count: int, generator: np.random.Generator, *, shift: float = 0.0) -> np.ndarray:
    theta = generator.lognormal(6 + shift, 0.5, count)
    spectrum = generator.poisson(theta[:, None] / np.arange(1, 9))
    sites = spectrum.sum(axis=1)
    diversity, tajima = theta * generator.normal(1, 0.1, count) / 1e6, generator.normal(0, 0.6, count)
    haplotypes = generator.beta(2, 30, count)
    columns = [sites, diversity, sites / 4.5e6, tajima, *spectrum.T, haplotypes, haplotypes * 1.4, np.zeros(count)]
    return np.column_stack(columns)


def _write_dataset(results: Results, truth: dict, generator: np.random.Generator) -> None:
    """Shards of 50 examples; those of the test split, and what they were simulated with, come first."""
    num_test = len(truth["change"])
    count = 50
    for shard in range(max(2, -(-num_test // count))):
        rows = np.arange(shard * count, (shard + 1) * count) % num_test
        write_shard(
            results.dataset(shard),
            kind="dataset",
            arrays={
                "statistics": _statistics(count, generator),
                "parameters": np.column_stack([values[rows].astype(float) for values in truth.values()]),
                "num_sites": np.full(count, 400, dtype=np.int32),
                "num_sites_window": generator.integers(401, 900, count).astype(np.int32),
                "dropped": generator.integers(0, 5, (count, 2)),
            },
            attributes={
                "statistics": STATISTICS,
                "dropped_reasons": ["multiallelic", "duplicate_position"],
                "parameters": list(truth),
                "classes": {"change": CLASSES},
                "num_examples": count,
                "first_example": shard * count,
                "fingerprint": "x",
            },
        )


def _write_application(
    results: Results, name: str, models: list[str], study: Study, generator: np.random.Generator
) -> None:
    folder = results.application(name)
    count = 10
    real = name == "ceu"
    statistics = _statistics(count, generator, shift=0.3 if real else 0.0)
    if real:
        statistics[2, -1] = 0.02
        statistics[5, 3] = 7.5
    start = np.arange(count) * 1_000_000
    reasons = [""] * count
    reasons[7] = "0 sites, 1 needed" if real else ""
    write_shard(
        folder / "windows.zarr",
        kind="windows",
        arrays={
            "statistics": statistics,
            "start": start,
            "end": start + 1_000_000,
            "num_sites": np.full(count, 400, dtype=np.int32),
            "num_sites_window": np.full(count, 700, dtype=np.int32),
            "dropped": generator.integers(0, 5, (count, 2)),
        },
        attributes={
            "statistics": STATISTICS,
            "dropped_reasons": ["multiallelic", "duplicate_position"],
            "contigs": ["20"] * count,
            "reasons": reasons,
            "records": {"multiallelic": 4, "not a SNV": 31} if real else {},
            "samples": [f"NA{index}" for index in range(25)],
            "vcf": "chr20.vcf.gz" if real else "genome.vcf.gz",
            "build": "GRCh37" if real else None,
        },
    )
    compare_windows(results.shared_model, windows=folder / "windows.zarr", output=folder / "realism.tsv")
    outside = pd.read_csv(folder / "realism.tsv", sep="\t").groupby("start")["outside_domain"].first().to_numpy()
    truth = {
        "recent_size": np.full(count, 20000.0) * 10 ** generator.normal(0, 0.08, count),
        "event_time": np.clip(generator.normal(1000, 300, count), 100, 3900),
        "change": np.full(count, 2),
    }
    for model in models:
        table = predictions(study, truth, error=0.35, generator=generator).drop(columns="example")
        for target, settings in study.targets.items():
            del table[f"{target}_true"]
            if settings.task == "regression":
                table[target] = truth[target]
                table[f"{target}_low"], table[f"{target}_high"] = truth[target] * 0.7, truth[target] * 1.4
        table = table.astype(object)
        table.loc[[index for index, reason in enumerate(reasons) if reason]] = np.nan
        table.insert(0, "contig", "20")
        table.insert(1, "start", start)
        table.insert(2, "end", start + 1_000_000)
        table.insert(3, "n_sites", 700)
        table["outside_domain"] = [value if not reason else "." for value, reason in zip(outside, reasons, strict=True)]
        table["reason"] = [reason or "." for reason in reasons]
        path = folder / f"{model}.windows.tsv"
        path.parent.mkdir(parents=True, exist_ok=True)
        table.to_csv(path, sep="\t", index=False, na_rep=".")


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
