"""The test study through profiles/slurm, on a real SLURM of one node that loses jobs; run by `make test-slurm`.

A shard is cancelled while its job runs, the node fails in the middle of one training, and another is preempted. The outcome
must be that of a local run, byte for byte.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cluster import Cluster
from test_workflow import changed, digests, snakemake

QUICK = ["--slurm-status-command", "squeue", "--slurm-init-seconds-before-status-checks", "3", "--latency-wait", "5"]
"""The profile's own values suit clusters, on which jobs take minutes and file systems lag."""
MINUTES = 60.0
NETWORKS = ("exchangeable", "cnn")
METRICS = "results/test/metrics.json"
"""Simulation, encoding, training, predictions and their evaluation: every job that a cluster is needed for."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    if missing := Cluster.missing():
        pytest.skip(f"{', '.join(missing)} not found: apt-get install slurm-wlm munge")
    folder = Path(tempfile.mkdtemp(prefix="popdl-slurm-", dir="/tmp"))  # short, because a socket lies in it
    cluster = Cluster(folder)
    try:
        cluster.up()
        yield cluster
    finally:
        cluster.down()
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def config(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The test study with two shards, and trainings that are long enough to be hit in the middle."""
    training = {"max_epochs": 150, "patience": 150}
    path = tmp_path_factory.mktemp("config") / "test.yaml"
    simulation = {"num_scenarios": 40}
    return changed(root / "config/test.yaml", path, simulation=simulation, training=training, baselines=["prior_mean"])


@pytest.fixture(scope="module")
def local(root: Path, cluster: Cluster, config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the study has run without a cluster."""
    folder = tmp_path_factory.mktemp("local")
    run = snakemake(root, folder, config, METRICS)
    assert run.returncode == 0, run.stderr[-5000:]
    return folder


def start(
    root: Path, folder: Path, config: Path, cluster: Cluster, target: str, *, profile: Path | None = None
) -> subprocess.Popen[bytes]:
    """Start Snakemake through the profile; its output goes to `snakemake.log`."""
    command = [
        *(sys.executable, "-m", "snakemake", "--snakefile", str(root / "Snakefile"), "--directory", str(folder)),
        *("--workflow-profile", str(profile or root / "profiles/slurm"), "--configfile", str(config), *QUICK, target),
    ]
    with open(folder / "snakemake.log", "w") as log:
        return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=cluster.environment)


def wait(cluster: Cluster, process: subprocess.Popen, condition: Callable[[], bool]) -> None:
    """Wait for what must happen while Snakemake runs."""

    def met() -> bool:
        assert process.poll() is None, "Snakemake has ended too early; see snakemake.log"
        return condition()

    cluster.wait_for(met, seconds=10 * MINUTES)


def finish(process: subprocess.Popen, folder: Path) -> str:
    """Wait for Snakemake's end, and give its output."""
    assert process.wait(10 * MINUTES) == 0, (folder / "snakemake.log").read_text()[-5000:]
    return (folder / "snakemake.log").read_text()


def requests(cluster: Cluster, text: str, rule: str) -> list[str]:
    """What SLURM knows of the jobs of a rule, in the order in which Snakemake submitted them."""
    numbers = re.findall(rf"SLURM jobid (\d+) \(log: \S*/rule_{rule}/", text)
    return [cluster.output("scontrol", "show", "job", "--details", number) for number in numbers]


def test_the_study_survives_a_cluster(root: Path, cluster: Cluster, config: Path, local: Path, tmp_path: Path) -> None:
    networks = {name: tmp_path / f"results/test/models/{name}/.0.checkpoint/last.safetensors" for name in NETWORKS}
    process = start(root, tmp_path, config, cluster, METRICS)
    try:
        # A shard is cancelled while its job runs.
        running = ["squeue", "--noheader", "--states=RUNNING", "--format=%i %k"]
        wait(cluster, process, lambda: "rule_simulate_shard" in cluster.output(*running))
        lines = cluster.output(*running).splitlines()
        shard = next(line.split()[0] for line in lines if "rule_simulate_shard" in line)
        cluster.run("scancel", shard)

        # The node fails, and comes back. Both trainings are there, though it can run only one.
        wait(cluster, process, lambda: any(path.exists() for path in networks.values()))
        first = next(name for name, path in networks.items() if path.exists())
        cluster.fail_node()
        assert networks.pop(first).exists()
        assert cluster.output("squeue", "--noheader", "--format=%k").count("rule_train") == 2
        cluster.start_node()

        # The other training is preempted by a job that needs every core.
        (other,) = networks.values()
        wait(cluster, process, other.exists)
        urgent = ["--partition=urgent", "--cpus-per-task=2", "--output=/dev/null", "--wrap=sleep 1"]
        cluster.run("sbatch", *urgent)
        text = finish(process, tmp_path)
    finally:
        process.kill()  # where it is still there, something has failed
        process.wait()

    assert f"SLURM-job '{shard}' failed, SLURM status is: 'CANCELLED'" in text
    assert text.count("Trying to restart job") == 1, "SLURM itself queues again what a node lost or a preemption ended"
    *first_attempts, second = requests(cluster, text, "simulate_shard")
    assert len(first_attempts) == 2
    assert all("mem=2000M" in job and "TimeLimit=02:00:00" in job for job in first_attempts)
    assert "mem=4000M" in second and "TimeLimit=04:00:00" in second
    assert not any("gres" in job for job in [*first_attempts, second])
    trainings = requests(cluster, text, "train")
    assert len(trainings) == 2
    assert all("TresPerJob=gres:gpu:1" in job for job in trainings)
    for name in NETWORKS:
        assert "going on after epoch" in (tmp_path / f"results/test/logs/train/{name}/0.log").read_text()

    expected = digests(local / "results/test")
    assert sum(name.endswith(".safetensors") for name in expected) == 2
    assert sum(name.startswith("simulations.zarr/shard_") for name in expected) > 2
    assert digests(tmp_path / "results/test") == expected


def test_gpus_that_are_given_by_gres_alone(
    root: Path, cluster: Cluster, config: Path, local: Path, tmp_path: Path
) -> None:
    """The profile, edited as its comment says: one training that is missing, of a study that is otherwise there."""
    profile = tmp_path / "profile"
    shutil.copytree(root / "profiles/slurm", profile)
    text = (profile / "config.yaml").read_text()
    assert "{gpu: 1, " in text
    (profile / "config.yaml").write_text(text.replace("{gpu: 1, ", '{gpu: 0, gres: "gpu:1", '))

    shutil.copytree(local, tmp_path / "study")
    model = tmp_path / "study/results/test/models/exchangeable/0.safetensors"
    model.unlink()
    process = start(
        root, tmp_path / "study", config, cluster, str(model.relative_to(tmp_path / "study")), profile=profile
    )
    text = finish(process, tmp_path / "study")
    (training,) = requests(cluster, text, "train")
    assert "TresPerNode=gres:gpu:1" in training and "TresPerJob" not in training
    assert len(re.findall(r"SLURM jobid \d+", text)) == 1
    assert digests(tmp_path / "study/results/test") == digests(local / "results/test")
