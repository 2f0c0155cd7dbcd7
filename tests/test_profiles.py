"""The profiles: what they ask a scheduler for is what the rules need, and more after each failure."""

from __future__ import annotations

import re
from pathlib import Path

import yaml


def test_every_rule_with_resources_asks_for_more_with_each_attempt(root: Path) -> None:
    profile = yaml.safe_load((root / "profiles/slurm/config.yaml").read_text())
    rules = "\n".join(path.read_text() for path in sorted((root / "workflow/rules").glob("*.smk")))
    for body in rules.split("\nrule ")[1:]:
        name = body.partition(":")[0]
        own = dict(re.findall(r"^        (gpu|mem_mb|runtime)=(\d+),$", body, flags=re.MULTILINE))
        if own:
            grown = {key: 1 if key == "gpu" else f"{value} * attempt" for key, value in own.items()}
            assert profile["set-resources"].get(name) == grown, name
    for name, other in re.findall(r"^ *use rule (\w+) as (\w+) ", rules, flags=re.MULTILINE):
        assert profile["set-resources"].get(name) == profile["set-resources"].get(other), other


def test_gpus_are_shared_out_without_a_scheduler(root: Path) -> None:
    profile = yaml.safe_load((root / "profiles/default/config.yaml").read_text())
    assert profile["resources"] == ["gpu=1"]
