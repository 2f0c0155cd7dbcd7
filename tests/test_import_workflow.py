"""A study on imported data, from its config through Snakemake to the report."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from imported import HAPLOTYPES, LENGTH, dnadna_dataset, dnadna_section

from popdl import cli
from popdl.config.study import build_study, load_study
from popdl.errors import PopdlError
from popdl.layout import Results
from popdl.model import read_card
from popdl.store import read_shard, shard_paths
from popdl.study_check import check_study
from popdl.verifying import verify

SCENARIOS = 40


def config(folder: Path, **changes: object) -> dict:
    return {
        "study": "mine",
        "import": dnadna_section(folder, num_scenarios=SCENARIOS, shard_size=30, **changes),
        "targets": {"size": {"scale": "log"}},
        "encoding": {"max_sites": 32},
        "networks": {"exchangeable": {}},
        "training": {"batch_size": 16, "max_epochs": 2, "threads": 1},
        "baselines": ["prior_mean", "ridge_sfs"],
    }


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dnadna")
    dnadna_dataset(folder, scenarios=SCENARIOS + 1)
    table = folder / "mine_params.csv"  # the files of the last scenario are then left out, and counted
    table.write_text("".join(table.read_text().splitlines(keepends=True)[:-1]))
    return folder


@pytest.mark.slow
@pytest.mark.end_to_end
def test_snakemake_runs_a_study_on_imported_data(root: Path, dataset: Path, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(config(dataset)))
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(root / "Snakefile"), "--directory", str(tmp_path)]
    command += ["--configfile", str(path), "--cores", "2", "--profile", str(root / "profiles/default")]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-5000:]
    results = Results(tmp_path / "results/mine")
    report = results.report.read_text()
    assert "80 simulations (40 scenarios × 2) imported (dnadna)" in report
    assert "files of scenarios that are not in the table" in report
    assert load_study(results.config) == load_study(path)
    for folder in (results.simulations(0).parent, results.dataset(0).parent):
        assert verify(folder) == "3 shards are whole"
    assert json.loads(results.survey.read_text())["num_scenarios"] == SCENARIOS
    card = read_card(results.shared_model)
    assert card["priors"] == {"parameters": ["size"]} and "size" in card["metrics"]["targets"]
    labels = np.concatenate(
        [read_shard(shard, kind="simulations")["parameters"] for shard in shard_paths(results.simulations(0).parent)]
    )
    rows = (results.figures / "priors.tsv").read_text().splitlines()
    assert float(rows[1].split("\t")[1]) == pytest.approx(labels.min())  # the figure shows the observed range
    again = subprocess.run([*command, "--dry-run"], capture_output=True, text=True)
    assert "Nothing to be done" in again.stderr + again.stdout


def test_command_line_imports(dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(config(dataset)))
    cli.main(["check", str(path)])
    assert "ready to run" in capsys.readouterr().out
    cli.main(["import", str(path), "--results", str(tmp_path)])
    cli.main(["encode", str(path), "--results", str(tmp_path)])
    results = Results(tmp_path / "mine")
    assert verify(results.dataset(0).parent) == "3 shards are whole"
    assert read_shard(results.simulations(2), kind="simulations").attributes["num_haplotypes"] == HAPLOTYPES
    with pytest.raises(SystemExit):
        cli.main(["simulate", str(path), "--results", str(tmp_path)])
    assert "run `popdl import` instead" in capsys.readouterr().err


def test_check_finds_a_wrong_number(dataset: Path) -> None:
    values = config(dataset)
    values["import"]["num_scenarios"] = 41
    (problem,) = check_study(build_study(values))
    assert "write num_scenarios: 40" in problem
    assert check_study(build_study(values), config_only=True) == []


def edit(folder: Path, tmp_path: Path, *rows: tuple[int, str]) -> dict:
    """The config with another table, in which some scenarios have another size."""
    lines = (folder / "mine_params.csv").read_text().splitlines()
    for row, size in rows:
        number, _, replicates = lines[row].split(",")
        lines[row] = f"{number},{size},{replicates}"
    (tmp_path / "table.csv").write_text("\n".join(lines) + "\n")
    return config(folder, table=str(tmp_path / "table.csv"))


def test_check_reads_every_label(dataset: Path, tmp_path: Path) -> None:
    wrong = [(4, "large"), (17, "1,5"), (SCENARIOS, "-")]
    problems = check_study(build_study(edit(dataset, tmp_path, wrong[0], wrong[2])))
    assert [problem.partition(": size is ")[::2] for problem in problems] == [
        (f"{tmp_path}/table.csv, line {row + 1}", f"{word!r}, expected a number (words need `classes`).")
        for row, word in (wrong[0], wrong[2])
    ]
    many = [(row, "x") for row in range(1, SCENARIOS + 1)]
    problems = check_study(build_study(edit(dataset, tmp_path, *many)))
    assert len(problems) == 11
    assert "import: 30 more labels cannot be read." in problems


def test_check_holds_every_label_to_the_target(dataset: Path, tmp_path: Path) -> None:
    (problem,) = check_study(build_study(edit(dataset, tmp_path, (SCENARIOS - 2, "-3"))))
    assert "targets.size: scale log needs positive values, found -3" in problem
    assert check_study(build_study(edit(dataset, tmp_path, (SCENARIOS - 2, "NA")))) == []


def test_check_reads_examples_from_first_to_last_and_says_so(
    dataset: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level("INFO")
    values = config(dataset)
    assert check_study(build_study(values)) == []
    said = "of 80 examples were read; of the others files and labels were looked at, not what the files hold."
    assert f"import: 10 {said}" in caplog.text
    folder = tmp_path / "data"
    shutil.copytree(dataset, folder)
    (folder / f"scenario_{SCENARIOS - 1:03}/mine_{SCENARIOS - 1:03}_01.npz").write_bytes(b"no npz")
    values["import"]["folder"] = str(folder)
    (problem,) = check_study(build_study(values))
    assert "mine_039_01.npz: not a whole npz file" in problem
    caplog.clear()
    monkeypatch.setattr("popdl.importing.MOST_SECONDS", 0.0)
    assert check_study(build_study(values)) == []
    assert f"import: 1 {said}" in caplog.text


def test_exactly_one_origin(root: Path, dataset: Path) -> None:
    values = config(dataset)
    simulation = yaml.safe_load((root / "config/test.yaml").read_text())["simulation"]
    with pytest.raises(PopdlError, match="exactly one of the sections simulation and import"):
        build_study({**values, "simulation": simulation})
    del values["import"]
    with pytest.raises(PopdlError, match=r"simulation\.simulator: this key is required"):
        build_study(values)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"targets": {"sise": {}}}, r"targets\.sise: import produces no such parameter; did you mean 'size'"),
        ({"targets": {"size": {"task": "classification"}}}, r"targets\.size: classification needs a `choice` prior"),
        ({"encoding": {"crop_length": 1e6}}, r"longer than import\.sequence_length"),
        (
            {
                "applications": {
                    "genome": {
                        "simulate": {"parameters": {"size": 1}, "sequence_length": LENGTH, "num_individuals": 4},
                        "windows": {"size": LENGTH},
                    }
                }
            },
            "simulate: imported data has no simulator; give a `vcf`",
        ),
    ],
)
def test_bad_studies(dataset: Path, changes: dict, message: str) -> None:
    with pytest.raises(PopdlError, match=message):
        build_study({**config(dataset), **changes})
