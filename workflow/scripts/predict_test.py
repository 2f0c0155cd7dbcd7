"""Predict the test split with one network."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

from popdl.jobs import step
from popdl.layout import shards_beside
from popdl.prediction import predict_test

with step(snakemake.log[0]):
    predict_test(
        Path(snakemake.input.model),
        shards=shards_beside(Path(snakemake.input.dataset), snakemake.params.num_shards),
        splits=Path(snakemake.input.splits),
        output=Path(snakemake.output[0]),
    )
