"""Everything that is wrong with a study, found before any work is done."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from popdl import plugins, priors, seeds
from popdl.config.application import Application
from popdl.config.base import validate
from popdl.config.reading import numbers_from_strings
from popdl.config.study import Study, build_study
from popdl.config.training import Training
from popdl.config.transforms import Transforms
from popdl.dataset import encode_examples
from popdl.encoding import Encoder
from popdl.errors import PopdlError
from popdl.simulators._base import Example
from popdl.trials import changed, data_values, draw_values, num_trials, trial_over
from popdl.variants import searched, vary

if TYPE_CHECKING:
    from popdl.transforms._pipeline import Pipelines

if TYPE_CHECKING:
    from popdl.module import PopdlModule

__all__ = ["check_study", "read_study"]


MAX_RATE = 0.01
"""No genome mutates or recombines more often, per bp and generation; a simulation at such a rate may take all memory."""


def check_study(study: Study, *, config_only: bool = False) -> list[str]:
    """List every problem that the config's own types cannot see.

    Parameters
    ----------
    study
        A study whose sections are valid.
    config_only
        Look at networks and baselines only: not at genomes and maps, and simulate nothing.

    Returns
    -------
    list of str
        Empty if the study can run.
    """
    kinds, problems = _kinds(study)
    # A login node may have what Snakemake needs and no more; what is not looked at here, the jobs find.
    if find_spec("torch"):
        problems += _of_each(kinds, _check_networks) + _of_each(kinds, _check_losses)
    problems += _problems(partial(_check_trials, study, kinds))
    problems += _problems(partial(_check_baselines, study)) if find_spec("sklearn") else []
    problems = list(dict.fromkeys(problems))  # what is wrong with the optimizer is wrong for every network
    if config_only:
        return problems
    if find_spec("torch"):
        for key in study.networks if not problems else []:
            problems += _of_each(kinds, partial(_check_start, key=key))
    problems += _of_each(kinds, _check_one_draw if study.simulation else _check_import)
    problems += _of_each(kinds, _check_splits)
    for name, application in study.applications.items():
        found = _of_each(kinds, partial(_check_application, application))
        problems += [f"applications.{name}: {problem}" for problem in found]
    return problems


def read_study(values: Any, *, where: str) -> Study:
    """Build a study to be checked; where its sections are not valid, the options of networks and transforms are looked at too.

    Parameters
    ----------
    values
        What YAML or JSON gave.
    where
        Where it comes from, for messages.

    Raises
    ------
    PopdlError
        With everything that is wrong.
    """
    try:
        return build_study(values, where=where)
    except PopdlError as error:
        if not isinstance(values, dict) or not find_spec("torch"):
            raise
        plain = numbers_from_strings(values)
        wrong = option_problems(plain.get("networks"), plain.get("transforms"))
        lines = [f"  {line}" for lines in wrong.values() for line in lines]
        raise PopdlError("\n".join([str(error), *lines])) from None


def _kinds(study: Study) -> tuple[list[tuple[dict[str, Any], Study]], list[str]]:
    """The study with each of the data that its search chooses between, by the values that are searched, and why any cannot be."""
    kinds, problems = [], []
    for values in searched(study):
        try:
            kinds.append((values, vary(study, values)))
        except PopdlError as error:
            problems.append(f"search, {error}")
    return kinds if kinds or problems else [({}, study)], problems


def _of_each(kinds: list[tuple[dict[str, Any], Study]], check: Callable[[Study], list[str]]) -> list[str]:
    """What is wrong with each of the data of a study; once, where the same is wrong with all of them."""
    found = [_problems(partial(check, study)) for _, study in kinds]
    if all(problems == found[0] for problems in found):
        return found[0] if found else []
    return [
        f"search, {_words(values)}: {problem}"
        for (values, _), problems in zip(kinds, found, strict=True)
        for problem in problems
    ]


def _words(values: dict[str, Any]) -> str:
    return ", ".join(f"{key}: {value}" for key, value in values.items())


def _problems(check: Callable[[], list[str]]) -> list[str]:
    try:
        return check()
    except PopdlError as error:
        return [str(error)]


def _check_networks(study: Study) -> list[str]:
    """Run every network on one batch of each shape that the transforms give it, and try on a random one what it promises."""
    from popdl.networks._base import InputShape
    from popdl.networks._promises import broken_promises
    from popdl.transforms._pipeline import Pipelines

    wrong = option_problems(study.networks, study.transforms.model_dump())
    problems = [line for lines in wrong.values() for line in lines]
    try:
        transforms = Pipelines.of(study)
    except PopdlError as error:
        return [*problems, *str(error).splitlines()]
    for key, options in study.networks.items():
        if f"networks.{key}" in wrong:
            continue
        try:
            _check_network(key, options, transforms)
            problems += broken_promises(key, options, InputShape.after(transforms.prediction))
            _check_optimization(key, options, study.training, study, transforms)
        except PopdlError as error:
            problems += str(error).splitlines()
    return problems


def option_problems(networks: Any, transforms: Any) -> dict[str, list[str]]:
    """Everything that is wrong with the options of networks and transforms, whatever the rest of the config says.

    Parameters
    ----------
    networks, transforms
        Sections of a config as they were read; what is of another form is left to the config's own types.

    Returns
    -------
    dict
        By part, such as ``networks.cnn`` or ``transforms.train[1]``, a line for each problem.
    """
    from popdl.networks._base import settings_of
    from popdl.transforms._pipeline import settings_of as transform_settings

    checks: dict[str, Callable[[], object]] = {}
    for key, options in networks.items() if isinstance(networks, dict) else ():
        if isinstance(options, dict):
            checks[f"networks.{key}"] = partial(settings_of, key, options)
    for split, entries in transforms.items() if isinstance(transforms, dict) else ():
        for number, entry in enumerate(entries if isinstance(entries, list) else ()):
            if isinstance(entry, str | dict):
                where = f"transforms.{split}[{number}]"
                checks[where] = partial(transform_settings, entry, where=where)
    wrong = {}
    for where, check in checks.items():
        try:
            check()
        except PopdlError as error:
            wrong[where] = str(error).splitlines()
    return wrong


def _check_trials(study: Study, kinds: list[tuple[dict[str, Any], Study]]) -> list[str]:
    """Hold the settings of every trial of a search to the same rules as those of the config."""
    if study.search is None:
        return []
    if find_spec("torch"):
        from popdl.transforms._pipeline import Pipelines

    unchanged = study.transforms.model_dump(mode="json")
    search = study.search.model_dump(mode="json")
    training = study.training.model_dump(mode="json")
    problems = []
    for key, options in study.networks.items():
        tried = [(data, options, unchanged) for data, _ in kinds]  # those of the config are looked at already
        for trial in range(num_trials(search, key)):
            values = draw_values(trial_over(search, key, trial), trial=trial, seed=study.seed)
            data = data_values(values)
            varied = next((varied for known, varied in kinds if known == data), None)
            if varied is None:  # why is said already
                continue
            where = f"search, trial {trial} of {key} ({_words(values)})"
            try:
                trial_options, trial_training, lists = changed(key, options, training, unchanged, values)
                settings = validate(Training, trial_training, where="training")
                trial_lists = validate(Transforms, lists, where="transforms")
                if not find_spec("torch"):
                    continue
                transforms = Pipelines.of(varied.model_copy(update={"transforms": trial_lists}))
                if (data, trial_options, lists) not in tried:
                    tried.append((data, trial_options, lists))
                    _check_network(key, trial_options, transforms)
                _check_optimization(key, trial_options, settings, varied, transforms)
            except PopdlError as error:
                problems.append(f"{where}: {error}")
    return problems


def _check_network(key: str, options: dict[str, Any], transforms: Pipelines) -> None:
    from popdl.networks._base import InputShape, check

    check(key, options, InputShape.after(transforms.prediction), others=InputShape.others(transforms))


def _check_optimization(
    key: str, options: dict[str, Any], training: Training, study: Study, transforms: Pipelines
) -> None:
    """Make optimizer and schedule once, for a network without memory."""
    from popdl.optimization import make_optimizer, make_schedule

    steps_per_epoch = math.ceil(study.source.num_examples / training.batch_size)  # more or less: no step is taken
    optimizer = make_optimizer(_module(key, options, study, transforms), training)
    make_schedule(optimizer, training, steps_per_epoch=steps_per_epoch)


def _module(key: str, options: dict[str, Any], study: Study, transforms: Pipelines) -> PopdlModule:
    """A network with its heads, on a device without memory."""
    import torch

    from popdl.module import PopdlModule
    from popdl.networks._base import InputShape

    with torch.device("meta"):
        return PopdlModule(
            key,
            options,
            shape=InputShape.after(transforms.prediction),
            targets=_described(study),
            position_scaling=None,
            transforms=transforms.prediction,
        )


def _described(study: Study) -> dict[str, dict[str, Any]]:
    """The targets as ``targets.json`` will describe them, as far as that does not depend on the data."""
    described = {}
    for name, target in study.targets.items():
        prior = study.source.priors.get(name)
        classes = (prior.classes if prior else []) or ["", " "]
        described[name] = {
            **target.model_dump(mode="json"),
            "classes": classes if target.task == "classification" else [],
            "class_weights": target.class_weights if prior and isinstance(target.class_weights, dict) else None,
            "mean": 0.0,
            "sd": 1.0,
        }
    return described


def _check_losses(study: Study) -> list[str]:
    """Try every loss on a few predictions."""
    from popdl.losses import check_loss

    problems = []
    for name, described in _described(study).items():
        try:
            check_loss(name, described)
        except PopdlError as error:
            problems.append(str(error))
    return problems


def _check_start(study: Study, key: str) -> list[str]:
    """Look whether the weights that a network starts from fit it."""
    from popdl.finetuning import Start
    from popdl.networks._base import network_name
    from popdl.transforms._pipeline import Pipelines

    path = study.training.start_of(key)
    if path is not None:
        Start.read(path, fingerprint=Encoder.of(study).fingerprint).give(
            _module(key, study.networks[key], study, Pipelines.of(study)),
            key=key,
            network=network_name(key, study.networks[key]),
        )
    return []


def _check_baselines(study: Study) -> list[str]:
    from popdl.baselines._base import Baseline

    problems = []
    for name in study.baselines:
        needs = plugins.load("baselines", name, Baseline).needs
        if study.baseline_statistics is not None and not set(needs) <= set(study.baseline_statistics):
            problems.append(
                f"baselines: {name} needs the statistics {', '.join(needs)}; name them in `baseline_statistics`, or leave {name} out"
            )
    return problems


def _check_one_draw(study: Study) -> list[str]:
    """Draw once from the prior, simulate and encode: what a long run would otherwise meet first in its jobs."""
    assert study.simulation is not None
    parameters = priors.draw(study.simulation.priors, seeds.generator(study.seed, "parameters", 0))
    if high := {name for name in ("mutation_rate", "recombination_rate") if parameters.get(name, 0) > MAX_RATE}:
        return [
            f"simulation.{name}: expected a rate per bp per generation, such as 1.0e-8, found {parameters[name]:g}; is it one of the window, or "
            "scaled by the population size?"
            for name in sorted(high)
        ]
    example = study.simulation.simulate(parameters, seeds.generator(study.seed, "simulation", 0))
    _encode(study, example)
    return []


def _check_import(study: Study) -> list[str]:
    """Look at all of the data once and at every label that needs no example, then read and encode a few examples."""
    import numpy as np

    from popdl.importing import look_at_examples, look_at_labels, survey
    from popdl.scaling import fit_scale

    importer = study.import_
    assert importer is not None
    labels, problems = look_at_labels(importer)
    for name, target in study.targets.items() if not problems else ():
        if name in labels:
            everything = np.full(len(labels[name]), "train")
            classes = importer.priors[name].classes if name in importer.priors else []
            try:
                fit_scale(name, target, labels[name], everything, classes)
            except PopdlError as error:
                problems.append(str(error))
    try:
        for labelled in look_at_examples(importer, survey(importer), seed=study.seed):
            try:
                _encode(study, labelled.example)
            except PopdlError as error:
                problems.append(f"{labelled.where}: {error}")
    except PopdlError as error:
        problems.append(str(error))
    return list(dict.fromkeys(problems))  # the label of an example that was read is wrong once


def _encode(study: Study, example: Example) -> None:
    """Encode an example and compute its statistics."""
    generator = seeds.generator(study.seed, "encoding", 0)
    encode_examples(Encoder.of(study), [(example.genotypes, example.positions, generator)])


def _check_splits(study: Study) -> list[str]:
    """Read the user's table of splits."""
    from popdl.splits import read_assignment

    if study.splits.file is not None:
        assert study.splits.column is not None
        read_assignment(study.splits.file, study.splits.column, num_scenarios=study.source.num_scenarios)
    return []


def _check_application(application: Application, study: Study) -> list[str]:
    from popdl.check import check_application

    return check_application(application, encoder=Encoder.of(study))
