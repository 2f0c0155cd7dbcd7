"""`popdl new`: what it writes works as written."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from popdl.cli import main
from popdl.config.reading import read_yaml
from popdl.config.study import build_study, load_study
from popdl.errors import PopdlError
from popdl.scaffold import kinds, new
from popdl.study_check import check_study


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with one new file of each kind."""
    folder = tmp_path_factory.mktemp("a project")
    for kind in kinds():
        new(kind, f"own_{kind}_2", project=folder)
    return folder


def test_there_is_one_for_each_kind() -> None:
    assert {"simulator", "network", "statistic", "study"} <= set(kinds())


def test_the_tests_that_it_writes_pass_as_written(project: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "plugins", "config"],
        cwd=project,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-3000:]
    assert len(list(project.rglob("test_*.py"))) == len(kinds())


def test_what_it_writes_is_in_the_style_of_the_project(project: Path, root: Path) -> None:
    ruff = [sys.executable, "-m", "ruff"]
    for command in (["check", "--no-cache"], ["format", "--check", "--no-cache"]):
        run = subprocess.run(
            [*ruff, *command, "--config", str(root / "pyproject.toml"), str(project)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert run.returncode == 0, run.stdout


def test_the_parts_work_in_the_test_study(project: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    values = read_yaml(root / "config/test.yaml")
    values["networks"]["own"] = {"name": "plugins/own_network_2.py:OwnNetwork2", "width": 8}
    values["statistics"] = [{"name": "plugins/own_statistic_2.py:OwnStatistic2", "parts": 4}]
    assert check_study(build_study(values)) == []


@pytest.mark.parametrize("kind", ["simulator", "network", "statistic"])
def test_the_lines_for_the_config_that_a_file_begins_with_are_right(
    kind: str, project: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    docstring = (project / f"plugins/own_{kind}_2.py").read_text().split('"""')[1]
    lines = docstring.split("In a config:\n\n")[1].splitlines()
    section = yaml.safe_load("\n".join(line for line in lines if line.startswith("    ")))
    values = {**load_study(root / "config/test.yaml").model_dump(mode="json", exclude_none=True), **section}
    if kind == "simulator":
        values |= {"targets": {"size": {"scale": "log"}}, "applications": {}}
    assert check_study(build_study(values)) == []


def test_nothing_is_overwritten(project: Path, tmp_path: Path) -> None:
    before = (project / "plugins/own_network_2.py").read_text()
    with pytest.raises(PopdlError, match=r"own_network_2\.py is there already"):
        new("network", "own_network_2", project=project)
    assert (project / "plugins/own_network_2.py").read_text() == before
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins/test_mine.py").write_text("my own test")
    with pytest.raises(PopdlError, match=r"test_mine\.py is there already"):
        new("network", "mine", project=tmp_path)
    assert [path.name for path in tmp_path.rglob("*.py")] == ["test_mine.py"]


@pytest.mark.parametrize("name", ["MyNet", "2nd", "my-net", "../net", "a b", "", "test_net", "net.py"])
def test_names_that_are_none(name: str, tmp_path: Path) -> None:
    with pytest.raises(PopdlError, match=r"expected small letters, digits and _.* e\.g\. my_network"):
        new("network", name, project=tmp_path)
    assert not list(tmp_path.iterdir())


def test_on_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    main(["new", "study", "mine"])
    assert "python -m pytest config/test_mine.py" in capsys.readouterr().out
    main(["check", "config/mine.yaml", "--config-only"])
    with pytest.raises(SystemExit):
        main(["new", "car", "mine"])
