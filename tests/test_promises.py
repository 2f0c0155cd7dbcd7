"""What `popdl check` finds of a network that breaks a promise; one that ships breaks none."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml
from network_variants import VARIANTS

from popdl.config.study import build_study
from popdl.errors import PopdlError
from popdl.networks._base import InputShape, check
from popdl.networks._promises import MOST_CELLS, broken_promises
from popdl.study_check import check_study

SHAPE = InputShape(num_haplotypes=6, max_sites=33, has_positions=True)
HEADER = """
import torch
from torch import nn

from popdl.networks._base import Network


class Mine(Network):
    exchangeable = {exchangeable}

    def __init__(self, settings, shape):
        super().__init__(settings, shape)
        self.num_features = 3
        self.layer = nn.Linear(2, 3)
        self.norm = nn.BatchNorm1d(3, track_running_stats=False)

    def forward(self, genotypes, positions, mask):
        number = mask.sum(dim=1, keepdim=True).clamp(min=1)
        sites = genotypes.mean(dim=1) * mask
        means = torch.cat([sites.sum(1, keepdim=True), (positions * mask).sum(1, keepdim=True)], dim=1) / number
        features = self.layer(means)
        return {returned}
"""


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    """Plugins are run in their project only."""
    monkeypatch.chdir(tmp_path)


def write(folder: Path, returned: str, *, exchangeable: bool = True) -> dict[str, str]:
    path = folder / "mine.py"
    path.write_text(HEADER.format(exchangeable=exchangeable, returned=returned))
    return {"name": f"{path}:Mine"}


@pytest.mark.parametrize("key", VARIANTS)
@pytest.mark.parametrize("populations", [(), (2, 4)])
def test_networks_that_ship_keep_their_promises(key, populations):
    shape = InputShape(6, 33, has_positions=True, populations=populations)
    state = torch.random.get_rng_state()
    assert broken_promises(key, VARIANTS[key], shape) == []
    assert torch.equal(torch.random.get_rng_state(), state)


def test_a_network_that_keeps_its_promises_is_found_right(tmp_path):
    assert broken_promises("mine", write(tmp_path, "features"), SHAPE) == []


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ("features + genotypes.mean(dim=(1, 2)).unsqueeze(1)", "depends on what lies in the padding"),
        ("features + positions.mean(dim=1, keepdim=True)", "depends on what lies in the padding"),
        ("self.norm(features)", "gives an example other features beside other examples"),
        ("features - features.mean(dim=0)", "gives an example other features beside other examples"),
        (
            "features + (genotypes[:, 0] * mask).sum(dim=1, keepdim=True)",
            "says `exchangeable = True`, but the order of haplotypes changes",
        ),
        ("nn.functional.dropout(features)", "gives other features for the same example each time, in evaluation mode"),
        ("features + torch.randn(3)", "gives other features for the same example each time, in evaluation mode"),
        ("features / (sites.sum(dim=1, keepdim=True) * 0)", "NaN or infinite features for random examples"),
        ("self.layer(means * number / mask.sum(1, keepdim=True))", "infinite features for an example without sites"),
        ("features[mask]", "fails on a random batch: IndexError"),
        ("features.detach()", "cannot learn: no weight gets a gradient"),
        ("features * 0", "cannot learn"),
    ],
)
def test_a_broken_promise_is_found(tmp_path, returned, message):
    (problem,) = broken_promises("mine", write(tmp_path, returned), SHAPE)
    assert problem.startswith("networks.mine: this network ") and message in problem


def test_an_error_in_a_users_file_is_told_with_its_line(tmp_path):
    with pytest.raises(
        PopdlError,
        match=r"the network fails on .*AttributeError: 'Mine' object has no attribute 'frist' \(mine\.py, line 22\)",
    ):
        check("mine", write(tmp_path, "self.frist(features)"), SHAPE)


def test_several_broken_promises_are_found_at_once(tmp_path):
    options = write(tmp_path, "features + genotypes[:, 0].mean(dim=1, keepdim=True) - features.mean(dim=0)")
    found = broken_promises("mine", options, SHAPE)
    assert [word for word in ("padding", "neighbours", "order") if any(word in problem for problem in found)] == [
        "padding",
        "neighbours",
        "order",
    ]


def test_populations_may_differ(tmp_path):
    """Rows may change places within a population, not across."""
    two = InputShape(6, 33, has_positions=True, populations=(2, 4))
    options = write(tmp_path, "features + (genotypes[:, :2].sum(dim=1) * mask).sum(dim=1, keepdim=True)")
    assert broken_promises("mine", options, two) == []
    assert "order of haplotypes changes" in broken_promises("mine", options, SHAPE)[0]


def test_a_large_example_is_tried_with_fewer_sites(tmp_path):
    options = write(tmp_path, f"features if genotypes[0].numel() <= {MOST_CELLS} else features / 0")
    assert broken_promises("mine", options, InputShape(64, 1_000_000, has_positions=True)) == []


def test_check_says_so(root, tmp_path):
    values = yaml.safe_load((root / "config/test.yaml").read_text())
    values["networks"] = {"mine": write(tmp_path, "features + (genotypes[:, 0] * mask).sum(dim=1, keepdim=True)")}
    (problem,) = check_study(build_study(values), config_only=True)
    assert "networks.mine: this network says `exchangeable = True`" in problem
