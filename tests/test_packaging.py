"""The lock file, the conda environments and pyproject.toml tell one story."""

from __future__ import annotations

import ast
import importlib.metadata
import importlib.util
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
LOCK_LINE = re.compile(r"(?P<name>[a-z0-9]+(?:-[a-z0-9]+)*)==(?P<version>[0-9][^ ;]*)(?: ; (?P<marker>.+))?")
BROUGHT_ALONG = {"pydantic-core": "pydantic", "annotated-types": "pydantic", "threadpoolctl": "scikit-learn"}
"""What popdl imports without declaring it, and the direct dependency that cannot be installed without it."""
ENVIRONMENTS = sorted((ROOT / "envs").glob("*.yaml"))


@pytest.fixture(scope="module")
def lock() -> dict[str, Version]:
    """Locked versions by name."""
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    versions: dict[str, Version] = {}
    for line in lines:
        if line.startswith("#"):
            continue
        match = LOCK_LINE.fullmatch(line)
        assert match, f"not an exact version: {line!r}"
        assert match["name"] not in versions, f"{match['name']} is locked twice"
        if match["marker"]:
            Marker(match["marker"])
        versions[match["name"]] = Version(match["version"])
    return versions


@pytest.fixture(scope="module")
def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def stand_in() -> ModuleType:
    """tests/conda/conda.py as a module."""
    spec = importlib.util.spec_from_file_location("stand_in_conda", ROOT / "tests" / "conda" / "conda.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def requirements(pyproject: dict[str, Any]) -> Iterator[Requirement]:
    project = pyproject["project"]
    groups = [
        project["dependencies"],
        *project["optional-dependencies"].values(),
        pyproject["build-system"]["requires"],
    ]
    for group in groups:
        yield from map(Requirement, group)


def test_the_lock_satisfies_every_range(pyproject: dict[str, Any], lock: dict[str, Version]) -> None:
    for requirement in requirements(pyproject):
        name = canonicalize_name(requirement.name)
        assert name in lock, f"{name} is not locked: run `make lock`"
        assert requirement.specifier.contains(lock[name]), f"{requirement}, but {lock[name]} is locked"


def test_the_lock_is_whole(pyproject: dict[str, Any], lock: dict[str, Version]) -> None:
    """What the direct requirements bring here is locked too, so that no version is left to the day of installation."""
    waiting = [(requirement.name, frozenset(requirement.extras)) for requirement in requirements(pyproject)]
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        name, extras = waiting.pop()
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        for requirement in map(Requirement, distribution.requires or []):
            contexts = [{"extra": extra} for extra in extras] or [{"extra": ""}]
            if requirement.marker and not any(requirement.marker.evaluate(context) for context in contexts):
                continue
            required = canonicalize_name(requirement.name)
            if required.startswith(("nvidia-", "cuda-", "triton")):
                continue
            assert required in lock, f"{name} needs {requirement}, which is not locked: run `make lock`"
            assert requirement.specifier.contains(lock[required], prereleases=True), f"{name} needs {requirement}"
            waiting.append((required, frozenset(requirement.extras)))
    assert len(seen) > 50


def test_the_lock_fits_any_machine(lock: dict[str, Version]) -> None:
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    assert not [name for name in lock if name.startswith(("nvidia-", "cuda-", "triton"))]
    assert "+cpu" not in text and "file:" not in text and "/" not in text


def test_what_is_held_back_is_locked(lock: dict[str, Version]) -> None:
    for line in (ROOT / "envs" / "constraints.txt").read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            requirement = Requirement(line)
            assert requirement.specifier.contains(lock[requirement.name])


@pytest.mark.parametrize("path", ENVIRONMENTS, ids=lambda path: path.stem)
def test_an_environment_agrees_with_the_lock(
    path: Path, lock: dict[str, Version], pyproject: dict[str, Any], stand_in: ModuleType
) -> None:
    packages = stand_in.requirements(path)
    assert pyproject["project"]["requires-python"] == f">={packages.pop('python')}"
    for name, series in packages.items():
        assert name in lock, f"{path.name}: {name} is not locked"
        assert f"{lock[name]}.".startswith(f"{series}."), f"{path.name}: {name} ={series}, but {lock[name]} is locked"
        assert series.count(".") == 1, f"{path.name}: {name}: expected a series such as 1.4, found {series}"


def test_every_dependency_is_in_the_environments(pyproject: dict[str, Any], stand_in: ModuleType) -> None:
    direct = {canonicalize_name(Requirement(line).name) for line in pyproject["project"]["dependencies"]}
    for name in ("popdl", "gpu"):
        packages = set(stand_in.requirements(ROOT / "envs" / f"{name}.yaml"))
        assert packages - {"python"} == direct


def test_the_gpu_environment_differs_in_torch_alone() -> None:
    cpu, gpu = (
        set(yaml.safe_load((ROOT / "envs" / f"{name}.yaml").read_text(encoding="utf-8"))["dependencies"])
        for name in ("popdl", "gpu")
    )
    assert {line.split(" ")[0] for line in cpu ^ gpu} == {"pytorch", "pytorch-cpu"}


def test_snakemake_has_an_environment(pyproject: dict[str, Any], stand_in: ModuleType) -> None:
    extras = pyproject["project"]["optional-dependencies"]
    needed = {Requirement(line).name for line in [*extras["workflow"], *extras["slurm"]]}
    assert needed <= set(stand_in.requirements(ROOT / "envs" / "snakemake.yaml"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("channels: [defaults]\ndependencies: []\n", "expected channels"),
        ("channels: [conda-forge, bioconda, nodefaults]\ndependencies: [numpy]\n", "expected `name =series`"),
        ("channels: [conda-forge, bioconda, nodefaults]\ndependencies: [{pip: [a]}]\n", "expected `name =series`"),
        (
            "channels: [conda-forge, bioconda, nodefaults]\ndependencies: [pytorch =2.13, pytorch-cpu =2.13]\n",
            "torch is there twice",
        ),
    ],
)
def test_the_stand_in_refuses(tmp_path: Path, stand_in: ModuleType, content: str, message: str) -> None:
    path = tmp_path / "environment.yaml"
    path.write_text(content)
    with pytest.raises(SystemExit, match=message):
        stand_in.requirements(path)


def test_what_is_imported_is_declared(pyproject: dict[str, Any]) -> None:
    """popdl and the workflow's scripts import nothing that an installation without the extras lacks."""
    distributions = importlib.metadata.packages_distributions()
    declared = {canonicalize_name(Requirement(line).name) for line in pyproject["project"]["dependencies"]}
    for name, parent in BROUGHT_ALONG.items():
        assert parent in declared
        assert name in {canonicalize_name(Requirement(line).name) for line in importlib.metadata.requires(parent) or []}
        declared.add(name)
    for path in [*(ROOT / "src").rglob("*.py"), *(ROOT / "workflow" / "scripts").glob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            modules = []
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
                modules = [node.module]
            for top in {module.split(".")[0] for module in modules} - set(sys.stdlib_module_names) - {"popdl"}:
                names = {canonicalize_name(name) for name in distributions.get(top, [top])}
                assert names & declared, (
                    f"{path.relative_to(ROOT)} imports {top}, which pyproject.toml does not declare"
                )


def test_make_says_what_it_can_do() -> None:
    shown = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (phony,) = re.findall(r"^\.PHONY: (.*)$", makefile, flags=re.MULTILINE)
    for target in set(phony.split()) - {"help"}:
        assert f"make {target} " in shown
