"""Copy the best network, with its test metrics, to the file to share."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

from popdl.jobs import step
from popdl.model import publish_model

with step(snakemake.log[0]):
    publish_model(
        dict(zip(snakemake.params.models, map(Path, snakemake.input.models), strict=True)),
        metrics=Path(snakemake.input.metrics),
        output=Path(snakemake.output[0]),
    )
