"""Train one replicate of a network."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

from popdl.config.base import validate
from popdl.config.training import Evaluation, Training
from popdl.config.transforms import Transforms
from popdl.jobs import step
from popdl.training import train

params = snakemake.params
with step(snakemake.log[0]):
    train(
        study=params.study,
        key=snakemake.wildcards.network,
        options=params.options,
        replicate=int(snakemake.wildcards.replicate),
        training=validate(Training, params.training, where="training"),
        evaluation=validate(Evaluation, params.evaluation, where="evaluation"),
        transforms=validate(Transforms, params.transforms, where="transforms"),
        seed=params.seed,
        shards=[Path(shard) for shard in snakemake.input.shards],
        splits=Path(snakemake.input.splits),
        targets=Path(snakemake.input.targets),
        output=Path(snakemake.output.model),
        history=Path(snakemake.output.history),
        checkpoint=Path(params.checkpoint),
        tensorboard=Path(params.tensorboard),
        priors=params.priors,
        about=params.about,
    )
