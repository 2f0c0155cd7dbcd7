"""List the shards of a store in the store's own metadata."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

from popdl.jobs import step
from popdl.store_index import write_index

with step(snakemake.log[0]):
    output = Path(snakemake.output[0])
    write_index(output.parent, kind=snakemake.params.kind, shards=[Path(shard) for shard in snakemake.input])
