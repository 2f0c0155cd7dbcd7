"""Look at all data of an import once."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

from popdl.config.study import import_section
from popdl.importing import write_survey
from popdl.jobs import step

with step(snakemake.log[0]):
    write_survey(import_section(snakemake.params.values), Path(snakemake.output[0]))
