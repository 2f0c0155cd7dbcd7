"""Make the splits of the data that a search has chosen the study's own."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

from popdl.jobs import step
from popdl.variants import adopt_files

with step(snakemake.log[0]):
    adopt_files(Path(snakemake.input[0]))
