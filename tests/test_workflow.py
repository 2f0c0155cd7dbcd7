"""The workflow as a user runs it: whole, killed, resumed, changed, and with a bad config."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from popdl.config.study import build_study, load_study
from popdl.layout import Results
from popdl.model import read_card
from popdl.scaffold import new

pytestmark = [pytest.mark.slow, pytest.mark.end_to_end]


def command(root: Path, folder: Path, config: Path, *options: str) -> list[str]:
    """Snakemake's command line; the working directory has a space in its name."""
    return [
        *(sys.executable, "-m", "snakemake", "--snakefile", str(root / "Snakefile"), "--directory", str(folder)),
        *("--profile", str(root / "profiles/default"), "--configfile", str(config)),
        *("--quiet", "rules", "--cores", "2", *options),
    ]


def snakemake(root: Path, folder: Path, config: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(root, folder, config, *options), capture_output=True, text=True, timeout=900, check=False
    )


def changed(source: Path, target: Path, **sections: dict) -> Path:
    """A copy of a config in which some keys of some sections differ."""
    values = yaml.safe_load(source.read_text())
    for name, keys in sections.items():
        values[name] = {**values.get(name, {}), **keys} if isinstance(keys, dict) else keys
    target.write_text(yaml.safe_dump(values, sort_keys=False))
    return target


def planned(text: str) -> dict[str, int]:
    """Jobs by rule in the table that a dry run prints."""
    return {rule: int(count) for rule, count in re.findall(r"^(\w+)\s+(\d+)$", text, flags=re.MULTILINE)}


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file of a study's data, models, predictions and figures."""
    kept = [*folder.glob("simulations.zarr/**/*"), *folder.glob("dataset.zarr/**/*"), folder / "splits.tsv"]
    kept += [folder / "targets.json", *folder.glob("models/**/*.safetensors"), *folder.glob("predictions/**/*.tsv")]
    kept += [*folder.glob("baselines/*.tsv"), *folder.glob("applications/**/*.windows.*"), folder / "metrics.json"]
    kept += folder.glob("figures/*.png")
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in kept
        if path.is_file() and path.name != ".snakemake_timestamp"
    }


@pytest.fixture(scope="module")
def config(root: Path) -> Path:
    return root / "config/test.yaml"


@pytest.fixture(scope="module")
def finished(root: Path, config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the test study has run to its end on two cores."""
    folder = tmp_path_factory.mktemp("two cores")
    run = snakemake(root, folder, config)
    assert run.returncode == 0, run.stderr[-5000:]
    return folder


def test_run_leaves_everything_that_the_study_promises(finished: Path, config: Path) -> None:
    study, results = load_study(config), Results(finished / "results/test")
    assert results.report.read_text().lstrip().startswith("<!doctype html>")
    assert load_study(results.config) == study
    assert read_card(results.shared_model)["metrics"]
    metrics = json.loads(results.metrics.read_text())
    assert set(study.targets) <= set(json.dumps(metrics).replace('"', " ").split())
    windows = (results.application("simulated_genome") / "exchangeable/0.windows.tsv").read_text().splitlines()
    assert len(windows) == 1 + 300_000 // 50_000
    assert not [path for path in results.folder.rglob("*") if ".partial-" in path.name]


def test_second_run_has_nothing_to_do(root: Path, finished: Path, config: Path) -> None:
    run = snakemake(root, finished, config)
    assert run.returncode == 0
    assert "Nothing to be done" in run.stderr + run.stdout


def test_a_users_own_files_are_inputs_of_the_jobs_that_run_them(root: Path, config: Path, tmp_path: Path) -> None:
    for kind in ("network", "statistic"):
        new(kind, f"own_{kind}", project=tmp_path)
    baseline = "from popdl.baselines._base import Baseline\n\n\nclass Own(Baseline):\n    pass\n"
    (tmp_path / "plugins/own_baseline.py").write_text(baseline)
    study = changed(
        config,
        tmp_path / "study.yaml",
        networks={"own": {"name": "plugins/own_network.py:OwnNetwork"}},
        statistics=["plugins/own_statistic.py:OwnStatistic"],
        baselines=["plugins/own_baseline.py:Own"],
    )
    run = snakemake(root, tmp_path, study, "--dry-run", "--quiet", "host")
    assert run.returncode == 0, run.stderr[-5000:]
    jobs = re.findall(r"rule (\w+):\n    input: (.*)\n", run.stdout + run.stderr)
    users = {name: {rule for rule, inputs in jobs if f"plugins/own_{name}.py" in inputs} for name in OWN}
    assert users == OWN
    # To all others one file, the index, stands for the shards, however many there are.
    assert {rule for rule, inputs in jobs if "shard_" in inputs} == {
        "encode_shard",
        "index_simulations",
        "index_dataset",
    }


OWN = {"network": {"train"}, "statistic": {"encode_shard", "encode_windows"}, "baseline": {"fit_baseline"}}
"""The rules that run a user's own part."""


def test_killed_and_resumed_on_one_core_gives_the_same_bytes(
    root: Path, finished: Path, config: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("one core, killed")
    chance = random.Random(1)
    # Everything is killed, whole process group included: some time after the first encoding and the first training began.
    for begun in ("dataset.zarr", "logs/train"):
        process = subprocess.Popen(
            command(root, folder, config, "--cores", "1"),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + 300
        while not (folder / "results/test" / begun).exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(chance.uniform(0, 5))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert (folder / "results/test" / begun).exists()
        assert not (folder / "results/test/report.html").exists()
        assert snakemake(root, folder, config, "--unlock").returncode == 0

    run = snakemake(root, folder, config, "--cores", "1")
    assert run.returncode == 0, run.stderr[-5000:]
    expected = digests(finished / "results/test")
    assert len(expected) > 50
    assert digests(folder / "results/test") == expected
    assert not [path for path in folder.rglob("*") if ".partial-" in path.name]


def test_a_second_run_in_the_same_folder_is_refused(root: Path, config: Path, tmp_path: Path) -> None:
    first = subprocess.Popen(
        command(root, tmp_path, config), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        while not list(tmp_path.glob(".snakemake/locks/*")):
            assert first.poll() is None
            time.sleep(0.1)
        second = snakemake(root, tmp_path, config)
        assert second.returncode == 1
        said = second.stdout + second.stderr
        assert "cannot be locked" in said and "--unlock" in said and "Traceback" not in said
        assert first.poll() is None
    finally:
        os.killpg(first.pid, signal.SIGKILL)
        first.wait()


def test_more_scenarios_repeat_no_simulation(root: Path, finished: Path, config: Path, tmp_path: Path) -> None:
    more = changed(config, tmp_path / "more.yaml", simulation={"num_scenarios": 100})
    run = snakemake(root, finished, more, "--dry-run")
    jobs = planned(run.stdout + run.stderr)
    assert jobs["simulate_shard"] == jobs["encode_shard"] == 2, (
        run.stdout
    )  # 120 examples in 3 full shards are there, 80 are new
    assert jobs["train"] > 0


def test_learning_rate_retrains_and_nothing_more(root: Path, finished: Path, config: Path, tmp_path: Path) -> None:
    faster = changed(config, tmp_path / "faster.yaml", training={"learning_rate": 0.002})
    run = snakemake(root, finished, faster, "--dry-run")
    jobs = planned(run.stdout + run.stderr)
    assert jobs["train"] > 0
    assert not {"simulate_shard", "encode_shard", "split", "fit_baseline", "encode_windows"} & set(jobs)


def test_other_statistics_refit_baselines_and_train_nothing(
    root: Path, finished: Path, config: Path, tmp_path: Path
) -> None:
    fewer = changed(config, tmp_path / "fewer.yaml", baseline_statistics=["pi", "sfs"])
    run = snakemake(root, finished, fewer, "--dry-run")
    jobs = planned(run.stdout + run.stderr)
    assert jobs["fit_baseline"] == len(load_study(config).baselines)
    assert not {"simulate_shard", "encode_shard", "split", "train", "predict_test", "encode_windows"} & set(jobs)


def test_another_study_touches_nothing(root: Path, finished: Path, config: Path, tmp_path: Path) -> None:
    other = changed(config, tmp_path / "other.yaml")
    other.write_text(other.read_text().replace("study: test", "study: other"))
    run = snakemake(root, finished, other, "--dry-run")
    jobs = planned(run.stdout + run.stderr)
    assert jobs["simulate_shard"] == 3
    run = snakemake(root, finished, config, "--dry-run")
    assert "Nothing to be done" in run.stdout + run.stderr


def test_report_of_snakemake_works(root: Path, finished: Path, config: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    run = snakemake(root, finished, config, "--report", str(page))
    assert run.returncode == 0, run.stderr[-3000:]
    assert page.stat().st_size > 100_000


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"training": {"max_epochz": 3}}, "max_epochs"),
        ({"targets": {"growth_rate": {}}}, "growth_rate"),
        ({"simulation": {"mutation_rate": {"uniform": [2e-8, 1e-8]}}}, "low must be below high"),
        ({"encoding": {"max_sites": 2}}, "networks"),
        ({"networks": {"transformer": {}}}, "known:"),
    ],
)
def test_bad_config_is_refused_before_any_job(
    root: Path, config: Path, tmp_path: Path, sections: dict, message: str
) -> None:
    bad = changed(config, tmp_path / "bad.yaml", **sections)
    run = snakemake(root, tmp_path, bad)
    assert run.returncode == 2
    assert message in run.stderr
    assert "Traceback" not in run.stderr
    assert not (tmp_path / "results").exists()


def test_numbers_that_yaml_reads_as_words_are_numbers(root: Path, config: Path, tmp_path: Path) -> None:
    words = tmp_path / "words.yaml"
    words.write_text(config.read_text().replace("2.0e-8", "2e-8").replace("5.0e+4", "5e4"))
    assert yaml.safe_load(words.read_text())["simulation"]["mutation_rate"] == "2e-8"
    run = snakemake(root, tmp_path, words, "--dry-run")
    assert run.returncode == 0, run.stderr
    assert build_study(yaml.safe_load(words.read_text())) == load_study(config)


def test_environment_in_a_folder_with_a_space(root: Path, config: Path, tmp_path: Path) -> None:
    environment = tmp_path / "my environment"
    environment.symlink_to(sys.prefix)
    arguments = command(root, tmp_path, config, "results/test/config.yaml")
    run = subprocess.run(
        [str(environment / "bin/python"), *arguments[1:]], capture_output=True, text=True, timeout=300, check=False
    )
    assert run.returncode == 0, run.stderr[-3000:]
    assert (tmp_path / "results/test/config.yaml").is_file()


def test_scripts_are_thin(root: Path) -> None:
    for script in (root / "workflow/scripts").glob("*.py"):
        assert len(script.read_text().splitlines()) <= 40, script
