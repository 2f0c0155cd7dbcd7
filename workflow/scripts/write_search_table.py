"""Write every trial of every network into one table."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

from popdl.jobs import step
from popdl.search import write_search_table

with step(snakemake.log[0]):
    write_search_table([Path(choice) for choice in snakemake.input], Path(snakemake.output[0]))
