"""Compare the statistics of a genome's windows with those of the simulations."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

from popdl.jobs import step
from popdl.realism import compare_windows

with step(snakemake.log[0]):
    compare_windows(
        Path(snakemake.input.model), windows=Path(snakemake.input.windows), output=Path(snakemake.output[0])
    )
