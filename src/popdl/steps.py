"""Each step of a study on its own, from its config: what the command line calls.

Snakemake runs the same functions job by job. A step takes what earlier steps left in the results folder, leaves alone what is
already there where that is a finished shard or model, and makes everything else anew.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

from popdl.config.study import Study, write_study
from popdl.errors import PopdlError
from popdl.layout import ENSEMBLE, Results, baseline_name
from popdl.trials import num_trials, trial_over

__all__ = ["apply", "encode", "evaluate", "import_", "network_names", "report", "simulate", "split", "train"]

log = logging.getLogger("popdl")


def shards(study: Study) -> range:
    """Numbers of all shards of a study."""
    return range(-(-study.source.num_examples // study.source.shard_size))


def network_names(study: Study) -> list[str]:
    """Every training of a study as ``network/replicate``."""
    return [f"{key}/{replicate}" for key in study.networks for replicate in range(study.training.replicates)]


def predictors(study: Study, results: Results) -> dict[str, Path]:
    """The file behind every name that predicts: each training, and the ensemble of each network that has replicates."""
    ensembles = study.networks if study.training.replicates > 1 else []
    return {
        **{name: results.model(name) for name in network_names(study)},
        **{f"{key}/{ENSEMBLE}": results.ensemble(key) for key in ensembles},
    }


def _need(paths: Iterable[Path], step: str) -> list[Path]:
    paths = list(paths)
    missing = [path for path in paths if not path.exists()]
    if missing:
        raise PopdlError(
            f"{missing[0]} is missing ({len(missing)} of {len(paths)} files are); run `popdl {step}` first."
        )
    return paths


def _dataset(study: Study, results: Results) -> list[Path]:
    return _need((results.dataset(shard) for shard in shards(study)), "encode")


def simulate(study: Study, results: Results, *, only: Iterable[int] | None = None) -> None:
    """Simulate the shards that are not there yet."""
    from popdl.simulation import simulate_shard

    simulation = study.simulation
    if simulation is None:
        raise PopdlError("this study imports its data: run `popdl import` instead.")
    _fill(study, results, partial(simulate_shard, simulation, seed=study.seed), only)


def import_(study: Study, results: Results, *, only: Iterable[int] | None = None) -> None:
    """Import the shards that are not there yet, after looking at all of the data once."""
    from popdl.importing import import_shard, read_survey, write_survey

    if study.import_ is None:
        raise PopdlError("this study has no `import:` section: run `popdl simulate` instead.")
    write_survey(study.import_, results.survey)
    found = read_survey(results.survey)
    _fill(study, results, partial(import_shard, study.import_, found, seed=study.seed), only)


def _fill(study: Study, results: Results, write: Callable[..., None], only: Iterable[int] | None) -> None:
    """Write raw shards that are not there yet, and their index once all are."""
    from popdl.store import write_index

    for shard in shards(study) if only is None else only:
        if shard not in shards(study):
            raise PopdlError(f"shard {shard}: this study has shards 0 to {shards(study)[-1]}.")
        output = results.simulations(shard)
        if output.exists():
            log.info("%s is there already.", output)
            continue
        write(shard=shard, output=output)
    log.info("%s: %d of %d shards are there.", results.simulations(0).parent, *_there(study, results))
    paths = [results.simulations(shard) for shard in shards(study)]
    if all(path.exists() for path in paths):
        write_index(paths[0].parent, kind="simulations", shards=paths)


def _there(study: Study, results: Results) -> tuple[int, int]:
    """How many raw shards there are, and how many there will be."""
    return sum(results.simulations(shard).exists() for shard in shards(study)), len(shards(study))


def encode(study: Study, results: Results) -> None:
    """Encode the simulated shards."""
    from popdl.dataset import encode_shard
    from popdl.encoding import Encoder
    from popdl.store import write_index

    _need((results.simulations(shard) for shard in shards(study)), "simulate" if study.simulation else "import")
    for shard in shards(study):
        encode_shard(
            results.simulations(shard),
            results.dataset(shard),
            encoding=study.encoding,
            seed=study.seed,
            statistics=Encoder.of(study).statistics,
        )
    paths = [results.dataset(shard) for shard in shards(study)]
    write_index(paths[0].parent, kind="dataset", shards=paths)
    log.info("%s: %d examples are encoded.", paths[0].parent, study.source.num_examples)


def split(study: Study, results: Results) -> None:
    """Assign scenarios to training, validation and test."""
    from popdl.splits import make_splits

    make_splits(
        _dataset(study, results),
        settings=study.splits,
        targets=study.targets,
        seed=study.seed,
        output=results.splits,
        targets_output=results.targets,
    )


def train(study: Study, results: Results, *, only: Iterable[str] | None = None) -> None:
    """Search for settings where the study says so, and train networks; one that was interrupted goes on from its last epoch."""
    from popdl.search import train_chosen

    _need([results.splits, results.targets], "split")
    names = network_names(study) if only is None else list(only)
    for name in names:
        if name not in network_names(study):
            raise PopdlError(f"{name!r} is not a training of this study; known: {', '.join(network_names(study))}.")
    choices = {}
    for key in dict.fromkeys(name.rpartition("/")[0] for name in names):
        choices[key] = _search(study, results, key)
    for name in names:
        key, _, replicate = name.rpartition("/")
        train_chosen(
            choices[key],
            replicate=int(replicate),
            output=results.model(name),
            history=results.history(name),
            checkpoint=results.checkpoint(name),
            tensorboard=results.tensorboard(name),
            **_training(study, results, key),
        )


def _training(study: Study, results: Results, key: str) -> dict[str, Any]:
    """What all trainings of a network share."""
    source = study.source.model_dump(mode="json")
    return {
        "study": study.study,
        "key": key,
        "options": study.networks[key],
        "training": study.training.model_dump(mode="json", exclude={"replicates", "workers"}),
        "simulation": study.simulation.model_dump(mode="json") if study.simulation else None,
        "num_workers": study.training.workers or 1,
        "evaluation": study.evaluation,
        "transforms": study.transforms,
        "seed": study.seed,
        "shards": _dataset(study, results),
        "splits": results.splits,
        "targets": results.targets,
        "priors": {key: source[key] for key in ("parameters", "mutation_rate", "recombination_rate") if key in source},
        "about": study.about,
    }


def _search(study: Study, results: Results, key: str) -> Path | None:
    """Run all trials of a network and choose one; None if nothing is searched for it."""
    from popdl.search import choose_trial, run_trial, write_search_table

    search = study.search.model_dump(mode="json") if study.search else None
    if not search or not num_trials(search, key):
        return None
    trials = [results.trial(key, number) for number in range(num_trials(search, key))]
    for number, folder in enumerate(trials):
        run_trial(
            over=trial_over(search, key, number),
            trial=number,
            output=folder,
            checkpoint=folder.with_name(f".{number}.checkpoint"),
            tensorboard=results.tensorboard(f"search/{key}/{number}"),
            **_training(study, results, key),
        )
    choose_trial(trials, output=results.choice(key))
    choices = [results.choice(other) for other in study.networks if results.choice(other).exists()]
    write_search_table(choices, results.search_table)
    return results.choice(key)


def evaluate(study: Study, results: Results) -> None:
    """Score networks and baselines on the test split, and publish the best network."""
    from popdl.baselines._base import fit_baseline
    from popdl.evaluation import evaluate as score
    from popdl.model import publish_model
    from popdl.prediction import combine_replicates, predict_test

    names = network_names(study)
    _need((results.model(name) for name in names), "train")
    for name, file in predictors(study, results).items():
        if name not in names:
            key = name.rpartition("/")[0]
            members = [results.model(f"{key}/{replicate}") for replicate in range(study.training.replicates)]
            combine_replicates(members, shards=_dataset(study, results), splits=results.splits, output=file)
        predict_test(
            file,
            shards=_dataset(study, results),
            splits=results.splits,
            output=results.test_predictions(name),
        )
    for baseline in study.baselines:
        fit_baseline(
            baseline,
            shards=_dataset(study, results),
            splits=results.splits,
            targets=results.targets,
            evaluation=study.evaluation,
            seed=study.seed,
            output=results.baseline(baseline),
        )
    score(
        networks={name: (results.test_predictions(name), results.model(name)) for name in names},
        baselines={baseline: results.baseline(baseline) for baseline in study.baselines},
        targets=results.targets,
        evaluation=study.evaluation,
        seed=study.seed,
        output=results.metrics,
        table=results.metrics_table,
        replicates=study.source.replicates,
        ensembles={name: results.test_predictions(name) for name in predictors(study, results) if name not in names},
    )
    publish_model({name: results.model(name) for name in names}, metrics=results.metrics, output=results.shared_model)
    log.info("The scores are in %s, the best network is %s.", results.metrics_table, results.shared_model)


def apply(study: Study, results: Results) -> None:
    """Predict every window of the study's applications, and compare them with the simulations."""
    from popdl.encoding import Encoder
    from popdl.genome import simulate_genome
    from popdl.prediction import predict_windows
    from popdl.realism import compare_windows
    from popdl.windows import encode_windows

    _need([results.shared_model], "evaluate")
    for name, application in study.applications.items():
        folder = results.application(name)
        vcf = application.vcf
        if application.simulate is not None:
            vcf = folder / "genome.vcf.gz"
            assert study.simulation is not None
            simulate_genome(study.simulation, application.simulate, seed=study.seed, name=name, output=vcf)
        assert vcf is not None
        windows = folder / "windows.zarr"
        encode_windows(vcf, application=application, encoder=Encoder.of(study), seed=study.seed, output=windows)
        for predictor, file in predictors(study, results).items():
            predict_windows(
                [file],
                windows=windows,
                output=folder / f"{predictor}.windows.tsv",
                bed=folder / f"{predictor}.windows.bed",
            )
        compare_windows(results.shared_model, windows=windows, output=folder / "realism.tsv")
        if application.compare is not None:
            _compare_with_map(study, results, name)


def _compare_with_map(study: Study, results: Results, name: str) -> None:
    """Predict the windows of an application with the baselines, too, and correlate everything with its recombination map."""
    from popdl.baselines._base import apply_baseline
    from popdl.comparison import compare_with_map

    application, folder = study.applications[name], results.application(name)
    assert application.compare is not None and application.windows.size is not None
    for baseline in study.baselines:
        apply_baseline(
            baseline,
            shards=_dataset(study, results),
            splits=results.splits,
            targets=results.targets,
            evaluation=study.evaluation,
            seed=study.seed,
            windows=folder / "windows.zarr",
            output=folder / "baselines" / f"{baseline_name(baseline)}.windows.tsv",
        )
    methods = {name: name for name in predictors(study, results)}
    methods |= {baseline: f"baselines/{baseline_name(baseline)}" for baseline in study.baselines}
    compare_with_map(
        {method: folder / f"{file}.windows.tsv" for method, file in methods.items()},
        comparison=application.compare,
        window=application.windows.size,
        output=folder / "comparison.tsv",
        table=folder / "correlations.tsv",
    )


def report(study: Study, results: Results) -> None:
    """Draw the figures and write the report."""
    from popdl.plots.figures import make_figures
    from popdl.report import write_report

    _need([results.metrics, results.shared_model], "evaluate")
    write_study(study, results.config)
    make_figures(results=results.folder, study=study, output=results.figures)
    write_report(results=results.folder, study=study, output=results.report)
    log.info("The report is %s.", results.report)
