"""Encode one shard of simulations."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

from popdl.config.base import validate
from popdl.config.encoding import Encoding
from popdl.dataset import encode_shard
from popdl.jobs import step
from popdl.statistics._base import describe

with step(snakemake.log[0]):
    encode_shard(
        Path(snakemake.input.simulations),
        Path(snakemake.output[0]),
        encoding=validate(Encoding, snakemake.params.encoding, where="encoding"),
        seed=snakemake.params.seed,
        statistics=[describe(group) for group in snakemake.params.statistics],
    )
