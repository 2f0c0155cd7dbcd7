"""Predict the test split with one network."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

from popdl.jobs import step
from popdl.prediction import predict_test

with step(snakemake.log[0]):
    predict_test(
        Path(snakemake.input.model),
        shards=[Path(shard) for shard in snakemake.input.shards],
        splits=Path(snakemake.input.splits),
        output=Path(snakemake.output[0]),
    )
