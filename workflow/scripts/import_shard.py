"""Import one shard of examples."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

from popdl.config.study import import_section
from popdl.importing import import_shard, read_survey
from popdl.jobs import step

params = snakemake.params
with step(snakemake.log[0]):
    import_shard(
        import_section(params.values),
        read_survey(Path(snakemake.input[0])),
        seed=params.seed,
        shard=int(snakemake.wildcards.shard),
        output=Path(snakemake.output[0]),
    )
