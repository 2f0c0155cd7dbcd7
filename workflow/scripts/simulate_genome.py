"""Simulate a genome under known parameters and write it as a VCF."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

from popdl.config.application import SimulatedGenome
from popdl.config.base import validate
from popdl.config.study import simulation_section
from popdl.genome import simulate_genome
from popdl.jobs import step
from popdl.variants import chosen_sections

params = snakemake.params
with step(snakemake.log[0]):
    simulation = chosen_sections(snakemake.input.data).get("simulation", params.simulation)
    simulate_genome(
        simulation_section({**simulation, "num_scenarios": 1}),
        validate(SimulatedGenome, params.genome, where=f"applications.{snakemake.wildcards.application}.simulate"),
        seed=params.seed,
        name=snakemake.wildcards.application,
        output=Path(snakemake.output[0]),
    )
