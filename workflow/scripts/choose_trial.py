"""Choose the trial of a network with the lowest validation loss."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

from popdl.jobs import step
from popdl.search import choose_trial

with step(snakemake.log[0]):
    data = [Path(path) for path in snakemake.input.data]
    choose_trial(
        [Path(trial) for trial in snakemake.input.trials],
        output=Path(snakemake.output[0]),
        data=data[0] if data else None,
    )
