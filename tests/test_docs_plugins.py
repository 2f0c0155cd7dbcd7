"""docs/plugins.md: what it shows works."""

from __future__ import annotations

import re
from pathlib import Path

import learnable
import pytest

from popdl.baselines._base import fit_baseline
from popdl.config.encoding import Encoding
from popdl.config.training import Evaluation
from popdl.dataset import encode_shard
from popdl.scaffold import kinds
from popdl.statistics._base import describe
from popdl.store import read_shard


@pytest.fixture
def page(root: Path) -> str:
    return (root / "docs/plugins.md").read_text()


def test_its_code_runs(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    statistic, baseline = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    Path("statistic.py").write_text(statistic)
    Path("baseline.py").write_text(baseline)
    data = learnable.dataset(tmp_path)
    for number, shard in enumerate(data["shards"]):
        groups = [describe("statistic.py:Singletons")]
        encode_shard(tmp_path / f"raw_{number}", shard, encoding=Encoding(max_sites=24), seed=1, statistics=groups)
    shard = read_shard(data["shards"][0], kind="dataset")
    assert shard.attributes["statistics"][-1] == "singleton_share"
    assert ((shard["statistics"][:, -1] >= 0) & (shard["statistics"][:, -1] <= 1)).all()
    output = tmp_path / "out.tsv"
    fit_baseline("baseline.py:DiversityLine", **data, evaluation=Evaluation(), seed=1, output=output)
    assert output.read_text().startswith("example\tsize_true\tsize")


def test_it_names_every_kind_that_can_be_started(page: str) -> None:
    assert set(re.findall(r"popdl new (\w+) ", page)) >= set(kinds())


def test_the_classes_that_it_names_are_there(page: str) -> None:
    import importlib

    for module, name in set(re.findall(r"`(popdl\.[\w.]+)\.([A-Z]\w+)`", page)):
        assert hasattr(importlib.import_module(module), name)
