"""Predict the windows of a genome with one network."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

from popdl.jobs import step
from popdl.prediction import predict_windows

with step(snakemake.log[0]):
    predict_windows(
        [Path(snakemake.input.model)],
        windows=Path(snakemake.input.windows),
        output=Path(snakemake.output.tsv),
        bed=Path(snakemake.output.bed),
    )
