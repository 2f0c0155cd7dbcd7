"""The command line: every step alone, and one clear message with exit code 2 for what a user can mend."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from popdl.cli import main
from popdl.layout import Results
from popdl.model import read_card


@pytest.fixture(scope="module")
def config(root: Path) -> Path:
    return root / "config/test.yaml"


@pytest.fixture(scope="module")
def results(config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The test study, run step by step on the command line."""
    folder = tmp_path_factory.mktemp("step by step") / "results"
    for step in ("simulate", "encode", "split", "train", "evaluate", "apply", "report"):
        main([step, str(config), "--results", str(folder)])
    return folder


def refused(arguments: list[str], capfd: pytest.CaptureFixture[str]) -> str:
    """Run a command that must be refused; returns its message."""
    with pytest.raises(SystemExit) as error:
        main(arguments)
    assert error.value.code == 2
    message = capfd.readouterr().err
    assert "Traceback" not in message
    assert message.count("ERROR") == 1
    return message


def files_below(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}


def test_steps_make_what_the_workflow_makes(results: Path) -> None:
    study = Results(results / "test")
    assert study.report.is_file()
    assert read_card(study.shared_model)["metrics"]
    assert study.figures.is_dir()


def test_predict_writes_the_table_that_the_study_has(results: Path, root: Path, tmp_path: Path) -> None:
    study = Results(results / "test")
    application = study.application("simulated_genome")
    samples = yaml.safe_load((root / "config/test.yaml").read_text())["applications"]["simulated_genome"]["samples"]
    (tmp_path / "samples.txt").write_text("\n".join(samples["names"]) + "\n")
    model = study.model("exchangeable/0")
    output = tmp_path / "predictions"
    main(
        [
            *("predict", str(model), str(application / "genome.vcf.gz")),
            *("--samples", str(tmp_path / "samples.txt"), "--output", str(output)),
        ]
    )
    for ending, place in (("tsv", 0), ("bed", 6)):  # the same but for the column that names the input
        rows = [line.split("\t") for line in (tmp_path / f"predictions.{ending}").read_text().splitlines()]
        assert {row.pop(place) for row in rows} == {"file", str(application / "genome.vcf.gz")}
        expected = (application / f"exchangeable/0.windows.{ending}").read_text()
        assert "\n".join("\t".join(row) for row in rows) + "\n" == expected


def test_a_flipped_byte_is_named(
    results: Path, config: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "results"
    shutil.copytree(results, copy)
    main(["verify", str(copy / "test/simulations.zarr")])
    chunk = copy / "test/simulations.zarr/shard_1/positions/c/0"
    content = bytearray(chunk.read_bytes())
    content[len(content) // 2] ^= 1
    chunk.write_bytes(content)
    assert "shard_1: the checksum of positions/c/0 is wrong" in refused(
        ["verify", str(copy / "test/simulations.zarr")], capfd
    )
    shutil.rmtree(copy / "test/dataset.zarr")
    assert "shard_1" in refused(["encode", str(config), "--results", str(copy)], capfd)
    assert not (copy / "test/dataset.zarr/shard_1").exists()


def test_steps_out_of_order_name_the_one_before(
    config: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for step, before in (("encode", "simulate"), ("split", "encode"), ("train", "split"), ("report", "evaluate")):
        message = refused([step, str(config), "--results", str(tmp_path / "nothing")], capfd)
        assert f"run `popdl {before}` first" in message
    assert not (tmp_path / "nothing").exists()


def _application(config: Path, folder: Path, **application: object) -> str:
    """A config with one application; returns its path."""
    values = yaml.safe_load(config.read_text())
    values["applications"] = {"genome": application}
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    return str(path)


def test_check_says_all_that_is_wrong_at_once(
    config: Path, data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    study = _application(
        config,
        tmp_path,
        vcf=str(data / "eur_chr20_b37/eur502_chr20_1-4Mb_b37.vcf.gz"),
        build="GRCh38",
        samples={"panel": str(data / "eur_chr20_b37/eur502_chr20_1-4Mb_b37.panel"), "population": "YRI", "number": 6},
        regions=["chr20:1-2000000"],
        windows={"size": 5.0e4},
    )
    message = refused(["check", study], capfd)
    assert "GRCh38" in message
    assert "GRCh37" in message
    assert "YRI" in message
    assert "CEU" in message  # the populations that there are
    assert "'20'" in message  # what this file calls chr20


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        ({"panel": "empty.panel", "population": "CEU"}, "empty.panel"),
        ({"file": "absent.txt"}, "absent.txt"),
        ({"names": ["HG00096", "nobody", "HG00097", "HG00099", "HG00100", "HG00101"]}, "nobody"),
        ({"names": ["HG00096"]}, "num_haplotypes"),
    ],
)
def test_samples_that_cannot_be_had(
    samples: dict, expected: str, config: Path, data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty.panel").write_text("")
    samples = {key: str(tmp_path / value) if key in ("panel", "file") else value for key, value in samples.items()}
    vcf = data / "eur_chr20_b37/eur502_chr20_1-4Mb_b37.vcf.gz"
    study = _application(config, tmp_path, vcf=str(vcf), samples=samples, windows={"size": 5.0e4})
    assert expected in refused(["check", study], capfd)


def test_a_map_that_cannot_be_read(config: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "map.txt").write_text("this is\nno map\n")
    values = yaml.safe_load(config.read_text())
    values["simulation"]["recombination_rate"] = {"map": str(tmp_path / "map.txt")}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(values))
    message = refused(["check", str(tmp_path / "study.yaml")], capfd)
    assert "map.txt" in message
    assert "HapMap format" in message


@pytest.mark.parametrize("name", ["truncated_eur_chr20.vcf.gz", "failed_body_unsorted_000.vcf", "test48a.vcf"])
def test_predict_refuses_a_bad_vcf_and_writes_nothing(
    name: str, results: Path, data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model = str(Results(results / "test").shared_model)
    message = refused(["predict", model, str(data / "bad_vcf" / name), "--output", str(tmp_path / "out")], capfd)
    assert name in message
    assert not files_below(tmp_path)


def test_predict_refuses_what_is_no_model(results: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    vcf = str(Results(results / "test").application("simulated_genome") / "genome.vcf.gz")
    assert vcf in refused(["predict", vcf, vcf, "--output", str(tmp_path / "out")], capfd)
    assert not files_below(tmp_path)


@pytest.mark.skipif(os.geteuid() != 0 or sys.platform != "linux", reason="mounting a small disk needs root on Linux")
def test_a_full_disk_leaves_nothing_half_written(config: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)], check=False)
    if mounted.returncode:
        pytest.skip("this machine mounts no tmpfs")
    try:
        run = subprocess.run(
            [sys.executable, "-m", "popdl.cli", "simulate", str(config), "--results", str(disk)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert run.returncode == 2
        assert "No space left on device" in run.stderr
        assert "Traceback" not in run.stderr
        assert not list(disk.glob("test/simulations.zarr/shard_*"))
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_help_lists_every_step_and_starts_quickly() -> None:
    code = (
        "import sys; from popdl.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass\n"
        "assert not {'torch', 'pandas', 'matplotlib', 'msprime'} & set(sys.modules), sys.modules.keys()"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for step in (
        "check",
        "simulate",
        "encode",
        "split",
        "train",
        "evaluate",
        "predict",
        "report",
        "card",
        "models",
        "new",
        "verify",
    ):
        assert f"    {step} " in run.stdout
