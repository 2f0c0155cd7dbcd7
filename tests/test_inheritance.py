"""`inherits:`: what a config takes over from another, what it changes, and the file that repeats the run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

import popdl.config.schema as schema
from popdl.config.base import Section
from popdl.config.reading import NULL_IS_A_VALUE, merged, read_config, read_configs
from popdl.config.study import build_study, load_study, write_study
from popdl.errors import PopdlError


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def base(root: Path, tmp_path: Path) -> Path:
    """A copy of the test study, in a folder of its own."""
    return write(tmp_path / "base/test.yaml", (root / "config/test.yaml").read_text())


def test_only_what_is_changed_differs(base: Path, tmp_path: Path) -> None:
    child = write(
        tmp_path / "child.yaml",
        "inherits: base/test.yaml\nstudy: child\nseed: 8\ntraining: {max_epochs: 3}\n"
        "networks: {cnn: null, spidna: {}}\nsimulation: {parameters: {event_time: {uniform: [80, 4000]}}}\n"
        "targets: {event_time: null}\n",
    )
    before, after = load_study(base), load_study(child)
    assert (after.study, after.seed, after.training.max_epochs) == ("child", 8, 3)
    assert after.training.batch_size == before.training.batch_size == 16
    assert list(after.networks) == ["exchangeable", "spidna"]
    assert list(after.targets) == ["recent_size"]
    assert after.simulation is not None and before.simulation is not None
    assert after.simulation.priors["event_time"].distribution == "uniform"  # a prior is replaced whole
    assert after.simulation.priors["recent_size"] == before.simulation.priors["recent_size"]
    assert after.applications == before.applications


def test_chain_and_paths_from_each_file(base: Path, tmp_path: Path) -> None:
    write(
        tmp_path / "far/middle.yaml",
        "inherits: ../base/test.yaml\nstudy: middle\nseed: 1\nevaluation: {interval: 0.8}\n",
    )
    last = write(tmp_path / "last.yaml", "inherits: far/middle.yaml\nstudy: last\nevaluation: {interval: null}\n")
    study = load_study(last)
    assert (study.study, study.seed, study.evaluation.interval) == ("last", 1, 0.9)


def test_the_name_is_not_inherited(base: Path, tmp_path: Path) -> None:
    child = write(tmp_path / "child.yaml", "inherits: base/test.yaml\nseed: 3\n")
    with pytest.raises(PopdlError, match="study: this key is required"):
        load_study(child)


def test_circles_are_refused_with_the_chain(tmp_path: Path) -> None:
    for name, parent in (("a", "b"), ("b", "c"), ("c", "a")):
        write(tmp_path / f"{name}.yaml", f"inherits: {parent}.yaml\n")
    with pytest.raises(PopdlError, match=r"cannot inherit from itself: \S+a.yaml → \S+b.yaml → \S+c.yaml → \S+a.yaml"):
        read_config(tmp_path / "a.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("inherits: nowhere.yaml\n", "nowhere.yaml: cannot read the config: No such file"),
        ("inherits: [a.yaml, b.yaml]\n", "inherits: expected the path of one config, found"),
        ("inherits: null\n", "inherits: expected the path of one config, found None"),
    ],
)
def test_bad_parents(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(PopdlError, match=message):
        read_config(write(tmp_path / "child.yaml", text))


def test_only_a_file_can_inherit(root: Path) -> None:
    values = yaml.safe_load((root / "config/test.yaml").read_text())
    with pytest.raises(PopdlError, match="only a config in a file can inherit"):
        build_study({**values, "inherits": "test.yaml"})


def test_one_origin_takes_the_place_of_the_other(base: Path, tmp_path: Path) -> None:
    imported = "format: ms, files: a.txt, parameters: {theta: {flag: -t}}, num_haplotypes: 12, sequence_length: 1e3"
    write(
        tmp_path / "mine.yaml",
        f"study: mine\nimport: {{{imported}, num_scenarios: 3}}\ntargets: {{theta: {{}}}}\nnetworks: {{exchangeable: {{}}}}\n",
    )
    child = write(tmp_path / "child.yaml", "inherits: base/test.yaml\nstudy: child\nimport: {format: ms}\n")
    assert "simulation" not in read_config(child)
    simulation = yaml.safe_load(base.read_text())["simulation"]
    back = write(
        tmp_path / "back.yaml",
        yaml.safe_dump(
            {
                "inherits": "mine.yaml",
                "study": "back",
                "simulation": simulation,
                "targets": {"theta": None, "recent_size": {}},
            }
        ),
    )
    study = load_study(back)
    assert study.import_ is None and list(study.targets) == ["recent_size"]


def test_a_part_of_another_name_takes_nothing_over() -> None:
    base = {"schedule": {"name": "ReduceLROnPlateau", "patience": 3}, "net": {"name": "cnn", "filters": [1]}}
    changes = {"schedule": {"name": "OneCycleLR"}, "net": {"name": "cnn", "width": 2}}
    assert merged(base, changes) == {"schedule": {"name": "OneCycleLR"}, "net": {**base["net"], "width": 2}}


def test_merging() -> None:
    base = {"a": {"b": 1, "c": [1, 2]}, "training": {"gradient_clip": 0.5, "patience": 3}, "windows": {"size": 10}}
    changes = {
        "a": {"c": [3]},
        "training": {"gradient_clip": None, "patience": None},
        "windows": {"sites": 5},
        "d": None,
    }
    assert merged(base, changes) == {
        "a": {"b": 1, "c": [3]},
        "training": {"gradient_clip": None},
        "windows": {"sites": 5},
        "d": None,
    }
    assert base["a"] == {"b": 1, "c": [1, 2]}
    assert merged(base, {}) == base


def _sections(section: type[Section]) -> set[type[Section]]:
    return {section, *(found for child in section.__subclasses__() for found in _sections(child))}


def test_null_is_a_value_where_it_is_not_the_default() -> None:
    schema.study_schema()  # loads every part, so that all sections are known
    meant = {
        name
        for section in _sections(Section)
        if section.__module__.startswith("popdl.")
        for name, field in section.model_fields.items()
        if type(None) in getattr(field.annotation, "__args__", ())
        and not field.is_required()
        and field.default is not None
    }
    assert meant == set(NULL_IS_A_VALUE)


def test_no_clipping_survives_writing(root: Path, tmp_path: Path) -> None:
    values: dict[str, Any] = yaml.safe_load((root / "config/test.yaml").read_text())
    values["training"]["gradient_clip"] = None
    write_study(build_study(values), tmp_path / "written.yaml")
    assert load_study(tmp_path / "written.yaml").training.gradient_clip is None


def test_command_line_changes_come_last(base: Path, tmp_path: Path) -> None:
    child = write(
        tmp_path / "child.yaml", "inherits: base/test.yaml\nstudy: child\nseed: 8\ntraining: {max_epochs: 3}\n"
    )
    values = read_configs([child], {"seed": 9, "training": {"threads": 2}})
    assert (values["seed"], values["training"]["threads"], values["training"]["max_epochs"]) == (9, 2, 3)


def _written_config(root: Path, folder: Path, config: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(root / "Snakefile"), "--directory", str(folder)]
    command += ["--configfile", str(config), "--profile", str(root / "profiles/default"), "--cores", "1"]
    environment = {**os.environ, "PYTHONPATH": str(root / "src")}
    return subprocess.run(
        [*command, *options], capture_output=True, text=True, timeout=300, check=False, env=environment
    )


@pytest.mark.slow
@pytest.mark.end_to_end
def test_snakemake_runs_the_expanded_config(root: Path, base: Path, tmp_path: Path) -> None:
    child = write(tmp_path / "child.yaml", "inherits: base/test.yaml\nstudy: child\ntraining: {max_epochs: 3}\n")
    target = "results/child/config.yaml"
    run = _written_config(root, tmp_path, child, target, "--config", "seed=9")
    assert run.returncode == 0, run.stderr[-3000:]
    expanded = load_study(tmp_path / target)
    assert expanded == load_study(child).model_copy(update={"seed": 9})
    assert "inherits" not in (tmp_path / target).read_text()
    first = (tmp_path / target).read_bytes()
    again = write(tmp_path / "again.yaml", first.decode())
    run = _written_config(root, tmp_path / "elsewhere", again, target)
    assert run.returncode == 0, run.stderr[-3000:]
    assert (tmp_path / "elsewhere" / target).read_bytes() == first

    write(tmp_path / "base/test.yaml", "inherits: ../child.yaml\n")
    run = _written_config(root, tmp_path, child, target)
    assert run.returncode == 2
    assert "cannot inherit from itself" in run.stderr and "Traceback" not in run.stderr
