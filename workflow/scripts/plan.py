"""Estimate what the study will cost."""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

from popdl.config.study import load_study
from popdl.files import write_text
from popdl.jobs import step
from popdl.plan import plan_study, plan_values
from popdl.plan_text import plan_text

with step(snakemake.log[0]):
    plan = plan_study(load_study(snakemake.input.config))
    text = plan_text(plan)
    write_text(Path(snakemake.output.text), text)
    write_text(Path(snakemake.output.values), json.dumps(plan_values(plan), indent=1) + "\n")
    print(text, end="")
