"""Draw every figure of the study, with the numbers behind it."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

from popdl.config.study import load_study
from popdl.jobs import step
from popdl.plots.figures import make_figures

with step(snakemake.log[0]):
    make_figures(
        results=Path(snakemake.input.metrics).parent,
        study=load_study(snakemake.input.config),
        output=Path(snakemake.output[0]),
    )
