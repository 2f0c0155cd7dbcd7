"""Fit a baseline and predict the test split with it."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

from popdl.baselines._base import fit_baseline
from popdl.config.base import validate
from popdl.config.training import Evaluation
from popdl.jobs import step
from popdl.layout import shards_beside

with step(snakemake.log[0]):
    fit_baseline(
        snakemake.params.name,
        shards=shards_beside(Path(snakemake.input.dataset), snakemake.params.num_shards),
        splits=Path(snakemake.input.splits),
        targets=Path(snakemake.input.targets),
        evaluation=validate(Evaluation, snakemake.params.evaluation, where="evaluation"),
        seed=snakemake.params.seed,
        output=Path(snakemake.output[0]),
        statistics=snakemake.params.get("statistics"),
    )
