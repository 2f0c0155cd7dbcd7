"""Estimate what the study will cost."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

from popdl.config.study import load_study
from popdl.files import write_text
from popdl.jobs import step
from popdl.plan import plan_study, plan_text

with step(snakemake.log[0]):
    text = plan_text(plan_study(load_study(snakemake.input.config)))
    write_text(Path(snakemake.output[0]), text)
    print(text, end="")
