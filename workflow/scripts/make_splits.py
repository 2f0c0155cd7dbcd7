"""Assign scenarios to training, validation and test, and fit the scaling of targets."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

from popdl.config.base import validate
from popdl.config.training import Splits, Target
from popdl.jobs import step
from popdl.layout import shards_beside
from popdl.splits import make_splits

params = snakemake.params
with step(snakemake.log[0]):
    make_splits(
        shards_beside(Path(snakemake.input.dataset), params.num_shards),
        settings=validate(Splits, params.splits, where="splits"),
        targets={name: validate(Target, value, where=f"targets.{name}") for name, value in params.targets.items()},
        seed=params.seed,
        output=Path(snakemake.output.splits),
        targets_output=Path(snakemake.output.targets),
    )
