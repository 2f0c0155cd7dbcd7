"""`popdl predict`: several inputs of several kinds, one table, all or nothing."""

from __future__ import annotations

import io
import shutil
import sys
from pathlib import Path

import learnable
import numpy as np
import pandas as pd
import pytest
import torch

from popdl import trust
from popdl.cli import main
from popdl.dataset import open_shards, read_array, read_parameters
from popdl.errors import PopdlError
from popdl.loader import PackedData
from popdl.model import load_model
from popdl.predict_files import predict_files
from popdl.prediction import predict_arrays
from popdl.store import read_shard, write_shard
from popdl.store_index import write_index

CHOICES = {"application": {}, "seed": 1}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict:
    return learnable.dataset(tmp_path_factory.mktemp("learnable"))


@pytest.fixture(scope="module")
def model(data: dict, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return learnable.fit(data, tmp_path_factory.mktemp("trained"))["output"]


@pytest.fixture
def stores(data: dict, tmp_path: Path) -> tuple[Path, Path]:
    """The dataset as a store of encoded shards, and as one of raw shards."""
    folder = data["shards"][0].parent
    encoded, raw = tmp_path / "dataset.zarr", tmp_path / "simulations.zarr"
    for number in range(2):
        shutil.copytree(folder / f"shard_{number}", encoded / f"shard_{number}")
        shutil.copytree(folder / f"raw_{number}", raw / f"shard_{number}")
    write_index(raw, kind="simulations", shards=[raw / "shard_0", raw / "shard_1"])
    return encoded, raw


def genome(path: Path, *, every: int = 40, num_individuals: int = learnable.HAPLOTYPES // 2) -> Path:
    """A VCF of three windows of 1,000 bp with a site every few bp."""
    names = [f"ind_{number}" for number in range(num_individuals)]
    lines = [
        "##fileformat=VCFv4.2",
        "##contig=<ID=20,length=3000>",
        '##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">',
        "\t".join(["#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO", "FORMAT", *names]),
    ]
    for position in range(every, 3000, every):
        genotypes = ["0|1", *["0|0"] * (len(names) - 1)]
        lines.append("\t".join(["20", str(position), ".", "A", "C", ".", "PASS", ".", "GT", *genotypes]))
    path.write_text("\n".join(lines) + "\n")
    return path


def read(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, sep="\t", na_values=["."], keep_default_na=False)


def refused(arguments: list[str], capfd: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as error:
        main(arguments)
    assert error.value.code == 2
    return capfd.readouterr().err


def test_a_number_of_all_individuals_is_drawn(model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = str(genome(tmp_path / "a.vcf", num_individuals=9))
    command = ["predict", str(model), path, "--output", str(tmp_path / "out")]
    assert "9 individuals are chosen, but the networks take 4 (8 haplotypes of ploidy 2); use --number 4." in refused(
        command, capfd
    )
    assert "9 samples, but --number asks for 10; lower it." in refused([*command, "--number", "10"], capfd)
    carrying = set()
    for seed in range(8):  # only the first individual carries anything: draws differ in whether it is there
        main([*command, "--number", "4", "--seed", str(seed)])
        text = (tmp_path / "out.tsv").read_text()
        carrying.add(int(read(tmp_path / "out.tsv")["n_sites"].sum()) > 0)
        main([*command, "--number", "4", "--seed", str(seed)])
        assert (tmp_path / "out.tsv").read_text() == text
    assert carrying == {True, False}


def test_messages_name_options(model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = str(genome(tmp_path / "a.vcf"))
    for arguments, message in (
        (["--window-size", "500"], "--window-size: 500 bp, but the networks were trained on 1000 bp"),
        (["--window-size", "-1"], "--window-size: expected a number greater than 0"),
        (["--window-sites", "3"], "--window-sites: 3, but the networks were trained on up to 24 sites"),
        (["--step", "1.5"], "--step: 1.5, expected a whole number"),
        (["--region", "21"], "--region: there is no contig '21'"),
        (["--panel", "panel.txt"], "--panel and --population belong together"),
        (["--population", "CEU"], "--panel and --population belong together"),
        (["--panel", "p", "--population", "CEU", "--samples", "s"], "--samples: not allowed with argument --panel"),
    ):
        found = refused(["predict", str(model), path, "--output", str(tmp_path / "out"), *arguments], capfd)
        assert message in found
        assert "windows." not in found and "the config is not valid" not in found


def test_a_store_gives_a_row_per_example(model: Path, data: dict, stores: tuple[Path, Path], tmp_path: Path) -> None:
    encoded, raw = stores
    predict_files([model], [encoded], **CHOICES, output=tmp_path / "encoded")
    predict_files([model], [raw], **CHOICES, output=tmp_path / "raw", batch_size=7)
    assert not (tmp_path / "encoded.bed").exists()
    table = read(tmp_path / "encoded.tsv")
    assert table.pop("file").tolist() == [str(encoded)] * len(table)
    pd.testing.assert_frame_equal(read(tmp_path / "raw.tsv").drop(columns="file"), table, rtol=1e-4)
    assert list(table.columns) == [
        *("example", "scenario", "n_sites", "size_true", "size", "size_low", "size_high"),
        *("kind_true", "kind", "kind_p_even", "kind_p_rare", "outside_domain", "domain_percentile"),
    ]
    packed = PackedData.from_shards(data["shards"])
    expected = predict_arrays([load_model(model)], packed, np.arange(packed.num_examples))
    np.testing.assert_allclose(table["size"], expected["size"], rtol=1e-5)
    assert table["kind"].tolist() == expected["kind"].tolist()
    opened = open_shards(data["shards"])
    np.testing.assert_allclose(table["size_true"], read_parameters(opened, ["size"])[:, 0], rtol=1e-5)
    assert table["scenario"].tolist() == read_array(opened, "scenario").tolist()
    assert table["outside_domain"].value_counts()["no"] > 100


def test_one_shard_has_the_rows_that_it_has_in_its_store(
    model: Path, stores: tuple[Path, Path], tmp_path: Path
) -> None:
    encoded, raw = stores
    predict_files([model], [encoded], **CHOICES, output=tmp_path / "whole")
    predict_files([model], [raw / "shard_1", encoded / "shard_0"], **CHOICES, output=tmp_path / "parts")
    whole, parts = read(tmp_path / "whole.tsv"), read(tmp_path / "parts.tsv")
    assert parts["file"].tolist() == [str(raw / "shard_1")] * 60 + [str(encoded / "shard_0")] * 60
    again = parts.drop(columns="file").sort_values("example", ignore_index=True)
    pd.testing.assert_frame_equal(again, whole.drop(columns="file"), rtol=1e-4)


def test_several_genomes_fill_one_table(model: Path, tmp_path: Path) -> None:
    paths = [genome(tmp_path / "a.vcf"), genome(tmp_path / "b.vcf", every=60)]
    alone = []
    for path in paths:
        predict_files([model], [path], **CHOICES, output=tmp_path / path.stem)
        alone.append((tmp_path / f"{path.stem}.tsv").read_text().splitlines())
    predict_files([model], paths, **CHOICES, output=tmp_path / "both")
    lines = (tmp_path / "both.tsv").read_text().splitlines()
    assert lines == [*alone[0], *alone[1][1:]]
    assert lines[0].startswith("file\tcontig") and lines[1].startswith(f"{paths[0]}\t20")
    bed = read(tmp_path / "both.bed")
    assert list(bed.columns[:8]) == ["#chrom", "start", "end", "name", "score", "strand", "file", "n_sites"]
    assert bed["file"].tolist() == [str(paths[0])] * 3 + [str(paths[1])] * 3


def test_appending_gives_what_one_run_gives(model: Path, tmp_path: Path) -> None:
    paths = [genome(tmp_path / "a.vcf"), genome(tmp_path / "b.vcf", every=60)]
    predict_files([model], paths, **CHOICES, output=tmp_path / "once")
    for path, append in zip(paths, (False, True), strict=True):
        predict_files([model], [path], **CHOICES, output=tmp_path / "twice", append=append)
    for ending in ("tsv", "bed"):
        assert (tmp_path / f"twice.{ending}").read_text() == (tmp_path / f"once.{ending}").read_text()


def test_examples_are_appended_and_never_twice(model: Path, stores: tuple[Path, Path], tmp_path: Path) -> None:
    for store in stores:
        predict_files([model], [store], **CHOICES, output=tmp_path / "out", append=True)
    before = (tmp_path / "out.tsv").read_text()
    assert len(read(tmp_path / "out.tsv")) == 240
    with pytest.raises(PopdlError, match=r"simulations\.zarr: --append: its rows are in .*out\.tsv already"):
        predict_files([model], [stores[1]], **CHOICES, output=tmp_path / "out", append=True)
    assert (tmp_path / "out.tsv").read_text() == before
    with pytest.raises(PopdlError, match=r"dataset\.zarr: this file is given twice"):
        predict_files([model], [stores[0], stores[0]], **CHOICES, output=tmp_path / "out")


def test_appending_to_other_columns_is_refused_before_any_work(
    model: Path, stores: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = genome(tmp_path / "a.vcf")
    predict_files([model], [path], **CHOICES, output=tmp_path / "out")
    for ending in ("tsv", "bed"):  # as the workflow writes it
        table = pd.read_csv(tmp_path / f"out.{ending}", sep="\t", dtype=str).drop(columns="file")
        table.to_csv(tmp_path / f"out.{ending}", sep="\t", index=False)
    monkeypatch.setattr("popdl.predict_files._Work.table", lambda *_: pytest.fail("predicted"))
    before = [(tmp_path / f"out.{ending}").read_bytes() for ending in ("tsv", "bed")]
    for inputs in ([path], [stores[0]]):
        with pytest.raises(PopdlError, match=r"out\.tsv: --append needs a table with the columns .*only in one"):
            predict_files([model], inputs, **CHOICES, output=tmp_path / "out", append=True)
    assert [(tmp_path / f"out.{ending}").read_bytes() for ending in ("tsv", "bed")] == before
    (tmp_path / "cut.tsv").write_text("file\tcontig")
    with pytest.raises(PopdlError, match=r"cut\.tsv: --append"):
        predict_files([model], [path], **CHOICES, output=tmp_path / "cut", append=True)


def test_one_bad_input_leaves_nothing(model: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.vcf").write_text("no VCF\n")
    with pytest.raises(PopdlError, match=r"bad\.vcf"):
        predict_files(
            [model], [genome(tmp_path / "a.vcf"), tmp_path / "bad.vcf"], **CHOICES, output=tmp_path / "new" / "out"
        )
    assert not (tmp_path / "new").exists()


def test_windows_of_a_study_are_predicted_as_a_genome(model: Path, data: dict, tmp_path: Path) -> None:
    windows = learnable.windows(tmp_path, data["shards"][0], reasons=["", "no sites"])
    predict_files([model], [windows], **CHOICES, output=tmp_path / "out")
    assert read(tmp_path / "out.tsv")["reason"].fillna("").tolist() == ["", "no sites"]
    assert (tmp_path / "out.bed").exists()


def test_what_cannot_be_predicted_together_or_at_all(model: Path, stores: tuple[Path, Path], tmp_path: Path) -> None:
    path = genome(tmp_path / "a.vcf")
    copy = Path(shutil.copy(model, tmp_path / "copy.safetensors"))
    for name in ("a.npz", "a.yml", "net.pth"):
        (tmp_path / name).touch()
    for models, inputs, application, message in (
        ([model], [path, stores[0]], {}, r"a\.vcf gives windows of a genome, .*dataset\.zarr gives examples"),
        (
            [model],
            [stores[0]],
            {"regions": ["20"]},
            r"dataset\.zarr: samples, regions and windows are chosen for genomes",
        ),
        ([], [path], {}, r"a\.vcf: there is no model \(\.safetensors\) among these files"),
        ([model], [], {}, r"model\.safetensors: there is nothing to predict"),
        ([model], [path, tmp_path / "absent.vcf"], {"windows": {"size": -1}}, r"absent\.vcf: there is no such file"),
        ([tmp_path / "absent.safetensors"], [path], {}, r"absent\.safetensors: there is no such file"),
        ([model], [tmp_path], {}, f"{tmp_path}: this folder is no store of examples"),
        ([model], [tmp_path / "a.npz"], {}, r"a\.npz: npz files are imported .*from_dnadna\.md#predicting"),
        ([model], [tmp_path / "a.yml"], {}, r"a\.yml: a config cannot be predicted.*from_dnadna\.md#predicting"),
        ([], [tmp_path / "net.pth", path], {}, r"weights of dnadna cannot be taken over \(they are pickles"),
        ([model, model], [path], {}, r"this is the same model as .*model\.safetensors, which would count twice"),
        ([model, copy], [path], {}, r"copy\.safetensors: this is the same model as .*model\.safetensors"),
    ):
        with pytest.raises(PopdlError, match=message):
            predict_files(models, inputs, application=application, seed=1, output=tmp_path / "out")
    assert not (tmp_path / "out.tsv").exists()


def test_a_store_of_another_shape_is_named(model: Path, tmp_path: Path) -> None:
    other = learnable.dataset(tmp_path, max_sites=16, num_shards=1)["shards"][0]
    with pytest.raises(PopdlError, match=r"shard_0: .*takes other data: max_sites expected 24, found 16"):
        predict_files([model], [other], **CHOICES, output=tmp_path / "out")


def test_device_and_threads(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, before = genome(tmp_path / "a.vcf"), torch.get_num_threads()
    predict_files([model], [path], **CHOICES, output=tmp_path / "out", device="cpu", threads=1)
    assert torch.get_num_threads() == before
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(PopdlError, match="--device cuda: torch finds no GPU here"):
        predict_files([model], [path], **CHOICES, output=tmp_path / "out", device="cuda")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_predicts_what_a_cpu_does(model: Path, stores: tuple[Path, Path], tmp_path: Path) -> None:
    for device in ("cpu", "cuda"):
        predict_files([model], [stores[0]], **CHOICES, output=tmp_path / device, device=device)
    pd.testing.assert_frame_equal(read(tmp_path / "cpu.tsv"), read(tmp_path / "cuda.tsv"), rtol=1e-4)


def test_on_the_command_line(
    model: Path, stores: tuple[Path, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    paths = [str(genome(tmp_path / "a.vcf")), str(genome(tmp_path / "b.vcf"))]
    main(["predict", str(model), *paths, "--output", str(tmp_path / "out.tsv"), "--batch-size", "2", "--threads", "1"])
    assert (tmp_path / "out.tsv").exists() and (tmp_path / "out.bed").exists()
    third = str(genome(tmp_path / "c.vcf"))
    main(["predict", str(model), third, "--output", str(tmp_path / "out.tsv"), "--append", "--device", "cpu"])
    assert len(read(tmp_path / "out.tsv")) == 9
    assert "there is nothing to predict" in refused(["predict", str(model), "--output", str(tmp_path / "none")], capfd)
    for wrong in (["--batch-size", "0"], ["--threads", "x"], ["--device", "tpu"]):
        refused(["predict", str(model), paths[0], "--output", str(tmp_path / "none"), *wrong], capfd)
    assert not (tmp_path / "none.tsv").exists()


NETWORK = """
from pathlib import Path

from popdl.networks._base import Network

Path("ran").touch()


class Mine(Network):
    def __init__(self, settings, shape):
        super().__init__(settings, shape)
        self.num_features = shape.num_haplotypes

    def forward(self, genotypes, positions, mask):
        return genotypes.mean(dim=2)
"""


@pytest.fixture
def own(data: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model with a network of its author's, in the folder of somebody who has never run it."""
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(NETWORK)
    path = learnable.fit(data, tmp_path, options={"name": "mine.py:Mine"})["output"]
    Path("ran").unlink(missing_ok=True)
    for name in [name for name in sys.modules if name.startswith("popdl_plugin_")]:
        del sys.modules[name]
    return path


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_code_of_an_author_runs_only_once_trusted(own: Path, capfd: pytest.CaptureFixture[str]) -> None:
    genome(Path("a.vcf"))
    command = ["predict", "model.safetensors", "a.vcf", "--output", "out"]
    # That the very file lies there may be the author's doing: here it is not enough.
    message = refused(command, capfd)
    digest = load_digest(own)
    assert f"code of its author, 'mine.py' (SHA-256 {digest}), which was not run" in message
    assert not Path("ran").exists() and not Path("out.tsv").exists()
    Path("mine.py").unlink()
    main([*command, "--trust-plugin"])
    assert f"Running code of the model's author: 'mine.py' (SHA-256 {digest})" in capfd.readouterr().err
    assert Path("ran").exists() and Path("out.tsv").exists()


@pytest.mark.parametrize(
    ("answer", "runs"), [("y\n", True), ("yes\n", True), ("n\n", False), ("\n", False), ("", False)]
)
def test_on_a_terminal_the_user_is_asked(own: Path, answer: str, runs: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = Terminal()
    monkeypatch.setattr(sys, "stdin", Terminal(answer))
    monkeypatch.setattr(sys, "stderr", shown)
    if runs:
        load_model(own, trust=trust.asking(trusted=False))
    else:
        with pytest.raises(PopdlError, match="which was not run"):
            load_model(own, trust=trust.asking(trusted=False))
    assert Path("ran").exists() == runs
    assert f"'mine.py' (SHA-256 {load_digest(own)}), 15 lines" in shown.getvalue()


def load_digest(path: Path) -> str:
    from popdl.model import read_card

    return read_card(path)["network"]["sha256"]


def test_raw_examples_of_another_shape_are_named(model: Path, data: dict, tmp_path: Path) -> None:
    raw = read_shard(data["shards"][0].parent / "raw_0", kind="simulations")
    for key, value in (("sequence_length", 2000.0), ("ploidy", 1)):
        arrays = {name: raw[name] for name in raw.names}
        write_shard(tmp_path / key, kind="simulations", arrays=arrays, attributes={**raw.attributes, key: value})
        with pytest.raises(PopdlError, match=rf"{key}: {key} is {value:g}, but the encoding takes"):
            predict_files([model], [tmp_path / key], **CHOICES, output=tmp_path / "out")
