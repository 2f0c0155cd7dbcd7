"""Make a shard of the data that a search has chosen one of the study's own."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

from popdl.jobs import step
from popdl.variants import adopt_shard

with step(snakemake.log[0]):
    adopt_shard(Path(snakemake.input[0]), kind=snakemake.wildcards.kind, shard=int(snakemake.wildcards.shard))
