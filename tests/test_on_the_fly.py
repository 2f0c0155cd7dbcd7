"""Examples that are simulated while a network trains: which they are, and what happens to those who make them."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import learnable
import numpy as np
import pytest

from popdl import steps
from popdl.config.reading import read_yaml
from popdl.config.study import Study, build_study
from popdl.dataset import encode_examples
from popdl.encoding import Encoder
from popdl.errors import PopdlError
from popdl.layout import Results
from popdl.model import read_card
from popdl.on_the_fly import BLOCK_SIZE, ExampleStream, stream_seed
from popdl.seeds import generator
from popdl.simulation import simulate_examples
from popdl.study_check import check_study

PLUGIN = """
import os
from popdl.errors import PopdlError
from popdl.simulators.constant_size import ConstantSize


class Own(ConstantSize):
    def simulate(self, parameters, generator):
        print("a simulator may print")
        {action}
        return super().simulate(parameters, generator)
"""


@pytest.fixture
def study(root: Path) -> Study:
    return build_study(read_yaml(root / "config/test.yaml"))


def stream(study: Study, *, first: int = 0, last: int = 100, workers: int = 2, **changes: Any) -> ExampleStream:
    assert study.simulation is not None
    values = study.simulation.model_dump(mode="json") | changes
    return ExampleStream(values, Encoder.of(study).recipe, seed=5, num_workers=workers, first=first, last=last)


def same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[key], other[key], equal_nan=True) for key in one)


def within(seconds: float, call: Callable[[], Any]) -> Any:
    """The result of a call that must not hang."""
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append(call())
        except Exception as error:
            outcome.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    assert outcome, "it hangs"
    if isinstance(outcome[0], Exception):
        raise outcome[0]
    return outcome[0]


def test_examples_are_those_of_the_prior_by_the_recipe(study: Study) -> None:
    assert study.simulation is not None
    with stream(study, first=7, last=20) as fresh:
        found = fresh.take(13)
    simulation = study.simulation.model_copy(update={"replicates": 1})
    simulated = list(simulate_examples(simulation, seed=5, first=7, last=20))
    windows = [
        (one.example.genotypes, one.example.positions, generator(5, "encoding", number))
        for number, one in enumerate(simulated, start=7)
    ]
    expected, _ = encode_examples(Encoder.of(study), windows)
    for name in ("genotypes", "positions", "num_sites"):
        assert np.array_equal(found[name], expected[name])
    assert not found["missing"].any()
    assert np.array_equal(found["parameters"], [one.labels for one in simulated])


def test_any_number_of_workers_gives_the_same_examples_once(study: Study) -> None:
    with stream(study, workers=1) as fresh:
        whole = fresh.take(100)
    assert len(np.unique(whole["parameters"][:, 0])) == 100
    with stream(study, workers=3) as fresh:
        parts = [fresh.take(size) for size in (1, 40, 9, BLOCK_SIZE, 50 - BLOCK_SIZE)]
    assert same(whole, {name: np.concatenate([part[name] for part in parts]) for name in whole})
    with stream(study, first=60) as fresh:
        assert same({name: array[60:] for name, array in whole.items()}, fresh.take(40))


def test_trainings_and_the_dataset_have_examples_of_their_own() -> None:
    seeds = {3, stream_seed(3, 0), stream_seed(3, 1), stream_seed(4, 0)}
    assert len(seeds) == 4


def test_a_worker_that_is_killed_is_replaced(study: Study, caplog: pytest.LogCaptureFixture) -> None:
    with stream(study, last=400) as undisturbed:
        expected = undisturbed.take(400)
    with stream(study, last=400) as fresh:
        first = fresh.take(1)
        for process in list(fresh._processes):
            process.send_signal(signal.SIGKILL)
        rest = within(120, lambda: fresh.take(399))
    assert same(expected, {name: np.concatenate([first[name], rest[name]]) for name in first})
    assert "another takes its place" in caplog.text


def own(folder: Path, monkeypatch: pytest.MonkeyPatch, action: str) -> dict[str, Any]:
    monkeypatch.chdir(folder)
    Path("own.py").write_text(PLUGIN.replace("{action}", action))
    return {"simulator": "own.py:Own", "parameters": {"population_size": 1000.0}}


def test_a_simulator_may_print(study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with stream(study, **own(tmp_path, monkeypatch, "pass")) as fresh:
        assert len(within(120, lambda: fresh.take(40))["num_sites"]) == 40


@pytest.mark.parametrize(
    ("action", "message"),
    [
        ("os._exit(9)", r"a worker ended with code 9 while it simulated examples 0 to 31, as did 2 others"),
        ("raise PopdlError('this cannot be simulated')", "this cannot be simulated"),
        ("raise ZeroDivisionError('of the author')", "ended with code 1 .* as did 2 others"),
    ],
)
def test_a_worker_that_cannot_go_on_ends_the_training_with_its_message(
    action: str, message: str, study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        stream(study, workers=1, **own(tmp_path, monkeypatch, action)) as fresh,
        pytest.raises(PopdlError, match=message),
    ):
        within(120, lambda: fresh.take(1))


def test_leaving_early_leaves_no_process_behind(study: Study) -> None:
    with stream(study, last=100_000) as fresh:
        fresh.take(1)
        processes = list(fresh._processes)
    assert processes
    assert all(process.poll() is not None for process in processes)


def test_workers_end_when_the_training_dies(study: Study) -> None:
    """Their line is closed then, whatever else happens."""
    fresh = stream(study, workers=1, last=100_000)
    fresh.take(1)
    (process,) = fresh._processes
    assert process.stdin is not None
    process.stdin.close()
    process.wait(timeout=60)
    fresh.__exit__(None, None, None)


@pytest.fixture(scope="module")
def trained(root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Study, Results]:
    """A tiny study whose network has seen fresh examples only."""
    values = read_yaml(root / "config/test.yaml")
    values["simulation"] |= {"num_scenarios": 40, "replicates": 1, "shard_size": 40}
    values["networks"] = {"net": learnable.OPTIONS}
    values["training"] |= {"data": "on_the_fly", "examples_per_epoch": 40, "max_epochs": 3, "workers": 2}
    study = build_study(values)
    results = Results(tmp_path_factory.mktemp("fresh"))
    for step in (steps.simulate, steps.encode, steps.split, steps.train):
        step(study, results)
    return study, results


def again(study: Study, results: Results, folder: Path) -> Results:
    """Another place for a training on the same dataset."""
    other = Results(folder)
    for path in ("simulations.zarr", "dataset.zarr", "splits.tsv", "targets.json"):
        (folder / path).symlink_to(results.folder / path)
    return other


def test_a_training_sees_as_many_fresh_examples_as_asked(trained: tuple[Study, Results]) -> None:
    card = read_card(trained[1].model("net/0"))
    assert card["num_examples"]["train"] == 40 * card["num_epochs"] > 0
    assert card["training"]["data"] == "on_the_fly"
    assert "workers" not in json.dumps(card)


def test_weights_do_not_depend_on_the_number_of_workers(trained: tuple[Study, Results], tmp_path: Path) -> None:
    study, results = trained
    other = again(study, results, tmp_path)
    training = study.training.model_copy(update={"workers": 1})
    steps.train(study.model_copy(update={"training": training}), other)
    assert other.model("net/0").read_bytes() == results.model("net/0").read_bytes()


def test_an_interrupted_training_goes_on_with_the_next_examples(
    trained: tuple[Study, Results], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import popdl.training

    study, results = trained
    other = again(study, results, tmp_path)
    save = popdl.training.save_checkpoint

    def killed(*arguments: Any, **options: Any) -> None:
        save(*arguments, **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(popdl.training, "save_checkpoint", killed)
    with pytest.raises(KeyboardInterrupt):
        steps.train(study, other)
    monkeypatch.undo()
    assert not other.model("net/0").exists()
    steps.train(study, other)
    assert other.model("net/0").read_bytes() == results.model("net/0").read_bytes()


def test_what_does_not_fit_is_refused(root: Path) -> None:
    values = read_yaml(root / "config/test.yaml")
    values["training"] |= {"workers": 2}
    with pytest.raises(PopdlError, match=r"training\.workers: set `data: on_the_fly` too"):
        build_study(values)
    values["training"] |= {"data": "on_the_fly"}
    assert not check_study(build_study(values), config_only=True)


def test_a_worker_starts_without_torch(root: Path) -> None:
    """As a simulation job does: it is the start-up that each of them pays."""
    import subprocess
    import sys

    code = "import sys, popdl.on_the_fly; print(sorted({'torch', 'pandas', 'matplotlib'} & set(sys.modules)))"
    start = time.monotonic()
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n", time.monotonic() - start
