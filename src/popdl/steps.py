"""Each step of a study on its own, from its config: what the command line calls.

Snakemake runs the same functions job by job. A step takes what earlier steps left in the results folder, leaves alone what is
already there where that is a finished shard or model, and makes everything else anew.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, Literal

from popdl.config.study import Study, write_study
from popdl.errors import PopdlError
from popdl.layout import ENSEMBLE, Results, baseline_name
from popdl.trials import draw_values, num_trials, of_source, trial_over

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

    for varied, place in _sources(study, results):
        if varied.simulation is None:
            raise PopdlError("this study imports its data: run `popdl import` instead.")
        _fill(varied, place, partial(simulate_shard, varied.simulation, seed=study.seed), only)


def _sources(study: Study, results: Results) -> list[tuple[Study, Results]]:
    """Every study to simulate or import for, with its place: one, unless a search varies what is simulated or imported."""
    from popdl.variants import variants

    places = {variant.source: variant.study for variant in variants(study, results)}
    return [(varied, place) for place, varied in places.items()]


def import_(study: Study, results: Results, *, only: Iterable[int] | None = None) -> None:
    """Import the shards that are not there yet, after looking at all of the data once."""
    from popdl.importing import import_shard, read_survey, write_survey

    for varied, place in _sources(study, results):
        if varied.import_ is None:
            raise PopdlError("this study has no `import:` section: run `popdl simulate` instead.")
        write_survey(varied.import_, place.survey)
        found = read_survey(place.survey)
        _fill(varied, place, partial(import_shard, varied.import_, found, seed=study.seed), only)


def _fill(study: Study, results: Results, write: Callable[..., None], only: Iterable[int] | None) -> None:
    """Write raw shards that are not there yet, and their index once all are."""
    from popdl.store_index import write_index

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
    from popdl.store_index import write_index
    from popdl.variants import variants

    for variant in variants(study, results):
        raw = (variant.source.simulations(shard) for shard in shards(study))
        for shard, path in enumerate(_need(raw, "simulate" if study.simulation else "import")):
            encode_shard(
                path,
                variant.results.dataset(shard),
                encoding=variant.study.encoding,
                seed=study.seed,
                statistics=Encoder.of(variant.study).statistics,
            )
        paths = [variant.results.dataset(shard) for shard in shards(study)]
        write_index(paths[0].parent, kind="dataset", shards=paths)
        log.info("%s: %d examples are encoded.", paths[0].parent, study.source.num_examples)


def split(study: Study, results: Results) -> None:
    """Assign scenarios to training, validation and test."""
    from popdl.splits import make_splits
    from popdl.variants import variants

    for variant in variants(study, results):
        make_splits(
            _dataset(study, variant.results),
            settings=study.splits,
            targets=study.targets,
            seed=study.seed,
            output=variant.results.splits,
            targets_output=variant.results.targets,
        )


def train(study: Study, results: Results, *, only: Iterable[str] | None = None) -> None:
    """Search for settings where the study says so, and train networks; one that was interrupted goes on from its last epoch."""
    from popdl.search import train_chosen
    from popdl.variants import chosen_study, variants

    for variant in variants(study, results):
        _need([variant.results.splits, variant.results.targets], "split")
    names = network_names(study) if only is None else list(only)
    for name in names:
        if name not in network_names(study):
            raise PopdlError(f"{name!r} is not a training of this study; known: {', '.join(network_names(study))}.")
    choices = _search(study, results, list(dict.fromkeys(name.rpartition("/")[0] for name in names)))
    study = chosen_study(study, results)
    for name in names:
        key, _, replicate = name.rpartition("/")
        train_chosen(
            choices.get(key),
            replicate=int(replicate),
            output=results.model(name),
            history=results.history(name),
            checkpoint=results.checkpoint(name),
            tensorboard=results.tensorboard(name),
            **_training(study, results, key),
        )


def _training(study: Study, results: Results, key: str) -> dict[str, Any]:
    """What all trainings of a network share."""
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
        **of_source(study.source.model_dump(mode="json"), study.about),
    }


def _search(study: Study, results: Results, keys: list[str]) -> dict[str, Path]:
    """Run all trials of some networks and choose one of each, and the data where the search has any to choose; gives the choices."""
    from popdl.search import choose_trial, write_search_table
    from popdl.variants import searched

    search = study.search.model_dump(mode="json") if study.search else None
    data = results.chosen_data if searched(study) else None
    if data:
        keys = list(study.networks)  # the best trial of any of them chooses for all
    keys = [key for key in keys if num_trials(search, key)]
    if search is None or not keys:
        return {}
    trials = {key: [results.trial(key, number) for number in range(num_trials(search, key))] for key in keys}
    for key in keys:
        _run_trials(study, results, key, trials[key])
    if data:
        _choose_data(study, results, [folder for key in keys for folder in trials[key]])
    for key in keys:
        choose_trial(trials[key], output=results.choice(key), data=data)
    choices = [results.choice(other) for other in study.networks if results.choice(other).exists()]
    write_search_table(choices, results.search_table)
    return {key: results.choice(key) for key in keys}


def _run_trials(study: Study, results: Results, key: str, folders: list[Path]) -> None:
    """Train a network once with the settings of each trial."""
    from popdl.search import run_trial
    from popdl.variants import trial_variant, variants

    assert study.search is not None
    search, known = study.search.model_dump(mode="json"), variants(study, results)
    for number, folder in enumerate(folders):
        over = trial_over(search, key, number)
        variant = trial_variant(known, draw_values(over, trial=number, seed=study.seed))
        run_trial(
            over=over,
            trial=number,
            output=folder,
            checkpoint=folder.with_name(f".{number}.checkpoint"),
            tensorboard=results.tensorboard(f"search/{key}/{number}"),
            **_training(variant.study, variant.results, key),
        )


def _choose_data(study: Study, results: Results, trials: list[Path]) -> None:
    """Choose among the variants of the data, and make the chosen one the study's own."""
    from popdl.store_index import write_index
    from popdl.trials import source_variants
    from popdl.variants import adopt_files, adopt_shard, choose_data, searched

    values = study.model_dump(mode="json")
    sections = {name: values[name] for name in ("encoding", study.section)}
    found = searched(study)
    choose_data(trials, variants=found, sections=sections, output=results.chosen_data)
    kinds: list[Literal["simulations", "dataset"]] = ["dataset"]
    if source_variants(found):
        kinds.append("simulations")
    for kind in kinds:
        for shard in shards(study):
            adopt_shard(results.chosen_data, kind=kind, shard=shard)
        place = results.simulations if kind == "simulations" else results.dataset
        write_index(place(0).parent, kind=kind, shards=[place(shard) for shard in shards(study)])
    adopt_files(results.chosen_data)


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
            statistics=study.baseline_statistics,
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
    from popdl.variants import chosen_study
    from popdl.windows import encode_windows

    _need([results.shared_model], "evaluate")
    study = chosen_study(study, results)
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
            statistics=study.baseline_statistics,
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
    from popdl.variants import chosen_study

    _need([results.metrics, results.shared_model], "evaluate")
    write_study(study, results.config)
    study = chosen_study(study, results)
    make_figures(results=results.folder, study=study, output=results.figures)
    write_report(results=results.folder, study=study, output=results.report)
    log.info("The report is %s.", results.report)
