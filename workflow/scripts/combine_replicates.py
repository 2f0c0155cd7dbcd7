"""Make an ensemble of the replicates of a network."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

from popdl.jobs import step
from popdl.layout import shards_beside
from popdl.prediction import combine_replicates

with step(snakemake.log[0]):
    combine_replicates(
        [Path(model) for model in snakemake.input.models],
        shards=shards_beside(Path(snakemake.input.dataset), snakemake.params.num_shards),
        splits=Path(snakemake.input.splits),
        output=Path(snakemake.output[0]),
    )
