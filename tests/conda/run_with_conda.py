"""The test study through Snakemake's real `--use-conda`, with a stand-in for conda; run by `make test-conda`.

Snakemake runs from an environment of its own, built from envs/snakemake.yaml, because what is installed beside it is
visible to the scripts of every rule and would hide what the rules' environments lack. popdl is installed in none of
them: scripts must find it in src/. The project is copied to a folder whose name has a space.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

STAND_IN = Path(__file__).resolve().parent
REPOSITORY = STAND_IN.parents[1]
IMPORT_EVERYTHING = """
import importlib, pkgutil, popdl
for module in pkgutil.walk_packages(popdl.__path__, "popdl."):
    importlib.import_module(module.name)
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Environment variables with the stand-in, and nothing of .venv, on the PATH."""
    prefix = tmp_path_factory.mktemp("conda")
    (prefix / "bin").mkdir()
    command = prefix / "bin" / "conda"
    command.write_text(
        f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {shlex.quote(str(STAND_IN / "conda.py"))} "$@"\n'
    )
    command.chmod(0o755)
    shutil.copy(STAND_IN / "activate", prefix / "bin")
    path = f"{prefix / 'bin'}:/usr/local/bin:/usr/bin:/bin"
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "VIRTUAL_ENV", "CONDA"))}
    return {**kept, "PATH": path, "STAND_IN_CONDA": str(prefix)}


@pytest.fixture(scope="module")
def snakemake(tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> list[str]:
    """The command that starts Snakemake from its own environment."""
    prefix = tmp_path_factory.mktemp("snakemake") / "environment"
    create = ["conda", "env", "create", "--file", str(REPOSITORY / "envs/snakemake.yaml"), "--prefix", str(prefix)]
    subprocess.run(create, env=environment, check=True)
    return [str(prefix / "bin" / "python"), "-m", "snakemake"]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project, without what is built or computed."""
    copy = tmp_path_factory.mktemp("copy") / "my project"
    ignored = shutil.ignore_patterns(
        ".git", ".venv", ".snakemake", "build", "results", "__pycache__", ".*_cache", "*.egg-info"
    )
    shutil.copytree(REPOSITORY, copy, ignore=ignored)
    return copy


def test_the_study_runs(project: Path, snakemake: list[str], environment: dict[str, str]) -> None:
    command = [*snakemake, "--cores", "2", "--use-conda", "--configfile", "config/test.yaml"]
    subprocess.run(command, cwd=project, env=environment, check=True)
    results = project / "results" / "test"
    assert "<html" in (results / "report.html").read_text(encoding="utf-8")
    assert json.loads((results / "metrics.json").read_text(encoding="utf-8"))
    for name in ("model.safetensors", "splits.tsv", "applications/simulated_genome/exchangeable/0.windows.tsv"):
        assert (results / name).stat().st_size > 0, name


def test_every_rule_ran_in_an_environment(project: Path, snakemake: list[str], environment: dict[str, str]) -> None:
    listed = subprocess.run(
        [*snakemake, "--list-conda-envs", "--configfile", "config/test.yaml"],
        cwd=project, env=environment, check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    used = {Path(line.split("\t")[0]).name for line in listed.splitlines() if ".yaml" in line}
    assert used == {"popdl.yaml", "gpu.yaml"}
    rules = (project / "workflow" / "rules").glob("*.smk")
    text = "\n".join(path.read_text(encoding="utf-8") for path in rules)
    assert text.count("\n    script:") + text.count("\n    shell:") == text.count("\n    conda:") > 0


def test_each_environment_holds_all_that_popdl_imports(project: Path, environment: dict[str, str]) -> None:
    pythons = sorted((project / ".snakemake" / "conda").glob("*/bin/python"))
    assert len(pythons) == 2
    for python in pythons:
        subprocess.run([python, "-c", IMPORT_EVERYTHING], cwd=project / "src", env=environment, check=True)
