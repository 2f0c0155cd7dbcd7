"""Draw every figure of the study, with the numbers behind it."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

from popdl.config.study import load_study
from popdl.jobs import step
from popdl.layout import Results
from popdl.plots.figures import make_figures
from popdl.variants import chosen_study

with step(snakemake.log[0]):
    results = Results(Path(snakemake.input.metrics).parent)
    make_figures(
        results=results.folder,
        study=chosen_study(load_study(snakemake.input.config), results),
        output=Path(snakemake.output[0]),
    )
