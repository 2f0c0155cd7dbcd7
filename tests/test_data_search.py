"""Searching over keys that need other data: which data there are, which are chosen, and that everything after uses them."""

from __future__ import annotations

import copy
import errno
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from popdl import steps
from popdl.config.reading import in_any_order
from popdl.config.study import build_study, load_study
from popdl.errors import PopdlError
from popdl.layout import Results
from popdl.model import read_card
from popdl.store import link_shard, read_shard, verify_shard
from popdl.study_check import check_study
from popdl.trials import data_variants, draw_values, num_trials, source_variants, trial_over
from popdl.variants import choose_data, chosen_study, variants, vary

SITES, RATE, HAPLOTYPES = "encoding.max_sites", "training.learning_rate", "simulation.num_haplotypes"
GRID = {"over": {RATE: [1e-3, 1e-2], SITES: [32, 64], HAPLOTYPES: [8, 12], "networks.net.head": [[4], [8]]}}


def test_a_grid_has_every_combination_of_its_data_once() -> None:
    found = data_variants(GRID, seed=1)
    assert [tuple(values.values()) for values in found] == [(32, 8), (32, 12), (64, 8), (64, 12)]
    assert source_variants(found) == [{HAPLOTYPES: 8}, {HAPLOTYPES: 12}]
    assert source_variants(data_variants({"over": {SITES: [32, 64]}}, seed=1)) == []
    assert data_variants({"over": {RATE: [1e-3, 1e-2]}}, seed=1) == data_variants(None, seed=1) == []
    assert num_trials(GRID, "net") == 16 and num_trials(GRID, "other") == 8


def test_networks_share_the_data_that_are_drawn() -> None:
    over = {**GRID["over"], HAPLOTYPES: {"randint": [2, 5]}}
    search = {"method": "random", "trials": 30, "over": over}
    found = data_variants(search, seed=3)
    assert len(found) == 6, "both numbers of sites with each of 2, 3 and 4 haplotypes, each once"
    for network in ("net", "other"):
        for trial in range(30):
            values = draw_values(trial_over(search, network, trial), trial=trial, seed=3)
            assert {key: values[key] for key in (SITES, HAPLOTYPES)} in found
    assert (
        data_variants({**search, "trials": 4}, seed=3) == found[: len(data_variants({**search, "trials": 4}, seed=3))]
    )


def test_the_snakefile_reads_a_grid_without_numpy(root: Path) -> None:
    code = (
        "import sys; from popdl.trials import data_variants as d; d({'over': {'encoding.max_sites': [2, 3]}}, seed=1)"
    )
    code += "; print(sorted({'numpy', 'pydantic', 'torch'} & set(sys.modules)))"
    environment = {**os.environ, "PYTHONPATH": str(root / "src")}
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert run.stdout == "[]\n"


def test_the_order_of_populations_is_kept_under_a_key_with_dots() -> None:
    over = {"over": {HAPLOTYPES: [{"YRI": 4, "CEU": 6}], "a.b": [{"y": 1, "x": 2}]}}
    found = in_any_order(over)["over"]
    assert list(found[HAPLOTYPES][0]) == ["YRI", "CEU"] and list(found["a.b"][0]) == ["x", "y"]


@pytest.fixture
def config(root: Path) -> dict[str, Any]:
    values = yaml.safe_load((root / "config/test.yaml").read_text())
    values |= {"study": "tiny", "networks": {"mlp": {"widths": [4]}}, "baselines": ["prior_mean"]}
    values["targets"] = {"recent_size": {"scale": "log"}}
    values["simulation"] |= {"num_scenarios": 40, "replicates": 1, "shard_size": 20}
    values["training"] = {"batch_size": 16, "max_epochs": 1, "replicates": 2}
    return values


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("encoding.max_site", "there is no such key; did you mean 'max_sites'"),
        ("encoding", "there is no such key; known: alleles"),
        ("simulation.num_haplotype", "there is no such key; did you mean 'num_haplotypes'"),
        ("simulation.num_scenarios", "more examples are never worse.* write a config for each value, with `inherits:`"),
        ("simulation.replicates", "more examples are never worse"),
        ("simulation.shard_size", "more examples are never worse"),
        ("import.files", "this study has no section `import:`; search over `simulation`"),
        ("targets.recent_size.scale", "validation losses of different .* cannot be compared; write a config"),
        ("splits.train", "cannot be compared"),
        ("evaluation.interval", "cannot be compared"),
        ("statistics", "no network reads the statistics"),
        *(
            (key, "changes nothing that a network learns")
            for key in ("seed", "study", "baselines", "authors", "search")
        ),
        ("applications.ceu.windows", "changes nothing that a network learns"),
    ],
)
def test_keys_that_cannot_be_searched_are_refused(config: dict[str, Any], key: str, message: str) -> None:
    with pytest.raises(PopdlError, match=rf"search\.over\.{key}: .*{message}"):
        build_study({**config, "search": {"over": {key: [1, 2]}}})


def test_data_that_cannot_be_made_are_found_before(config: dict[str, Any]) -> None:
    def problems(**search: Any) -> list[str]:
        return check_study(build_study({**config, "applications": {}, "search": search}), config_only=True)

    assert problems(over={SITES: [32, 64], HAPLOTYPES: [8, 12]}) == []
    (problem,) = problems(over={SITES: [1, 64], RATE: [0.1, 0.2]})
    assert re.search(r"search, encoding.max_sites: 1: .*\n.*encoding.max_sites: expected .*2.*, found 1", problem), (
        problem
    )
    lengths = {"encoding.crop_length": [1e4, 4e4], "simulation.sequence_length": [3e4, 5e4]}
    (problem,) = problems(over=lengths)
    assert "encoding.crop_length: 40000.0, simulation.sequence_length: 30000.0" in problem and "longer than" in problem
    (problem,) = problems(over={"simulation.parameters.event_time": [{"choice": [100, 2000]}, {"uniform": [5, 1]}]})
    assert "low must be below high" in problem
    crop = {"transforms.prediction": [[{"name": "crop", "sites": 40}]], SITES: [32, 64]}
    (problem,) = (found for found in problems(over=crop) if "more than there are" in found)
    assert "trial 0 of mlp" in problem and "max_sites: 32" in problem


def test_applications_must_fit_every_variant(config: dict[str, Any]) -> None:
    search = {"over": {HAPLOTYPES: [8, 12]}}
    (problem,) = check_study(build_study({**config, "search": search}), config_only=True)
    assert (
        "search, simulation.num_haplotypes: 8" in problem
        and "are 12 haplotypes, but the networks are trained on 8" in problem
    )


def trial(folder: Path, network: str, number: int, values: dict[str, Any], loss: float | None) -> Path:
    path = folder / network / str(number)
    path.mkdir(parents=True)
    content = {"network": network, "trial": number, "values": values, "validation_loss": loss}
    (path / "trial.json").write_text(json.dumps(content))
    return path


def test_the_best_trial_of_any_network_chooses_for_all(tmp_path: Path) -> None:
    known = [{SITES: 32}, {SITES: 64}, {SITES: 96}]
    losses = {("a", 32): 0.5, ("a", 64): 0.9, ("a", 96): 0.1, ("b", 32): 0.8, ("b", 64): 0.4, ("b", 96): None}
    folders = [
        trial(tmp_path, network, sites, {SITES: sites, RATE: 1}, loss) for (network, sites), loss in losses.items()
    ]
    sections = {"encoding": {"max_sites": 400, "sort": "none"}, "simulation": {"num_haplotypes": 8}}
    choose_data(folders, variants=known, sections=sections, output=tmp_path / "chosen.json")
    chosen = json.loads((tmp_path / "chosen.json").read_text())
    assert chosen["variant"] == 1 and chosen["source"] is None, "0.1 is lower than 0.4, but network b failed there"
    assert chosen["sections"] == {**sections, "encoding": {"max_sites": 64, "sort": "none"}}
    failed = [trial(tmp_path / "failed", network, 0, {SITES: 32}, None) for network in "ab"]
    with pytest.raises(PopdlError, match=r"on each of the 3 variants of the data, .* lower learning rates"):
        choose_data(failed, variants=known, sections=sections, output=tmp_path / "none.json")


def run(config: dict[str, Any], folder: Path, *names: str) -> Results:
    study, results = build_study(config), Results(folder)
    for name in names or ("simulate", "encode", "split", "train", "evaluate"):
        getattr(steps, name)(study, results)
    return results


def contents(results: Results) -> dict[str, bytes]:
    """Data, splits, models and scores of a study."""
    names = ("simulations.zarr/**/*", "dataset.zarr/**/*", "splits.tsv", "targets.json", "models/**/*.safetensors")
    paths = [path for name in (*names, "predictions/**/*.tsv", "metrics.json") for path in results.folder.glob(name)]
    return {
        str(path.relative_to(results.folder)): path.read_bytes()
        for path in paths
        if path.is_file() and path.name != ".snakemake_timestamp"
    }


@pytest.mark.slow
@pytest.mark.parametrize(("key", "values"), [(SITES, [8, 64]), (HAPLOTYPES, [4, 12])])
def test_the_choice_is_the_study_in_which_it_is_written(
    config: dict[str, Any], tmp_path: Path, key: str, values: list[int]
) -> None:
    over = {RATE: [1e-3, 1e-2]}
    if key == HAPLOTYPES:
        config["applications"] = {}
    searching = {**config, "search": {"over": {**over, key: values}}}
    results = run(searching, tmp_path / "searched")
    chosen = json.loads(results.chosen_data.read_text())["values"][key]
    fixed = copy.deepcopy({**config, "search": {"over": over}})
    section, _, name = key.partition(".")
    fixed[section][name] = chosen
    assert chosen in values and contents(results) == contents(run(fixed, tmp_path / "fixed"))

    # The config has another value: what comes after the search must not look at it.
    (other,) = set(values) - {chosen}
    searching[section] = {**searching[section], name: other}
    study = build_study(searching)
    assert getattr(getattr(chosen_study(study, results), section), name) == chosen
    run(searching, results.folder, "train", "evaluate", "apply", "report")
    assert contents(results) == contents(Results(tmp_path / "fixed"))
    card = read_card(results.shared_model)
    assert (card["shape"]["max_sites"], card["shape"]["num_haplotypes"]) == (
        (chosen, 12) if key == SITES else (64, chosen)
    )
    for path in (results.folder / "applications").glob("*/windows.zarr"):
        assert read_shard(path, kind="windows").attributes["max_sites"] == chosen
    page = results.report.read_text()
    assert f"{key} = {chosen}" in page
    assert ("not of the same exam" in page) == (key == HAPLOTYPES)
    raw = list((results.folder / "variants/simulations").glob("*"))
    assert len(raw) == (2 if key == HAPLOTYPES else 0)


@pytest.mark.parametrize("links", [True, False])
def test_a_linked_shard_is_the_same(
    config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    def refuse(*paths: Path) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    if not links:
        monkeypatch.setattr(os, "link", refuse)
    steps.simulate(build_study(config), Results(tmp_path), only=[0])
    source, target = Results(tmp_path).simulations(0), tmp_path / "elsewhere/shard_0"
    for _ in range(2):  # the second replaces the first
        link_shard(source, target)
    verify_shard(target)
    assert (target / "manifest.json").stat().st_nlink == (2 if links else 1)
    assert read_shard(target, kind="simulations").digest == read_shard(source, kind="simulations").digest
    (source / "positions/zarr.json").unlink()
    with pytest.raises(PopdlError, match=r"positions/zarr.json is missing"):
        link_shard(source, target)
    verify_shard(target)


def test_nothing_is_reported_before_it_is_chosen(config: dict[str, Any], tmp_path: Path) -> None:
    study = build_study({**config, "search": {"over": {SITES: [8, 64]}}})
    with pytest.raises(PopdlError, match=r"chosen.json is missing; run `popdl train` first"):
        chosen_study(study, Results(tmp_path))
    assert [variant.study.encoding.max_sites for variant in variants(study, Results(tmp_path))] == [8, 64]
    assert vary(study, {SITES: 16}).encoding.max_sites == 16


def snakemake(root: Path, folder: Path, config: dict[str, Any], *options: str) -> str:
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(root / "Snakefile"), "--directory", str(folder)]
    command += ["--profile", str(root / "profiles/default"), "--configfile", str(path), "--cores", "2", *options]
    environment = {**os.environ, "PYTHONPATH": str(root / "src")}
    run = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert run.returncode == 0, run.stderr[-5000:]
    return run.stdout + run.stderr


def planned(text: str) -> dict[str, int]:
    """Jobs by rule in the table that a dry run prints."""
    return {rule: int(count) for rule, count in re.findall(r"^(\w+)\s+(\d+)$", text, flags=re.MULTILINE)}


@pytest.mark.end_to_end
def test_variants_of_the_encoding_share_their_simulations(root: Path, config: dict[str, Any], tmp_path: Path) -> None:
    search = {"over": {SITES: [16, 32, 64], RATE: [1e-3, 1e-2]}}
    jobs = planned(snakemake(root, tmp_path, {**config, "search": search}, "--dry-run", "--quiet", "host"))
    expected = {"simulate_shard": 2, "encode_variant": 6, "split_variant": 3, "run_trial": 6, "choose_data": 1}
    assert {rule: jobs.get(rule) for rule in expected} == expected
    assert jobs["adopt_shard"] == 2 and jobs["adopt_files"] == 1 and not {"encode_shard", "split"} & set(jobs)
    search["over"][HAPLOTYPES] = [10, 12]
    both = {**config, "applications": {}, "search": search}
    jobs = planned(snakemake(root, tmp_path, both, "--dry-run", "--quiet", "host"))
    expected = {"simulate_variant": 4, "encode_variant": 12, "split_variant": 6, "run_trial": 12, "adopt_shard": 4}
    assert {rule: jobs.get(rule) for rule in expected} == expected and "simulate_shard" not in jobs


@pytest.mark.slow
@pytest.mark.end_to_end
@pytest.mark.parametrize(("key", "values"), [(SITES, [8, 64]), (HAPLOTYPES, [4, 12])])
def test_snakemake_gives_the_same_bytes(
    root: Path, config: dict[str, Any], tmp_path: Path, key: str, values: list[int]
) -> None:
    """Jobs on two cores against one process, and all that comes after the search uses what it has chosen."""
    applications = {} if key == HAPLOTYPES else config["applications"]
    config |= {"search": {"over": {key: values}}, "applications": applications}
    config["simulation"]["shard_size"] = 40  # one job instead of two
    results = Results(tmp_path / "results/tiny")
    names = ["metrics.json", "simulations.zarr/zarr.json", "dataset.zarr/zarr.json", "search.tsv"]
    names += [f"applications/{name}/windows.zarr" for name in applications]
    snakemake(root, tmp_path, config, *(f"results/tiny/{name}" for name in names))
    again = run(config, tmp_path / "again")
    assert contents(again) == contents(results)
    chosen = json.loads(results.chosen_data.read_text())["values"]
    assert chosen == json.loads(again.chosen_data.read_text())["values"]
    for name in applications:
        windows = read_shard(results.application(name) / "windows.zarr", kind="windows")
        assert windows.attributes["fingerprint"] == read_card(results.model("mlp/1"))["fingerprint"]
    study = load_study(tmp_path / "study.yaml")
    assert read_card(results.model("mlp/1"))["priors"] == read_card(again.model("mlp/1"))["priors"]
    assert chosen_study(study, results) == vary(study, chosen)
