"""Choose the data of the best trial of any network."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

from popdl.jobs import step
from popdl.variants import choose_data

with step(snakemake.log[0]):
    choose_data(
        [Path(trial) for trial in snakemake.input],
        variants=snakemake.params.variants,
        sections=snakemake.params.sections,
        output=Path(snakemake.output[0]),
    )
