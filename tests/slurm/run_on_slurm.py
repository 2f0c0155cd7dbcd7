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
    """The test study with trainings that are long enough to be hit in the middle."""
    training = {"max_epochs": 150, "patience": 150}
    path = tmp_path_factory.mktemp("config") / "test.yaml"
    return changed(root / "config/test.yaml", path, training=training, baselines=["prior_mean"])


def start(
    root: Path, folder: Path, config: Path, cluster: Cluster, *options: str, profile: Path | None = None
) -> subprocess.Popen[bytes]:
    """Start Snakemake through the profile; its output goes to `snakemake.log`."""
    command = [
        *(sys.executable, "-m", "snakemake", "--snakefile", str(root / "Snakefile"), "--directory", str(folder)),
        *("--profile", str(profile or root / "profiles/slurm"), "--configfile", str(config), *QUICK, *options),
    ]
    with open(folder / "snakemake.log", "w") as log:
        return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=cluster.environment)


def wait(cluster: Cluster, process: subprocess.Popen, condition: Callable[[], bool]) -> None:
    """Wait for what must happen while Snakemake runs."""

    def met() -> bool:
        assert process.poll() is None, "Snakemake has ended too early; see snakemake.log"
        return condition()

    cluster.wait_for(met, seconds=10 * MINUTES)


def job(cluster: Cluster, number: str) -> str:
    return cluster.output("scontrol", "show", "job", "--details", number)


def test_the_study_survives_a_cluster(root: Path, cluster: Cluster, config: Path, tmp_path: Path) -> None:
    models = tmp_path / "results/test/models"
    networks = {name: models / name / ".0.checkpoint/last.safetensors" for name in ("exchangeable", "cnn")}
    process = start(root, tmp_path, config, cluster)
    try:
        # A shard is cancelled while its job runs.
        running = ["squeue", "--noheader", "--states=RUNNING", "--format=%i %k"]
        wait(cluster, process, lambda: "rule_simulate_shard" in cluster.output(*running))
        lines = cluster.output(*running).splitlines()
        shard = next(line.split()[0] for line in lines if "rule_simulate_shard" in line)
        cluster.run("scancel", shard)

        # The node fails, and comes back.
        wait(cluster, process, lambda: any(path.exists() for path in networks.values()))
        first = next(name for name, path in networks.items() if path.exists())
        cluster.fail_node()
        assert networks.pop(first).exists()
        cluster.start_node()

        # The other training is preempted by a job that needs every core.
        (other,) = networks.values()
        wait(cluster, process, other.exists)
        urgent = [
            "sbatch",
            "--parsable",
            "--partition=urgent",
            "--cpus-per-task=2",
            "--output=/dev/null",
            "--wrap=sleep 1",
        ]
        cluster.run(*urgent)

        assert process.wait(10 * MINUTES) == 0, (tmp_path / "snakemake.log").read_text()[-5000:]
    finally:
        process.kill()  # where it is still there, something has failed
        process.wait()

    text = (tmp_path / "snakemake.log").read_text()
    assert f"SLURM-job '{shard}' failed, SLURM status is: 'CANCELLED'" in text
    assert text.count("Trying to restart job") == 1, (
        "SLURM itself queues again what was lost with the node or preempted"
    )
    for name in ("exchangeable", "cnn"):
        assert "going on after epoch" in (tmp_path / f"results/test/logs/train/{name}/0.log").read_text()

    local = tmp_path / "local"
    local.mkdir()
    run = snakemake(root, local, config)
    assert run.returncode == 0, run.stderr[-5000:]
    expected = digests(local / "results/test")
    assert sum(name.endswith(".safetensors") for name in expected) == 3  # two networks, and the one to share
    assert digests(tmp_path / "results/test") == expected


@pytest.mark.parametrize("gres", [False, True], ids=["gpu", "gres"])
def test_training_asks_for_a_gpu(root: Path, cluster: Cluster, config: Path, tmp_path: Path, gres: bool) -> None:
    """As the profile stands, and edited as its comment says for clusters that accept --gres alone."""
    profile = tmp_path / "profile"
    shutil.copytree(root / "profiles/slurm", profile)
    if gres:
        text = (profile / "config.yaml").read_text()
        assert text.count("{gpu: 1, ") == 3
        (profile / "config.yaml").write_text(text.replace("{gpu: 1, ", '{gpu: 0, gres: "gpu:1", '))
    quick = changed(config, tmp_path / "quick.yaml", training={"max_epochs": 1}, simulation={"num_scenarios": 40})
    target = "results/test/models/exchangeable/0.safetensors"
    process = start(root, tmp_path, quick, cluster, "--until", "train", target, profile=profile)
    assert process.wait(5 * MINUTES) == 0, (tmp_path / "snakemake.log").read_text()[-5000:]
    text = (tmp_path / "snakemake.log").read_text()
    number = re.findall(r"SLURM jobid (\d+) \(log: \S*rule_train/", text)[-1]
    assert ("TresPerNode=gres:gpu:1" if gres else "TresPerJob=gres:gpu:1") in job(cluster, number)
    simulation = re.findall(r"SLURM jobid (\d+) \(log: \S*rule_simulate_shard/", text)[0]
    assert "gres" not in job(cluster, simulation)
