"""``popdl networks``: every network, its size at a study's shape, and its options."""

from __future__ import annotations

from pathlib import Path

import pytest

from popdl import plugins
from popdl.cli import main
from popdl.networks._base import InputShape, build


def listed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    main(["networks", *arguments])
    return capsys.readouterr().out


def test_every_network_and_every_option_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    text = listed(capsys)
    assert "50 haplotypes × 400 sites, with positions" in text
    for name in plugins.known("networks"):
        network = build(name, {}, InputShape(50, 400, has_positions=True))
        block = next(block for block in text.split("\n\n") if block.startswith(f"{name}  ("))
        size = sum(parameter.numel() for parameter in network.parameters())
        assert f"({size:,} parameters" in block
        assert ("exchangeable:" in block.split("\n")[0]) == network.exchangeable
        for key in network.Settings.model_fields:
            assert f"    {key}: " in block
    assert 'normalisation: "batch"' in text


def test_sizes_are_those_at_the_shape_of_the_study(capsys: pytest.CaptureFixture[str], root: Path) -> None:
    text = listed(capsys, str(root / "config" / "test.yaml"))
    assert "12 haplotypes × 64 sites" in text
    mlp = build("mlp", {}, InputShape(12, 64, has_positions=True))
    assert f"mlp  ({sum(parameter.numel() for parameter in mlp.parameters()):,} parameters" in text
    own = build("cnn", {"name": "flagel", "filters": [16, 16]}, InputShape(12, 64, has_positions=True))
    assert f"  cnn (flagel): {sum(parameter.numel() for parameter in own.parameters()):,} parameters" in text


def test_a_network_that_cannot_take_the_shape_says_why(
    capsys: pytest.CaptureFixture[str], root: Path, tmp_path: Path
) -> None:
    small = (root / "config" / "test.yaml").read_text().replace("max_sites: 64", "max_sites: 3")
    assert "max_sites: 3" in small
    (tmp_path / "small.yaml").write_text(small)
    text = listed(capsys, str(tmp_path / "small.yaml"))
    assert "flagel  (not at this shape: networks.flagel: filters: 3 sites" in text
    assert "mlp  (" in text
