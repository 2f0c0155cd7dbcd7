"""Getting the files that the published studies read."""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

CONTENT = b"//\n"
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def module(root: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("get", root / "resources/get.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def web(tmp_path: Path) -> str:
    """The URL of a folder with one file."""
    folder = tmp_path / "web"
    folder.mkdir()
    (folder / "sims.gz").write_bytes(CONTENT)
    return f"{folder.as_uri()}/"


def test_a_file_of_another_folder_is_linked_if_it_is_the_right_one(
    module: ModuleType, web: str, tmp_path: Path
) -> None:
    elsewhere, into = tmp_path / "elsewhere/deep", tmp_path / "into"
    elsewhere.mkdir(parents=True)
    into.mkdir()
    (elsewhere / "sims.gz").write_bytes(CONTENT)
    assert "linked" in module.get("sims.gz", url=web, sha256=SHA256, folder=tmp_path / "elsewhere", into=into)
    assert (into / "sims.gz").resolve() == elsewhere / "sims.gz"
    (into / "sims.gz").unlink()
    (elsewhere / "sims.gz").write_bytes(b"others")
    assert "downloaded" in module.get("sims.gz", url=web, sha256=SHA256, folder=tmp_path / "elsewhere", into=into)
    assert (into / "sims.gz").read_bytes() == CONTENT and not (into / "sims.gz").is_symlink()


def test_what_is_there_stays_and_a_link_to_nowhere_does_not(module: ModuleType, web: str, tmp_path: Path) -> None:
    into = tmp_path / "into"
    into.mkdir()
    (into / "sims.gz").symlink_to(tmp_path / "gone")
    assert "downloaded" in module.get("sims.gz", url=web, sha256=SHA256, folder=None, into=into)
    (into / "sims.gz").write_bytes(b"my own")
    assert module.get("sims.gz", url=web, sha256=SHA256, folder=None, into=into) == "there already"
    assert (into / "sims.gz").read_bytes() == b"my own"


def test_another_file_than_expected_is_refused_and_leaves_nothing(module: ModuleType, web: str, tmp_path: Path) -> None:
    into = tmp_path / "into"
    into.mkdir()
    with pytest.raises(ValueError, match="expected a file with SHA-256"):
        module.get("sims.gz", url=web, sha256="0" * 64, folder=None, into=into)
    with pytest.raises(OSError, match=r"other\.gz"):
        module.get("other.gz", url=web, sha256=SHA256, folder=None, into=into)
    assert not list(into.iterdir())


def test_it_has_every_file_that_make_studies_reads(module: ModuleType, root: Path) -> None:
    makefile = (root / "Makefile").read_text(encoding="utf-8")
    studies = makefile.split("STUDIES ?= ")[1].split("\n\n")[0].replace("\\\n", "").split()
    assert len(studies) > 10
    read = {
        word.strip("},")
        for study in studies
        for word in (root / f"config/{study}.yaml").read_text(encoding="utf-8").split()
        if word.startswith("resources/") and not word.startswith("resources/README")
    }
    assert read == {f"resources/{name}" for name in module.FILES}


def test_the_files_at_hand_are_the_right_ones(module: ModuleType, data: Path, tmp_path: Path) -> None:
    for name, (_, sha256) in module.FILES.items():
        assert "linked" in module.get(name, url="file:///nowhere/", sha256=sha256, folder=data, into=tmp_path)
