"""Simulate one shard of examples."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

from popdl.config.study import simulation_section
from popdl.jobs import step
from popdl.simulation import simulate_shard

params = snakemake.params
with step(snakemake.log[0]):
    simulate_shard(
        simulation_section({**params.simulation, "num_scenarios": params.num_scenarios}),
        seed=params.seed,
        shard=int(snakemake.wildcards.shard),
        output=Path(snakemake.output[0]),
    )
