"""Files that appear whole or not at all, and what killed jobs leave beside them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from popdl.files import whole, write_text

KILLED = """
import os, signal, sys
from pathlib import Path
from popdl.files import whole

with whole(Path(sys.argv[1])) as partial:
    partial.write_text("half of it")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "new" / "table.tsv"
    write_text(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "new \ud800")
    assert path.read_text() == "old"
    assert list(path.parent.iterdir()) == [path]


def test_leftovers_of_a_killed_job_are_removed_by_the_next(tmp_path: Path) -> None:
    path = tmp_path / "table[1].tsv"
    subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False)
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(f".{path.name}.partial-")
    write_text(path, "whole")
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {path.name: "whole"}


def test_those_who_write_the_same_file_elsewhere_are_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "survey.json"
    with whole(path) as partial:
        partial.write_text("first")
    alive = partial.with_name(partial.name.replace(f"-{os.getpid()}", f"-{os.getppid()}"))
    on_another_node = partial.with_name(f".{path.name}.partial-another-node-1")
    for other in (alive, on_another_node):
        other.write_text("theirs")
    write_text(path, "second")
    assert path.read_text() == "second"
    assert sorted(tmp_path.iterdir()) == sorted([path, alive, on_another_node])
