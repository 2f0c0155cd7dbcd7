"""Write the report of the study."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

from popdl.config.study import load_study
from popdl.jobs import step
from popdl.report import write_report

with step(snakemake.log[0]):
    write_report(
        results=Path(snakemake.input.metrics).parent,
        study=load_study(snakemake.input.config),
        output=Path(snakemake.output[0]),
    )
