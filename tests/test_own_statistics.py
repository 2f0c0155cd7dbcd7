"""Groups of statistics that a study adds: from the config to shards, baselines, models and real windows."""

from __future__ import annotations

from pathlib import Path

import learnable
import numpy as np
import pandas as pd
import pytest
import yaml

from popdl import statistics
from popdl.config.encoding import Encoding
from popdl.config.study import build_study
from popdl.dataset import encode_shard
from popdl.encoding import Encoder
from popdl.errors import PopdlError
from popdl.model import carried_parts, load_model, read_card
from popdl.predict_files import predict_files
from popdl.prediction import predict_windows
from popdl.statistics._base import build, describe
from popdl.store import read_shard
from popdl.study_check import check_study

SOURCE = """
from pydantic import Field
from popdl.config.base import Section
from popdl.statistics._base import Statistic


class Singletons(Statistic):
    class Settings(Section):
        per: float = Field(default=1.0, gt=0)

    def names(self, num_haplotypes, *, derived):
        return ["singletons", "first_site"]

    def compute(self, genotypes, positions, *, sequence_length, derived):
        count = int(((genotypes == 1).sum(axis=1) == 1).sum())
        return [count / self.settings.per, positions[0] if len(positions) else float("inf")]


class Short(Singletons):
    def compute(self, *window, **settings):
        return [1.0]


class Doubled(Singletons):
    def names(self, num_haplotypes, *, derived):
        return ["pi", "other"]
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(SOURCE)
    return "mine.py:Singletons"


@pytest.fixture
def values(root: Path) -> dict:
    return yaml.safe_load((root / "config/test.yaml").read_text())


def encoder(*entries: object) -> Encoder:
    groups = [describe(entry) for entry in entries]
    return Encoder(Encoding(max_sites=8), num_haplotypes=4, ploidy=2, sequence_length=100, statistics=groups)


def test_a_group_comes_after_the_standard_statistics(plugin: str) -> None:
    groups = encoder({"name": plugin, "per": 2}).groups
    genotypes = np.array([[0, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 1]], dtype=np.int8)
    window = genotypes, np.array([5.0, 6.0, 7.0])
    standard = statistics.compute(*window, sequence_length=100, derived=False)
    both = statistics.compute(*window, sequence_length=100, derived=False, groups=groups)
    np.testing.assert_array_equal(both, [*standard, 2 / 2, 5.0])
    names = statistics.names(4, derived=False, groups=groups)
    assert names == [*statistics.names(4, derived=False), "singletons", "first_site"]


def test_an_infinite_value_counts_as_undefined(plugin: str) -> None:
    empty = np.zeros((0, 4), dtype=np.int8), np.zeros(0)
    values = statistics.compute(*empty, sequence_length=100, derived=False, groups=[build(describe(plugin))])
    assert values[-2] == 0 and np.isnan(values[-1])


def test_only_a_study_with_groups_has_another_recipe(plugin: str) -> None:
    plain, first, other = encoder(), encoder(plugin), encoder({"name": plugin, "per": 2})
    assert "statistics" not in plain.recipe
    assert len({plain.fingerprint, first.fingerprint, other.fingerprint}) == 3
    again = Encoder.from_recipe(first.recipe)
    assert again.recipe == first.recipe and again.groups[0].settings == first.groups[0].settings
    Path("mine.py").write_text(SOURCE + "# changed\n")
    assert encoder(plugin).fingerprint != first.fingerprint


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("unheard_of", r"'unheard_of' is not one of popdl's statistics; .*or path/to/file\.py:Class"),
        ("none.py:Mine", r"there is no file none\.py"),
        ({"per": 2}, "expected a name, or a mapping with the key `name`"),
        ({"name": "mine.py:Singletons", "pre": 2}, r"pre: unknown key; did you mean 'per'\?"),
        ({"name": "mine.py:Singletons", "per": -1}, "per: expected a number greater than 0"),
        ("mine.py:Section", "must be a subclass of popdl.statistics._base.Statistic"),
    ],
)
def test_a_config_with_a_bad_group_is_refused(plugin: str, values: dict, entry: object, message: str) -> None:
    with pytest.raises(PopdlError, match=message):
        build_study({**values, "statistics": [entry]})


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("mine.py:Short", r"Short has 2 names, but compute\(\) gave an array of shape \(1,\)"),
        ("mine.py:Doubled", "'pi'"),
    ],
)
def test_check_computes_each_group_once(plugin: str, values: dict, entry: str, message: str) -> None:
    assert check_study(build_study({**values, "statistics": [plugin]})) == []
    (problem,) = check_study(build_study({**values, "statistics": [entry]}))
    assert pd.Series([problem]).str.contains(message).all()


def test_groups_reach_the_model_and_its_realism_check(plugin: str, tmp_path: Path) -> None:
    data = learnable.dataset(tmp_path)
    for number, shard in enumerate(data["shards"]):
        raw = tmp_path / f"raw_{number}"
        encode_shard(raw, shard, encoding=Encoding(max_sites=24), seed=1, statistics=[describe(plugin)])
    path = learnable.fit(data, tmp_path)["output"]
    card = read_card(path)
    assert card["realism"]["names"][-2:] == ["singletons", "first_site"]
    assert [part.name for part in carried_parts(card)] == [plugin]
    windows = learnable.windows(tmp_path, data["shards"][0], reasons=["", ""])
    predict_windows([path], windows=windows, output=tmp_path / "out.tsv", bed=tmp_path / "out.bed")
    Path("mine.py").write_text("raise SystemExit('this must not run')")
    with pytest.raises(PopdlError, match=r"needs code of its author, 'mine\.py'"):
        load_model(path)
    group = load_model(path, trust=lambda part: True).encoder.groups[0]
    assert type(group).__name__ == "Singletons"
    plain = learnable.dataset(tmp_path / "plain")
    other = learnable.windows(tmp_path / "plain", plain["shards"][0], reasons=[""])
    Path("mine.py").write_text(SOURCE)
    with pytest.raises(PopdlError, match=r"statistics expected \['mine\.py:Singletons'\], found \[\]"):
        predict_windows([path], windows=other, output=tmp_path / "out.tsv", bed=tmp_path / "out.bed")


def test_arrays_are_the_same_with_and_without_a_group(plugin: str, tmp_path: Path) -> None:
    data = learnable.dataset(tmp_path, num_shards=1)
    (plain,) = (read_shard(path, kind="dataset") for path in data["shards"])
    output = tmp_path / "more"
    encode_shard(tmp_path / "raw_0", output, encoding=Encoding(max_sites=24), seed=1, statistics=[describe(plugin)])
    more = read_shard(output, kind="dataset")
    assert more.names == plain.names
    for name in set(plain.names) - {"statistics"}:
        np.testing.assert_array_equal(more[name], plain[name])
    np.testing.assert_array_equal(more["statistics"][:, :-2], plain["statistics"])


def test_a_raw_store_is_encoded_with_the_groups_of_the_model(plugin: str, tmp_path: Path) -> None:
    data = learnable.dataset(tmp_path)
    for number, shard in enumerate(data["shards"]):
        raw = tmp_path / f"raw_{number}"
        encode_shard(raw, shard, encoding=Encoding(max_sites=24), seed=1, statistics=[describe(plugin)])
    path = learnable.fit(data, tmp_path)["output"]
    Path("mine.py").write_text("raise SystemExit('this must not run')")
    options: dict = {"application": {}, "seed": 1, "trust": lambda part: True}
    predict_files([path], [tmp_path / "raw_1"], output=tmp_path / "raw", **options)
    predict_files([path], [data["shards"][1]], output=tmp_path / "encoded", **options)
    raw, encoded = (
        pd.read_csv(tmp_path / f"{name}.tsv", sep="\t", dtype=str).drop(columns="file") for name in ("raw", "encoded")
    )
    pd.testing.assert_frame_equal(raw, encoded)
