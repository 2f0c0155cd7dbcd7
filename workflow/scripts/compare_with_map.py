"""Correlate the predictions along a genome with a recombination map."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

from popdl.comparison import compare_with_map
from popdl.config.application import Comparison
from popdl.config.base import validate
from popdl.jobs import step

params = snakemake.params
with step(snakemake.log[0]):
    compare_with_map(
        dict(zip(params.methods, map(Path, snakemake.input.predictions), strict=True)),
        comparison=validate(
            Comparison, params.comparison, where=f"applications.{snakemake.wildcards.application}.compare"
        ),
        window=params.window,
        output=Path(snakemake.output.bins),
        table=Path(snakemake.output.correlations),
    )
