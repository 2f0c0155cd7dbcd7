"""docs/from_dnadna.md: its files and commands are run as they stand there."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import msprime
import numpy as np
import pandas as pd
import pytest

from popdl import cli
from popdl.config.study import load_study
from popdl.layout import Results
from popdl.splits import read_splits
from popdl.store import read_shard


@pytest.fixture(scope="module")
def page(root: Path) -> str:
    return (root / "docs/from_dnadna.md").read_text(encoding="utf-8")


def write_vcf(path: Path) -> None:
    """Ten individuals, three windows of 100 kb."""
    trees = msprime.sim_ancestry(
        10, population_size=20_000, sequence_length=3e5, recombination_rate=1e-8, random_seed=1
    )
    mutated = msprime.sim_mutations(trees, rate=2e-8, random_seed=1, model=msprime.BinaryMutationModel())
    with open(path, "w") as file:
        for line in mutated.as_vcf(position_transform=lambda positions: 1 + np.floor(positions)).splitlines(True):
            fields = line.split("\t")
            if line[0] != "#":
                fields[3:5] = ["A", "C"]
            file.write("\t".join(fields))


def write_unlabelled(folder: Path) -> None:
    """Three scenarios of the exported dataset, without their labels."""
    for scenario in range(3):
        (folder / f"scenario_{scenario}").mkdir(parents=True)
        (source,) = Path("one_event").glob(f"scenario_*{scenario:02}/one_event_*_0.npz")
        shutil.copy(source, folder / f"scenario_{scenario}/one_event_{scenario}_0.npz")
    (folder / "scenarios.csv").write_text("scenario_idx,recent_size\n0,\n1,\n2,\n")


@pytest.mark.slow
def test_walk_through(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From a dataset in dnadna's layout to predictions, by the files and the commands of the page."""
    monkeypatch.chdir(tmp_path)
    write_vcf(Path("samples.vcf"))
    commands = []
    for language, text in re.findall(r"^```(\w*)\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL):
        name, _, content = text.partition("\n")
        if name.startswith("# "):
            Path(name.removeprefix("# ")).write_text(content)
        elif not language:
            commands += [shlex.split(line) for line in text.splitlines()]
    assert len(commands) >= 11 and {command[0] for command in commands} == {"popdl"}
    for command in commands:
        if command == ["popdl", "import", "samples.yaml"]:
            write_unlabelled(Path("samples"))
        cli.main(command[1:])

    simulated, imported = (
        read_shard(Results(Path("results") / name).simulations(0), kind="simulations") for name in ("sims", "my_study")
    )
    np.testing.assert_array_equal(imported["genotypes"], simulated["genotypes"])
    np.testing.assert_allclose(imported["positions"], simulated["positions"])
    columns = [simulated.attributes["parameters"].index(name) for name in imported.attributes["parameters"]]
    np.testing.assert_array_equal(imported["parameters"], simulated["parameters"][:, columns])

    results = Results(Path("results/my_study"))
    for name in re.findall(r"^\| `([\w./]+)` \| ", page[: page.index("## Commands")], flags=re.MULTILINE):
        assert (results.folder / name).is_file(), name
    test = read_splits(results.splits).query("split == 'test'")
    assert pd.read_csv(results.test_predictions("spidna/0"), sep="\t")["example"].tolist() == test["example"].tolist()
    predictions = pd.read_csv("my_predictions.tsv", sep="\t")
    assert len(predictions) == 3
    for target in ("recent_size", "event_size", "event_time"):
        assert (predictions[f"{target}_low"] < predictions[target]).all()
    unlabelled = pd.read_csv("npz_predictions.tsv", sep="\t", na_values=["."])
    assert len(unlabelled) == 3 and unlabelled["recent_size"].notna().all()
    assert load_study(results.config) == load_study("my_study.yaml")


def test_links_lead_somewhere(page: str, root: Path) -> None:
    anchors = {
        re.sub(r"[^\w -]", "", title).lower().replace(" ", "-")
        for title in re.findall(r"^#+ (.*)$", page, re.MULTILINE)
    }
    for target in re.findall(r"\]\(([^)]*)\)", page):
        path, _, anchor = target.partition("#")
        if path and "://" not in path:
            assert (root / "docs" / path).exists(), target
        elif not path:
            assert anchor in anchors, target
