"""Parts by name: those that ship with popdl, and a user's own."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

from popdl import plugins
from popdl.config.study import simulation_section
from popdl.errors import PopdlError
from popdl.simulators._base import Simulator

MODEL = """
from popdl.simulators._base import Simulator

class Mine(Simulator):
    needs = ("age",)

class Unrelated:
    pass

number = 3
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "my model.py"
    path.write_text(MODEL)
    return path


def test_parts_that_ship() -> None:
    assert {"constant_size", "size_change"} <= set(plugins.known("simulators"))
    assert not any(name.startswith("_") for kind in ("simulators", "baselines") for name in plugins.known(kind))
    for name in plugins.known("simulators"):
        assert issubclass(plugins.load("simulators", name, Simulator), Simulator)


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(
        PopdlError, match=r"'size_chnge' is not one of popdl's simulators; did you mean 'size_change'\?"
    ):
        plugins.load("simulators", "size_chnge", Simulator)


@pytest.mark.parametrize("name", ["_base", "os", "../seeds", "", "size_change.SizeChange"])
def test_a_name_cannot_reach_other_modules(name: str) -> None:
    with pytest.raises(PopdlError, match="is not one of popdl's simulators"):
        plugins.load("simulators", name, Simulator)


def test_a_users_own_file(plugin: Path) -> None:
    part = plugins.load("simulators", f"{plugin}:Mine", Simulator)
    assert part.__name__ == "Mine"
    assert plugins.load("simulators", f"{plugin}:Mine", Simulator) is part


def test_a_users_own_simulator_checks_its_section(plugin: Path) -> None:
    section = {
        "simulator": f"{plugin}:Mine",
        "num_haplotypes": 4,
        "sequence_length": 1e4,
        "mutation_rate": 1e-8,
        "recombination_rate": 1e-8,
        "num_scenarios": 1,
    }
    assert simulation_section({**section, "parameters": {"age": 3}}).parameter_names[0] == "age"
    with pytest.raises(PopdlError, match=r"missing \['age'\], unknown \['size'\]"):
        simulation_section({**section, "parameters": {"size": 3}})


def test_a_changed_file_is_another_part(plugin: Path) -> None:
    name = f"{plugin}:Mine"
    before, hash_before = plugins.load("simulators", name, Simulator), plugins.source_hash(name)
    plugin.write_text(MODEL.replace("age", "size"))
    assert plugins.source_hash(name) != hash_before
    assert plugins.load("simulators", name, Simulator).needs == ("size",)
    assert before.needs == ("age",)


@pytest.mark.parametrize(
    ("attribute", "message"),
    [
        ("Mien", r"there is no 'Mien' in this file; did you mean 'Mine'\? known: Mine, Unrelated"),
        ("Unrelated", r"Unrelated must be a subclass of popdl\.simulators\._base\.Simulator"),
        ("number", "number must be a subclass"),
        ("", "there is no '' in this file"),
    ],
)
def test_a_wrong_class(plugin: Path, attribute: str, message: str) -> None:
    with pytest.raises(PopdlError, match=message):
        plugins.load("simulators", f"{plugin}:{attribute}", Simulator)


def test_a_missing_file() -> None:
    with pytest.raises(PopdlError, match=r"there is no file .*nothing\.py; give its path from the project's root"):
        plugins.load("simulators", "plugins/nothing.py:Mine", Simulator)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("def broken(:\n", "cannot be imported: SyntaxError"),
        ("import a_module_that_is_not_there\n", "cannot be imported: ModuleNotFoundError: No module named"),
        ("raise RuntimeError('no')\n", "cannot be imported: RuntimeError: no"),
        ("raise SystemExit(0)\n", "cannot be imported: SystemExit"),
    ],
)
def test_a_file_that_cannot_be_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "broken.py"
    path.write_text(source)
    before = set(sys.modules)
    with pytest.raises(PopdlError, match=message):
        plugins.load("simulators", f"{path}:Mine", Simulator)
    assert set(sys.modules) == before


@pytest.mark.parametrize(
    ("name", "expected"), [("a.py:B", True), ("my folder/a.py:B", True), ("size_change", False), ("a.py", False)]
)
def test_which_names_mean_a_file(name: str, expected: bool) -> None:
    assert plugins.is_file(name) is expected


def test_a_part_that_ships_must_be_alone_in_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "two.py").write_text(
        "from popdl.simulators._base import Simulator\nclass A(Simulator): ...\nclass B(Simulator): ...\n"
    )
    package = importlib.import_module("popdl.simulators")
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
    with pytest.raises(AssertionError, match="must define one public Simulator"):
        plugins.load("simulators", "two", Simulator)
