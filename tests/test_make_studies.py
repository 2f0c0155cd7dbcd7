"""`make studies` on one tiny study in two sizes: the small one is run, the full one planned, and the pages are written."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

LEFT_OUT = shutil.ignore_patterns(".*", "results", "resources", "tests", "docs", "build", "__pycache__")


def test_the_small_size_is_run_the_full_one_planned_and_both_are_written_up(root: Path, tmp_path: Path) -> None:
    project, data = tmp_path / "a project", tmp_path / "data"
    shutil.copytree(root, project, ignore=LEFT_OUT)
    (project / "resources").mkdir()
    shutil.copy(root / "resources/get.py", project / "resources")
    # Files that are there already are left as they are: nothing is downloaded.
    for name in ("theta.sims.txt.gz", "true.thetas.json", "genetic_map_GRCh37_chr20.txt.gz"):
        (project / "resources" / name).touch()
    data.mkdir()
    full = yaml.safe_load((root / "config/test.yaml").read_text()) | {"study": "tiny", "baselines": ["prior_mean"]}
    full |= {"networks": {"exchangeable": {}}, "applications": {}}
    full["simulation"]["num_scenarios"] = 200
    small = {"inherits": "tiny.yaml", "study": "tiny_small", "simulation": {"num_scenarios": 30, "shard_size": 60}}
    for name, values in (("tiny", full), ("tiny_small", small)):
        (project / f"config/{name}.yaml").write_text(yaml.safe_dump(values))
    command = [*("make", "studies", "STUDIES=tiny", "CORES=1", f"DATA={data}", f"VENV={sys.executable}")]
    # The virtual environment is the one that runs this test.
    command += ["--assume-old=README.md", "INSTALLED=README.md"]
    environment = {**os.environ, "PYTHONPATH": str(project / "src")}
    run = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, timeout=600)
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-2000:]
    assert (project / "results/tiny_small/report.html").is_file()
    assert "study tiny: 400 examples" in (project / "results/tiny/plan.txt").read_text()
    assert not (project / "results/tiny/simulations.zarr").exists()
    table = (project / "docs/studies.md").read_text()
    assert "[tiny_small](studies/tiny_small.md)" in table and "## Full sizes" in table
    page = (project / "docs/studies/tiny_small.md").read_text()
    assert page.count("../images/study_tiny_small_") == 3
    assert all((project / "docs/images" / f"study_tiny_small_{kind}.png").is_file() for kind in ("baselines", "parity"))
