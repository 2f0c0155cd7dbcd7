"""Write the fully expanded config: running it repeats the study."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

from popdl.config.study import build_study, write_study
from popdl.jobs import step

with step(snakemake.log[0]):
    write_study(build_study(snakemake.params.config), Path(snakemake.output[0]))
