"""The test study in folders of its own, and what of its results may not differ between runs: what soak.py breaks."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / "config/test.yaml"

LEFT_OUT = ("benchmarks", "logs", "tensorboard")
"""Folders of results that tell times, or what was done when: they differ from run to run."""
TIMES = ("examples_per_second", "waiting_share", "seconds")
"""Columns of a training's history, and of the table beside its figure, that do."""
TABLES_OF_TIMES = re.compile(r"<table>\s*<thead>[^\n]*>(?:Examples/s|CPU time \(s\))<.*?</table>", re.DOTALL)
"""Tables of the report that do."""


def command(folder: Path, *options: str) -> list[str]:
    """The test study in a folder of its own."""
    return [
        *(sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--directory", str(folder)),
        *("--profile", str(ROOT / "profiles/default"), "--configfile", str(CONFIG), "--cores", "2", *options),
    ]


def call(*words: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, capture_output=True, text=True, check=False, env={**os.environ, **(env or {})})


def popdl(step: str, study: Path) -> list[str]:
    """One step of the test study, in the folder of a study."""
    return [sys.executable, "-m", "popdl.cli", step, str(CONFIG), "--results", str(study / "results")]


def said(done: subprocess.CompletedProcess[str]) -> str:
    return done.stdout + done.stderr


def content(path: Path) -> bytes:
    """What a file says, but for times."""
    if path.name == "report.html":
        return TABLES_OF_TIMES.sub("", path.read_text(encoding="utf-8")).encode()
    if path.name.endswith(".history.csv") or path.match("figures/training.tsv"):
        header, *rows = [re.split("[,\t]", line) for line in path.read_text().splitlines()]
        kept = [header.index(name) for name in header if name not in TIMES]
        return "\n".join(",".join(row[column] for column in kept) for row in (header, *rows)).encode()
    return path.read_bytes()


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every result of a study, hidden files and half-written ones included, but for times."""
    results = folder / "results/test"
    paths = {path.relative_to(results): path for path in sorted(results.rglob("*")) if path.is_file()}
    return {
        str(name): hashlib.sha256(content(path)).hexdigest()
        for name, path in paths.items()
        if name.parts[0] not in LEFT_OUT and name.name != ".snakemake_timestamp"
    }


def differences(found: Mapping[str, str], expected: Mapping[str, str]) -> str:
    """Names of some results that differ, for a note; empty where none does."""
    names = sorted(name for name in {*found, *expected} if found.get(name) != expected.get(name))
    return f"{len(names)} files differ: {', '.join(names[:3])}" if names else ""


def undisturbed(folder: Path) -> dict[str, str]:
    """The results of the study, run once in a folder and kept there."""
    study = folder / "undisturbed"
    if not study.exists():
        study.mkdir()
        done = call(*command(study))
        if done.returncode:
            sys.exit(f"The study does not run even when left in peace:\n{said(done)[-3000:]}")
    return digests(study)


def copied(folder: Path, name: str) -> Path:
    """A copy of the undisturbed study."""
    undisturbed(folder)
    return Path(shutil.copytree(folder / "undisturbed", folder / name))
